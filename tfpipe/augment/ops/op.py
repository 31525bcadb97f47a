"""The two values that drawing and applying share: Choices, drawn for a batch, and Op.

Drawing and applying meet in one small table, `Choices`: which op each image gets in each stage, and with which values.
A policy makes such a table from a seed; `apply_choices` carries it out, deterministically, in either form. So variety
inside a batch is a choice among parameters, and the two forms of applying see the same draws.

    choices = Choices(ops=[[3, 0]], values=[[[1.4, 0, 0, 0], [0, 0, 0, 0]]], seeds=[[[7, 1], [7, 2]]])
    images = apply_choices(images, choices, ops=(OPS["identity"], OPS["rotate"], OPS["invert"], OPS["color"]))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

NUM_VALUES = 4
FAMILIES = ("identity", "warp", "field", "lookup", "color", "stencil", "erase", "noise", "custom")
# Those that move pixels, and masks and boxes with them.
MOVING = ("warp", "field")
UNITS = ("", "height", "width", "side")
# What a look-up op reads of the image, see Op.needs; and what the map of a warp is by nature, see Op.motion.
Statistic = Literal["", "luma", "extrema", "histogram", "table"]
WarpKind = Literal["affine", "scale", "shift", "shift_x", "shift_y"]


class Choices(NamedTuple):
    """The op, values and noise seeds of each image of a batch, for each stage.

    Attributes:
      ops: int32 [B, S], indices into the tuple of Ops that goes with it; index 0 is always the identity.
      values: float32 [B, S, 4], parameters in the op's own unit: the value first, additional ones where the op takes
        several, 0 where unused.
      seeds: int32 [B, S, 2], for ops that make noise per pixel; one per image and stage.
    """

    ops: tf.Tensor
    values: tf.Tensor
    seeds: tf.Tensor


@dataclass(frozen=True)
class Op:
    """One operation on images, as data.

    A policy draws a magnitude m in [0, 1] and a sign; the value is neutral + sign * (low + m * (high - low)), times
    the size that `unit` names.

    Attributes:
      name: what policies and errors call it.
      family: one of FAMILIES; it says what `build` takes and returns (see the family's module).
      build: the family's parameters from values [..., 4].
      low: the magnitude 0 of tfpipe's own table, the weakest.
      high: the magnitude 1, the strongest.
      mirrored: whether the sign is drawn at random; otherwise it is +1.
      num_values: how many of the four values it reads, 0 to 4.
      neutral: what a signed step is added to: 1 for enhancement factors.
      unit: "" for absolute values; "height", "width" or "side" (the shorter) where low and high are fractions of it.
      further: ranges of the additional values: a policy draws the second and later values, uniformly.
      needs: the statistic of the image that a look-up op reads: "", "luma", "extrema", "histogram", or
        "table" where it reads none but costs too much per pixel.
      motion: of a warp, what its map is by nature: "affine", "scale" (x depends on x alone, y on y alone), "shift"
        (by a number of pixels), or "shift_x" or "shift_y" (along one axis).
      channels: the numbers of channels it works on; empty for any.
      paint: of an op that erases, the levels of its box, one per channel; None for the fill.
    """

    name: str
    family: str
    build: Callable[..., Any]
    low: float = 0.0
    high: float = 0.0
    mirrored: bool = False
    num_values: int = 1
    neutral: float = 0.0
    unit: str = ""
    further: tuple[tuple[float, float], ...] = ()
    needs: Statistic = ""
    channels: tuple[int, ...] = ()
    motion: WarpKind = "affine"
    paint: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        return f"Op({self.name!r})"

    def __post_init__(self) -> None:
        known = {"family": FAMILIES, "unit": UNITS, "needs": get_args(Statistic), "motion": get_args(WarpKind)}
        for field, allowed in known.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"The {field} of op {self.name!r} is {getattr(self, field)!r}; allowed: {list(allowed)}."
                )


def no_choices(batch_size: int | tf.Tensor, num_stages: int) -> Choices:
    """Choices that leave every image as it is."""
    return Choices(
        ops=tf.zeros([batch_size, num_stages], tf.int32),
        values=tf.zeros([batch_size, num_stages, NUM_VALUES]),
        seeds=tf.zeros([batch_size, num_stages, 2], tf.int32),
    )
