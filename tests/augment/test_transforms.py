"""The single transforms, the crops that change the size, normalisation, and transforms as JSON."""

import json

import numpy as np
import pytest
import tensorflow as tf
from makers import ARGUMENTS
from scipy import stats

from tfpipe import augment
from tfpipe.augment.saving import FACTORIES

NEVER = 1e-4


def images(count=16, height=9, width=12, channels=3):
    return np.random.default_rng(8).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def values(transform, size=20_000, side=40):
    choices = transform.draw((2, -3), size, side, side)
    return choices.ops.numpy()[:, 0], choices.values.numpy()[:, 0]


# ---- made of ops


@pytest.mark.parametrize("make", [augment.flip_left_right, augment.flip_up_down, augment.grayscale])
def test_a_plain_op_happens_as_often_as_asked(make):
    for p in (0.0, 0.3, 1.0):
        ops, _ = values(make(p))
        assert stats.binomtest(int(ops.sum()), len(ops), p).pvalue > NEVER


def test_values_are_uniform_over_the_range():
    ops, drawn = values(augment.op("rotate", (-30, 45), p=0.5))
    assert stats.binomtest(int(ops.sum()), len(ops), 0.5).pvalue > NEVER
    assert stats.kstest(drawn[ops == 1, 0], stats.uniform(-30, 75).cdf).pvalue > NEVER
    assert not drawn[ops == 0].any()


def test_several_values_are_drawn_independently():
    _, drawn = values(augment.op("emboss", (0, 1), (0, 20)))
    assert stats.kstest(drawn[:, 1], stats.uniform(0, 20).cdf).pvalue > NEVER
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 4 / np.sqrt(20_000)


def test_an_ops_own_range_goes_from_weakest_to_strongest_with_both_signs():
    _, shift = values(augment.op("translate_x"))
    assert stats.kstest(shift[:, 0], stats.uniform(-18, 36).cdf).pvalue > NEVER  # 0.45 of 40 px.
    _, factor = values(augment.op("brightness"))
    assert stats.kstest(factor[:, 0], stats.uniform(0.1, 1.8).cdf).pvalue > NEVER


def test_pad_and_crop_takes_all_offsets_equally_often():
    _, drawn = values(augment.pad_and_crop(2))
    counts = np.unique(drawn[:, :2] @ [5, 1], return_counts=True)[1]
    assert len(counts) == 25
    assert stats.chisquare(counts).pvalue > NEVER


def test_pad_and_crop_shifts_and_fills():
    given = np.full((64, 5, 5, 1), 200, np.uint8)
    found = augment.pad_and_crop(1, fill=7)({"image": given}, (1, 1))["image"].numpy()
    assert {int((image == 7).sum()) for image in found} == {0, 5, 9}


def test_cutout_covers_a_square_in_pixels_or_fractions():
    given = np.zeros((200, 20, 20, 1), np.uint8)
    for side in (6, 0.3):
        found = augment.cutout(side, fill=255)({"image": given}, (4, 4))["image"].numpy() == 255
        areas = found.sum(axis=(1, 2, 3))
        assert areas.max() == 36
        assert areas.min() < 36  # Cut off at the border.
        for cut in found[..., 0]:
            assert cut.sum() == cut.any(0).sum() * cut.any(1).sum()


