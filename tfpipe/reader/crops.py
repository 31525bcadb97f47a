"""Random crops that are drawn while a record is decoded: of a JPEG only the pixels of the crop are decoded.

    make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), resize=RandomResizedCrop())

Each record of each epoch has its own draw, a pure function of (seed, epoch, position in the epoch): the same crops at
any parallelism, on any number of hosts, after a resume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.images.decode import cut_window, decode_window
from tfpipe.images.fit import Resize
from tfpipe.reader.order import CROP_STREAM, keyed_bits

# Windows that are drawn together; the first that fits is taken. Ten, as in torchvision's RandomResizedCrop.
_TRIES = 10


@dataclass(frozen=True)
class RandomResizedCrop:
    """In training a window of random area and aspect at a random position, resized; in evaluation resize="crop".

    Only the window of a JPEG is decoded. The rule is that of the Inception paper (Szegedy et al. 2015): area uniform in
    its range, logarithm of the aspect uniform in its range; if none of ten draws fits, the largest central window with
    an aspect in the range.

    Masks, boxes and points move with the image, in evaluation, too.

    Attributes:
      area: (least, most) share of the image's area, in (0, 1].
      aspect: (least, most) width over height, positive.
      min_visible: a box of which less than this share of its area, or none, is in the window is dropped, with what goes
        with it; 0 to 1.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    min_visible: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self.min_visible)
        _check_range("area", self.area, 1.0)
        _check_range("aspect", self.aspect, math.inf)

    def for_evaluation(self, fit: Resize) -> Resize:
        """The resizer of images in evaluation; of fit all but the mode counts."""
        return replace(fit, mode="crop")

    def for_training(self, fit: Resize, *, seed: int, draw: tf.Tensor) -> WindowCrop:
        """The resizer of one record's image in training; draw is its int64 number in all epochs."""
        return WindowCrop(self, replace(fit, mode="stretch"), _uniform(seed, draw, 2 * _TRIES + 2))


@dataclass(frozen=True)
class PaddedCrop:
    """The image padded to size / crop_ratio, its aspect kept; then a random window in training, else the middle one.

    Masks, boxes and points move with the image.

    Attributes:
      crop_ratio: in (0, 1]; 0.5 is the book's.
      min_visible: as for RandomResizedCrop.
    """

    crop_ratio: float = 0.5
    min_visible: float = 0.0

    def __post_init__(self) -> None:
        _check_share(self.min_visible)
        if not 0 < self.crop_ratio <= 1:
            raise UsageError(f"crop_ratio is {self.crop_ratio}; it takes numbers in (0, 1].")

    def for_evaluation(self, fit: Resize) -> CornerCrop:
        """The resizer of images in evaluation; of fit all but the mode counts."""
        return CornerCrop(self._around(fit), fit.size, tf.constant([0.5, 0.5]))

    def for_training(self, fit: Resize, *, seed: int, draw: tf.Tensor) -> CornerCrop:
        """The resizer of one record's image in training; draw is its int64 number in all epochs."""
        return CornerCrop(self._around(fit), fit.size, _uniform(seed, draw, 2))

    def _around(self, fit: Resize) -> Resize:
        height, width = (max(side, round(side / self.crop_ratio)) for side in fit.size)
        return replace(fit, size=(height, width), mode="pad")


Crop = RandomResizedCrop | PaddedCrop


@dataclass(frozen=True)
class WindowCrop:
    """One draw of a RandomResizedCrop: a Resizer of a window.

    Attributes:
      crop: its ranges.
      resizer: brings the window to the size.
      draws: float32 [2 * tries + 2] in [0, 1): areas, aspects, row and column.
    """

    crop: RandomResizedCrop
    resizer: Resize
    draws: tf.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.resizer.size

    def geometry(self, full_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scale and offset of places (row, column) of an image of this size; see Resizer.geometry."""
        window = self._window(tf.cast(full_size, tf.int32))
        scale = tf.constant(self.size, tf.float64) / tf.cast(window[2:], tf.float64)
        return scale, -tf.cast(window[:2], tf.float64) * scale

    def decode(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None = None) -> tf.Tensor:
        """The pixels of a window of an encoded image file, upright, in the size; see Resize.decode."""
        exact = self.resizer.dct == "exact"
        return self.resizer.resize(
            decode_window(data, self._window, jpeg_only=jpeg_only, orientation=orientation, exact=exact)
        )

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """A window of the image [H, W, C] in the size; see Resize.resize."""
        return self.resizer.resize(cut_window(image, self._window(tf.shape(image)[:2])))

    def resize_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """The same window of the mask [H, W, C] in the size, each value the nearest."""
        return self.resizer.resize_mask(cut_window(mask, self._window(tf.shape(mask)[:2])))

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
        draws = tf.where(tf.reduce_any(fits), self.draws[2 * _TRIES :], 0.5)
        return tf.concat([_corner(size - side, draws), side], 0)


@dataclass(frozen=True)
class CornerCrop:
    """One draw of a PaddedCrop: a Resizer that cuts a window of the padded image.

    Attributes:
      resizer: brings the whole image to the padded size.
      size: (height, width) of the window.
      draws: float32 [2] in [0, 1): row and column.
    """

    resizer: Resize
    size: tuple[int, int]
    draws: tf.Tensor

    def decode(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None = None) -> tf.Tensor:
        """The pixels of an encoded image file, upright, padded and cut; see Resize.decode."""
        return self._cut(self.resizer.decode(data, jpeg_only=jpeg_only, orientation=orientation))

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """The image [H, W, C] padded and cut; see Resize.resize."""
        return self._cut(self.resizer.resize(image))

    def resize_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """The mask [H, W, C], padded and cut as its image is."""
        return self._cut(self.resizer.resize_mask(mask))

    def geometry(self, full_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scale and offset of places (row, column) of an image of this size; see Resizer.geometry."""
        scale, offset = self.resizer.geometry(full_size)
        return scale, offset - tf.cast(self._corner, tf.float64)

    @property
    def _corner(self) -> tf.Tensor:
        """Row and column of the window in the padded image, int32 [2]."""
        free = tf.constant([full - side for full, side in zip(self.resizer.size, self.size, strict=True)])
        return _corner(free, self.draws)

    def _cut(self, image: tf.Tensor) -> tf.Tensor:
        row, column = tf.unstack(self._corner)
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
    bits = tf.bitwise.right_shift(keyed_bits(seed, CROP_STREAM, draw, [count], tf.uint32), tf.constant(8, tf.uint32))
    return tf.cast(bits, tf.float32) * 2.0**-24


def _check_share(min_visible: float) -> None:
    if not 0 <= min_visible <= 1:
        raise UsageError(f"min_visible is {min_visible}; it takes 0 to 1.")


def _check_range(name: str, ends: tuple[float, float], most: float) -> None:
    if len(ends) != 2 or not 0 < ends[0] <= ends[1] <= most:
        limit = "positive numbers" if most == math.inf else f"numbers in (0, {most:g}]"
        raise UsageError(f"{name} is {ends}; it takes (least, most), {limit}.")
