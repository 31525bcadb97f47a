"""Warps with a matrix per image, and matrices from pairs of points.

    matrices = affine_from_points(src=landmarks, dst=[[38.3, 51.7], [73.5, 51.7], [56.0, 71.7]])      # [B, 2, 3]
    faces = warp_affine(images, matrices, (112, 112))

A matrix takes a point of the output to the point of the input whose value it gets. The middle of the upper left pixel
is (0, 0), as for OpenCV (WARP_INVERSE_MAP) and for points that name pixels; `pixel_center=0.5` puts it at (0.5, 0.5),
as for Pillow and for boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.images.sizes import as_size
from tfpipe.regions.move import invert_maps, matrices_of
from tfpipe.regions.programs import program
from tfpipe.regions.sampling import sample, to_pixels

DTYPES = (tf.uint8, tf.float16, tf.float32)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
BORDERS = ("constant", "reflect", "edge")
# Farther out nothing is left of an image, and integers hold it.
_FAR = 1e6


# ---- matrices


def affine_from_points(src: Any, dst: Any) -> tf.Tensor:
    """The affine maps that take points dst closest to points src, by least squares: for a warp that moves src to dst.

    Args:
      src: [B, K, 2] or [K, 2], points (x, y) in the input, at least 3 that are not on one line.
      dst: of the same shape, the points in the output.

    Returns:
      float32 [B, 2, 3] or [2, 3].

    Raises:
      ValueError: other shapes; or, outside of graphs, points on one line.
    """
    src, dst = _points(src, dst, 3)
    middle, target = (tf.reduce_mean(points, axis=-2, keepdims=True) for points in (dst, src))
    spread, moved = dst - middle, src - target
    # Around the means only 2 x 2 is left to invert, and large coordinates lose nothing.
    square = tf.matmul(spread, spread, transpose_a=True)
    (a, b), (c, d) = (tf.unstack(row, axis=-1) for row in tf.unstack(square, axis=-2))
    determinant = a * d - b * c
    _check_spread(determinant, a + d)
    inverse = matrices_of([[d, -b], [-c, a]]) / determinant[..., None, None]
    linear = tf.matmul(tf.matmul(moved, spread, transpose_a=True), inverse)
    shift = tf.linalg.matrix_transpose(target) - tf.matmul(linear, middle, transpose_b=True)
    return tf.cast(tf.concat([linear, shift], axis=-1), tf.float32)


def perspective_from_points(src: Any, dst: Any) -> tf.Tensor:
    """The perspective maps that take points dst to points src: exact for 4 points, by algebraic least squares for more.

    The direct linear transform, with points normalised as Hartley (1997) does.

    Args:
      src: [B, K, 2] or [K, 2], points (x, y) in the input, at least 4, no 3 of them on one line.
      dst: of the same shape, the points in the output.

    Returns:
      float32 [B, 3, 3] or [3, 3], the last entry 1.

    Raises:
      ValueError: other shapes.
    """
    src, dst = _points(src, dst, 4)
    (u, v), into = _normalised(src)
    (x, y), outof = _normalised(dst)
    zero, one = tf.zeros_like(x), tf.ones_like(x)
    rows = [[x, y, one, zero, zero, zero, -u * x, -u * y], [zero, zero, zero, x, y, one, -v * x, -v * y]]
    system = tf.concat([tf.stack(row, axis=-1) for row in rows], axis=-2)
    wanted = tf.concat([u, v], axis=-1)[..., None]
    square = tf.matmul(system, system, transpose_a=True)
    # The square has twice the digits of the system; in float64, with points near 1, that leaves 8 and more.
    found = tf.linalg.cholesky_solve(tf.linalg.cholesky(square), tf.matmul(system, wanted, transpose_a=True))
    matrix = tf.concat([found[..., 0], tf.ones_like(found[..., 0, :])], axis=-1)
    matrix = tf.reshape(matrix, tf.concat([tf.shape(matrix)[:-1], [3, 3]], axis=0))
    total = tf.matmul(tf.matmul(invert_maps(into), matrix), outof)
    return tf.ensure_shape(tf.cast(total / total[..., 2:, 2:], tf.float32), src.shape[:-2].concatenate([3, 3]))


def _points(src: Any, dst: Any, least: int) -> tuple[tf.Tensor, tf.Tensor]:
    pair = [
        tf.cast(points if tf.is_tensor(points) else np.asarray(points, np.float64), tf.float64) for points in (src, dst)
    ]
    shapes = [points.shape for points in pair]
    fits = all(shape.rank in (2, 3) and shape[-1] == 2 and (shape[-2] or least) >= least for shape in shapes)
    if not fits or not shapes[0].is_compatible_with(shapes[1]):
        raise ValueError(
            f"src and dst are points [B, K, 2] or [K, 2] of one shape, K at least {least}; got {shapes[0]} and "
            f"{shapes[1]}."
        )
    return pair[0], pair[1]


def _check_spread(determinant: tf.Tensor, scale: tf.Tensor) -> None:
    if tf.executing_eagerly() and bool(tf.reduce_any(determinant <= 1e-12 * scale**2)):
        raise ValueError("The points of dst are on one line, or one point: no affine map follows from them.")


def _normalised(points: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Points x and y [..., K] about their middle, on average sqrt(2) away; and the matrix that makes them so."""
    middle = tf.reduce_mean(points, axis=-2, keepdims=True)
    distance = tf.reduce_mean(tf.sqrt(tf.reduce_sum((points - middle) ** 2, axis=-1, keepdims=True)), axis=-2)
    scale = np.sqrt(2.0) / distance[..., 0]
    moved = (points - middle) * scale[..., None, None]
    x, y = tf.unstack(middle[..., 0, :], axis=-1)
    zero = tf.zeros_like(x)
    rows = [[scale, zero, -scale * x], [zero, scale, -scale * y], [zero, zero, zero + 1]]
    return (moved[..., 0], moved[..., 1]), matrices_of(rows)


