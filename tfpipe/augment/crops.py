"""Crops that change the size of a batch, and normalisation.

    compose([random_resized_crop((224, 224)), flip_left_right(), normalize(mean, std)])

A window per image is read straight out of the batch, through whole pixels or by bilinear interpolation with whole
weights, in one XLA program: the same levels in every form, on every device. Boxes, masks, keypoints and polygons move
along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import Draws, draw_uniforms
from tfpipe.augment.forms.apply import check_mask_fill, check_rendering
from tfpipe.augment.objects import mask_layers
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.transform import Batch, BatchTransform, OpTransform, Rendering, record_call
from tfpipe.images.sizes import as_size
from tfpipe.policy import is_integer
from tfpipe.regions.move import matrices_of, move_regions

WindowSize = tuple[int, int]
# Bilinear weights are whole 2048ths: 255 * 2048 * 2048 fits in 31 bits.
_STEPS = 2048
_NUM_RATIOS = 256


@record_call
def random_crop(size: int | WindowSize, *, padding: int = 0, fill: int = 0, mask_fill: int = 0) -> BatchTransform:
    """A window of a given size at a random position of each image.

    Args:
      size: (height, width), or one number for a square.
      padding: pixels of fill around the image before the window is drawn.
      fill: 0 to 255, for float images over 255.
      mask_fill: the fill of masks, such as the value that a loss ignores.

    Raises:
      ValueError: an argument is out of range; when applied, the window is larger than the padded image.
    """
    height, width = _size("random_crop", size)
    if not is_integer(padding, 0) or not 0 <= fill <= 255:
        raise ValueError(f"padding is {padding!r} and fill {fill!r}; they take at least 0, and 0 to 255.")
    check_mask_fill(mask_fill)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        room = (shape.height + 2 * padding - height, shape.width + 2 * padding - width)
        if min(room) < 0:
            raise ValueError(
                f"random_crop takes windows of {height} x {width}, but the images have {shape.height} x {shape.width} "
                f"and {padding} pixels of padding."
            )
        draws = draw_uniforms(seed, shape.batch_size, 1)
        top, left = (_whole(draws.extra[:, 0, i], room[i]) - padding for i in range(2))
        return _windows(batch, top, left, (height, width), fill, mask_fill)

    return BatchTransform(change)


@record_call
def center_crop(size: int | WindowSize) -> BatchTransform:
    """The window of a size in the middle of each image; an odd rest goes to the bottom and the right.

    Raises:
      ValueError: size is out of range; when applied, the window is larger than the image.
    """
    height, width = _size("center_crop", size)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        if height > shape.height or width > shape.width:
            raise ValueError(
                f"center_crop takes windows of {height} x {width}, but the images have {shape.height} x {shape.width}."
            )
        top, left = (shape.height - height) // 2, (shape.width - width) // 2
        offsets = (tf.fill([shape.batch_size], top), tf.fill([shape.batch_size], left))
        return _windows(batch, *offsets, (height, width), 0, 0)

    return BatchTransform(change)


@record_call
def random_resized_crop(
    size: int | WindowSize | None = None,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    form: str = "auto",
) -> OpTransform | BatchTransform:
    """A window of random area and aspect at a random position, resized.

    Args:
      size: (height, width), or one number for a square; None: the image's own, and then the transform is made of ops,
        and conditionals take it.
      scale: the share of the area, uniform in (low, high).
      ratio: width over height of the window, uniform on the logarithm; what would not fit is cut to the image.
      interpolation: "bilinear" or "nearest".
      form: for size=None, as for every op.

    Raises:
      ValueError: an argument is out of range.
    """
    _check_spread("scale", scale, 1.0)
    _check_spread("ratio", ratio, math.inf)
    check_rendering(interpolation, form)
    if size is None:
        return _same_size(scale, ratio, Rendering(interpolation=interpolation, form=form))
    target = _size("random_resized_crop", size)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        draws = draw_uniforms(seed, shape.batch_size, 1)
        return _stretch(batch, _draw_window(draws, shape, scale, ratio), target, interpolation)

    return BatchTransform(change)


@record_call
def normalize(mean: float | Sequence[float], std: float | Sequence[float]) -> BatchTransform:
    """(image - mean) / std per channel, of images in [0, 1]; uint8 images are divided by 255 first.

    Args:
      mean: one value, or one per channel, on the scale of [0, 1].
      std: likewise, positive.

    Returns:
      A transform to float32; float16 stays float16. It goes last: other transforms take images in [0, 1].

    Raises:
      ValueError: a std is not positive, or their lengths differ; when applied, they differ from the channels.
    """
    means, stds = (np.atleast_1d(np.asarray(value, np.float64)) for value in (mean, std))
    finite = np.isfinite(means).all() and np.isfinite(stds).all()
    if not finite or stds.min() <= 0 or (len(means) != len(stds) and 1 not in (len(means), len(stds))):
        raise ValueError(f"mean is {mean} and std {std}; they take one number or one per channel, stds above 0.")
    num_values = max(len(means), len(stds))

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        channels = batch["image"].shape[-1]
        if num_values not in (1, channels):
            raise ValueError(f"mean and std have {num_values} values, but the images have {channels} channels.")
        top = 255.0 if batch["image"].dtype == tf.uint8 else 1.0
        factor, offset = 1 / (stds * top), -means / stds
        return {
            **batch,
            "image": _scale(batch["image"], tf.constant(factor, tf.float32), tf.constant(offset, tf.float32)),
        }

    return BatchTransform(change, arguments={"mean": _plain(mean), "std": _plain(std)})


# ---- arguments


def _size(what: str, size: Any) -> WindowSize:
    return as_size(size, f"size of {what}")


def _check_spread(name: str, pair: tuple[float, float], most: float) -> None:
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most:
        bound = "" if most == math.inf else f" <= {most:g}"
        raise ValueError(f"{name} is {pair}; it takes 0 < low <= high{bound}.")


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) else [float(part) for part in value]


# ---- draws


def _whole(uniforms: tf.Tensor, room: int | tf.Tensor) -> tf.Tensor:
    """int32: 0 to room, all alike."""
    count = tf.cast(room, tf.float64) + 1
    return tf.cast(tf.minimum(tf.floor(tf.cast(uniforms, tf.float64) * count), count - 1), tf.int32)


def _draw_window(draws: Draws, shape: BatchShape, scale: tuple[float, float], ratio: tuple[float, float]) -> tf.Tensor:
    """int32 [B, 4]: top, left, height, width in pixels, inside the image."""
    # Aspects from a table and a square root in float64: nothing that XLA would round otherwise.
    roots = np.exp(np.linspace(math.log(ratio[0]), math.log(ratio[1]), _NUM_RATIOS) / 2)
    root = tf.gather(tf.constant(roots), _whole(draws.op[:, 0], _NUM_RATIOS - 1))
    share = scale[0] + (scale[1] - scale[0]) * tf.cast(draws.magnitude[:, 0], tf.float64)
    side = tf.sqrt(share * (shape.height * shape.width))
    height = tf.cast(tf.clip_by_value(tf.round(side / root), 1, shape.height), tf.int32)
    width = tf.cast(tf.clip_by_value(tf.round(side * root), 1, shape.width), tf.int32)
    top = _whole(draws.extra[:, 0, 0], shape.height - height)
    left = _whole(draws.extra[:, 0, 1], shape.width - width)
    return tf.stack([top, left, height, width], axis=-1)


def _same_size(scale: tuple[float, float], ratio: tuple[float, float], rendering: Rendering) -> OpTransform:
    def choose(seed: tf.Tensor, shape: BatchShape) -> Choices:
        draws = draw_uniforms(seed, shape.batch_size, 1)
        window = _draw_window(draws, shape, scale, ratio)
        sides = np.array([shape.height, shape.width] * 2, np.float64)
        values = tf.cast(tf.cast(window, tf.float64) / sides, tf.float32)[:, None]
        return Choices(tf.ones([shape.batch_size, 1], tf.int32), values, draws.noise)

    ops = (OPS["identity"], OPS["resized_crop"])
    return OpTransform(ops, 1, choose, rendering)


# ---- pixels


def _compile(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return tf.function(function, jit_compile=True, autograph=False)


def _take_pixels(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """images[b, y[b, i], x[b, j]] for y [B, h] and x [B, w]: [B, h, w, C]."""
    # All pixels under one another, as one table: XLA gathers from that in one step.
    batch_size, height, width, channels = tf.unstack(tf.shape(images))
    start = (tf.range(batch_size) * height)[:, None]
    indices = ((start + y) * width)[:, :, None] + x[:, None, :]
    return tf.gather(tf.reshape(images, [-1, channels]), indices)


@_compile
def _window(images: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: int, width: int, fill: tf.Tensor) -> tf.Tensor:
    rows, columns = top[:, None] + tf.range(height), left[:, None] + tf.range(width)
    inside_y, inside_x = (rows >= 0) & (rows < images.shape[1]), (columns >= 0) & (columns < images.shape[2])
    taken = _take_pixels(
        images, tf.clip_by_value(rows, 0, images.shape[1] - 1), tf.clip_by_value(columns, 0, images.shape[2] - 1)
    )
    return tf.where(inside_y[:, :, None, None] & inside_x[:, None, :, None], taken, fill)


@_compile
def _nearest(images: tf.Tensor, window: tf.Tensor, size: WindowSize) -> tf.Tensor:
    return _take_pixels(images, *(_positions(window, axis, size[axis]) // (2 * size[axis]) for axis in range(2)))


@_compile
def _bilinear(images: tf.Tensor, window: tf.Tensor, size: WindowSize) -> tf.Tensor:
    (y0, y1, v), (x0, x1, u) = (_neighbours(window, axis, size[axis]) for axis in range(2))
    exact = images.dtype == tf.uint8
    kind = tf.int32 if exact else tf.float32
    v, u = tf.cast(v, kind)[:, :, None, None], tf.cast(u, kind)[:, None, :, None]
    corners = [[tf.cast(_take_pixels(images, y, x), kind) for x in (x0, x1)] for y in (y0, y1)]
    upper, lower = (row[0] * (_STEPS - u) + row[1] * u for row in corners)
    total = upper * (_STEPS - v) + lower * v
    if exact:
        mixed = (total + _STEPS * _STEPS // 2) // (_STEPS * _STEPS)
        return tf.cast(tf.clip_by_value(mixed, 0, 255), tf.uint8)
    return tf.cast(total / (_STEPS * _STEPS), images.dtype)


def _positions(window: tf.Tensor, axis: int, count: int) -> tf.Tensor:
    """The middles of the output pixels in the input, in 2 * count-ths of a pixel: int32 [B, count]."""
    first, length = window[:, axis, None], window[:, axis + 2, None]
    return 2 * count * first + (2 * tf.range(count) + 1) * length


def _neighbours(window: tf.Tensor, axis: int, count: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The pixels before and behind each output pixel's middle, and the weight of the latter in 2048ths."""
    first, length = window[:, axis, None], window[:, axis + 2, None]
    position = _positions(window, axis, count) - count
    before = tf.math.floordiv(position, 2 * count)
    weight = ((position - before * (2 * count)) * _STEPS + count) // (2 * count)
    last = first + length - 1
    return tf.clip_by_value(before, first, last), tf.clip_by_value(before + 1, first, last), weight


