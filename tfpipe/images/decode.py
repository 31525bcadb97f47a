"""Image files to pixels: decode, turn upright, cut, resize. The converter and the reader share these functions.

Images are [H, W, 3]; uint8, or floats in [0, 1]. All functions work eagerly and inside a tf.data map.
As in TensorFlow's own decoders, gray becomes three equal channels, alpha is dropped, CMYK is converted to RGB, and of a
16-bit PNG the high byte is kept, of a GIF the first frame.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.images.sizes import RESIZES

# The inverse DCT of a JPEG: Pillow's pixels bit for bit, or one that is quicker and 45 dB from them.
DCTS = ("exact", "fast")
# The numbers of channels that images are asked for with: gray, or colours.
CHANNELS = (1, 3)
# Pillow's weights of red, green and blue in its mode L, in 65536ths.
_LUMA = (19595, 38470, 7471)


def decode_file(data: tf.Tensor, *, jpeg_only: bool, exact: bool = False, ratio: int = 1) -> tf.Tensor:
    """The pixels of an encoded image file, as stored: the EXIF orientation is not applied.

    Args:
      data: scalar string.
      jpeg_only: the file is known to be a JPEG; otherwise its first bytes tell.
      exact: decode a JPEG with the accurate inverse DCT, to Pillow's pixels bit for bit. The fast one is 2 % quicker
        and 45 dB from them. (Plain chroma, fancy_upscaling=False, is 10 % slower than smooth, and 3 dB worse.)
      ratio: 1, 2, 4 or 8: a JPEG is reduced by it while it is decoded, its size rounded up.

    Returns:
      uint8 [H, W, 3].

    Raises:
      InvalidArgumentError: no decoder accepts the bytes.
    """
    settings = {"dct_method": "INTEGER_ACCURATE" if exact else "INTEGER_FAST", "fancy_upscaling": True}

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels=3, ratio=ratio, **settings)

    def other() -> tf.Tensor:
        return tf.io.decode_image(data, channels=3, expand_animations=False)

    image = jpeg() if jpeg_only else tf.cond(tf.io.is_jpeg(data), jpeg, other)
    image.set_shape([None, None, 3])
    return image


def decode_upright(data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None, exact: bool) -> tf.Tensor:
    """The pixels of an encoded image file as it is meant to be seen; see decode_file and turn_upright."""
    return turn_upright(decode_file(data, jpeg_only=jpeg_only, exact=exact), orientation)


def decode_window(
    data: tf.Tensor,
    choose: Callable[[tf.Tensor], tf.Tensor],
    *,
    jpeg_only: bool,
    orientation: tf.Tensor | None,
    exact: bool,
) -> tf.Tensor:
    """The pixels of a window of the upright image; of a JPEG, only those are decoded.

    Args:
      data: scalar string.
      choose: from the height and width of the upright image, int32 [2], to row, column, height and width, int32 [4].
      jpeg_only, orientation, exact: see decode_upright. An exact window has the pixels of the whole image; a fast one
        may differ from them in its first and last column.

    Returns:
      uint8 [h, w, 3].
    """

    def jpeg() -> tf.Tensor:
        size = tf.io.extract_jpeg_shape(data)[:2]
        window = _stored_window(choose(upright_size(size, orientation)), size, orientation)
        pixels = _decode_jpeg_window(data, window, size[1], exact)
        pixels.set_shape([None, None, 3])
        return turn_upright(pixels, orientation)

    def other() -> tf.Tensor:
        image = decode_upright(data, jpeg_only=False, orientation=orientation, exact=exact)
        return cut_window(image, choose(tf.shape(image)[:2]))

    return tf.ensure_shape(jpeg() if jpeg_only else tf.cond(tf.io.is_jpeg(data), jpeg, other), [None, None, 3])


def cut_window(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """The part of an image [H, W, C] that a window, int32 [4], names by row, column, height and width."""
    row, column, height, width = tf.unstack(window)
    return image[row : row + height, column : column + width]


def _stored_window(window: tf.Tensor, size: tf.Tensor, orientation: tf.Tensor | None) -> tf.Tensor:
    """A window of the upright image as one of the image as stored, whose height and width are int32 [2]."""
    if orientation is None:
        return window
    corner, side = window[:2], window[2:]
    mirrored = upright_size(size, orientation) - corner - side
    corner = tf.where(mirrored_axes(orientation), mirrored, corner)
    return tf.concat([upright_size(corner, orientation), upright_size(side, orientation)], 0)


def _decode_jpeg_window(data: tf.Tensor, window: tf.Tensor, width: tf.Tensor, exact: bool) -> tf.Tensor:
    if not exact:
        return tf.image.decode_and_crop_jpeg(data, window, channels=3, dct_method="INTEGER_FAST")
    # At the sides of a window the decoder smooths chroma without the neighbours outside: one more column there.
    row, column, height, columns = tf.unstack(window)
    begin, end = tf.maximum(column - 1, 0), tf.minimum(column + columns + 1, width)
    wide = tf.stack([row, begin, height, end - begin])
    pixels = tf.image.decode_and_crop_jpeg(data, wide, channels=3, dct_method="INTEGER_ACCURATE")
    return pixels[:, column - begin : column - begin + columns]


def as_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """The image with 1 or 3 channels: gray is repeated, colours become Pillow's L, and equal channels keep their value.

    Args:
      image: uint8, float16 or float32 [..., C] of 1 or 3 channels.
      channels: 1 or 3.
    """
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return tf.repeat(image, 3, axis=-1)
    red, green, blue = tf.unstack(image, axis=-1)
    if image.dtype == tf.uint8:
        total = sum(tf.cast(part, tf.int32) * weight for part, weight in zip((red, green, blue), _LUMA, strict=True))
        return tf.cast(tf.bitwise.right_shift(total + 2**15, 16), tf.uint8)[..., None]
    wide = [
        tf.cast(part, tf.float32) * (weight / 2**16) for part, weight in zip((red, green, blue), _LUMA, strict=True)
    ]
    # The sum of three rounded products may differ from the gray that all of them are.
    is_gray = tf.equal(red, green) & tf.equal(green, blue)
    return tf.where(is_gray, red, tf.cast(tf.add_n(wide), image.dtype))[..., None]


def decode_mask(data: tf.Tensor) -> tf.Tensor:
    """The values of a mask, as stored: the EXIF orientation is not applied.

    Args:
      data: scalar string, a gray PNG, whose values are not changed.

    Returns:
      uint8 [H, W, 1].

    Raises:
      InvalidArgumentError: the decoder rejects the bytes.
    """
    return tf.io.decode_png(data, channels=1)


def turn_upright(image: tf.Tensor, orientation: tf.Tensor | None) -> tf.Tensor:
    """The image as it is meant to be seen.

    Args:
      image: [H, W, C].
      orientation: scalar int64, the EXIF value 1 to 8: 5 to 8 exchange rows and columns, then 2, 3, 6, 7 mirror left
        and right, and 3, 4, 7, 8 mirror up and down. None: the image is upright already.

    Returns:
      [H, W, C] or [W, H, C].
    """
    if orientation is None:
        return image

    def turned() -> tf.Tensor:
        upright = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        return tf.reverse(upright, tf.squeeze(tf.where(mirrored_axes(orientation)), 1))

    result = tf.cond(orientation > 1, turned, lambda: image)
    result.set_shape([None, None, image.shape[-1]])
    return result


def upright_size(size: tf.Tensor, orientation: tf.Tensor | None) -> tf.Tensor:
    """The height and width [2] of an upright image, from those of the image as stored; see turn_upright."""
    return size if orientation is None else tf.where(orientation >= 5, size[::-1], size)


def mirrored_axes(orientation: tf.Tensor) -> tf.Tensor:
    """Whether turn_upright mirrors the rows, and the columns, after it has exchanged them: bool [2]."""
    flips = [tf.constant(values, orientation.dtype) for values in ((3, 4, 7, 8), (2, 3, 6, 7))]
    return tf.stack([tf.reduce_any(tf.equal(orientation, values)) for values in flips])


def resize_image(image: tf.Tensor, size: tuple[int, int], *, resize: str = "pad", antialias: bool = False) -> tf.Tensor:
    """The image at another size, bilinear.

    Args:
      image: uint8, float16 or float32 [H, W, C].
      size: (height, width).
      resize: "pad" keeps the aspect and adds black borders, centred; "stretch" does not keep it; "crop" keeps it and
        cuts what exceeds the size, centred.
      antialias: average over the source where the image shrinks.

    Returns:
      [height, width, C] of the same dtype; uint8 is rounded half up.
    """
    if resize not in RESIZES:
        raise UsageError(f"Unknown resize {resize!r}; known: {list(RESIZES)}.")
    if tuple(image.shape[:2]) == tuple(size):
        return image
    inner = _inner_size(tf.shape(image)[:2], size, resize)
    scaled = from_float(tf.image.resize(image, inner, antialias=antialias), image.dtype)
    return pad_or_crop(scaled, size, resize)


def stretch_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The image stretched to a size, int32 [2], that is known only at run time, with antialias; see resize_image."""
    return from_float(tf.image.resize(image, size, antialias=True), image.dtype)


