"""How an image is given its ops: some of a suite, one of several sub-policies, or a random walk through steps.

All three choose among candidates (an op with a strength, see candidates.py) by streams of their own, so which op, how
strong, which sign and whether at all are independent of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape, Candidates, make_candidates
from tfpipe.augment.draw.magnitudes import NONE, MagnitudeRange, op_ranges, range_of_op, with_translation
from tfpipe.augment.draw.streams import Draws, cumulative, draw_uniforms, sample_index, split_seed
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.table import OPS
from tfpipe.policy import Policy, Step

IDENTITY = OPS["identity"]
# What an OpTransform is made of: its ops, its number of stages, and its draw.
Drawn = tuple[tuple[Op, ...], int, Callable[[tf.Tensor, BatchShape], Choices]]
# The largest shift in pixels and as a fraction of the side, or None for the table's.
Translation = tuple[float | None, float | None]


def range_of(op: Op, suite: Mapping[str, MagnitudeRange]) -> MagnitudeRange:
    """The table's range for tfpipe's own ops that are in it; else the op's own, and always for a user's op."""
    return suite[op.name] if op.name in suite and OPS.get(op.name) == op else range_of_op(op)


def from_suite(
    members: Sequence[tuple[Op, MagnitudeRange]], n: int, op_weights: np.ndarray, bin_weights: np.ndarray
) -> Drawn:
    """N ops of a suite for each image."""
    num_bins = len(bin_weights)
    positions = np.arange(num_bins) / max(num_bins - 1, 1)
    candidates = make_candidates([(op, values, float(p)) for op, values in members for p in positions], IDENTITY)
    op_limits, bin_limits = cumulative(op_weights), cumulative(bin_weights)

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        draws = draw_uniforms(seed, shape.batch_size, n)
        index = sample_index(draws.op, op_limits) * num_bins + sample_index(draws.magnitude, bin_limits)
        return candidates.choices(index, draws, shape)

    return candidates.ops, n, choose


def from_policies(
    policies: Sequence[Policy],
    lengths: Sequence[int],
    ops: Sequence[Op],
    translate: Translation,
    *,
    epoch: int | None = 0,
    flatten: bool = False,
) -> Drawn:
    """Policies in sequence, each for some epochs; a single one is used throughout."""
    num_stages = max(max(map(len, policy.sub_policies)) for policy in policies)
    entries, chances, sub_policies = [], [], []
    for policy in policies:
        members = _steps_of(policy, ops, translate)
        for steps in policy.sub_policies:
            padding = [(IDENTITY, NONE, 0.0)] * (num_stages - len(steps))
            entries += [*(members[step] for step in steps), *padding]
            chances += [*(_chance(step, *members[step]) for step in steps), *[0.0] * len(padding)]
        sub_policies.append(len(policy.sub_policies))
    candidates = make_candidates(entries, IDENTITY)
    chosen = _Drawer(candidates, np.array(chances, np.float32), np.array(sub_policies), num_stages)

    def segment_of(seed: tf.Tensor, shape: BatchShape) -> tf.Tensor:
        return _segment(seed, shape, lengths, epoch, flatten)

    num_ops = policies[0].num_ops
    if num_ops is None:
        return candidates.ops, num_stages, lambda seed, shape: chosen.in_order(seed, shape, segment_of(seed, shape))
    limits = cumulative(np.array([policy.num_ops for policy in policies]))
    most = len(num_ops) - 1
    return candidates.ops, most, lambda seed, shape: chosen.walk(seed, shape, segment_of(seed, shape), limits)


def _steps_of(
    policy: Policy, ops: Sequence[Op], translate: Translation
) -> dict[Step, tuple[Op, MagnitudeRange, float]]:
    """For each step of a policy its op, the op's range, and the position in that range."""
    known = {**OPS, **{op.name: op for op in ops}}
    unknown = sorted({step.op for step in policy.steps} - set(known))
    if unknown:
        raise ValueError(f"Unknown op {unknown[0]!r} in policy {policy.name!r}; known ops: {sorted(known)}.")
    suite = {name: range_of_op(op) for name, op in OPS.items()} | op_ranges(
        policy.table, "auto", version=policy.version
    )
    used = {step.op: suite[step.op] for step in policy.steps if step.op in suite}
    used = with_translation(used, *translate)
    steps = {}
    for step in policy.steps:
        op = known[step.op]
        values = replace(range_of(op, used), uniform=policy.table == "uniform")
        if step.magnitude is None and values.low != values.high:
            raise ValueError(f"Step {step.op!r} of policy {policy.name!r} has no magnitude, but the op takes one.")
        last = 1 if policy.num_magnitude_bins is None else max(policy.num_magnitude_bins - 1, 1)
        position = last if step.magnitude is None and values.uniform else step.magnitude or 0
        steps[step] = (op, values, position / last)
    return steps


