"""Mosaics: four images of a batch around one point, with their boxes, masks, keypoints and polygons.

    train = [mosaic(scale=(0.5, 1.0)), flip_left_right()]       # of batches with boxes and box_labels, or with masks

As YOLOv4 has it (Bochkovskiy et al., 2020): each image becomes the upper left of four, three others of its batch come
to the other corners, and all four touch at a drawn point; what does not fit is cut off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import draw_uniforms, split_seed
from tfpipe.augment.forms.apply import check_mask_fill
from tfpipe.augment.objects import check_objects, join_objects, mask_layers, objects_of
from tfpipe.augment.transform import Batch, BatchTransform, record_call
from tfpipe.policy import is_number
from tfpipe.regions.move import box_areas, keep_boxes, matrices_of, move_regions
from tfpipe.regions.programs import program
from tfpipe.regions.sampling import sample, to_pixels

# (down, right) of the four places; the image itself comes first.
_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))


@record_call
def mosaic(
    *,
    scale: tuple[float, float] = (0.5, 1.0),
    center: tuple[float, float] = (0.25, 0.75),
    fill: int = 128,
    mask_fill: int = 0,
    min_area: float = 1.0,
) -> BatchTransform:
    """Each image becomes four, of its own size together; the masks and objects of the four go with them.

    Args:
      scale: the size of each of the four over its own, uniform in (low, high).
      center: where the four touch, as fractions of the height and of the width, uniform in (low, high).
      fill: 0 to 255, for what none of them covers; for float images over 255.
      mask_fill: the same for masks.
      min_area: boxes of which fewer square pixels are left are dropped, with their labels.

    Returns:
      A transform of batches with `mask`, or with objects: `boxes` and `box_labels`, `keypoints` [B, N, K, 2 or 3] and
      `polygons` [B, N, P, 2], of which there are four times as many; boxes are cut off at the border of their place,
      keypoints beyond it are no longer visible, polygons are not cut. Other features stay those of the image itself.

    Raises:
      ValueError: an argument is out of range; when applied, boxes have no box_labels, points no axis of objects, or
        it is inside of keypoint_pairs.
    """
    for name, pair, most in (("scale", scale, 1.0), ("center", center, 1.0)):
        if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most:
            raise ValueError(f"{name} is {pair}; it takes 0 < low <= high <= {most:g}.")
    if not 0 <= fill <= 255 or not is_number(min_area, least=0, kinds=(int, float)):
        raise ValueError(f"fill is {fill!r} and min_area {min_area!r}; they take 0 to 255, and at least 0.")
    check_mask_fill(mask_fill)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        check_objects("mosaic", batch)
        partners, geometry = _draw(seed, shape, scale, center)
        image = batch["image"]
        level = fill if image.dtype == tf.uint8 else fill / 255
        found = {**batch, "image": _paint(image, partners, geometry, level, "bilinear")}
        if "mask" in batch:
            layers, restore = mask_layers(batch["mask"])
            check_mask_fill(mask_fill, dtype=layers.dtype)
            found["mask"] = restore(_paint(layers, partners, geometry, mask_fill, "nearest"))
        return found | _moved_objects(batch, partners, geometry, shape, min_area)

    return BatchTransform(change)


def _draw(
    seed: tf.Tensor, shape: BatchShape, scale: tuple[float, float], center: tuple[float, float]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """For each place its images, int32 [B], and its geometry, float64 [B, 5]: factor, centre, corner at it."""
    middle, *rest = split_seed(seed, 5)
    sides = np.array([shape.height, shape.width], np.float64)
    share = tf.cast(draw_uniforms(middle, shape.batch_size, 1).extra[:, 0, :2], tf.float64)
    # Whole pixels, so that no pixel belongs to two images.
    point = tf.round((center[0] + share * (center[1] - center[0])) * sides)
    partners, geometry = [], []
    for place, own in zip(_PLACES, rest, strict=True):
        draws = draw_uniforms(own, shape.batch_size, 1)
        others = tf.cast(tf.floor(draws.op[:, 0] * tf.cast(shape.batch_size, tf.float32)), tf.int32)
        itself = tf.range(shape.batch_size)
        partners.append(itself if place == (0, 0) else tf.minimum(others, shape.batch_size - 1))
        factor = scale[0] + tf.cast(draws.magnitude[:, :1], tf.float64) * (scale[1] - scale[0])
        # The corner of the image that lies at the point.
        corner = tf.broadcast_to(sides * (1 - np.array(place)), tf.shape(point))
        geometry.append(tf.concat([factor, point, corner], axis=1))
    return partners, geometry


def _paint(
    images: tf.Tensor, partners: list[tf.Tensor], geometry: list[tf.Tensor], fill: float, interpolation: str
) -> tf.Tensor:
    level = tf.fill([images.shape[-1]], tf.cast(fill, images.dtype))
    painted = program(_render, interpolation, static=tuple(images.shape[1:]))(images, level, partners, geometry)
    return tf.ensure_shape(painted, images.shape)


def _render(
    interpolation: str, images: tf.Tensor, fill: tf.Tensor, partners: list[tf.Tensor], geometry: list[tf.Tensor]
) -> tf.Tensor:
    height, width = images.shape[1:3]
    y, x = (tf.range(height, dtype=tf.float64) + 0.5)[:, None], tf.range(width, dtype=tf.float64) + 0.5
    result = tf.broadcast_to(fill, tf.shape(images))
    for (down, right), partner, drawn in zip(_PLACES, partners, geometry, strict=True):
        factor, middle_y, middle_x, corner_y, corner_x = (part[:, None, None] for part in tf.unstack(drawn, axis=1))
        source_y, source_x = (y - middle_y) / factor + corner_y, (x - middle_x) / factor + corner_x
        inside = (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
        inside &= ((y > middle_y) == bool(down)) & ((x > middle_x) == bool(right))
        across, along = (tf.broadcast_to(part, tf.shape(inside)) for part in (source_x - 0.5, source_y - 0.5))
        values = sample(tf.gather(images, partner), across, along, interpolation, "edge", None)
        values = values if interpolation == "nearest" else to_pixels(values, images.dtype)
        result = tf.where(inside[..., None], values, result)
    return result


def _moved_objects(
    batch: Batch, partners: list[tf.Tensor], geometry: list[tf.Tensor], shape: BatchShape, min_area: float
) -> dict[str, Any]:
    """The objects of the four, each cut off at the border of its place."""
    parts = []
    for (down, right), partner, drawn in zip(_PLACES, partners, geometry, strict=True):
        factor, y, x, corner_y, corner_x = tf.unstack(drawn, axis=1)
        zero = tf.zeros_like(factor)
        maps = matrices_of([[factor, zero, x - corner_x * factor], [zero, factor, y - corner_y * factor]])
        height, width = zero + shape.height, zero + shape.width
        top, left = (y, x) if down and right else (y if down else zero, x if right else zero)
        place = tf.stack([left, top, width if right else x, height if down else y], axis=-1)
        own = objects_of(batch, images=partner)
        parts.append(own | move_regions(own, maps, place))
    joined = join_objects(parts)
    if "boxes" not in batch:
        return joined
    area = box_areas(joined["boxes"])
    return joined | keep_boxes(joined, (area >= min_area) & (area > 0))
