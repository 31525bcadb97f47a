"""The loop form: one XLA program that changes a batch in place, image by image. Fastest on a CPU.

A stage is one loop for each op, over the images that drew it: so only that op runs for an image, and an image that drew
the identity costs nothing. Each image stays in the second-level cache while an op works on it.

    images ─copy─▶ batch ─ rotate: images 3, 17 ─▶ batch ─ invert: images 0, 5, 9 ─▶ ...       in place

The last kernel of an op writes into the batch itself, one before it into buffers that the loops carry along (fusions
that end in dynamic-update-slice). That saves a copy for each op, and XLA:CPU never splits such a kernel over threads. A
split one waits for the pool, where the programs of other batches run: with one for each image that drew contrast, two
batches at a time took 1.25 times as long.

One loop over images that switches on the op copies each image four times: 73 us an image (224 x 224) for two
identities, against 23.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from tfpipe.augment import lookup, stencil, warp
from tfpipe.augment.choices import Choices, Op
from tfpipe.augment.erase import erase
from tfpipe.augment.levels import as_levels, fenced, in_dtype
from tfpipe.augment.sampling import Fill, Grid, fill_pixel, nearest_index, shifted, slid, take_bilinear, take_nearest

# So many loops in a body: with their counters they stay within the eight kernels of _over_ops.
FAN_OUT = 3


def apply_loop(
    images: tf.Tensor, choices: Choices, ops: Sequence[Op], fill: Fill, interpolation: str, count: tf.Tensor
) -> tf.Tensor:
    """Images after all stages of their choices.

    Args:
      images: [B, H, W, C], B static once it is compiled.
      choices: of the same B.
      ops: what choices.ops counts in.
      fill, interpolation: as in apply_choices.
      count: how many of the images to do, int32 scalar; the others stay as they are.
    """
    height, width, channels = images.shape[1:]
    branches = [_branch(op, fill, interpolation, (height, width, channels)) for op in ops]
    # Rows of W * C: over an innermost axis of 3, LLVM takes the channels apart and puts them together again.
    never = tf.cast(count < 0, tf.int32)
    batch = _own(tf.reshape(images, [-1, height, width * channels]), never)
    used = [branch for branch in branches if branch is not None]
    ranks = np.array([0 if branch is None else used.index(branch) + 1 for branch in branches], np.int32)
    plan = Plan(choices, _order(choices.ops, ranks, count, never), never)

    def step(stage: tf.Tensor, *images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return stage + 1, *_over_ops(list(enumerate(used)), State(plan.first(stage, 0), *images), plan, stage)[1:]

    # A loop over stages: one after the other would hold all ops once more for each.
    num_stages = choices.ops.shape[1]
    # No constants: TensorFlow's optimizer would put one that no op writes to into the loops, and not find them again.
    rows = tf.fill([height + 2, width * channels], tf.cast(never, batch.dtype))
    plane = tf.fill([height + 1, width], never)
    begin = [tf.constant(0), batch, rows, plane]
    done = tf.while_loop(lambda stage, *_: stage < num_stages + never, step, begin)[1]
    return tf.reshape(done, tf.shape(images))


def _own(batch: tf.Tensor, never: tf.Tensor) -> tf.Tensor:
    """The batch in a buffer that the program may write to.

    Computed, not copied: XLA:CPU copies so much on its thread pool, and would run all that follows there.
    """
    bits = {tf.uint8: tf.uint8, tf.float16: tf.uint16, tf.float32: tf.uint32}.get(batch.dtype)
    if bits is None:
        return batch
    return tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(batch, bits), tf.cast(never, bits)), batch.dtype)


class Plan(NamedTuple):
    """Which images an op is carried out on.

    Attributes:
      choices: what was drawn.
      order: int32 [S, B + K + 1], for each stage the images in the order of their ops, those without one first; then
        the places in it where each op begins, and B.
      never: int32 scalar, 0, which is known only at run time.
    """

    choices: Choices
    order: tf.Tensor
    never: tf.Tensor

    def first(self, stage: tf.Tensor, op: int) -> tf.Tensor:
        """Where the op's images begin."""
        return self.order[stage, tf.shape(self.choices.ops)[0] + op]


def _order(ops: tf.Tensor, ranks: np.ndarray, count: tf.Tensor, never: tf.Tensor) -> tf.Tensor:
    """The order of a Plan.

    Args:
      ops: int32 [B, S].
      ranks: int32, for each of what ops counts in: 0 for the identity, else its place among the others, from 1.
      count: as in apply_loop; images from there on count as without an op.
      never: as in Plan.
    """
    size, num_ops = tf.shape(ops)[0], int(ranks.max())

    def compute() -> tf.Tensor:
        numbers = tf.range(size)
        used = tf.transpose(tf.where((numbers < count)[:, None], tf.gather(ranks, ops), 0))
        order = tf.sort(used * size + numbers) % size
        first = tf.reduce_sum(tf.cast(used[:, None] <= tf.range(num_ops + 1)[:, None], tf.int32), axis=-1)
        return tf.concat([order, first], axis=1)

    return fenced(never, compute, shape=[ops.shape[1], size + num_ops + 1])


