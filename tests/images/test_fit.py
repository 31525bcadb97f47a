"""The fast antialiased resize: Pillow's bilinear reduction within two uint8 values, for every shape and format."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import KINDS, file_bytes, photo, turned, upright_pixels
from PIL import Image

from tfpipe.images import antialias
from tfpipe.images.antialias import DecodedImage, start_compiling
from tfpipe.images.decode import RESIZES, resize_image
from tfpipe.images.fit import Resize, ratio_index

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


def test_a_dataset_may_know_that_its_images_are_beyond_the_program() -> None:
    image = photo(6, 30, 200)
    (found,) = tf.data.Dataset.from_tensors(image).map(Resize(SIZE, "stretch", antialias=True).resize)
    stock = resize_image(tf.constant(image), SIZE, resize="stretch", antialias=True).numpy()
    np.testing.assert_array_equal(found, stock)


@pytest.mark.parametrize("longest", [None, (180, 520), (520, 520)])
@pytest.mark.parametrize(("sides", "capacities"), [((180, 234), [234]), ((301, 520), [520]), ((301, 521), [])])
def test_images_of_up_to_five_times_the_target_take_a_second_program(
    sides: tuple[int, int], capacities: list[int], longest: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is known of a dataset's images, each takes its own program, of two."""
    ran, size = [], (80, 104)

    run = antialias._run

    def noting(program: Callable[..., tf.Tensor], image: DecodedImage, capacity: int) -> tf.Tensor:
        with tf.control_dependencies([tf.py_function(lambda: ran.append(capacity), [], [])]):
            return run(program, image, capacity)

    monkeypatch.setattr(antialias, "_run", noting)
    image = photo(16, *sides)
    resizer = Resize(size, "stretch", antialias=True, longest=longest)
    files = tf.data.Dataset.from_tensors(file_bytes(image, "PNG"))  # Of a file, no size is known in a graph.
    (found,) = files.map(lambda data: resizer.decode(data, jpeg_only=False))
    assert ran == capacities
    assert np.abs(found.numpy().astype(int) - pillow(image, size)).max() <= 2
    assert psnr(found.numpy(), pillow(image, size)) > 50


@pytest.mark.parametrize("resize", RESIZES)
def test_both_programs_give_the_same_pixels(resize: str) -> None:
    size, sides = (80, 104), tf.constant([171, 234])
    image = DecodedImage(tf.constant(photo(17, 171, 234)), sides, tf.constant(1), tf.zeros([2], tf.int32))
    small, large = antialias._capacities(size, None)
    found = [antialias._run(antialias._program(size, resize, one, 3), image, one).numpy() for one in (small, large)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("size", "longest", "programs"),
    [
        ((224, 224), 504, [504]),
        ((224, 224), 505, [504, 1120]),
        ((224, 224), None, [504, 1120]),
        ((100, 102), 900, [230]),
    ],
)
def test_there_is_a_second_program_where_images_are_large(
    size: tuple[int, int], longest: int | None, programs: list[int]
) -> None:
    assert antialias._capacities(size, longest) == programs


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
    resizer = Resize(SIZE, resize, antialias=True, dct="fast")
    size = tf.constant(sides)
    assert int(ratio_index(size, resizer)) > 0
    found = resizer.decode(tf.constant(data), jpeg_only=True).numpy()
    whole = resize_image(tf.constant(upright_pixels(data)), SIZE, resize=resize, antialias=True).numpy()
    assert psnr(found, whole) > 42


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_jpeg_is_reduced_by_its_upright_size(orientation: int) -> None:
    data = smooth_jpeg(97, 65, orientation)
    resizer = Resize(SIZE, "pad", antialias=True, dct="fast")
    found = tf.function(resizer.decode)(
        tf.constant(data), jpeg_only=True, orientation=tf.constant(orientation, tf.int64)
    ).numpy()
    whole = resize_image(tf.constant(upright_pixels(data)), SIZE, resize="pad", antialias=True).numpy()
    assert psnr(found, whole) > 42


@pytest.mark.parametrize("orientation", [1, 3])
def test_beyond_the_programs_a_reduced_jpeg_lies_where_the_whole_one_lies(orientation: int) -> None:
    """131 columns become 17 of 8, the last of 3: a scale of 17 / 4 would shift the last pixel by 0.13."""
    data = smooth_jpeg(263, 131, orientation)
    resizer = Resize((4, 4), "stretch", antialias=True, dct="fast")
    assert int(ratio_index(tf.constant([263, 131]), resizer)) == 3
    found = resizer.decode(tf.constant(data), jpeg_only=True, orientation=tf.constant(orientation, tf.int64)).numpy()
    assert psnr(found, pillow(upright_pixels(data), (4, 4))) > 42


