"""The dense form: the whole batch at once, in static shapes. For accelerators.

A transform is one program, a loop over its stages. In a stage every image goes through every family that occurs: the
warp and the tables of images whose op belongs to another one are identities, and what works on the pixels themselves is
chosen per image. All of them read the images as they came into the stage, so that XLA fuses them into one kernel, which
reads the batch once and writes it once. Only what the image has to be read for beforehand, such as its histogram, is a
kernel of its own, over the images whose op wants it (see tables.py).

The loop over stages is compiled once for all of them. Unrolled, XLA:CPU would fuse a stage into the gathers of the next
and compute it again for every element that they read: 136 images/s against 1,900 (224 x 224).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.forms.tables import Picks, drawn_tables
from tfpipe.augment.ops import field
from tfpipe.augment.ops.erase import erase
from tfpipe.augment.ops.levels import as_levels, per_image, to_dtype
from tfpipe.augment.ops.lookup import apply_tables
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.warp import chosen_coefficients
from tfpipe.regions.sampling import AffineMap, FillLevels, fill_pixel, resample

# What changes pixels by themselves or by their neighbours.
PIXEL_FAMILIES = ("color", "stencil", "noise", "custom")


def apply_dense(
    images: tf.Tensor, choices: Choices, ops: tuple[Op, ...], fill: FillLevels, interpolation: str
) -> tf.Tensor:
    """Images [B, H, W, C] after all stages of their choices."""
    return compiled_stages(ops, fill, interpolation)(images, *choices)


@functools.lru_cache(maxsize=256)
def compiled_stages(ops: tuple[Op, ...], fill: FillLevels, interpolation: str) -> Any:
    """The XLA program of all stages: (images, ops [B, S], values [B, S, 4], seeds [B, S, 2]) -> images."""
    # A partial has no code of its own, so that TensorFlow counts each program's traces separately, and does not warn.
    return tf.function(functools.partial(_run_stages, ops, fill, interpolation), jit_compile=True, autograph=False)


def _run_stages(
    ops: tuple[Op, ...],
    fill: FillLevels,
    interpolation: str,
    images: tf.Tensor,
    chosen: tf.Tensor,
    values: tf.Tensor,
    seeds: tf.Tensor,
) -> tf.Tensor:
    num_stages = chosen.shape[1]

    def step(stage: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        drawn = (tf.gather(part, stage, axis=1) for part in (chosen, values, seeds))
        return stage + 1, run_stage(ops, fill, interpolation, images, *drawn)

    if num_stages == 1:
        return step(tf.constant(0), images)[1]
    return tf.while_loop(lambda stage, _: stage < num_stages, step, [tf.constant(0), images])[1]


def run_stage(
    ops: Sequence[Op],
    fill: FillLevels,
    interpolation: str,
    images: tf.Tensor,
    chosen: tf.Tensor,
    values: tf.Tensor,
    seeds: tf.Tensor,
) -> tf.Tensor:
    """The images after one stage: chosen [B], values [B, 4], seeds [B, 2]. Each image is changed by one family."""
    picks = {
        family: [(tf.equal(chosen, index), op) for index, op in enumerate(ops) if op.family == family]
        for family in {op.family for op in ops}
    }
    height, width = images.shape[1:3]
    result = images
    if "warp" in picks:
        affine = AffineMap(*chosen_coefficients(chosen, values, ops, height, width), height, width)
        result = resample(images, affine, fill, interpolation)
    if "field" in picks:
        moved = _moved(images, picks["field"], values, seeds, fill, interpolation)
        result = tf.where(per_image(_any_of(picks["field"])), moved, result)
    if "lookup" in picks:
        tables = drawn_tables(images, picks["lookup"], values)
        if images.dtype == tf.uint8:
            result = apply_tables(result, tables)
        else:
            result = _choose(picks["lookup"], apply_tables(as_levels(images), tables), result)
    if "erase" in picks:
        result = _erased(result, picks["erase"], values, fill)
    levels = as_levels(images)
    for family in PIXEL_FAMILIES:
        for is_picked, op in picks.get(family, []):
            result = _choose([(is_picked, op)], _changed(op, levels, values, seeds), result)
    return result


def _changed(op: Op, levels: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    if op.family == "custom":
        return op.build(levels, values[:, 0])
    return op.build(levels, values, *([seeds] if op.family == "noise" else []))


def _moved(
    images: tf.Tensor, picks: Picks, values: tf.Tensor, seeds: tf.Tensor, fill: FillLevels, interpolation: str
) -> tf.Tensor:
    """The images by their fields, sampled once for all of them; anything where none is picked."""
    point: Any = None
    for is_picked, op in picks:
        x, y = op.build(values, seeds, *images.shape[1:3])
        if point is not None:
            mine = is_picked[:, None, None]
            x, y = tf.where(mine, x, point[0]), tf.where(mine, y, point[1])
        point = x, y
    return field.sample(images, point, fill, interpolation)


def _erased(images: tf.Tensor, picks: Picks, values: tf.Tensor, fill: FillLevels) -> tf.Tensor:
    """The images with the boxes of what erases, those of one paint at a time; mostly all have the fill."""
    for paint in dict.fromkeys(op.paint or fill for _, op in picks):
        boxes = tf.zeros_like(values, tf.int32)
        for is_picked, op in picks:
            if (op.paint or fill) == paint:
                boxes = tf.where(is_picked[:, None], op.build(values, *images.shape[1:3]), boxes)
        images = erase(images, boxes, fill_pixel(paint, images.dtype, images.shape[-1]))
    return images


def _choose(picks: Picks, levels: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
    """The levels for the images that drew one of the ops: rounding to levels must not touch the others."""
    return tf.where(per_image(_any_of(picks)), to_dtype(levels, otherwise.dtype), otherwise)


def _any_of(picks: Picks) -> tf.Tensor:
    """Bool [B]: the images that drew one of the ops."""
    return functools.reduce(tf.logical_or, [is_picked for is_picked, _ in picks])
