"""The loop form: one XLA program walks the images of a batch, and switches on the op. Fastest on a CPU.

Each image passes through all its stages in one iteration and stays in the second-level cache meanwhile; the program
reads the input and writes a buffer of its own. Per image only the op that was drawn runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from tfpipe.augment import lookup
from tfpipe.augment.choices import Choices, Op
from tfpipe.augment.erase import erase
from tfpipe.augment.levels import as_levels, fenced, in_dtype
from tfpipe.augment.sampling import Fill, Grid, fill_pixel, nearest_index, shifted, take_bilinear, take_nearest

Branch = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def apply_loop(
    images: tf.Tensor, choices: Choices, ops: Sequence[Op], fill: Fill, interpolation: str, count: tf.Tensor
) -> tf.Tensor:
    """Images after all stages of their choices.

    Args:
      images: [B, H, W, C], B static once it is compiled.
      choices: of the same B.
      ops: what choices.ops counts in.
      fill, interpolation: as in apply_choices.
      count: how many of the images to do, int32 scalar; the rest of the result is zero.
    """
    height, width, channels = images.shape[1:]
    branches = [_branch(op, fill, interpolation, channels) for op in ops]
    # Rows of W * C: over an innermost axis of 3, LLVM takes the channels apart and puts them together again.
    rows = tf.reshape(images, [-1, height, width * channels])

    def step(number: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # xla.dynamic_slice, since tf.slice would compile anew for every start.
        start = tf.stack([number, 0, 0])
        image = xla.dynamic_slice(rows, start, [1, height, width * channels])[0]
        image = _apply_stages(image, choices, branches, number)
        return number + 1, xla.dynamic_update_slice(done, image[None], start)

    done = tf.while_loop(lambda number, _: number < count, step, [tf.constant(0), tf.zeros_like(rows)])[1]
    return tf.reshape(done, tf.shape(images))


def _apply_stages(image: tf.Tensor, choices: Choices, branches: Sequence[Branch], number: tf.Tensor) -> tf.Tensor:
    """One image through its stages: a loop of its own, or each stage would hold all branches once more.

    Two stages compiled in 1.4 s so, in 8.6 s one after the other, and ran no slower.
    """

    def step(stage: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The tables go into the branch whole and are read there: that keeps the loop's own body to a few kernels.
        def call(branch: Branch) -> tf.Tensor:
            return branch(image, choices.values[number, stage], choices.seeds[number, stage])

        calls = [functools.partial(call, branch) for branch in branches]
        return stage + 1, tf.switch_case(choices.ops[number, stage], calls)

    num_stages = choices.ops.shape[1]
    return tf.while_loop(lambda stage, _: stage < num_stages, step, [tf.constant(0), image])[1]


def _branch(op: Op, fill: Fill, interpolation: str, channels: int) -> Branch:
    """What the loop does with one image for an op: (rows [H, W * C], values [4], seeds [2]) -> rows."""
    if op.family == "identity":
        return lambda rows, values, seeds: rows
    if op.family == "lookup":
        return _lookup_branch(op, channels)
    run = _pixel_branch(op, fill, interpolation)

    def on_pixels(rows: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        image = tf.reshape(rows, [rows.shape[0], rows.shape[1] // channels, channels])
        # Fenced, or the kernel would run over rows and find each element's channel by a division.
        return tf.reshape(fenced(values[0], lambda: run(image, values, seeds)), rows.shape)

    return on_pixels


def _pixel_branch(op: Op, fill: Fill, interpolation: str) -> Branch:
    """As _branch, for images [H, W, C]."""
    if op.family == "warp":
        return _warp_branch(op, fill, interpolation)
    if op.family == "erase":
        return _erase_branch(op, fill)
    build = op.build
    if op.family != "noise":
        build = lambda image, values, seeds: op.build(image, values)  # noqa: E731
    if op.family == "custom":
        build = lambda image, values, seeds: op.build(image[None], values[None, 0])[0]  # noqa: E731
    return lambda image, values, seeds: in_dtype(build(as_levels(image), values, seeds), image.dtype)


def _warp_branch(op: Op, fill: Fill, interpolation: str) -> Branch:
    def run(image: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        height, width, _ = image.shape
        coefficients = op.build(values, height, width)
        if op.motion.startswith("shift") and interpolation == "nearest" and fill is not None:
            return shifted(image, coefficients, fill, op.motion)
        grid = Grid(coefficients, op.motion != "affine", height, width)
        if interpolation == "bilinear":
            return take_bilinear(image, grid, fill)
        # Fenced, each place is computed once; within the gather, for each of the pixel's channels.
        index = fenced(values[0], lambda: nearest_index(grid, repeat_edge=fill is None))
        return take_nearest(image, index, fill)

    return run


def _erase_branch(op: Op, fill: Fill) -> Branch:
    def run(image: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        height, width, channels = image.shape
        return erase(image, op.build(values, height, width), fill_pixel(fill, image.dtype, channels))

    return run


def _lookup_branch(op: Op, channels: int) -> Branch:
    def run(rows: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        value, levels = values[0], as_levels(rows)
        if op.needs in ("", "luma"):
            image = tf.reshape(levels, [rows.shape[0], -1, channels])
            mean = fenced(value, lambda: lookup.luma_mean(image)) if op.needs else None
            changed = op.build(levels, value, mean)
        else:
            tables = fenced(value, lambda: _tables(op, levels, value, channels))
            place = np.tile(np.arange(channels, dtype=np.int32) * lookup.NUM_LEVELS, rows.shape[1] // channels)
            changed = tf.gather(tables, tf.cast(levels, tf.int32) + place)
        return in_dtype(changed, rows.dtype)

    return run


def _tables(op: Op, rows: tf.Tensor, value: tf.Tensor, channels: int) -> tf.Tensor:
    """Uint8 [C * 256]."""
    image = tf.reshape(rows, [rows.shape[0], -1, channels])
    levels = tf.cast(tf.range(lookup.NUM_LEVELS), tf.uint8)
    if op.needs == "extrema":
        low, high = lookup.extrema(image)
        tables = op.build(levels, value, (low[:, None], high[:, None]))
    elif op.needs == "histogram":
        tables = op.build(levels, value, lookup.histogram(image))
    else:
        tables = tf.tile(op.build(levels, value, None), [channels])
    return tf.reshape(tables, [-1])
