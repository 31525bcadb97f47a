"""GIF: every block is visited, to find the largest frame and the trailer."""

from __future__ import annotations

import struct

from tfpipe.images.probe.header import ImageHeader, check_size, refuse

_FRAME, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B


def read_gif(data: bytes) -> ImageHeader:
    """The header of a GIF; its size is that of the largest frame, as for decode_image, not of the logical screen."""
    height = width = 0
    at = 13 + _table_bytes(data[10])
    try:
        while data[at] != _TRAILER:
            if data[at] == _FRAME:
                frame_width, frame_height, flags = struct.unpack_from("<HHB", data, at + 5)
                height, width = max(height, frame_height), max(width, frame_width)
                at += 11 + _table_bytes(flags)
            elif data[at] == _EXTENSION:
                at += 2
            else:
                raise IndexError
            while block_bytes := data[at]:
                at += block_bytes + 1
            at += 1
    except (IndexError, struct.error):
        refuse("truncated", f"The GIF is cut: there is no trailer 3B where its blocks end; {len(data)} bytes came.")
    return ImageHeader("gif", *check_size("GIF", height, width, 0xFFFF), 1)


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
