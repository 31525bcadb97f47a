"""Mask files: which can be taken, and the PNG of one channel that a record holds for each.

A mask names a class, or an instance, for every pixel of its image, so no value of it may change. Accepted are PNG files
of gray up to 8 bits, or with a palette, whose indices are then the values; and BMP files of 8 bits, likewise. Gray of
1, 2 or 4 bits is spread over 0..255, as every PNG decoder does it. Refused are colours, 16 bits, and JPEG, which alters
values.

A decoder would turn palette indices into colours. So the palette is replaced by a ramp in which color i is the gray i:
the compressed pixels stay as they are, and every decoder then gives the indices.

    data = stored_mask(file_bytes, image_header, max_pixels=2**26)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from beam_jobs.sources import Source
from beam_jobs.sources.listing import MASK_COLUMN, MaskReader, Ref, Refusal
from tfpipe.images.png import PNG_START, join_png, png_chunk
from tfpipe.images.probe import ImageHeader, NotAnImage, probe

_GRAY, _PALETTE = 0, 3
_COLOURS = {2: "colours", 4: "gray and transparency", 6: "colours and transparency"}
_LEVEL = 6
_BMP_BITS_AT, _BMP_HEADER_AT = 28, 14


def has_masks(columns: Sequence[tuple[str, str]]) -> bool:
    """Whether one of a plan's columns names masks."""
    return any(dtype == MASK_COLUMN for _, dtype in columns)


def mask_reader(source: Source) -> MaskReader | None:
    """The source as a reader of masks, where it has them."""
    return cast(MaskReader, source) if MASK_COLUMN in source.columns else None


def stored_mask(data: bytes, image: ImageHeader, *, max_pixels: int) -> bytes:
    """The PNG of one channel that a record holds for a mask file.

    Args:
      data: the mask file.
      image: the header of the image's file. The mask has the size of the image as it is stored: an EXIF orientation of
        the image applies to both.
      max_pixels: masks with more are refused.

    Raises:
      Refusal: "bad_mask" or "mask_size", with a sentence.
    """
    if data.startswith(b"BM"):
        data = _with_gray_ramp(data)
    try:
        header = probe(data, max_pixels=max_pixels)
    except NotAnImage as error:
        raise Refusal("bad_mask", f"The mask: {error}") from error
    if header.format not in ("png", "bmp") or header.orientation > 1:
        what = f"is a {header.format} file with the EXIF turn {header.orientation}"
        raise Refusal("bad_mask", f"The mask {what}; it takes a PNG or BMP file without a turn.")
    if (header.height, header.width) != (image.height, image.width):
        raise Refusal(
            "mask_size",
            f"The mask has {header.height} x {header.width} pixels (rows x columns), "
            f"its image as stored {image.height} x {image.width}.",
        )
    return _gray_png(data) if header.format == "png" else _bmp_as_png(data, header)


# ---- PNG


