"""The orientation of an image, found where Pillow's ImageOps.exif_transpose finds it, for JPEG, PNG and WebP alike.

It is tag 0x0112 of the EXIF block, a number of any type; where that block has no such tag, tiff:Orientation in XMP.
"""

from __future__ import annotations

import re
import struct

# The byte order mark and 42; some programs swap the bytes of the 42.
_ORDERS = {b"II*\0": "<", b"II\0*": "<", b"MM\0*": ">", b"MM*\0": ">"}
_TAG = 0x0112
# The types of numbers, as struct writes them; a rational is two. BYTE, ASCII and UNDEFINED hold no number for Pillow.
_TYPES = {3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q"}
_BYTES = (1, 2, 7)
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def find_orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """The orientation, 1 to 8; 1 where there is none, or another number.

    Args:
      exif: the EXIF block, with or without the prefix of JPEG; None where there is none.
      xmp: the XMP packet, or None.
    """
    value = None if exif is None else _exif_value(exif)
    if value is None and xmp is not None and (found := _XMP.search(xmp)):
        value = int(found[1])
    return int(value) if value in range(1, 9) else 1  # type: ignore[arg-type]


def profile_exif(profile: bytes) -> bytes | None:
    """The EXIF block in ImageMagick's "Raw profile type exif": three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(profile.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return None


def _exif_value(block: bytes) -> float | None:
    """The value of the tag; None where there is none, 0 where it or the block is broken."""
    start = 0
    while block.startswith(b"Exif\0\0", start):
        start += 6
    if start == len(block):
        return None
    order = _ORDERS.get(block[start : start + 4])
    if order is None:
        return 0
    value = None
    try:
        first = start + struct.unpack_from(order + "I", block, start + 4)[0]
        num_entries = struct.unpack_from(order + "H", block, first)[0]
        tag = struct.pack(order + "H", _TAG)
        for at in range(first + 2, min(first + 2 + 12 * num_entries, len(block) - 11), 12):
            if block.startswith(tag, at) and (found := _entry_value(block, at, start, order)) is not None:
                value = found
    except struct.error:
        pass
    return value


def _entry_value(block: bytes, at: int, start: int, order: str) -> float | None:
    """The first number in the entry at `at`; 0 where it holds bytes; None where its values are not all there."""
    kind, count = struct.unpack_from(order + "HI", block, at + 2)
    if kind not in _TYPES:
        return 0 if kind in _BYTES and count else None
    layout, place = order + _TYPES[kind], at + 8
    size = count * struct.calcsize(layout)
    if size > 4:
        place = start + struct.unpack_from(order + "I", block, place)[0]
    if not size or place + size > len(block):
        return None
    value, *below = struct.unpack_from(layout, block, place)
    if below:
        return value / below[0] if below[0] else 0
    return value
