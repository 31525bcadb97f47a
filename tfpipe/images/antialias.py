"""The compiled programs that resize uint8 images with antialiasing, as Pillow's bilinear reduction does.

    image = resize_antialiased(decoded, (224, 224), "pad")

Along each axis a pixel is a weighted sum of a few neighbours: a triangle as wide as the image shrinks. A compiled
program does both axes in 16-bit integers, with weights of 1/256 and a rounding in between: rows are summed as they are
stored in memory, the result is transposed, its rows are summed, and it is transposed back. So every sum runs over
contiguous bytes, 16 or more at once; gathering columns took five times as long.

A program has fixed shapes, and images have not: they are passed flat, followed by arbitrary bytes, and their size is
passed as numbers. There are two, for images of up to 9/4 and of up to 5 times the target, which differ in nothing else;
larger images go through TensorFlow's operation. Each is compiled once in a process, 0.9 and 1.3 seconds of CPU, in a
thread while the dataset is being made.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import tensorflow as tf

from tfpipe.images.decode import from_float, pad_or_crop, resized_geometry
from tfpipe.tf_internals import (
    dynamic_slice,
    dynamic_update_slice,
    inside_dataset_function,
    scale_with_antialias,
    uninitialized_bytes,
)

# The longest side that a program accepts, in units of the longer side of its target. An image of twice the target takes
# 0.7 and 1.4 ms in them, and 2.2 in TensorFlow's operation; one of 1,000 x 750 to 224 x 224 1.3 in the second, and 3.5.
_CAPACITIES = (9 / 4, 5)
# Images of fewer pixels a side take TensorFlow's operation less than the second program takes to be compiled.
_LEAST_LARGE = 512
# The decoder's own reductions, and how much they blur: a mean over r x r pixels has the variance (r * r - 1) / 12,
# counted in reduced pixels here, and a triangle of half-width h has h * h / 6.
RATIOS = (1, 2, 4, 8)
_BLURS = tuple(6 * (r * r - 1) / 12 / r**2 for r in RATIOS)
_ONE = 256  # A weight of 1.
# Weights are float64, and what would lie exactly between two is moved up: one processor fuses a product and a sum that
# another rounds twice, and both must come to the same weight.
_ASIDE = 2.0**-20
_MAKING = threading.Lock()


class DecodedImage(NamedTuple):
    """An image to be resized, and how its decoder has reduced and mirrored it.

    Attributes:
      pixels: uint8 [h, w, C].
      full_size: int32 [2], height and width before the decoder's reduction.
      ratio: int32 scalar; h = ceil(full height / ratio).
      mirrored: int32 [2], 1 where the axis was mirrored after the reduction: the pixel that rounding up added is then
        the first, not the last.
    """

    pixels: tf.Tensor
    full_size: tf.Tensor
    ratio: tf.Tensor
    mirrored: tf.Tensor


def resize_antialiased(
    image: DecodedImage, size: tuple[int, int], resize: str, *, longest: tuple[int, int] | None = None
) -> tf.Tensor:
    """The image in the size: by a compiled program if it is not too large, else by TensorFlow's operation.

    While a dataset is being made, the programs begin to be compiled: the first image waits for the rest only.

    Args:
      image: to be resized.
      size: (height, width).
      resize: "pad", "stretch" or "crop".
      longest: the longest sides of the images that come, at least and at most: no program for larger ones is made, and
        that of the smallest is compiled first. None: not known; then the first large image waits for its program.
    """
    channels, known = int(image.pixels.shape[-1]), image.pixels.shape[:2]
    side: tf.Tensor | int = tf.reduce_max(tf.shape(image.pixels)[:2])
    if known.is_fully_defined():
        side = max(known)
        longest = side, side
    capacities = _capacities(size, None if longest is None else longest[1])
    if inside_dataset_function():
        first, *later = capacities
        likely = (first,) if longest is None else (first, *later) if longest[0] <= first else (*later, first)
        _start_once((size[0], size[1]), resize, channels, likely)

    def resized(capacities: Sequence[int]) -> tf.Tensor:
        if not capacities:
            return _resize_beyond(image, size, resize)
        capacity, *larger = capacities
        program = _program((size[0], size[1]), resize, capacity, channels)
        if isinstance(side, int):
            # TensorFlow would refuse to trace the branch that is never taken.
            return _run(program, image, capacity) if side <= capacity else resized(larger)
        return tf.cond(side <= capacity, lambda: _run(program, image, capacity), lambda: resized(larger))

    return tf.ensure_shape(resized(capacities), [*size, channels])


def start_compiling(
    size: tuple[int, int], resize: str, *, channels: int = 3, capacities: Sequence[int] | None = None
) -> threading.Thread:
    """Compiles programs, one after the other, in a thread; who needs one first waits for the rest of it.

    Args:
      size: (height, width).
      resize: "pad", "stretch" or "crop".
      channels: of the images.
      capacities: the longest side of the images of each program; None: the smallest program.

    Returns:
      The thread. The interpreter waits for it at exit: TensorFlow must not compile while it is torn down.
    """
    capacities = _capacities(size, None)[:1] if capacities is None else capacities

    def compile_programs() -> None:
        numbers = [*size, *size, 0, 0, 1]
        for capacity in capacities:
            program = _program((size[0], size[1]), resize, capacity, channels)
            with tf.device("CPU:0"):
                # By a dataset: what a call outside of one has compiled, datasets compile again.
                blank = tf.data.Dataset.from_tensors(tf.zeros([_flat_bytes(capacity, channels)], tf.uint8))
                next(iter(blank.map(lambda flat, run=program: run(flat, tf.constant(numbers)))))

    thread = threading.Thread(target=compile_programs, name="tfpipe-compile")
    thread.start()
    return thread


@cache
def _start_once(size: tuple[int, int], resize: str, channels: int, capacities: tuple[int, ...]) -> threading.Thread:
    return start_compiling(size, resize, channels=channels, capacities=capacities)


def _capacities(size: tuple[int, int], longest: int | None) -> list[int]:
    """The longest sides that programs accept: one, or two where images of up to `longest` pixels a side take both."""
    small, large = (math.ceil(max(size) * times) for times in _CAPACITIES)
    return [small, large] if large >= _LEAST_LARGE and (longest is None or longest > small) else [small]


def _resize_beyond(image: DecodedImage, size: tuple[int, int], resize: str) -> tf.Tensor:
    """As resize_image with antialias; of an image that its decoder has reduced, the scale is that of the full one."""
    inner, _ = resized_geometry(image.full_size, size, resize=resize)
    extent = tf.cast(image.full_size, tf.float32) / tf.cast(image.ratio, tf.float32)
    scale = tf.cast(inner, tf.float32) / extent
    added = (tf.cast(tf.shape(image.pixels)[:2], tf.float32) - extent) * tf.cast(image.mirrored, tf.float32)
    values = scale_with_antialias(image.pixels, inner, scale, -added * scale)
    return pad_or_crop(from_float(values, tf.uint8), size, resize)


def _run(program: Callable[..., tf.Tensor], image: DecodedImage, capacity: int) -> tf.Tensor:
    flat = tf.reshape(image.pixels, [-1])
    room = _flat_bytes(capacity, image.pixels.shape[-1])
    # The bytes behind the image have a weight of 0; filling them with zeros would cost 2 % of the whole.
    padded = tf.concat([flat, uninitialized_bytes(tf.maximum(room - tf.size(flat), 0))], 0)
    numbers = tf.concat([tf.shape(image.pixels)[:2], image.full_size, image.mirrored, image.ratio[None]], 0)
    return program(tf.reshape(padded, [room]), numbers)


def _flat_bytes(capacity: int, channels: int) -> int:
    """The bytes of an image of full capacity and one more row: every row is read at the program's full width."""
    return (capacity + 1) * capacity * channels


