"""Warps: each output pixel comes from one point of the input, by an affine map per image.

A builder turns values into Pillow's six AFFINE coefficients (a, b, c, d, e, f): the output pixel (x, y) takes its
value from (a x + b y + c, d x + e y + f), both in pixels, pixel centres at .5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfpipe.augment.ops.op import Op


def rotate(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Turns about the centre, counter-clockwise, as Pillow's Image.rotate; the value is in degrees."""
    angle = -_value(values) * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = height / 2, width / 2
    return _coefficients(values, cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def shear_x(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Shifts row y by value * y pixels: Image.transform(AFFINE, (1, v, 0, 0, 1, 0))."""
    return _coefficients(values, 1.0, _value(values), 0.0, 0.0, 1.0, 0.0)


def shear_y(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Shifts column x by value * x pixels: Image.transform(AFFINE, (1, 0, 0, v, 1, 0))."""
    return _coefficients(values, 1.0, 0.0, 0.0, _value(values), 1.0, 0.0)


def translate_x(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Takes each pixel from `value` pixels to the right."""
    return _coefficients(values, 1.0, 0.0, _value(values), 0.0, 1.0, 0.0)


def translate_y(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Takes each pixel from `value` pixels below."""
    return _coefficients(values, 1.0, 0.0, 0.0, 0.0, 1.0, _value(values))


def crop(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Cuts a window of the image's own size, `values[0]` pixels down and `values[1]` right; outside is fill."""
    return _coefficients(values, 1.0, 0.0, _value(values, 1), 0.0, 1.0, _value(values))


def zoom(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Enlarges by the factor values[0] (below 1 it shrinks) about (values[1] height, values[2] width)."""
    scale = 1.0 / _value(values)
    y, x = _value(values, 1) * height, _value(values, 2) * width
    return _coefficients(values, scale, 0.0, x - scale * x, 0.0, scale, y - scale * y)


def resized_crop(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Stretches the window (top, left, height, width), in fractions of the image, to the whole image."""
    top, left = _value(values) * height, _value(values, 1) * width
    return _coefficients(values, _value(values, 3), 0.0, left, 0.0, _value(values, 2), top)


def flip_left_right(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Mirrors left and right."""
    return _coefficients(values, -1.0, 0.0, float(width), 0.0, 1.0, 0.0)


def flip_up_down(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Mirrors top and bottom."""
    return _coefficients(values, 1.0, 0.0, 0.0, 0.0, -1.0, float(height))


def _value(values: tf.Tensor, index: int = 0) -> tf.Tensor:
    return tf.cast(values[..., index], tf.float64)


def _coefficients(values: tf.Tensor, *coefficients: tf.Tensor | float) -> tf.Tensor:
    """Float64 [..., 6] of six coefficients, each a number or one per image."""
    zeros = tf.zeros_like(values[..., 0], tf.float64)
    return tf.stack([zeros + coefficient for coefficient in coefficients], axis=-1)


def chosen_coefficients(
    chosen: tf.Tensor, values: tf.Tensor, ops: Sequence[Op], height: int, width: int
) -> tuple[tf.Tensor, tf.Tensor | bool]:
    """Each image's coefficients by the op that was chosen for it; the unit map where that is no warp.

    Args:
      chosen: int32 [B], indices into ops.
      values: float32 [B, 4].

    Returns:
      Float64 [B, 6], and whether Pillow's scale path is taken: bool [B], or True where it always is.
    """
    coefficients = tf.constant([1, 0, 0, 0, 1, 0], tf.float64) + tf.zeros_like(values[:, :1], tf.float64)
    is_scale = tf.ones_like(chosen, tf.bool)
    for index, op in enumerate(ops):
        if op.family == "warp":
            is_chosen = tf.equal(chosen, index)
            coefficients = tf.where(is_chosen[:, None], op.build(values, height, width), coefficients)
            is_scale = tf.where(is_chosen, op.motion != "affine", is_scale)
    always = all(op.motion != "affine" for op in ops if op.family == "warp")
    return coefficients, True if always else is_scale
