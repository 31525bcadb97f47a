"""Image files to pixels: decode, turn upright, resize. The converter and the reader share these functions.

Images are [H, W, 3]; uint8 levels, or floats in [0, 1]. All functions work eagerly and inside a tf.data map.
What the stock decoder does and these functions keep: gray becomes three equal channels, alpha is dropped, CMYK turns
into RGB, a 16-bit PNG keeps its high byte, a GIF its first frame.
"""

from __future__ import annotations

import tensorflow as tf

RESIZES = ("pad", "stretch", "crop")


def decode_file(data: tf.Tensor, *, jpeg_only: bool, exact: bool = False, ratio: int = 1) -> tf.Tensor:
    """The pixels of an encoded image file, as stored: not turned.

    Args:
      data: scalar string.
      jpeg_only: the file is known to be a JPEG; otherwise its first bytes tell.
      exact: for a JPEG: the accurate inverse DCT: Pillow's pixels to the bit. Otherwise the fast one: 2 % quicker and
        45 dB from them. (Plain chroma, fancy_upscaling=False, is 10 % slower than smooth, and 3 dB worse.)
      ratio: 1, 2, 4 or 8: a JPEG is reduced by it while it is decoded, its size rounded up.

    Returns:
      uint8 [H, W, 3].

    Raises:
      InvalidArgumentError: no decoder takes the bytes.
    """
    settings = {"dct_method": "INTEGER_ACCURATE" if exact else "INTEGER_FAST", "fancy_upscaling": True}

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels=3, ratio=ratio, **settings)

    def other() -> tf.Tensor:
        return tf.io.decode_image(data, channels=3, expand_animations=False)

    image = jpeg() if jpeg_only else tf.cond(tf.io.is_jpeg(data), jpeg, other)
    image.set_shape([None, None, 3])
    return image


def decode_mask(data: tf.Tensor) -> tf.Tensor:
    """The values of a mask, as stored: not turned.

    Args:
      data: scalar string, a PNG of gray: of its values none is changed.

    Returns:
      uint8 [H, W, 1].

    Raises:
      InvalidArgumentError: the decoder refuses the bytes.
    """
    return tf.io.decode_png(data, channels=1)


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The image as it is meant to be seen.

    Args:
      image: [H, W, C].
      orientation: scalar int64, the EXIF value 1 to 8: 5 to 8 exchange rows and columns, then 2, 3, 6, 7 mirror left
        and right, and 3, 4, 7, 8 mirror up and down.

    Returns:
      [H, W, C] or [W, H, C].
    """

    def turned() -> tf.Tensor:
        upright = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        return tf.reverse(upright, tf.squeeze(tf.where(mirrored_axes(orientation)), 1))

    result = tf.cond(orientation > 1, turned, lambda: image)
    result.set_shape([None, None, image.shape[-1]])
    return result


def mirrored_axes(orientation: tf.Tensor) -> tf.Tensor:
    """Whether turn_upright mirrors the rows, and the columns, after it has exchanged them: bool [2]."""
    return tf.stack([_is_one_of(orientation, (3, 4, 7, 8)), _is_one_of(orientation, (2, 3, 6, 7))])


def _is_one_of(number: tf.Tensor, choices: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(number, tf.constant(choices, number.dtype)))


def resize_image(image: tf.Tensor, size: tuple[int, int], *, resize: str = "pad", antialias: bool = False) -> tf.Tensor:
    """The image at another size, bilinear.

    Args:
      image: uint8, float16 or float32 [H, W, C].
      size: (height, width).
      resize: "pad" keeps the aspect and adds black borders, centred; "stretch" does not keep it; "crop" keeps it and
        cuts what overhangs, centred.
      antialias: average over the source where the image shrinks.

    Returns:
      [height, width, C] of the same dtype; uint8 is rounded half up.
    """
    if resize not in RESIZES:
        raise ValueError(f"Unknown resize {resize!r}; known: {list(RESIZES)}.")
    if tuple(image.shape[:2]) == tuple(size):
        return image
    inner = size if resize == "stretch" else _scaled_size(image, size, cover=resize == "crop")
    scaled = _from_float(tf.image.resize(image, inner, antialias=antialias), image.dtype)
    return _framed(scaled, size, resize)


def resize_mask(mask: tf.Tensor, size: tuple[int, int], *, resize: str = "pad") -> tf.Tensor:
    """The mask at another size, as resize_image fits its image; each value is one of the mask's own: the nearest.

    Args:
      mask: uint8 [H, W, C].
      size: (height, width).
      resize: "pad", whose borders are 0, "stretch" or "crop".

    Returns:
      [height, width, C] of the same dtype.
    """
    if tuple(mask.shape[:2]) == tuple(size):
        return mask
    inner = size if resize == "stretch" else _scaled_size(mask, size, cover=resize == "crop")
    scaled = tf.image.resize(mask, inner, method="nearest")
    return _framed(scaled, size, resize)


def placed(full_size: tf.Tensor, size: tuple[int, int], *, resize: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Where resize_image puts an image.

    Args:
      full_size: int [2], the height and width that it has.
      size: (height, width) of the result.
      resize: "pad", "stretch" or "crop".

    Returns:
      The height and width that the whole image gets, and the row and column of its corner: int32 [2] each.
    """
    inner = tf.constant(size) if resize == "stretch" else _scaled(full_size, size, cover=resize == "crop")
    free = tf.constant(size) - inner
    return inner, -(-free // 2) if resize == "crop" else free // 2


def _scaled_size(image: tf.Tensor, size: tuple[int, int], *, cover: bool) -> tf.Tensor:
    """The size at which the image just covers the target, or just fits into it: int32 [2], at least 1."""
    return _scaled(tf.shape(image)[:2], size, cover=cover)


def _scaled(full_size: tf.Tensor, size: tuple[int, int], *, cover: bool) -> tf.Tensor:
    source = tf.cast(full_size, tf.float64)
    target = tf.constant(size, tf.float64)
    ratios = target / source
    scale = tf.reduce_max(ratios) if cover else tf.reduce_min(ratios)
    inner = tf.cast(tf.floor(source * scale + 0.5), tf.int32)
    return tf.maximum(inner, size) if cover else tf.clip_by_value(inner, 1, size)


def _framed(scaled: tf.Tensor, size: tuple[int, int], resize: str) -> tf.Tensor:
    """A scaled image [h, w, C] in the size: padded or cut where its own differs."""
    channels = scaled.shape[-1]  # Padding forgets it.
    if resize == "pad":
        scaled = _pad(scaled, size)
    elif resize == "crop":
        scaled = _center_crop(scaled, size)
    scaled.set_shape([*size, channels])
    return scaled


def _pad(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    free = tf.constant(size) - tf.shape(image)[:2]
    before = free // 2
    return tf.pad(image, tf.concat([tf.stack([before, free - before], 1), [[0, 0]]], 0))


def _center_crop(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    begin = (tf.shape(image)[:2] - size) // 2
    return tf.slice(image, tf.concat([begin, [0]], 0), [*size, -1])


def _from_float(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    if not dtype.is_integer:
        return tf.cast(values, dtype)
    # Weighted means of levels lie in [0, 255]: the cast alone is the floor. A floor and a clip cost 0.15 ms an image.
    return tf.cast(values + 0.5, dtype)
