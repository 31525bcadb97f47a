"""Boxes: their formats, and how much two of them overlap.

    boxes = convert_boxes(boxes, source="relative_xywh", target="xyxy", size=(480, 640))
    overlaps = box_iou(boxes, others, kind="giou")

A box is (x0, y0, x1, y1) in pixels, x to the right and y down from the upper left corner of the image, so that the
whole image is (0, 0, width, height). An oriented box is (cx, cy, width, height, degrees), turned counter-clockwise as
one sees it, about its centre. Everything takes any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.regions.programs import pad_axis, program

Parts = Sequence[tf.Tensor]

FORMATS = ("xyxy", "xywh", "cxcywh")
KINDS = ("iou", "giou", "diou", "ciou")
# What keeps torchvision's distance and complete IoU from dividing by 0.
_EPSILON = 1e-7


def convert_boxes(boxes: Any, *, source: str, target: str, size: Any = None) -> tf.Tensor:
    """Boxes in another format; the dtype stays where it is a float, integers become float32.

    Args:
      boxes: [..., 4].
      source, target: "xyxy", "xywh" (upper left corner and size) or "cxcywh" (centre and size); with "relative_" before
        it, in fractions of the image's width and height.
      size: (height, width) of the image, numbers or integers [..., 2] that go with the boxes' leading axes; only
        needed where one of the two formats is relative and the other is not.

    Raises:
      ValueError: an unknown format, or boxes or a size that do not fit.
    """
    boxes = as_floats(boxes)
    check_last_axis("boxes", boxes, (4,))
    kinds = [_split_format(name) for name in (source, target)]
    corners = _TO_XYXY[kinds[0][0]](*tf.unstack(boxes, axis=-1))
    if kinds[0][1] != kinds[1][1]:
        if size is None:
            raise ValueError(f"From {source!r} to {target!r} takes the size of the image: size=(height, width).")
        height, width = (tf.cast(side, boxes.dtype) for side in tf.unstack(tf.convert_to_tensor(size), axis=-1))
        # A size for each image is one for all of its boxes.
        sides = [side[..., None] if side.shape.rank else side for side in (width, height)] * 2
        corners = [part / side if kinds[1][1] else part * side for part, side in zip(corners, sides, strict=True)]
    return tf.stack(_FROM_XYXY[kinds[1][0]](*corners), axis=-1)


def box_iou(boxes: Any, others: Any, *, kind: str = "iou") -> tf.Tensor:
    """The overlap of each box with each other one: [..., N, M], the intersection's area over the union's.

    Args:
      boxes: [..., N, 4], or oriented [..., N, 5].
      others: [..., M, 4], or oriented [..., M, 5].
      kind: "iou"; "giou", less the share of the common hull that neither covers (Rezatofighi et al., 2019); "diou",
        less the squared distance of the centres over the squared diagonal of the hull; or "ciou", that less a penalty
        for different aspects (Zheng et al., 2020). Oriented boxes have only "iou".

    Returns:
      float32, or float64 where the boxes are; two boxes without area overlap by 0.

    Raises:
      ValueError: an unknown kind, or boxes of another shape.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown kind {kind!r}; allowed: {list(KINDS)}.")
    boxes, others = as_floats(boxes), as_floats(others)
    check_last_axis("boxes", boxes, (4, 5))
    check_last_axis("others", others, (boxes.shape[-1],))
    if boxes.shape[-1] == 5 and kind != "iou":
        raise ValueError(f"Oriented boxes, [..., 5], have no {kind!r}; they take kind='iou'.")
    static = (boxes.shape.rank, others.shape.rank, boxes.shape[-1])
    return program(_all_pairs, kind, static=static)(boxes, others)