def _gray_png(data: bytes) -> bytes:
    depth, colour = data[24], data[25]
    if depth == 16 or colour in _COLOURS:
        what = "16 bits a pixel" if depth == 16 else _COLOURS[colour]
        raise Refusal("bad_mask", f"The mask has {what}; it takes gray of up to 8 bits, or a palette.")
    chunks = list(_chunks(data))
    if colour == _GRAY:
        return data
    # The transparency of palette entries belongs to the old palette, and says nothing of classes.
    parts = [png_chunk(b"PLTE", _ramp(len(body) // 3, 3)) if name == b"PLTE" else whole for name, body, whole in chunks]
    return PNG_START + b"".join(
        part for part, (name, _, _) in zip(parts, chunks, strict=True) if name not in (b"tRNS", b"hIST", b"sPLT")
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yields name, content and the whole of each chunk of a PNG that was probed; every CRC is checked."""
    at = len(PNG_START)
    name = b""
    while name != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise Refusal("bad_mask", f"The mask is damaged: the CRC of a {name!r} chunk is another.")
        yield name, body, data[at:end]
        at = end


def _ramp(count: int, width: int) -> bytes:
    """A palette in which every entry of `width` bytes repeats its own number."""
    return b"".join(bytes([number]) * width for number in range(count))


# ---- BMP


def _with_gray_ramp(data: bytes) -> bytes:
    """A BMP of 8 bits with a palette that is a ramp; any other file as it is, to be refused by its header."""
    if len(data) < 54 or data[_BMP_BITS_AT : _BMP_BITS_AT + 2] != b"\x08\0":
        return data
    start, header_bytes = struct.unpack_from("<II", data, 10)
    begin = _BMP_HEADER_AT + header_bytes
    count = (min(start, begin + 1024, len(data)) - begin) // 4
    return data[:begin] + _ramp(count, 4) + data[begin + 4 * count :] if count > 0 else data


def _bmp_as_png(data: bytes, header: ImageHeader) -> bytes:
    """The PNG of a BMP's bytes: TensorFlow's decoder of any format gives three channels of a BMP, never one."""
    start, _, _, height = struct.unpack_from("<IIii", data, 10)
    (bits,) = struct.unpack_from("<H", data, _BMP_BITS_AT)
    if bits != 8:
        raise Refusal("bad_mask", f"The mask has {bits} bits a pixel; it takes 8, gray or with a palette.")
    stride = (header.width + 3) // 4 * 4
    rows = [data[start + y * stride : start + y * stride + header.width] for y in range(header.height)]
    # A BMP begins with its last row, unless its height is negative; each row of a PNG begins with the filter's number.
    return gray_png(rows[::-1] if height > 0 else rows)


def gray_png(rows: list[bytes]) -> bytes:
    """The PNG of 8 bits of gray with those rows, all of one length."""
    return join_png(len(rows), len(rows[0]), _GRAY, b"".join(b"\0" + row for row in rows), level=_LEVEL)


# ---- pixels: with TensorFlow, where images are decoded too


def read_mask(reader: MaskReader, ref: Ref, image: ImageHeader, *, max_pixels: int) -> bytes:
    """The PNG that a record holds for the mask of a reference; see stored_mask.

    Raises:
      Refusal: "missing_mask" where there is no file, or a reason of stored_mask.
    """
    try:
        data = reader.read_mask(ref)
    except FileNotFoundError as error:
        raise Refusal("missing_mask", "The file of the mask is not there.") from error
    except OSError as error:
        raise Refusal("bad_mask", f"The mask can't be read: {error.strerror}.") from error
    return stored_mask(data, image, max_pixels=max_pixels)


def mask_pixels(
    data: bytes, image: ImageHeader, size: tuple[int, int] | None, resize: str, *, fill: int = 0
) -> np.ndarray:
    """The values of a mask, upright, at a size where one is given: uint8 [H, W, 1].

    Args:
      data: the PNG of a record.
      image: the header of its image, for the EXIF orientation.
      size: (height, width) to fit it to, as its image; None keeps its own.
      resize: "pad", "stretch" or "crop".
      fill: the value of the borders that "pad" adds.

    Raises:
      Refusal: "undecodable_mask".
    """
    import tensorflow as tf

    from tfpipe.images.decode import decode_mask, resize_mask, turn_upright

    try:
        with tf.device("CPU:0"):
            pixels = decode_mask(data)
            if image.orientation > 1:
                pixels = turn_upright(pixels, tf.constant(image.orientation, tf.int64))
            return (pixels if size is None else resize_mask(pixels, size, resize=resize, fill=fill)).numpy()
    except tf.errors.OpError as error:
        said = str(getattr(error, "message", error)).splitlines()[0]
        raise Refusal("undecodable_mask", f"The decoder refuses the mask: {said}.") from error


def smaller_mask(data: bytes, image: ImageHeader, size: tuple[int, int]) -> bytes:
    """The PNG of a mask, upright, for an image that was made (height, width) pixels large; raises as mask_pixels."""
    return gray_png([row.tobytes() for row in mask_pixels(data, image, size, "stretch")])
