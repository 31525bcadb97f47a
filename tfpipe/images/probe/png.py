"""PNG: an intact IHDR chunk, the names of all chunks, and IEND."""

from __future__ import annotations

import struct
import zlib

from tfpipe.images.probe.exif import exif_orientation
from tfpipe.images.probe.header import ImageHeader, check_size, refuse

_FIRST, _END = b"\0\0\0\x0dIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # By colour type.
_PALETTE = 3
_MAX_SIDE = 1_000_000  # libpng's own limit, below the format's 2**31 - 1


def read_png(data: bytes) -> ImageHeader:
    """The header of a PNG that has an intact IHDR, all chunks it needs, and its end."""
    width, height, depth, colour, compression, filtering, interlace, crc = struct.unpack_from(">IIBBBBBI", data, 16)
    if data[8:16] != _FIRST or zlib.crc32(data[12:29]) != crc:
        refuse("bad_header", "The PNG does not begin with an intact IHDR chunk.")
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        refuse(
            "bad_header",
            f"The PNG has colour type {colour} of {depth} bits, methods {compression}, {filtering} "
            f"and {interlace}; no such PNG exists.",
        )
    size = check_size("PNG", height, width, _MAX_SIDE)
    chunks = _chunks(data)
    needed = {b"IDAT", b"PLTE"} if colour == _PALETTE else {b"IDAT"}
    critical = {name for name in chunks if not name[0] & 0x20}
    if not needed <= critical <= {b"IDAT", b"PLTE"}:
        refuse("bad_header", f"The PNG has the critical chunks {sorted(critical)[:8]}; it needs {sorted(needed)}.")
    return ImageHeader("png", *size, exif_orientation(data, *chunks.get(b"eXIf", (0, 0))))


def _chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Name to (start, end) of each chunk's content, between IHDR and IEND; of several with one name the last."""
    at, chunks = 33, {}
    while not data.startswith(_END, at):
        name = data[at + 4 : at + 8]
        if len(name) < 4:
            refuse("truncated", f"The PNG is cut: no IEND chunk ends it; {len(data)} bytes came.")
        end = at + 8 + int.from_bytes(data[at : at + 4])
        chunks[name] = at + 8, end
        at = end + 4
    return chunks