class State(NamedTuple):
    """What the loops carry along.

    Attributes:
      place: in the stage's order, of the next image.
      batch: the images.
      rows: [H + 2, W * C], room for one image with a row of zeros above and below it.
      plane: int32 [H + 1, W], room for a number for each pixel. A buffer has more rows than are written to it, or XLA
        would replace it by what is written, in a kernel of another kind.
    """

    place: tf.Tensor
    batch: tf.Tensor
    rows: tf.Tensor
    plane: tf.Tensor


def _over_ops(branches: Sequence[tuple[int, Branch]], state: State, plan: Plan, stage: tf.Tensor) -> State:
    """The place in the stage's order and the batch, after some ops that follow one another.

    XLA:CPU hands the kernels of a body of more than eight to its thread pool; so loops of one turn group the ops.
    """
    if len(branches) <= FAN_OUT:
        for op, branch in branches:
            state = _over_members(branch, state, op, plan, stage)
        return state
    size = -(-len(branches) // FAN_OUT)
    # One counter for all: each that began at 0 anew would be one more kernel.
    turns = tf.constant(0)
    for number, start in enumerate(range(0, len(branches), size)):
        last, group = number + plan.never, branches[start : start + size]

        def turn(done: tf.Tensor, *state: tf.Tensor, group: Any = group) -> tuple[tf.Tensor, ...]:
            return done + 1, *_over_ops(group, State(*state), plan, stage)

        turns, *after = tf.while_loop(lambda done, *_, last=last: done <= last, turn, [turns, *state])
        state = State(*after)
    return state


class Source:
    """One image of the batch, as a branch reads it."""

    def __init__(self, state: State, number: tf.Tensor, never: tf.Tensor, rows: tuple[int, int]) -> None:
        self._batch, self._number, self.never, self._rows = state.batch, number, never, rows
        self.buffers = state.rows, state.plane

    def fence(self, compute: Callable[[], tf.Tensor]) -> tf.Tensor:
        """What `compute` gives, computed first (see `fenced`); for what is small."""
        return fenced(self.never, compute)

    def view(self, shape: tuple[int, ...]) -> tf.Tensor:
        """The image in a shape, for an op that reads each element only where it writes: one kernel, in place."""
        # xla.dynamic_slice, since tf.slice would compile anew for every start.
        start = tf.stack([self._number, *[0] * len(shape)])
        return xla.dynamic_slice(tf.reshape(self._batch, [-1, *shape]), start, [1, *shape])[0]

    def copy(self, shape: tuple[int, ...], *, padded: bool = False) -> tf.Tensor:
        """The image in a shape, in the cache; padded: with a row of zeros above and below."""
        rows, plane = self.buffers
        # Rows are copied by vectors, pixels byte by byte.
        rows = xla.dynamic_update_slice(rows, self.view(self._rows), [1, 0])
        self.buffers = rows, plane
        return tf.reshape(rows if padded else rows[1:-1], shape)

    def plane(self, numbers: tf.Tensor) -> tf.Tensor:
        """Int32 [H, W], computed first: within what reads it, it might be computed again for each element."""
        rows, plane = self.buffers
        plane = xla.dynamic_update_slice(plane, numbers, [0, 0])
        self.buffers = rows, plane
        return plane[:-1]


class Branch(NamedTuple):
    """What the loop does with one image for an op.

    Attributes:
      run: (source, values [4], seeds [2]) -> image.
      shape: of the image as the result is written: [H, W * C], or another of as many elements.
      corner: where in the image the result begins, which may be smaller; around it the image stays.
        Empty: at the start.
    """

    run: Callable[[Source, tf.Tensor, tf.Tensor], tf.Tensor]
    shape: tuple[int, ...]
    corner: tuple[int, ...] = ()


def _over_members(branch: Branch, state: State, op: int, plan: Plan, stage: tf.Tensor) -> State:
    """As _over_ops, for one op: carried out in place on its images, to the last of them."""
    corner = branch.corner or (0,) * len(branch.shape)
    rows = tuple(state.batch.shape[1:])

    def step(*carried: tf.Tensor) -> tuple[tf.Tensor, ...]:
        place, batch, *_ = carried
        number = plan.order[stage, place]
        row = tf.stack([number, stage])
        values, seeds = tf.gather_nd(plan.choices.values, row), tf.gather_nd(plan.choices.seeds, row)
        source = Source(State(*carried), number, plan.never, rows)
        result = branch.run(source, values, seeds)[None]
        return place + 1, xla.dynamic_update_slice(batch, result, tf.stack([number, *corner])), *source.buffers

    # Shaped outside the loop: within it, XLA would copy the whole batch for each image.
    shaped = state._replace(batch=tf.reshape(state.batch, [-1, *branch.shape]))
    after = State(*tf.while_loop(lambda place, *_: place < plan.first(stage, op + 1), step, list(shaped)))
    return after._replace(batch=tf.reshape(after.batch, [-1, *rows]))


def _branch(op: Op, fill: Fill, interpolation: str, shape: tuple[int, int, int]) -> Branch | None:
    """None for the identity."""
    if op.family == "identity":
        return None
    if op.family == "lookup":
        return _table_branch(op, shape) if op.needs not in ("", "luma") else _curve_branch(op, shape)
    if op.family == "warp":
        return _warp_branch(op, fill, interpolation, shape)
    if op.build is stencil.sharpness and min(shape[:2]) >= 3:
        return _sharpness_branch(shape)
    return _pixel_branch(op, fill, shape)


def _pixel_branch(op: Op, fill: Fill, shape: tuple[int, int, int]) -> Branch:
    def run(source: Source, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        image = source.copy(shape)
        if op.family == "erase":
            return erase(image, op.build(values, *shape[:2]), fill_pixel(fill, image.dtype, shape[2]))
        levels = as_levels(image)
        if op.family == "custom":
            return in_dtype(op.build(levels[None], values[None, 0])[0], image.dtype)
        return in_dtype(op.build(levels, values, *[seeds] * (op.family == "noise")), image.dtype)

    return Branch(run, shape)


def _warp_branch(op: Op, fill: Fill, interpolation: str, shape: tuple[int, int, int]) -> Branch:
    height, width, _ = shape
    if interpolation == "nearest" and fill is not None and (op.motion.startswith("shift") or op.build is warp.shear_x):
        return _slide_branch(op, fill, shape)

    def run(source: Source, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        grid = Grid(op.build(values, height, width), op.motion != "affine", height, width)
        image = source.copy(shape)
        if interpolation == "bilinear":
            return take_bilinear(image, grid, fill)
        return take_nearest(image, source.plane(nearest_index(grid, repeat_edge=fill is None)), fill)

    return Branch(run, shape)


def _slide_branch(op: Op, fill: tuple[float, ...], shape: tuple[int, int, int]) -> Branch:
    """A warp that moves whole rows."""
    height, width, channels = shape
    rows = (height, width * channels)

    def run(source: Source, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        coefficients = op.build(values, height, width)
        if op.motion.startswith("shift"):
            return shifted(source.copy(rows), coefficients, fill, op.motion)
        return slid(source.copy((-1,), padded=True), coefficients, fill, shape, source.fence)

    return Branch(run, rows)


def _curve_branch(op: Op, shape: tuple[int, int, int]) -> Branch:
    """A look-up op that is cheaper computed for each element than looked up."""
    height, width, channels = shape
    # Rows of W * C: over an innermost axis of 3, LLVM takes the channels apart and puts them together again.
    rows = (height, width * channels)

    def run(source: Source, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        image = source.view(rows)
        mean = None
        if op.needs:
            levels = as_levels(source.copy(shape))
            mean = source.fence(lambda: lookup.native_luma_mean(levels, source.never))
        return in_dtype(op.build(as_levels(image), values[0], mean), image.dtype)

    return Branch(run, rows)


def _table_branch(op: Op, shape: tuple[int, int, int]) -> Branch:
    """A look-up op that goes through a table of 256 levels for each channel."""
    height, width, channels = shape
    # Four pixels a turn, each channel by a gather of its own: LLVM unrolls that to loads from fixed tables and stores.
    # Over rows of W * C it gathers in vectors, byte by byte, with limits to check: 107 us an image, not 49.
    size = next(size for size in (4, 2, 1) if height * width % size == 0)
    pixels = (height * width // size, size, channels)

    def run(source: Source, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        image = source.view(pixels)
        statistic = _statistic(op, source, shape)
        tables = source.fence(lambda: _tables(op, values[0], statistic, channels))
        places = tf.cast(as_levels(image), tf.int32)
        changed = [tf.gather(tables[channel], places[..., channel, None]) for channel in range(channels)]
        return in_dtype(tf.concat(changed, axis=-1), image.dtype)

    return Branch(run, pixels)


def _statistic(op: Op, source: Source, shape: tuple[int, int, int]) -> Any:
    """What the op needs of the image, shaped to meet tables [C, 256]."""
    if op.needs == "extrema":
        levels = as_levels(source.copy(shape))
        limits = source.fence(lambda: tf.stack(lookup.extrema(levels)))
        return limits[0, :, None], limits[1, :, None]
    if op.needs == "histogram":
        levels = as_levels(source.copy(shape))
        return source.fence(lambda: lookup.counted(levels, source.never))
    return None


def _tables(op: Op, value: tf.Tensor, statistic: Any, channels: int) -> tf.Tensor:
    """Uint8 [C, 256]."""
    tables = op.build(tf.cast(tf.range(lookup.NUM_LEVELS), tf.uint8), value, statistic)
    return tables if statistic is not None else tf.tile(tables[None], [channels, 1])


def _sharpness_branch(shape: tuple[int, int, int]) -> Branch:
    """The inner pixels alone: a kernel that also chose between them and the border took twice as long."""
    height, width, channels = shape
    rows = (height, width * channels)

    def run(source: Source, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        image = source.copy(rows)
        return in_dtype(stencil.sharp_inside(as_levels(image), values[0], channels), image.dtype)

    return Branch(run, rows, corner=(1, channels))
