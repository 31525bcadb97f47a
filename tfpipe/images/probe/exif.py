"""The EXIF orientation, which JPEG, PNG and WebP store alike."""

from __future__ import annotations

import struct

# The byte order mark, then tag 0x0112 of type SHORT as that order writes it.
_ORDERS = {b"II*\0": ("<", b"\x12\x01\x03\x00"), b"MM\0*": (">", b"\x01\x12\x00\x03")}


def exif_orientation(data: bytes, start: int, end: int) -> int:
    """The orientation in the EXIF block data[start:end], 1 to 8; 1 where the block is broken."""
    if data.startswith(b"Exif\0\0", start, end):
        start += 6  # Some programs keep JPEG's prefix in PNG and WebP.
    if data[start : start + 4] not in _ORDERS:
        return 1
    (order, tag), value = _ORDERS[data[start : start + 4]], 1
    try:
        first = start + struct.unpack_from(order + "I", data, start + 4)[0]
        num_entries = struct.unpack_from(order + "H", data, first)[0]
        for at in range(first + 2, min(first + 2 + 12 * num_entries, end - 11), 12):
            if data.startswith(tag, at):
                value = struct.unpack_from(order + "H", data, at + 8)[0]
                break
    except struct.error:
        pass
    return value if 1 <= value <= 8 else 1
