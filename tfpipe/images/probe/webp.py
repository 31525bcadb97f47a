"""WebP: the RIFF chunks, and the header of the VP8 or VP8L picture."""

from __future__ import annotations

import struct

from tfpipe.images.probe.exif import find_orientation
from tfpipe.images.probe.header import ImageHeader, check_size, refuse, refuse_format, refuse_kind

_ANIMATED, _XMP, _EXIF, _ALPHA, _MAX_SIDE = 0x02, 0x04, 0x08, 0x10, 16_384


def read_webp(data: bytes) -> ImageHeader:
    """The header of a still, opaque WebP."""
    if data[8:12] != b"WEBP":
        refuse_kind("a RIFF file of another kind (sound or video)")
    end = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < end:
        refuse("truncated", f"The WebP is cut: its header announces {end} bytes; {len(data)} came.")
    chunks = _chunks(data, end)
    flags, canvas = 0, None
    if data[12:16] == b"VP8X":
        flags = data[20]
        canvas = int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if flags & _ANIMATED:
        refuse_format("Animated WebP", pillow="WEBP")
    size, has_alpha = _picture(data, chunks, flags)
    if canvas not in (None, size):
        said = f"The WebP has a canvas of {canvas} but an image of {size}; they must be equal."
        refuse("bad_header", said, pillow="WEBP")
    if has_alpha:
        refuse_format("WebP with transparency", pillow="WEBP")  # decode_image rejects it when asked for 3 channels.

    def content(name: bytes, flag: int) -> bytes | None:
        return data[slice(*chunks[name])] if flags & flag and name in chunks else None

    return ImageHeader("webp", *size, find_orientation(content(b"EXIF", _EXIF), content(b"XMP ", _XMP)))


def _chunks(data: bytes, end: int) -> dict[bytes, tuple[int, int]]:
    """Name to (start, end) of each chunk's content; of several with one name the first."""
    at, chunks = 12, dict[bytes, tuple[int, int]]()
    while at + 8 <= end:
        name, chunk_end = data[at : at + 4], at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if chunk_end > end:
            refuse("bad_header", f"The WebP chunk {name!r} reaches byte {chunk_end}, past the end at {end}.")
        chunks.setdefault(name, (at + 8, chunk_end))
        at = chunk_end + (chunk_end & 1)
    return chunks


def _picture(data: bytes, chunks: dict[bytes, tuple[int, int]], flags: int) -> tuple[tuple[int, int], bool]:
    """The (height, width) in the picture's own header, and whether decoding yields an alpha channel."""
    first = data[12:16]
    if b"VP8 " in chunks and first in (b"VP8 ", b"VP8X"):
        tag, start_code, width, height = struct.unpack_from("<B2x3sHH", data, chunks[b"VP8 "][0])
        # A key frame (bit 0) of profile 0 to 3 (bits 1-3), shown (bit 4); the top bits of each side ask for scaling.
        if tag & 0b11001 == 0b10000 and start_code == b"\x9d\x01\x2a":
            size = check_size("WebP", height & 0x3FFF, width & 0x3FFF, _MAX_SIDE)
            return size, bool(flags & _ALPHA) or b"ALPH" in chunks
    elif b"VP8L" in chunks and first in (b"VP8L", b"VP8X"):
        signature, bits = struct.unpack_from("<BI", data, chunks[b"VP8L"][0])
        if signature == 0x2F and bits >> 29 == 0:
            return ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1), bool(bits >> 28)
    return refuse("bad_header", f"The WebP holds no intact VP8 or VP8L image; its chunks are {sorted(chunks)[:8]}.")
