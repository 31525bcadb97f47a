"""Ops that cover parts of an image: GridMask's squares, and random erasing's box of noise.

A builder works on pixels; that of random_erasing also takes the seed of image and stage, as the family noise does.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tfpipe.augment.ops.erase import inside_boxes
from tfpipe.augment.ops.levels import FARTHEST, per_image
from tfpipe.augment.ops.noise import draw_bits, number_of

# Of a box's width to its height, as published: 0.3 to 1 / 0.3, even on the logarithm.
MOST_ASPECT = 1 / 0.3


def grid_mask(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Turns squares of a grid black; values (the squares' share of a cell's side, cell, down, right).

    The cell's side is a fraction of the shorter side, at least 2 pixels; the grid begins at the fractions down and
    right of a cell. GridMask (arXiv:2001.04086), without its turning of the grid.
    """
    height, width = images.shape[-3:-1]
    cell = tf.cast(tf.clip_by_value(values[..., 1] * min(height, width), 2.0, FARTHEST), tf.int32)
    side = tf.cast(tf.round(tf.cast(cell, tf.float32) * tf.clip_by_value(values[..., 0], 0.0, 1.0)), tf.int32)

    def covered(size: int, start: tf.Tensor) -> tf.Tensor:
        offset = tf.cast(tf.cast(cell, tf.float32) * tf.clip_by_value(start, 0.0, 1.0), tf.int32)
        return tf.math.floormod(tf.range(size) - offset[..., None], cell[..., None]) < side[..., None]

    rows, columns = covered(height, values[..., 2]), covered(width, values[..., 3])
    black = rows[..., :, None, None] & columns[..., None, :, None]
    return tf.where(black, tf.zeros_like(images), images)


def random_erasing(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Fills a box with uniform noise; values (share of the area, aspect, down, right), the last three in [0, 1].

    The aspect runs from 0.3 to 1 / 0.3 on the logarithm; what would not fit is cut to the image; down and right are the
    box's place among all that it has. Random erasing (arXiv:1708.04896).
    """
    height, width = images.shape[-3:-1]
    area = tf.cast(values[..., 0], tf.float64) * (height * width)
    aspect = tf.exp((2 * tf.cast(values[..., 1], tf.float64) - 1) * math.log(MOST_ASPECT))
    tall = tf.cast(tf.clip_by_value(tf.round(tf.sqrt(area / aspect)), 0, height), tf.int32)
    wide = tf.cast(tf.clip_by_value(tf.round(tf.sqrt(area * aspect)), 0, width), tf.int32)
    shares = tf.unstack(tf.clip_by_value(values[..., 2:], 0.0, 1.0), axis=-1)
    top, left = (
        tf.minimum(tf.cast(share * tf.cast(room + 1, tf.float32), tf.int32), room)
        for share, room in zip(shares, (height - tall, width - wide), strict=True)
    )
    boxes = tf.stack([top, left, top + tall, left + wide], axis=-1)
    noise = tf.cast(tf.bitwise.right_shift(draw_bits(seeds, number_of(images)), tf.constant(24, tf.uint32)), tf.uint8)
    erased = inside_boxes(boxes, height, width) & per_image(values[..., 0] > 0)
    return tf.where(erased, noise, images)
