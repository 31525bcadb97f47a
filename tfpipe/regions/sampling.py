"""Sampling: the pixels of an affine map's output, nearest or bilinear, as Pillow's Image.transform takes them.

`sample` reads images at any points; warp.py builds on it, and so do bilinear augmentations. Everything here works on
one image [H, W, C] and on a batch [B, H, W, C] alike; coefficients have the leading axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe.tf_internals import dynamic_slice, gather_runs

FillLevels = tuple[float, ...] | None

FIXED_BITS = 16
OUTSIDE = -1


class AffineMap(NamedTuple):
    """The map from output pixels to input pixels.

    Attributes:
      coefficients: float64 [..., 6], see tfpipe.augment.ops.warp.
      is_scale: bool [...], or a Python bool: whether b = d = 0 by the op's nature; Pillow then takes another path.
      height, width: of both images.
    """

    coefficients: tf.Tensor
    is_scale: tf.Tensor | bool
    height: int
    width: int


def nearest_index(affine: AffineMap, *, repeat_edge: bool) -> tf.Tensor:
    """The index y * W + x of the input pixel for each output pixel: int32 [..., H, W], OUTSIDE where there is none.

    Pillow steps in 16.16 fixed point through rotations and shears, and in float64 where x depends on x and y on y
    alone. Fixed point holds up to 32,767 pixels, so a shear must not reach farther.
    """
    x, y = _nearest_coordinates(affine)
    if repeat_edge:
        return tf.clip_by_value(y, 0, affine.height - 1) * affine.width + tf.clip_by_value(x, 0, affine.width - 1)
    inside = (x >= 0) & (x < affine.width) & (y >= 0) & (y < affine.height)
    return tf.where(inside, y * affine.width + x, OUTSIDE)


def _nearest_coordinates(affine: AffineMap) -> tuple[tf.Tensor, tf.Tensor]:
    if affine.is_scale is True:
        return _scale_coordinates(affine)
    x, y = _fixed_coordinates(affine)
    if affine.is_scale is not False:
        is_scale = affine.is_scale[..., None, None]
        scale_x, scale_y = _scale_coordinates(affine)
        x, y = tf.where(is_scale, scale_x, x), tf.where(is_scale, scale_y, y)
    return x, y


def _scale_coordinates(affine: AffineMap) -> tuple[tf.Tensor, tf.Tensor]:
    """Floor of a x + c at pixel centres, in float64: int32 [..., 1, W] and [..., H, 1]."""
    a, _, c, _, e, f = tf.unstack(affine.coefficients, axis=-1)
    x = (c + 0.5 * a)[..., None] + a[..., None] * tf.range(affine.width, dtype=tf.float64)
    y = (f + 0.5 * e)[..., None] + e[..., None] * tf.range(affine.height, dtype=tf.float64)
    return _floor(x)[..., None, :], _floor(y)[..., None]


def _floor(coordinate: tf.Tensor) -> tf.Tensor:
    """Floor as int32, far outside kept outside."""
    return tf.cast(tf.floor(tf.clip_by_value(coordinate, -1e6, 1e6)), tf.int32)


def _fixed_coordinates(affine: AffineMap) -> tuple[tf.Tensor, tf.Tensor]:
    a, b, c, d, e, f = tf.unstack(affine.coefficients, axis=-1)
    x, y = tf.range(affine.width), tf.range(affine.height)[:, None]

    def along(step_x: tf.Tensor, step_y: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        start = _to_fixed(start + 0.5 * step_x + 0.5 * step_y)
        step_x, step_y = _to_fixed(step_x), _to_fixed(step_y)
        total = step_x[..., None, None] * x + step_y[..., None, None] * y + start[..., None, None]
        return tf.bitwise.right_shift(total, FIXED_BITS)

    return along(a, b, c), along(d, e, f)


def _to_fixed(number: tf.Tensor) -> tf.Tensor:
    """16.16 fixed point, rounded as Pillow's FIX does, and clipped to int32."""
    fixed = tf.floor(number * 2.0**FIXED_BITS + 0.5)
    return tf.cast(tf.clip_by_value(fixed, float(tf.int32.min), float(tf.int32.max)), tf.int32)


def fill_pixel(fill: FillLevels, dtype: tf.DType, channels: int) -> tf.Tensor:
    """[C] of a dtype; levels of 0 to 255 become fractions for float images. No fill counts as 0."""
    levels = np.broadcast_to(np.asarray(0 if fill is None else fill, np.float64), [channels])
    return tf.constant((levels / 255 if dtype.is_floating else levels).astype(dtype.as_numpy_dtype))


