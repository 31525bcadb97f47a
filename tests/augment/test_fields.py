"""Boxes, keypoints and polygons under fields: as the pixels go."""

import numpy as np
import pytest
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.forms.apply import apply_to_batch
from tfpipe.augment.ops import field
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.table import OPS

HEIGHT, WIDTH = 40, 56
VALUES = {"perspective": (0.5, 0), "elastic": (12.0, 5.0), "grid_distortion": (0.4, 0)}


def shifting(values, seeds, height, width):
    """The field of a shift to the left by values[0] pixels."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    moved = tf.constant(x) + tf.cast(values[..., 0, None, None], tf.float64)
    still = tf.zeros_like(moved) + y
    return tuple(tf.cast(tf.round(part * 2.0**field.BITS), tf.int32) for part in (moved, still))


SHIFT = Op("shift", "field", shifting)


def choices_of(ops, values):
    """Choices of these ops for each image, in stages of their own."""
    size = len(values)
    table = np.zeros([size, len(ops), 4], np.float32)
    table[..., 0] = np.reshape(values, [size, 1])
    seeds = np.stack(np.meshgrid(np.arange(size), np.arange(len(ops)), indexing="ij"), -1).astype(np.int32)
    return Choices(tf.constant([ops] * size, tf.int32), tf.constant(table), tf.constant(seeds))


def regions():
    keypoints = [[[5.5, 20.5, 2], [54.0, 3.0, 2]], [[3.0, 7.0, 1], [30.0, 30.0, 2]]]
    return {
        "image": tf.zeros([2, HEIGHT, WIDTH, 3], tf.uint8),
        "boxes": tf.constant([[[4, 4, 20, 12], [40, 8, 54, 30]], [[0, 0, 6, 6], [30, 20, 56, 40]]], tf.float32),
        "box_visible": tf.ones([2, 2]),
        "keypoints": tf.constant(keypoints),
        "polygons": tf.ragged.constant([[[[2, 2], [9, 2], [9, 9.5]]], []], ragged_rank=2, inner_shape=(2,)),
        "mirrored": tf.constant([False, True]),
    }


def flat(values):
    return values.flat_values.numpy() if isinstance(values, tf.RaggedTensor) else values.numpy()


@pytest.mark.parametrize("stages", [[1], [1, 2]])
def test_a_field_moves_what_the_warp_moves_that_means_the_same(stages):
    choices = choices_of(stages, [8.0, -5.0])
    by_field = apply_to_batch(regions(), choices, (OPS["identity"], SHIFT, OPS["translate_y"]), form="dense")
    by_warp = apply_to_batch(
        regions(), choices, (OPS["identity"], OPS["translate_x"], OPS["translate_y"]), form="dense"
    )
    assert set(by_field) == set(by_warp)
    for name in by_warp:
        np.testing.assert_allclose(flat(by_field[name]), flat(by_warp[name]), atol=1e-3, err_msg=name)
    assert 0 in flat(by_field["keypoints"])[..., 2]


@pytest.mark.parametrize("name", VALUES)
def test_a_keypoint_is_where_the_pixel_that_comes_from_it_is(name):
    op, values, seeds = OPS[name], np.float32([*VALUES[name], 0, 0]), np.array([3, 5], np.int32)
    x, y = (np.asarray(part) / 2.0**field.BITS for part in op.build(values, seeds, HEIGHT, WIDTH))
    rows, columns = (places.ravel() for places in np.mgrid[2 : HEIGHT - 2 : 5, 2 : WIDTH - 2 : 5])
    keypoints = np.stack([x[rows, columns], y[rows, columns], np.full(len(rows), 2)], -1)
    batch = {"image": tf.zeros([1, HEIGHT, WIDTH, 1], tf.uint8), "keypoints": tf.constant(keypoints[None])}
    choices = Choices(tf.constant([[1]]), tf.constant(values[None, None]), tf.constant(seeds[None, None]))
    found = apply_to_batch(batch, choices, (OPS["identity"], op), form="dense")["keypoints"][0].numpy()
    np.testing.assert_allclose(found[:, :2], np.stack([columns, rows], -1) + 0.5, atol=0.01)
    inside = (keypoints[:, 0] >= 0) & (keypoints[:, 0] <= WIDTH) & (keypoints[:, 1] >= 0) & (keypoints[:, 1] <= HEIGHT)
    np.testing.assert_array_equal(found[:, 2], np.where(inside, 2, 0))


def test_ragged_boxes_and_keypoints_move_in_a_graph_as_dense_ones_do():
    batch = regions()
    ragged = {"image": batch["image"]} | {
        name: tf.RaggedTensor.from_tensor(batch[name], ragged_rank=1) for name in ("boxes", "keypoints", "box_visible")
    }
    transform = augment.op("perspective", 0.5, form="dense")
    dense = transform(batch, [1, 2])
    found = tf.function(lambda given: transform(given, tf.constant([1, 2])), autograph=False)(ragged)
    for name in ("boxes", "keypoints", "box_visible"):
        np.testing.assert_allclose(flat(found[name]), dense[name].numpy().reshape(flat(found[name]).shape), rtol=1e-5)
    assert np.abs(flat(found["boxes"]) - flat(ragged["boxes"])).max() > 1


def test_a_box_at_the_border_is_seen_in_part_after_a_field():
    batch = regions()
    found = apply_to_batch(batch, choices_of([1], [10.0, 0.0]), (OPS["identity"], SHIFT))
    np.testing.assert_allclose(found["box_visible"][0], [10 / 16, 1], atol=1e-3)
    np.testing.assert_allclose(found["box_visible"][1], [1, 1], atol=1e-3)
