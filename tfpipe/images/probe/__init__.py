"""The header of an image file: its format, size and EXIF orientation. No pixel is decoded.

A header is returned only for files that are complete and that tf.io.decode_image reads correctly (channels=3,
expand_animations=False), Pillow being the judge; everything else raises `NotAnImage`. Its `pillow` names the format as
which Pillow may read the file all the same, and its `reason` is one of

  empty               no bytes at all
  not_an_image        an unknown signature; the sentence says what the bytes look like
  unsupported_format  an image of a format, or a kind within it, that tfpipe doesn't read
  bad_header          a known signature, then fields that can't be true
  truncated           the end is missing
  too_many_pixels     height * width is above `max_pixels`

    header = probe(path.read_bytes())
    height, width = header.upright_size

A bit flipped among the pixels goes unnoticed: only a digest detects those. All statements about TensorFlow here were
measured with TensorFlow 2.21.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from tfpipe.images.probe.bmp import read_bmp
from tfpipe.images.probe.gif import read_gif
from tfpipe.images.probe.header import ImageHeader, NotAnImage, refuse
from tfpipe.images.probe.jpeg import read_jpeg
from tfpipe.images.probe.png import read_png
from tfpipe.images.probe.strangers import refuse_stranger
from tfpipe.images.probe.webp import read_webp

__all__ = ["DEFAULT_MAX_PIXELS", "ImageHeader", "NotAnImage", "probe"]

# 67 million pixels, 200 MB as RGB: more than any camera's photo has, less than a decompression bomb needs.
DEFAULT_MAX_PIXELS = 2**26

_READERS: dict[bytes, Callable[[bytes], ImageHeader]] = {
    b"\xff\xd8\xff": read_jpeg,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"GIF8": read_gif,
    b"BM": read_bmp,
    b"RIFF": read_webp,
}


def probe(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """The header of the image that `data` holds.

    Args:
      data: a whole file.
      max_pixels: the largest height * width allowed.

    Raises:
      NotAnImage: the bytes can't be a valid image, or hold too many pixels.
    """
    read = _find_reader(data)
    try:
        header = read(data)
    except (IndexError, struct.error):
        name = read.__name__.removeprefix("read_").upper()
        refuse("bad_header", f"The {name} header breaks off; {len(data)} bytes came.")
    num_pixels = header.height * header.width
    if num_pixels > max_pixels:
        refuse(
            "too_many_pixels",
            f"The image has {header.height} x {header.width} = {num_pixels} pixels; --max_pixels allows {max_pixels}.",
        )
    return header


def _find_reader(data: bytes) -> Callable[[bytes], ImageHeader]:
    for signature, read in _READERS.items():
        if data.startswith(signature):
            return read
    return refuse_stranger(data)
