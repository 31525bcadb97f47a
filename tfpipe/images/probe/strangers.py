"""Files of other kinds: the refusal names the kind, so that a user knows what was given."""

from __future__ import annotations

from typing import NoReturn

from tfpipe.images.probe.header import refuse, refuse_format, refuse_kind

# The offset of a signature, the signature, the name of the kind.
_OTHER_IMAGES = (
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    # TensorFlow 2.21's decode_image knows JPEG XL; nothing else here does.
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n", "JPEG XL"),
    (4, b"jP  \r\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"8BPS", "PSD"),
)
_OTHER_FILES = (
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip"),
    (4, b"ftyp", "a video"),
    (0, b"\x89PNG", "a PNG whose line ends were rewritten"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
)
_OTHER_TEXTS = ((b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"), (b"{", "JSON"))


def refuse_stranger(data: bytes) -> NoReturn:
    """Raises NotAnImage with the reason that fits bytes without a supported signature."""
    if not data:
        refuse("empty", "The file has 0 bytes.")
    for at, signature, name in _OTHER_IMAGES:
        if data.startswith(signature, at):
            refuse_format(name)
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
    refuse_kind("text" if is_text else f"nothing known, beginning with {data[:8].hex(' ').upper()}")
