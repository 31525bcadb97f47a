"""JPEG: the markers up to the scan, and the end marker."""

from __future__ import annotations

import re
import struct

from tfpipe.images.probe.exif import find_orientation
from tfpipe.images.probe.header import ImageHeader, check_size, refuse, refuse_format

_END, _SCAN, _APP1, _APP14 = b"\xff\xd9", 0xDA, 0xE1, 0xEE
# Tables, comments and APPn segments, which are jumped over. libjpeg stops at markers that are in no list here.
_SKIPPED = frozenset([0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE])
_BARE = frozenset([0x01, *range(0xD0, 0xD8)])  # No length follows.
# Baseline, extended, progressive, and the two arithmetic-coded kinds that TensorFlow's libjpeg-turbo decodes.
_FRAMES = frozenset([0xC0, 0xC1, 0xC2, 0xC9, 0xCA])
# Lossless, with Huffman and arithmetic codes, which some builds of Pillow read.
_OTHER_FRAMES = frozenset([0xC3, 0xCB])
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_MAX_SIDE = 65_500  # libjpeg's own limit, below the format's 65535
_MARKER = re.compile(rb"\xff[^\x00\xff]")


def read_jpeg(data: bytes) -> ImageHeader:
    """The header of a JPEG whose scan begins and that ends with an end marker."""
    at, size, is_cmyk, has_adobe = 2, None, False, False
    exif: list[tuple[int, int]] = []
    xmp = None
    while True:
        if data[at] != 0xFF or data[at + 1] in b"\x00\xff":
            at = _next_marker(data, at)
        marker = data[at + 1]
        at += 2
        if marker in _SKIPPED:
            if marker == _APP1:
                if data.startswith(_EXIF, at + 2):
                    exif.append((at + 8, at + (data[at] << 8 | data[at + 1])))
                elif data.startswith(_XMP, at + 2):
                    xmp = data[at + 2 : at + (data[at] << 8 | data[at + 1])]
            elif marker == _APP14:
                has_adobe |= data.startswith(b"Adobe", at + 2)
        elif marker in _FRAMES and size is None:
            size = _size(data, at)
            is_cmyk = data[at + 7] == 4
        elif marker in _BARE:
            continue
        elif marker == _SCAN and size is not None:
            break
        else:
            said = f"JPEG marker FF {marker:02X} is at byte {at - 2}, where it can't be decoded."
            refuse("bad_header", said, pillow="JPEG" if marker in _OTHER_FRAMES else "")
        at += data[at] << 8 | data[at + 1]  # A length below 2 is junk, and skipped as junk.
    _check_scan(data, at)
    if is_cmyk and not has_adobe:
        # Photoshop stores its ink inverted; Pillow takes all CMYK for Photoshop's, decode_image what says so.
        refuse_format("CMYK JPEG without Adobe's marker", pillow="JPEG")
    orientation = 1
    if len(exif) > 1:  # One block in several segments.
        orientation = find_orientation(b"".join([data[start:end] for start, end in exif]), xmp)
    elif exif:
        orientation = find_orientation(data, xmp, start=exif[0][0], end=exif[0][1])
    elif xmp is not None:
        orientation = find_orientation(None, xmp)
    return ImageHeader("jpeg", *size, orientation)


def _next_marker(data: bytes, at: int) -> int:
    """The byte at which the next marker starts; like libjpeg, junk and fill bytes before it are skipped."""
    found = _MARKER.search(data, at)
    if found is None:
        raise IndexError
    return found.start()


def _size(data: bytes, at: int) -> tuple[int, int]:
    length, precision, height, width, components = struct.unpack_from(">HBHHB", data, at)
    if precision != 8 or components not in (1, 3, 4) or length != 8 + 3 * components:
        refuse(
            "bad_header",
            f"The JPEG frame at byte {at} has {length} bytes for {components} components of "
            f"{precision} bits; supported are 1, 3 or 4 components of 8.",
            pillow="JPEG",
        )
    return check_size("JPEG", height, width, _MAX_SIDE)


def _check_scan(data: bytes, at: int) -> None:
    length = data[at] << 8 | data[at + 1]
    if length != 6 + 2 * data[at + 2]:
        refuse("bad_header", f"The JPEG scan header at byte {at} has {length} bytes for {data[at + 2]} components.")
    # Searched from the scan on, so that an EXIF thumbnail's end marker is not taken for the image's.
    if not data.endswith(_END, at + length) and data.rfind(_END, at + length) < 0:
        refuse("truncated", f"The JPEG is cut: no end marker FF D9 follows the scan; {len(data)} bytes came.")