def encode_stretched(
    data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None, size: tf.Tensor | None, quality: int
) -> tf.Tensor:
    """An encoded image file as an upright JPEG, exactly decoded, stretched to a size, int32 [2], where there is one."""
    pixels = decode_upright(data, jpeg_only=jpeg_only, orientation=orientation, exact=True)
    if size is not None:
        pixels = stretch_image(pixels, size)
    return tf.io.encode_jpeg(pixels, quality=quality, optimize_size=True)


def resize_mask(mask: tf.Tensor, size: tuple[int, int], *, resize: str = "pad", fill: int = 0) -> tf.Tensor:
    """The mask at another size, moved as resize_image moves its image; each value is the nearest of the mask's own.

    Args:
      mask: uint8 [H, W, C].
      size: (height, width).
      resize: "pad", "stretch" or "crop".
      fill: the value of the borders that "pad" adds.

    Returns:
      [height, width, C] of the same dtype.
    """
    if tuple(mask.shape[:2]) == tuple(size):
        return mask
    scaled = tf.image.resize(mask, _inner_size(tf.shape(mask)[:2], size, resize), method="nearest")
    return pad_or_crop(scaled, size, resize, fill=fill)


def resized_geometry(full_size: tf.Tensor, size: tuple[int, int], *, resize: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The size and the corner that resize_image gives the whole image, before it pads or cuts.

    Args:
      full_size: int [2], height and width of the image.
      size: (height, width) of the result.
      resize: "pad", "stretch" or "crop".

    Returns:
      Height and width, and the row and column of the upper left corner: int32 [2] each.
    """
    inner = _inner_size(full_size, size, resize)
    free = tf.constant(size) - inner
    return inner, -(-free // 2) if resize == "crop" else free // 2


def _inner_size(full_size: tf.Tensor, size: tuple[int, int], resize: str) -> tf.Tensor:
    """The size at which an image just fits into the target, covers it ("crop") or is equal to it: int32 [2]."""
    if resize == "stretch":
        return tf.constant(size)
    source = tf.cast(full_size, tf.float64)
    ratios = tf.constant(size, tf.float64) / source
    scale = tf.reduce_max(ratios) if resize == "crop" else tf.reduce_min(ratios)
    inner = tf.cast(tf.floor(source * scale + 0.5), tf.int32)
    return tf.maximum(inner, size) if resize == "crop" else tf.clip_by_value(inner, 1, size)


def pad_or_crop(scaled: tf.Tensor, size: tuple[int, int], resize: str, *, fill: int = 0) -> tf.Tensor:
    """A scaled image [h, w, C] in the size: padded or cut where its own differs."""
    channels = scaled.shape[-1]  # Padding forgets it.
    if resize == "pad":
        scaled = _pad(scaled, size, fill)
    elif resize == "crop":
        scaled = _center_crop(scaled, size)
    scaled.set_shape([*size, channels])
    return scaled


def _pad(image: tf.Tensor, size: tuple[int, int], fill: int) -> tf.Tensor:
    free = tf.constant(size) - tf.shape(image)[:2]
    before = free // 2
    around = tf.concat([tf.stack([before, free - before], 1), [[0, 0]]], 0)
    return tf.pad(image, around, constant_values=tf.cast(fill, image.dtype))


def _center_crop(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    begin = (tf.shape(image)[:2] - size) // 2
    return tf.slice(image, tf.concat([begin, [0]], 0), [*size, -1])


def from_float(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Resized values in the dtype of their image; uint8 is rounded half up."""
    if not dtype.is_integer:
        return tf.cast(values, dtype)
    # Means of uint8 values are in [0, 255], so the cast is the floor: a floor and a clip cost 0.15 ms per image.
    return tf.cast(values + 0.5, dtype)