def resample(images: tf.Tensor, affine: AffineMap, fill: FillLevels, interpolation: str) -> tf.Tensor:
    """The output of an affine map; shape and dtype of images."""
    if interpolation == "bilinear":
        return resample_bilinear(images, affine, fill)
    return resample_nearest(images, nearest_index(affine, repeat_edge=fill is None), fill)


def resample_nearest(images: tf.Tensor, index: tf.Tensor, fill: FillLevels) -> tf.Tensor:
    """The pixels that nearest_index names; shape and dtype of images."""
    taken = _gather_pixels(images, tf.maximum(index, 0))
    return tf.where((index >= 0)[..., None], taken, fill_pixel(fill, images.dtype, images.shape[-1]))


def translate_rows(rows: tf.Tensor, coefficients: tf.Tensor, fill: tuple[float, ...], motion: str) -> tf.Tensor:
    """One image as rows [H, W * C], moved by whole pixels, the nearest to the map's.

    Args:
      coefficients: of which c and f are read.
      fill: a level for each channel.
      motion: "shift", or "shift_x" or "shift_y" where the map moves along one axis; it then need not look at the other.
    """
    channels = len(fill)
    height, width = rows.shape[0], rows.shape[1] // channels
    right, down = _floor(coefficients[2] + 0.5), _floor(coefficients[5] + 0.5)
    # How far it may move at all: beyond the image there is only fill.
    most_x, most_y = width * (motion != "shift_y"), height * (motion != "shift_x")
    right, down = tf.clip_by_value(right, -most_x, most_x), tf.clip_by_value(down, -most_y, most_y)
    # Pad and slice become one kernel, which reads no padding.
    uniform = len(set(fill)) == 1
    level = fill_pixel(fill[:1], rows.dtype, 1)[0] if uniform else tf.zeros([], rows.dtype)
    padded = tf.pad(rows, [[most_y] * 2, [most_x * channels] * 2], constant_values=level)
    start = tf.stack([most_y + down, (most_x + right) * channels])
    moved = dynamic_slice(padded, start, rows.shape.as_list())
    if uniform:
        return moved
    y, x = tf.range(height)[:, None] + down, np.repeat(np.arange(width, dtype=np.int32), channels) + right
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return tf.where(inside, moved, tf.tile(fill_pixel(fill, rows.dtype, channels), [width]))


def shear_rows(
    padded: tf.Tensor,
    coefficients: tf.Tensor,
    fill: tuple[float, ...],
    shape: tuple[int, int, int],
    isolate: Callable[[Callable[[], tf.Tensor]], tf.Tensor],
) -> tf.Tensor:
    """A shear along x, nearest: each row of an image moved by a whole number of pixels.

    Args:
      padded: the image's elements [(H + 2) * W * C], with a row of anything before and behind.
      coefficients: (1, b, c, 0, 1, 0).
      fill: a level for each channel.
      shape: (H, W, C).
      isolate: computes what feeds the gather first.

    Returns:
      Rows [H, W * C].
    """
    height, width, channels = shape
    length = width * channels
    slope = coefficients[1]

    def offsets() -> tf.Tensor:
        shifts = _to_fixed(slope) * tf.range(height) + _to_fixed(coefficients[2] + 0.5 + 0.5 * slope)
        return tf.clip_by_value(tf.bitwise.right_shift(shifts, FIXED_BITS), -width, width) * channels

    right = isolate(offsets)
    starts = isolate(lambda: tf.range(1, height + 1) * length + right)
    # Runs of a whole row: one start to check for each, then plain loads; a gather of pixels took twice as long.
    moved = gather_runs(padded, starts, length)
    column = tf.range(length) + right[:, None]
    levels = tf.tile(fill_pixel(fill, padded.dtype, channels), [width])
    return tf.where((column >= 0) & (column < length), moved, levels)


def resample_bilinear(images: tf.Tensor, affine: AffineMap, fill: FillLevels) -> tf.Tensor:
    """The output of an affine map, each pixel mixed of the four nearest; shape and dtype of images.

    A point outside the input takes the fill; within half a pixel of the border, the edge is repeated. Coordinates are
    float64 and weights float32: within 1 level of float64 throughout, where Pillow's own differs in 40 %.
    """
    a, b, c, d, e, f = (coefficient[..., None, None] for coefficient in tf.unstack(affine.coefficients, axis=-1))
    middle_x = tf.range(affine.width, dtype=tf.float64) + 0.5
    middle_y = (tf.range(affine.height, dtype=tf.float64) + 0.5)[:, None]
    x, y = (tf.clip_by_value(p, -1e6, 1e6) for p in (a * middle_x + b * middle_y + c, d * middle_x + e * middle_y + f))
    mixed = to_pixels(sample(images, x - 0.5, y - 0.5, "bilinear", "edge", None), images.dtype)
    if fill is None:
        return mixed
    inside = (x >= 0) & (x < affine.width) & (y >= 0) & (y < affine.height)
    return tf.where(inside[..., None], mixed, fill_pixel(fill, images.dtype, images.shape[-1]))


