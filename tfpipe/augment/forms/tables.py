"""The tables of a batch's look-up ops in the dense form; what they need of the images is computed for those alone.

Of the fourteen ops of RandAugment two count levels and one takes the mean luma. The images that drew one of these are
gathered into blocks of a fixed size, one after another until all are done: mostly one block. So shapes are static, any
number of images may draw such an op, and the tables are made before the kernel that looks up in them.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from tfpipe.augment.ops import lookup
from tfpipe.augment.ops.levels import as_levels
from tfpipe.augment.ops.op import Op

Picks = list[tuple[tf.Tensor, Op]]

# A batch is so many blocks; the share of images that need a statistic is mostly below one part.
NUM_BLOCKS = 4
# Levels are counted in parts of an image, added up afterwards: a GPU's additions to one address wait for each other.
# On an H100 a batch of 256 took 1.45 ms in one part, 0.74 in 16 and in 64.
PIXELS_PER_PART = 1568
MOST_PARTS = 32
STATISTICS = ("luma", "extrema", "histogram")


def drawn_tables(images: tf.Tensor, picks: Picks, values: tf.Tensor) -> tf.Tensor:
    """Each image's tables by the look-up op that it drew, the identity where it drew none: uint8 [B, C, 256].

    Args:
      images: [B, H, W, C], of any dtype.
      picks: which images drew an op, bool [B], and the op; of all look-up ops.
      values: float32 [B, 4].
    """
    shape = [tf.shape(images)[0], images.shape[-1], lookup.NUM_LEVELS]
    tables = _choose_tables(picks, values, {}, tf.broadcast_to(_levels(), shape))
    reading = [(is_picked, op) for is_picked, op in picks if op.needs in STATISTICS]
    return _read_in_blocks(images, reading, values, tables) if reading else tables


def _levels() -> tf.Tensor:
    return tf.cast(tf.range(lookup.NUM_LEVELS), tf.uint8)


def _choose_tables(
    picks: Picks, values: tf.Tensor, statistics: dict[str, tf.Tensor | tuple[tf.Tensor, ...]], tables: tf.Tensor
) -> tf.Tensor:
    """The tables of the ops whose statistics are there, or which need none; the given ones for other images."""
    for is_picked, op in picks:
        if op.needs not in STATISTICS or op.needs in statistics:
            made = op.build(_levels(), values[:, 0, None, None], statistics.get(op.needs))
            tables = tf.where(is_picked[:, None, None], made, tables)
    return tables


def _read_in_blocks(images: tf.Tensor, picks: Picks, values: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """The tables, with those of ops that read statistics in place."""
    is_reading = functools.reduce(tf.logical_or, [is_picked for is_picked, _ in picks])
    # Each image that needs one has a place in the row of them; a block is a stretch of places.
    place = tf.cumsum(tf.cast(is_reading, tf.int32), exclusive=True)
    size, total = tf.shape(images)[0], tf.reduce_sum(tf.cast(is_reading, tf.int32))
    block = -(-size // NUM_BLOCKS)

    def step(turn: tf.Tensor, tables: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin = turn * block
        is_there = is_reading & (place == (begin + tf.range(block))[:, None])
        image = tf.reduce_sum(tf.where(is_there, tf.range(size), 0), axis=-1)
        made = _block_tables(tf.gather(images, image), _gathered(picks, image, total - begin), tf.gather(values, image))
        mine = is_reading & (place >= begin) & (place < begin + block)
        here = tf.gather(made, tf.clip_by_value(place - begin, 0, block - 1))
        return turn + 1, tf.where(mine[:, None, None], here, tables)

    return tf.while_loop(lambda turn, _: turn * block < total, step, [tf.constant(0), tables])[1]


def _gathered(picks: Picks, image: tf.Tensor, count: tf.Tensor) -> Picks:
    """The picks of the images in a block, of which `count` are taken."""
    is_taken = tf.range(tf.shape(image)[0]) < count
    return [(tf.gather(is_picked, image) & is_taken, op) for is_picked, op in picks]


def _block_tables(images: tf.Tensor, picks: Picks, values: tf.Tensor) -> tf.Tensor:
    """Uint8 [K, C, 256] of the images of a block; anything where no op is picked."""
    levels, needs = as_levels(images), {op.needs for _, op in picks}
    statistics: dict[str, tf.Tensor | tuple[tf.Tensor, ...]] = {}
    if "luma" in needs:
        statistics["luma"] = lookup.luma_mean(levels)[:, None, None]
    if "histogram" in needs:
        counted = [is_picked for is_picked, op in picks if op.needs != "luma"]
        statistics["histogram"] = counts = count_levels(levels, functools.reduce(tf.logical_or, counted))
    if "extrema" in needs:
        # The counts know them, without another pass over the pixels.
        low, high = lookup.histogram_extrema(counts) if "histogram" in needs else lookup.extrema(levels)
        statistics["extrema"] = low[..., None], high[..., None]
    shape = [tf.shape(images)[0], images.shape[-1], lookup.NUM_LEVELS]
    return _choose_tables(picks, values, statistics, tf.zeros(shape, tf.uint8))


def count_levels(images: tf.Tensor, is_counted: tf.Tensor) -> tf.Tensor:
    """As lookup.histogram, in parts: int32 [K, C, 256]; zeros for images that are not counted.

    Args:
      images: uint8 [K, H, W, C].
      is_counted: bool [K].
    """
    height, width, channels = images.shape[1:]
    parts = min(max(height * width // PIXELS_PER_PART, 1), MOST_PARTS)
    table = tf.range(tf.shape(images)[0])[:, None] * parts + tf.range(height * width) % parts
    index = (table[..., None] * channels + tf.range(channels)) * lookup.NUM_LEVELS
    index += tf.cast(tf.reshape(images, [-1, height * width, channels]), tf.int32)
    # Not counted: left out by their index, so that a GPU adds nothing for them.
    index = tf.reshape(tf.where(is_counted[:, None, None], index, -1), [-1, 1])
    shape = [tf.shape(images)[0] * parts * channels * lookup.NUM_LEVELS]
    counts = tf.scatter_nd(index, tf.ones_like(index)[:, 0], shape, bad_indices_policy="IGNORE")
    return tf.reduce_sum(tf.reshape(counts, [-1, parts, channels, lookup.NUM_LEVELS]), axis=1)
