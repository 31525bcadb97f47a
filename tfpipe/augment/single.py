"""The single transforms: flips, pad-and-crop, cutout, color jitter, blur, noise; and `op`, which makes one of any op.

    compose([pad_and_crop(4), flip_left_right(), color_jitter(brightness=0.4, contrast=0.4), cutout(16)])
    op("rotate", (-30, 30), p=0.5)      # degrees, uniform per image
    op("solarize", 128)                 # the same for all
    op("emboss", (0, 1), (0, 20))       # an op of two values
    op(my_op)                           # over its own range

All draw per image. A range is (low, high), uniform, in the op's own unit; a number is a fixed value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import Draws, draw_order, draw_uniforms, lerp
from tfpipe.augment.ops.op import NUM_VALUES, Choices, Op
from tfpipe.augment.ops.table import OPS, find_op
from tfpipe.augment.transform import Fill, OpTransform, Rendering, record_call
from tfpipe.policy import is_integer, is_number

Values = float | tuple[float, float]


@dataclass(frozen=True)
class ValueRange:
    """How the values of one op are drawn.

    Attributes:
      ranges: (low, high) of each value.
      mirrored: the range that the first value takes instead, for every second image; None: never.
      whole: integers, both ends included.
    """

    ranges: tuple[tuple[float, float], ...]
    mirrored: tuple[float, float] | None = None
    whole: bool = False

    def draw(self, draws: Draws) -> tf.Tensor:
        """float32 [B, S, 4]."""
        values = self._uniform(self.ranges, draws)
        if self.mirrored is None:
            return values
        other = self._uniform((self.mirrored, *self.ranges[1:]), draws)
        return tf.where(draws.sign[..., None] < 0.5, values, other)

    def _uniform(self, ranges: Sequence[tuple[float, float]], draws: Draws) -> tf.Tensor:
        padded = np.array([*ranges, *[(0.0, 0.0)] * (NUM_VALUES - len(ranges))], np.float64)
        uniforms = tf.concat([draws.magnitude[..., None], draws.extra], axis=-1)
        if not self.whole:
            return lerp(padded[:, 0], padded[:, 1], uniforms)
        counts = (padded[:, 1] - padded[:, 0] + 1).astype(np.float32)
        return tf.minimum(tf.floor(uniforms * counts), counts - 1) + padded[:, 0].astype(np.float32)


@record_call
def op(
    name: str | Op,
    *values: Values,
    p: float = 1.0,
    fill: Fill = 128,
    interpolation: str = "nearest",
    form: str = "auto",
    check_values: bool = False,
    mask_fill: int = 0,
) -> OpTransform:
    """One op, with values drawn per image.

    Args:
      name: the name of an op, or a user's Op.
      values: a number or (low, high) for each value that the op takes, in its own unit; none: its own range, from the
        weakest to the strongest, and a random sign where it has one.
      p: the probability that an image gets it.
      fill: what comes in from outside: 0 to 255, one value per channel, or None for the edge repeated.
      interpolation: "nearest" or "bilinear".
      form: "loop", "dense" or "auto".
      check_values: assert inside graphs that float images are in [0, 1].
      mask_fill: what comes into masks from outside, such as the value that a loss ignores.

    Raises:
      ValueError: the op is unknown, p is no probability, or there are not as many values as the op takes.
    """
    return single_op(name, Rendering(fill, interpolation, form, check_values, mask_fill), *values, p=p)


def single_op(
    name: str | Op, rendering: Rendering, *values: Values, p: float = 1.0, whole: bool = False
) -> OpTransform:
    """As `op`, with its rendering; whole: values are whole numbers, both ends of their ranges included."""
    known = name if isinstance(name, Op) else find_op(name)
    if values and len(values) != known.num_values:
        raise ValueError(f"op {known.name!r} takes {known.num_values} values; it got {len(values)}.")
    if not values:
        return _single(known, lambda shape: _range_of_op(known, shape), p, rendering)
    spread = ValueRange(tuple(_range(known.name, value) for value in values), whole=whole)
    return _single(known, lambda shape: spread, p, rendering)


@record_call
def flip_left_right(p: float = 0.5) -> OpTransform:
    """Mirrors left and right, with probability p per image."""
    return _plain("flip_left_right", (), p)


@record_call
def flip_up_down(p: float = 0.5) -> OpTransform:
    """Mirrors top and bottom, with probability p per image."""
    return _plain("flip_up_down", (), p)


@record_call
def pad_and_crop(padding: int = 4, *, fill: Fill = 0, form: str = "auto", mask_fill: int = 0) -> OpTransform:
    """A window of the image's own size out of the image with `padding` pixels of fill (mask_fill in masks) around it.

    All 2 * padding + 1 offsets a side are equally likely; PBA's code never takes the last.

    Raises:
      ValueError: padding is negative.
    """
    if not is_integer(padding, 0):
        raise ValueError(f"padding is {padding!r}; it must be an integer of at least 0.")
    spread = ValueRange(((-padding, padding),) * 2, whole=True)
    return _single(OPS["crop"], lambda shape: spread, 1.0, Rendering(fill, form=form, mask_fill=mask_fill))


@record_call
def cutout(side: Values = 16, *, p: float = 1.0, fill: Fill = 128, form: str = "auto") -> OpTransform:
    """A square of fill about a uniformly drawn centre, cut off at the border. Masks stay as they are.

    Args:
      side: in pixels, or, below 1, in fractions of the shorter side; a number or (low, high).
      p: the probability that an image gets it.
      fill: of the square.
      form: "loop", "dense" or "auto".
    """
    low, high = _range("cutout", side)
    if low < 0 or ((low < 1) != (high < 1) and low != 0):
        raise ValueError(f"side is {side}; it takes pixels from 1, or fractions below 1, and never a negative side.")

    def spread(shape: BatchShape) -> ValueRange:
        unit = shape.size_of("side") if high < 1 else 1
        return ValueRange(((low * unit, high * unit), (0, 1), (0, 1)))

    return _single(OPS["cutout"], spread, p, Rendering(fill, form=form))


@record_call
def zoom(
    factor: Values = (1.0, 1.5),
    *,
    p: float = 1.0,
    fill: Fill = 128,
    interpolation: str = "nearest",
    form: str = "auto",
    mask_fill: int = 0,
) -> OpTransform:
    """Enlarges by a factor about a uniformly drawn point; below 1 it shrinks, with fill (mask_fill in masks) around."""
    low, high = _range("zoom", factor)
    if low <= 0:
        raise ValueError(f"factor is {factor}; it must be positive.")
    spread = ValueRange(((low, high), (0, 1), (0, 1)))
    return _single(OPS["zoom"], lambda shape: spread, p, Rendering(fill, interpolation, form, mask_fill=mask_fill))


@record_call
def grayscale(p: float = 0.1) -> OpTransform:
    """Pillow's L in all channels, with probability p per image."""
    return _plain("grayscale", (), p)