def _program(size: tuple[int, int], resize: str, capacity: int, channels: int) -> Callable[..., tf.Tensor]:
    """The one program of these settings: a thread that compiles it and a dataset that is being made share it."""
    with _MAKING:
        return _make_program(size, resize, capacity, channels)


@cache
def _make_program(size: tuple[int, int], resize: str, capacity: int, channels: int) -> Callable[..., tf.Tensor]:
    """The compiled function from (flat pixels, numbers) to uint8 [height, width, C]."""
    height, width = size
    # One more than the capacity needs: rounding down the shorter side of a long strip makes its scale larger.
    taps = math.ceil(2 * capacity / min(size)) + 1

    def resize_flat(flat: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        pixels, full_size, mirrored, ratio = numbers[:2], numbers[2:4], numbers[4:6], numbers[6]
        inner, offset = resized_geometry(full_size, size, resize=resize)
        rows, columns = (
            _taps(_Axis(pixels[i], full_size[i], mirrored[i], ratio, inner[i], offset[i]), length, taps)
            for i, length in enumerate(size)
        )
        stride = pixels[1] * channels

        def source_row(row: tf.Tensor) -> tf.Tensor:
            return dynamic_slice(flat, (row * stride)[None], [capacity * channels])

        short = _sum_lines(rows, source_row, [height, capacity * channels])
        side = tf.transpose(short)

        def source_column(column: tf.Tensor) -> tf.Tensor:
            start = tf.stack([column * channels, tf.constant(0)])
            return tf.reshape(dynamic_slice(side, start, [channels, height]), [-1])

        done = _sum_lines(columns, source_column, [width, channels * height])
        return tf.reshape(tf.transpose(tf.reshape(done, [width * channels, height])), [height, width, channels])

    specs = [tf.TensorSpec([_flat_bytes(capacity, channels)], tf.uint8), tf.TensorSpec([7], tf.int32)]
    return tf.function(resize_flat, input_signature=specs, jit_compile=True, autograph=False)


class _Taps(NamedTuple):
    """The source pixels that each pixel sums: the first, int32 [n], and the weights from it on, uint16 [n, taps]."""

    first: tf.Tensor
    weights: tf.Tensor


class _Axis(NamedTuple):
    """An axis of an image, int32 scalars.

    Attributes:
      pixels: of the decoded image.
      full: pixels before the decoder's reduction.
      mirrored: 1 where the axis was mirrored after that, or 0.
      ratio: of that reduction.
      inner: pixels of the whole image after resizing.
      offset: the target's pixel where it begins; negative where it is cut.
    """

    pixels: tf.Tensor
    full: tf.Tensor
    mirrored: tf.Tensor
    ratio: tf.Tensor
    inner: tf.Tensor
    offset: tf.Tensor


def _taps(axis: _Axis, length: int, taps: int) -> _Taps:
    """The weights of every pixel along an axis; all 0 on a black border."""
    position = tf.range(length) - axis.offset
    wide = tf.float64
    # The last pixel of a reduced image may cover less than `ratio` pixels: the scale is that of the full image.
    extent = tf.cast(axis.full, wide) / tf.cast(axis.ratio, wide)
    scale = extent / tf.cast(axis.inner, wide)
    blur = tf.gather(tf.constant(_BLURS, wide), tf.reduce_sum(tf.cast(axis.ratio > tf.constant(RATIOS), tf.int32)))
    half = tf.clip_by_value(tf.sqrt(tf.maximum(scale * scale - blur, 1.0)), 1.0, taps / 2)
    begin = (tf.cast(axis.pixels, wide) - extent) * tf.cast(axis.mirrored, wide)
    centre = begin + (tf.cast(position, wide) + 0.5) * scale
    first = tf.cast(tf.floor(centre - half + 0.5), tf.int32)
    first = tf.clip_by_value(first, 0, tf.maximum(axis.pixels - taps, 0))
    source = first[:, None] + tf.range(taps)
    weights = tf.nn.relu(1 - tf.abs(tf.cast(source, wide) + 0.5 - centre[:, None]) / half)
    weights = tf.where(source < axis.pixels, weights, tf.zeros([], wide))
    inside = (position >= 0) & (position < axis.inner)
    return _Taps(first, tf.where(inside[:, None], _quantize(weights), tf.constant(0, tf.uint16)))


def _quantize(weights: tf.Tensor) -> tf.Tensor:
    """Weights [n, taps] as uint16 whose rows sum to 256: the largest one absorbs the rounding errors."""
    exact = weights / tf.reduce_sum(weights, 1, keepdims=True)
    rounded = tf.floor(exact * _ONE + 0.5 + _ASIDE)
    missing = _ONE - tf.reduce_sum(rounded, 1, keepdims=True)
    largest = tf.one_hot(tf.argmax(tf.floor(exact / _ASIDE + 0.25), 1), weights.shape[1], dtype=tf.float64)
    return tf.cast(rounded + missing * largest, tf.uint16)


def _sum_lines(taps: _Taps, line_of: Callable[[tf.Tensor], tf.Tensor], shape: list[int]) -> tf.Tensor:
    """Weighted sums of source lines: uint8 [n, length of a line], rounded half up."""

    def one(i: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        total = tf.constant(_ONE // 2, tf.uint16)
        for k in range(taps.weights.shape[1]):
            line = tf.cast(line_of(tf.gather(taps.first, i) + k), tf.uint16)
            total += line * tf.gather(taps.weights[:, k], i)
        values = tf.cast(tf.bitwise.right_shift(total, tf.constant(8, tf.uint16)), tf.uint8)
        return i + 1, dynamic_update_slice(done, values[None], tf.stack([i, 0]))

    count = shape[0]
    start = [tf.constant(0), tf.zeros(shape, tf.uint8)]
    return tf.while_loop(lambda i, _: i < count, one, start, maximum_iterations=count)[1]
