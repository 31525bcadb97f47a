"""Mosaics: four images around a point, and their boxes, masks and points where their pixels are."""

import numpy as np
import pytest
import tensorflow as tf

from tfpipe import augment

COUNT, HEIGHT, WIDTH = 8, 40, 52
RNG = np.random.default_rng(2)


POINTS = np.zeros((COUNT, 1, 2, 3), np.float32)


def batch():
    """Image b is of level 10 + 10 b with one shape of level 200, its box and its mask b + 1."""
    corner = RNG.integers(4, (WIDTH - 24, HEIGHT - 24), (COUNT, 2))
    boxes = np.concatenate([corner, corner + RNG.integers(14, 20, (COUNT, 2))], axis=1)
    image = np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8) + np.arange(10, 90, 10, dtype=np.uint8)[:, None, None, None]
    mask = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for b, (x0, y0, x1, y1) in enumerate(boxes):
        image[b, y0:y1, x0:x1], mask[b, y0:y1, x0:x1] = 200, b + 1
    return {
        "image": image,
        "mask": mask,
        "boxes": boxes[:, None].astype(np.float32),
        "box_labels": np.arange(COUNT)[:, None],
    }


def test_each_image_is_four_and_every_box_is_around_its_own_pixels():
    given = batch()
    found = augment.mosaic(scale=(0.8, 1.0), fill=0)(given, (1, 2))
    image, mask, boxes, labels = (np.asarray(found[name]) for name in ("image", "mask", "boxes", "box_labels"))
    assert (image.shape, mask.shape, boxes.shape) == (given["image"].shape, given["mask"].shape, (COUNT, 4, 4))
    seen = 0
    for b in range(COUNT):
        for (x0, y0, x1, y1), label in zip(boxes[b], labels[b], strict=True):
            if label < 0:
                assert (x0, y0, x1, y1) == (0, 0, 0, 0)
                continue
            window = (slice(round(float(y0)), round(float(y1))), slice(round(float(x0)), round(float(x1))))
            shape, colour = mask[b][window], image[b][window][1:-1, 1:-1]
            if min(shape.shape) >= 8:  # of less, the border is most
                assert (shape == label + 1).mean() > 0.8
                assert (colour == 200).mean() > 0.8
            seen += 1
    assert seen > 12
    # Every pixel of a mask is in a box of its label: nothing was left behind.
    for b in range(COUNT):
        for label in set(mask[b].ravel()) - {0}:
            rows, columns = np.nonzero(mask[b] == label)
            own = boxes[b][labels[b] == label - 1]
            near = [
                (columns > x0 - 1.5) & (columns < x1 + 0.5) & (rows > y0 - 1.5) & (rows < y1 + 0.5)
                for x0, y0, x1, y1 in own
            ]
            assert np.any(near, axis=0).all()


def test_at_full_size_the_image_itself_is_cut_off_at_the_point():
    given = batch()
    image = augment.mosaic(scale=(1, 1), center=(0.5, 0.5))(given, (5, 6))["image"].numpy()
    np.testing.assert_array_equal(image[:, :20, :26], given["image"][:, 20:, 26:])
    levels = {int(level) for level in image[:, 21, 27, 0]}
    assert len(levels) > 2, "others of the batch come to the other places"


def test_ragged_boxes_are_the_same_boxes():
    given = batch()
    given["keypoints"] = np.insert(given["boxes"].reshape(COUNT, 1, 2, 2), 2, 2, axis=-1)
    ragged = given | {
        name: tf.RaggedTensor.from_tensor(given[name], ragged_rank=1) for name in ("boxes", "box_labels", "keypoints")
    }
    for transform in (augment.mosaic(), augment.mixup(8.0, mask_classes=9), augment.copy_paste()):
        dense, found = (transform(one, (3, 4)) for one in (given, ragged))
        kept = dense["box_labels"].numpy() >= 0
        assert 0 < kept.mean() < 1 or transform.factory == "mixup"
        for name in ("box_labels", "boxes", "keypoints"):
            np.testing.assert_array_equal(found[name].values, dense[name].numpy()[kept])


def test_a_mosaic_is_the_same_compiled_and_is_written_down():
    given = {name: tf.constant(value) for name, value in batch().items()}
    transform = augment.mosaic(center=(0.4, 0.6))
    assert augment.from_json(augment.to_json(transform)) == transform
    run = tf.function(lambda seed: transform(given, seed), jit_compile=True, autograph=False)
    for name, value in run(tf.constant([1, 2])).items():
        np.testing.assert_allclose(np.float32(value), np.float32(transform(given, (1, 2))[name]), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: augment.mosaic(scale=(0, 1)), r"scale is \(0, 1\); it takes 0 < low <= high <= 1"),
        (lambda: augment.mosaic(fill=300), "fill is 300 and min_area 1.0; they take 0 to 255"),
        (lambda: augment.mosaic()({**batch(), "keypoints": np.zeros((COUNT, 1, 2))}, (0, 0)), "an axis of objects"),
        (
            lambda: augment.keypoint_pairs([augment.mosaic()], [])({**batch(), "keypoints": POINTS}, (0, 0)),
            "not into it",
        ),
        (lambda: augment.mosaic()({"image": batch()["image"], "boxes": batch()["boxes"]}, (0, 0)), "with box_labels"),
    ],
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