@record_call
def gaussian_blur(sigma: Values = (0.1, 2.0), *, p: float = 1.0) -> OpTransform:
    """Blurs with a Gaussian of sigma pixels."""
    return _plain("gaussian_blur", (sigma,), p)


@record_call
def gaussian_noise(sigma: Values = (0.0, 25.0), *, p: float = 1.0) -> OpTransform:
    """Adds normal noise of sigma levels of 255 to every element."""
    return _plain("gaussian_noise", (sigma,), p)


@record_call
def coarse_dropout(
    rate: Values = (0.03, 0.15), *, cell: Values = (0.05, 0.3), per_channel: float = 0.2, p: float = 1.0
) -> OpTransform:
    """Turns square cells black.

    Args:
      rate: the share of cells.
      cell: their side as a fraction of the shorter side.
      per_channel: the probability that an image's channels are treated individually.
      p: the probability that an image gets it.
    """
    _check_probability("per_channel", per_channel)
    # The op treats channels apart from a value of 0.5 up.
    return _plain("coarse_dropout", (rate, cell, (per_channel - 0.5, per_channel + 0.5)), p)


@record_call
def salt_and_pepper(rate: Values = (0.0, 0.2), *, cell: Values = 0.0, p: float = 1.0) -> OpTransform:
    """Turns square cells black or white; rate is their share, cell their side as a fraction of the shorter side."""
    return _plain("salt_and_pepper", (rate, cell), p)


