"""Arithmetic on levels (uint8 values) as Pillow rounds it, and the guards that keep XLA from rounding otherwise.

Tensors here carry any leading axes: an image is [H, W, C], a batch [B, H, W, C], and a value per image has the
leading axes alone.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# Pixels, farther than anything of an image begins or ends; a float beyond int32 would be cast as the device pleases.
FARTHEST = 2.0**24
_reads_bits = contextvars.ContextVar("reads_bits", default=False)
_loop_zero: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar("loop_zero", default=None)


@contextlib.contextmanager
def reading_bits() -> Iterator[None]:
    """What is traced inside reads whole numbers out of the bits of floats: faster on a CPU, and wrong on a GPU.

    XLA's own cast also looks for what is too large and for NaN, five more instructions an element. On an H100 the bits
    that arrive are others: gaussian_blur was off by up to 255 levels.
    """
    before = _reads_bits.set(True)
    try:
        yield
    finally:
        _reads_bits.reset(before)


def per_image(value: tf.Tensor) -> tf.Tensor:
    """A value per image, shaped so that it meets [..., H, W, C]."""
    return value[..., None, None, None]


def to_levels(values: tf.Tensor) -> tf.Tensor:
    """Float32 levels clipped to 0 to 255 and truncated, as uint8."""
    clipped = tf.clip_by_value(values, 0.0, 255.0)
    if not _reads_bits.get():
        return tf.cast(clipped, tf.uint8)
    # From 2 ** 23 on, the last bits of a float32 are its whole part.
    return tf.cast(tf.bitcast(tf.floor(clipped) + 2.0**23, tf.int32), tf.uint8)


def as_levels(images: tf.Tensor) -> tf.Tensor:
    """Images as uint8; fractions in [0, 1] are rounded to the nearest of 256 levels."""
    if images.dtype == tf.uint8:
        return images
    return to_levels(tf.cast(images, tf.float32) * 255.0 + 0.5)


def to_dtype(levels: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Uint8 levels as they are, or over 255 in a float dtype; as_levels gives them back."""
    if dtype == tf.uint8:
        return levels
    # In float64, since XLA multiplies by a rounded 1 / 255: every level then is the float32 nearest to level / 255.
    return tf.cast(tf.cast(tf.cast(levels, tf.float64) / 255.0, tf.float32), dtype)


def luma(images: tf.Tensor) -> tf.Tensor:
    """Pillow's L of RGB levels: int32 [..., H, W]; one channel is its own luma.

    Formula: (19595 R + 38470 G + 7471 B + 32768) >> 16, which is what Pillow's convert("L") computes.
    """
    levels = tf.cast(images, tf.int32)
    if images.shape[-1] == 1:
        return levels[..., 0]
    red, green, blue = levels[..., 0], levels[..., 1], levels[..., 2]
    return tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)


def unfused(product: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """A product that is rounded before anything is added to it.

    XLA contracts a * b + c to one fused multiply-add, with one rounding; Pillow rounds twice, which differs by a level
    in places. An integer 0 that the compiler cannot know is added between the two.

    Args:
      product: float32 or float64.
      value: any float tensor known only at run time, broadcastable to product; never below -1e30.
    """
    whole = tf.int32 if product.dtype == tf.float32 else tf.int64
    zero = tf.cast(value < -1e30, whole)
    return tf.bitcast(tf.bitcast(product, whole) + zero, product.dtype)


def blend(start: tf.Tensor, end: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Pillow's Image.blend, extrapolation included: trunc(clip(start + factor * (end - start))) as uint8.

    Args:
      start, end: float32, whole levels.
      factor: float32, broadcastable to them, known only at run time.
    """
    # Beyond 2 ** 13 every difference of a level saturates.
    clipped = tf.clip_by_value(factor, -(2.0**13), 2.0**13)
    # The guard gets the factor itself: of the clipped one a compiler could know that it never is below -1e30.
    mixed = start + unfused(clipped * (end - start), factor)
    if not _reads_bits.get():
        return to_levels(mixed)
    # A sum of less than 2 ** 22 can be read as integers: its last bits are, once 1.5 * 2 ** 23 is added. Clipping those
    # costs color 47 us per image, clipping floats 59.
    whole = tf.bitcast(tf.floor(mixed) + 1.5 * 2.0**23, tf.int32) - np.float32(1.5 * 2.0**23).view(np.int32)
    return tf.cast(tf.clip_by_value(whole, 0, 255), tf.uint8)


def isolated(runtime_zero: tf.Tensor, compute: Callable[[], tf.Tensor], *, shape: Any = None) -> tf.Tensor:
    """The result of `compute`, computed once, by a kernel of its own.

    XLA:CPU fuses a producer into the gather that reads it, and computes it again for every element; it strips
    optimization_barrier before it fuses. A conditional is never fused. This one always takes its first branch, which
    is known only at run time; it has three, since XLA turns a small one of two into a select. Equalize went from 387
    to 125 us per image by it.

    Args:
      runtime_zero: int32 scalar, 0, which is known only at run time.
      compute: returns one tensor.
      shape: of that tensor, where it is only known once it is compiled.
    """
    made: list[tf.Tensor] = []

    def run() -> tf.Tensor:
        made.append(compute())
        return made[0]

    def otherwise() -> tf.Tensor:
        return tf.zeros(made[0].shape if shape is None else shape, made[0].dtype)

    return tf.switch_case(runtime_zero, [run, otherwise, otherwise])


@contextlib.contextmanager
def in_the_loop(runtime_zero: tf.Tensor) -> Iterator[None]:
    """What is traced inside is of the loop form, and gets its intermediate results computed first."""
    before = _loop_zero.set(runtime_zero)
    try:
        yield
    finally:
        _loop_zero.reset(before)


def loop_zero() -> tf.Tensor | None:
    """The runtime_zero of the loop form that is being traced, None in other forms and eagerly."""
    return _loop_zero.get()


def computed_first(compute: Callable[[], tf.Tensor]) -> tf.Tensor:
    """The result of `compute`; in the loop form by a kernel of its own, see `isolated`.

    For whole images too, where a kernel would read each element of the result several times: the median of 3 x 3 took
    8.8 ms when the padded image was computed again for each of its neighbours, along an innermost axis of 3.
    """
    runtime_zero = _loop_zero.get()
    return compute() if runtime_zero is None else isolated(runtime_zero, compute)
