"""Random crops that are drawn while a record is decoded: only what they keep is decoded, or leaves the record.

    make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), resize=RandomResizedCrop())

Each record of each epoch has its own draw, a pure function of (seed, epoch, place in the epoch): the same crops at any
parallelism, on any hosts, after a resume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from tfpipe.images.decode import decode_file, turn_upright
from tfpipe.images.fit import Fit
from tfpipe.reader.order import CROP_STREAM, stream_bits

# Windows that are drawn at once; the first that fits is taken. Ten, as in torchvision's RandomResizedCrop.
_TRIES = 10


@dataclass(frozen=True)
class RandomResizedCrop:
    """In training a window of random area and aspect at a random place, resized; in evaluation as resize="crop".

    Only the window of a JPEG is decoded. The rule is that of the Inception paper (Szegedy et al. 2015): area uniform in
    its range, aspect uniform on the logarithm; where ten draws do not fit, the largest central window with an aspect in
    the range.

    Attributes:
      area: (least, most) share of the image's area, in (0, 1].
      aspect: (least, most) width over height, positive.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _check_range("area", self.area, 1.0)
        _check_range("aspect", self.aspect, math.inf)

    def resting(self, size: tuple[int, int], *, antialias: bool) -> Fit:
        """How images are fitted in evaluation."""
        return Fit(size, "crop", antialias)

    def drawn(self, size: tuple[int, int], *, antialias: bool, seed: int, draw: tf.Tensor) -> WindowFit:
        """How the image of a record is fitted in training; draw is its int64 number in all epochs."""
        return WindowFit(self, Fit(size, "stretch", antialias), _uniform(seed, draw, 2 * _TRIES + 2))


@dataclass(frozen=True)
class PaddedCrop:
    """The image padded to size / crop_ratio, its aspect kept; of that a random window in training, else the middle.

    Attributes:
      crop_ratio: in (0, 1]; 0.5 is the book's.
    """

    crop_ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.crop_ratio <= 1:
            raise ValueError(f"crop_ratio is {self.crop_ratio}; it takes numbers in (0, 1].")

    def resting(self, size: tuple[int, int], *, antialias: bool) -> CornerFit:
        """How images are fitted in evaluation."""
        return CornerFit(self._padded(size, antialias), size, tf.constant([0.5, 0.5]))

    def drawn(self, size: tuple[int, int], *, antialias: bool, seed: int, draw: tf.Tensor) -> CornerFit:
        """How the image of a record is fitted in training; draw is its int64 number in all epochs."""
        return CornerFit(self._padded(size, antialias), size, _uniform(seed, draw, 2))

    def _padded(self, size: tuple[int, int], antialias: bool) -> Fit:
        height, width = (max(side, round(side / self.crop_ratio)) for side in size)
        return Fit((height, width), "pad", antialias)


Crop = RandomResizedCrop | PaddedCrop


