"""Blurs of a neighbourhood: along a line, and the median.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8. The edge is repeated.
"""

from __future__ import annotations

import math

import tensorflow as tf

# Pixels along the line of motion_blur at most; each costs a read for every element.
MOST_TAPS = 15


def motion_blur(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The mean of floor(values[0]) pixels, made odd and at most 15, on a line at values[1] degrees through each pixel.

    The pixels are the nearest to whole steps along the line; a mean is rounded half up.
    """
    height, width, channels = images.shape[-3:]
    reach = tf.cast(tf.clip_by_value(values[..., 0], 0.0, float(MOST_TAPS)), tf.int32) // 2
    angle = tf.cast(values[..., 1], tf.float64) * (math.pi / 180)
    # To 2 ** -20, so that the half steps of 30 degrees are halves whatever the last bit of a sine is.
    along_x, along_y = (tf.round(part * 2.0**20) / 2.0**20 for part in (tf.cos(angle), -tf.sin(angle)))
    rows, columns = tf.range(height)[:, None], tf.range(width)
    flat = tf.reshape(images, [-1, channels])
    lead = len(images.shape) - 3
    start = tf.range(tf.shape(images)[0])[:, None, None] * (height * width) if lead else tf.zeros([1, 1], tf.int32)
    total = tf.zeros_like(images, tf.int32)
    for tap in range(-(MOST_TAPS // 2), MOST_TAPS // 2 + 1):
        x, y = (tf.cast(tf.floor(tap * part + 0.5), tf.int32)[..., None, None] for part in (along_x, along_y))
        place = tf.clip_by_value(rows + y, 0, height - 1) * width + tf.clip_by_value(columns + x, 0, width - 1)
        counted = (abs(tap) <= reach)[..., None, None, None]
        total += tf.where(counted, tf.cast(tf.gather(flat, place + start), tf.int32), 0)
    taps = (2 * reach + 1)[..., None, None, None]
    return tf.cast(tf.clip_by_value((2 * total + taps) // (2 * taps), 0, 255), tf.uint8)


def median_blur(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The median of the 3 x 3 pixels about each where round(values[0]) is 1, of 5 x 5 where it is 2; 0 is no change."""
    reach = tf.cast(tf.round(tf.clip_by_value(values[..., 0], 0.0, 2.0)), tf.int32)[..., None, None, None]
    three, five = (_median(_windows(images, size)) for size in (3, 5))
    return tf.where(reach <= 0, images, tf.where(reach == 1, three, five))


def _windows(images: tf.Tensor, size: int) -> list[tf.Tensor]:
    """The size * size neighbours of each pixel."""
    height, width = images.shape[-3:-1]
    padded = images
    for _ in range(size // 2):
        # By one pixel at a time: "SYMMETRIC" then repeats the edge.
        margins = [[0, 0]] * (len(images.shape) - 3) + [[1, 1], [1, 1], [0, 0]]
        padded = tf.pad(padded, margins, mode="SYMMETRIC")
    return [padded[..., y : y + height, x : x + width, :] for y in range(size) for x in range(size)]


def _median(parts: list[tf.Tensor]) -> tf.Tensor:
    """The median of an odd number of tensors, element by element, by least and greatest alone.

    Of one more than half of them the least and the greatest can't be the median; they go, and another one comes.
    """
    count = len(parts) // 2 + 2
    kept, rest = parts[:count], parts[count:]
    while True:
        kept = _ends_last(kept)[:-2]
        if not rest:
            break
        kept.append(rest[0])
        rest = rest[1:]
    return kept[0]


def _ends_last(parts: list[tf.Tensor]) -> list[tf.Tensor]:
    """The same values, the least and the greatest last."""
    low, middle = parts[0], []
    for part in parts[1:]:
        low, other = tf.minimum(low, part), tf.maximum(low, part)
        middle.append(other)
    high, others = middle[0], []
    for part in middle[1:]:
        others.append(tf.minimum(high, part))
        high = tf.maximum(high, part)
    return [*others, low, high]
