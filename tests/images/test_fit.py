"""The fast antialiased resize: Pillow's bilinear reduction within two uint8 values, for every shape and format."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import KINDS, file_bytes, photo, turned, upright_pixels
from PIL import Image

from tfpipe.images.decode import RESIZES, resize_image
from tfpipe.images.fit import Resize, _ratio_index

SIZE = (16, 24)  # Few sizes: each (size, resize) is compiled once, for a second or so.
SIDES = st.integers(1, 54)


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.square(found.astype(float) - expected).mean(), 1e-9))


def pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


@settings(max_examples=150)
@given(SIDES, SIDES, st.sampled_from(RESIZES))
def test_every_shape_is_fitted_as_tensorflow_s_own_antialiasing_fits_it(height: int, width: int, resize: str) -> None:
    image = photo(height + 60 * width, height, width)
    found = Resize(SIZE, resize, antialias=True).resize(tf.constant(image)).numpy().astype(int)
    stock = resize_image(tf.constant(image), SIZE, resize=resize, antialias=True).numpy().astype(int)
    # Weights of 1/256 and one more rounding: a difference of 2 at most, and of 0 on a black border.
    assert np.abs(found - stock).max() <= 2
    assert not found[stock.sum(-1) == 0].any()


@pytest.mark.parametrize("sides", [(16, 24), (20, 31), (30, 40), (37, 53), (54, 54), (9, 50)])
def test_a_stretched_image_is_pillow_s_reduction(sides: tuple[int, int]) -> None:
    image = photo(5, *sides)
    found = Resize(SIZE, "stretch", antialias=True).resize(tf.constant(image)).numpy()
    assert np.abs(found.astype(int) - pillow(image, SIZE)).max() <= 2
    assert psnr(found, pillow(image, SIZE)) > 50


def test_a_flat_image_stays_flat() -> None:
    for level in (0, 1, 127, 254, 255):
        image = tf.fill([33, 47, 3], tf.constant(level, tf.uint8))
        assert (Resize(SIZE, "stretch", antialias=True).resize(image).numpy() == level).all()


def test_what_is_beyond_the_program_is_resized_by_tensorflow() -> None:
    image = photo(6, 30, 200)
    found = Resize(SIZE, "stretch", antialias=True).resize(tf.constant(image)).numpy()
    stock = resize_image(tf.constant(image), SIZE, resize="stretch", antialias=True).numpy()
    np.testing.assert_array_equal(found, stock)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_keep_their_dtype_and_range(dtype: str) -> None:
    image = (photo(7) / 255).astype(dtype)
    found = Resize(SIZE, "stretch", antialias=True).resize(tf.constant(image)).numpy()
    assert (found.dtype, found.shape) == (np.dtype(dtype), (*SIZE, 3))
    expected = pillow(photo(7), SIZE) / 255
    assert np.abs(found - expected).max() < 1.5 / 255


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_is_resized(channels: int) -> None:
    image = np.concatenate([photo(8), photo(9)], axis=2)[..., :channels]
    found = Resize(SIZE, "stretch", antialias=True).resize(tf.constant(image)).numpy()
    for c in range(channels):
        assert np.abs(found[..., c].astype(int) - pillow(image[..., c], SIZE)).max() <= 2


# ---- files


@pytest.mark.parametrize("ending", KINDS)
def test_every_format_is_decoded_turned_and_fitted(ending: str) -> None:
    data = KINDS[ending](7)
    orientation = tf.constant(6 if ending == "_turned.jpg" else 1, tf.int64)
    resizer = Resize(SIZE, "stretch", antialias=True)
    found = resizer.decode(tf.constant(data), jpeg_only=ending.endswith(".jpg"), orientation=orientation).numpy()
    assert psnr(found, pillow(upright_pixels(data), SIZE)) > 42


def smooth_jpeg(height: int, width: int, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_bytes(photo(11, height, width), "JPEG", quality=95, exif=exif.tobytes())


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("sides", [(64, 96), (65, 97), (63, 99), (131, 193), (150, 230)])
def test_a_jpeg_that_is_reduced_while_it_is_decoded_lies_where_the_whole_one_lies(
    sides: tuple[int, int], resize: str
) -> None:
    """Odd sides too: the decoder rounds them up, and a scale of the rounded size would shift the image."""
    data = smooth_jpeg(*sides)
    resizer = Resize(SIZE, resize, antialias=True)
    size = tf.constant(sides)
    assert int(_ratio_index(size, SIZE, resize)) > 0
    found = resizer.decode(tf.constant(data), jpeg_only=True).numpy()
    whole = resize_image(tf.constant(upright_pixels(data)), SIZE, resize=resize, antialias=True).numpy()
    assert psnr(found, whole) > 42


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_jpeg_is_reduced_by_its_upright_size(orientation: int) -> None:
    data = smooth_jpeg(97, 65, orientation)
    resizer = Resize(SIZE, "pad", antialias=True)
    found = tf.function(resizer.decode)(
        tf.constant(data), jpeg_only=True, orientation=tf.constant(orientation, tf.int64)
    ).numpy()
    whole = resize_image(tf.constant(upright_pixels(data)), SIZE, resize="pad", antialias=True).numpy()
    assert psnr(found, whole) > 42


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    image = tf.constant(photo(1, *SIZE))
    for antialias in (False, True):
        np.testing.assert_array_equal(Resize(SIZE, antialias=antialias).resize(image).numpy(), image.numpy())


def test_without_antialias_nothing_is_averaged() -> None:
    data = turned(3, 6)
    found = Resize(SIZE, "crop").decode(tf.constant(data), jpeg_only=True, orientation=tf.constant(6, tf.int64)).numpy()
    stored = np.asarray(Image.open(io.BytesIO(data)))
    expected = resize_image(tf.constant(np.rot90(stored, -1).copy()), SIZE, resize="crop").numpy()
    assert psnr(found, expected) > 30  # Another inverse DCT.


def test_an_unknown_way_to_resize_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown resize 'squash'; known: \['pad', 'stretch', 'crop'\]"):
        Resize(SIZE, "squash")
