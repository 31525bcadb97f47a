"""Erasing: a box of each image gets the fill.

A builder turns values [..., 4] into boxes: int32 [..., 4] of top, left, bottom, right in pixels, the last two
exclusive. An empty box erases nothing.
"""

from __future__ import annotations

import tensorflow as tf

from tfpipe.augment.ops.levels import FARTHEST


def cutout(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """A square of values[0] pixels a side about (values[1] height, values[2] width), cut off at the border.

    The side is truncated to whole pixels, as is the centre.
    """
    side, top, left = (
        tf.cast(tf.clip_by_value(pixels, -FARTHEST, FARTHEST), tf.int32)
        for pixels in (values[..., 0], values[..., 1] * height, values[..., 2] * width)
    )
    top, left = top - side // 2, left - side // 2
    return tf.stack([top, left, top + side, left + side], axis=-1)


def erase(images: tf.Tensor, boxes: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Images [..., H, W, C] with the boxes filled; fill is [C], of their dtype."""
    return tf.where(inside_boxes(boxes, *images.shape[-3:-1]), fill, images)


def inside_boxes(boxes: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Bool [..., H, W, 1]: the pixels inside boxes [..., 4]."""
    y, x = tf.range(height)[:, None, None], tf.range(width)[:, None]
    top, left, bottom, right = (boxes[..., side, None, None, None] for side in range(4))
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
