"""What saving as JPEG does to an image: its colours, its blocks, its quantisation; no file is written.

The way of libjpeg with its defaults: YCbCr, colour halved down and across, 8 x 8 blocks by the cosine transform, the
tables of the standard's annex K scaled by the quality, and back. libjpeg's fast integer transforms differ by a level
here and there.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import to_levels

# ITU-T T.81, annex K.1, by rows.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8,) * 4,
)  # fmt: skip
BLOCK = 8


def jpeg(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The image as a JPEG of quality round(values[0]), 1 to 100; 3 channels by YCbCr, others each alone."""
    quality = tf.clip_by_value(tf.round(values[..., 0]), 1.0, 100.0)
    scale = tf.where(quality < 50, tf.floor(5000.0 / quality), 200.0 - 2.0 * quality)
    if images.shape[-1] != 3:
        planes = [_coded(tf.cast(plane, tf.float32), LUMA, scale) for plane in tf.unstack(images, axis=-1)]
        return to_levels(tf.stack(planes, axis=-1))
    luma, blue, red = _to_ycc(tf.cast(images, tf.int32))
    height, width = images.shape[-3:-1]
    luma = _coded(luma, LUMA, scale)
    blue, red = (_doubled(_coded(_halved(plane), CHROMA, scale), height, width) for plane in (blue, red))
    return _to_rgb(luma, blue, red)


def _to_ycc(levels: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """JFIF's luma and the two differences about 128 in 65536ths, as libjpeg rounds them: float32, whole."""
    red, green, blue = tf.unstack(levels, axis=-1)
    middle = (128 << 16) + 32767
    sums = (
        19595 * red + 38470 * green + 7471 * blue + 32768,
        -11059 * red - 21709 * green + 32768 * blue + middle,
        32768 * red - 27439 * green - 5329 * blue + middle,
    )
    return tuple(tf.cast(tf.bitwise.right_shift(total, 16), tf.float32) for total in sums)


def _to_rgb(luma: tf.Tensor, blue: tf.Tensor, red: tf.Tensor) -> tf.Tensor:
    luma, blue, red = (tf.cast(plane, tf.int32) for plane in (luma, blue - 128.0, red - 128.0))
    added = (91881 * red + 32768, -22554 * blue - 46802 * red + 32768, 116130 * blue + 32768)
    channels = [luma + tf.bitwise.right_shift(total, 16) for total in added]
    return tf.cast(tf.clip_by_value(tf.stack(channels, axis=-1), 0, 255), tf.uint8)


def _coded(plane: tf.Tensor, table: tuple[tuple[int, ...], ...], scale: tf.Tensor) -> tf.Tensor:
    """A plane [..., H, W] of whole levels after quantisation, in whole levels; the edge fills the last blocks."""
    height, width = plane.shape[-2:]
    plane = _edge_padded(plane, -height % BLOCK, -width % BLOCK)
    rows, columns = plane.shape[-2] // BLOCK, plane.shape[-1] // BLOCK
    lead = tf.shape(plane)[:-2]
    blocks = tf.reshape(tf.cast(plane, tf.float64) - 128.0, tf.concat([lead, [rows, BLOCK, columns, BLOCK]], 0))
    cosine = tf.constant(_cosines())
    parts = (tf.constant(table, tf.float32) * scale[..., None, None] + 50.0) / 100.0
    steps = tf.cast(tf.clip_by_value(tf.floor(parts), 1.0, 255.0), tf.float64)[..., None, :, None, :]
    coded = _settled(tf.einsum("...aibk,lk->...aibl", tf.einsum("ij,...ajbk->...aibk", cosine, blocks), cosine))
    # Halves away from zero, as libjpeg.
    kept = tf.sign(coded) * tf.floor(tf.abs(coded) / steps + 0.5) * steps
    back = _settled(tf.einsum("...aibk,kl->...aibl", tf.einsum("ji,...ajbk->...aibk", cosine, kept), cosine))
    levels = tf.cast(tf.clip_by_value(tf.floor(back + 128.5), 0.0, 255.0), tf.float32)
    levels = tf.reshape(levels, tf.concat([lead, [rows * BLOCK, columns * BLOCK]], 0))
    return levels[..., :height, :width]


def _settled(sums: tf.Tensor) -> tf.Tensor:
    """Sums to 2 ** -20, so that a half is a half in whatever order they were added: flat blocks have many."""
    return tf.round(sums * 2.0**20) / 2.0**20


def _cosines() -> np.ndarray:
    """The orthonormal cosine transform of 8: float64 [frequency, place]."""
    frequency, place = np.arange(BLOCK)[:, None], np.arange(BLOCK)
    rows = np.cos((2 * place + 1) * frequency * np.pi / (2 * BLOCK)) / 2
    rows[0] /= np.sqrt(2)
    return rows


def _edge_padded(plane: tf.Tensor, down: int, across: int) -> tf.Tensor:
    last = tf.repeat(plane[..., -1:, :], down, axis=-2)
    plane = tf.concat([plane, last], axis=-2) if down else plane
    return tf.concat([plane, tf.repeat(plane[..., -1:], across, axis=-1)], axis=-1) if across else plane


def _halved(plane: tf.Tensor) -> tf.Tensor:
    """The means of 2 x 2 levels, whole; a half goes down and up in turns from column to column, as in libjpeg."""
    height, width = plane.shape[-2:]
    plane = _edge_padded(plane, height % 2, width % 2)
    total = plane[..., ::2, ::2] + plane[..., ::2, 1::2] + plane[..., 1::2, ::2] + plane[..., 1::2, 1::2]
    bias = 1.0 + tf.cast(tf.range(plane.shape[-1] // 2) % 2, tf.float32)
    return tf.floor((total + bias) / 4.0)


def _doubled(plane: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Twice as high and wide, by libjpeg's triangle filter: 9, 3, 3 and 1 sixteenths of the four nearest."""
    above = tf.concat([plane[..., :1, :], plane[..., :-1, :]], axis=-2)
    below = tf.concat([plane[..., 1:, :], plane[..., -1:, :]], axis=-2)
    rows = [3.0 * plane + above, 3.0 * plane + below]
    made = []
    for row in rows:
        before = tf.concat([row[..., :1], row[..., :-1]], axis=-1)
        behind = tf.concat([row[..., 1:], row[..., -1:]], axis=-1)
        even, odd = tf.floor((3.0 * row + before + 8.0) / 16.0), tf.floor((3.0 * row + behind + 7.0) / 16.0)
        made.append(_woven(even, odd, -1))
    return _woven(made[0], made[1], -2)[..., :height, :width]


def _woven(even: tf.Tensor, odd: tf.Tensor, axis: int) -> tf.Tensor:
    """Rows or columns in turns."""
    both = tf.stack([even, odd], axis=len(even.shape) + axis + 1)
    height, width = even.shape[-2:]
    shape = [2 * height, width] if axis == -2 else [height, 2 * width]
    return tf.reshape(both, tf.concat([tf.shape(even)[:-2], shape], 0))
