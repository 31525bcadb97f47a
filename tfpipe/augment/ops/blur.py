"""Blurs of a neighbourhood: along a line, and the median.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8. The edge is repeated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import tensorflow as tf

from tfpipe.augment.ops.levels import computed_first, loop_zero, to_levels
from tfpipe.tf_internals import dynamic_slice

# Pixels along the line of motion_blur at most; each costs a read for every element.
MOST_TAPS = 15
REACH = MOST_TAPS // 2
# The window's part of a column, so many pixels to the right.
Beside = Callable[[tf.Tensor, int], tf.Tensor]
# Pairs to compare and exchange, after which five values are sorted.
SORTING_FIVE = ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2))


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
    """Medians by least and greatest alone, of vectors of bytes; columns are sorted once for all that share them."""
    height, width, channels = images.shape[-3:]
    frame = computed_first(lambda: framed(images, reach))
    neighbours = [frame[..., down : down + height, :] for down in range(2 * reach + 1)]

    def beside(column: tf.Tensor, right: int) -> tf.Tensor:
        return column[..., right * channels : (right + width) * channels]

    median = _of_nine(neighbours, beside) if reach == 1 else _of_twenty_five(neighbours, beside, channels)
    return tf.reshape(median, tf.shape(images))


def _of_nine(neighbours: list[tf.Tensor], beside: Beside) -> tf.Tensor:
    """The median of the greatest of the least, the median of the middle ones, and the least of the greatest."""
    first, second, third = neighbours
    low, high = tf.minimum(first, second), tf.maximum(first, second)
    columns = [tf.minimum(low, third), tf.maximum(low, tf.minimum(high, third)), tf.maximum(high, third)]
    least, middle, greatest = ([beside(column, right) for right in range(3)] for column in columns)
    return _of_three(functools.reduce(tf.maximum, least), _of_three(*middle), functools.reduce(tf.minimum, greatest))


def _of_three(first: tf.Tensor, second: tf.Tensor, third: tf.Tensor) -> tf.Tensor:
    low, high = tf.minimum(first, second), tf.maximum(first, second)
    return tf.maximum(low, tf.minimum(high, third))


def _of_twenty_five(neighbours: list[tf.Tensor], beside: Beside, channels: int) -> tf.Tensor:
    """Two columns are merged for two windows; of two such pairs the middle six, merged with the column between."""
    columns = list(neighbours)
    for one, other in SORTING_FIVE:
        low, high = tf.minimum(columns[one], columns[other]), tf.maximum(columns[one], columns[other])
        columns[one], columns[other] = low, high
    columns = [computed_first(functools.partial(tf.identity, column)) for column in columns]
    left, right = (
        [column[..., start:stop] for column in columns] for start, stop in ((0, -channels), (channels, None))
    )
    pairs = [computed_first(functools.partial(_of_merged, left, right, number)) for number in range(10)]
    before, behind = ([beside(pair, start) for pair in pairs] for start in (0, 3))
    middle = [_of_merged(before, behind, number) for number in range(7, 13)]
    return _of_merged(middle, [beside(column, 2) for column in columns], 5)


def _of_merged(one: list[tf.Tensor], other: list[tf.Tensor], number: int) -> tf.Tensor:
    """The value with that number, from 0, of two sorted lists together.

    It is the least, over all ways to take number + 1 from their beginnings, of the greatest that is taken.
    """
    ways = []
    for taken in range(max(0, number + 1 - len(other)), min(number + 1, len(one)) + 1):
        last = [part[count - 1] for part, count in ((one, taken), (other, number + 1 - taken)) if count]
        ways.append(functools.reduce(tf.maximum, last))
    return functools.reduce(tf.minimum, ways)
