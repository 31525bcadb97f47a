"""Noise per pixel, keyed by a seed per image.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4], seeds int32 [..., 2]) -> uint8.

TensorFlow's stateless generators take one seed a call, and a batch has one per image; so the bits come from a hash of
(seed, position), in 32-bit integers: the same in both forms, on every device.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import per_image, to_levels, unfused

BITS = tf.uint32
QUANTILE_BITS = 12


def gaussian_noise(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Adds a normal deviate, of the value in levels, to every element, rounded to the nearest and clipped.

    The normal is cut into 4,096 equally likely steps, so it ends at 3.7 standard deviations.
    """
    index = tf.cast(tf.bitwise.right_shift(draw_bits(seeds, number_of(images)), _word(32 - QUANTILE_BITS)), tf.int32)
    sigma = per_image(values[..., 0])
    noise = unfused(sigma * tf.gather(tf.constant(_normal_quantiles()), index), sigma)
    return to_levels(tf.floor(tf.cast(images, tf.float32) + noise + 0.5))


def dropout(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Turns pixels black at a rate; values (rate, per channel: each channel individually from 0.5 up)."""
    index = _cell_index(images, tf.zeros_like(values[..., 0]), values[..., 1])
    return tf.where(happens(draw_bits(seeds, index), values[..., 0]), tf.zeros_like(images), images)


def coarse_dropout(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Turns square cells black at a rate; values (rate, cell side in fractions of the shorter side, per channel)."""
    index = _cell_index(images, values[..., 1], values[..., 2])
    return tf.where(happens(draw_bits(seeds, index), values[..., 0]), tf.zeros_like(images), images)


def salt_and_pepper(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Turns square cells black or white at a rate; values (rate, cell side in fractions of the shorter side)."""
    bits = draw_bits(seeds, _cell_index(images, values[..., 1], tf.zeros_like(values[..., 0])))
    # The lowest bit chooses; the rate reads the upper 24.
    white = tf.cast(tf.bitwise.bitwise_and(bits, _word(1)), tf.uint8) * tf.constant(255, tf.uint8)
    return tf.where(happens(bits, values[..., 0]), tf.broadcast_to(white, tf.shape(images)), images)


def happens(bits: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
    """Bool like bits, true at a rate per image, to 24 bits."""
    limit = tf.cast(tf.clip_by_value(rate, 0.0, 1.0) * 2.0**24, tf.int32)
    return tf.cast(tf.bitwise.right_shift(bits, _word(8)), tf.int32) < per_image(limit)


def number_of(images: tf.Tensor) -> tf.Tensor:
    """The number of each element of an image: [H, W, C]."""
    height, width, channels = images.shape[-3:]
    return tf.reshape(tf.range(height * width * channels), [height, width, channels])


def _cell_index(images: tf.Tensor, cell: tf.Tensor, per_channel: tf.Tensor) -> tf.Tensor:
    """A number for each cell of each image: int32 [..., H, W, C]."""
    height, width, channels = images.shape[-3:]
    side = per_image(tf.cast(tf.clip_by_value(cell * min(height, width), 1.0, 2.0**24), tf.int32))
    y, x = tf.range(height)[:, None, None] // side, tf.range(width)[:, None] // side
    channel = tf.range(channels) * per_image(tf.cast(per_channel >= 0.5, tf.int32))
    return (y * width + x) * channels + channel


def draw_bits(seeds: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """32 uniform bits for each position, by two rounds of a hash, one a seed word."""
    first, second = (tf.bitcast(per_image(seeds[..., word]), BITS) for word in range(2))
    return _hash(tf.bitwise.bitwise_xor(_hash(tf.bitcast(index, BITS) + first), second))


def _hash(bits: tf.Tensor) -> tf.Tensor:
    """Wellons's lowbias32: a bijection of 32 bits whose output bits all change with probability 1/2."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _word(shift))) * _word(factor)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _word(16)))


def _word(number: int) -> tf.Tensor:
    return tf.constant(number, BITS)


@functools.cache
def _normal_quantiles() -> np.ndarray:
    """The normal's quantiles in the middle of 4,096 equally likely steps, float32."""
    from statistics import NormalDist

    steps = (np.arange(2**QUANTILE_BITS) + 0.5) / 2**QUANTILE_BITS
    return np.array([NormalDist().inv_cdf(step) for step in steps], np.float32)
