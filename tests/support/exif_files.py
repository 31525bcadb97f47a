"""Image files with an orientation in EXIF or XMP, in every container, byte order and type of number."""

from __future__ import annotations

import struct
import zlib

from probe_files import good, png_chunk, webp, with_inserted

# Number of the type, its layout in struct.
TYPES = {"BYTE": (1, "B"), "SHORT": (3, "H"), "LONG": (4, "I"), "SBYTE": (6, "b"), "UNDEFINED": (7, "B"),
         "SSHORT": (8, "h"), "SLONG": (9, "i"), "RATIONAL": (5, "II"), "SRATIONAL": (10, "ii"), "FLOAT": (11, "f"),
         "DOUBLE": (12, "d"), "LONG8": (16, "Q"), "unknown": (99, "H")}  # fmt: skip
ORDERS = {"II": ("<", b"II*\0"), "MM": (">", b"MM\0*"), "II swapped": ("<", b"II\0*"), "MM swapped": (">", b"MM*\0")}


def block(value: float, *, order: str = "II", kind: str = "SHORT", count: int = 1, entries: int = 1) -> bytes:
    """An EXIF block with the orientation as its second entry of three, without JPEG's prefix."""
    mark, start = ORDERS[order]
    number, layout = TYPES[kind]
    body = struct.pack(mark + layout, *([value, 1] if len(layout) == 2 else [value]))
    rows = [(0x0100, 3, 1, struct.pack(mark + "HH", 40, 0))] + entries * [(0x0112, number, count, body)]
    rows.append((0x0128, 3, 1, struct.pack(mark + "HH", 2, 0)))
    behind, table = b"", b""
    for tag, number, count, content in rows:
        if len(content) > 4:
            place = 8 + 2 + 12 * len(rows) + 4 + len(behind)
            behind, content = behind + content, struct.pack(mark + "I", place)
        table += struct.pack(mark + "HHI", tag, number, count) + content.ljust(4, b"\0")
    return start + struct.pack(mark + "IH", 8, len(rows)) + table + bytes(4) + behind


def profile(exif: bytes) -> bytes:
    """The text of ImageMagick's raw profile."""
    digits = exif.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\n".join(["\nexif", f"{len(exif):>8}", *lines, ""]).encode()


def segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content


def jpeg(*contents: bytes) -> bytes:
    return with_inserted("jpeg", b"\xff\xdb", b"".join(map(segment, contents)))


def png(*chunks: tuple[bytes, bytes], late: bool = False) -> bytes:
    return with_inserted(
        "png", b"\0\0\0\0IEND" if late else good("png")[33:41], b"".join(png_chunk(*chunk) for chunk in chunks)
    )


def extended_webp(flags: int, *chunks: tuple[bytes, bytes]) -> bytes:
    return webp((b"VP8X", bytes([flags, 0, 0, 0, 39, 0, 0, 29, 0, 0])), (b"VP8 ", good("webp")[20:]), *chunks)


XAP = b"http://ns.adobe.com/xap/1.0/\0"
ELEMENT, ATTRIBUTE = "<tiff:Orientation>{}</tiff:Orientation>", '<a tiff:Orientation="{}"/>'


def xmp(value: object, form: str = ATTRIBUTE) -> bytes:
    return b"<x:xmpmeta>" + form.format(value).encode() + b"</x:xmpmeta>"


def itxt(text: bytes, *, packed: bool = False) -> tuple[bytes, bytes]:
    body = zlib.compress(text) if packed else text
    return b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, 0]) + b"\0\0" + body


def containers(exif: bytes) -> dict[str, bytes]:
    """Files of each format that hold an EXIF block, in each way there is."""
    text = profile(b"Exif\0\0" + exif)
    return {
        "jpeg": jpeg(b"Exif\0\0" + exif),
        "png": png((b"eXIf", exif)),
        "png, behind the pixels": png((b"eXIf", exif), late=True),
        "png, zTXt profile": png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))),
        "png, tEXt profile": png((b"tEXt", b"Raw profile type exif\0" + text)),
        "webp": extended_webp(8, (b"EXIF", exif)),
    }
