"""Contrast limited adaptive histogram equalisation (Zuiderveld 1994), as OpenCV's createCLAHE, channel by channel.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import FARTHEST
from tfpipe.augment.ops.lookup import NUM_LEVELS

TILES = 8


def clahe(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Equalises 8 x 8 tiles, with no level counted more than values[0] times its even share, and mixes between tiles.

    An image whose sides 8 does not divide is mirrored below and to the right to fill the last tiles.
    """
    height, width, channels = images.shape[-3:]
    tall, wide = -(-height // TILES), -(-width // TILES)
    if TILES * tall - height >= height or TILES * wide - width >= width:
        return images
    lead = tf.shape(images)[:-3]
    padded = _mirrored(images, TILES * tall - height, TILES * wide - width)
    counts = _tile_counts(tf.cast(padded, tf.int32), tall, wide)
    limit = tf.cast(tf.clip_by_value(values[..., 0] * (tall * wide) / NUM_LEVELS, 1.0, FARTHEST), tf.int32)
    counts = _clipped(counts, limit[..., None, None])
    scale = (NUM_LEVELS - 1) / np.float32(tall * wide)
    sums = tf.cast(tf.cumsum(counts, axis=-1), tf.float32)
    # As OpenCV's saturate_cast: to the nearest, a half to the even one.
    tables = tf.cast(tf.clip_by_value(tf.round(sums * scale), 0, 255), tf.int32)
    return _between(images, tables, lead, tall, wide, channels)


def _mirrored(images: tf.Tensor, down: int, across: int) -> tf.Tensor:
    margins = [[0, 0]] * (len(images.shape) - 3) + [[0, down], [0, across], [0, 0]]
    return tf.pad(images, margins, mode="REFLECT")


def _tile_counts(levels: tf.Tensor, tall: int, wide: int) -> tf.Tensor:
    """Int32 [..., 64 * C, 256]: the counts of each tile and channel."""
    channels = levels.shape[-1]
    y, x = np.arange(TILES * tall)[:, None, None] // tall, np.arange(TILES * wide)[:, None] // wide
    tile = ((y * TILES + x) * channels + np.arange(channels)).astype(np.int32)
    number = TILES * TILES * channels
    index = levels + tile * NUM_LEVELS
    lead = tf.shape(levels)[:-3]
    if len(levels.shape) == 4:
        index += tf.range(lead[0])[:, None, None, None] * (number * NUM_LEVELS)
    flat = tf.reshape(index, [-1, 1])
    size = tf.reduce_prod(lead) * number * NUM_LEVELS
    counts = tf.tensor_scatter_nd_add(tf.zeros([size], tf.int32), flat, tf.ones_like(flat[:, 0]))
    return tf.reshape(counts, tf.concat([lead, [number, NUM_LEVELS]], 0))


def _clipped(counts: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """What is above the limit is shared out evenly, the rest of the division in even steps from level 0 on."""
    excess = tf.reduce_sum(tf.maximum(counts - limit, 0), axis=-1, keepdims=True)
    each, rest = excess // NUM_LEVELS, excess % NUM_LEVELS
    step = tf.maximum(NUM_LEVELS // tf.maximum(rest, 1), 1)
    level = tf.range(NUM_LEVELS)
    gets = (level % step == 0) & (level // step < rest)
    return tf.minimum(counts, limit) + each + tf.cast(gets, tf.int32)


def _between(images: tf.Tensor, tables: tf.Tensor, lead: tf.Tensor, tall: int, wide: int, channels: int) -> tf.Tensor:
    """Each level through the tables of the four nearest tiles, mixed by the distance to their middles."""
    height, width = images.shape[-3:-1]
    (top, bottom, down), (left, right, across) = _neighbours(height, tall), _neighbours(width, wide)
    flat = tf.reshape(tables, [-1])
    levels = tf.cast(images, tf.int32) + tf.range(channels) * NUM_LEVELS
    if len(images.shape) == 4:
        levels += tf.range(lead[0])[:, None, None, None] * (TILES * TILES * channels * NUM_LEVELS)

    def read(rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
        tile = (rows[:, None] * TILES + columns)[..., None] * (channels * NUM_LEVELS)
        return tf.gather(flat, levels + tile)

    # In whole numbers: weights are so many of twice a tile's side. A half goes to the even level.
    across, down = across[:, None], down[:, None, None]
    upper = read(top, left) * (2 * wide - across) + read(top, right) * across
    lower = read(bottom, left) * (2 * wide - across) + read(bottom, right) * across
    total, whole = upper * (2 * tall - down) + lower * down, 4 * tall * wide
    level, rest = total // whole, total % whole
    up = (2 * rest > whole) | ((2 * rest == whole) & (level % 2 == 1))
    return tf.cast(tf.clip_by_value(level + tf.cast(up, tf.int32), 0, 255), tf.uint8)


def _neighbours(size: int, tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tiles before and behind each place, and the weight of the latter, of 2 * tile: int32."""
    place = 2 * np.arange(size, dtype=np.int32) - tile
    before = place // (2 * tile)
    return np.clip(before, 0, TILES - 1), np.clip(before + 1, 0, TILES - 1), place - before * (2 * tile)