# ---- large photos, exactly

LARGE = (1831, 2301)  # 2**22 pixels and a few, and no multiple of a ratio.


@pytest.fixture(scope="module")
def large() -> bytes:
    return file_bytes(photo(12, *LARGE), "JPEG", quality=85)


@pytest.mark.parametrize(
    ("full", "size", "mode", "ratio"),
    [
        ((3000, 4000), (224, 224), "stretch", 4),
        ((3000, 4000), (224, 224), "pad", 4),
        ((3000, 4000), (112, 112), "crop", 8),
        ((3000, 4000), (299, 299), "crop", 4),
        ((3000, 4000), (320, 320), "crop", 2),
        ((3000, 4000), (768, 1024), "pad", 1),
        ((2048, 2048), (64, 64), "pad", 8),
        ((2048, 2047), (64, 64), "pad", 1),
    ],
)
def test_a_large_jpeg_is_reduced_as_far_as_leaves_two_and_a_half_times_the_target(
    full: tuple[int, int], size: tuple[int, int], mode: str, ratio: int
) -> None:
    assert 2 ** int(ratio_index(tf.constant(full), Resize(size, mode, antialias=True))) == ratio


@pytest.mark.parametrize(("size", "ratio"), [((16, 24), 8), ((90, 120), 4)], ids=str)
def test_a_large_jpeg_is_pillow_s_reduction_of_the_whole(large: bytes, size: tuple[int, int], ratio: int) -> None:
    resizer = Resize(size, "stretch", antialias=True)
    assert 2 ** int(ratio_index(tf.constant(LARGE), resizer)) == ratio
    found = resizer.decode(tf.constant(large), jpeg_only=True).numpy()
    assert psnr(found, pillow(upright_pixels(large), size)) > 50
    # Reduced indeed: the pixels of the whole give others, in few places and by little.
    whole = resizer.resize(tf.constant(upright_pixels(large))).numpy()
    assert (found != whole).any()
    assert psnr(found, whole) > 50


# ---- compiling


def test_a_dataset_s_program_is_compiled_while_the_dataset_is_being_made() -> None:
    def join() -> None:
        for thread in threading.enumerate():
            if thread.name == "tfpipe-compile":
                thread.join()

    join()
    started = time.process_time()
    start_compiling((17, 23), "pad").join()
    compiling = time.process_time() - started
    images = tf.data.Dataset.from_tensors(photo(1)).map(
        lambda image: Resize((17, 22), "pad", antialias=True).resize(tf.ensure_shape(image, [None, None, 3]))
    )
    join()
    started = time.process_time()
    next(iter(images))
    assert time.process_time() - started < 0.5 * compiling


@pytest.mark.parametrize(
    ("longest", "started"), [(None, [234]), ((9, 234), [234]), ((234, 235), [234, 520]), ((235, 900), [520, 234])]
)
def test_the_program_of_the_smallest_images_is_compiled_first(
    longest: tuple[int, int] | None, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    monkeypatch.setattr(antialias, "_start_once", lambda size, resize, channels, capacities: found.extend(capacities))
    resizer = Resize((80, 104), "pad", antialias=True, longest=longest)
    tf.data.Dataset.from_tensors(b"").map(lambda data: resizer.decode(data, jpeg_only=False))
    assert found == started


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    image = tf.constant(photo(1, *SIZE))
    for smooth in (False, True):
        np.testing.assert_array_equal(Resize(SIZE, antialias=smooth).resize(image).numpy(), image.numpy())


def test_without_antialias_nothing_is_averaged() -> None:
    data = turned(3, 6)
    found = Resize(SIZE, "crop").decode(tf.constant(data), jpeg_only=True, orientation=tf.constant(6, tf.int64)).numpy()
    stored = np.asarray(Image.open(io.BytesIO(data)))
    expected = resize_image(tf.constant(np.rot90(stored, -1).copy()), SIZE, resize="crop").numpy()
    assert psnr(found, expected) > 30  # Another inverse DCT.


def test_an_unknown_way_to_resize_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown resize 'squash'; known: \['pad', 'stretch', 'crop'\]"):
        Resize(SIZE, "squash")