def _all_pairs(kind: str, boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    rows = [part[..., :, None] for part in tf.unstack(boxes, axis=-1)]
    columns = [part[..., None, :] for part in tf.unstack(others, axis=-1)]
    overlap = pair_iou(rows, columns)
    return overlap if kind == "iou" else overlap - _PENALTIES[kind](rows, columns, overlap)


def pad_boxes(boxes: Any, labels: Any, *, max_boxes: int, also: Sequence[Any] = ()) -> tuple[tf.Tensor, ...]:
    """A batch's boxes as Keras 3 and XLA take them: so many for each image.

    Args:
      boxes: float32, ragged [B, (N), 4], or [B, N, 4].
      labels: int, ragged [B, (N)], or [B, N]; a negative one marks padding that is already there.
      max_boxes: N of the result; of an image that has more, the first ones stay.
      also: further features with a row for each box, such as weights [B, N], ragged where boxes are.

    Returns:
      boxes float32 [B, max_boxes, 4], padded with 0; labels int32 [B, max_boxes], padded with -1; num_boxes int32 [B];
      how many boxes of each image were lost, int32 [B]; and what was given beside, [B, max_boxes, ...], padded with 0.

    Raises:
      ValueError: max_boxes is below 1.
    """
    if isinstance(max_boxes, bool) or max_boxes < 1:
        raise ValueError(f"max_boxes is {max_boxes!r}; it takes at least 1.")
    rows = [part.to_tensor() if isinstance(part, tf.RaggedTensor) else part for part in (boxes, *also)]
    if isinstance(labels, tf.RaggedTensor):
        labels = labels.to_tensor(-1, shape=[None, None])
    rows[0], labels = tf.cast(rows[0], tf.float32), tf.cast(labels, tf.int32)
    is_box = labels >= 0
    found = tf.reduce_sum(tf.cast(is_box, tf.int32), axis=1)
    # Dropped boxes may have left gaps: what is there moves to the front, in its order.
    order = tf.argsort(tf.cast(is_box, tf.int32), axis=1, direction="DESCENDING", stable=True)[:, :max_boxes]
    num_boxes = tf.minimum(found, max_boxes)
    there = tf.range(max_boxes) < num_boxes[:, None]

    def front(values: tf.Tensor, blank: int) -> tf.Tensor:
        moved = pad_axis(tf.gather(values, order, batch_dims=1), 1, max_boxes)
        kept = tf.reshape(there, [-1, max_boxes, *[1] * (len(values.shape) - 2)])
        moved = tf.where(kept, moved, tf.cast(blank, values.dtype))
        return tf.ensure_shape(moved, [values.shape[0], max_boxes, *values.shape[2:]])

    placed, *others = (front(part, 0) for part in rows)
    return placed, front(labels, -1), num_boxes, found - num_boxes, *others


def pair_iou(first: Parts, second: Parts) -> tf.Tensor:
    """The overlap of boxes by their parts, which broadcast to each other: four parts each, or five if oriented."""
    if len(first) == 5:
        shared = _oriented_intersection(first, second)
        areas = [tf.maximum(box[2], 0.0) * tf.maximum(box[3], 0.0) for box in (first, second)]
        return tf.math.divide_no_nan(shared, areas[0] + areas[1] - shared)
    left, top = tf.maximum(first[0], second[0]), tf.maximum(first[1], second[1])
    right, bottom = tf.minimum(first[2], second[2]), tf.minimum(first[3], second[3])
    shared = tf.maximum(right - left, 0.0) * tf.maximum(bottom - top, 0.0)
    return tf.math.divide_no_nan(shared, _area(first) + _area(second) - shared)


def as_floats(values: Any) -> tf.Tensor:
    """A tensor of float32, or of float64 where the values are a float64 tensor or array."""
    if not tf.is_tensor(values):
        values = np.asarray(values)
        values = tf.constant(values if values.dtype == np.float64 and _is_array(values) else values.astype(np.float32))
    return values if values.dtype in (tf.float32, tf.float64) else tf.cast(values, tf.float32)


def check_last_axis(what: str, values: tf.Tensor, allowed: Sequence[int]) -> None:
    """Raises a ValueError where values have no axis, or their last one has none of the allowed lengths."""
    if not values.shape.rank or values.shape[-1] not in allowed:
        wanted = " or ".join(f"[..., {length}]" for length in allowed)
        raise ValueError(f"The {what} are {wanted}; got the shape {values.shape}.")


# ---- formats


def _split_format(name: str) -> tuple[str, bool]:
    """A format's plain name, and whether it is relative."""
    plain = name.removeprefix("relative_")
    if plain not in FORMATS:
        allowed = [*FORMATS, *(f"relative_{known}" for known in FORMATS)]
        raise ValueError(f"Unknown format of boxes {name!r}; allowed: {allowed}.")
    return plain, plain != name


_TO_XYXY = {
    "xyxy": lambda x0, y0, x1, y1: [x0, y0, x1, y1],
    "xywh": lambda x, y, width, height: [x, y, x + width, y + height],
    "cxcywh": lambda x, y, width, height: [x - width / 2, y - height / 2, x + width / 2, y + height / 2],
}
_FROM_XYXY = {
    "xyxy": lambda x0, y0, x1, y1: [x0, y0, x1, y1],
    "xywh": lambda x0, y0, x1, y1: [x0, y0, x1 - x0, y1 - y0],
    "cxcywh": lambda x0, y0, x1, y1: [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0],
}


# ---- overlaps


def _area(box: Parts) -> tf.Tensor:
    return (box[2] - box[0]) * (box[3] - box[1])


def _hull_sides(first: Parts, second: Parts) -> tuple[tf.Tensor, tf.Tensor]:
    """Width and height of the smallest box around both."""
    left, top = tf.minimum(first[0], second[0]), tf.minimum(first[1], second[1])
    return tf.maximum(first[2], second[2]) - left, tf.maximum(first[3], second[3]) - top


def _uncovered(first: Parts, second: Parts, overlap: tf.Tensor) -> tf.Tensor:
    width, height = _hull_sides(first, second)
    # shared = overlap * union, and shared + union are the two areas.
    union = (_area(first) + _area(second)) / (1.0 + overlap)
    return tf.math.divide_no_nan(width * height - union, width * height)


def _distance(first: Parts, second: Parts, overlap: tf.Tensor) -> tf.Tensor:
    width, height = _hull_sides(first, second)
    x, y = (first[i] + first[i + 2] - second[i] - second[i + 2] for i in (0, 1))
    return (x**2 + y**2) / 4 / (width**2 + height**2 + _EPSILON)


def _distance_and_aspect(first: Parts, second: Parts, overlap: tf.Tensor) -> tf.Tensor:
    first_aspect, second_aspect = (tf.atan2(box[2] - box[0], box[3] - box[1]) for box in (first, second))
    difference = (first_aspect - second_aspect) ** 2 * (4 / math.pi**2)
    weight = difference / (1 - overlap + difference + _EPSILON)
    return _distance(first, second, overlap) + weight * difference


_PENALTIES = {"giou": _uncovered, "diou": _distance, "ciou": _distance_and_aspect}


def _oriented_intersection(first: Parts, second: Parts) -> tf.Tensor:
    """The area that two oriented boxes share.

    The second box is the frame, |x| <= a and |y| <= b. At each x, the first one's chord shares clamp(top) -
    clamp(bottom) with it; so the area is the sum, over the first one's edges, of the integral of clamp(y(x)) dx for |x|
    <= a. Nothing here jumps where edges touch, as it does when corners are counted.
    """
    cos, sin = _direction(second[4])
    half_width, half_height = tf.maximum(second[2], 0.0) / 2, tf.maximum(second[3], 0.0) / 2
    corners = []
    turned_cos, turned_sin = _direction(first[4] - second[4])
    x, y = first[0] - second[0], first[1] - second[1]
    middle = x * cos - y * sin, x * sin + y * cos
    for right, down in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        across, along = right * tf.maximum(first[2], 0.0), down * tf.maximum(first[3], 0.0)
        corners.append(
            (
                middle[0] + across * turned_cos + along * turned_sin,
                middle[1] - across * turned_sin + along * turned_cos,
            )
        )
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    areas = [_below(start, end, half_width, half_height) for start, end in edges]
    # y points down: along the upper edge x grows, and what lies above an edge counts as negative.
    return tf.maximum(-tf.add_n(areas), 0.0)


def _direction(degrees: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cos(degrees * (math.pi / 180)), tf.sin(degrees * (math.pi / 180))


def _below(
    start: tuple[tf.Tensor, tf.Tensor], end: tuple[tf.Tensor, tf.Tensor], width: tf.Tensor, height: tf.Tensor
) -> tf.Tensor:
    """The integral of clamp(y, -height, height) dx along an edge, as far as |x| <= width."""
    (x0, y0), (x1, y1) = start, end
    left, right = tf.clip_by_value(x0, -width, width), tf.clip_by_value(x1, -width, width)
    slope = tf.math.divide_no_nan(y1 - y0, x1 - x0)
    # Between its ends, whatever the slope of a nearly upright edge is rounded to.
    low, high = tf.minimum(y0, y1), tf.maximum(y0, y1)
    first, last = (tf.clip_by_value(y0 + (x - x0) * slope, low, high) for x in (left, right))
    low, high = tf.minimum(first, last), tf.maximum(first, last)
    rise = tf.maximum(high - low, 1e-12)
    above, under = (tf.clip_by_value(part / rise, 0.0, 1.0) for part in (high - height, -height - low))
    between = (tf.clip_by_value(low, -height, height) + tf.clip_by_value(high, -height, height)) / 2
    return (right - left) * (height * above - height * under + between * (1 - above - under))


def _is_array(values: np.ndarray) -> bool:
    return bool(values.ndim)
