"""Transforms that decide per image, and cost what a batch costs.

    one_of([rand_augment(2, 9), cutout(16)], p=[0.7, 0.3])
    sometimes(color_jitter(brightness=0.4), 0.5)
    choose_n(["invert", "equalize", op("rotate", (-30, 30))], 2)
    select(["identity", "rotate"], "label_int")
    compose([pad_and_crop(4), flip_left_right(), trivial_augment_wide()])

They combine tables of choices, never images: every part draws its table, and each image's rows are taken from the
part that was drawn for it. So they nest freely, and the pixels are touched once per stage for any number of parts.
A part is a transform made of ops, an Op, or the name of one. Transforms that change the size or mix images have no
table; only compose takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import cumulative, draw_order, draw_uniforms, sample_index, split_seed
from tfpipe.augment.ops.op import NUM_VALUES, Choices, Op
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.single import op as op_transform
from tfpipe.augment.transform import Batch, BatchTransform, OpTransform, Rendering, Transform, record_call
from tfpipe.policy import is_integer, is_number

Part = OpTransform | Op | str


@record_call
def one_of(parts: Sequence[Part], p: Sequence[float] | None = None) -> OpTransform:
    """Each image gets one of the parts.

    Args:
      parts: transforms made of ops, Ops or names of ops.
      p: the probability of each; None: all alike.

    Raises:
      ValueError: there is no part, or p has not one probability each that sum to 1.
    """
    joint = _Parts("one_of", parts)
    limits = cumulative(_probabilities(p, len(joint.parts)))

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        own, rest = split_seed(seed, 2)
        part_index = sample_index(draw_uniforms(own, shape.batch_size, 1).op, limits)
        return joint.rows(rest, shape, part_index)

    return OpTransform(joint.ops, joint.num_stages, choose, joint.rendering)


@record_call
def sometimes(part: Part, p: float) -> OpTransform:
    """Each image gets the part with probability p, and stays as it is otherwise.

    Raises:
      ValueError: p is not in [0, 1].
    """
    if not is_number(p, least=0, most=1, kinds=Real):
        raise ValueError(f"p is {p!r}; it must be in [0, 1].")
    joint = _Parts("sometimes", [part])

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        own, rest = split_seed(seed, 2)
        happens = draw_uniforms(own, shape.batch_size, 1).apply < np.float32(p)
        choices = joint.rows(rest, shape, tf.zeros([shape.batch_size, 1], tf.int32))
        return _only(choices, happens)

    return OpTransform(joint.ops, joint.num_stages, choose, joint.rendering)


@record_call
def choose_n(parts: Sequence[Part], n: int) -> OpTransform:
    """Each image gets n different parts, in random order.

    Raises:
      ValueError: n is negative, or there are fewer parts.
    """
    joint = _Parts("choose_n", parts)
    if not is_integer(n, 0, most=len(joint.parts)):
        raise ValueError(
            f"n is {n!r}; with {len(joint.parts)} parts it must be an integer from 0 to {len(joint.parts)}."
        )

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        own, rest = split_seed(seed, 2)
        return joint.rows(rest, shape, draw_order(own, shape.batch_size, len(joint.parts))[:, :n])

    return OpTransform(joint.ops, n * joint.num_stages, choose, joint.rendering)


@record_call
def select(ops: Sequence[Part], index: int | str | Sequence[int] | tf.Tensor) -> OpTransform:
    """Each image gets the part that its index names; an index outside the list leaves it as it is.

    Args:
      ops: transforms made of ops, Ops or names of ops.
      index: integers [B]; or one for all; or the name of the feature of the batch that holds them.

    Raises:
      ValueError: there is no part; when drawing, the batch has no such feature.
    """
    joint = _Parts("select", ops)

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        part_index = tf.cast(_index_of(index, shape), tf.int32)
        part_index = tf.broadcast_to(part_index, [shape.batch_size])[:, None]
        inside = (part_index >= 0) & (part_index < len(joint.parts))
        return _only(joint.rows(split_seed(seed, 1)[0], shape, tf.where(inside, part_index, 0)), inside)

    return OpTransform(joint.ops, joint.num_stages, choose, joint.rendering)


def compose(parts: Sequence[Part | BatchTransform]) -> Transform:
    """Each image gets all parts, in order.

    Returns:
      One transform made of ops where all parts are; otherwise a transform of the batch, which no conditional takes.

    Raises:
      ValueError: there is no part.
    """
    runs = _runs(parts)
    if len(runs) == 1 and isinstance(runs[0], OpTransform):
        return runs[0]

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        for part, part_seed in zip(runs, split_seed(seed, len(runs)), strict=True):
            batch = part(batch, part_seed)
        return batch

    return BatchTransform(change, "compose", {"parts": parts})


# ---- parts


def _runs(parts: Sequence[Part | BatchTransform]) -> list[Transform]:
    """The parts, with neighbours that are made of ops, and treat pixels alike, joined to one each."""
    _check_some("compose", parts)
    runs: list[list[Any]] = []
    for part in parts:
        known: Any = part if isinstance(part, BatchTransform) else _as_transform("compose", part)
        joins = runs and isinstance(known, OpTransform) and isinstance(runs[-1][0], OpTransform)
        if joins and len(_distinct_renderings([*runs[-1], known])) < 2:
            runs[-1].append(known)
        else:
            runs.append([known])
    return [run[0] if isinstance(run[0], BatchTransform) else _sequence(run) for run in runs]


def _sequence(parts: Sequence[OpTransform]) -> OpTransform:
    joint = _Parts("compose", parts)
    num_stages = sum(part.num_stages for part in parts)

    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        tables = joint.tables(seed, shape)
        return Choices(*(tf.concat(columns, axis=1) for columns in zip(*tables, strict=True)))

    return OpTransform(joint.ops, num_stages, choose, joint.rendering, "compose", {"parts": parts})


class _Parts:
    """Parts with one tuple of ops for all, and tables of one width."""

    def __init__(self, what: str, parts: Sequence[Part]) -> None:
        _check_some(what, parts)
        self.parts = [_as_transform(what, part) for part in parts]
        distinct = _distinct_renderings(self.parts)
        if len(distinct) > 1:
            raise ValueError(
                f"The parts of {what} differ in fill, interpolation, form, check_values or mask_fill: {distinct}; they "
                "share one pass over the pixels, so give them the same."
            )
        self.rendering = distinct[0] if distinct else None
        self.ops = tuple(dict.fromkeys([OPS["identity"], *(op for part in self.parts for op in part.ops)]))
        self.num_stages = max(part.num_stages for part in self.parts)
        self._op_indices = [np.array([self.ops.index(op) for op in part.ops], np.int32) for part in self.parts]

    def tables(self, seed: tf.Tensor, shape: BatchShape) -> list[Choices]:
        """The choices of each part, as indices into the ops of all parts."""
        drawn = []
        for part, op_indices, part_seed in zip(
            self.parts, self._op_indices, split_seed(seed, len(self.parts)), strict=True
        ):
            choices = part.choose(part_seed, shape)
            drawn.append(choices._replace(ops=tf.gather(op_indices, choices.ops)))
        return drawn

    def rows(self, seed: tf.Tensor, shape: BatchShape, part_index: tf.Tensor) -> Choices:
        """For each image the tables of its parts, one behind the other.

        Args:
          seed: int32 [2].
          shape: of the batch.
          part_index: int32 [B, N], the indices of the parts of each image.

        Returns:
          Choices of N * num_stages stages.
        """
        tables = [self._pad(choices) for choices in self.tables(seed, shape)]
        if len(tables) == 1 and part_index.shape[1] == 1:
            return tables[0]
        # Rows of all parts under one another, [P * B, ...]: row p * B + b is what part p drew for image b.
        rows = part_index * shape.batch_size + tf.range(shape.batch_size)[:, None]
        stages = part_index.shape[1] * self.num_stages
        picked = [tf.gather(tf.concat(columns, axis=0), rows) for columns in zip(*tables, strict=True)]
        ops, values, seeds = picked
        return Choices(
            tf.reshape(ops, [shape.batch_size, stages]),
            tf.reshape(values, [shape.batch_size, stages, NUM_VALUES]),
            tf.reshape(seeds, [shape.batch_size, stages, 2]),
        )

    def _pad(self, choices: Choices) -> Choices:
        """The choices with identities behind, up to the widest part."""
        missing = self.num_stages - choices.ops.shape[1]
        if not missing:
            return choices
        return Choices(*(tf.pad(c, [[0, 0], [0, missing], *[[0, 0]] * (c.shape.rank - 2)]) for c in choices))


def _only(choices: Choices, where: tf.Tensor) -> Choices:
    """The choices for images [B, 1] where it says so, and the identity for the others."""
    values = tf.where(where[..., None], choices.values, 0.0)
    return choices._replace(ops=tf.where(where, choices.ops, 0), values=values)


def _as_transform(what: str, part: Any) -> OpTransform:
    if isinstance(part, OpTransform):
        return part
    if isinstance(part, str | Op):
        return op_transform(part)
    if isinstance(part, BatchTransform):
        raise ValueError(
            f"{part.factory} changes sizes or mixes images and cannot be a part of {what}; put it before or after."
        )
    raise ValueError(f"A part of {what} is {part!r}; it takes transforms made of ops, Ops, or names of ops.")


def _check_some(what: str, parts: Sequence[Any]) -> None:
    if isinstance(parts, str) or not isinstance(parts, Sequence) or not len(parts):
        raise ValueError(f"{what} takes a list of at least one part; it got {parts!r}.")


def _distinct_renderings(parts: Sequence[OpTransform]) -> list[Rendering]:
    return list(dict.fromkeys(part.rendering for part in parts if part.rendering is not None))


def _probabilities(p: Sequence[float] | None, count: int) -> np.ndarray:
    if p is None:
        return np.ones(count)
    if (
        len(p) != count
        or not all(is_number(part, least=0, most=1, kinds=Real) for part in p)
        or not math.isclose(sum(p), 1, abs_tol=1e-6)
    ):
        raise ValueError(f"p is {list(p)}; it needs {count} probabilities, one a part, that sum to 1.")
    return np.array(p, np.float64)


def _index_of(index: Any, shape: BatchShape) -> tf.Tensor:
    if not isinstance(index, str):
        return tf.convert_to_tensor(index)
    if shape.batch is None or index not in shape.batch:
        has = [] if shape.batch is None else sorted(shape.batch)
        raise ValueError(f"select reads {index!r}, but the batch has {has}.")
    return shape.batch[index]
