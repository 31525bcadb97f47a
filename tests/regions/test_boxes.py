"""Formats of boxes, overlaps of upright and oriented ones, and batches of one size."""

import math

import numpy as np
import pytest
import region_oracles
import tensorflow as tf

from tfpipe import regions

RNG = np.random.default_rng(7)
BOX = [10.0, 20.0, 40.0, 80.0]
SAME = {
    "xyxy": BOX,
    "xywh": [10, 20, 30, 60],
    "cxcywh": [25, 50, 30, 60],
    "relative_xyxy": [0.05, 0.2, 0.2, 0.8],
    "relative_xywh": [0.05, 0.2, 0.15, 0.6],
    "relative_cxcywh": [0.125, 0.5, 0.15, 0.6],
}


@pytest.mark.parametrize("source", SAME)
@pytest.mark.parametrize("target", SAME)
def test_each_format_becomes_each_other(source, target):
    found = regions.convert_boxes([SAME[source]], source=source, target=target, size=(100, 200))
    np.testing.assert_allclose(found, [SAME[target]], rtol=1e-6)


def test_relative_boxes_of_a_batch_take_the_size_of_their_own_image():
    boxes = [[SAME["relative_xyxy"]], [SAME["relative_xyxy"]]]
    found = regions.convert_boxes(boxes, source="relative_xyxy", target="xyxy", size=[[100, 200], [200, 400]])
    np.testing.assert_allclose(found, [[BOX], [np.multiply(BOX, 2)]], rtol=1e-6)


def test_what_formats_cannot_say_is_refused():
    with pytest.raises(ValueError, match="Unknown format of boxes 'yxyx'; allowed: \\['xyxy'"):
        regions.convert_boxes([BOX], source="yxyx", target="xyxy")
    with pytest.raises(ValueError, match="takes the size of the image"):
        regions.convert_boxes([BOX], source="xyxy", target="relative_xyxy")
    with pytest.raises(ValueError, match=r"boxes are \[..., 4\]; got the shape \(1, 3\)"):
        regions.convert_boxes([[1, 2, 3]], source="xyxy", target="xywh")


def kinds_of(first, second):
    """All four overlaps of a pair, in float64, as their papers define them."""
    first, second = np.float64(first), np.float64(second)
    overlap = region_oracles.iou(first, second)
    hull = np.maximum(first[2:], second[2:]) - np.minimum(first[:2], second[:2])
    areas = [np.prod(box[2:] - box[:2]) for box in (first, second)]
    union = sum(areas) / (1 + overlap)
    apart = (first[:2] + first[2:] - second[:2] - second[2:]) / 2
    distance = overlap - (apart @ apart) / (hull @ hull)
    aspects = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (first, second)]
    v = 4 / math.pi**2 * (aspects[0] - aspects[1]) ** 2
    complete = distance - v**2 / (1 - overlap + v + 1e-12)
    return {
        "iou": overlap,
        "giou": overlap - (np.prod(hull) - union) / np.prod(hull),
        "diou": distance,
        "ciou": complete,
    }


def test_overlaps_are_those_of_their_papers():
    first, second = (region_oracles.random_boxes(RNG, 12) for _ in range(2))
    for kind in ("iou", "giou", "diou", "ciou"):
        wanted = [[kinds_of(a, b)[kind] for b in second] for a in first]
        np.testing.assert_allclose(regions.box_iou(first, second, kind=kind), wanted, atol=2e-5)


@pytest.mark.parametrize("kind", ["iou", "ciou"])
def test_overlaps_are_the_same_in_a_graph_and_compiled(kind):
    first, second = (np.stack([region_oracles.random_boxes(RNG, 6) for _ in range(2)]) for _ in range(2))

    def overlap(boxes, others):
        return regions.box_iou(boxes, others, kind=kind)

    eager = overlap(first, second)
    for options in ({}, {"jit_compile": True}):
        found = tf.function(overlap, **options)(tf.constant(first), tf.constant(second))
        np.testing.assert_allclose(found, eager, atol=1e-6)
    for image in range(2):
        np.testing.assert_allclose(overlap(first[image], second[image]), eager[image], atol=1e-6)