@_compile
def _scale(images: tf.Tensor, factor: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    scaled = tf.cast(images, tf.float32) * factor + offset
    return tf.cast(scaled, tf.float16) if images.dtype == tf.float16 else scaled


# ---- masks and boxes


def _windows(batch: Batch, top: tf.Tensor, left: tf.Tensor, size: WindowSize, fill: int, mask_fill: int) -> Batch:
    """The batch cut to windows [B] of one size; outside the images is fill, and mask_fill in masks."""
    image = batch["image"]
    outside = tf.cast(fill if image.dtype == tf.uint8 else fill / 255, image.dtype)
    moved = {**batch, "image": _window(image, top, left, *size, outside)}
    sides = [tf.fill(tf.shape(top), side) for side in size]
    if "mask" in batch:
        layers, restore = mask_layers(batch["mask"])
        check_mask_fill(mask_fill, dtype=layers.dtype)
        moved["mask"] = restore(_window(layers, top, left, *size, tf.cast(mask_fill, layers.dtype)))
    return {**moved, **_regions(batch, tf.stack([top, left, *sides], axis=-1), size)}


def _stretch(batch: Batch, window: tf.Tensor, size: WindowSize, interpolation: str) -> Batch:
    """The batch with its windows [B, 4] resized to one size; masks take the nearest pixel."""
    read = _bilinear if interpolation == "bilinear" else _nearest
    moved = {**batch, "image": read(batch["image"], window, size)}
    if "mask" in batch:
        layers, restore = mask_layers(batch["mask"])
        moved["mask"] = restore(_nearest(layers, window, size))
    return {**moved, **_regions(batch, window, size)}


def _regions(batch: Batch, window: tf.Tensor, size: WindowSize) -> Batch:
    """The boxes, keypoints and polygons of a batch whose windows [B, 4] become images of a size."""
    top, left, height, width = tf.unstack(tf.cast(window, tf.float64), axis=-1)
    x, y, zero = size[1] / width, size[0] / height, tf.zeros_like(top)
    return move_regions(batch, matrices_of([[x, zero, -left * x], [zero, y, -top * y]]), size)
