"""Files of other kinds: the refusal names the kind, so that a user knows what was given."""

from __future__ import annotations

import re
import struct
from typing import NoReturn

from tfpipe.images.probe.header import refuse, refuse_format, refuse_kind

# The offset of a signature, the signature, the name of the kind, and Pillow's where it may read it.
OTHER_IMAGES = (
    (0, b"II*\0", "TIFF", "TIFF"),
    (0, b"MM\0*", "TIFF", "TIFF"),
    (0, b"II+\0", "TIFF", "TIFF"),
    (0, b"MM\0+", "TIFF", "TIFF"),
    (4, b"ftypavi", "AVIF", "AVIF"),
    (4, b"ftyphe", "HEIC", ""),
    (4, b"ftypmif1", "HEIC", ""),
    (4, b"ftypmsf1", "HEIC", ""),
    # TensorFlow 2.21's decode_image knows JPEG XL; nothing else here does.
    (0, b"\xff\x0a", "JPEG XL", ""),
    (4, b"JXL \r\n", "JPEG XL", ""),
    (4, b"jP  \r\n", "JPEG 2000", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", "JPEG2000"),
    (0, b"\0\0\1\0", "ICO", "ICO"),
    (0, b"8BPS", "PSD", ""),
)
_OTHER_FILES = (
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip"),
    (4, b"ftyp", "a video"),
    (0, b"\x89PNG", "a PNG whose line ends were rewritten"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
)
_PPM = re.compile(rb"P[1-6][\s#]")
_TGA_KINDS = {1: (8,), 2: (15, 16, 24, 32), 3: (1, 8, 16)}
# The kind of a TGA, packed (+ 8) or not: indices, colours, gray; and the bits that its pixels may have.
_TGA_BITS = {kind + packed: bits for kind, bits in _TGA_KINDS.items() for packed in (0, 8)}
_OTHER_TEXTS = ((b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"{", "JSON"))


def refuse_stranger(data: bytes) -> NoReturn:
    """Raises NotAnImage with the reason that fits bytes without a supported signature."""
    if not data:
        refuse("empty", "The file has 0 bytes.")
    for at, signature, name, pillow in OTHER_IMAGES:
        if data.startswith(signature, at):
            if name == "HEIC" and b"avif" in data[16 : int.from_bytes(data[:4])]:
                name = pillow = "AVIF"
            refuse_format(name, pillow=pillow)
    for at, signature, name in _OTHER_FILES:
        if data.startswith(signature, at):
            refuse_kind(name)
    head = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head:
        refuse_format("SVG")
    for start, name in _OTHER_TEXTS:
        if head.startswith(start):
            refuse_kind(name)
    is_text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    pillow = "PPM" if _PPM.match(data) else "TGA" if _is_tga(data) else ""
    refuse_kind("text" if is_text else f"nothing known, beginning with {data[:8].hex(' ').upper()}", pillow=pillow)


def _is_tga(data: bytes) -> bool:
    """Whether bytes begin as a TGA does: it has no signature, so every field of its header must fit the others."""
    if len(data) < 18:
        return False
    _, has_map, kind, first, num_colours, map_bits, _, _, width, height, bits, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", data
    )
    fits_map = has_map == 1 and num_colours and map_bits in (15, 16, 24, 32) if kind in (1, 9) else has_map in (0, 1)
    if not has_map and (first or num_colours or map_bits not in (0, 24)):
        return False
    return bool(fits_map and bits in _TGA_BITS.get(kind, ()) and width and height and flags < 0x40)
