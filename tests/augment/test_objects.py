"""Objects of two and four images in one: mosaics, copy-paste and mixup, and their marks where their pixels are."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe import augment

COUNT, HEIGHT, WIDTH = 8, 40, 56
HALF = WIDTH // 2


def drawn(seed):
    """Two shapes in each image, one in each half: object i of image b is i + 2 b + 1 in mask, label and first channel.

    Each has a corner cut off, so that its mask is less than its box.
    """
    rng = np.random.default_rng(seed)
    sides = rng.integers(8, (HALF - 2, HEIGHT - 2), (COUNT, 2, 2))
    corner = rng.integers(0, np.array([HALF, HEIGHT]) - sides)
    corner[:, 1, 0] += HALF
    boxes = np.concatenate([corner, corner + sides], axis=-1)
    mask = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes.reshape(-1, 4)):
        mask[number // 2, y0:y1, x0:x1] = number + 1
        mask[number // 2, y0 : y0 + 4, x0 : x0 + 4] = 0
    image = np.stack([mask, np.full_like(mask, 7), mask + np.arange(COUNT, dtype=np.uint8)[:, None, None]], -1)
    middle = np.concatenate([boxes[..., :2] + sides / 2, np.full((COUNT, 2, 1), 2)], -1)
    return {
        "image": image,
        "mask": mask,
        "boxes": boxes.astype(np.float32),
        "box_labels": np.arange(1, 2 * COUNT + 1, dtype=np.int32).reshape(COUNT, 2),
        "keypoints": middle[:, :, None].astype(np.float32),
        "polygons": boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]].astype(np.float32),
    }


def objects(found, image):
    """(label, box, keypoint, polygon) of the objects of an image."""
    parts = [np.asarray(found[name])[image] for name in ("box_labels", "boxes", "keypoints", "polygons")]
    for label, box, keypoints, polygon in zip(*parts, strict=True):
        if label > 0:
            yield int(label), box, keypoints[0], polygon
        else:
            assert not any(part.any() for part in (box, keypoints, polygon))


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=4)
def test_every_object_of_a_mosaic_is_where_its_marks_say(seed):
    found = augment.mosaic(scale=(0.7, 1.0))(drawn(seed), (seed, 1))
    mask, seen = found["mask"].numpy(), 0
    for b in range(COUNT):
        known = list(objects(found, b))
        for label, (x0, y0, x1, y1), (x, y, visibility), polygon in known:
            window = (slice(round(float(y0)), round(float(y1))), slice(round(float(x0)), round(float(x1))))
            inside = mask[b][window] == label
            if min(inside.shape) > 8:
                assert inside.any(axis=1).sum() >= inside.shape[0] - 2
                assert inside.any(axis=0).sum() >= inside.shape[1] - 2
                seen += 1
            # The whole object, of which the box is what is left.
            assert (polygon.min(axis=0) <= [x0 + 1e-3, y0 + 1e-3]).all()
            assert (polygon.max(axis=0) >= [x1 - 1e-3, y1 - 1e-3]).all()
            if visibility:
                assert x0 - 1 <= x <= x1 + 1
                assert y0 - 1 <= y <= y1 + 1
                if 1 < x - x0 < x1 - x0 - 1 and 1 < y - y0 < y1 - y0 - 1:
                    assert mask[b, int(y), int(x)] == label
        for label in set(mask[b].ravel()) - {0}:
            rows, columns = np.nonzero(mask[b] == label)
            near = [
                (columns > x0 - 1.5) & (columns < x1 + 0.5) & (rows > y0 - 1.5) & (rows < y1 + 0.5)
                for name, (x0, y0, x1, y1), *_ in known
                if name == label
            ]
            assert np.any(near, axis=0).mean() > 0.95  # of an object of less than a pixel nothing is left but pixels
    assert seen > 8


def test_drop_boxes_knows_how_much_a_mosaic_cut_off():
    given_ = drawn(5)
    loose = augment.mosaic(scale=(1.0, 1.0))(given_, (3, 1))
    strict = augment.drop_boxes([augment.mosaic(scale=(1.0, 1.0))], min_visible=0.6)(given_, (3, 1))
    assert sorted(strict) == sorted(given_)
    whole = {label: np.prod(box[2:] - box[:2]) for b in range(COUNT) for label, box, *_ in objects(given_, b)}
    for b in range(COUNT):
        wanted = [
            (label, box.tolist())
            for label, box, *_ in objects(loose, b)
            if np.prod(box[2:] - box[:2]) >= 0.6 * whole[label] - 1e-3
        ]
        # The seeds of parts are others than those of the whole: what is left is told by areas alone.
        assert all(np.prod(box[2:] - box[:2]) >= 0.6 * whole[label] - 1e-3 for label, box, *_ in objects(strict, b))
        assert len(wanted) < 8


@given(seed=st.integers(0, 2**31 - 1), min_visible=st.sampled_from([0.0, 0.1, 0.6]))
@settings(max_examples=5)
def test_pasted_objects_come_with_their_marks_and_covered_ones_go(seed, min_visible):
    given_ = drawn(seed)
    found = augment.copy_paste(min_visible=min_visible)(given_, (seed, 1))
    image, mask = found["image"].numpy(), found["mask"].numpy()
    np.testing.assert_array_equal(image[..., 0], mask)
    before = np.bincount(given_["mask"].ravel(), minlength=2 * COUNT + 1)
    came = 0
    for b in range(COUNT):
        own, known = {2 * b + 1, 2 * b + 2}, {label: rest for label, *rest in objects(found, b)}
        pixels = np.bincount(mask[b].ravel(), minlength=2 * COUNT + 1)
        assert len({(label - 1) // 2 for label in known} - {b}) <= 1, "objects come from one image"
        for label in own:
            share = pixels[label] / before[label]
            assert (label in known) == (share >= min_visible), (label, share)
        for label, (box, keypoint, polygon) in known.items():
            source, index = divmod(label - 1, 2)
            for name, value in (("boxes", box), ("keypoints", keypoint[None]), ("polygons", polygon)):
                np.testing.assert_array_equal(value, given_[name][source, index])
            if label not in own:
                came += 1
                assert pixels[label] == before[label]
                assert (image[b, ..., 2][mask[b] == label] == label + source).all()
        assert set(np.flatnonzero(pixels)) - {0} <= own | set(known)
    assert came > 2


def test_of_a_mask_without_boxes_all_that_is_no_background_is_pasted():
    given_ = {name: drawn(2)[name] for name in ("image", "mask")}
    given_["mask"] = given_["mask"][..., None]
    found = augment.copy_paste(p=1.0, background=(0, 3))(given_, (1, 1))
    mask = found["mask"].numpy()
    assert mask.shape == given_["mask"].shape
    foreign = mask != given_["mask"]
    assert foreign.any(axis=(1, 2, 3)).all()
    assert 3 not in mask[foreign]
    np.testing.assert_array_equal(found["image"][..., 0], mask[..., 0])


def test_without_masks_the_whole_box_is_pasted_and_nothing_at_no_probability():
    given_ = {name: value for name, value in drawn(3).items() if name != "mask"}
    same = augment.copy_paste(p=0)(given_, (1, 1))
    np.testing.assert_array_equal(same["image"], given_["image"])
    np.testing.assert_array_equal(same["box_labels"][:, :2], given_["box_labels"])
    assert (same["box_labels"].numpy()[:, 2:] == -1).all()
    found = augment.copy_paste(p=1)(given_, (1, 1))
    for b in range(COUNT):
        pasted = [(label, box) for label, box, *_ in objects(found, b) if (label - 1) // 2 != b]
        assert len(pasted) == 2
        for label, box in pasted:
            x0, y0, x1, y1 = box.astype(int)
            source = given_["image"][(label - 1) // 2]
            np.testing.assert_array_equal(found["image"][b, y0:y1, x0:x1], source[y0:y1, x0:x1])


def test_each_object_is_drawn_at_its_rate():
    given_ = drawn(4)
    shares = [
        (augment.copy_paste(p=0.3, min_visible=0)(given_, (step, 9))["box_labels"].numpy()[:, 2:] > 0).mean()
        for step in range(30)
    ]
    assert abs(np.mean(shares) - 0.3) < 0.07


def test_mixed_boxes_have_the_weights_of_their_images():
    levels = np.linspace(40, 200, COUNT).astype(np.uint8)
    given_ = drawn(1) | {"image": np.zeros((COUNT, HEIGHT, WIDTH, 1), np.uint8) + levels[:, None, None, None]}
    found = augment.mixup(8.0, mask_classes=2 * COUNT + 1)(given_, (4, 4))
    labels, weights, mask = (found[name].numpy() for name in ("box_labels", "box_weights", "mask"))
    assert mask.shape == (COUNT, HEIGHT, WIDTH, 2 * COUNT + 1)
    np.testing.assert_allclose(mask.sum(axis=-1), 1, atol=1e-6)
    for b in range(COUNT):
        assert labels[b, :2].tolist() == [2 * b + 1, 2 * b + 2]
        partner = (labels[b, 2] - 1) // 2
        assert partner != b
        own, other = weights[b, 0], weights[b, 2]
        assert own + other == pytest.approx(1, abs=1e-6)
        level = found["image"].numpy()[b, 0, 0, 0]
        assert abs(level - (own * float(levels[b]) + other * float(levels[partner]))) < 0.6
        for index, (label, box, *_) in enumerate(objects(found, b)):
            x, y = (box[2] - 2).astype(int), (box[3] - 2).astype(int)
            assert mask[b, y, x, label] == pytest.approx(weights[b, index], abs=1e-6)
    again = augment.mixup(8.0)(dict(found), (5, 5))
    assert again["box_weights"].shape == (COUNT, 8)
    np.testing.assert_allclose(again["box_weights"].numpy().sum(axis=1), 2, atol=0.02)


def test_an_image_that_is_not_seen_leaves_no_boxes():
    found = augment.mixup(fraction=0.5)({name: v for name, v in drawn(1).items() if name != "mask"}, (1, 1))
    assert ((found["box_labels"].numpy() >= 0).sum(axis=1) == [4] * (COUNT // 2) + [2] * (COUNT // 2)).all()


JOINING = [augment.copy_paste(background=0), augment.mixup(2.0, mask_classes=17), augment.mosaic()]


@pytest.mark.parametrize("transform", JOINING, ids=lambda one: one.factory)
def test_objects_are_the_same_in_a_graph_and_compiled(transform):
    given_ = {name: tf.constant(value) for name, value in drawn(6).items()}
    eager = transform(given_, (1, 2))
    for options in ({}, {"jit_compile": True}):
        run = tf.function(lambda seed: transform(given_, seed), autograph=False, **options)
        for name, value in run(tf.constant([1, 2])).items():
            np.testing.assert_allclose(value, eager[name], atol=1e-4, err_msg=name)
    assert augment.from_json(augment.to_json(transform)) == transform


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask": np.zeros((COUNT, HEIGHT, WIDTH), np.float32)}, "masks of integers"),
        ({"boxes": None, "box_labels": None}, "chooses .* by their boxes"),
        ({"box_labels": None}, "boxes together with box_labels"),
        ({"mirrored": np.zeros(COUNT, bool)}, "not into it"),
        ({name: None for name in drawn(0) if name != "image"}, "takes boxes with box_labels, masks, or both"),
    ],
)
def test_copy_paste_refuses_what_it_cannot_paste(change, sentence):
    batch = {name: value for name, value in (drawn(0) | change).items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        augment.copy_paste()(batch, (0, 0))


@pytest.mark.parametrize("wrong", [{"p": 2}, {"min_visible": -1}, {"background": ()}, {"background": 0.5}])
def test_copy_paste_refuses_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} of copy_paste is"):
        augment.copy_paste(**wrong)
