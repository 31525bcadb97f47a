"""The loop form: one XLA program that changes a batch in place, image by image. Fastest on a CPU.

A stage is one loop for each op, over the images that drew it: so only that op runs for an image, and an image that drew
the identity costs nothing. Each image stays in the second-level cache while an op works on it.

    images ─copy─▶ batch ─ rotate: images 3, 17 ─▶ batch ─ invert: images 0, 5, 9 ─▶ ...       in place

The last kernel of an op writes into the batch itself, one before it into buffers that the loops carry along (fusions
that end in dynamic-update-slice). That saves a copy for each op, and XLA:CPU never splits such a kernel over threads. A
split one waits for the pool, where the programs of other batches run: with one for each image that drew contrast, two
batches at a time took 1.25 times as long.

One loop over images that switches on the op copies each image four times: 73 us per image (224 x 224) for two
identities, against 23.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.augment.forms.kernels import ImageStep, ImageView, Kernel, LoopState, fused_op, kernel_of
from tfpipe.augment.ops.levels import in_the_loop, isolated
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.regions.sampling import FillLevels
from tfpipe.tf_internals import dynamic_update_slice

# Number of loops in a body: with their counters they stay within the eight kernels of _loop_ops.
FAN_OUT = 3


def apply_loop(
    images: tf.Tensor, choices: Choices, ops: Sequence[Op], fill: FillLevels, interpolation: str, count: tf.Tensor
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
    kernels = [kernel_of(op, ops, fill, interpolation, (height, width, channels)) for op in ops]
    # Rows of W * C: over an innermost axis of 3, LLVM takes the channels apart and puts them together again.
    runtime_zero = tf.cast(count < 0, tf.int32)
    batch = _writable(tf.reshape(images, [-1, height, width * channels]), runtime_zero)
    used = [kernel for kernel in kernels if kernel is not None]
    ranks = np.array([0 if kernel is None else used.index(kernel) + 1 for kernel in kernels], np.int32)
    order, fused_next, starts = _sort_by_op(choices.ops, ops, ranks, count, runtime_zero)
    schedule = LoopSchedule(choices, order, fused_next, starts, runtime_zero)

    def step(stage: tf.Tensor, *images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return stage + 1, *_loop_ops(
            list(enumerate(used)), LoopState(schedule.first(stage, 0), *images), schedule, stage
        )[1:]

    # A loop over stages: unrolled, the program would contain all ops once more for each stage.
    num_stages = choices.ops.shape[1]
    # No constants: TensorFlow's optimizer would put one that no op writes to into the loops, and not find them again.
    rows = tf.fill([height + 2, width * channels], tf.cast(runtime_zero, batch.dtype))
    plane = tf.fill([height + 1, width], runtime_zero)
    begin = [tf.constant(0), batch, rows, plane]
    done = tf.while_loop(lambda stage, *_: stage < num_stages + runtime_zero, step, begin)[1]
    return tf.reshape(done, tf.shape(images))


def _writable(batch: tf.Tensor, runtime_zero: tf.Tensor) -> tf.Tensor:
    """The batch in a buffer that the program may write to.

    Computed, not copied: XLA:CPU copies so much on its thread pool, and would run all that follows there.
    """
    bits = {tf.uint8: tf.uint8, tf.float16: tf.uint16, tf.float32: tf.uint32}.get(batch.dtype)
    if bits is None:
        return batch
    return tf.bitcast(tf.bitwise.bitwise_xor(tf.bitcast(batch, bits), tf.cast(runtime_zero, bits)), batch.dtype)


class LoopSchedule(NamedTuple):
    """The order in which a stage visits the images, op by op.

    Attributes:
      choices: what was drawn.
      order: int32 [S, B], for each stage the images sorted by their ops, those without an op first.
      fused_next: int32 [S, B], for each image the op of the next stage that is carried out together with this stage's,
        0 for none.
      starts: int32 [S, K + 1], the index in the order at which each of the K ops begins, and B.
      runtime_zero: int32 scalar, 0, which is known only at run time.
    """

    choices: Choices
    order: tf.Tensor
    fused_next: tf.Tensor
    starts: tf.Tensor
    runtime_zero: tf.Tensor

    def first(self, stage: tf.Tensor, op: int) -> tf.Tensor:
        """The index of an op's first image in the stage's order."""
        return self.starts[stage, op]

    def steps(self, stage: tf.Tensor, image: tf.Tensor) -> tuple[ImageStep, ...]:
        """The steps of an image, by its index: this stage's and, if there is a next stage, that one's."""
        choices, num_stages = self.choices, self.choices.ops.shape[1]

        def drawn(stage: tf.Tensor, op: tf.Tensor | None = None) -> ImageStep:
            # By tf.gather_nd: a slice at an index that depends on `count` would compile anew for every count.
            row = tf.stack([image, stage])
            op = tf.gather_nd(choices.ops, row) if op is None else op
            return ImageStep(op, tf.gather_nd(choices.values, row), tf.gather_nd(choices.seeds, row))

        if num_stages == 1:
            return (drawn(stage),)
        then = tf.gather_nd(self.fused_next, tf.stack([stage, image]))
        return drawn(stage), drawn(tf.minimum(stage + 1, num_stages - 1), then)


def _sort_by_op(
    chosen: tf.Tensor, ops: Sequence[Op], ranks: np.ndarray, count: tf.Tensor, runtime_zero: tf.Tensor
) -> list[tf.Tensor]:
    """The order, fused_next and starts of a LoopSchedule.

    Args:
      chosen: int32 [B, S], indices into ops.
      ops: as in apply_loop.
      ranks: int32, for each op: 0 for the identity, else its rank among the others, from 1.
      count: as in apply_loop; images from there on count as without an op.
      runtime_zero: as in LoopSchedule.
    """
    size, num_stages, num_ops = tf.shape(chosen)[0], chosen.shape[1], int(ranks.max())
    # For each pair of ops, the rank of the one whose kernel carries out both; 0 where none can.
    joint = np.array(
        [[ranks[ops.index(by)] if (by := fused_op(op, then)) else 0 for then in ops] for op in ops], np.int32
    )

    def compute() -> tf.Tensor:
        numbers = tf.range(size)
        drawn = tf.transpose(tf.where((numbers < count)[:, None], chosen, 0))
        used, fused_next, taken = [], [], tf.zeros_like(numbers)
        for stage in range(num_stages):
            rank = tf.where(taken > 0, 0, tf.gather(ranks, drawn[stage]))
            then = tf.zeros_like(numbers)
            if joint.any() and stage + 1 < num_stages:
                both = tf.gather(joint.ravel(), drawn[stage] * len(ops) + drawn[stage + 1])
                both = tf.where(taken > 0, 0, both)
                rank, then = tf.where(both > 0, both, rank), tf.where(both > 0, drawn[stage + 1], 0)
            used.append(rank)
            fused_next.append(then)
            taken = then
        order = tf.sort(tf.stack(used) * size + numbers) % size
        first = tf.reduce_sum(tf.cast(tf.stack(used)[:, None] <= tf.range(num_ops + 1)[:, None], tf.int32), axis=-1)
        return tf.concat([order, tf.stack(fused_next), first], axis=1)

    lengths = [size, size, num_ops + 1]
    # Side by side, since `isolated` computes one tensor.
    return tf.split(isolated(runtime_zero, compute, shape=[num_stages, tf.reduce_sum(lengths)]), lengths, axis=1)


def _loop_ops(
    kernels: Sequence[tuple[int, Kernel]], state: LoopState, schedule: LoopSchedule, stage: tf.Tensor
) -> LoopState:
    """The index in the stage's order and the batch, after some consecutive ops.

    XLA:CPU gives the kernels of a body of more than eight to its thread pool; so loops of one iteration group the ops.
    """
    if len(kernels) <= FAN_OUT:
        for op, kernel in kernels:
            state = _loop_images(kernel, state, op, schedule, stage)
        return state
    size = -(-len(kernels) // FAN_OUT)
    # One counter for all: each that began at 0 anew would be one more kernel.
    iterations = tf.constant(0)
    for number, start in enumerate(range(0, len(kernels), size)):
        last, group = number + schedule.runtime_zero, kernels[start : start + size]

        def iterate(done: tf.Tensor, *state: tf.Tensor, group: Any = group) -> tuple[tf.Tensor, ...]:
            return done + 1, *_loop_ops(group, LoopState(*state), schedule, stage)

        iterations, *after = tf.while_loop(lambda done, *_, last=last: done <= last, iterate, [iterations, *state])
        state = LoopState(*after)
    return state


def _loop_images(kernel: Kernel, state: LoopState, op: int, schedule: LoopSchedule, stage: tf.Tensor) -> LoopState:
    """As _loop_ops, for one op: carried out in place on its images, to the last of them."""
    corner = kernel.corner or (0,) * len(kernel.shape)
    rows = tuple(state.batch.shape[1:])

    def step(*carried: tf.Tensor) -> tuple[tf.Tensor, ...]:
        position, batch, *_ = carried
        image = schedule.order[stage, position]
        view = ImageView(LoopState(*carried), image, schedule.runtime_zero, rows)
        with in_the_loop(schedule.runtime_zero):
            result = kernel.run(view, *schedule.steps(stage, image))[None]
        return position + 1, dynamic_update_slice(batch, result, tf.stack([image, *corner])), *view.buffers

    # Shaped outside the loop: within it, XLA would copy the whole batch for each image.
    shaped = state._replace(batch=tf.reshape(state.batch, [-1, *kernel.shape]))
    after = LoopState(*tf.while_loop(lambda position, *_: position < schedule.first(stage, op + 1), step, list(shaped)))
    return after._replace(batch=tf.reshape(after.batch, [-1, *rows]))
