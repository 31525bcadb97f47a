"""Blurs of a neighbourhood: along a line, and the median.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8. The edge is repeated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import tensorflow as tf

from tfpipe.augment.ops.levels import computed_first, loop_zero, to_levels
from tfpipe.tf_internals import dynamic_slice

# Pixels along the line of motion_blur at most; each costs a read for every element.
MOST_TAPS = 15
REACH = MOST_TAPS // 2


def framed(images: tf.Tensor, margin: int) -> tf.Tensor:
    """Images with so many pixels of their edges around them, in rows: [..., H + 2 margin, (W + 2 margin) * C].

    Rows, since over an innermost axis of three channels there is nothing for vector units.
    """
    height, width, channels = images.shape[-3:]

    def with_ends(tensor: tf.Tensor, axis: int) -> tf.Tensor:
        size = tensor.shape[axis]
        first, last = (tf.repeat(tf.gather(tensor, [end], axis=axis), margin, axis=axis) for end in (0, size - 1))
        return tf.concat([first, tensor, last], axis=axis)

    lead = len(images.shape) - 3
    wide = with_ends(images, lead + 1)
    shape = tf.concat([tf.shape(images)[:lead], [height, (width + 2 * margin) * channels]], 0)
    return with_ends(tf.reshape(wide, shape), lead)


def motion_blur(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The mean of floor(values[0]) pixels, made odd and at most 15, on a line at values[1] degrees through each pixel.

    The pixels are the nearest to whole steps along the line; a mean is rounded half up.
    """
    height, width, channels = images.shape[-3:]
    reach = tf.cast(tf.floor(tf.clip_by_value(values[..., 0], 0.0, float(MOST_TAPS)) / 2), tf.int32)
    frame = computed_first(lambda: framed(images, REACH))
    steps = computed_first(lambda: _steps(reach, values[..., 1]))
    # Sums in 16 bits: 15 * 255. What is beyond the reach is the pixel itself, and is taken away again.
    middle = tf.cast(frame[..., REACH : REACH + height, REACH * channels : (REACH + width) * channels], tf.int16)
    taps = (2 * reach + 1)[..., None, None]
    total = -middle * tf.cast(MOST_TAPS - taps, tf.int16)
    for tap in range(MOST_TAPS):
        total += tf.cast(_window(frame, steps[..., tap, :], (height, width, channels)), tf.int16)
    # A half more than what is whole, so that no rounding of the quotient reaches the next level.
    twice = tf.cast(2 * tf.cast(total, tf.int32) + taps, tf.float32) + 0.5
    return tf.reshape(to_levels(twice * (1.0 / tf.cast(2 * taps, tf.float32))), tf.shape(images))