# ---- warps


def warp_affine(
    images: Any,
    matrices: Any,
    output_size: int | Sequence[int] | None = None,
    *,
    fill: float | Sequence[float] = 0,
    interpolation: str = "bilinear",
    border: str = "constant",
    pixel_center: float = 0.0,
) -> tf.Tensor:
    """Images under an affine map of their own each.

    Args:
      images: uint8, float16 or float32 [B, H, W, C], of any number of channels and any range.
      matrices: [B, 2, 3], or [2, 3] for all: the output's (x, y, 1) to the input's (x, y).
      output_size: (height, width), or one number for a square; None: that of the images.
      fill: for border="constant", a value of the images, or one per channel.
      interpolation: "nearest", "bilinear", or "bicubic" (a = -0.75, as OpenCV's).
      border: what pixels outside of the image count as: "constant" (the fill, which bilinear and bicubic mix in at the
        border), "reflect" (mirrored at the middle of the outermost pixel) or "edge" (the outermost pixel).
      pixel_center: where the middle of the first pixel is, 0 or 0.5; see the module.

    Returns:
      [B, height, width, C] of the images' dtype; uint8 rounded to the nearest and clipped.

    Raises:
      ValueError: an argument is of the wrong shape, dtype or range.
    """
    return _warp(images, matrices, 2, output_size, fill, interpolation, border, pixel_center)


def warp_perspective(
    images: Any,
    matrices: Any,
    output_size: int | Sequence[int] | None = None,
    *,
    fill: float | Sequence[float] = 0,
    interpolation: str = "bilinear",
    border: str = "constant",
    pixel_center: float = 0.0,
) -> tf.Tensor:
    """Images under a perspective map of their own each.

    Args:
      matrices: [B, 3, 3], or [3, 3] for all: the output's (x, y, 1) to w times the input's (x, y, 1).
      images, output_size, fill, interpolation, border, pixel_center: as for warp_affine.
    """
    return _warp(images, matrices, 3, output_size, fill, interpolation, border, pixel_center)


def _warp(
    images: Any,
    matrices: Any,
    num_rows: int,
    output_size: Any,
    fill: Any,
    interpolation: str,
    border: str,
    pixel_center: float,
) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or images.dtype not in DTYPES or None in images.shape[1:]:
        allowed = [dtype.name for dtype in DTYPES]
        raise ValueError(
            f"Images are [B, H, W, C] with a static height, width and number of channels, of one of {allowed}; got "
            f"{images.dtype.name} {images.shape}."
        )
    matrices = matrices if tf.is_tensor(matrices) else np.asarray(matrices, np.float64)
    matrices = tf.cast(matrices, tf.float64)
    allowed_shapes = ([num_rows, 3], [images.shape[0], num_rows, 3])
    if not any(matrices.shape.is_compatible_with(shape) for shape in allowed_shapes):
        raise ValueError(
            f"Matrices are [B, {num_rows}, 3] for images {images.shape}, or [{num_rows}, 3]; got {matrices.shape}."
        )
    for what, value, known in (("interpolation", interpolation, INTERPOLATIONS), ("border", border, BORDERS)):
        if value not in known:
            raise ValueError(f"Unknown {what} {value!r}; allowed: {list(known)}.")
    if pixel_center not in (0, 0.5):
        raise ValueError(f"pixel_center is {pixel_center!r}; it takes 0 or 0.5.")
    levels = np.atleast_1d(np.asarray(fill, np.float32))
    if levels.shape not in ((1,), (images.shape[-1],)):
        raise ValueError(f"fill is one value, or {images.shape[-1]} of them, one per channel; got {fill!r}.")
    size = images.shape[1:3] if output_size is None else as_size(output_size, "output_size")
    matrices = tf.broadcast_to(matrices, [tf.shape(images)[0], num_rows, 3])
    options = tuple(size), interpolation, border, float(pixel_center)
    compiled = program(_render, *options, static=(num_rows, *images.shape[1:]))
    return compiled(images, matrices, tf.constant(levels))


def _render(
    size: tuple[int, int],
    interpolation: str,
    border: str,
    pixel_center: float,
    images: tf.Tensor,
    matrices: tf.Tensor,
    fill: tf.Tensor,
) -> tf.Tensor:
    x, y = mapped_points(matrices, size, pixel_center)
    values = sample(images, x, y, interpolation, border, fill)
    return values if interpolation == "nearest" else to_pixels(values, images.dtype)


def mapped_points(matrices: tf.Tensor, size: tuple[int, int], pixel_center: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the pixels of an output of a size come from, x and y float64 [B, h, w], the first pixel's middle at 0.

    Args:
      matrices: float64 [B, 2 or 3, 3].
      size: (height, width).
      pixel_center: as for warp_affine.
    """
    across = tf.range(size[1], dtype=tf.float64) + pixel_center
    down = (tf.range(size[0], dtype=tf.float64) + pixel_center)[:, None]
    rows = [tf.unstack(row[:, None, None], axis=-1) for row in tf.unstack(matrices, axis=1)]
    x, y, *scale = (a * across + b * down + c for a, b, c in rows)
    if scale:
        # On the horizon itself there is no point: far outside.
        x, y = (tf.where(scale[0] == 0, tf.constant(_FAR, tf.float64), part / scale[0]) for part in (x, y))
    return tuple(tf.clip_by_value(part - pixel_center, -_FAR, _FAR) for part in (x, y))
