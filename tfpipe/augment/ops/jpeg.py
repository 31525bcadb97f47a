"""What saving as JPEG does to an image: its colours, its blocks, its quantisation; no file is written.

The way of libjpeg with its defaults: YCbCr, colour halved down and across, 8 x 8 blocks by the cosine transform, the
tables of the standard's annex K scaled by the quality, and back; all in whole numbers, with its pixels.

A builder works on pixels: build(images uint8 [..., H, W, C], values float32 [..., 4]) -> uint8.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import FARTHEST, computed_first

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
# libjpeg's cosine transform "islow" (Loeffler, Ligtenberg and Moschytz 1989): its factors of 13 bits come together to
# these 8192ths of the root of 8 times the orthonormal one, of places 0 to 3; those of 7 to 4 are the same, of odd
# frequencies with the other sign. It rounds each pass after all sums, so a pass is a product with whole numbers.
FACTOR_BITS = 13
LEFT = np.array([
    (8192, 8192, 8192, 8192), (11363, 9633, 6437, 2260), (10703, 4433, -4433, -10703), (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192), (6437, -11362, 2261, 9633), (4433, -10704, 10704, -4433), (2260, -6436, 9633, -11363),
], np.int32)  # fmt: skip
FORWARD = np.concatenate([LEFT, LEFT[:, ::-1] * np.array([1, -1] * 4, np.int32)[:, None]], axis=1)
# After its first pass it keeps two more bits.
PASS_BITS = FACTOR_BITS - 2


def jpeg(images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The image as a JPEG of quality round(values[0]), 1 to 100; 3 channels by YCbCr, others each alone."""
    quality = tf.clip_by_value(tf.round(values[..., 0]), 1.0, 100.0)
    scale = tf.where(quality < 50, tf.floor(5000.0 / quality), 200.0 - 2.0 * quality)
    if images.shape[-1] != 3:
        planes = [_coded(tf.cast(plane, tf.int32), LUMA, scale) for plane in tf.unstack(images, axis=-1)]
        return tf.cast(tf.stack(planes, axis=-1), tf.uint8)
    luma, blue, red = _to_ycc(tf.cast(images, tf.int32))
    height, width = images.shape[-3:-1]
    luma = _coded(luma, LUMA, scale)
    # Both differences at once, on an axis before the rows.
    halves = [computed_first(functools.partial(_halved, plane)) for plane in (blue, red)]
    chroma = _coded(tf.stack(halves, axis=-3), CHROMA, scale[..., None])
    blue, red = (
        computed_first(functools.partial(_doubled, plane, height, width)) for plane in tf.unstack(chroma, axis=-3)
    )
    return _to_rgb(luma, blue, red)


def _to_ycc(levels: tf.Tensor) -> list[tf.Tensor]:
    """JFIF's luma and the two differences about 128 in 65536ths, as libjpeg rounds them: int32."""
    red, green, blue = tf.unstack(levels, axis=-1)
    middle = (128 << 16) + 32767
    sums = (
        19595 * red + 38470 * green + 7471 * blue + 32768,
        -11059 * red - 21709 * green + 32768 * blue + middle,
        32768 * red - 27439 * green - 5329 * blue + middle,
    )
    return [computed_first(functools.partial(tf.bitwise.right_shift, total, 16)) for total in sums]


def _to_rgb(luma: tf.Tensor, blue: tf.Tensor, red: tf.Tensor) -> tf.Tensor:
    blue, red = blue - 128, red - 128
    added = (91881 * red + 32768, -22554 * blue - 46802 * red + 32768, 116130 * blue + 32768)
    channels = [luma + tf.bitwise.right_shift(total, 16) for total in added]
    return tf.cast(tf.clip_by_value(tf.stack(channels, axis=-1), 0, 255), tf.uint8)


