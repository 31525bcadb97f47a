"""Boxes that move with the pixels of a warp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.ops import field
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.warp import chosen_coefficients


def move_boxes(boxes: Any, choices: Choices, ops: Sequence[Op], height: int, width: int) -> Any:
    """The upright boxes around the moved ones, cut off at the border; same shape and dtype, dense or ragged.

    Args:
      boxes: [B, N, 4] or ragged [B, (N), 4], (x0, y0, x1, y1) in pixels.
      choices, ops: what moves the pixels; ops of other families than warp and field move nothing.
      height, width: of the images.
    """
    if not isinstance(boxes, tf.RaggedTensor):
        boxes = tf.convert_to_tensor(boxes)
        if boxes.shape.rank != 3 or boxes.shape[-1] != 4:
            raise ValueError(f"Boxes are [B, N, 4] or ragged; got the shape {boxes.shape}.")
    if any(op.family == "field" for op in ops):
        # No map to invert: stage by stage, so that a field meets the boxes as they are when it comes.
        for stage in range(choices.ops.shape[1]):
            one = Choices(*(part[:, stage : stage + 1] for part in choices))
            boxes = _by_field(_by_warps(boxes, one, ops, height, width), one, ops, height, width)
        return boxes
    return _by_warps(boxes, choices, ops, height, width)


def _by_warps(boxes: Any, choices: Choices, ops: Sequence[Op], height: int, width: int) -> Any:
    inverse = _invert(_compose_maps(choices, ops, height, width))
    return map_boxes(lambda rows, maps: _hull(rows, maps, height, width), boxes, inverse)


def _by_field(boxes: Any, choices: Choices, ops: Sequence[Op], height: int, width: int) -> Any:
    """Boxes after one stage's fields: the upright boxes around the pixels that come from inside them."""
    padded = boxes.to_tensor() if isinstance(boxes, tf.RaggedTensor) else boxes

    def move(image: tuple[tf.Tensor, ...]) -> tf.Tensor:
        rows, chosen, values, seeds = image
        moved = rows
        for index, op in enumerate(ops):
            if op.family == "field":
                hull = field.hull(rows, op.build(values, seeds, height, width))
                moved = tf.where(chosen == index, tf.cast(hull, rows.dtype), moved)
        return moved

    one = (padded, choices.ops[:, 0], choices.values[:, 0], choices.seeds[:, 0])
    moved = tf.map_fn(move, one, fn_output_signature=tf.TensorSpec(padded.shape[1:], padded.dtype))
    if not isinstance(boxes, tf.RaggedTensor):
        return tf.ensure_shape(moved, boxes.shape)
    rows = tf.RaggedTensor.from_tensor(moved, lengths=boxes.row_lengths(), ragged_rank=1)
    return tf.RaggedTensor.from_row_splits(rows.values, boxes.row_splits, validate=False)


def map_boxes(move: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], boxes: Any, maps: tf.Tensor) -> Any:
    """The boxes after `move`, dense or ragged as they came.

    Args:
      move: (boxes [..., 4], rows of maps that broadcast to them) -> boxes.
      boxes: [B, N, 4] or ragged [B, (N), 4].
      maps: [B, K], one row per image.
    """
    if not isinstance(boxes, tf.RaggedTensor):
        return move(boxes, maps[:, None])
    rows = boxes.values if boxes.ragged_rank == 1 else boxes.values.to_tensor()
    moved = move(rows, tf.gather(maps, boxes.value_rowids()))
    return tf.RaggedTensor.from_row_splits(moved, boxes.row_splits, validate=False)


def _compose_maps(choices: Choices, ops: Sequence[Op], height: int, width: int) -> tf.Tensor:
    """One map, output to input, for all stages: float64 [B, 6]."""
    stages = range(choices.ops.shape[1])
    maps = [chosen_coefficients(choices.ops[:, s], choices.values[:, s], ops, height, width)[0] for s in stages]
    total = maps[0]
    for later in maps[1:]:
        # The last stage's output asks the stage before it, and so on down to the image.
        total = _through(total, later)
    return total


def _through(outer: tf.Tensor, inner: tf.Tensor) -> tf.Tensor:
    """The map p -> outer(inner(p))."""
    return _flat(_matrix(outer) @ _matrix(inner))


def _invert(coefficients: tf.Tensor) -> tf.Tensor:
    """The maps from input to output; a map that flattens the image has none, and gives an empty box."""
    a, b, c, d, e, f = tf.unstack(coefficients, axis=-1)
    scale = tf.math.divide_no_nan(tf.ones_like(a), a * e - b * d)
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    return tf.stack([a, b, -(a * c + b * f), d, e, -(d * c + e * f)], axis=-1)


def _matrix(coefficients: tf.Tensor) -> tf.Tensor:
    """[..., 3, 3] of [..., 6]."""
    last = tf.constant([0, 0, 1], tf.float64) + tf.zeros_like(coefficients[..., :3])
    return tf.stack([coefficients[..., :3], coefficients[..., 3:], last], axis=-2)


def _flat(matrix: tf.Tensor) -> tf.Tensor:
    return tf.concat([matrix[..., 0, :], matrix[..., 1, :]], axis=-1)


def _hull(boxes: tf.Tensor, coefficients: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Boxes [..., 4] under maps that broadcast to [..., 6]."""
    left, top, right, bottom = tf.unstack(tf.cast(boxes, tf.float64), axis=-1)
    a, b, c, d, e, f = tf.unstack(coefficients, axis=-1)
    corners = [(x, y) for x in (left, right) for y in (top, bottom)]
    x = tf.stack([a * x + b * y + c for x, y in corners])
    y = tf.stack([d * x + e * y + f for x, y in corners])
    sides = [tf.clip_by_value(x, 0.0, float(width)), tf.clip_by_value(y, 0.0, float(height))]
    lowest, highest = ([reduce(side, axis=0) for side in sides] for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.cast(tf.stack(lowest + highest, axis=-1), boxes.dtype)
