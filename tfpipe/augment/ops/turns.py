"""Turns by right angles and the transpose: warps whose maps are whole numbers.

A batch has one size, so they are about the centre: of a square image nothing is lost, and of another one what does not
fit is cut off, with fill beside it.
"""

from __future__ import annotations

import tensorflow as tf

from tfpipe.augment.ops.levels import FARTHEST


def rotate90(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Turns by floor(values[0]) right angles, counter-clockwise, as numpy.rot90."""
    turns = tf.cast(tf.floor(tf.clip_by_value(values[..., 0], -FARTHEST, FARTHEST)), tf.int32) % 4
    cos = tf.gather(tf.constant([1.0, 0.0, -1.0, 0.0], tf.float64), turns)
    sin = tf.gather(tf.constant([0.0, 1.0, 0.0, -1.0], tf.float64), turns)
    return _about_centre(cos, -sin, sin, cos, height, width)


def transpose(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Changes rows for columns, as numpy's transpose of an image."""
    zeros = tf.zeros_like(values[..., 0], tf.float64)
    return _about_centre(zeros, zeros + 1, zeros + 1, zeros, height, width)


def _about_centre(a: tf.Tensor, b: tf.Tensor, d: tf.Tensor, e: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Coefficients [..., 6] of a map by whole numbers that keeps the centre, or is half a pixel beside it."""
    # Whole offsets: half a pixel would leave to rounding which pixel is meant.
    c = tf.floor(width / 2 * (1 - a) - height / 2 * b)
    f = tf.floor(height / 2 * (1 - e) - width / 2 * d)
    return tf.stack([a, b, c, d, e, f], axis=-1)
