"""Boxes, keypoints and polygons that move with the pixels of a warp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.warp import chosen_coefficients
from tfpipe.regions.move import invert_maps, move_regions


def move_with_choices(
    batch: Mapping[str, Any], choices: Choices, ops: Sequence[Op], height: int, width: int
) -> dict[str, Any]:
    """What of a batch's boxes, keypoints and polygons moves; see regions.move.move_regions.

    Args:
      batch: of it, the boxes [B, N, 4] or ragged [B, (N), 4], and so on.
      choices, ops: what moves the pixels; ops of other families than warp move nothing.
      height, width: of the images.
    """
    boxes = batch.get("boxes")
    if boxes is not None and not isinstance(boxes, tf.RaggedTensor):
        shape = tf.convert_to_tensor(boxes).shape
        if shape.rank != 3 or shape[-1] != 4:
            raise ValueError(f"Boxes are [B, N, 4] or ragged; got the shape {shape}.")
    maps = invert_maps(_matrix(_compose_maps(choices, ops, height, width)))
    return move_regions(batch, maps[:, :2], (height, width))


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


def _matrix(coefficients: tf.Tensor) -> tf.Tensor:
    """[..., 3, 3] of [..., 6]."""
    last = tf.constant([0, 0, 1], tf.float64) + tf.zeros_like(coefficients[..., :3])
    return tf.stack([coefficients[..., :3], coefficients[..., 3:], last], axis=-2)


def _flat(matrix: tf.Tensor) -> tf.Tensor:
    return tf.concat([matrix[..., 0, :], matrix[..., 1, :]], axis=-1)
