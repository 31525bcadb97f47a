"""The kernels of the loop form: for each op, the computation on one image, and the buffers that it reads.

The kernels here are shaped for XLA:CPU; the costs, and what was tried: docs/decisions/021 and the appendix.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops import field, lookup, stencil, warp
from tfpipe.augment.ops.erase import erase
from tfpipe.augment.ops.levels import as_levels, isolated, to_dtype
from tfpipe.augment.ops.op import Op
from tfpipe.regions.sampling import (
    AffineMap,
    FillLevels,
    fill_pixel,
    nearest_index,
    resample_bilinear,
    resample_nearest,
    shear_rows,
    translate_rows,
)
from tfpipe.tf_internals import dynamic_slice, dynamic_update_slice


class LoopState(NamedTuple):
    """The variables of the loops.

    Attributes:
      position: of the next image in the stage's order.
      batch: the images.
      rows: [H + 2, W * C], room for one image with a row of zeros above and below it.
      plane: int32 [H + 1, W], room for a number for each pixel. A buffer has more rows than are written to it, or XLA
        would replace it by what is written, in a kernel of another kind.
    """

    position: tf.Tensor
    batch: tf.Tensor
    rows: tf.Tensor
    plane: tf.Tensor


class ImageStep(NamedTuple):
    """The op, values and seeds of one image in one stage.

    Attributes:
      op: int32 scalar, an index into the ops.
      values: float32 [4].
      seeds: int32 [2].
    """

    op: tf.Tensor
    values: tf.Tensor
    seeds: tf.Tensor


class ImageView:
    """One image of the batch, as a kernel reads it."""

    def __init__(self, state: LoopState, index: tf.Tensor, runtime_zero: tf.Tensor, rows: tuple[int, int]) -> None:
        self._batch, self._index, self.runtime_zero, self._rows = state.batch, index, runtime_zero, rows
        self.buffers = state.rows, state.plane

    def isolate(self, compute: Callable[[], tf.Tensor]) -> tf.Tensor:
        """The result of `compute`, computed first (see `isolated`); for small tensors."""
        return isolated(self.runtime_zero, compute)

    def read(self, shape: tuple[int, ...]) -> tf.Tensor:
        """The image in a shape, for an op that reads each element only where it writes: one kernel, in place."""
        # dynamic_slice, since tf.slice would compile anew for every start.
        start = tf.stack([self._index, *[0] * len(shape)])
        return dynamic_slice(tf.reshape(self._batch, [-1, *shape]), start, [1, *shape])[0]

    def copy(self, shape: tuple[int, ...], *, padded: bool = False) -> tf.Tensor:
        """The image in a shape, in the cache; padded: with a row of zeros above and below."""
        rows, plane = self.buffers
        # Rows are copied by vectors, pixels byte by byte.
        rows = dynamic_update_slice(rows, self.read(self._rows), [1, 0])
        self.buffers = rows, plane
        return tf.reshape(rows if padded else rows[1:-1], shape)

    def plane(self, numbers: tf.Tensor) -> tf.Tensor:
        """Int32 [H, W], computed first: within what reads it, it might be computed again for each element."""
        rows, plane = self.buffers
        plane = dynamic_update_slice(plane, numbers, [0, 0])
        self.buffers = rows, plane
        return plane[:-1]


class Kernel(NamedTuple):
    """The computation of one op on one image.

    Attributes:
      run: (view, step) -> image; where the image has another stage, (view, step, that stage's step).
      shape: of the image as the result is written: [H, W * C], or another of as many elements.
      corner: where in the image the result begins, which may be smaller; around it the image stays.
        Empty: at the start.
    """

    run: Callable[..., tf.Tensor]
    shape: tuple[int, ...]
    corner: tuple[int, ...] = ()


def kernel_of(
    op: Op, ops: Sequence[Op], fill: FillLevels, interpolation: str, shape: tuple[int, int, int]
) -> Kernel | None:
    """How the loop carries out one of the ops; None for the identity."""
    if op.family == "identity":
        return None
    if op.family == "lookup":
        if op.needs == "histogram":
            return _histogram_kernel(ops, shape)
        return _pointwise_kernel(op, shape) if op.needs in ("", "luma") else _lut_kernel(op, shape)
    if op.family == "field":
        return _field_kernel(op, fill, interpolation, shape)
    if op.family == "warp":
        return _warp_kernel(op, fill, interpolation, shape)
    if op.build is stencil.sharpness and min(shape[:2]) >= 3:
        return _sharpness_kernel(shape)
    return _pixel_kernel(op, fill, shape)


def _pixel_kernel(op: Op, fill: FillLevels, shape: tuple[int, int, int]) -> Kernel:
    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        image = view.copy(shape)
        if op.family == "erase":
            return erase(image, op.build(step.values, *shape[:2]), fill_pixel(op.paint or fill, image.dtype, shape[2]))
        levels = as_levels(image)
        if op.family == "custom":
            return to_dtype(op.build(levels[None], step.values[None, 0])[0], image.dtype)
        seeds = (step.seeds,) if op.family == "noise" else ()
        return to_dtype(op.build(levels, step.values, *seeds), image.dtype)

    return Kernel(run, shape)


def _warp_kernel(op: Op, fill: FillLevels, interpolation: str, shape: tuple[int, int, int]) -> Kernel:
    height, width, _ = shape
    if interpolation == "nearest" and fill is not None and (op.motion.startswith("shift") or op.build is warp.shear_x):
        return _row_kernel(op, fill, shape)

    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        affine = AffineMap(op.build(step.values, height, width), op.motion != "affine", height, width)
        image = view.copy(shape)
        if interpolation == "bilinear":
            return resample_bilinear(image, affine, fill)
        return resample_nearest(image, view.plane(nearest_index(affine, repeat_edge=fill is None)), fill)

    return Kernel(run, shape)


def _field_kernel(op: Op, fill: FillLevels, interpolation: str, shape: tuple[int, int, int]) -> Kernel:
    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        image = view.copy(shape)
        return field.sample(image, op.build(step.values, step.seeds, *shape[:2]), fill, interpolation)

    return Kernel(run, shape)


def _row_kernel(op: Op, fill: tuple[float, ...], shape: tuple[int, int, int]) -> Kernel:
    """A warp that moves whole rows."""
    height, width, channels = shape
    rows = (height, width * channels)

    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        coefficients = op.build(step.values, height, width)
        if op.motion.startswith("shift"):
            return translate_rows(view.copy(rows), coefficients, fill, op.motion)
        return shear_rows(view.copy((-1,), padded=True), coefficients, fill, shape, view.isolate)

    return Kernel(run, rows)


def _pointwise_kernel(op: Op, shape: tuple[int, int, int]) -> Kernel:
    """A look-up op that is cheaper computed for each element than looked up."""
    height, width, channels = shape
    # Rows of W * C: over an innermost axis of 3, LLVM takes the channels apart and puts them together again.
    rows = (height, width * channels)

    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        image = view.read(rows)
        mean = None
        if op.needs:
            padded = view.copy(_shape_with_margin(shape), padded=True)
            mean = view.isolate(lambda: lookup.loop_luma_mean(as_levels(padded), view.runtime_zero, margin=1))
        return to_dtype(op.build(as_levels(image), step.values[0], mean), image.dtype)

    return Kernel(run, rows)


def _shape_with_margin(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of an image with a row above and below it."""
    return shape[0] + 2, *shape[1:]


def _lut_kernel(op: Op, shape: tuple[int, int, int]) -> Kernel:
    """A look-up op that goes through a table of 256 levels for each channel."""

    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        padded = view.copy(_shape_with_margin(shape), padded=True)

        def tables() -> tf.Tensor:
            statistic = None
            if op.needs == "extrema":
                limits = view.isolate(lambda: tf.stack(lookup.extrema(as_levels(padded[1:-1]))))
                statistic = limits[0, :, None], limits[1, :, None]
            return _tables(op, step.values[0], statistic, shape[2])

        return _through(view.isolate(tables), padded[1:-1])

    return Kernel(run, _by_pixels(shape))


def _histogram_kernel(ops: Sequence[Op], shape: tuple[int, int, int]) -> Kernel:
    """A look-up op that counts the levels, and with it the look-up before or after: the image is changed once.

    What the first makes of the counts is known without it: two equalize cost 140 us per image, not 285.
    """
    tabled = [op for op in ops if _has_table(op)]
    codes = np.array([tabled.index(op) + 1 if op in tabled else 0 for op in ops], np.int32)

    def run(view: ImageView, *steps: ImageStep) -> tf.Tensor:
        padded = view.copy(_shape_with_margin(shape), padded=True)
        counts = view.isolate(lambda: lookup.loop_histogram(as_levels(padded), view.runtime_zero, margin=1))
        drawn = tf.gather(codes, tf.stack([step.op for step in steps]))
        values = tf.stack([step.values[0] for step in steps])
        tables = view.isolate(lambda: _compose_drawn(tabled, drawn, values, counts))
        return _through(tables, padded[1:-1])

    return Kernel(run, _by_pixels(shape))


def _has_table(op: Op) -> bool:
    return op.family == "lookup" and op.needs != "luma"


def fused_op(op: Op, then: Op) -> Op | None:
    """Of two ops that follow one another, the one whose kernel can carry out both; None where neither can.

    Only one that counts does: a curve computed alone costs less than a look-up.
    """
    counting = [one for one in (op, then) if one.needs == "histogram"]
    return counting[0] if counting and _has_table(op) and _has_table(then) else None


def _compose_drawn(ops: Sequence[Op], drawn: tf.Tensor, values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """The tables of one or two steps that follow one another, as one.

    Args:
      ops: look-up ops.
      drawn: int32 [1 or 2], of each step its op as an index into ops, from 1 on; of the second 0 where there is none.
      values: float32 like drawn.
      counts: int32 [C, 256], of the image before the first step.

    Returns:
      uint8 [C, 256].
    """
    channels = counts.shape[0]
    levels = tf.tile(tf.cast(tf.range(lookup.NUM_LEVELS), tf.uint8)[None], [channels, 1])

    def iterate(index: tf.Tensor, tables: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Three options, since XLA would compute both of two.
        now = tf.switch_case(index, [lambda: counts, lambda: lookup.map_histogram(counts, tables), lambda: counts])

        def made(op: Op) -> tf.Tensor:
            statistic = now if op.needs == "histogram" else None
            if op.needs == "extrema":
                statistic = tuple(limit[:, None] for limit in lookup.histogram_extrema(now))
            return _tables(op, values[index], statistic, channels)

        # A loop, and not one switch for each step: every option is a program to compile.
        table = tf.switch_case(drawn[index] - 1, [functools.partial(made, op) for op in ops])
        return index + 1, lookup.compose_tables(table, tables)

    num_steps = tf.math.count_nonzero(drawn, dtype=tf.int32)
    return tf.while_loop(lambda index, _: index < num_steps, iterate, [tf.constant(0), levels])[1]


def _by_pixels(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape in which an image goes through tables.

    Four pixels per iteration, each channel by a gather of its own: LLVM unrolls that to loads from fixed tables and
    stores.
    Over rows of W * C it gathers in vectors, byte by byte, with limits to check: 107 us per image, not 40.
    """
    height, width, channels = shape
    size = next(size for size in (4, 2, 1) if height * width % size == 0)
    return height * width // size, size, channels


def _through(tables: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """The image through tables uint8 [C, 256], in the shape of _by_pixels."""
    shape = _by_pixels(tuple(image.shape))
    levels = tf.cast(as_levels(tf.reshape(image, shape)), tf.int32)
    changed = [tf.gather(tables[channel], levels[..., channel, None]) for channel in range(shape[2])]
    return to_dtype(tf.concat(changed, axis=-1), image.dtype)


def _tables(op: Op, value: tf.Tensor, statistic: Any, channels: int) -> tf.Tensor:
    """Uint8 [C, 256]."""
    tables = op.build(tf.cast(tf.range(lookup.NUM_LEVELS), tf.uint8), value, statistic)
    return tables if statistic is not None else tf.tile(tables[None], [channels, 1])


def _sharpness_kernel(shape: tuple[int, int, int]) -> Kernel:
    """The inner pixels alone: a kernel that also chose between them and the border took twice as long."""
    height, width, channels = shape
    rows = (height, width * channels)

    def run(view: ImageView, step: ImageStep, *_: ImageStep) -> tf.Tensor:
        image = view.copy(rows)
        return to_dtype(stencil.sharp_inside(as_levels(image), step.values[0], channels), image.dtype)

    return Kernel(run, rows, corner=(1, channels))
