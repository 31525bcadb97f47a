"""Compiled decoding equals the eager functions, for every kind of file, orientation and way of resizing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from pictures import KINDS, file_bytes, photo, turned

from beam_jobs.encode.pixels import decode_batch, decode_pixels, decoder_sentence, encode_smaller
from tfpipe.images.decode import RESIZES, decode_file, resize_image, turn_upright
from tfpipe.images.fit import Resize
from tfpipe.images.probe import probe

# Smaller and larger than the photos, of their size, and one that "pad" fills in one direction.
SIZES = [None, (20, 20), (64, 50), probe(KINDS[".png"](1)).upright_size, (30, 200)]


def eager_pixels(data: bytes, size: tuple[int, int] | None, resize: str) -> np.ndarray:
    header = probe(data)
    pixels = decode_file(data, jpeg_only=header.format == "jpeg", exact=True)
    if header.orientation > 1:
        pixels = turn_upright(pixels, tf.constant(header.orientation, tf.int64))
    return (pixels if size is None else Resize(size, resize, antialias=True).resize(pixels)).numpy()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("ending", KINDS)
def test_pixels_are_those_of_the_eager_functions(ending: str, resize: str, size: tuple[int, int] | None) -> None:
    for number in (1, 2):
        data = KINDS[ending](number)
        np.testing.assert_array_equal(decode_pixels(data, probe(data), size, resize), eager_pixels(data, size, resize))


@pytest.mark.parametrize("size", [size for size in SIZES if size], ids=str)
@pytest.mark.parametrize("resize", RESIZES)
def test_a_batch_holds_what_its_files_hold_alone(resize: str, size: tuple[int, int]) -> None:
    files = [make(number) for number in (1, 2) for make in KINDS.values()]
    for data, pixels in zip(files, decode_batch([(data, probe(data)) for data in files], size, resize), strict=True):
        np.testing.assert_array_equal(pixels, eager_pixels(data, size, resize))


def test_a_file_that_can_t_be_decoded_costs_a_batch_no_other() -> None:
    files = [file_bytes(photo(number), "PNG") for number in range(4)]
    headers = [probe(data) for data in files]
    files[2] = files[2][:60] + bytes(40) + files[2][100:]
    found = decode_batch(list(zip(files, headers, strict=True)), (20, 20), "pad")
    assert [isinstance(pixels, np.ndarray) for pixels in found] == [True, True, False, True]
    assert isinstance(found[2], tf.errors.InvalidArgumentError)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_comes_out_upright(orientation: int) -> None:
    data = turned(3, orientation)
    for size in (None, (20, 33)):
        np.testing.assert_array_equal(decode_pixels(data, probe(data), size, "pad"), eager_pixels(data, size, "pad"))


@pytest.mark.parametrize("size", [(10, 12), (200, 100), None])
def test_a_smaller_file_is_that_of_the_eager_functions(size: tuple[int, int] | None) -> None:
    data = turned(4, 6)
    size = size or probe(data).upright_size
    pixels = resize_image(tf.constant(eager_pixels(data, None, "")), size, resize="stretch", antialias=True)
    eager = tf.io.encode_jpeg(pixels, quality=80, optimize_size=True).numpy()
    assert encode_smaller(data, probe(data), size, 80) == eager


def test_what_the_decoder_says_comes_without_the_names_of_a_graph() -> None:
    data = file_bytes(photo(1), "PNG")
    broken = data[:60] + bytes(40) + data[100:]
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        decode_pixels(broken, probe(data), None, "pad")
    sentence = decoder_sentence(raised.value)
    assert "PNG" in sentence
    assert "node" not in sentence
    assert "Op:" not in sentence
    assert not sentence.endswith(".")
    assert decoder_sentence(ValueError()) == "it gives no reason"