def _coded(plane: tf.Tensor, table: tuple[tuple[int, ...], ...], scale: tf.Tensor) -> tf.Tensor:
    """A plane int32 [..., H, W] of levels after quantisation; the edge fills the last blocks.

    Args:
      plane: of levels.
      table: of quantisation.
      scale: [...], of the table, in hundredths.
    """
    height, width = plane.shape[-2:]
    plane = computed_first(lambda: _edge_padded(plane, -height % BLOCK, -width % BLOCK) - 128)
    tall, wide = plane.shape[-2:]
    lead = tf.shape(plane)[:-2]
    # By rows of blocks, and by rows of one block.
    tiles, lines = (
        tf.concat([lead, last], 0) for last in ([tall // BLOCK, BLOCK, wide], [tall * wide // BLOCK, BLOCK])
    )
    parts = (tf.constant(table, tf.float32) * scale[..., None, None] + 50.0) / 100.0
    steps = tf.clip_by_value(tf.floor(parts), 1.0, 255.0)
    steps = computed_first(lambda: tf.tile(steps, [*[1] * (len(steps.shape) - 1), wide // BLOCK])[..., None, :, :])
    # Each pass is a kernel of its own: within the next one it would be computed again for each of eight sums.
    coded = computed_first(lambda: _across(FORWARD, tf.reshape(plane, lines), PASS_BITS))
    coded = computed_first(lambda: _down(FORWARD, tf.reshape(coded, tiles), FACTOR_BITS + 2))
    kept = computed_first(lambda: _quantised(coded, steps))
    back = computed_first(lambda: _down(FORWARD.T, kept, PASS_BITS))
    back = computed_first(lambda: _across(FORWARD.T, tf.reshape(back, lines), FACTOR_BITS + 5))
    levels = tf.reshape(tf.clip_by_value(back + 128, 0, 255), tf.concat([lead, [tall, wide]], 0))
    return levels[..., :height, :width]


def _quantised(coded: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Coefficients, which are 8 times too large, to whole steps and back; halves away from zero, as libjpeg."""
    # An eighth's half above whole numbers, so that no rounding of the quotient reaches the next one.
    size = (tf.cast(tf.abs(coded), tf.float32) + 4.0 * steps + 0.5) / (8.0 * steps)
    kept = tf.cast(tf.clip_by_value(tf.floor(size) * steps, 0.0, FARTHEST), tf.int32)
    return tf.where(coded < 0, -kept, kept)


def _across(factors: np.ndarray, lines: tf.Tensor, bits: int) -> tf.Tensor:
    """The products of int32 [8, 8] with lines [..., 8], rounded by so many bits."""
    return _rounded([factors[:, place] * lines[..., place : place + 1] for place in range(BLOCK)], bits)


def _down(factors: np.ndarray, tiles: tf.Tensor, bits: int) -> tf.Tensor:
    """The products of int32 [8, 8] with the columns of tiles [..., 8, W], rounded by so many bits."""
    return _rounded([factors[:, place, None] * tiles[..., place : place + 1, :] for place in range(BLOCK)], bits)


def _rounded(parts: list[tf.Tensor], bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(functools.reduce(tf.add, parts) + 2 ** (bits - 1), bits)


def _edge_padded(plane: tf.Tensor, down: int, across: int) -> tf.Tensor:
    last = tf.repeat(plane[..., -1:, :], down, axis=-2)
    plane = tf.concat([plane, last], axis=-2) if down else plane
    return tf.concat([plane, tf.repeat(plane[..., -1:], across, axis=-1)], axis=-1) if across else plane


def _halved(plane: tf.Tensor) -> tf.Tensor:
    """The means of 2 x 2 levels, whole; a half goes down and up in turns from column to column, as in libjpeg.

    The last blocks are filled to the right before that, as libjpeg does, downwards afterwards.
    """
    plane = _edge_padded(plane, plane.shape[-2] % 2, -plane.shape[-1] % (2 * BLOCK))
    total = plane[..., ::2, ::2] + plane[..., ::2, 1::2] + plane[..., 1::2, ::2] + plane[..., 1::2, 1::2]
    return tf.bitwise.right_shift(total + (1 + tf.range(plane.shape[-1] // 2) % 2), 2)


def _doubled(plane: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Twice as high and wide, by libjpeg's triangle filter: 9, 3, 3 and 1 sixteenths of the four nearest."""
    plane = plane[..., : -(-width // 2)]
    above = tf.concat([plane[..., :1, :], plane[..., :-1, :]], axis=-2)
    below = tf.concat([plane[..., 1:, :], plane[..., -1:, :]], axis=-2)
    made = []
    for row in (3 * plane + above, 3 * plane + below):
        before = tf.concat([row[..., :1], row[..., :-1]], axis=-1)
        behind = tf.concat([row[..., 1:], row[..., -1:]], axis=-1)
        made.append(
            _woven(tf.bitwise.right_shift(3 * row + before + 8, 4), tf.bitwise.right_shift(3 * row + behind + 7, 4), -1)
        )
    return _woven(made[0], made[1], -2)[..., :height, :width]


def _woven(even: tf.Tensor, odd: tf.Tensor, axis: int) -> tf.Tensor:
    """Rows or columns in turns."""
    both = tf.stack([even, odd], axis=len(even.shape) + axis + 1)
    height, width = even.shape[-2:]
    shape = [2 * height, width] if axis == -2 else [height, 2 * width]
    return tf.reshape(both, tf.concat([tf.shape(even)[:-2], shape], 0))
