"""PNG files of pixels, without loss: the same bytes for the same pixels, whatever else is installed but zlib.

data = encode_png(pixels)       # uint8 [H, W, C]
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tfpipe.errors import UsageError

# The colour type for each number of channels: gray, gray with alpha, RGB, RGB with alpha.
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_LEVEL = 6
# Each byte minus the one a pixel to its left; see the specification's filter type 1, Sub.
_SUB = 1


def encode_png(pixels: np.ndarray) -> bytes:
    """The PNG file of an image of 8 bits a channel.

    Args:
      pixels: uint8 [H, W, C], of 1 to 4 channels: gray, gray and alpha, RGB, RGB and alpha.

    Raises:
      ValueError: the pixels are of another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _COLOUR_TYPES or not pixels.size:
        raise UsageError(f"A PNG holds uint8 [H, W, 1 to 4], not {pixels.dtype} {list(pixels.shape)}.")
    height, width, channels = pixels.shape
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = _SUB
    filtered = rows[:, 1:].reshape(height, width, channels)
    filtered[:, 0], filtered[:, 1:] = pixels[:, 0], pixels[:, 1:] - pixels[:, :-1]
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), _LEVEL)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