@dataclass(frozen=True)
class WindowFit:
    """One draw of a RandomResizedCrop; what Fit does, of a window.

    Attributes:
      crop: its ranges.
      fit: brings the window to the size.
      draws: float32 [2 * tries + 2] in [0, 1): areas, aspects, row and column.
    """

    crop: RandomResizedCrop
    fit: Fit
    draws: tf.Tensor

    def decoded(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None = None) -> tf.Tensor:
        """The pixels of a window of an encoded image file, upright, in the size; see Fit.decoded."""

        def jpeg() -> tf.Tensor:
            window = self._window(tf.io.extract_jpeg_shape(data)[:2])
            return tf.image.decode_and_crop_jpeg(data, window, channels=3, dct_method="INTEGER_FAST")

        def other() -> tf.Tensor:
            return self._cut(decode_file(data, jpeg_only=False))

        pixels = jpeg() if jpeg_only else tf.cond(tf.io.is_jpeg(data), jpeg, other)
        pixels = tf.ensure_shape(pixels, [None, None, 3])
        return self.fit.applied(pixels if orientation is None else turn_upright(pixels, orientation))

    def applied(self, image: tf.Tensor) -> tf.Tensor:
        """A window of the image [H, W, C] in the size; see Fit.applied."""
        return self.fit.applied(self._cut(image))

    def mask_applied(self, mask: tf.Tensor) -> tf.Tensor:
        """Masks are refused beforehand."""
        raise NotImplementedError

    def _cut(self, image: tf.Tensor) -> tf.Tensor:
        row, column, height, width = tf.unstack(self._window(tf.shape(image)[:2]))
        return image[row : row + height, column : column + width]

    def _window(self, size: tf.Tensor) -> tf.Tensor:
        """Row, column, height and width, int32 [4], of a window of an image of this size, int32 [2]."""
        height, width = tf.unstack(tf.cast(size, tf.float32))
        area = _between(self.crop.area, self.draws[:_TRIES]) * height * width
        aspect = tf.exp(_between([math.log(end) for end in self.crop.aspect], self.draws[_TRIES : 2 * _TRIES]))
        heights, widths = tf.round(tf.sqrt(area / aspect)), tf.round(tf.sqrt(area * aspect))
        fits = (heights >= 1) & (widths >= 1) & (heights <= height) & (widths <= width)
        first = tf.argmax(tf.cast(fits, tf.int32))
        least, most = self.crop.aspect
        largest = tf.stack([tf.minimum(height, tf.round(width / least)), tf.minimum(width, tf.round(height * most))])
        found = tf.stack([heights[first], widths[first]])
        side = tf.cast(tf.where(tf.reduce_any(fits), found, tf.maximum(largest, 1.0)), tf.int32)
        place = tf.where(tf.reduce_any(fits), self.draws[2 * _TRIES :], 0.5)
        return tf.concat([_corner(size - side, place), side], 0)


@dataclass(frozen=True)
class CornerFit:
    """One draw of a PaddedCrop; what Fit does, and a window of that.

    Attributes:
      fit: brings the whole image to the padded size.
      size: (height, width) of the window.
      draws: float32 [2] in [0, 1): row and column.
    """

    fit: Fit
    size: tuple[int, int]
    draws: tf.Tensor

    def decoded(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None = None) -> tf.Tensor:
        """The pixels of an encoded image file, upright, padded and cut; see Fit.decoded."""
        return self._cut(self.fit.decoded(data, jpeg_only=jpeg_only, orientation=orientation))

    def applied(self, image: tf.Tensor) -> tf.Tensor:
        """The image [H, W, C] padded and cut; see Fit.applied."""
        return self._cut(self.fit.applied(image))

    def mask_applied(self, mask: tf.Tensor) -> tf.Tensor:
        """The mask [H, W, C], cut as its image is."""
        return self._cut(self.fit.mask_applied(mask))

    def _cut(self, image: tf.Tensor) -> tf.Tensor:
        free = tf.constant([full - side for full, side in zip(self.fit.size, self.size, strict=True)])
        row, column = tf.unstack(_corner(free, self.draws))
        return tf.ensure_shape(
            image[row : row + self.size[0], column : column + self.size[1]], [*self.size, image.shape[-1]]
        )


def _corner(free: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Row and column, int32 [2], each uniform in [0, free]; a draw of 0.5 is the middle, rounded up."""
    return tf.cast(tf.floor(draws * tf.cast(free + 1, tf.float32)), tf.int32)


def _between(ends: tuple[float, float] | list[float], draws: tf.Tensor) -> tf.Tensor:
    return ends[0] + (ends[1] - ends[0]) * draws


def _uniform(seed: int, draw: tf.Tensor, count: int) -> tf.Tensor:
    """float32 [count] in [0, 1), of 24 bits each: with 32, rounding would reach 1."""
    bits = tf.bitwise.right_shift(stream_bits(seed, CROP_STREAM, draw, [count], tf.uint32), tf.constant(8, tf.uint32))
    return tf.cast(bits, tf.float32) * 2.0**-24


def _check_range(name: str, ends: tuple[float, float], most: float) -> None:
    if len(ends) != 2 or not 0 < ends[0] <= ends[1] <= most:
        limit = "positive numbers" if most == math.inf else f"numbers in (0, {most:g}]"
        raise ValueError(f"{name} is {ends}; it takes (least, most), {limit}.")
