"""Drawn shapes are found again where their boxes, keypoints and polygons say, after every geometric transform."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe import augment

HEIGHT, WIDTH, COUNT = 40, 52, 12
GEOMETRY = {
    "flips": augment.compose([augment.flip_left_right(), augment.flip_up_down()]),
    "a turn": augment.op("rotate", (-50, 50), fill=0),
    "shifts and a shear": augment.compose(
        [augment.op(name, (-9, 9), fill=0) for name in ("translate_x", "translate_y")]
        + [augment.op("shear_x", (-0.2, 0.2), fill=0)]
    ),
    "zoom": augment.zoom((0.7, 1.6), fill=0),
    "pad_and_crop": augment.pad_and_crop(6, fill=0),
    "random_crop": augment.random_crop((30, 37), padding=5),
    "random_resized_crop to its own size": augment.random_resized_crop(scale=(0.3, 1), interpolation="nearest"),
    "center_crop": augment.center_crop((31, 44)),
    "crop": augment.op("crop", (-4, 4), (-4, 4), fill=0),
    "shear_y": augment.op("shear_y", (-0.2, 0.2), fill=0),
    "quarter turns": augment.op("rotate90", (0, 3.99), fill=0),
    "transpose": augment.op("transpose", fill=0),
    "perspective": augment.op("perspective", 0.4, fill=0),
    "elastic": augment.op("elastic", 20, 6, fill=0),
    "grid_distortion": augment.op("grid_distortion", 0.3, fill=0),
    "random_resized_crop to another": augment.random_resized_crop((66, 30), scale=(0.3, 1), interpolation="nearest"),
}
FIELDS = ("perspective", "elastic", "grid_distortion")
SLANTED = {"a turn": 1, "shifts and a shear": 2, "shear_y": 1}


def drawn(rng):
    """A batch with a bright shape on each image: its mask, box, middle and outline."""
    corner = rng.integers(0, (WIDTH - 16, HEIGHT - 16), (COUNT, 2))
    boxes = np.concatenate([corner, corner + rng.integers(6, 16, (COUNT, 2))], axis=1)
    mask = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        mask[i, y0:y1, x0:x1] = 1
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    outline = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return {
        "image": mask[..., None].repeat(3, -1) * np.uint8(200),
        "mask": mask,
        "boxes": boxes[:, None].astype(np.float32),
        "keypoints": np.concatenate([middle, np.full((COUNT, 1), 2)], 1)[:, None].astype(np.float32),
        "polygons": outline[:, None].astype(np.float32),
    }


@pytest.mark.parametrize("name", GEOMETRY)
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=8)
def test_a_shape_is_where_its_marks_say(name, seed):
    found = GEOMETRY[name](drawn(np.random.default_rng(seed)), [seed, 1])
    found = {key: np.asarray(value) for key, value in found.items()}
    np.testing.assert_array_equal(found["image"][..., 0] == 200, found["mask"] == 1)
    height, width = found["mask"].shape[1:]
    for i in range(COUNT):
        x0, y0, x1, y1 = found["boxes"][i, 0]
        rows, columns = (np.flatnonzero(found["mask"][i].any(axis)) for axis in (1, 0))
        if len(rows) == 0:
            assert min(x1 - x0, y1 - y0) <= 2, "a box is left, but nothing of its shape"
            continue
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        if name in FIELDS:
            # The box is that of the pixels which come from inside of it; its corners may lie elsewhere.
            np.testing.assert_allclose([x0, y0, x1, y1], seen, atol=1)
            continue
        whole = found["polygons"][i, 0].min() >= 0 and (found["polygons"][i, 0] <= [width, height]).all()
        if whole or name not in SLANTED:
            # Each pass takes the nearest pixel, half a pixel off at most: the first two of these three as well.
            np.testing.assert_allclose([x0, y0, x1, y1], seen, atol=SLANTED.get(name, 1))
        else:
            # The box of the whole shape is cut off, and of a slanted one cut off at the border less may be seen.
            assert (np.array([x0, y0]) <= np.add(seen[:2], 1)).all()
            assert (np.array([x1, y1]) >= np.subtract(seen[2:], 1)).all()
        outline = np.clip(found["polygons"][i, 0], 0, [width, height])
        np.testing.assert_allclose([*outline.min(0), *outline.max(0)], [x0, y0, x1, y1], atol=1e-3)
        x, y, visibility = found["keypoints"][i, 0]
        inside = 0 <= x <= width and 0 <= y <= height
        assert visibility == (2 if inside else 0)
        if 1 < x < width - 1 and 1 < y < height - 1:
            assert found["mask"][i, int(y), int(x)] == 1


def shifted(batch, **limits):
    """The batch moved by 12 pixels to the left, and boxes dropped."""
    return augment.drop_boxes([augment.op("translate_x", 12)], **limits)(batch, (0, 0))


BOXES = np.float32([[[0, 0, 10, 10], [8, 0, 18, 10], [14, 0, 24, 10], [30, 0, 31, 1]]])
LABELS = np.array([[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("limits", "kept"),
    [({}, [2, 3, 4]), ({"min_visible": 0.7}, [3, 4]), ({"min_area": 50}, [2, 3]), ({"min_area": 0}, [2, 3, 4])],
)
def test_boxes_that_are_cut_off_too_far_or_too_small_are_dropped_with_their_labels(limits, kept):
    batch = {"image": np.zeros((1, 20, 40, 3), np.uint8), "boxes": BOXES, "box_labels": LABELS}
    dense = shifted(batch, **limits)
    assert sorted(dense) == ["box_labels", "boxes", "image"]
    labels = dense["box_labels"].numpy()[0]
    assert labels[labels >= 0].tolist() == kept
    assert not dense["boxes"].numpy()[0][labels < 0].any()
    ragged = {**batch, **{name: tf.RaggedTensor.from_tensor(batch[name]) for name in ("boxes", "box_labels")}}
    ragged["boxes"] = tf.RaggedTensor.from_tensor(BOXES, ragged_rank=1)
    found = shifted(ragged, **limits)
    assert found["box_labels"].to_list() == [kept]
    np.testing.assert_allclose(found["boxes"].to_tensor()[0], dense["boxes"].numpy()[0][labels >= 0])


def test_what_two_crops_cut_off_adds_up():
    batch = {"image": np.zeros((1, 20, 40, 3), np.uint8), "boxes": np.float32([[[0, 0, 20, 10]]]), "box_labels": [[5]]}
    cuts = [augment.center_crop((20, 28)), augment.center_crop((20, 16))]  # 6 pixels go, and 6 more, of 20
    for share, kept in ((0.39, [5]), (0.41, [-1])):
        found = augment.drop_boxes(cuts, min_visible=share)(batch, (0, 0))
        assert found["box_labels"].numpy()[0].tolist() == kept


def test_left_and_right_are_exchanged_just_where_an_image_was_mirrored():
    keypoints = np.float32([[[4, 5, 2], [10, 5, 2], [7, 9, 2]]] * 16)
    batch = {"image": np.zeros((16, 20, 40, 3), np.uint8), "keypoints": keypoints}
    parts = [augment.flip_left_right(), augment.flip_up_down(), augment.op("rotate", (-20, 20))]
    plain = augment.compose(parts)(batch, (3, 4))["keypoints"].numpy()
    found = augment.keypoint_pairs(parts, [(0, 1)])(batch, (3, 4))
    assert sorted(found) == ["image", "keypoints"]
    # From the first to the second and on to the third is a turn to one side; mirrored, to the other.
    ab, ac = plain[:, 1, :2] - plain[:, 0, :2], plain[:, 2, :2] - plain[:, 0, :2]
    mirrored = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0] < 0
    assert 2 < mirrored.sum() < 14
    wanted = np.where(mirrored[:, None, None], plain[:, [1, 0, 2]], plain)
    np.testing.assert_allclose(found["keypoints"], wanted, atol=1e-4)


def test_they_compile_and_are_written_down():
    batch = {
        "image": np.zeros((2, 20, 40, 3), np.uint8),
        "boxes": BOXES.repeat(2, 0),
        "box_labels": LABELS.repeat(2, 0),
    }
    transform = augment.drop_boxes([augment.random_crop((16, 16)), augment.flip_left_right()], min_visible=0.2)
    again = augment.from_json(augment.to_json(transform))
    assert again == transform
    for options in ({}, {"jit_compile": True}):
        run = tf.function(lambda seed: again(batch, seed), autograph=False, **options)
        for name, value in run(tf.constant([1, 2])).items():
            np.testing.assert_allclose(value, transform(batch, (1, 2))[name], atol=1e-4)


PLAIN = {"image": np.zeros((1, 4, 4, 1), np.uint8)}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: augment.drop_boxes(["rotate"], min_visible=2), "min_visible is 2 and min_area 1.0; they take 0 to 1"),
        (
            lambda: augment.drop_boxes(["rotate"])(PLAIN, (0, 0)),
            "lacks \\['boxes'",
        ),
        (lambda: augment.keypoint_pairs(["rotate"], [(1, 1)]), "pairs of indices of at least 0, each index once"),
        (
            lambda: augment.keypoint_pairs(["rotate"], [(0, 1)])(PLAIN, (0, 0)),
            "but the batch has 0 of them",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