@record_call
def gamma(exponent: Values = (0.5, 1.5), *, p: float = 1.0) -> OpTransform:
    """Levels in [0, 1] to the power of the exponent."""
    return _plain("gamma", (exponent,), p)


@record_call
def color_jitter(
    *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
) -> OpTransform:
    """Brightness, contrast, saturation and hue, each at random, in an order drawn per image.

    Args:
      brightness: the factor is uniform in 1 ± this, from 0 on.
      contrast: likewise.
      saturation: likewise.
      hue: the rotation is uniform in ± this, in whole circles: 0 to 0.5.

    Raises:
      ValueError: one is negative, or hue beyond 0.5.
    """
    amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, amount in amounts.items():
        most, bounds = (0.5, "at least 0 and at most 0.5") if name == "hue" else (math.inf, "at least 0")
        if not 0 <= amount <= most:
            raise ValueError(f"{name} is {amount}; it must be {bounds}.")
    used = {name: amount for name, amount in amounts.items() if amount}
    ranges = [(-360 * a, 360 * a) if name == "hue" else (max(0.0, 1 - a), 1 + a) for name, a in used.items()]
    low, high = np.array(ranges or [(0.0, 0.0)]).T

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        draws = draw_uniforms(seed, shape.batch_size, len(used))
        order = draw_order(seed, shape.batch_size, len(used))
        values = lerp(tf.gather(low, order), tf.gather(high, order), draws.magnitude)
        return Choices(order + 1, tf.pad(values[..., None], [[0, 0], [0, 0], [0, NUM_VALUES - 1]]), draws.noise)

    ops = (OPS["identity"], *(OPS[name] for name in used))
    return OpTransform(ops, len(used), choose)


# ---- one op


def _plain(name: str, values: Sequence[Values], p: float) -> OpTransform:
    """An op that neither fills nor interpolates, with its values; it goes with parts of any fill."""
    spread = ValueRange(tuple(_range(name, value) for value in values))
    return _single(OPS[name], lambda shape: spread, p, None)


def _single(
    member: Op, spread: Callable[[BatchShape], ValueRange], p: float, rendering: Rendering | None
) -> OpTransform:
    _check_probability("p", p)

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        draws = draw_uniforms(seed, shape.batch_size, 1)
        happens = draws.apply < np.float32(p)
        values = tf.where(happens[..., None], spread(shape).draw(draws), 0.0)
        return Choices(tf.cast(happens, tf.int32), values, draws.noise)

    return OpTransform((OPS["identity"], member), 1, choose, rendering)


def _range_of_op(member: Op, shape: BatchShape) -> ValueRange:
    """The range that the op brings along: weakest to strongest, with both signs where it has them."""
    if not member.num_values:
        return ValueRange(())
    low, high, size = member.low, member.high, shape.size_of(member.unit)
    first = (member.neutral + low * size, member.neutral + high * size)
    other = (member.neutral - low * size, member.neutral - high * size)
    return ValueRange((first, *member.further), other if member.mirrored else None)


def _range(name: str, value: Any) -> tuple[float, float]:
    pair = (value, value) if isinstance(value, int | float) else value
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(math.isfinite(end) for end in pair):
        raise ValueError(f"A value of {name!r} is {value!r}; it takes a number or (low, high).")
    if pair[0] > pair[1]:
        raise ValueError(f"A range of {name!r} is {tuple(pair)}; low comes first.")
    return float(pair[0]), float(pair[1])


def _check_probability(name: str, p: Any) -> None:
    if not is_number(p, least=0, most=1):
        raise ValueError(f"{name} is {p!r}; it must be in [0, 1].")
