"""Fields: each output pixel comes from a point of the input that no affine map gives.

A builder turns values and the seed of image and stage into coordinates: build(values float32 [..., 4], seeds int32
[..., 2], height, width) -> (x, y) int32 [..., H, W], in 65536ths of a pixel, pixel centres at a half. Fixed point, so
that the last bit of a product, which XLA may round otherwise, does not choose another pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfpipe.augment.ops.levels import computed_first, loop_zero
from tfpipe.augment.ops.noise import draw_bits
from tfpipe.augment.ops.stencil import gaussian_weights
from tfpipe.regions.sampling import OUTSIDE, FillLevels, fill_pixel, resample_nearest, to_pixels

BITS = 16
GRID_STEPS = 5
Point = tuple[tf.Tensor, tf.Tensor]


def perspective(values: tf.Tensor, seeds: tf.Tensor, height: int, width: int) -> Point:
    """Moves each corner inwards by up to values[0] of half the side, drawn for each, as torchvision's."""
    inward = _uniforms(seeds, 8, symmetric=False) * tf.cast(values[..., :1], tf.float64) / 2
    down, across = inward[..., :4], inward[..., 4:]
    signs_x, signs_y = np.array([1.0, -1.0, -1.0, 1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    # From the upper left clockwise, on the unit square.
    corner_x = np.array([0.0, 1.0, 1.0, 0.0]) + signs_x * across
    corner_y = np.array([0.0, 0.0, 1.0, 1.0]) + signs_y * down
    a, b, c, d, e, f, g, h, i = _to_square(corner_x, corner_y)
    x, y = _centres(width) / width, (_centres(height) / height)[:, None]
    depth = g * x + h * y + i
    return _fixed((a * x + b * y + c) / depth * width), _fixed((d * x + e * y + f) / depth * height)


def _to_square(x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
    """The nine coefficients [..., 1, 1] of the projective maps from quadrilaterals to the unit square.

    Args:
      x, y: float64 [..., 4], the corners from the upper left clockwise.

    The map from the square is Heckbert's (1989, Fundamentals of Texture Mapping, 2.2.3); this is its adjoint.
    """
    x0, x1, x2, x3 = (x[..., k, None, None] for k in range(4))
    y0, y1, y2, y3 = (y[..., k, None, None] for k in range(4))
    dx1, dx2, dx3 = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy3 = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    scale = dx1 * dy2 - dx2 * dy1
    g, h = (dx3 * dy2 - dx2 * dy3) / scale, (dx1 * dy3 - dx3 * dy1) / scale
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    return [
        e - f * h,
        c * h - b,
        b * f - c * e,
        f * g - d,
        a - c * g,
        c * d - a * f,
        d * h - e * g,
        b * g - a * h,
        a * e - b * d,
    ]


def elastic(values: tf.Tensor, seeds: tf.Tensor, height: int, width: int) -> Point:
    """Moves each pixel by values[0] pixels times uniform noise in ±1 that a Gaussian of values[1] pixels smooths.

    After Simard, Steinkraus and Platt (2003). Noise in 255ths, weights in 8192ths and what is smoothed down the columns
    in 2040ths are whole numbers: the sums are exact, in any order, and those of the loop form in float32, too.
    """
    exact = tf.float64 if loop_zero() is None else tf.float32
    sigma = tf.maximum(values[..., 1], 0.1)
    noise = computed_first(lambda: tf.cast(_noise(seeds, height, width), exact))
    down = computed_first(lambda: tf.cast(gaussian_weights(sigma, height, 2**13), exact))
    across = down
    if height != width:
        across = computed_first(lambda: tf.cast(gaussian_weights(sigma, width, 2**13), exact))
    moved = []
    for axis in range(2):
        smooth = tf.floor(tf.matmul(down, noise[..., axis, :, :]) / 2.0**10 + 0.5)
        smooth = tf.cast(tf.matmul(smooth, across, transpose_b=True), tf.float64)
        moved.append(tf.cast(values[..., 0], tf.float64)[..., None, None] * (smooth / (255 * 2.0**16)))
    return _fixed(moved[0] + _centres(width)), _fixed(moved[1] + _centres(height)[:, None])


def _noise(seeds: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Int32 [..., 2, H, W]: the odd numbers from -255 to 255, all alike."""
    count = 2 * height * width
    words = -(-count // 4)
    bits = draw_bits(seeds, tf.range(words)[:, None, None] + (1 << 28))
    lead = tf.shape(seeds)[:-1]
    bits = tf.reshape(bits, tf.concat([lead, [1, words]], 0))
    shifts = tf.constant([[0], [8], [16], [24]], tf.uint32)
    octets = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, shifts), tf.constant(255, tf.uint32))
    levels = tf.reshape(tf.cast(octets, tf.int32), tf.concat([lead, [4 * words]], 0))[..., :count]
    return 2 * tf.reshape(levels, tf.concat([lead, [2, height, width]], 0)) - 255


def grid_distortion(values: tf.Tensor, seeds: tf.Tensor, height: int, width: int) -> Point:
    """Stretches the columns and rows of a grid of 5 x 5 cells by 1 ± values[0], drawn for each, to the whole image."""
    limit = tf.cast(values[..., :1], tf.float64)
    stretch = 1.0 + tf.clip_by_value(limit, 0.0, 0.99) * _uniforms(seeds, 2 * GRID_STEPS)
    x = _piecewise(stretch[..., :GRID_STEPS], width)[..., None, :]
    y = _piecewise(stretch[..., GRID_STEPS:], height)[..., None]
    return _fixed(tf.broadcast_to(x, tf.shape(x + y))), _fixed(tf.broadcast_to(y, tf.shape(x + y)))


def _piecewise(lengths: tf.Tensor, size: int) -> tf.Tensor:
    """Float64 [..., size]: where pixel centres come from if the image is made of even steps of these lengths."""
    ends = tf.cumsum(lengths, axis=-1) * (size / tf.reduce_sum(lengths, axis=-1, keepdims=True))
    place = _centres(size) * (GRID_STEPS / size)
    step = np.minimum(np.floor(place), GRID_STEPS - 1).astype(np.int32)
    starts = tf.concat([tf.zeros_like(ends[..., :1]), ends[..., :-1]], axis=-1)
    first, last = tf.gather(starts, step, axis=-1), tf.gather(ends, step, axis=-1)
    return first + (last - first) * (place - step)


def _centres(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float64) + 0.5


def _uniforms(seeds: tf.Tensor, count: int, *, symmetric: bool = True) -> tf.Tensor:
    """Float64 [..., count] in [-1, 1), or in [0, 1): multiples of 2 ** -23, so that they are the same in every form."""
    index = tf.range(count)[:, None, None] + (1 << 28)
    bits = tf.reshape(draw_bits(seeds, index), tf.concat([tf.shape(seeds)[:-1], [count]], 0))
    unit = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float64) / 2.0**24
    return tf.ensure_shape(2 * unit - 1 if symmetric else unit, [*seeds.shape[:-1], count])


def _fixed(coordinate: tf.Tensor) -> tf.Tensor:
    """65536ths, far outside kept outside."""
    return tf.cast(tf.floor(tf.clip_by_value(coordinate, -3e4, 3e4) * 2.0**BITS + 0.5), tf.int32)


def sample(images: tf.Tensor, point: Point, fill: FillLevels, interpolation: str) -> tf.Tensor:
    """The pixels [..., H, W, C] at points; shape and dtype of images. A point outside takes the fill."""
    x, y = point
    height, width, channels = images.shape[-3:]
    inside = (x >= 0) & (x < width << BITS) & (y >= 0) & (y < height << BITS)
    if interpolation == "nearest":
        column, row = (tf.bitwise.right_shift(part, BITS) for part in (x, y))
        index = tf.clip_by_value(row, 0, height - 1) * width + tf.clip_by_value(column, 0, width - 1)
        index = index if fill is None else tf.where(inside, index, OUTSIDE)
        # First for each pixel, and not again for each of its channels.
        return resample_nearest(images, computed_first(lambda: index), fill)
    taken = _mix(images, x, y)
    if fill is None:
        return taken
    return tf.where(inside[..., None], taken, fill_pixel(fill, images.dtype, channels))


def _mix(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Each point mixed of the four nearest pixels; within half a pixel of the border, the edge is repeated."""
    half, one = 1 << (BITS - 1), 1 << BITS
    left, top = tf.bitwise.right_shift(x - half, BITS), tf.bitwise.right_shift(y - half, BITS)
    across, down = (
        tf.cast(part, tf.float32)[..., None] / one for part in (x - half - left * one, y - half - top * one)
    )
    corners = [[tf.cast(_pixels(images, left + i, top + j), tf.float32) for i in (0, 1)] for j in (0, 1)]
    upper, lower = (start + across * (end - start) for start, end in corners)
    return to_pixels(upper + down * (lower - upper), images.dtype)


def _pixels(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """images[..., y, x, :], places beyond the border at the edge."""
    height, width, channels = images.shape[-3:]
    index = tf.clip_by_value(y, 0, height - 1) * width + tf.clip_by_value(x, 0, width - 1)
    if len(images.shape) == 4:
        index += tf.range(tf.shape(images)[0])[:, None, None] * (height * width)
    return tf.gather(tf.reshape(images, [-1, channels]), index)


def hull(boxes: tf.Tensor, point: Point) -> tf.Tensor:
    """For boxes [N, 4] of one image, the upright boxes around the output pixels that come from inside them: float64.

    A box that no pixel comes from has no area.
    """
    x, y = (tf.cast(part, tf.float64) / 2.0**BITS for part in point)
    left, top, right, bottom = (tf.cast(boxes[:, side], tf.float64)[:, None, None] for side in range(4))
    comes = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    sides = []
    for axis in (2, 1):
        some = tf.reduce_any(comes, axis=3 - axis)
        places = tf.cast(tf.range(tf.shape(some)[1]), tf.float64)
        low = tf.reduce_min(tf.where(some, places, np.inf), axis=1)
        high = tf.reduce_max(tf.where(some, places + 1, -np.inf), axis=1)
        found = tf.math.is_finite(low)
        sides.append((tf.where(found, low, 0.0), tf.where(found, high, 0.0)))
    (x0, x1), (y0, y1) = sides
    return tf.stack([x0, y0, x1, y1], axis=-1)


def outcome(places: tf.Tensor, point: Point) -> tf.Tensor:
    """Where places [N, 2] of one image's input, (x, y), are in its output: float64.

    The output pixel that comes from nearest to a place, and from there a step along the field's differences. Within
    the image it is at most one pixel; a place that no pixel shows is found outside, along the field at the border.
    """
    source = tf.stack([tf.cast(part, tf.float64) / 2.0**BITS for part in point], axis=-1)
    height, width = source.shape[:2]

    # One by one: the distances of all places to all pixels would fill the memory.
    def nearest_to(place: tf.Tensor) -> tf.Tensor:
        distance = tf.reduce_sum((tf.reshape(source, [-1, 2]) - place) ** 2, axis=-1)
        return tf.argmin(distance, output_type=tf.int32)

    nearest = tf.map_fn(nearest_to, places, fn_output_signature=tf.int32)
    y, x = nearest // width, nearest % width

    def at(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        index = tf.clip_by_value(row, 0, height - 1) * width + tf.clip_by_value(column, 0, width - 1)
        return tf.gather(tf.reshape(source, [-1, 2]), index)

    # By the two neighbours along an axis; at the border by the one that is there.
    def along(down: int, across: int, place: tf.Tensor, size: int) -> tf.Tensor:
        span = tf.minimum(place + 1, size - 1) - tf.maximum(place - 1, 0)
        change = at(y + down, x + across) - at(y - down, x - across)
        return tf.math.divide_no_nan(change, tf.cast(span, tf.float64)[:, None])

    a, d = tf.unstack(along(0, 1, x, width), axis=-1)
    b, e = tf.unstack(along(1, 0, y, height), axis=-1)
    missing_x, missing_y = tf.unstack(places - at(y, x), axis=-1)
    determinant = a * e - b * d
    step_x = tf.math.divide_no_nan(e * missing_x - b * missing_y, determinant)
    step_y = tf.math.divide_no_nan(a * missing_y - d * missing_x, determinant)
    found = [_stepped(x, step_x, width), _stepped(y, step_y, height)]
    return tf.stack(found, axis=-1)


def _stepped(place: tf.Tensor, step: tf.Tensor, size: int) -> tf.Tensor:
    """Pixel centres after a step of at most a pixel; farther only from the outermost pixel outwards."""
    one, far = tf.ones([], tf.float64), tf.constant(np.inf, tf.float64)
    low, high = tf.where(place == 0, -far, -one), tf.where(place == size - 1, far, one)
    return tf.cast(place, tf.float64) + 0.5 + tf.clip_by_value(step, low, high)


Builder = Callable[[tf.Tensor, tf.Tensor, int, int], Point]
