"""The dense form: each family that occurs passes once over the whole batch, in static shapes. For accelerators.

An image whose op belongs to another family meets identity parameters: the unit map, the table that gives back each
level, an empty box; where a family works on the pixels themselves, its result is chosen per image. There is no
branch, and the cost of a stage is one pass per family for any number of ops.

Each pass is a compiled function of its own. Inside one program XLA:CPU would fuse a pass into the gathers of the next
and compute it again for every element that they read: 136 images/s against 1,900 (224 x 224).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.ops import field, lookup
from tfpipe.augment.ops.erase import erase
from tfpipe.augment.ops.levels import as_levels, per_image, to_dtype
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.sampling import AffineMap, FillLevels, fill_pixel, resample
from tfpipe.augment.ops.warp import chosen_coefficients

Picks = list[tuple[tf.Tensor, Op]]

ORDER = ("lookup", "color", "stencil", "noise", "custom", "erase", "field", "warp")


def apply_dense(
    images: tf.Tensor, choices: Choices, ops: tuple[Op, ...], fill: FillLevels, interpolation: str
) -> tf.Tensor:
    """Images [B, H, W, C] after all stages of their choices."""
    passes = [compiled_pass(family, ops, fill, interpolation) for family in families(ops)]
    for drawn in _stages(choices.ops.shape[1], *choices):
        for one in passes:
            images = one(images, *drawn)
    return images


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _stages(
    num_stages: int, chosen: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor
) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Choices stage by stage; compiled, since a GPU would slice integers on its host."""
    return [(chosen[:, stage], values[:, stage], seeds[:, stage]) for stage in range(num_stages)]


def families(ops: Sequence[Op]) -> list[str]:
    """The families that occur, in the order of their passes; each image is changed by at most one of them."""
    return [family for family in ORDER if any(op.family == family for op in ops)]


@functools.lru_cache(maxsize=256)
def compiled_pass(family: str, ops: tuple[Op, ...], fill: FillLevels, interpolation: str) -> Any:
    """The XLA program of one family: (images, ops [B], values [B, 4], seeds [B, 2]) -> images."""
    # A partial has no code of its own, so that TensorFlow counts each program's traces separately, and does not warn.
    program = functools.partial(_run_pass, family, ops, fill, interpolation)
    return tf.function(program, jit_compile=True, autograph=False)


def _run_pass(
    family: str,
    ops: tuple[Op, ...],
    fill: FillLevels,
    interpolation: str,
    images: tf.Tensor,
    chosen: tf.Tensor,
    values: tf.Tensor,
    seeds: tf.Tensor,
) -> tf.Tensor:
    if family == "warp":
        height, width = images.shape[1:3]
        affine = AffineMap(*chosen_coefficients(chosen, values, ops, height, width), height, width)
        return resample(images, affine, fill, interpolation)
    picks = [(tf.equal(chosen, index), op) for index, op in enumerate(ops) if op.family == family]
    if family == "field":
        return _fields(images, picks, values, seeds, fill, interpolation)
    if family == "erase":
        return _erase(images, picks, values, fill)
    result = PASSES[family](as_levels(images), picks, values, seeds)
    if images.dtype == tf.uint8:
        return result
    # Rounding to levels must not touch the images that another family is to change, or none.
    is_picked = functools.reduce(tf.logical_or, [is_picked for is_picked, _ in picks])
    return tf.where(per_image(is_picked), to_dtype(result, images.dtype), images)


def _lookup(images: tf.Tensor, picks: Picks, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    levels = tf.cast(tf.range(lookup.NUM_LEVELS), tf.uint8)
    tables = tf.broadcast_to(levels, [tf.shape(images)[0], images.shape[-1], lookup.NUM_LEVELS])
    statistics = _statistics(images, {op.needs for _, op in picks})
    for is_picked, op in picks:
        table = op.build(levels, values[:, 0, None, None], statistics.get(op.needs))
        tables = tf.where(is_picked[:, None, None], table, tables)
    return lookup.apply_tables(images, tables)


def _statistics(images: tf.Tensor, needs: set[str]) -> dict[str, Any]:
    """The statistics that the look-up ops need, shaped to broadcast against tables [B, C, 256]."""
    found: dict[str, Any] = {}
    if "luma" in needs:
        found["luma"] = lookup.luma_mean(images)[:, None, None]
    if "histogram" in needs:
        found["histogram"] = lookup.histogram(images)
    if "extrema" in needs:
        # The counts know them, without another pass over the pixels.
        loop_histogram = "histogram" in needs
        low, high = lookup.histogram_extrema(found["histogram"]) if loop_histogram else lookup.extrema(images)
        found["extrema"] = low[..., None], high[..., None]
    return found


def _pixels(images: tf.Tensor, picks: Picks, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Color, stencil, noise and custom ops. XLA fuses those of one family, so that they still are one pass."""
    result = images
    for is_picked, op in picks:
        if op.family == "custom":
            changed = op.build(images, values[:, 0])
        else:
            changed = op.build(images, values, *([seeds] if op.family == "noise" else []))
        result = tf.where(per_image(is_picked), changed, result)
    return result


def _fields(
    images: tf.Tensor, picks: Picks, values: tf.Tensor, seeds: tf.Tensor, fill: FillLevels, interpolation: str
) -> tf.Tensor:
    result = images
    for is_picked, op in picks:
        moved = field.sample(images, op.build(values, seeds, *images.shape[1:3]), fill, interpolation)
        result = tf.where(per_image(is_picked), moved, result)
    return result


def _erase(images: tf.Tensor, picks: Picks, values: tf.Tensor, fill: FillLevels) -> tf.Tensor:
    for is_picked, op in picks:
        boxes = tf.where(is_picked[:, None], op.build(values, *images.shape[1:3]), 0)
        images = erase(images, boxes, fill_pixel(op.paint or fill, images.dtype, images.shape[-1]))
    return images


PASSES: dict[str, Callable[..., tf.Tensor]] = {
    "lookup": _lookup,
    "color": _pixels,
    "stencil": _pixels,
    "noise": _pixels,
    "custom": _pixels,
}
