"""Stencils: each pixel with its neighbours.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8. Sums are of whole
numbers, exact in any order, so that both forms give the same levels.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import blend, to_levels
from tfpipe.tf_internals import dot_general

Weights = tuple[tuple[float, ...], ...]

WEIGHT_BITS = 12
SAME: Weights = ((0, 0, 0), (0, 1, 0), (0, 0, 0))
LAPLACE: Weights = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
# imgaug's Sharpen is AROUND + lightness * SAME, its Emboss DIAGONAL + strength * SLOPE, each mixed with the image.
AROUND: Weights = ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))
DIAGONAL: Weights = ((-1, 0, 0), (0, 1, 0), (0, 0, 1))
SLOPE: Weights = ((-1, -1, 0), (-1, 0, 1), (0, 1, 1))


def sharpness(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The distance to the smoothed image times the factor, as Pillow's enhancer: 0 smooth, 1 unchanged.

    The outermost pixels stay as they are.
    """
    height, width, channels = images.shape[-3:]
    if height < 3 or width < 3:
        return images
    inside = sharp_inside(_rows(images), values[..., 0][..., None, None], channels)
    # Channels are framed like pixels, in rows of W * C.
    margins = [[0, 0]] * (len(images.shape) - 3) + [[1, 1], [channels, channels]]
    framed = tf.reshape(tf.pad(inside, margins), tf.shape(images))
    return tf.where(_is_inside(height, width), framed, images)


def sharp_inside(rows: tf.Tensor, factor: tf.Tensor, channels: int) -> tf.Tensor:
    """Sharpness of all but the outermost pixels: uint8 [..., H - 2, (W - 2) * C] of rows [..., H, W * C].

    Pillow's SMOOTH is (1 1 1; 1 5 1; 1 1 1) / 13, rounded half up; it is mixed with the image by the factor.
    """
    # Rows of W * C: a neighbour is C elements away, and the innermost axis is long enough for the vector units. All
    # sums fit in 16 bits: 2 * 13 * 255 + 13 = 6643.
    wide = tf.cast(rows, tf.uint16)
    down = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    around = down[..., : -2 * channels] + down[..., channels:-channels] + down[..., 2 * channels :]
    smooth = (2 * around + 8 * wide[..., 1:-1, channels:-channels] + 13) // 26
    middle = tf.cast(rows[..., 1:-1, channels:-channels], tf.float32)
    return blend(tf.cast(tf.cast(smooth, tf.int32), tf.float32), middle, factor)


def _is_inside(height: int, width: int) -> np.ndarray:
    """Bool [H, W, 1]: False along the border."""
    inside = np.zeros([height, width, 1], bool)
    inside[1:-1, 1:-1] = True
    return inside


def sharpen(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """(1 - alpha) image + alpha (8 + lightness) image - alpha (its 8 neighbours); values (alpha, lightness)."""
    alpha, lightness = values[..., 0], values[..., 1]
    return _round(_weigh(images, [(1 - alpha + alpha * lightness, SAME), (alpha, AROUND)]))


def emboss(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """(1 - alpha) image + alpha relief, lit from the lower right; values (alpha, strength of the relief)."""
    alpha, strength = values[..., 0], values[..., 1]
    return _round(_weigh(images, [(1 - alpha, SAME), (alpha, DIAGONAL), (alpha * strength, SLOPE)]))


def edges(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The Laplacian's size, clipped: 0 where the image is even."""
    return _round(tf.abs(_weigh(images, [(tf.ones_like(values[..., 0]), LAPLACE)])))


def gaussian_blur(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Convolved with a Gaussian; its sigma is the value in pixels, of any size. Weights beyond the border are dropped.

    Two products with a matrix of weights per image, so the cost does not depend on sigma.
    """
    height, width = images.shape[-3:-1]
    # Whole numbers below 2 ** 24 are exact in float32, in any order: 255 * 2 ** 16, then 8 * 255 * 2 ** 13.
    levels = tf.cast(_rows(images), tf.float32)
    down = _contract(gaussian_weights(values[..., 0], height, 2**16), levels)
    down = tf.reshape(tf.floor(down / 2**13 + 0.5), tf.shape(images))
    across = _contract(gaussian_weights(values[..., 0], width, 2**13), down)
    order = [*range(len(images.shape) - 3), *(len(images.shape) - back for back in (2, 3, 1))]
    return to_levels(tf.transpose(tf.floor(across / 2**16 + 0.5), order))


def _rows(images: tf.Tensor) -> tf.Tensor:
    """[..., H, W * C]."""
    height, width, channels = images.shape[-3:]
    return tf.reshape(images, tf.concat([tf.shape(images)[:-3], [height, width * channels]], 0))


def _weigh(images: tf.Tensor, parts: list[tuple[tf.Tensor, Weights]]) -> tf.Tensor:
    """Int32 sums of the nine neighbours, 2 ** 12 to 1; parts are a weight per image and a kernel. Edge repeated."""
    weights = sum(weight[..., None, None] * tf.constant(kernel, tf.float32) for weight, kernel in parts)
    # Beyond 64 a kernel saturates anyway; 9 * 64 * 2 ** 12 * 255 fits in int32.
    whole = tf.cast(tf.round(tf.clip_by_value(weights, -64.0, 64.0) * 2**WEIGHT_BITS), tf.int32)
    height, width = images.shape[-3:-1]
    margins = [[0, 0]] * (len(images.shape) - 3) + [[1, 1], [1, 1], [0, 0]]
    padded = tf.cast(tf.pad(images, margins, mode="SYMMETRIC"), tf.int32)
    total = tf.zeros_like(images, tf.int32)
    for down in range(3):
        for right in range(3):
            window = padded[..., down : down + height, right : right + width, :]
            total += whole[..., down, right, None, None, None] * window
    return total


def _round(total: tf.Tensor) -> tf.Tensor:
    """Sums of _weigh as levels, rounded half up and clipped."""
    levels = tf.bitwise.right_shift(total + 2 ** (WEIGHT_BITS - 1), WEIGHT_BITS)
    return tf.cast(tf.clip_by_value(levels, 0, 255), tf.uint8)


def gaussian_weights(sigma: tf.Tensor, size: int, total: int) -> tf.Tensor:
    """Float32 [..., size, size]: the whole weights of a Gaussian about each place; each row sums to total."""
    position = tf.range(size, dtype=tf.float64)
    distance = (position[:, None] - position) / tf.maximum(tf.cast(sigma, tf.float64), 1e-3)[..., None, None]
    weights = tf.exp(-0.5 * distance**2)
    weights = tf.round(weights * (total / tf.reduce_sum(weights, axis=-1, keepdims=True)))
    # What rounding took goes to the middle.
    rest = total - tf.reduce_sum(weights, axis=-1, keepdims=True)
    return tf.cast(weights + rest * tf.eye(size, dtype=tf.float64), tf.float32)


def _contract(weights: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Sums over weights' last axis and the axis of levels after the leading ones or, of four or more, the next.

    Args:
      weights: [..., out, in].
      levels: [..., in, X] or [..., X, in, C].

    Returns:
      [..., out, X], or [..., out, X, C].
    """
    lead = len(weights.shape) - 2
    contracted = lead + len(levels.shape) - lead - 2
    return dot_general(weights, levels, batch_axes=lead, left_axis=lead + 1, right_axis=contracted)