def _steps(reach: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Int32 [..., 15, 2]: the pixels along the line, down and across; no step beyond the reach."""
    angle = tf.cast(degrees, tf.float64) * (math.pi / 180)
    # To 2 ** -20, so that the half steps of 30 degrees are halves whatever the last bit of a sine is.
    along = [tf.round(part * 2.0**20) / 2.0**20 for part in (-tf.sin(angle), tf.cos(angle))]
    number = tf.range(-REACH, REACH + 1)
    steps = [tf.floor(part[..., None] * tf.cast(number, tf.float64) + 0.5) for part in along]
    counted = tf.abs(number) <= reach[..., None]
    return tf.cast(tf.where(counted[..., None], tf.stack(steps, axis=-1), 0.0), tf.int32)


def _window(frame: tf.Tensor, step: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """The rows [..., H, W * C] at a step [..., 2] from the middle of a frame."""
    height, width, channels = shape
    start = (step + REACH) * tf.constant([1, channels])
    if loop_zero() is not None:
        return dynamic_slice(frame, start, [height, width * channels])
    rows, columns = start[..., :1] + tf.range(height), start[..., 1:] + tf.range(width * channels)
    lead = len(frame.shape) - 2
    return tf.gather(tf.gather(frame, rows, axis=-2, batch_dims=lead), columns, axis=-1, batch_dims=lead)


def median_blur(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The median of the 3 x 3 pixels about each where round(values[0]) is 1, of 5 x 5 where it is 2; 0 is no change."""
    reach = tf.cast(tf.round(tf.clip_by_value(values[..., 0], 0.0, 2.0)), tf.int32)
    if len(images.shape) == 3:
        medians = [functools.partial(_median, images, reach=size) for size in (1, 2)]
        return tf.switch_case(reach, [lambda: images, *medians])
    reach = reach[..., None, None, None]
    return tf.where(reach <= 0, images, tf.where(reach == 1, _median(images, reach=1), _median(images, reach=2)))


def _median(images: tf.Tensor, *, reach: int) -> tf.Tensor:
    """Medians by least and greatest alone, of vectors of bytes; a column is sorted once for all its windows.

    All of it over the frame as one row, whose margins get medians of no use: a row of an image is seldom a multiple of
    a vector, and what is left of each would go byte by byte through the whole network.
    """
    height, width, channels = images.shape[-3:]
    lead, row, beyond = tf.shape(images)[:-3], (width + 2 * reach) * channels, 2 * reach * channels
    number = height * row

    def frame() -> tf.Tensor:
        rows = framed(images, reach)
        # One row more, since the last window of the last row ends behind the frame.
        return tf.concat([rows, rows[..., -1:, :]], axis=-2)

    flat = tf.reshape(computed_first(frame), tf.concat([lead, [(height + 2 * reach + 1) * row]], 0))
    neighbours = [flat[..., down * row : down * row + number + beyond] for down in range(2 * reach + 1)]
    columns = _sorted(neighbours)
    if reach == 2:  # Columns of three are sorted faster than read: 35 us an image at 224, not 72.
        columns = [computed_first(functools.partial(tf.identity, column)) for column in columns]
    windows = [[column[..., right : right + number] for column in columns] for right in range(0, beyond + 1, channels)]
    median = computed_first(functools.partial(_of_nine if reach == 1 else _of_twenty_five, windows))
    # By rows, and first: pixels would be copied byte by byte.
    shape = tf.concat([lead, [height, row]], 0)
    return tf.reshape(computed_first(lambda: tf.reshape(median, shape)[..., : width * channels]), tf.shape(images))


def _of_nine(columns: list[list[tf.Tensor]]) -> tf.Tensor:
    """The median of the greatest of the least, the median of the middle ones, and the least of the greatest."""
    least, middle, greatest = zip(*columns, strict=True)
    return _sorted([functools.reduce(tf.maximum, least), _sorted(middle)[1], functools.reduce(tf.minimum, greatest)])[1]


def _of_twenty_five(columns: list[list[tf.Tensor]]) -> tf.Tensor:
    """Of four columns of the five the middle six of twenty, merged with the one that is left."""
    first, second, third, fourth, fifth = columns
    middle = _merged(_merged(first, second), _merged(fourth, fifth))[7:13]
    return _merged(middle, third)[5]


def _sorted(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    half = len(values) // 2
    return _merged(_sorted(values[:half]), _sorted(values[half:])) if half else list(values)


def _merged(one: list[tf.Tensor], other: list[tf.Tensor]) -> list[tf.Tensor]:
    """Two sorted lists as one, by Batcher's odd-even network; what nothing reads of it, a compiler leaves out."""
    if not one or not other:
        return one + other
    if len(one) == len(other) == 1:
        return [tf.minimum(one[0], other[0]), tf.maximum(one[0], other[0])]
    even, odd = _merged(one[::2], other[::2]), _merged(one[1::2], other[1::2])
    pairs = list(zip(even[1:], odd, strict=False))
    ordered = [end(pair[0], pair[1]) for pair in pairs for end in (tf.minimum, tf.maximum)]
    return [even[0], *ordered, *even[1 + len(pairs) :], *odd[len(pairs) :]]