def test_a_batch_of_boxes_overlaps_image_by_image_and_empty_boxes_by_nothing():
    first, second = (np.stack([region_oracles.random_boxes(RNG, 5) for _ in range(2)]) for _ in range(2))
    both = regions.box_iou(first, second)
    np.testing.assert_array_equal(both, [regions.box_iou(a, b) for a, b in zip(first, second, strict=True)])
    empty = [[5.0, 5, 5, 5]]
    assert [float(regions.box_iou(empty, empty, kind=kind)[0, 0]) for kind in ("iou", "giou")] == [0, 0]


def oriented_boxes(count):
    sizes = RNG.uniform(2, 30, (count, 2))
    return np.c_[RNG.uniform(0, 60, (count, 2)), sizes, RNG.uniform(-200, 200, count)].astype(np.float32)


def test_oriented_overlaps_are_those_of_their_polygons():
    first, second = oriented_boxes(15), oriented_boxes(15)
    first[0, 4], second[0] = 45, [*first[0, :4], -45]
    wanted = [[region_oracles.oriented_iou(a, b) for b in second] for a in first]
    assert np.count_nonzero(wanted) > 40
    np.testing.assert_allclose(regions.box_iou(first, second), wanted, atol=1e-5)


def test_an_oriented_box_is_itself_after_a_half_turn_and_an_upright_one_at_no_turn():
    boxes = oriented_boxes(15)
    turned = boxes + np.float32([0, 0, 0, 0, 180])
    np.testing.assert_allclose(np.diag(regions.box_iou(boxes, turned)), 1, atol=1e-4)
    boxes[:, 4] = 0
    corners = regions.convert_boxes(boxes[:, :4], source="cxcywh", target="xyxy")
    np.testing.assert_allclose(regions.box_iou(boxes, boxes), regions.box_iou(corners, corners), atol=1e-5)


def test_unknown_overlaps_are_refused():
    with pytest.raises(ValueError, match="Unknown kind 'l1'; allowed: \\['iou'"):
        regions.box_iou([BOX], [BOX], kind="l1")
    with pytest.raises(ValueError, match="have no 'giou'"):
        regions.box_iou(oriented_boxes(1), oriented_boxes(1), kind="giou")


def test_ragged_boxes_become_a_batch_of_one_size_and_lost_ones_are_counted():
    boxes = tf.ragged.constant([[[1.0, 2, 3, 4]], [], [[i, i, i + 1.0, i + 1] for i in range(4)]], inner_shape=(4,))
    labels = tf.ragged.constant([[5], [], [0, 1, 2, 3]])
    dense, classes, counts, lost = regions.pad_boxes(boxes, labels, max_boxes=3)
    assert (dense.dtype, classes.dtype, counts.dtype) == (tf.float32, tf.int32, tf.int32)
    assert dense.shape == (3, 3, 4)
    assert classes.numpy().tolist() == [[5, -1, -1], [-1, -1, -1], [0, 1, 2]]
    assert (counts.numpy().tolist(), lost.numpy().tolist()) == ([1, 0, 3], [0, 0, 1])
    assert dense.numpy()[0].tolist() == [[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_what_goes_with_boxes_is_padded_as_they_are():
    weights = tf.ragged.constant([[0.5], [], [0.1, 0.2, 0.3]])
    boxes = tf.ragged.constant([[[1.0, 2, 3, 4]], [], [[0.0] * 4] * 3], inner_shape=(4,))
    labels = tf.ragged.constant([[5], [], [0, -1, 2]])
    *_, found = regions.pad_boxes(boxes, labels, max_boxes=2, also=[weights])
    np.testing.assert_allclose(found, [[0.5, 0], [0, 0], [0.1, 0.3]])


def test_gaps_in_dense_boxes_close_and_padding_is_blank():
    boxes = np.arange(24, dtype=np.float32).reshape(1, 6, 4)
    dense, classes, counts, lost = regions.pad_boxes(boxes, [[-2, 7, -1, 8, -1, 9]], max_boxes=4)
    assert classes.numpy().tolist() == [[7, 8, 9, -1]]
    assert dense.numpy()[0, :, 0].tolist() == [4, 12, 20, 0]
    assert (counts.numpy().tolist(), lost.numpy().tolist()) == ([3], [0])
    with pytest.raises(ValueError, match="max_boxes is 0; it takes at least 1"):
        regions.pad_boxes(boxes, [[0] * 6], max_boxes=0)
