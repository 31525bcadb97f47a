"""PNG: an intact IHDR chunk, the names of all chunks, and IEND."""

from __future__ import annotations

import struct
import zlib

from tfpipe.images.probe.exif import find_orientation, profile_exif
from tfpipe.images.probe.header import ImageHeader, check_size, refuse

_FIRST, _END = b"\0\0\0\x0dIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # By colour type.
_PALETTE = 3
_PROFILE, _XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
_MOST_TEXT = 1 << 20  # Pillow's limit, against bombs
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
    return ImageHeader("png", *size, _orientation(data, chunks))


def is_gray_of_16_bits(data: bytes) -> bool:
    """Whether a PNG that was probed has 16 bits of gray, of which decoders keep 8."""
    return data[24] == 16 and data[25] in (0, 4)


def _orientation(data: bytes, chunks: dict[bytes, list[tuple[int, int]]]) -> int:
    texts = dict(
        pair
        for name in (b"tEXt", b"zTXt", b"iTXt")
        for span in chunks.get(name, ())
        if (pair := _text(name, data[slice(*span)])) is not None
    )
    exif = data[slice(*chunks[b"eXIf"][-1])] if b"eXIf" in chunks else None
    if exif is None and _PROFILE in texts:
        exif = profile_exif(texts[_PROFILE])
    return find_orientation(exif, texts.get(_XMP))


def _text(name: bytes, content: bytes) -> tuple[bytes, bytes] | None:
    """The keyword and the text of a chunk that may tell the orientation; None where it can't, or is damaged."""
    keyword, _, text = content.partition(b"\0")
    if keyword not in (_PROFILE, _XMP):
        return None
    packed = name == b"zTXt"
    if name == b"iTXt":
        packed = text[:1] != b"\0"
        text = text[2:].split(b"\0", 2)[-1]
    elif packed:
        text = text[1:]
    try:
        return keyword, _unpack(text) if packed else text
    except zlib.error:
        return None


def _unpack(packed: bytes) -> bytes:
    return zlib.decompressobj().decompress(packed, _MOST_TEXT)


def _chunks(data: bytes) -> dict[bytes, list[tuple[int, int]]]:
    """Name to (start, end) of each chunk's content, between IHDR and IEND."""
    at, chunks = 33, dict[bytes, list[tuple[int, int]]]()
    while not data.startswith(_END, at):
        name = data[at + 4 : at + 8]
        if len(name) < 4:
            refuse("truncated", f"The PNG is cut: no IEND chunk ends it; {len(data)} bytes came.")
        end = at + 8 + int.from_bytes(data[at : at + 4])
        chunks.setdefault(name, []).append((at + 8, end))
        at = end + 4
    return chunks
