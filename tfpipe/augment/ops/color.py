"""Color ops: each pixel individually, its channels together.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8. With one channel they
change nothing.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import blend, luma, per_image, to_levels, unfused

# Rows turn RGB into luma and two axes of chroma (NTSC's YIQ).
YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def color(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The distance to gray times the factor, as Pillow's Color enhancer: 0 gray, 1 unchanged."""
    gray = tf.cast(luma(images), tf.float32)[..., None]
    return blend(gray, tf.cast(images, tf.float32), per_image(values[..., 0]))


def saturation(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """As color, rounded to the nearest level where Pillow truncates."""
    gray = tf.cast(luma(images), tf.float32)[..., None]
    factor = per_image(values[..., 0])
    return to_levels(gray + unfused(factor * (tf.cast(images, tf.float32) - gray), factor) + 0.5)


def grayscale(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Pillow's L in every channel."""
    return tf.broadcast_to(tf.cast(luma(images), tf.uint8)[..., None], tf.shape(images))


def hue(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Rotates the colors by the value in degrees about the gray axis of YIQ; the luma stays, but for rounding."""
    if images.shape[-1] == 1:
        return images
    # Whole weights, 2 ** 16 to 1: sums of them are exact in any order, so both forms give the same levels.
    weights = tf.cast(tf.round(_hue_matrix(values[..., 0]) * 65536.0), tf.int32)
    levels = tf.cast(images, tf.int32)
    channels = []
    for row in range(3):
        terms = [weights[..., row, column, None, None] * levels[..., column] for column in range(3)]
        channels.append(tf.bitwise.right_shift(terms[0] + terms[1] + terms[2] + 32768, 16))
    return tf.cast(tf.clip_by_value(tf.stack(channels, axis=-1), 0, 255), tf.uint8)


def _hue_matrix(degrees: tf.Tensor) -> tf.Tensor:
    """RGB to RGB through YIQ, turned: float64 [..., 3, 3]."""
    angle = tf.cast(degrees, tf.float64) * (math.pi / 180)
    cos, sin = tf.cos(angle)[..., None, None], tf.sin(angle)[..., None, None]
    forth = np.array(YIQ)
    back = np.linalg.inv(forth)
    luma, chroma, cross = (back @ np.array(middle) @ forth for middle in (_LUMA, _CHROMA, _CROSS))
    return luma + cos * chroma + sin * cross


_LUMA = ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
_CHROMA = ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_CROSS = ((0.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