def to_pixels(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Float32 values as pixels of a dtype: rounded half up where it is one of integers, of at least 0.

    What is cast is clipped first for uint8: a value that does not fit would be cast as the device pleases.
    """
    if dtype.is_floating:
        return tf.cast(values, dtype)
    rounded = values + 0.5
    if dtype == tf.uint8:
        rounded = tf.clip_by_value(rounded, 0.0, 255.0)
    return tf.cast(tf.cast(rounded, tf.int32), dtype)


def sample(
    images: tf.Tensor, x: tf.Tensor, y: tf.Tensor, interpolation: str, border: str, fill: tf.Tensor | None
) -> tf.Tensor:
    """The values of images at points, float32 [..., h, w, C]; for "nearest" in their own dtype.

    Args:
      images: [..., H, W, C].
      x, y: float64 [..., h, w], the middle of the first pixel at 0; within 1e6.
      interpolation: "nearest", "bilinear" or "bicubic" (Keys' kernel with a = -0.75, as OpenCV's).
      border: what a pixel outside counts as: "constant" (the fill), "edge" (the nearest one), or "reflect" (mirrored at
        the middle of the outermost one).
      fill: [C], for "constant".
    """
    height, width = images.shape[-3:-1]
    (columns, across), (rows, down) = _taps(x, interpolation), _taps(y, interpolation)
    kept_columns, inside_x = zip(*(_inside(column, width, border) for column in columns), strict=True)
    kept_rows, inside_y = zip(*(_inside(row, height, border) for row in rows), strict=True)

    def tap(row: int, column: int) -> tf.Tensor:
        taken = _gather_pixels(images, kept_rows[row] * width + kept_columns[column])
        if border == "constant":
            taken = tf.where((inside_y[row] & inside_x[column])[..., None], taken, tf.cast(fill, taken.dtype))
        return taken if interpolation == "nearest" else tf.cast(taken, tf.float32)

    return _mix([_mix([tap(row, i) for i in range(len(columns))], across) for row in range(len(rows))], down)


def _taps(position: tf.Tensor, interpolation: str) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The pixels around each position along one axis, int32, and what _mix makes of them, float32 [..., 1]."""
    if interpolation == "nearest":
        return [tf.cast(tf.floor(position + 0.5), tf.int32)], []
    before = tf.floor(position)
    part = tf.cast(position - before, tf.float32)[..., None]
    first = tf.cast(before, tf.int32)
    if interpolation == "bilinear":
        return [first, first + 1], [part]
    return [first + step for step in (-1, 0, 1, 2)], [_keys(tf.abs(part - step)) for step in (-1, 0, 1, 2)]


def _keys(distance: tf.Tensor, a: float = -0.75) -> tf.Tensor:
    """Keys' cubic kernel (1981), for distances up to 2."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    return tf.where(distance <= 1, near, ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a)


def _mix(values: list[tf.Tensor], weights: list[tf.Tensor]) -> tf.Tensor:
    """Values by their weights; two by the share of the second."""
    if not weights:
        return values[0]
    if len(weights) == 1:
        return values[0] + weights[0] * (values[1] - values[0])
    return tf.add_n([value * weight for value, weight in zip(values, weights, strict=True)])


def _inside(index: tf.Tensor, length: int, border: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The index brought into an axis, and whether it was there before."""
    inside = (index >= 0) & (index < length)
    if border == "reflect":
        period = max(2 * (length - 1), 1)
        index = tf.math.floormod(index, period)
        index = tf.minimum(index, period - index)
    return tf.clip_by_value(index, 0, length - 1), inside


def _gather_pixels(images: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Pixels by their index within their image: [..., H, W, C] for index [..., H, W]."""
    height, width, channels = images.shape[-3:]
    if len(images.shape) == 4:
        index += tf.range(tf.shape(images)[0])[:, None, None] * (height * width)
    return tf.gather(tf.reshape(images, [-1, channels]), index)
