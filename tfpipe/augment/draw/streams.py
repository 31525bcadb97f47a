"""Random numbers as a pure function of a seed, equal bit for bit in every form.

Everything that is drawn comes from one counter-based generator (Philox), keyed by the seed's two words; the second word
of the counter names the stream. The numbers of image b are at index b of the stream, so they do not depend on the size
of the batch. Draws are compared with thresholds and looked up in tables that NumPy computed: no logarithm, no fused
multiply-add, so plain TensorFlow and XLA agree.

TensorFlow's own way from a seed to a key (StatelessRandomGetKeyCounter, and with it tf.random.stateless_uniform) gives
other numbers under XLA where a word of the seed is negative, which half of all words are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.tf_internals import philox_bits

DRAW_STREAM, SPLIT_STREAM, ORDER_STREAM = 0, 1, 2
_FLOAT_BITS = 24


class Draws(NamedTuple):
    """The independent streams of a batch and its stages.

    Attributes:
      op: float32 [B, S] in [0, 1): which op or sub-policy.
      magnitude: float32 [B, S]: how strong.
      sign: float32 [B, S]: which sign.
      apply: float32 [B, S]: whether at all.
      extra: float32 [B, S, 3]: the values beyond the first.
      noise: int32 [B, S, 2]: seeds of noise per pixel.
    """

    op: tf.Tensor
    magnitude: tf.Tensor
    sign: tf.Tensor
    apply: tf.Tensor
    extra: tf.Tensor
    noise: tf.Tensor


def draw_uniforms(seed: tf.Tensor, batch_size: int | tf.Tensor, num_stages: int) -> Draws:
    """The streams for a batch, all from one draw of the generator."""
    bits = random_bits(seed, [batch_size, num_stages, 9])
    uniforms = to_unit(bits[..., :7])
    op, magnitude, sign, apply = tf.unstack(uniforms[..., :4], axis=-1)
    return Draws(op, magnitude, sign, apply, uniforms[..., 4:], tf.bitcast(bits[..., 7:], tf.int32))


def random_bits(seed: tf.Tensor, shape: list[int | tf.Tensor], *, stream: int = DRAW_STREAM) -> tf.Tensor:
    """uint32 of a shape: 32 random bits each.

    Args:
      seed: int32 [2].
      shape: of what is drawn; the images come first, so that a larger batch begins with the same numbers.
      stream: draws with different streams are independent.
    """
    key = tf.reshape(tf.bitcast(tf.reshape(seed, [2]), tf.uint64), [1])
    counter = tf.constant([0, stream], tf.uint64)
    return philox_bits(key, counter, tf.stack(shape), tf.uint32)


def to_unit(bits: tf.Tensor) -> tf.Tensor:
    """float32 in [0, 1), multiples of 2^-24: exact, so that it may be compared with thresholds."""
    kept = tf.bitwise.right_shift(bits, tf.constant(32 - _FLOAT_BITS, tf.uint32))
    return tf.cast(kept, tf.float32) * np.float32(2.0**-_FLOAT_BITS)


def split_seed(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Seeds for the parts of a transform: int32 [2] each, independent of one another and of the seed's own draws."""
    bits = random_bits(seed, [count, 2], stream=SPLIT_STREAM)
    return tf.unstack(tf.bitcast(bits, tf.int32), num=count)


def draw_order(seed: tf.Tensor, batch_size: int | tf.Tensor, count: int) -> tf.Tensor:
    """A random permutation of `count` items for each image: int32 [B, count]."""
    priorities = to_unit(random_bits(seed, [batch_size, count], stream=ORDER_STREAM))
    return tf.argsort(priorities, axis=-1, stable=True)


def cumulative(weights: np.ndarray) -> np.ndarray:
    """The cumulative shares of weights [..., K] without the last, float32 [..., K - 1]; for `sample_index`."""
    weights = np.asarray(weights, np.float64)
    return (np.cumsum(weights, axis=-1)[..., :-1] / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def sample_index(uniforms: tf.Tensor, limits: np.ndarray | tf.Tensor) -> tf.Tensor:
    """An index for each uniform, int32: k with the weight that `cumulative` was given for k.

    Args:
      uniforms: float32 [...].
      limits: from `cumulative`; [K - 1], or [..., K - 1] for weights that differ from element to element.
    """
    return tf.reduce_sum(tf.cast(uniforms[..., None] >= limits, tf.int32), axis=-1)


def lerp(low: np.ndarray | tf.Tensor, high: np.ndarray | tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """float32 between low and high, both float64.

    In float64: XLA contracts the product and the sum, which moves the last bit of a float64 but hardly ever the float32
    that it is rounded to.
    """
    wide = tf.cast(uniforms, tf.float64)
    return tf.cast(low + (high - low) * wide, tf.float32)