def test_color_jitter_draws_its_order_per_image():
    transform = augment.color_jitter(brightness=0.5, contrast=0.2, hue=0.25)
    choices = transform.draw((1, 1), 12_000, 8, 8)
    names = np.array([op.name for op in transform.ops])[choices.ops.numpy()]
    counts = np.unique(["-".join(row) for row in names], return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > NEVER
    first = choices.values.numpy()[..., 0]
    for name, low, span in (("brightness", 0.5, 1.0), ("contrast", 0.8, 0.4), ("hue", -90, 180)):
        assert stats.kstest(first[names == name], stats.uniform(low, span).cdf).pvalue > NEVER


def test_per_channel_dropout_happens_as_often_as_asked():
    _, drawn = values(augment.coarse_dropout(per_channel=0.2))
    assert stats.binomtest(int((drawn[:, 2] >= 0.5).sum()), 20_000, 0.2).pvalue > NEVER


# ---- crops


def test_random_crop_takes_every_window_equally_often():
    given = np.arange(9 * 12, dtype=np.uint8).reshape(1, 9, 12, 1).repeat(6000, 0)
    found = augment.random_crop((6, 9))({"image": given}, (2, 2))["image"].numpy()
    corners, counts = np.unique(found[:, 0, 0, 0], return_counts=True)
    assert len(corners) == 16
    assert stats.chisquare(counts).pvalue > NEVER
    top, left = divmod(int(found[0, 0, 0, 0]), 12)
    np.testing.assert_array_equal(found[0], given[0, top : top + 6, left : left + 9])


def test_random_crop_pads_with_fill():
    found = augment.random_crop((9, 12), padding=3, fill=9)({"image": np.zeros((50, 9, 12, 1), np.uint8)}, (1, 2))[
        "image"
    ]
    assert (found.numpy() == 9).any()
    floats = augment.random_crop((15, 18), padding=3, fill=51)({"image": np.zeros((1, 9, 12, 1), np.float32)}, (1, 2))
    assert floats["image"].numpy()[0, 0, 0, 0] == pytest.approx(0.2)


def test_center_crop_takes_the_middle():
    given = images()
    found = augment.center_crop((4, 5))({"image": given}, (1, 2))["image"]
    np.testing.assert_array_equal(found, given[:, 2:6, 3:8])


def oracle(image, size):
    """Bilinear resizing of a whole image in float64, half-pixel centres, edges repeated."""
    grids = []
    for axis in range(2):
        place = (np.arange(size[axis]) + 0.5) * image.shape[axis] / size[axis] - 0.5
        before = np.floor(place).astype(int)
        last = image.shape[axis] - 1
        grids.append((np.clip(before, 0, last), np.clip(before + 1, 0, last), place - before))
    (y0, y1, v), (x0, x1, u) = grids
    v, u, pixels = v[:, None, None], u[None, :, None], image.astype(np.float64)
    rows = [(1 - u) * pixels[y][:, x0] + u * pixels[y][:, x1] for y in (y0, y1)]
    return (1 - v) * rows[0] + v * rows[1]


@pytest.mark.parametrize("size", [(9, 12), (5, 7), (23, 17), (1, 1)])
def test_resizing_the_whole_image_is_bilinear(size):
    given = images(4)
    whole = augment.random_resized_crop(size, scale=(1.0, 1.0), ratio=(12 / 9, 12 / 9))
    found = whole({"image": given}, (1, 2))["image"].numpy()
    for ours, image in zip(found, given, strict=True):
        # Weights are rounded to 2048ths, levels to whole ones.
        np.testing.assert_allclose(ours, oracle(image, size), atol=0.5 + 2 * 255 / 4096)


def test_windows_have_the_areas_and_aspects_asked_for():
    transform = augment.random_resized_crop(scale=(0.2, 0.4), ratio=(0.5, 2.0))
    drawn = transform.draw((3, 4), 20_000, 400, 400).values.numpy()[:, 0] * 400
    top, _, height, width = drawn.T
    assert stats.kstest(height * width / 400**2, stats.uniform(0.2, 0.2).cdf).statistic < 0.01
    assert stats.kstest(np.log(width / height), stats.uniform(np.log(0.5), np.log(4)).cdf).statistic < 0.01
    assert (top >= -1e-3).all()
    assert (top + height <= 400 + 1e-3).all()
    assert stats.kstest(top / (400 - height), "uniform").statistic < 0.02


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_crops_are_the_same_in_every_form(interpolation):
    given = {"image": images(), "mask": images()[..., 0], "boxes": np.tile([[1.0, 2, 8, 7]], (16, 1, 1))}
    for transform in (
        augment.random_resized_crop((7, 5), interpolation=interpolation),
        augment.random_crop((7, 5), padding=1),
    ):
        eager = transform(given, (1, -2))
        for compiled in (False, True):
            run = tf.function(lambda s, t=transform: t(given, s), jit_compile=compiled, autograph=False)
            for name, value in run(tf.constant([1, -2])).items():
                np.testing.assert_array_equal(value, eager[name])


def test_boxes_and_masks_move_with_a_crop():
    mask = np.zeros((1, 9, 12), np.uint8)
    mask[0, 3:6, 4:8] = 1
    given = {"image": mask[..., None] * 200, "mask": mask, "boxes": np.array([[[4.0, 3, 8, 6], [0, 0, 1, 1]]])}
    found = augment.center_crop((5, 6))(given, (0, 0))
    np.testing.assert_array_equal(found["boxes"], [[[1, 1, 5, 4], [0, 0, 0, 0]]])
    np.testing.assert_array_equal(found["mask"][..., None] * 200, found["image"])
    ragged = {**given, "boxes": tf.ragged.constant([[[4.0, 3, 8, 6]]], ragged_rank=1)}
    assert augment.center_crop((5, 6))(ragged, (0, 0))["boxes"].to_list() == [[[1, 1, 5, 4]]]
    twice = augment.random_resized_crop((18, 24), scale=(1.0, 1.0), ratio=(12 / 9, 12 / 9), interpolation="nearest")
    found = twice(given, (0, 0))
    np.testing.assert_array_equal(found["boxes"][0, 0], [8, 6, 16, 12])
    np.testing.assert_array_equal(found["mask"][..., None] * 200, found["image"])


def test_normalize_subtracts_and_divides_per_channel():
    given = images(4)
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])
    expected = (given / 255 - mean) / std
    for image in (given, (given / 255).astype(np.float32)):
        found = augment.normalize(mean.tolist(), std.tolist())({"image": image}, (0, 0))["image"]
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    half = augment.normalize(0.5, 0.5)({"image": (given / 255).astype(np.float16)}, (0, 0))["image"]
    assert half.dtype == tf.float16


