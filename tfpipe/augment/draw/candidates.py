"""The ops and strengths that a transform draws among, and the choices that a draw makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.magnitudes import MagnitudeRange
from tfpipe.augment.draw.streams import Draws, lerp
from tfpipe.augment.ops.op import NUM_VALUES, Choices, Op


@dataclass(frozen=True)
class BatchShape:
    """The sizes and features of a batch: all that a draw may depend on besides the seed.

    Attributes:
      batch_size: of the images; a number where it is known when the graph is made.
      height: of the images.
      width: of the images.
      batch: the whole batch, for transforms that follow one of its features; None where only the sizes are known.
    """

    batch_size: int | tf.Tensor
    height: int
    width: int
    batch: Mapping[str, tf.Tensor] | None = None

    def size_of(self, unit: str) -> int:
        """The pixels of "height", "width" or "side", the shorter of both; 1 for ""."""
        sizes = {"": 1, "height": self.height, "width": self.width, "side": min(self.height, self.width)}
        return sizes[unit]


@dataclass(frozen=True)
class Candidates:
    """The things that a draw chooses among: each an op with a strength.

    Attributes:
      ops: the identity, then the ops that occur.
      op_indices: int32 [N], the index of each candidate's op in ops.
      ranges: each candidate's range.
      positions: float64 [N], the position of each candidate in its range.
    """

    ops: tuple[Op, ...]
    op_indices: np.ndarray
    ranges: tuple[MagnitudeRange, ...]
    positions: np.ndarray

    def values(self, shape: BatchShape) -> tf.Tensor:
        """float32 [N * 2]: each candidate's value with the sign + and with the sign -."""
        runs = groupby(range(len(self.ranges)), key=lambda i: self.ranges[i])
        rows = [values.values(self.positions[list(run)], shape.size_of(values.unit)) for values, run in runs]
        return tf.constant(np.concatenate(rows).reshape(-1))

    def choices(
        self, index: tf.Tensor, draws: Draws, shape: BatchShape, *, applied: tf.Tensor | None = None
    ) -> Choices:
        """The choices for candidates.

        Args:
          index: int32 [B, S], a candidate for each image and stage.
          draws: the streams for sign, extra values and noise.
          shape: of the batch.
          applied: bool [B, S]; where it is False, the image stays as it is.
        """
        sign = tf.cast(draws.sign >= 0.5, tf.int32)
        op_indices = tf.gather(self.op_indices, index)
        value = tf.gather(self.values(shape), index * 2 + sign)
        if any(values.uniform for values in self.ranges):
            value = self._between(value, index, sign, draws, shape)
        if applied is not None:
            op_indices = tf.where(applied, op_indices, 0)
            value = tf.where(applied, value, 0.0)
        extra = self._extra_values(op_indices, draws)
        return Choices(op_indices, tf.concat([value[..., None], extra], axis=-1), draws.noise)

    def _between(
        self, value: tf.Tensor, index: tf.Tensor, sign: tf.Tensor, draws: Draws, shape: BatchShape
    ) -> tf.Tensor:
        """The values, those of uniform ranges anew: uniform between the range's first and the value."""
        weakest = replace(self, positions=np.zeros_like(self.positions)).values(shape)
        # The bits behind the first, which is the sign: exact, and independent of it.
        share = draws.sign * 2 - tf.cast(sign, tf.float32)
        drawn = lerp(tf.cast(tf.gather(weakest, index * 2 + sign), tf.float64), tf.cast(value, tf.float64), share)
        whole = tf.gather(np.array([values.rounding != "" for values in self.ranges]), index)
        drawn = tf.where(whole, tf.round(drawn), drawn)
        return tf.where(tf.gather(np.array([values.uniform for values in self.ranges]), index), drawn, value)

    def _extra_values(self, op_indices: tf.Tensor, draws: Draws) -> tf.Tensor:
        """float32 [B, S, 3]: the second and later values, by op."""
        if not any(op.further for op in self.ops):
            return tf.zeros_like(draws.extra)
        pairs = np.array([[*op.further, *[(0.0, 0.0)] * (NUM_VALUES - 1 - len(op.further))] for op in self.ops])
        drawn = tf.gather(pairs.astype(np.float64), op_indices)
        return tf.cast(drawn[..., 0] + (drawn[..., 1] - drawn[..., 0]) * tf.cast(draws.extra, tf.float64), tf.float32)


def make_candidates(entries: Sequence[tuple[Op, MagnitudeRange, float]], identity: Op) -> Candidates:
    """Candidates for (op, range, position); the ops in the order in which they first occur, behind the identity."""
    ops = [identity]
    for op, _, _ in entries:
        if op not in ops:
            ops.append(op)
    return Candidates(
        ops=tuple(ops),
        op_indices=np.array([ops.index(op) for op, _, _ in entries], np.int32),
        ranges=tuple(values for _, values, _ in entries),
        positions=np.array([position for _, _, position in entries], np.float64),
    )
