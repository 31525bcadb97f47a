"""Ops on whole channels: each channel of an image by what all of its channels are.

A builder works on pixels, as those of the family color: build(images uint8 [..., H, W, C], values float32 [..., 4]) ->
uint8.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import computed_first, loop_zero
from tfpipe.tf_internals import dynamic_slice

# Gains are whole 4096ths: 255 * 4096 * 32 fits in int32.
GAIN_BITS = 12
MOST_GAIN = 32.0
ORDERS = np.array(list(itertools.permutations(range(3))), np.int32)


def channel_shuffle(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Puts the channels into order floor(values[0]) of the six of three, which begin with the one that they have."""
    height, width, channels = images.shape[-3:]
    if channels == 1:
        return images
    order = tf.cast(tf.floor(tf.clip_by_value(values[..., 0], 0.0, len(ORDERS) - 1.0)), tf.int32)
    sources = tf.gather(ORDERS, order)
    if loop_zero() is None:
        red, green, blue = tf.split(images, 3, axis=-1)
        source = sources[..., None, None, :]
        return tf.where(source == 0, red, tf.where(source == 1, green, blue))
    # In one row each channel comes from a fixed number of bytes away: three slices, and a fixed choice among them.
    flat, beyond = tf.reshape(images, [-1]), channels - 1
    row = computed_first(lambda: tf.pad(flat, [[beyond, beyond]]))
    starts = tf.unstack(sources - tf.range(channels) + beyond)
    moved = [tf.reshape(dynamic_slice(row, [start], flat.shape), [height, -1]) for start in starts]
    channel = np.arange(width * channels) % channels
    return tf.reshape(tf.where(channel == 0, moved[0], tf.where(channel == 1, moved[1], moved[2])), images.shape)


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
