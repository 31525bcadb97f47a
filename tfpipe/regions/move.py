"""Boxes, keypoints and polygons that move with the pixels, and what is left of them.

    found = move_regions({"boxes": boxes, "keypoints": keypoints}, maps, (224, 224))

A map takes a point of the image before to its point after, float64 [B, 2, 3] or [B, 3, 3], in pixels from the upper
left corner, so that pixel centres are at .5. A warp's matrix goes the other way: `invert_maps`. Everything is dense,
[B, ...], or ragged, [B, (N), ...].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

# Features of a batch that hold points; what stands behind x and y stays, but for the visibility of keypoints.
POINTS = ("keypoints", "polygons")
# Features with a row for each box, which stay or go with it; points only where each object has some of its own.
PER_BOX = ("box_labels", "box_weights", "box_visible")
# What is seen of images after: (height, width) of all, or (x0, y0, x1, y1) of each, [B, 4].
Limits: TypeAlias = tuple[int, int] | tf.Tensor


def move_regions(batch: Mapping[str, Any], maps: tf.Tensor, limits: Limits) -> dict[str, Any]:
    """What of a batch's regions moves, under the names that it has there.

    Args:
      batch: of which are read: `boxes` [B, N, 4], (x0, y0, x1, y1), which become the upright boxes around the moved
        ones, cut off at the limits; `keypoints` [B, ..., 2] or [B, ..., 3], whose third value, the visibility, becomes
        0 outside of them; `polygons` [B, ..., 2], which are not cut; and, where drop_boxes or keypoint_pairs
        follow them, `box_visible` [B, N], the share of each box's area that was never cut off, and `mirrored`, bool
        [B].
      maps: see the module.
      limits: what is seen of the images after.
    """
    found = {name: move_points(batch[name], maps) for name in POINTS if name in batch}
    if "keypoints" in found:
        found["keypoints"] = hide_outside(found["keypoints"], limits)
    if "boxes" in batch:
        whole = move_boxes(batch["boxes"], maps)
        found["boxes"] = clip_boxes(whole, limits)
        if "box_visible" in batch:
            left = tf.math.divide_no_nan(box_areas(found["boxes"]), box_areas(whole))
            found["box_visible"] = batch["box_visible"] * left
    if "mirrored" in batch:
        found["mirrored"] = tf.math.logical_xor(batch["mirrored"], _mirrors(maps))
    return found


def invert_maps(maps: tf.Tensor) -> tf.Tensor:
    """The maps that undo maps [..., 2, 3] or [..., 3, 3]; of one that flattens the image all zeros."""
    rows = [tf.unstack(row, axis=-1) for row in tf.unstack(maps, axis=-2)]
    zero = tf.zeros_like(rows[0][0])
    (a, b, c), (d, e, f), (g, h, i) = (*rows, [zero, zero, zero + 1])[:3]
    parts = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * parts[0][0] + b * parts[1][0] + c * parts[2][0]
    scale = tf.math.divide_no_nan(tf.ones_like(a), determinant)
    return matrices_of([[part * scale for part in row] for row in parts[: len(rows)]])


def matrices_of(rows: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor:
    """Matrices [..., rows, columns] of their entries [...], row by row."""
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def move_points(points: Any, maps: tf.Tensor) -> Any:
    """Points [B, ..., 2 or more] after their image's map, in their own dtype; what stands behind x and y stays."""
    return each_row(_mapped, points, maps)


def move_boxes(boxes: Any, maps: tf.Tensor) -> Any:
    """The upright boxes around the moved ones, not cut; [B, N, 4] or ragged, dtype as before."""
    if isinstance(boxes, tf.RaggedTensor) and boxes.ragged_rank > 1:
        boxes = boxes.with_values(boxes.values.to_tensor())
    return each_row(_hull, boxes, maps)


