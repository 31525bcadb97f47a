"""Images and their masks brought to one size: padded, stretched or cropped, plain or antialiased.

The one place where the pixels of a file get their size: for the reader, for drawn crops, for the pixels of decoded and
embedding records, and for tfpipe.load_image. So a file, and the pixels that a record holds of it, give the same; but
for JPEG files of 2**22 pixels and more (_LEAST_PIXELS) whose pixels a record holds in full size.

resizer = Resize((224, 224), "pad", antialias=True)
image = resizer.decode(data, jpeg_only=True)      # a JPEG file to uint8 [224, 224, 3]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.images.antialias import RATIOS, DecodedImage, resize_antialiased
from tfpipe.images.decode import (
    DCTS,
    decode_file,
    decode_upright,
    mirrored_axes,
    resize_image,
    resize_mask,
    resized_geometry,
    turn_upright,
    upright_size,
)
from tfpipe.images.sizes import RESIZES
from tfpipe.tf_internals import seldom

# A reduced image must still be this much larger than the target: the triangle filter then hides the decoder's blur.
# Exactly: 54 dB from the whole image's result in the worst of 8 photos, 56 in the mean; fast: 46 and 51.
_LEAST_SHRINK = {"exact": 2.5, "fast": 1.125}
# Exactly, only images of this many pixels are reduced, where it saves more than 3 ms: pixels that a record holds in
# full size cannot be, and of smaller images they are to give what their file gives.
_LEAST_PIXELS = {"exact": 2**22, "fast": 0}


class Resizer(Protocol):
    """Brings images and their masks to one size: a Resize, or one draw of a random crop."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""

    def geometry(self, full_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the points of an image go: a place (row, column) to place * scale + offset, float64 [2] each.

        Args:
          full_size: int [2], height and width of the upright image.
        """

    def decode(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None = None) -> tf.Tensor:
        """The pixels of an encoded image file, upright, in the size."""

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """The image in the size."""

    def resize_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """The mask in the size, moved as its image is."""


@dataclass(frozen=True)
class Resize:
    """A fixed way to bring images to one size.

    Attributes:
      size: (height, width).
      mode: "pad" keeps the aspect and adds black borders, centred; "stretch" does not keep it; "crop" keeps it and
        cuts what exceeds the size, centred.
      antialias: average over the source where an image shrinks: within 1 to 2 uint8 values of Pillow's bilinear
        reduction.
      dct: "exact" decodes a JPEG to Pillow's pixels, "fast" by a quicker inverse DCT. With antialias a JPEG is reduced
        while it is decoded: by "fast" one of 2.25 times the target and more, 46 dB from Pillow's result at worst; by
        "exact" one of 2**22 pixels and 5 times the target and more, 51 dB from it at worst.
      mask_fill: what "pad" puts around a mask.
      longest: the longest sides of the images that come, at least and at most; None: not known. It changes no pixel.
    """

    size: tuple[int, int]
    mode: str = "pad"
    antialias: bool = False
    dct: str = "exact"
    mask_fill: int = 0
    longest: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.mode not in RESIZES:
            raise UsageError(f"Unknown resize {self.mode!r}; known: {list(RESIZES)}.")
        if self.dct not in DCTS:
            raise UsageError(f"Unknown dct {self.dct!r}; known: {list(DCTS)}.")

    def geometry(self, full_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scale and offset of places (row, column) of an image of this size, int [2]; float64 [2] each."""
        inner, offset = resized_geometry(full_size, self.size, resize=self.mode)
        return tf.cast(inner, tf.float64) / tf.cast(full_size, tf.float64), tf.cast(offset, tf.float64)

    def decode(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None = None) -> tf.Tensor:
        """The pixels of an encoded image file, upright, in this size.

        Args:
          data: scalar string.
          jpeg_only: the file is known to be a JPEG; otherwise its first bytes tell.
          orientation: the EXIF orientation, scalar int64; see turn_upright.

        Returns:
          uint8 [height, width, 3].

        Raises:
          InvalidArgumentError: no decoder accepts the bytes.
        """
        if not self.antialias:
            exact = self.dct == "exact"
            return self.resize(decode_upright(data, jpeg_only=jpeg_only, orientation=orientation, exact=exact))
        pixels, full_size, ratio = self._decode_reduced(data, jpeg_only, orientation)
        mirrored = tf.zeros([2], tf.int32) if orientation is None else tf.cast(mirrored_axes(orientation), tf.int32)
        image = DecodedImage(turn_upright(pixels, orientation), full_size, ratio, mirrored)
        return resize_antialiased(image, self.size, self.mode, longest=self.longest)

    def resize(self, image: tf.Tensor) -> tf.Tensor:
        """The image in this size.

        Args:
          image: uint8, float16 or float32 [H, W, C].

        Returns:
          [height, width, C] of the same dtype. Floats with antialias go through tf.image.resize, which is slower.
        """
        if tuple(image.shape[:2]) == tuple(self.size):
            return image
        if not self.antialias or image.dtype != tf.uint8 or image.shape[-1] is None:
            return resize_image(image, self.size, resize=self.mode, antialias=self.antialias)
        whole = DecodedImage(image, tf.shape(image)[:2], tf.constant(1), tf.zeros([2], tf.int32))
        return resize_antialiased(whole, self.size, self.mode, longest=self.longest)

    def resize_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """The mask [H, W, C] moved as its image is, each value the nearest: [height, width, C]."""
        return resize_mask(mask, self.size, resize=self.mode, fill=self.mask_fill)

    def _decode_reduced(
        self, data: tf.Tensor, jpeg_only: bool, orientation: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The pixels as stored, a JPEG's reduced as far as the size allows; the full upright size; the ratio."""
        exact = self.dct == "exact"

        def jpeg() -> tuple[tf.Tensor, ...]:
            size = upright_size(tf.io.extract_jpeg_shape(data)[:2], orientation)
            index = ratio_index(size, self)
            whole, *reduced = [partial(decode_file, data, jpeg_only=True, exact=exact, ratio=ratio) for ratio in RATIOS]
            pixels = tf.cond(index > 0, seldom(lambda: tf.switch_case(index - 1, reduced)), whole)
            return pixels, size, tf.gather(tf.constant(RATIOS), index)

        def other() -> tuple[tf.Tensor, ...]:
            pixels = decode_file(data, jpeg_only=False)
            return pixels, upright_size(tf.shape(pixels)[:2], orientation), tf.constant(1)

        pixels, size, ratio = jpeg() if jpeg_only else tf.cond(tf.io.is_jpeg(data), jpeg, other)
        return tf.ensure_shape(pixels, [None, None, 3]), size, ratio


def ratio_index(full_size: tf.Tensor, fit: Resize) -> tf.Tensor:
    """The index in RATIOS of the strongest reduction that leaves a JPEG file's image, int32 [2], large enough."""
    shrinks = tf.cast(full_size, tf.float32) / tf.constant(fit.size, tf.float32)
    shrink = tf.reduce_max(shrinks) if fit.mode == "pad" else tf.reduce_min(shrinks)
    enough = shrink >= tf.constant([ratio * _LEAST_SHRINK[fit.dct] for ratio in RATIOS[1:]])
    large = tf.reduce_prod(tf.cast(full_size, tf.int64)) >= _LEAST_PIXELS[fit.dct]
    return tf.reduce_sum(tf.cast(enough & large, tf.int32))
