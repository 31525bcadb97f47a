"""Ops that mean what imgaug 0.2.7 means by them, for `deep_augment`; they are not in OPS.

imgaug shears about the centre and by an angle, shifts by whole pixels, adds to channels together or apart, moves hue
and saturation in OpenCV's HSV of 8 bits, and counts coarse noise in cells a side, of which there are at least 4.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops import warp
from tfpipe.augment.ops.levels import FARTHEST, per_image
from tfpipe.augment.ops.noise import draw_bits, happens, number_of
from tfpipe.augment.ops.op import Op

# A shear by 90 degrees has no map; by 88 the outermost rows move by 14 times the image's height.
MOST_DEGREES = 88.0
LEAST_CELLS = 4
_HSV_BITS = 12


def shear(values: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Shifts rows by tan(values[0] degrees) pixels a row, about the centre."""
    degrees = tf.clip_by_value(tf.cast(values[..., :1], tf.float64), -MOST_DEGREES, MOST_DEGREES)
    slope = tf.tan(degrees[..., 0] * (math.pi / 180))
    a, _, c, d, e, f = tf.unstack(warp.shear_x(values, height, width), axis=-1)
    return tf.stack([a, slope, c - slope * (height / 2), d, e, f], axis=-1)


def _whole(shift: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return lambda values, height, width: shift(tf.round(values), height, width)


def brighten(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Adds whole levels, clipped: values[0] to all channels, or values[c] to channel c from a values[3] of 0.5 up."""
    columns = [channel % 3 for channel in range(images.shape[-1])]
    apart = values[..., 3:] >= 0.5
    added = tf.where(apart, tf.gather(values, columns, axis=-1), values[..., :1])
    total = (
        tf.cast(images, tf.int32)
        + tf.cast(tf.round(tf.clip_by_value(added, -255.0, 255.0)), tf.int32)[..., None, None, :]
    )
    return tf.cast(tf.clip_by_value(total, 0, 255), tf.uint8)


def hue_and_saturation(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Adds values[0] to hue and saturation, on a scale of 255 each, in HSV of 8 bits; gray images stay."""
    if images.shape[-1] != 3:
        return images
    hue, saturation, value = _to_hsv(tf.cast(images, tf.int32))
    added = tf.round(tf.clip_by_value(values[..., 0], -255.0, 255.0))[..., None, None]
    # A hue is one of 180 there; the fraction is cut off, as by a cast.
    turned = tf.math.floormod(tf.cast(hue, tf.float64) + tf.cast(added, tf.float64) / 255.0 * 180.0, 180.0)
    more = tf.clip_by_value(saturation + tf.cast(added, tf.int32), 0, 255)
    return _from_hsv(tf.floor(turned), more, value)


def _to_hsv(levels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Hue in 0 to 179, saturation and value in 0 to 255: int32 [..., H, W], by whole numbers as OpenCV rounds them."""
    red, green, blue = tf.unstack(levels, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    spread = value - tf.minimum(tf.minimum(red, green), blue)
    sector = tf.where(
        value == red, green - blue, tf.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    half = 2 ** (_HSV_BITS - 1)
    hue = tf.bitwise.right_shift(sector * tf.gather(_reciprocals(180 / 6), spread) + half, _HSV_BITS)
    saturation = tf.bitwise.right_shift(spread * tf.gather(_reciprocals(255), value) + half, _HSV_BITS)
    return tf.where(hue < 0, hue + 180, hue), saturation, value


@functools.cache
def _reciprocals(scale: float) -> np.ndarray:
    """Int32 [256]: scale / n in 4096ths, rounded; 0 for n = 0."""
    steps = np.rint(scale * 2**_HSV_BITS / np.maximum(np.arange(256), 1)).astype(np.int32)
    steps[0] = 0
    return steps


def _from_hsv(hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Uint8 RGB of hue [0, 180), saturation and value in levels; cut down, as OpenCV 5 does."""
    # In whole numbers: value (255 * 30 - saturation * k) / (255 * 30), for hues of whole half-degrees.
    hue = tf.cast(tf.clip_by_value(hue, 0.0, 179.0), tf.int32)
    sector, along = hue // 30, hue % 30

    def part(weight: tf.Tensor | int) -> tf.Tensor:
        return value * (255 * 30 - saturation * weight) // (255 * 30)

    most, least, falling, rising = value, part(30), part(along), part(30 - along)
    tables = {0: (most, rising, least), 1: (falling, most, least), 2: (least, most, rising),
              3: (least, falling, most), 4: (rising, least, most), 5: (most, least, falling)}  # fmt: skip
    red, green, blue = tables[0]
    for number in range(1, 6):
        here = sector == number
        red, green, blue = (
            tf.where(here, new, old) for new, old in zip(tables[number], (red, green, blue), strict=True)
        )
    return tf.cast(tf.clip_by_value(tf.stack([red, green, blue], axis=-1), 0, 255), tf.uint8)


def coarse_dropout(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Turns cells black; values (rate, cells down and across as shares of the pixels, per channel from 0.5 up)."""
    cells = _cell_number(images, values[..., 1], values[..., 2], values[..., 3])
    black = happens(draw_bits(seeds, cells), values[..., 0])
    return tf.where(black, tf.zeros_like(images), images)


def coarse_salt_and_pepper(images: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Fills cells with noise of 255 Beta(0.5, 0.5) a pixel, gray; values (rate, cells a side as a share)."""
    share = values[..., 1]
    chosen = happens(draw_bits(seeds, _cell_number(images, share, share, tf.zeros_like(share))), values[..., 0])
    # Beyond the numbers of all cells, so that what a pixel gets does not depend on whether it gets it.
    pixels = number_of(images)[..., :1] + (1 << 30)
    index = tf.cast(tf.bitwise.right_shift(draw_bits(seeds, pixels), tf.constant(20, tf.uint32)), tf.int32)
    return tf.where(chosen, tf.broadcast_to(tf.gather(tf.constant(_arcsine_levels()), index), tf.shape(images)), images)


def _cell_number(images: tf.Tensor, share_y: tf.Tensor, share_x: tf.Tensor, per_channel: tf.Tensor) -> tf.Tensor:
    """A number for each cell of each image: int32 [..., H, W, C]; max(4, int(share * pixels)) cells down and across."""
    height, width, channels = images.shape[-3:]
    down, across = (
        per_image(tf.cast(tf.clip_by_value(share * size, float(LEAST_CELLS), FARTHEST), tf.int32))
        for share, size in ((share_y, height), (share_x, width))
    )
    y = tf.range(height)[:, None, None] * down // height
    x = tf.range(width)[:, None] * across // width
    channel = tf.range(channels) * per_image(tf.cast(per_channel >= 0.5, tf.int32))
    return (y * tf.maximum(across, width) + x) * channels + channel


@functools.cache
def _arcsine_levels() -> np.ndarray:
    """255 Beta(0.5, 0.5) at the middle of 4,096 equally likely steps, cut down to levels: uint8."""
    steps = (np.arange(4096) + 0.5) / 4096
    return (255 * np.sin(np.pi / 2 * steps) ** 2).astype(np.uint8)


SHEAR = Op("shear", "warp", shear)
SHIFT_X = Op("shift_x", "warp", _whole(warp.translate_x), unit="width", motion="shift_x")
SHIFT_Y = Op("shift_y", "warp", _whole(warp.translate_y), unit="height", motion="shift_y")
BRIGHTEN = Op("brighten", "color", brighten, num_values=4)
HUE_AND_SATURATION = Op("hue_and_saturation", "color", hue_and_saturation, channels=(1, 3))
COARSE_DROPOUT = Op("coarse_dropout", "noise", coarse_dropout, num_values=4)
COARSE_SALT_AND_PEPPER = Op("coarse_salt_and_pepper", "noise", coarse_salt_and_pepper, num_values=2)
