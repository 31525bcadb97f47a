"""Image files to pixels, and back to smaller files, while converting: one compiled call per image or batch.

Called one by one, the dozen operations of an image held Python's lock between them: two threads did 1.2 times the work
of one. Compiled, an image of 224 x 224 takes 2.2 ms instead of 3.7, and the lock is held for a twentieth of it. There
is a function for each kind of file and each way of resizing, compiled when it first occurs; it takes images of any
size. How an image gets its size is one for converter and reader: tfpipe.images.fit.

    pixels = decode_pixels(data, probe(data), (224, 224), "pad")
    batch = decode_batch([(data, probe(data)), ...], (224, 224), "pad")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tfpipe.images.probe import ImageHeader

# The names of graph operations in a message, which change from run to run.
_GRAPH_NAMES = re.compile(r"\s*\[\[.*|\s*\[Op:.*|\{\{.*?\}\}\s*", re.DOTALL)


def decode_pixels(data: bytes, header: ImageHeader, size: tuple[int, int] | None, resize: str) -> np.ndarray:
    """The pixels of an image file: decoded exactly, turned upright, resized with antialiasing.

    Args:
      data: the file.
      header: its header, from probe.
      size: (height, width) to fit it to; None keeps its own.
      resize: how; see tfpipe.images.fit.Resize.

    Returns:
      uint8 [H, W, 3], read-only.

    Raises:
      InvalidArgumentError: the decoder rejects the file.
    """
    fitted = None if size == header.upright_size else size
    pixels = _decoder(header.format == "jpeg", header.orientation > 1, fitted, resize)(data, header.orientation)
    return np.asarray(memoryview(pixels))


def decode_batch(
    files: Sequence[tuple[bytes, ImageHeader]], size: tuple[int, int], resize: str
) -> list[np.ndarray | Exception]:
    """The pixels of several files, all of one size; see decode_pixels.

    Files of one kind share a call, which saves a sixth of the time and leaves Python's lock alone for all of it.

    Returns:
      For each file its pixels, or the error of the decoder that rejected it.
    """
    groups: dict[tuple[bool, bool], list[int]] = {}
    for position, (_, header) in enumerate(files):
        groups.setdefault((header.format == "jpeg", header.orientation > 1), []).append(position)
    found: dict[int, np.ndarray | Exception] = {}
    for (jpeg, turned), positions in groups.items():
        some = [files[position] for position in positions]
        decode = _batch_decoder(jpeg, turned, size, resize)
        try:
            pixels = decode([data for data, _ in some], [header.orientation for _, header in some])
            found |= zip(positions, np.asarray(memoryview(pixels)), strict=True)
        except Exception:  # One file failed; decoding them individually shows which.
            found |= {position: _pixels_or_error(*files[position], size, resize) for position in positions}
    return [found[position] for position in range(len(files))]


def _pixels_or_error(data: bytes, header: ImageHeader, size: tuple[int, int], resize: str) -> np.ndarray | Exception:
    try:
        return decode_pixels(data, header, size, resize)
    except Exception as error:
        return error


def encode_smaller(data: bytes, header: ImageHeader, size: tuple[int, int], quality: int) -> bytes:
    """The image as a JPEG of another size; see decode_pixels.

    Args:
      data: the file.
      header: its header, from probe.
      size: (height, width) to stretch it to.
      quality: of the JPEG, 1 to 100.
    """
    shrinks = size != header.upright_size
    encode = _encoder(header.format == "jpeg", header.orientation > 1, shrinks, quality)
    return encode(data, header.orientation, size).numpy()


def decoder_sentence(error: Exception) -> str:
    """The message of TensorFlow's decoder, without the names of its graph."""
    said = _GRAPH_NAMES.sub("", str(getattr(error, "message", error))).strip()
    # The last line: those before it are the lines of Python that built the graph.
    return (said.splitlines() or ["it gives no reason"])[-1].rstrip(".")


@lru_cache(maxsize=64)
def _decoder(jpeg: bool, turned: bool, size: tuple[int, int] | None, resize: str) -> Callable[..., Any]:
    """A compiled function from a file and its EXIF orientation to its pixels."""
    import tensorflow as tf

    return _compile(_decode_one(jpeg, turned, size, resize), tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64))


@lru_cache(maxsize=64)
def _batch_decoder(jpeg: bool, turned: bool, size: tuple[int, int], resize: str) -> Callable[..., Any]:
    """A compiled function from files and their EXIF orientations to their pixels; it decodes them sequentially."""
    import tensorflow as tf

    decode_one = _decode_one(jpeg, turned, size, resize)

    def decode(data: tf.Tensor, orientations: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec((*size, 3), tf.uint8)
        # One at a time: the threads of a job are those that call this.
        return tf.map_fn(
            lambda file: decode_one(*file), (data, orientations), fn_output_signature=spec, parallel_iterations=1
        )

    return _compile(decode, tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64))


def _decode_one(jpeg: bool, turned: bool, size: tuple[int, int] | None, resize: str) -> Callable[[Any, Any], Any]:
    """A function from a file and its EXIF orientation, as tensors, to its pixels."""
    import tensorflow as tf

    from tfpipe.images.decode import decode_upright
    from tfpipe.images.fit import Resize

    def decode(data: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        turn = orientation if turned else None
        if size is None:
            return decode_upright(data, jpeg_only=jpeg, orientation=turn, exact=True)
        return Resize(size, resize, antialias=True).decode(data, jpeg_only=jpeg, orientation=turn)

    return decode


@lru_cache(maxsize=64)
def _encoder(jpeg: bool, turned: bool, shrinks: bool, quality: int) -> Callable[..., Any]:
    """A compiled function from a file, its EXIF orientation and a size to a JPEG of that size."""
    import tensorflow as tf

    from tfpipe.images.decode import encode_stretched

    def encode(data: tf.Tensor, orientation: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return encode_stretched(
            data,
            jpeg_only=jpeg,
            orientation=orientation if turned else None,
            size=size if shrinks else None,
            quality=quality,
        )

    return _compile(encode, tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.int32))


def _compile(function: Callable[..., Any], *specs: Any) -> Callable[..., Any]:
    import tensorflow as tf

    def on_cpu(*tensors: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU:0"):
            return function(*tensors)

    concrete = tf.function(on_cpu, autograph=False).get_concrete_function(*specs)
    dtypes = [spec.dtype for spec in specs]

    def call(*values: Any) -> tf.Tensor:
        with tf.device("CPU:0"):
            return concrete(*[tf.constant(value, dtype) for value, dtype in zip(values, dtypes, strict=True)])

    return call
