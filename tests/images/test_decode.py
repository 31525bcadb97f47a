"""Files are decoded to Pillow's pixels, turned upright, and resized in each way."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import KINDS, photo, turned, upright_pixels
from PIL import Image
from tolerances import TOLERANCES

from tfpipe.images.decode import RESIZES, decode_file, resize_image, turn_upright

SIZES = st.integers(1, 24)


@pytest.mark.parametrize("ending", [ending for ending in KINDS if ending != "_turned.jpg"])
def test_every_format_decodes_to_what_pillow_sees(ending: str) -> None:
    data = KINDS[ending](7)
    image = decode_file(tf.constant(data), jpeg_only=ending.endswith(".jpg"), exact=True)
    assert (image.dtype, image.shape) == (tf.uint8, (30, 40, 3))
    assert np.abs(image.numpy().astype(int) - upright_pixels(data)).max() <= TOLERANCES.get(ending, 0)


def test_fast_decoding_stays_near_the_exact_pixels() -> None:
    data = tf.constant(KINDS[".jpg"](7))
    fast, exact = (decode_file(data, jpeg_only=True, exact=exact).numpy().astype(int) for exact in (False, True))
    assert 0 < np.square(fast - exact).mean() < 20  # 35 dB


def test_an_animation_gives_its_first_frame() -> None:
    first, second = (Image.fromarray(photo(n)).convert("P") for n in (1, 2))
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=[second])
    image = decode_file(tf.constant(file.getvalue()), jpeg_only=False)
    np.testing.assert_array_equal(image.numpy(), np.asarray(first.convert("RGB")))


def test_bytes_that_are_no_image_are_refused() -> None:
    for jpeg_only in (False, True):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_file(tf.constant(b"<html>"), jpeg_only=jpeg_only)


# ---- turns


@pytest.mark.parametrize("orientation", range(9))
def test_an_image_is_turned_as_pillow_turns_it(orientation: int) -> None:
    data = turned(2, orientation)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    eager = turn_upright(tf.constant(stored), tf.constant(orientation, tf.int64))
    graph = tf.function(turn_upright)(tf.constant(stored), tf.constant(orientation, tf.int64))
    np.testing.assert_array_equal(eager.numpy(), upright_pixels(data))
    np.testing.assert_array_equal(graph.numpy(), eager.numpy())


# ---- sizes


@cache
def in_a_map(size: tuple[int, int], resize: str):
    """resize_image as a tf.data map runs it: with no static size."""
    return tf.function(
        lambda image: resize_image(image, size, resize=resize),
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
    )


@settings(max_examples=150)
@given(
    SIZES,
    SIZES,
    SIZES,
    SIZES,
    st.sampled_from(RESIZES),
    st.sampled_from(["uint8", "float16", "float32"]),
    st.booleans(),
)
def test_any_image_fits_any_size_and_keeps_its_dtype_and_range(
    height: int, width: int, new_height: int, new_width: int, resize: str, dtype: str, antialias: bool
) -> None:
    pixels = photo(height + 31 * width, height, width)
    image = tf.constant(pixels if dtype == "uint8" else (pixels / 255).astype(dtype))
    found = resize_image(image, (new_height, new_width), resize=resize, antialias=antialias)
    assert (found.shape, found.dtype) == ((new_height, new_width, 3), dtype)
    assert found.numpy().max() <= image.numpy().max()
    if resize != "pad":
        assert found.numpy().min() >= image.numpy().min()


@settings(max_examples=30)
@given(SIZES, SIZES, st.sampled_from([(8, 8), (5, 11)]), st.sampled_from(RESIZES))
def test_resizing_in_a_map_gives_what_it_gives_eagerly(
    height: int, width: int, size: tuple[int, int], resize: str
) -> None:
    image = tf.constant(photo(height * width, height, width))
    np.testing.assert_array_equal(
        in_a_map(size, resize)(image).numpy(), resize_image(image, size, resize=resize).numpy()
    )
    assert in_a_map(size, resize).get_concrete_function().structured_outputs.shape == (*size, 3)


@given(SIZES, SIZES, st.sampled_from(RESIZES), st.booleans())
@settings(max_examples=40)
def test_an_image_of_the_right_size_stays_as_it_is(height: int, width: int, resize: str, antialias: bool) -> None:
    image = photo(height, height, width)
    found = resize_image(tf.constant(image), (height, width), resize=resize, antialias=antialias)
    np.testing.assert_array_equal(found.numpy(), image)
    if not antialias:
        np.testing.assert_array_equal(in_a_map((height, width), resize)(image).numpy(), image)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear sampling at pixel centres with the edge repeated, in float64."""

    def taps(source: int, target: int) -> np.ndarray:
        centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(source)))

    return np.einsum(
        "yr,rsc,xs->yxc", taps(image.shape[0], height), image.astype(np.float64), taps(image.shape[1], width)
    )


def rounded(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(int)


@pytest.mark.parametrize("size", [(7, 9), (30, 17), (64, 50), (1, 1)])
def test_stretch_is_bilinear_sampling(size: tuple[int, int]) -> None:
    found = resize_image(tf.constant(photo(4)), size, resize="stretch").numpy().astype(int)
    # Float32 weights may round a value half way between two integers to the other one.
    assert np.abs(found - rounded(bilinear(photo(4), *size))).max() <= 1
    assert np.abs(found - bilinear(photo(4), *size)).max() < 0.501


@pytest.mark.parametrize("size", [(7, 9), (15, 20), (3, 33)])
def test_antialiased_stretch_is_pillow_s_bilinear_reduction(size: tuple[int, int]) -> None:
    found = resize_image(tf.constant(photo(4)), size, resize="stretch", antialias=True).numpy().astype(int)
    oracle = np.asarray(Image.fromarray(photo(4)).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found - oracle).max() <= 1  # Pillow rounds between its two passes


@pytest.mark.parametrize(
    ("size", "inner", "corner"),
    [
        ((20, 20), (15, 20), (2, 0)),
        ((60, 40), (30, 40), (15, 0)),
        ((30, 41), (30, 40), (0, 0)),
        ((10, 90), (10, 13), (0, 38)),
    ],
)
def test_pad_keeps_the_aspect_and_centres_it_on_black(
    size: tuple[int, int], inner: tuple[int, int], corner: tuple[int, int]
) -> None:
    found = resize_image(tf.constant(photo(4)), size, resize="pad").numpy().astype(int)
    (y, x), (height, width) = corner, inner
    assert np.abs(found[y : y + height, x : x + width] - rounded(bilinear(photo(4), *inner))).max() <= 1
    found[y : y + height, x : x + width] = 0
    assert not found.any()


@pytest.mark.parametrize(
    ("size", "inner", "corner"),
    [
        ((20, 20), (20, 27), (0, 3)),
        ((60, 40), (60, 80), (0, 20)),
        ((10, 90), (68, 90), (29, 0)),
    ],
)
def test_crop_keeps_the_aspect_and_cuts_what_overhangs(
    size: tuple[int, int], inner: tuple[int, int], corner: tuple[int, int]
) -> None:
    found = resize_image(tf.constant(photo(4)), size, resize="crop").numpy().astype(int)
    whole = rounded(bilinear(photo(4), *inner))
    (y, x), (height, width) = corner, size
    assert np.abs(found - whole[y : y + height, x : x + width]).max() <= 1


def test_an_unknown_way_to_resize_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown resize 'squash'; known: \['pad', 'stretch', 'crop'\]"):
        resize_image(tf.constant(photo(1)), (5, 5), resize="squash")
