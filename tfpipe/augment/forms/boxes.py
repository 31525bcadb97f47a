"""Boxes that move with the pixels of a warp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.warp import chosen_coefficients


def move_boxes(boxes: Any, choices: Choices, ops: Sequence[Op], height: int, width: int) -> Any:
    """The upright boxes around the moved ones, cut off at the border; same shape and dtype, dense or ragged.

    Args:
      boxes: [B, N, 4] or ragged [B, (N), 4], (x0, y0, x1, y1) in pixels.
      choices, ops: what moves the pixels; ops of other families than warp move nothing.
      height, width: of the images.
    """
    inverse = _invert(_compose_maps(choices, ops, height, width))
    if isinstance(boxes, tf.RaggedTensor):
        rows = boxes.values if boxes.ragged_rank == 1 else boxes.values.to_tensor()
        moved = _hull(rows, tf.gather(inverse, boxes.value_rowids()), height, width)
        return tf.RaggedTensor.from_row_splits(moved, boxes.row_splits, validate=False)
    boxes = tf.convert_to_tensor(boxes)
    if boxes.shape.rank != 3 or boxes.shape[-1] != 4:
        raise ValueError(f"Boxes are [B, N, 4] or ragged; got the shape {boxes.shape}.")
    return _hull(boxes, inverse[:, None], height, width)


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
