"""The orientation of an image, found where Pillow's ImageOps.exif_transpose finds it, for JPEG, PNG and WebP alike.

It is tag 0x0112 of the EXIF block, a number of any type; where that block has no such tag, tiff:Orientation in XMP.
"""

from __future__ import annotations

import re
import struct

# The byte order mark and 42, whose bytes some programs swap; then the order, the tag 0x0112 as that order writes it,
# and the tag with what nearly always follows: type SHORT, one value.
_ORDERS = {
    b"II*\0": ("<", b"\x12\x01", b"\x12\x01\x03\0\x01\0\0\0"),
    b"II\0*": ("<", b"\x12\x01", b"\x12\x01\x03\0\x01\0\0\0"),
    b"MM\0*": (">", b"\x01\x12", b"\x01\x12\0\x03\0\0\0\x01"),
    b"MM*\0": (">", b"\x01\x12", b"\x01\x12\0\x03\0\0\0\x01"),
}
# The types of numbers, as struct writes them; a rational is two. BYTE, ASCII and UNDEFINED hold no number for Pillow.
_TYPES = {3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q"}
_BYTES = (1, 2, 7)
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_UPRIGHT = range(1, 9)


def find_orientation(exif: bytes | None, xmp: bytes | None, *, start: int = 0, end: int | None = None) -> int:
    """The orientation, 1 to 8; 1 where there is none, or another number.

    Args:
      exif: bytes with the EXIF block in [start, end), with or without the prefix of JPEG; None where there is none.
      xmp: the XMP packet, or None.
      start: the first byte of the block.
      end: the end of the block; None is the end of `exif`.
    """
    value = None if exif is None else _exif_value(exif, start, len(exif) if end is None else end)
    if value is None and xmp is not None and (found := _XMP.search(xmp)):
        value = int(found[1])
    return 1 if value is None or value not in _UPRIGHT else int(value)


def profile_exif(profile: bytes) -> bytes | None:
    """The EXIF block in ImageMagick's "Raw profile type exif": three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(profile.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return None


def _exif_value(data: bytes, start: int, end: int) -> float | None:
    """The value of the tag in data[start:end]; None where there is none, 0 where it or the block is broken."""
    while data.startswith(b"Exif\0\0", start, end):
        start += 6
    if start >= end:
        return None
    known = _ORDERS.get(data[start : start + 4])
    if known is None:
        return 0
    order, tag, usual = known
    value: float | None = None
    try:
        first = start + struct.unpack_from(order + "I", data, start + 4)[0]
        num_entries = struct.unpack_from(order + "H", data, first)[0]
        for at in range(first + 2, min(first + 2 + 12 * num_entries, end - 11), 12):
            if data.startswith(tag, at):
                if data.startswith(usual, at):
                    value = struct.unpack_from(order + "H", data, at + 8)[0]
                elif (found := _entry_value(data, at, start, end, order)) is not None:
                    value = found
    except struct.error:
        pass
    return value


def _entry_value(data: bytes, at: int, start: int, end: int, order: str) -> float | None:
    """The first number in the entry at `at`; 0 where it holds bytes; None where its values are not all there."""
    kind, count = struct.unpack_from(order + "HI", data, at + 2)
    if kind not in _TYPES:
        return 0 if kind in _BYTES and count else None
    layout, place = order + _TYPES[kind], at + 8
    size = count * struct.calcsize(layout)
    if size > 4:
        place = start + struct.unpack_from(order + "I", data, place)[0]
    if not size or place + size > end:
        return None
    value, *below = struct.unpack_from(layout, data, place)
    if below:
        return value / below[0] if below[0] else 0
    return value