def clip_boxes(boxes: Any, limits: Limits) -> Any:
    """Boxes cut off at the limits; one outside has no area."""

    def cut(flat: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(flat, tf.concat([low, low], -1), tf.concat([high, high], -1))

    return _within(cut, boxes, limits)


def box_areas(boxes: Any) -> Any:
    """The area of each box, [B, N] or ragged, in square pixels; float32."""
    return _values(
        lambda flat: tf.cast((flat[..., 2] - flat[..., 0]) * (flat[..., 3] - flat[..., 1]), tf.float32), boxes
    )


def keep_boxes(batch: Mapping[str, Any], keep: Any) -> dict[str, Any]:
    """The boxes to keep, and what goes with each: ragged ones without the others, dense ones with blanks for them.

    Args:
      batch: of which are read `boxes` [B, N, 4], the features of PER_BOX, and points of rank 4 and more, [B, N, ...],
        which are those of the boxes.
      keep: bool [B, N]; ragged where boxes are.

    Returns:
      These features; a blank is 0, but a label -1.
    """
    names = ["boxes", *(name for name in (*PER_BOX, *POINTS) if name in batch and is_per_box(name, batch[name]))]
    if isinstance(batch["boxes"], tf.RaggedTensor):
        return {name: tf.ragged.boolean_mask(batch[name], keep) for name in names}
    return {name: _blanked(batch[name], keep, -1 if name == "box_labels" else 0) for name in names}


def is_per_box(name: str, values: Any) -> bool:
    """Whether a feature has a row for each box, by its rank; see keep_boxes."""
    return name in PER_BOX or (name in POINTS and len(values.shape) >= 4)


def _blanked(values: Any, keep: tf.Tensor, blank: int) -> Any:
    """Values [B, N, ...] with blanks where they are not kept."""
    if isinstance(values, tf.RaggedTensor):
        return values.with_values(each_row(lambda rows, kept: _chosen(kept, rows, blank), values.values, _flat(keep)))
    return _chosen(keep, tf.convert_to_tensor(values), blank)


def _chosen(chosen: tf.Tensor, values: Any, other: Any) -> tf.Tensor:
    """Values where they are chosen, by their first axes, and the others elsewhere."""
    shape = tf.concat([tf.shape(chosen), tf.ones([len(values.shape) - len(chosen.shape)], tf.int32)], axis=0)
    return tf.where(tf.reshape(chosen, shape), values, tf.cast(other, values.dtype))


def _flat(keep: tf.Tensor) -> tf.Tensor:
    return tf.reshape(keep, [-1])


def swap_pairs(keypoints: Any, pairs: Sequence[tuple[int, int]], mirrored: tf.Tensor) -> Any:
    """Keypoints [B, ..., K, 2 or 3] with the left and right ones exchanged in images that are mirrored, bool [B]."""
    number = keypoints.shape[-2]
    order = list(range(number))
    for left, right in pairs:
        order[left], order[right] = right, left

    def swap(rows: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        return _chosen(mirrored, tf.gather(rows, order, axis=-2), rows)

    return each_row(swap, keypoints, mirrored)


def _mirrors(maps: tf.Tensor) -> tf.Tensor:
    """Whether a map turns left hands into right ones: its determinant is negative."""
    if maps.shape[-2] == 2:
        return maps[..., 0, 0] * maps[..., 1, 1] < maps[..., 0, 1] * maps[..., 1, 0]
    first, second, third = tf.unstack(maps, axis=-2)
    return tf.reduce_sum(first * tf.linalg.cross(second, third), axis=-1) < 0


def each_row(move: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], values: Any, maps: tf.Tensor) -> Any:
    """move(values [T, ...], maps [T, ...]) of dense values, or of the flat ones of ragged values with their image's."""
    if not isinstance(values, tf.RaggedTensor):
        return move(tf.convert_to_tensor(values), maps)
    moved = each_row(move, values.values, tf.gather(maps, values.value_rowids()))
    return tf.RaggedTensor.from_row_splits(moved, values.row_splits, validate=False)


def _values(change: Callable[[tf.Tensor], tf.Tensor], values: Any) -> Any:
    """change(values) of dense values, or of the flat ones of ragged values."""
    if isinstance(values, tf.RaggedTensor):
        return values.with_values(_values(change, values.values))
    return change(tf.convert_to_tensor(values))


def _mapped(points: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    x, y = (tf.cast(points[..., axis], tf.float64) for axis in (0, 1))
    moved = tf.stack(_through(maps, x, y), axis=-1)
    return tf.concat([tf.cast(moved, points.dtype), points[..., 2:]], axis=-1)


def _through(maps: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
    """Points x and y [T, ...] after maps [T, 2 or 3, 3]."""
    shape = [-1, *[1] * (len(x.shape) - 1)]
    rows = [[tf.reshape(part, shape) for part in tf.unstack(row, axis=-1)] for row in tf.unstack(maps, axis=-2)]
    moved = [a * x + b * y + c for a, b, c in rows]
    return moved if len(moved) == 2 else [tf.math.divide_no_nan(part, moved[2]) for part in moved[:2]]


def _hull(boxes: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    left, top, right, bottom = tf.unstack(tf.cast(boxes, tf.float64), axis=-1)
    corners = [_through(maps, x, y) for x in (left, right) for y in (top, bottom)]
    sides = [tf.stack(side) for side in zip(*corners, strict=True)]
    lowest, highest = ([reduce(side, axis=0) for side in sides] for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.cast(tf.stack(lowest + highest, axis=-1), boxes.dtype)


def hide_outside(keypoints: Any, limits: Limits) -> Any:
    """Keypoints [B, ..., 2 or 3], with the visibility 0 for those outside of the limits."""

    def hide(flat: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        if flat.shape[-1] != 3:
            return flat
        inside = tf.reduce_all((flat[..., :2] >= low) & (flat[..., :2] <= high), axis=-1)
        shown = tf.where(inside, flat[..., 2], tf.zeros([], flat.dtype))
        return tf.concat([flat[..., :2], shown[..., None]], axis=-1)

    return _within(hide, keypoints, limits)


def _within(change: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor], values: Any, limits: Limits) -> Any:
    """change(values, low, high) of dense values or flat ones, with the corners (x, y) of their image's limits."""
    if isinstance(limits, tuple):
        high = [float(limits[1]), float(limits[0])]
        return _values(lambda flat: change(flat, tf.zeros([2], flat.dtype), tf.cast(high, flat.dtype)), values)

    def cut(flat: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
        shape = [-1, *[1] * (len(flat.shape) - 2), 2]
        low, high = (tf.reshape(tf.cast(limits[:, i : i + 2], flat.dtype), shape) for i in (0, 2))
        return change(flat, low, high)

    return each_row(cut, values, limits)
