"""What libjpeg says of the files that it decodes: kept from stderr, and told to the file that it speaks of.

libjpeg has no way to ask: it prints its first complaint of a file to stderr, fills what is missing with gray, and goes
on. So stderr is held back while images are decoded, and other lines are passed on. A file during whose decoding there
was a complaint, its own or that of a file beside it, is decoded once more, alone, and once again without what may hide
a second complaint.

    with listening() as heard:
        pixels = decode(data)
    complaint = find_complaint(data, decode) if heard() else None

A progressive file that ends between two of its scans is complete for libjpeg; `missing_scans` counts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from beam_jobs.sources.listing import Refusal
from tfpipe.images.decoder_lines import listening

# Pixels are right all the same. Bytes too many at the end of a scan are many cameras' and editors' habit.
_HARMLESS = re.compile(
    rb"Corrupt JPEG data: \d+ extraneous bytes before marker 0x(?!d[0-7])|Invalid SOS parameters for sequential JPEG"
    rb"|Warning: unknown JFIF revision|Unknown Adobe color transform code|Corrupt JPEG data: bad ICC marker"
)
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+(\.\d+)?")


def find_complaint(data: bytes, decode: Callable[[bytes], object]) -> str | None:
    """Libjpeg's harmless complaint of a JPEG, its numbers as N; None where it has none.

    Args:
      data: the file.
      decode: decodes it.

    Raises:
      Refusal: "corrupt_pixels": pixels are missing or wrong.
    """
    said = _said_of(data, decode)
    if not said:
        return None
    # libjpeg prints the first complaint only: without the causes of the harmless ones it prints what they may hide.
    try:
        left = _said_of(_bare_jpeg(data), decode)
    except Exception:
        left = said
    for line in left:
        if not _HARMLESS.match(line):
            raise Refusal("corrupt_pixels", f"Pixels are missing or wrong; libjpeg says: {line.decode()}.")
    return _NUMBER.sub("N", said[0].decode())


def _said_of(data: bytes, decode: Callable[[bytes], object]) -> list[bytes]:
    with listening(alone=True) as heard:
        decode(data)
        return heard()


# ---- the segments of a JPEG


_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_KEPT = frozenset([0xC4, 0xCC, 0xDB, 0xDD])
_SEQUENTIAL, _PROGRESSIVE = frozenset([0xC0, 0xC1, 0xC9]), frozenset([0xC2, 0xCA])
_SCAN, _END, _BARE = 0xDA, 0xD9, frozenset([0x01, *range(0xD0, 0xD9)])


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields the marker, the content and the end of each segment of a probed JPEG; behind a scan's are its pixels."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None and (marker := data[found.start() + 1]) != _END:
        at = found.end()
        if marker not in _BARE:
            start, at = at + 2, at + int.from_bytes(data[at : at + 2])
            yield marker, data[start:at], at
        if marker == _SCAN:
            at = _scan_end(data, at)


def _scan_end(data: bytes, at: int) -> int:
    found = _SCAN_END.search(data, at)
    return found.start() if found else len(data)


def _bare_jpeg(data: bytes) -> bytes:
    """The JPEG without what decoders complain of harmlessly: junk, application data, wrong numbers in a scan's head."""
    parts, sequential = [b"\xff\xd8"], False
    for marker, content, end in _segments(data):
        pixels = b""
        if marker in _SEQUENTIAL | _PROGRESSIVE:
            sequential = marker in _SEQUENTIAL
        elif marker == _SCAN:
            pixels = data[end : _scan_end(data, end)]
            if sequential:
                content = content[: 1 + 2 * content[0]] + b"\0\x3f\0"
        elif marker not in _KEPT:
            continue
        parts += [bytes([0xFF, marker]), struct.pack(">H", len(content) + 2), content, pixels]
    return b"".join([*parts, b"\xff\xd9"])


def missing_scans(data: bytes) -> str | None:
    """What the scans of a JPEG leave out, as a phrase; None where they hold every bit of every component."""
    missing: dict[int, list[int]] = {}
    sequential = True
    for marker, content, _ in _segments(data):
        if marker in _SEQUENTIAL | _PROGRESSIVE:
            # For each component and frequency, the lowest bit that came; 16 before any.
            missing = {number: [16] * 64 for number in content[6::3]}
            sequential = marker in _SEQUENTIAL
        elif marker == _SCAN:
            numbers = content[1 : 1 + 2 * content[0] : 2]
            if sequential and len(numbers) == len(missing):
                return None  # All in one scan, the usual case: its pixels are not looked through.
            first, last, bits = (0, 63, 0) if sequential else content[-3:]
            for number in numbers:
                missing.get(number, [])[first : last + 1] = [bits & 15] * (last + 1 - first)
    count = sum(bit > 0 for bits in missing.values() for bit in bits)
    if not count:
        return None
    return f"its scans leave out bits of {count} of the {64 * len(missing)} frequencies of its components"