def _chance(step: Step, op: Op, values: MagnitudeRange, position: float) -> float:
    """The probability of a step; for an op without a strength, a uniform table's magnitude is a part of it."""
    without_strength = values.uniform and values.low == values.high
    return step.probability * (position if without_strength else 1.0)


def _segment(seed: tf.Tensor, shape: BatchShape, lengths: Sequence[int], epoch: int | None, flatten: bool) -> tf.Tensor:
    """The index of the policy in force: int32 [B] or [1]."""
    if len(lengths) == 1:
        return tf.zeros([1], tf.int32)
    if flatten:
        draws = draw_uniforms(split_seed(seed, 1)[0], shape.batch_size, 1)
        return sample_index(draws.op[:, 0], cumulative(np.array(lengths)))
    if epoch is None and (shape.batch is None or "epoch" not in shape.batch):
        raise ValueError("A schedule needs the epoch: give epoch=, or a batch with 'epoch', an integer scalar.")
    now = tf.cast(shape.batch["epoch"] if epoch is None else epoch, tf.int64)  # type: ignore[index]
    return sample_index(tf.reshape(now, [1]), np.cumsum(lengths)[:-1].astype(np.int64))


class _Drawer:
    """Draws steps of policies; sub-policy p of segment s begins at candidate (first[s] + p) * num_stages."""

    def __init__(self, candidates: Candidates, chances: np.ndarray, counts: np.ndarray, num_stages: int) -> None:
        self._candidates, self._chances, self._num_stages = candidates, chances, num_stages
        self._counts = counts.astype(np.float32)
        self._first = (np.cumsum(counts) - counts).astype(np.int32)

    def in_order(self, seed: tf.Tensor, shape: BatchShape, segment: tf.Tensor) -> Choices:
        """One sub-policy for each image, drawn uniformly, and each of its steps with its probability."""
        draws = draw_uniforms(seed, shape.batch_size, self._num_stages)
        count = tf.gather(self._counts, segment)
        sub_policy = tf.cast(tf.minimum(tf.floor(draws.op[:, 0] * count), count - 1), tf.int32)
        first = (tf.gather(self._first, segment) + sub_policy) * self._num_stages
        index = first[:, None] + tf.range(self._num_stages)
        return self._candidates.choices(index, draws, shape, applied=draws.apply < tf.gather(self._chances, index))

    def walk(self, seed: tf.Tensor, shape: BatchShape, segment: tf.Tensor, limits: np.ndarray) -> Choices:
        """The steps in random order, each with its probability, until the drawn number of them is reached."""
        draws = draw_uniforms(seed, shape.batch_size, self._num_stages)
        index = (tf.gather(self._first, segment) * self._num_stages)[:, None] + tf.range(self._num_stages)
        happens = draws.apply < tf.gather(self._chances, index)
        # Those that happen come first, in the random order of their priorities; the others have 2, beyond all of them.
        priorities = tf.where(happens, draws.magnitude, 2.0)
        most = limits.shape[-1]
        order = tf.argsort(priorities, axis=-1, stable=True)[:, :most]
        num_applied = sample_index(draws.op[:, 0], tf.gather(limits, segment))
        ready = tf.reduce_sum(tf.cast(happens, tf.int32), axis=-1)
        applied = tf.range(most) < tf.minimum(num_applied, ready)[:, None]
        chosen = (tf.gather(self._first, segment) * self._num_stages)[:, None] + order
        return self._candidates.choices(chosen, _leading(draws, most), shape, applied=applied)


def _leading(draws: Draws, num_stages: int) -> Draws:
    return Draws(*(column[:, :num_stages] for column in draws))
