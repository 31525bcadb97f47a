"""Five laws over one table of cases: oracle; batch = one at a time; loop = dense; compiled = eager; identity."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from cases import FIFTEEN, MAGNITUDES, NAMES, applied, case, cases, crossed, eagerly, hard_images
from hypothesis import given
from hypothesis import strategies as st
from oracle import PILLOW, bilinear, pillow

from tfpipe.augment.forms.apply import apply_choices, apply_op
from tfpipe.augment.ops.table import OPS

HEIGHT, WIDTH = 29, 37
# One pixel wide or high, smaller than a stencil, odd sides.
SHAPES = ((1, 1), (9, 1), (1, 8), (3, 4))


@functools.cache
def table_of(height, width, channels, names=NAMES):
    table = cases(height, width, names)
    return table, *crossed(table, hard_images(height, width, channels))


@functools.cache
def result_of(form, height=HEIGHT, width=WIDTH, channels=3, names=NAMES, **options):
    _, images, choices = table_of(height, width, channels, names)
    return applied(images, choices, names, form=form, **options)


def rows_of(name, names=NAMES):
    """Where an op's results stand."""
    width = len(MAGNITUDES) * 5
    return slice(names.index(name) * width, (names.index(name) + 1) * width)


@pytest.mark.parametrize("name", PILLOW)
def test_an_op_equals_pillow(name):
    _, images, choices = table_of(HEIGHT, WIDTH, 3)
    rows = rows_of(name)
    values = choices.values[rows, 0].numpy()
    expected = np.stack([pillow(name, image, *row) for image, row in zip(images[rows], values, strict=True)])
    assert np.array_equal(result_of("loop")[rows], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fifteen_equal_pillow_on_the_smallest_images(shape):
    _, images, choices = table_of(*shape, 3, FIFTEEN)
    values = choices.values[:, 0, 0].numpy()
    names = [NAMES[place] for place in choices.ops[:, 0]]
    expected = [pillow(*row) for row in zip(names, images, values, strict=True)]
    assert np.array_equal(result_of("loop", *shape, names=FIFTEEN), np.stack(expected))


def test_the_fifteen_equal_pillow_on_gray_images():
    _, images, choices = table_of(HEIGHT, WIDTH, 1, FIFTEEN)
    values = choices.values[:, 0, 0].numpy()
    names = [NAMES[place] for place in choices.ops[:, 0]]
    # Pillow's color, of an image that has none.
    expected = [
        image if name == "color" else pillow(name, image, value)
        for name, image, value in zip(names, images, values, strict=True)
    ]
    assert np.array_equal(result_of("loop", channels=1, names=FIFTEEN), np.stack(expected))


@pytest.mark.parametrize("name", ["brightness", "color", "contrast", "sharpness"])
def test_factors_of_any_size_equal_pillow(name):
    images, factors = hard_images(HEIGHT, WIDTH), [-1e9, -9000.0, 8192.5, 40_000.0, 1e9]
    expected = np.stack([pillow(name, image, factor) for image, factor in zip(images, factors, strict=True)])
    for form in ("loop", "dense"):
        assert np.array_equal(apply_op(name, images, factors, form=form), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_dense_form_equals_the_loop(name):
    rows = rows_of(name)
    assert np.array_equal(result_of("dense")[rows], result_of("loop")[rows])


def test_the_forms_agree_on_gray_images():
    assert np.array_equal(result_of("dense", channels=1), result_of("loop", channels=1))


@pytest.mark.parametrize("shape", [(1, 1), (9, 1)])
def test_the_forms_agree_on_the_smallest_images(shape):
    assert np.array_equal(result_of("dense", *shape, names=FIFTEEN), result_of("loop", *shape, names=FIFTEEN))


@pytest.mark.parametrize("form", ["loop", "dense"])
def test_a_batch_equals_its_images_one_at_a_time(form):
    _, images, choices = table_of(HEIGHT, WIDTH, 3)
    together = result_of(form)
    for row in range(3, len(images), 25):
        alone = choices._replace(**{k: v[row : row + 1] for k, v in choices._asdict().items()})
        assert np.array_equal(applied(images[row : row + 1], alone, form=form)[0], together[row]), NAMES[row // 25]


# Blur is made of an XLA operation, which has no kernel outside.
EAGER = [name for name in NAMES if name not in ("identity", "gaussian_blur")]


@pytest.mark.parametrize("name", EAGER)
def test_compiled_equals_eager(name):
    _, images, choices = table_of(HEIGHT, WIDTH, 3)
    rows = rows_of(name)
    eager = eagerly(OPS[name], images[rows], choices.values[rows, 0], choices.seeds[rows, 0])
    assert np.array_equal(eager, result_of("loop")[rows])


@pytest.mark.parametrize("form", ["loop", "dense"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16])
def test_the_identity_is_the_identity(form, dtype):
    images = np.random.default_rng(0).uniform(0, 255 if dtype == np.uint8 else 1, (4, 11, 7, 3)).astype(dtype)
    _, choices = crossed(cases(11, 7, ("identity",))[:4], images[:1])
    # Among other ops, so that every family's pass meets images which are not its own.
    assert np.array_equal(applied(images, choices, FIFTEEN, form=form), images)


NEUTRAL = {
    "brightness": 1, "color": 1, "contrast": 1, "sharpness": 1, "gamma": 1, "saturation": 1, "posterize": 8,
    "solarize": 256, "solarize_add": 0, "rotate": 0, "shear_x": 0, "shear_y": 0, "translate_x": 0, "translate_y": 0,
    "add_brightness": 0, "hue": 0, "gaussian_blur": 0, "gaussian_noise": 0,
}  # fmt: skip


def test_an_op_at_its_neutral_value_changes_nothing():
    images = hard_images(HEIGHT, WIDTH)
    table = [case for case in cases(HEIGHT, WIDTH) if case.name in NEUTRAL][::5]
    batch, choices = crossed(table, images)
    values = np.zeros(choices.values.shape, np.float32)
    values[:, 0, 0] = np.repeat([NEUTRAL[case.name] for case in table], len(images))
    assert np.array_equal(applied(batch, choices._replace(values=tf.constant(values))), batch)


@given(
    st.sampled_from(sorted(FIFTEEN)),
    st.floats(0, 1, width=32),
    st.sampled_from((-1, 1)),
    st.integers(0, 2**32 - 1),
    st.sampled_from((2, 17, 256)),
)
def test_any_value_on_any_pixels_equals_pillow(name, magnitude, sign, seed, num_levels):
    image = np.random.default_rng(seed).integers(0, num_levels, (1, 13, 10, 3)).astype(np.uint8)
    one = case(OPS[name], magnitude, sign, 13, 10)
    batch, choices = crossed([one], image)
    expected = pillow(name, image[0], one.values[0])
    assert np.array_equal(applied(batch, choices, FIFTEEN)[0], expected)


@pytest.mark.parametrize("form", ["loop", "dense"])
def test_bilinear_warps_lie_within_a_level_of_float64(form):
    warps = ("identity", *(name for name, op in OPS.items() if op.family == "warp"))
    _, images, choices = table_of(HEIGHT, WIDTH, 3, warps)
    result = result_of(form, names=warps, interpolation="bilinear")
    for row in range(25, len(images)):
        op = OPS[NAMES[choices.ops[row, 0]]]
        coefficients = op.build(choices.values[row, 0], HEIGHT, WIDTH).numpy()
        expected, inside, outside = bilinear(images[row], coefficients)
        assert np.abs(result[row].astype(float) - expected)[inside].max(initial=0) <= 1, op.name
        assert (result[row][outside] == 128).all(), op.name


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("form", ["loop", "dense"])
def test_float_images_give_what_their_levels_give(form, dtype):
    _, images, choices = table_of(HEIGHT, WIDTH, 3, FIFTEEN)
    fractions = (images / np.float32(255)).astype(dtype)
    result = applied(fractions, choices, FIFTEEN, form=form)
    expected = (result_of("loop", names=FIFTEEN) / np.float32(255)).astype(dtype)
    assert result.dtype == dtype
    assert np.array_equal(result, expected)


def test_the_edge_is_repeated_where_there_is_no_fill():
    image = np.arange(5, dtype=np.uint8)[None, None, :, None].repeat(3, -1)
    for form in ("loop", "dense"):
        moved = apply_op("translate_x", image, [3.0], fill=None, form=form)
        assert moved[0, 0, :, 0].numpy().tolist() == [3, 4, 4, 4, 4]


def test_the_fill_may_differ_per_channel():
    image = np.full((1, 2, 4, 3), 9, np.uint8)
    for form in ("loop", "dense"):
        moved = apply_op("translate_x", image, [-2.0], fill=(1, 2, 3), form=form).numpy()
        assert moved[0, 0].tolist() == [[1, 2, 3], [1, 2, 3], [9, 9, 9], [9, 9, 9]]


def test_warps_take_any_number_of_channels():
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 5)).astype(np.uint8)
    whole = apply_op("shear_y", images, [0.5, -1.0]).numpy()
    for channel in range(5):
        one = apply_op("shear_y", images[..., channel : channel + 1], [0.5, -1.0]).numpy()
        assert np.array_equal(whole[..., channel : channel + 1], one)


def test_noise_is_keyed_by_image_and_stage():
    names = ("identity", "gaussian_noise")
    images = np.full((4, 8, 8, 3), 128, np.uint8)
    _, choices = crossed([cases(8, 8, ("gaussian_noise",))[2]], images)
    seeds = tf.constant([[[1, 2]], [[1, 2]], [[1, 3]], [[2, 2]]])
    result = applied(images, choices._replace(seeds=seeds), names)
    assert np.array_equal(result[0], result[1])
    assert len({image.tobytes() for image in result}) == 3


def test_noise_has_the_moments_that_it_says():
    images = np.full((4, 64, 64, 3), 128, np.uint8)
    noisy = apply_op("gaussian_noise", images, [20.0] * 4).numpy().astype(float) - 128
    assert abs(noisy.mean()) < 4 * 20 / np.sqrt(noisy.size)
    assert abs(noisy.std() / 20 - 1) < 4 / np.sqrt(2 * noisy.size)
    dropped = apply_op("dropout", images, [[0.3, 1.0]] * 4).numpy() == 0
    assert abs(dropped.mean() - 0.3) < 4 * np.sqrt(0.21 / dropped.size)
    salted = apply_op("salt_and_pepper", images, [[0.2, 0.0]] * 4).numpy()[..., 0]
    assert abs((salted == 0).mean() - 0.1) < 4 * np.sqrt(0.09 / salted.size)
    assert abs((salted == 255).mean() - 0.1) < 4 * np.sqrt(0.09 / salted.size)


def test_the_blur_is_a_gaussian():
    image = np.zeros((1, 21, 21, 1), np.uint8)
    image[0, 10, 10] = 255
    blurred = apply_op("gaussian_blur", image, [1.5]).numpy()[0, :, :, 0]
    place = np.arange(21) - 10.0
    weights = np.exp(-0.5 * (place / 1.5) ** 2)
    weights /= weights.sum()
    assert np.abs(blurred - 255 * np.outer(weights, weights)).max() <= 0.6


def test_cutout_erases_the_square():
    image = np.full((1, 10, 10, 3), 200, np.uint8)
    cut = apply_op("cutout", image, [[4.0, 0.5, 0.0]], fill=7).numpy()[0]
    assert (cut[3:7, :2] == 7).all()
    assert (cut == 7).sum() == 4 * 2 * 3


def test_a_zoom_and_a_resized_crop_meet():
    images = hard_images(12, 16)
    zoomed = apply_op("zoom", images, [[2.0, 0.0, 0.0]] * 5)
    cropped = apply_op("resized_crop", images, [[0.0, 0.0, 0.5, 0.5]] * 5)
    assert np.array_equal(zoomed, cropped)
    assert np.array_equal(zoomed[:, ::2, ::2], images[:, :6, :8])


def test_two_stages_are_one_after_the_other():
    images = hard_images(HEIGHT, WIDTH)
    ops = [OPS["identity"], OPS["rotate"], OPS["equalize"]]
    _, choices = crossed([cases(HEIGHT, WIDTH, ("rotate",))[2]], images)
    both = choices._replace(
        ops=tf.constant([[1, 2]] * 5), values=tf.repeat(choices.values, 2, axis=1), seeds=tf.zeros([5, 2, 2], tf.int32)
    )
    first = apply_op("rotate", images, choices.values[:, 0, 0])
    expected = apply_op("equalize", first, [0.0] * 5)
    for form in ("loop", "dense"):
        assert np.array_equal(apply_choices(images, both, ops, form=form), expected)