# ---- as JSON


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_transform_survives_the_way_through_json(factory):
    transform = FACTORIES[factory](*ARGUMENTS.get(factory, ()))
    again = augment.from_json(json.loads(json.dumps(augment.to_json(transform))))
    assert again == transform
    assert repr(again) == repr(transform)


def test_every_public_maker_of_transforms_can_be_written():
    helpers = {"apply_choices", "apply_op", "augmentation", "from_json", "to_json"}
    makers = {name for name in augment.__all__ if name.islower()} - helpers
    assert makers == set(FACTORIES)


@augment.augmentation(range=(0.0, 1.0))
def faded(images, values):
    return images


def test_a_users_op_is_written_by_name_and_handed_in_again():
    document = json.loads(json.dumps(augment.to_json(augment.rand_augment(1, 9, ops=[faded]))))
    assert augment.from_json(document, ops={"faded": faded}).ops[1] is faded
    with pytest.raises(ValueError, match="Unknown op 'faded'; known ops"):
        augment.from_json(document)


REFUSED = {
    "op 'rotate' takes 1 values; it got 2": lambda: augment.op("rotate", 1, 2),
    r"A range of 'rotate' is \(3, 1\); low comes first": lambda: augment.op("rotate", (3, 1)),
    "A value of 'rotate' is 'far'": lambda: augment.op("rotate", "far"),
    "p is 2": lambda: augment.flip_left_right(2),
    "padding is -1": lambda: augment.pad_and_crop(-1),
    "padding is True": lambda: augment.pad_and_crop(True),
    "p is nan": lambda: augment.flip_left_right(float("nan")),
    "side is -3": lambda: augment.cutout(-3),
    "hue is 0.6; it must be at least 0 and at most 0.5": lambda: augment.color_jitter(hue=0.6),
    "factor is 0": lambda: augment.zoom(0),
    r"size of random_crop is 22.4; it takes \(height, width\)": lambda: augment.random_crop(22.4),
    "scale is ": lambda: augment.random_resized_crop(scale=(0.5, 1.5)),
    "windows of 30 x 30, but the images have 9 x 12": lambda: augment.center_crop((30, 30))(
        {"image": images()}, (0, 0)
    ),
    "and 1 pixels of padding": lambda: augment.random_crop((30, 30), padding=1)({"image": images()}, (0, 0)),
    "mean is 0.5 and std 0": lambda: augment.normalize(0.5, 0),
    "mean and std have 2 values, but the images have 3 channels": lambda: augment.normalize([1, 1], [1, 1])(
        {"image": images()}, (0, 0)
    ),
    "Unknown transform 'flip'; known transforms": lambda: augment.from_json(
        {"kind": "tfpipe transform 1", "factory": "flip", "arguments": {}}
    ),
    "Transform 'cutout' takes no such arguments": lambda: augment.from_json(
        {"kind": "tfpipe transform 1", "factory": "cutout", "arguments": {"size": 3}}
    ),
    "Not a transform": lambda: augment.from_json([1]),
    "Unknown op None; known ops": lambda: augment.from_json({"kind": "tfpipe op 1"}),
    r"Unknown op \['rotate'\]; known ops": lambda: augment.from_json({"kind": "tfpipe op 1", "name": ["rotate"]}),
    "Unknown transform None": lambda: augment.from_json({"kind": "tfpipe transform 1"}),
    r"Unknown transform \['op'\]": lambda: augment.from_json({"kind": "tfpipe transform 1", "factory": ["op"]}),
    r"Transform 'op' lacks the arguments \['name', 'values'\]": lambda: augment.from_json(
        {"kind": "tfpipe transform 1", "factory": "op"}
    ),
    "Transform 'op' takes no such arguments": lambda: augment.from_json(
        {"kind": "tfpipe transform 1", "factory": "op", "arguments": {"name": "rotate", "values": 3}}
    ),
    r"The arguments of transform 'cutout' are \[3\]; they must be an object": lambda: augment.from_json(
        {"kind": "tfpipe transform 1", "factory": "cutout", "arguments": [3]}
    ),
    "cannot be written as JSON": lambda: augment.to_json(augment.select(["invert"], tf.constant([0]))),
    "is not a transform of tfpipe.augment": lambda: augment.to_json(len),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_bad_arguments_are_refused_in_one_sentence(sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        REFUSED[sentence]()
    assert "\n" not in str(error.value)
