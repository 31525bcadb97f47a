"""RoIAlign: the features inside of boxes, brought to one size by bilinear sampling.

    pooled = roi_align(features, boxes, box_indices, output_size=7, spatial_scale=1 / 16)      # [N, 7, 7, C]

He et al., "Mask R-CNN", 2017, with torchvision's rules at the border. One XLA program, with a gradient to the features;
the boxes get none, as there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfpipe.images.sizes import as_size
from tfpipe.regions.boxes import as_floats, check_last_axis
from tfpipe.regions.programs import axis_length, for_length, pad_axis, padded_length, program
from tfpipe.regions.sampling import to_pixels

Tap = tuple[tf.Tensor, tf.Tensor]

DTYPES = (tf.uint8, tf.float16, tf.float32, tf.bfloat16)
# Samples of a bin along one axis: a box of 1,024 times the output's size in features.
_MOST_SAMPLES = 1024
# Up to so many samples of a bin are one fused expression; more are a loop.
_UNROLLED = 4


def roi_align(
    features: Any,
    boxes: Any,
    box_indices: Any,
    *,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> tf.Tensor:
    """The mean of bilinear samples in each bin of each box: [N, height, width, C] of the features' dtype.

    Samples up to one pixel outside count as the border, those farther out as 0.

    Args:
      features: [B, H, W, C], float32, float16, bfloat16 or uint8 (rounded to the nearest).
      boxes: [N, 4], (x0, y0, x1, y1) in pixels of the image.
      box_indices: integers [N], the index of each box's image in the batch.
      output_size: (height, width), or one number for a square.
      spatial_scale: pixels of the features for one of the image.
      sampling_ratio: samples of a bin along each axis; 0: as many as the bin has pixels, rounded up.
      aligned: whether the middle of the first pixel is at 0.5, as boxes have it; False: at 0, and no box is smaller
        than one pixel, as before torchvision 0.5.

    Raises:
      ValueError: an argument is of the wrong shape or out of range.
    """
    features, boxes = tf.convert_to_tensor(features), as_floats(boxes)
    box_indices = tf.cast(box_indices, tf.int32)
    if features.shape.rank != 4 or features.dtype not in DTYPES or None in features.shape[1:]:
        raise ValueError(
            f"Features are [B, H, W, C] with static H, W and C, of one of {[dtype.name for dtype in DTYPES]}; got "
            f"{features.dtype.name} {features.shape}."
        )
    check_last_axis("boxes", boxes, (4,))
    if boxes.shape.rank != 2 or not box_indices.shape.is_compatible_with(boxes.shape[:1]):
        raise ValueError(f"Boxes are [N, 4] and box_indices [N]; got {boxes.shape} and {box_indices.shape}.")
    if isinstance(sampling_ratio, bool) or not isinstance(sampling_ratio, int) or sampling_ratio < 0:
        raise ValueError(f"sampling_ratio is {sampling_ratio!r}; it takes 0 or a number of samples.")
    size = as_size(output_size, "output_size")
    scale = tf.constant(spatial_scale, tf.float32)
    shape = tuple(features.shape[1:])
    run = for_length(axis_length(boxes, 0), _fitted, size, sampling_ratio, bool(aligned), static=shape)
    return run(features, tf.cast(boxes, tf.float32), box_indices, scale)


def crop_and_resize(
    images: Any, boxes: Any, box_indices: Any, *, output_size: int | Sequence[int], sampling_ratio: int = 1
) -> tf.Tensor:
    """The pixels inside of boxes, resized: the grid of roi_align(aligned=True), one sample a pixel.

    So a box of the whole image gives what half-pixel bilinear resizing gives. (tf.image.crop_and_resize puts the
    outermost samples on the box's edge instead.)

    Args:
      images: [B, H, W, C], uint8 or floats.
      boxes, box_indices, output_size: as for roi_align.
      sampling_ratio: samples of a pixel along each axis; 0 averages over all pixels, which avoids aliases.
    """
    return roi_align(images, boxes, box_indices, output_size=output_size, sampling_ratio=sampling_ratio)


def _fitted(
    size: tuple[int, int],
    ratio: int,
    aligned: bool,
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    scale: tf.Tensor,
) -> tf.Tensor:
    """As _pool, compiled for few numbers of boxes."""
    count = axis_length(boxes, 0)
    room = padded_length(count)
    given = [pad_axis(part, 0, room) for part in (boxes, box_indices)]
    pooled = program(_pool, size, ratio, aligned, static=tuple(features.shape[1:]))(features, *given, scale)
    return pooled if isinstance(room, int) and room == count else pooled[:count]


def _pool(
    size: tuple[int, int],
    ratio: int,
    aligned: bool,
    features: tf.Tensor,
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    scale: tf.Tensor,
) -> tf.Tensor:
    corners = boxes * scale - (0.5 if aligned else 0.0)
    axes = [_bins(corners[:, i::2], size[1 - i], features.shape[2 - i], ratio, aligned) for i in (1, 0)]
    first = box_indices * (features.shape[1] * features.shape[2])
    counts = [ratio, ratio] if ratio else [tf.cast(tf.reduce_max(axis.samples), tf.int32) for axis in axes]

    def over_samples(add: Callable[[tf.Tensor, list[Tap]], tf.Tensor], total: tf.Tensor) -> tf.Tensor:
        def step(number: int | tf.Tensor, total: tf.Tensor) -> tf.Tensor:
            return add(total, _taps(axes, number // counts[1], number % counts[1], first))

        if ratio and ratio * ratio <= _UNROLLED:
            return functools.reduce(lambda total, number: step(number, total), range(ratio * ratio), total)
        start, end = [tf.constant(0), total], counts[0] * counts[1]
        return tf.while_loop(lambda number, _: number < end, lambda n, total: (n + 1, step(n, total)), start)[1]

    @tf.custom_gradient
    def pool(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        channels = values.shape[-1]
        pixels = tf.reshape(values, [-1, channels])

        def gather(total: tf.Tensor, taps: list[Tap]) -> tf.Tensor:
            return tf.add_n([total, *(tf.gather(pixels, index) * weight for index, weight in taps)])

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            def scatter(total: tf.Tensor, taps: list[Tap]) -> tf.Tensor:
                for index, weight in taps:
                    total = tf.tensor_scatter_nd_add(total, index[..., None], upstream * weight)
                return total

            return tf.reshape(over_samples(scatter, tf.zeros_like(pixels)), tf.shape(values))

        return over_samples(gather, tf.zeros([tf.shape(boxes)[0], *size, channels])), gradient

    return to_pixels(pool(tf.cast(features, tf.float32)), features.dtype)


class _Bins(NamedTuple):
    """How boxes are divided along one axis.

    Attributes:
      start: float32 [N], where the first bin begins, in pixels of the features.
      size: float32 [N], of a bin.
      samples: float32 [N], of a bin.
      number: of bins.
      length: of the features.
    """

    start: tf.Tensor
    size: tf.Tensor
    samples: tf.Tensor
    number: int
    length: int


def _bins(edges: tf.Tensor, count: int, length: int, ratio: int, aligned: bool) -> _Bins:
    extent = edges[:, 1] - edges[:, 0]
    size = (extent if aligned else tf.maximum(extent, 1.0)) / count
    samples = tf.ones_like(size) * ratio if ratio else tf.clip_by_value(tf.math.ceil(size), 0, _MOST_SAMPLES)
    return _Bins(edges[:, 0], size, samples, count, length)


def _taps(axes: list[_Bins], down: int | tf.Tensor, across: int | tf.Tensor, first: tf.Tensor) -> list[Tap]:
    """Of one sample of every bin the four pixels around it, int32 [N, h, w], and their weights, [N, h, w, 1]."""
    rows, columns = _neighbours(axes[0], down), _neighbours(axes[1], across)
    width = axes[1].length
    return [
        (
            first[:, None, None] + row[:, :, None] * width + column[:, None],
            (above[:, :, None] * left[:, None])[..., None],
        )
        for row, above in rows
        for column, left in columns
    ]


def _neighbours(axis: _Bins, number: int | tf.Tensor) -> list[Tap]:
    """The pixels before and behind a sample of each bin, int32 [N, bins], and their shares of the bin's mean."""
    sample, samples = tf.cast(number, tf.float32), tf.maximum(axis.samples, 1.0)[:, None]
    place = tf.range(axis.number, dtype=tf.float32) + (sample + 0.5) / samples
    position = axis.start[:, None] + place * axis.size[:, None]
    counts = (position >= -1) & (position <= axis.length) & (sample < axis.samples[:, None])
    share = tf.where(counts, 1 / samples, 0.0)
    position = tf.clip_by_value(position, 0.0, axis.length - 1.0)
    before = tf.floor(position)
    part, index = position - before, tf.cast(before, tf.int32)
    return [(index, (1 - part) * share), (tf.minimum(index + 1, axis.length - 1), part * share)]
