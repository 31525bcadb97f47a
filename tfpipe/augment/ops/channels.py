"""Ops on whole channels: each channel of an image by what all of its channels are.

A builder works on pixels, as those of the family color: build(images uint8 [..., H, W, C], values float32 [..., 4]) ->
uint8.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.blur import framed
from tfpipe.augment.ops.levels import computed_first

# Gains are whole 4096ths: 255 * 4096 * 32 fits in int32.
GAIN_BITS = 12
MOST_GAIN = 32.0
ORDERS = np.array(list(itertools.permutations(range(3))), np.int32)


def channel_shuffle(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Puts the channels into order floor(values[0]) of the six of three, which begin with the one that they have."""
    if images.shape[-1] == 1:
        return images
    order = tf.cast(tf.floor(tf.clip_by_value(values[..., 0], 0.0, len(ORDERS) - 1.0)), tf.int32)
    height, width, channels = images.shape[-3:]
    # Over rows a channel comes from at most two bytes to either side: five shifted reads, each through a mask.
    frame = computed_first(lambda: framed(images, 1))
    away = tf.gather(ORDERS, order) - tf.range(channels)
    away = tf.tile(away, [*[1] * (len(away.shape) - 1), width])[..., None, :]
    shifts = range(1 - channels, channels)

    def masked(shift: int) -> tf.Tensor:
        mask = computed_first(lambda: tf.cast(away == shift, tf.uint8) * 255)
        first = channels + shift
        return tf.bitwise.bitwise_and(frame[..., 1 : 1 + height, first : first + width * channels], mask)

    return tf.reshape(functools.reduce(tf.bitwise.bitwise_or, map(masked, shifts)), tf.shape(images))


def channel_dropout(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Turns round(values[0]) channels black, from channel floor(values[1] C) on, and after the last from the first."""
    count = images.shape[-1]
    dropped = tf.cast(tf.round(tf.clip_by_value(values[..., :1], 0.0, float(count))), tf.int32)
    first = tf.cast(tf.floor(tf.clip_by_value(values[..., 1:2], 0.0, 1.0) * count), tf.int32)
    kept = tf.math.floormod(tf.range(count) - first, count) >= dropped
    return tf.where(kept[..., None, None, :], images, tf.zeros_like(images))


def gray_world(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Scales each channel so that its mean becomes the mean of all, by the share values[0] of the way.

    A channel that is all black stays so. (Buchsbaum 1980; gains are whole 4096ths, at most 32.)
    """
    sums = tf.cast(tf.reduce_sum(tf.reduce_sum(tf.cast(images, tf.int32), axis=-3), axis=-2), tf.float64)
    gains = tf.reduce_mean(sums, axis=-1, keepdims=True) / tf.maximum(sums, 1.0)
    share = tf.cast(values[..., :1], tf.float64)
    whole = tf.round(tf.clip_by_value(1.0 + share * (gains - 1.0), 0.0, MOST_GAIN) * 2.0**GAIN_BITS)
    scaled = tf.cast(images, tf.int32) * tf.cast(whole, tf.int32)[..., None, None, :]
    levels = tf.bitwise.right_shift(scaled + 2 ** (GAIN_BITS - 1), GAIN_BITS)
    return tf.cast(tf.minimum(levels, 255), tf.uint8)
