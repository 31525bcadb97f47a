"""Boxes and points that move with their image: turned upright with it, and resized with it.

Boxes are float32 [N, 4], each x0, y0, x1, y1 in pixels: x to the right and y down from the upper left corner of the
image, so that the whole image is 0, 0, width, height. Points are float32 [..., 2 or 3], x and y, and of keypoints the
visibility. Those in a record refer to the image as it is stored there.

    boxes = turn_boxes(boxes, stored_size, orientation)
    boxes = fit_boxes(boxes, upright_size, Resize((224, 224), "pad"))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfpipe.images.decode import mirrored_axes, upright_size
from tfpipe.images.fit import Resizer

# Pixels: rounding must not hide a point on the border.
_BORDER = 1e-4


def place_regions(
    features: Mapping[str, tf.Tensor], names: tuple[str, ...], resizer: Resizer | None
) -> dict[str, tf.Tensor]:
    """The boxes and points of a record on its image as batches have it: upright, in the size that was asked for.

    Args:
      features: of which are read those named, `shape`, and `orientation` where there is one.
      names: of what is moved: boxes or points.
      resizer: brings the upright image to its size; None keeps its own.
    """
    found, size = _upright(features, names)
    if resizer is None:
        return found
    fit = {name: fit_boxes if name == "boxes" else fit_points for name in names}
    return {name: fit[name](value, size, resizer) for name, value in found.items()}


def split_polygons(points: tf.Tensor, counts: tf.Tensor, most: int | None) -> tf.Tensor:
    """The polygons of a record, each with as many points; what a record stores is ragged.

    Args:
      points: of all polygons, [T, 2].
      counts: how many of them each object has, int64 [N]; 0: it has no polygon.
      most: P of the result; None takes the longest polygon's number.

    Returns:
      [N, P, 2]. A shorter polygon repeats its last point, which changes nothing of what it covers. Of a longer one P
      points are taken, evenly by their numbers. An object without has 0, a polygon without area.
    """
    size = tf.reduce_max(tf.concat([counts, [0]], 0)) if most is None else tf.constant(most, tf.int64)
    number, own = tf.range(size), counts[:, None]
    taken = tf.where(own > size, number * own // tf.maximum(size, 1), tf.minimum(number, own - 1))
    # The point behind all others is that of objects without.
    index = tf.where(own > 0, tf.cumsum(counts, exclusive=True)[:, None] + taken, tf.size(points, tf.int64) // 2)
    found = tf.gather(tf.pad(points, [[0, 1], [0, 0]]), index)
    return tf.ensure_shape(found, [None, most, 2])


def visible_shares(features: Mapping[str, tf.Tensor], resizer: Resizer) -> tf.Tensor:
    """The share of each box's area that place_regions leaves inside of the image, float64 [N]."""
    found, size = _upright(features, ("boxes",))
    whole = tf.reshape(_fitted(_corners(found["boxes"]), size, resizer), [-1, 4])
    left = tf.clip_by_value(whole, 0.0, _most(resizer, 2))
    before, after = (tf.reduce_prod(part[:, 2:] - part[:, :2], axis=1) for part in (whole, left))
    return tf.math.divide_no_nan(after, before)


def _upright(features: Mapping[str, tf.Tensor], names: tuple[str, ...]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Boxes and points on the upright image, and its height and width."""
    found, size = {name: features[name] for name in names}, features["shape"][:2]
    if "orientation" not in features:
        return found, size
    turn = {name: turn_boxes if name == "boxes" else turn_points for name in names}
    turned = {name: turn[name](value, size, features["orientation"]) for name, value in found.items()}
    return turned, upright_size(size, features["orientation"])


def turn_boxes(boxes: Any, size: Any, orientation: Any) -> tf.Tensor:
    """The boxes on the upright image; see decode.turn_upright.

    Args:
      boxes: [N, 4] on the image as stored.
      size: int [2], height and width of the image as stored.
      orientation: the EXIF orientation, scalar, 1 to 8.
    """
    corners = turn_points(_corners(boxes), size, orientation)
    return tf.concat([tf.reduce_min(corners, axis=1), tf.reduce_max(corners, axis=1)], axis=1)


def turn_points(points: Any, size: Any, orientation: Any) -> tf.Tensor:
    """Points [..., 2 or 3] on the upright image; size and orientation as for turn_boxes."""
    points, orientation = tf.convert_to_tensor(points), tf.cast(orientation, tf.int32)
    place = tf.where(orientation >= 5, tf.reverse(points[..., :2], [-1]), points[..., :2])
    most = tf.reverse(upright_size(tf.cast(size, tf.float32), orientation), [0])
    place = tf.where(tf.reverse(mirrored_axes(orientation), [0]), most - place, place)
    return tf.concat([place, points[..., 2:]], axis=-1)


def fit_boxes(boxes: Any, size: Any, resizer: Resizer) -> tf.Tensor:
    """The boxes on the resized image; one that it cuts ends at the border, one outside has no area.

    Args:
      boxes: [N, 4].
      size: int [2], height and width of the image before.
      resizer: what brings the image to its size.
    """
    moved = tf.reshape(_fitted(_corners(boxes), size, resizer), [-1, 4])
    return tf.cast(tf.clip_by_value(moved, 0.0, _most(resizer, 2)), tf.float32)


def fit_points(points: Any, size: Any, resizer: Resizer) -> tf.Tensor:
    """Points [..., 2 or 3] on the resized image; one that is cut off keeps its place, outside, and is not visible.

    Args:
      points: x, y, and the visibility where there are three.
      size, resizer: as for fit_boxes.
    """
    points = tf.convert_to_tensor(points)
    place = _fitted(points[..., :2], size, resizer)
    inside = tf.reduce_all((place >= -_BORDER) & (place <= _most(resizer, 1) + _BORDER), axis=-1, keepdims=True)
    return tf.concat([tf.cast(place, tf.float32), tf.where(inside, points[..., 2:], 0.0)], axis=-1)


def _corners(boxes: Any) -> tf.Tensor:
    """Boxes [N, 4] as two points each, [N, 2, 2]."""
    return tf.reshape(boxes, [-1, 2, 2])


def _fitted(points: tf.Tensor, size: Any, resizer: Resizer) -> tf.Tensor:
    """Points [..., 2] on the resized image, in float64."""
    scale, offset = resizer.geometry(size)
    return tf.cast(points, tf.float64) * scale[::-1] + offset[::-1]


def _most(resizer: Resizer, times: int) -> tf.Tensor:
    height, width = resizer.size
    return tf.constant([width, height] * times, tf.float64)
