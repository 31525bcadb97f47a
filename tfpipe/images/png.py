"""PNG files as tfpipe writes them: the same pixels give the same bytes wherever the same zlib is.

One filter for all rows and one level: an encoder that chooses filters by trial, as Pillow's and libpng's do, would give
other bytes with each of its versions.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

PNG_START = b"\x89PNG\r\n\x1a\n"
# Of zlib: see `versions` in a manifest. Photographs take a third of level 6's time, and 6 % more bytes.
LEVEL = 4
# The colour type for each number of channels: gray, gray with alpha, RGB, RGB with alpha.
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_NONE, _UP = 0, 2


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and its CRC."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def join_png(height: int, width: int, colour: int, rows: bytes, *, level: int) -> bytes:
    """A PNG of 8 bits a channel.

    Args:
      height: in pixels.
      width: in pixels.
      colour: PNG's colour type: 0 for gray, 2 for RGB, 4 and 6 for these with alpha.
      rows: the number of its filter and the filtered bytes of every row.
      level: of zlib.
    """
    first = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", first), png_chunk(b"IDAT", zlib.compress(rows, level)), png_chunk(b"IEND", b"")
    return PNG_START + b"".join(parts)


def write_png(pixels: np.ndarray, *, smooth: bool) -> bytes:
    """The PNG of an image.

    Args:
      pixels: uint8, [H, W], or [H, W, C] of 1 to 4 channels: gray, gray and alpha, RGB, RGB and alpha.
      smooth: rows are stored as differences to the row above, which makes photographs a tenth to a third smaller;
        images of a few colours, as palettes have them, grow by two thirds.
    """
    height, width = pixels.shape[:2]
    flat = np.ascontiguousarray(pixels).reshape(height, -1)
    rows = np.empty((height, 1 + flat.shape[1]), np.uint8)
    rows[:, 0] = _UP if smooth else _NONE
    rows[:, 1:] = flat
    if smooth:
        np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])  # modulo 256, as PNG has it
    return join_png(height, width, _COLOUR_TYPES[flat.shape[1] // width], rows.tobytes(), level=LEVEL)
