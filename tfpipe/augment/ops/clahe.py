"""Contrast limited adaptive histogram equalisation (Zuiderveld 1994), as OpenCV's createCLAHE, channel by channel.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import FARTHEST, computed_first, loop_zero
from tfpipe.augment.ops.lookup import MOST_LOOP_CHANNELS, NUM_LEVELS
from tfpipe.tf_internals import dynamic_slice, dynamic_update_slice

TILES = 8


def clahe(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Equalises 8 x 8 tiles, with no level counted more than values[0] times its even share, and mixes between tiles.

    An image whose sides 8 does not divide is mirrored below and to the right to fill the last tiles.
    """
    height, width, channels = images.shape[-3:]
    tall, wide = -(-height // TILES), -(-width // TILES)
    if TILES * tall - height >= height or TILES * wide - width >= width:
        return images
    padded = _mirrored(images, TILES * tall - height, TILES * wide - width)
    counts = computed_first(lambda: _tile_counts(padded, tall, wide))
    limit = tf.cast(tf.clip_by_value(values[..., 0] * (tall * wide) / NUM_LEVELS, 1.0, FARTHEST), tf.int32)
    counts = _clipped(counts, limit[..., None, None])
    scale = (NUM_LEVELS - 1) / np.float32(tall * wide)
    sums = computed_first(lambda: _sums(counts))
    # As OpenCV's saturate_cast: to the nearest, a half to the even one.
    tables = computed_first(lambda: tf.cast(tf.clip_by_value(tf.round(sums * scale), 0, 255), tf.uint32))
    corners = computed_first(lambda: _corners(tables, channels))
    four = computed_first(lambda: _through_corners(images, corners, tall, wide))
    return tf.reshape(_between(four, height, width, tall, wide), tf.shape(images))


def _mirrored(images: tf.Tensor, down: int, across: int) -> tf.Tensor:
    margins = [[0, 0]] * (len(images.shape) - 3) + [[0, down], [0, across], [0, 0]]
    return tf.pad(images, margins, mode="REFLECT")


def _tile_counts(images: tf.Tensor, tall: int, wide: int) -> tf.Tensor:
    """Int32 [..., 64 * C, 256]: the counts of each tile and channel."""
    channels = images.shape[-1]
    runtime_zero = loop_zero()
    if runtime_zero is not None and channels <= MOST_LOOP_CHANNELS:
        return _loop_tile_counts(images, tall, wide, runtime_zero)
    y, x = np.arange(TILES * tall)[:, None, None] // tall, np.arange(TILES * wide)[:, None] // wide
    tile = ((y * TILES + x) * channels + np.arange(channels)).astype(np.int32)
    number = TILES * TILES * channels
    index = tf.cast(images, tf.int32) + tile * NUM_LEVELS
    lead = tf.shape(images)[:-3]
    if len(images.shape) == 4:
        index += tf.range(lead[0])[:, None, None, None] * (number * NUM_LEVELS)
    flat = tf.reshape(index, [-1, 1])
    size = tf.reduce_prod(lead) * number * NUM_LEVELS
    counts = tf.tensor_scatter_nd_add(tf.zeros([size], tf.int32), flat, tf.ones_like(flat[:, 0]))
    return tf.reshape(counts, tf.concat([lead, [number, NUM_LEVELS]], 0))


def _loop_tile_counts(image: tf.Tensor, tall: int, wide: int, runtime_zero: tf.Tensor) -> tf.Tensor:
    """As _tile_counts, of one image, by a loop that XLA:CPU compiles to one native function: see loop_histogram."""
    channels = image.shape[-1]
    pixels = next(number for number in (4, 2, 1) if wide % number == 0)
    span, in_tile, in_row = pixels * channels, wide // pixels, TILES * wide // pixels
    elements = tf.reshape(image, [-1])
    num_iterations = TILES * tall * in_row + runtime_zero

    def iterate(number: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = number // in_row
        tile = row // tall * TILES + (number - row * in_row) // in_tile
        levels = tf.cast(dynamic_slice(elements, [number * span], [span]), tf.int32)
        for offset in range(span):
            index = levels[offset : offset + 1] + (tile * channels + offset % channels) * NUM_LEVELS
            counts = dynamic_update_slice(counts, dynamic_slice(counts, index, [1]) + 1, index)
        return number + 1, counts

    number = TILES * TILES * channels
    start = [tf.constant(0), tf.zeros([number * NUM_LEVELS], tf.int32)]
    counts = tf.while_loop(lambda number, _: number < num_iterations, iterate, start)[1]
    return tf.reshape(counts, [number, NUM_LEVELS])


def _clipped(counts: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """What is above the limit is shared out evenly, the rest of the division in even steps from level 0 on."""
    excess = computed_first(lambda: tf.reduce_sum(tf.maximum(counts - limit, 0), axis=-1, keepdims=True))
    each, rest = excess // NUM_LEVELS, excess % NUM_LEVELS
    step = tf.maximum(NUM_LEVELS // tf.maximum(rest, 1), 1)
    level = tf.range(NUM_LEVELS)
    # level // step: whole numbers are divided one by one, and floats by vectors. No rounding reaches half a step.
    share = computed_first(lambda: 1.0 / tf.cast(step, tf.float32))
    number = tf.cast(tf.clip_by_value(tf.floor((tf.cast(level, tf.float32) + 0.5) * share), 0.0, 255.0), tf.int32)
    gets = (number * step == level) & (number < rest)
    return computed_first(lambda: tf.minimum(counts, limit) + each + tf.cast(gets, tf.int32))


def _sums(counts: tf.Tensor) -> tf.Tensor:
    """The sum of all counts up to each, [..., 256] float32: in two levels of 16, by products that are whole numbers."""
    # What an accelerator may round in float32, it does not in float64.
    exact = tf.float64 if loop_zero() is None else tf.float32
    blocks = tf.reshape(tf.cast(counts, exact), tf.concat([tf.shape(counts)[:-1], [16, 16]], 0))
    inside = tf.matmul(blocks, tf.constant(np.triu(np.ones([16, 16])), exact))
    before = tf.matmul(inside[..., None, :, -1], tf.constant(np.triu(np.ones([16, 16]), 1), exact))
    return tf.cast(tf.reshape(inside + before[..., 0, :, None], tf.shape(counts)), tf.float32)


def _corners(tables: tf.Tensor, channels: int) -> tf.Tensor:
    """Uint32 [..., 9, 9, C, 256]: between the middles of tiles, the levels by the four tables about, a byte each.

    From the lowest: above to the left, above to the right, below to the left, below to the right. One look-up instead
    of four.
    """
    grid = tf.reshape(tables, tf.concat([tf.shape(tables)[:-2], [TILES, TILES, channels, NUM_LEVELS]], 0))
    for axis in (-4, -3):
        first, last = (tf.gather(grid, [end], axis=axis) for end in (0, TILES - 1))
        grid = tf.concat([first, grid, last], axis=axis)
    grid = computed_first(
        lambda: tf.ensure_shape(grid, [*tables.shape[:-2], TILES + 2, TILES + 2, channels, NUM_LEVELS])
    )
    about = [grid[..., down : down + TILES + 1, right : right + TILES + 1, :, :] for down in (0, 1) for right in (0, 1)]
    moved = [tf.bitwise.left_shift(table, tf.constant(8 * number, tf.uint32)) for number, table in enumerate(about)]
    return functools.reduce(tf.bitwise.bitwise_or, moved)


def _through_corners(images: tf.Tensor, corners: tf.Tensor, tall: int, wide: int) -> tf.Tensor:
    """Uint32 [..., H, W * C]: each level through the tables of the four nearest tiles."""
    height, width, channels = images.shape[-3:]
    lead, cells = tf.shape(images)[:-3], TILES + 1
    rows, columns = _cells(height, tall)[0][:, None] * cells, np.repeat(_cells(width, wide)[0], channels)
    index = tf.cast(tf.reshape(images, tf.concat([lead, [height, width * channels]], 0)), tf.int32)
    index += (rows * channels * NUM_LEVELS).astype(np.int32)
    index += ((columns * channels + np.tile(np.arange(channels), width)) * NUM_LEVELS).astype(np.int32)
    if len(images.shape) == 4:
        index += tf.range(lead[0])[:, None, None] * (cells * cells * channels * NUM_LEVELS)
    return tf.gather(tf.reshape(corners, [-1]), index)


def _between(four: tf.Tensor, height: int, width: int, tall: int, wide: int) -> tf.Tensor:
    """Mixed by the distance to the middles of the tiles, in whole numbers; a half goes to the even level."""
    channels = four.shape[-1] // width
    down, across = _cells(height, tall)[1][:, None], np.repeat(_cells(width, wide)[1], channels)

    def level(number: int) -> tf.Tensor:
        moved = tf.bitwise.right_shift(four, tf.constant(8 * number, tf.uint32))
        return tf.cast(tf.bitwise.bitwise_and(moved, tf.constant(255, tf.uint32)), tf.int32)

    # Weights are so many of twice a tile's side.
    upper = level(0) * (2 * wide - across) + level(1) * across
    lower = level(2) * (2 * wide - across) + level(3) * across
    total, whole = upper * (2 * tall - down) + lower * down, 4 * tall * wide
    nearest = (2 * total + whole) // (2 * whole)
    is_half = tf.cast(tf.equal(2 * total + whole, nearest * (2 * whole)), tf.int32)
    nearest -= tf.bitwise.bitwise_and(nearest, is_half)
    return tf.cast(tf.clip_by_value(nearest, 0, 255), tf.uint8)


def _cells(size: int, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each place the middles of tiles passed before it, 0 to 8, and its way to the next one, of 2 * tile: int32."""
    place = 2 * np.arange(size, dtype=np.int32) - tile
    passed = place // (2 * tile) + 1
    return passed, place - (passed - 1) * (2 * tile)
