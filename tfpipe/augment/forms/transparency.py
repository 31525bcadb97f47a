"""Pixels that an op uncovered, as the code of AutoAugment and PBA for CIFAR treats them: transparent to the end.

Their images are Pillow's RGBA. A rotation, shear or shift brings in transparent black, and cutout paints a transparent
square. Contrast and the other enhancers leave transparency as it is; what a look-up through RGB gives is opaque: there
equalize and auto_contrast count the black, and invert makes it white. At the end, what still is transparent becomes the
data set's mean.

    images  ──────── the ops, over black ──────────▶ where alpha is 0: the fill
    alpha   ── the same warps; 0 in squares; 255 ──▶
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from tfpipe.augment.forms.apply import Fill, apply_choices, fill_levels
from tfpipe.augment.ops.op import MOVING, Choices, Op
from tfpipe.augment.ops.table import OPS
from tfpipe.regions.sampling import fill_pixel

# What cutout paints, under its transparency: CIFAR-10's mean, cut down to levels.
PAINT = (125.0, 122.0, 113.0)
# The ops that go through RGB and come back opaque.
OPAQUE = ("auto_contrast", "equalize", "invert", "posterize", "solarize")
_MAKE_OPAQUE = Op("opaque", "lookup", lambda levels, value, statistic: tf.ones_like(levels) * 255, num_values=0)


def apply_transparent(
    images: tf.Tensor,
    choices: Choices,
    ops: Sequence[Op],
    *,
    fill: Fill,
    interpolation: str,
    form: str,
) -> tf.Tensor:
    """As apply_choices, with the fill put in at the end, where a pixel still is transparent."""
    images = tf.convert_to_tensor(images)
    render = functools.partial(
        apply_choices, choices=choices, fill=None if fill is None else 0, interpolation=interpolation, form=form
    )
    channels = images.shape[-1]
    paint = PAINT if channels == len(PAINT) else fill_levels(fill, channels)
    painted = [replace(op, paint=paint) if op.family == "erase" else op for op in ops]
    changed = render(images, ops=painted)
    opaque = tf.ones_like(images[..., :1], tf.uint8) * 255
    alpha = render(opaque, ops=[_on_alpha(op) for op in ops])
    return tf.where(alpha == 0, fill_pixel(fill_levels(fill, channels), images.dtype, channels), changed)


def _on_alpha(op: Op) -> Op:
    """What an op does to transparency."""
    if op.family in MOVING:
        return op
    if op.family == "erase":
        return replace(op, paint=(0.0,))
    return _MAKE_OPAQUE if op.name in OPAQUE and OPS[op.name] == op else OPS["identity"]
