"""Boxes, keypoints and polygons that move with the pixels of a warp or of a field."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.ops import field
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.warp import chosen_coefficients
from tfpipe.regions.move import POINTS, box_areas, clip_boxes, hide_outside, invert_maps, move_regions


def move_with_choices(
    batch: Mapping[str, Any], choices: Choices, ops: Sequence[Op], height: int, width: int
) -> dict[str, Any]:
    """What of a batch's boxes, keypoints and polygons moves; see regions.move.move_regions.

    Args:
      batch: of it, the boxes [B, N, 4] or ragged [B, (N), 4], and so on.
      choices, ops: what moves the pixels; ops of other families than warp and field move nothing.
      height, width: of the images.
    """
    boxes = batch.get("boxes")
    if boxes is not None and not isinstance(boxes, tf.RaggedTensor):
        shape = tf.convert_to_tensor(boxes).shape
        if shape.rank != 3 or shape[-1] != 4:
            raise ValueError(f"Boxes are [B, N, 4] or ragged; got the shape {shape}.")
    if not any(op.family == "field" for op in ops):
        return _by_warps(batch, choices, ops, height, width)
    # No map to invert: stage by stage, so that a field meets the regions as they are when it comes.
    moved: dict[str, Any] = {}
    for stage in range(choices.ops.shape[1]):
        one = Choices(*(part[:, stage : stage + 1] for part in choices))
        for move in (_by_warps, _by_fields):
            moved |= move({**batch, **moved}, one, ops, height, width)
    return moved


def _by_warps(batch: Mapping[str, Any], choices: Choices, ops: Sequence[Op], height: int, width: int) -> dict[str, Any]:
    maps = invert_maps(_matrix(_compose_maps(choices, ops, height, width)))
    return move_regions(batch, maps[:, :2], (height, width))


def _by_fields(
    batch: Mapping[str, Any], choices: Choices, ops: Sequence[Op], height: int, width: int
) -> dict[str, Any]:
    """As move_with_choices, after one stage's fields, image by image; a field mirrors nothing.

    A box becomes the upright one around the pixels that come from inside it. How much of it was cut off is told by its
    corners.
    """
    rows = {name: _by_image(batch[name]) for name in (*POINTS, "boxes") if name in batch}
    if not rows:
        return {}
    corners = "boxes" in batch and "box_visible" in batch

    def move(image: tuple[Any, ...]) -> dict[str, tf.Tensor]:
        rows, chosen, values, seeds = image
        moved = rows | ({"around": rows["boxes"]} if corners else {})
        for index, op in enumerate(ops):
            if op.family == "field":
                moved = tf.cond(
                    chosen == index,
                    functools.partial(_through_field, rows, op, values, seeds, (height, width), corners),
                    lambda moved=moved: dict(moved),
                )
        return moved

    wanted = rows | ({"around": rows["boxes"]} if corners else {})
    signature = {name: tf.TensorSpec(part.shape[1:], part.dtype) for name, part in wanted.items()}
    one = (rows, choices.ops[:, 0], choices.values[:, 0], choices.seeds[:, 0])
    moved = tf.map_fn(move, one, fn_output_signature=signature)
    found = {name: _as_before(moved[name], batch[name]) for name in rows}
    if "keypoints" in found:
        found["keypoints"] = hide_outside(found["keypoints"], (height, width))
    if corners:
        around = _as_before(moved["around"], batch["boxes"])
        left = tf.math.divide_no_nan(box_areas(clip_boxes(around, (height, width))), box_areas(around))
        found["box_visible"] = batch["box_visible"] * left
    return found


def _through_field(
    rows: Mapping[str, tf.Tensor],
    op: Op,
    values: tf.Tensor,
    seeds: tf.Tensor,
    size: tuple[int, int],
    corners: bool,
) -> dict[str, tf.Tensor]:
    """The rows of one image after its field."""
    point = op.build(values, seeds, *size)
    moved = {name: _points_moved(part, point) for name, part in rows.items() if name != "boxes"}
    if "boxes" in rows:
        boxes = rows["boxes"]
        moved["boxes"] = tf.cast(field.hull(boxes, point), boxes.dtype)
        if corners:
            places = tf.reshape(tf.gather(boxes, [0, 1, 2, 1, 2, 3, 0, 3], axis=-1), [-1, 4, 2])
            places = _points_moved(places, point)
            sides = [tf.reduce_min(places, axis=-2), tf.reduce_max(places, axis=-2)]
            moved["around"] = tf.concat(sides, axis=-1)
    return moved


def _points_moved(points: tf.Tensor, point: field.Point) -> tf.Tensor:
    """Points [..., 2 or more] of one image; what stands behind x and y stays."""
    places = tf.reshape(tf.cast(points[..., :2], tf.float64), [-1, 2])
    moved = tf.reshape(tf.cast(field.outcome(places, point), points.dtype), tf.shape(points[..., :2]))
    return tf.ensure_shape(tf.concat([moved, points[..., 2:]], axis=-1), points.shape)


def _by_image(values: Any) -> tf.Tensor:
    """Dense rows of each image, [B, M, ...]; ragged ones are flat, with blanks behind."""
    if not isinstance(values, tf.RaggedTensor):
        return tf.convert_to_tensor(values)
    return _flat_rows(values).to_tensor()


def _flat_rows(values: tf.RaggedTensor) -> tf.RaggedTensor:
    return values.merge_dims(1, values.ragged_rank) if values.ragged_rank > 1 else values


def _as_before(rows: tf.Tensor, values: Any) -> Any:
    """The rows in the shape of the values that they came from."""
    if not isinstance(values, tf.RaggedTensor):
        return tf.ensure_shape(rows, tf.convert_to_tensor(values).shape)
    flat = tf.RaggedTensor.from_tensor(rows, lengths=_flat_rows(values).row_lengths(), ragged_rank=1)
    return values.with_flat_values(flat.values)


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
