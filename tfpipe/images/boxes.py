"""Boxes that move with their image: turned upright with it, and resized with it.

Boxes are float32 [N, 4], each x0, y0, x1, y1 in pixels: x to the right and y down from the upper left corner of the
image, so that the whole image is 0, 0, width, height. Those in a record refer to the image as it is stored there.

    boxes = turn_boxes(boxes, stored_size, orientation)
    boxes = fit_boxes(boxes, upright_size, (224, 224), resize="pad")
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfpipe.images.decode import mirrored_axes, resized_geometry, upright_size


def turn_boxes(boxes: Any, size: Any, orientation: Any) -> tf.Tensor:
    """The boxes on the upright image; see decode.turn_upright.

    Args:
      boxes: [N, 4] on the image as stored.
      size: int [2], height and width of the image as stored.
      orientation: the EXIF orientation, scalar, 1 to 8.
    """
    orientation = tf.cast(orientation, tf.int32)
    x0, y0, x1, y1 = tf.unstack(tf.where(orientation >= 5, tf.gather(boxes, [1, 0, 3, 2], axis=1), boxes), axis=1)
    height, width = tf.unstack(upright_size(tf.cast(size, tf.float32), orientation))
    flips_y, flips_x = tf.unstack(mirrored_axes(orientation))
    x0, x1 = tf.where(flips_x, width - x1, x0), tf.where(flips_x, width - x0, x1)
    y0, y1 = tf.where(flips_y, height - y1, y0), tf.where(flips_y, height - y0, y1)
    return tf.stack([x0, y0, x1, y1], 1)


def fit_boxes(boxes: Any, size: Any, target: tuple[int, int], *, resize: str = "pad") -> tf.Tensor:
    """The boxes on the resized image; see decode.resize_image.

    Args:
      boxes: [N, 4].
      size: int [2], height and width of the image before.
      target: (height, width) after.
      resize: "pad", "stretch" or "crop"; a box that a crop cuts ends at the border, one outside has no area.
    """
    inner, offset = resized_geometry(size, target, resize=resize)
    scale = tf.cast(inner, tf.float64) / tf.cast(size, tf.float64)
    moved = tf.cast(boxes, tf.float64) * tf.tile(scale[::-1], [2]) + tf.tile(tf.cast(offset[::-1], tf.float64), [2])
    most = tf.constant([target[1], target[0]] * 2, tf.float64)
    return tf.cast(tf.clip_by_value(moved, 0.0, most), tf.float32)
