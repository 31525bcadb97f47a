"""Look-up ops: a level becomes another level, by one table per image and channel.

A builder is that curve: build(levels, value, statistic) -> uint8. `levels` is uint8 of any shape, the pixels
themselves or the 256 levels of a table; value and statistic broadcast to it. The statistic is what the op `needs`:

    luma        float32, the rounded mean of Pillow's L
    extrema     (lowest, highest) level, int32
    histogram   int32 counts of the 256 levels, in the last axis
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import blend, luma, to_levels, unfused
from tfpipe.tf_internals import dynamic_slice, dynamic_update_slice

NUM_LEVELS = 256
# Channels beyond this would make the loop of `loop_histogram` too large to count as small.
MOST_LOOP_CHANNELS = 4
# Pixels per iteration of `loop_luma_mean`: 16 take twice as long, and 128 are no longer small.
PIXELS_PER_ITERATION = 32


def brightness(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """Times the factor, as Pillow's enhancer: 0 black, 1 unchanged."""
    return to_levels(value * tf.cast(levels, tf.float32))


def add_brightness(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """Plus the value in levels, rounded to the nearest and clipped."""
    return to_levels(tf.cast(levels, tf.float32) + tf.floor(value + 0.5))


def contrast(levels: tf.Tensor, value: tf.Tensor, statistic: tf.Tensor) -> tf.Tensor:
    """The distance to the mean luma times the factor, as Pillow's enhancer."""
    return blend(statistic, tf.cast(levels, tf.float32), value)


def gamma(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """255 (level / 255) ** value, rounded to the nearest; values below 0 count as 0."""
    curve = tf.pow(tf.cast(levels, tf.float64) / 255.0, tf.cast(tf.maximum(value, 0.0), tf.float64))
    return to_levels(tf.cast(tf.floor(255.0 * curve + 0.5), tf.float32))


def invert(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """255 - level."""
    return tf.bitwise.invert(levels)


def posterize(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """Keeps the value's number of leading bits, 0 to 8; 0 gives black."""
    dropped = 8 - tf.cast(tf.clip_by_value(value, 0.0, 8.0), tf.int32)
    mask = tf.bitwise.left_shift(tf.constant(255), dropped)
    return tf.bitwise.bitwise_and(levels, tf.cast(tf.bitwise.bitwise_and(mask, 255), tf.uint8))


def solarize(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """Inverts the levels from the threshold up; 256 changes nothing."""
    # In float32: a threshold of 256 would wrap to 0 in uint8.
    return tf.where(tf.cast(levels, tf.float32) < value, levels, tf.bitwise.invert(levels))


def solarize_add(levels: tf.Tensor, value: tf.Tensor, statistic: Any) -> tf.Tensor:
    """Adds the value, in whole levels, to levels below 128, clipped."""
    whole = tf.cast(levels, tf.int32)
    addend = tf.cast(tf.clip_by_value(value, -255.0, 255.0), tf.int32)
    added = tf.clip_by_value(whole + addend, 0, 255)
    return tf.cast(tf.where(whole < 128, added, whole), tf.uint8)


def auto_contrast(levels: tf.Tensor, value: tf.Tensor, statistic: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Stretches each channel's lowest and highest level to 0 and 255; a channel of one level stays."""
    low, high = (tf.cast(level, tf.float64) for level in statistic)
    scale = 255.0 / tf.maximum(high - low, 1.0)
    whole = tf.cast(levels, tf.int32)
    stretched = unfused(tf.cast(whole, tf.float64) * scale, value) + unfused(-low * scale, value)
    result = tf.cast(tf.clip_by_value(stretched, 0.0, 255.0), tf.int32)
    return tf.cast(tf.where(high > low, result, whole), tf.uint8)


def equalize(levels: tf.Tensor, value: tf.Tensor, statistic: tf.Tensor) -> tf.Tensor:
    """Pillow's equalize: levels are spread so that their counts are even; `levels` must be the whole table.

    Formula: step = (pixels - count of the highest level) // 255; table = (step // 2 + exclusive sum of counts) //
    step, clipped to 255; unchanged where step is 0.
    """
    below = _sums_below(statistic)
    total = below[..., -1:] + statistic[..., -1:]
    # The highest level's count is what is left above the sum below it: the last level at which anything is added.
    step = tf.reduce_max(tf.where(below < total, below, 0), axis=-1, keepdims=True) // 255
    table = tf.clip_by_value((step // 2 + below) // tf.maximum(step, 1), 0, 255)
    return tf.cast(tf.where(step > 0, table, tf.cast(levels, tf.int32)), tf.uint8)


def _sums_below(counts: tf.Tensor) -> tf.Tensor:
    """The sum of all counts before each, int32 [..., 256].

    In two levels of 16; XLA:CPU's own cumulative sum adds up the predecessors of every level.
    """
    blocks = tf.reshape(counts, tf.concat([tf.shape(counts)[:-1], [16, 16]], 0))
    earlier = np.tril(np.ones([16, 16], np.int32), -1)
    inside = tf.reduce_sum(blocks[..., None, :] * earlier, axis=-1)
    before = tf.reduce_sum(tf.reduce_sum(blocks, axis=-1)[..., None, :] * earlier, axis=-1)
    return tf.reshape(inside + before[..., None], tf.shape(counts))


def luma_mean(images: tf.Tensor) -> tf.Tensor:
    """The mean of Pillow's L, rounded half up to a whole level: float32 [...]."""
    height, width = images.shape[-3:-1]
    rows = tf.cast(tf.reduce_sum(luma(images), axis=-1), tf.float64)
    return _half_up(tf.reduce_sum(rows, axis=-1) / (height * width))


def _half_up(mean: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.floor(mean + 0.5), tf.float32)


def loop_luma_mean(image: tf.Tensor, runtime_zero: tf.Tensor, *, margin: int = 0) -> tf.Tensor:
    """As luma_mean, of one image, for XLA:CPU alone.

    A loop that XLA:CPU compiles to one native function, as that of `loop_histogram`: 24 us for 224 x 224 x 3, where a
    kernel of its own takes 40.

    Args:
      image, runtime_zero, margin: as of `loop_histogram`.
    """
    rows, width, channels = image.shape
    elements, skipped = tf.reshape(image, [-1]), margin * width * channels
    num_pixels = (rows - 2 * margin) * width
    pixels = min(PIXELS_PER_ITERATION, num_pixels)
    num_iterations, rest = divmod(num_pixels, pixels)
    span = pixels * channels

    def lumas(levels: tf.Tensor) -> tf.Tensor:
        return luma(tf.reshape(levels, [-1, channels]))

    def iterate(number: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return number + 1, sums + lumas(dynamic_slice(elements, [skipped + number * span], [span]))

    last = elements[skipped + num_iterations * span : skipped + num_pixels * channels]
    start = tf.pad(lumas(last), [[0, pixels - rest]])
    sums = tf.while_loop(lambda number, _: number < num_iterations + runtime_zero, iterate, [tf.constant(0), start])[1]
    return _half_up(tf.reduce_sum(tf.cast(sums, tf.float64)) / num_pixels)


def extrema(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The lowest and the highest level of each channel: int32 [..., C] both."""
    # Down the columns first, in uint8, W * C side by side; the few that are left one by one.
    height, width, channels = images.shape[-3:]
    lead = tf.shape(images)[:-3]
    rows = tf.reshape(images, tf.concat([lead, [height, width * channels]], 0))
    columns = tf.concat([lead, [width, channels]], 0)
    low = tf.reshape(tf.reduce_min(rows, axis=-2), columns)
    high = tf.reshape(tf.reduce_max(rows, axis=-2), columns)
    return tf.reduce_min(tf.cast(low, tf.int32), axis=-2), tf.reduce_max(tf.cast(high, tf.int32), axis=-2)


def histogram_extrema(counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As extrema, of a histogram."""
    levels = tf.range(NUM_LEVELS)
    low = tf.reduce_min(tf.where(counts > 0, levels, NUM_LEVELS - 1), axis=-1)
    return low, tf.reduce_max(tf.where(counts > 0, levels, 0), axis=-1)


def histogram(images: tf.Tensor) -> tf.Tensor:
    """Counts of the 256 levels of each channel: int32 [..., C, 256]."""
    channels = images.shape[-1]
    lead = tf.shape(images)[:-3]
    num_tables = tf.reduce_prod(lead) * channels
    index = tf.reshape(table_index(images), [-1, 1])
    counts = tf.tensor_scatter_nd_add(tf.zeros([num_tables * NUM_LEVELS], tf.int32), index, tf.ones_like(index)[:, 0])
    return tf.reshape(counts, tf.concat([lead, [channels, NUM_LEVELS]], 0))


def loop_histogram(image: tf.Tensor, runtime_zero: tf.Tensor, *, margin: int = 0) -> tf.Tensor:
    """As histogram, of one image, for XLA:CPU alone.

    A loop of single loads and stores: XLA:CPU compiles one that touches less than 1 KB per iteration to one native
    function. XLA's scatter, which `histogram` uses, takes 147 us for 224 x 224 x 3, this loop 95.

    Args:
      image: uint8 [H + 2 margin, W, C].
      runtime_zero: int32 scalar, 0, which is known only at run time; a loop of known length would not count as small.
      margin: number of rows above and below that are not part of the image. Cut off, they would cost a copy.
    """
    rows, width, channels = image.shape
    num_pixels = (rows - 2 * margin) * width
    pixels = next(number for number in (4, 2, 1) if num_pixels % number == 0)
    span = pixels * channels
    if channels > MOST_LOOP_CHANNELS:
        return histogram(image[margin : rows - margin])
    elements, skipped = tf.reshape(image, [-1]), margin * width * channels
    num_iterations = num_pixels // pixels + runtime_zero

    def iterate(number: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        levels = tf.cast(dynamic_slice(elements, [skipped + number * span], [span]), tf.int32)
        for offset in range(span):
            level = levels[offset : offset + 1] + offset % channels * NUM_LEVELS
            counts = dynamic_update_slice(counts, dynamic_slice(counts, level, [1]) + 1, level)
        return number + 1, counts

    start = [tf.constant(0), tf.zeros([channels * NUM_LEVELS], tf.int32)]
    return tf.reshape(
        tf.while_loop(lambda number, _: number < num_iterations, iterate, start)[1], [channels, NUM_LEVELS]
    )


def map_histogram(counts: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Counts int32 [C, 256] of the levels after tables uint8 [C, 256]."""
    index = tf.reshape(tf.cast(tables, tf.int32) + _starts(tables.shape[0])[:, None], [-1, 1])
    after = tf.tensor_scatter_nd_add(tf.zeros_like(index[:, 0]), index, tf.reshape(counts, [-1]))
    return tf.reshape(after, tf.shape(counts))


def compose_tables(tables: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The tables [C, 256] that do what `first` does, and then `tables`."""
    return tf.gather(tf.reshape(tables, [-1]), tf.cast(first, tf.int32) + _starts(tables.shape[0])[:, None])


def _starts(channels: int) -> tf.Tensor:
    """The index of the first entry of each channel's table, of tables laid end to end."""
    return tf.range(channels) * NUM_LEVELS


def table_index(images: tf.Tensor) -> tf.Tensor:
    """The index of each element's level in the tables [..., C, 256] laid end to end: int32 like images."""
    channels = images.shape[-1]
    index = tf.cast(images, tf.int32) + _starts(channels)
    if len(images.shape) == 4:
        index += tf.range(tf.shape(images)[0])[:, None, None, None] * (channels * NUM_LEVELS)
    return index


def apply_tables(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Images [..., H, W, C] through tables uint8 [..., C, 256]."""
    return tf.gather(tf.reshape(tables, [-1]), table_index(images))
