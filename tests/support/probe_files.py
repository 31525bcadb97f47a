"""Image files of every kind that the probe reads, and of every kind that it refuses."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 30, 40


# Name -> Pillow's mode, format and options: files that tfpipe reads.
GOOD: dict[str, tuple[str, str, dict[str, object]]] = {
    "jpeg": ("RGB", "JPEG", {}),
    "jpeg_progressive": ("RGB", "JPEG", {"progressive": True}),
    "jpeg_gray": ("L", "JPEG", {}),
    "jpeg_cmyk": ("CMYK", "JPEG", {}),
    "jpeg_restarts": ("RGB", "JPEG", {"restart_marker_rows": 1}),
    "jpeg_comment": ("RGB", "JPEG", {"comment": b"\xff\xd9\xff\xc0 not markers"}),
    "png": ("RGB", "PNG", {}),
    "png_rgba": ("RGBA", "PNG", {}),
    "png_gray": ("L", "PNG", {}),
    "png_gray_alpha": ("LA", "PNG", {}),
    "png_palette": ("P", "PNG", {}),
    "png_one_bit": ("1", "PNG", {}),
    "png_16_bit": ("I;16", "PNG", {}),
    "png_animated": ("RGB", "PNG", {"save_all": True}),
    "gif": ("P", "GIF", {}),
    "gif_animated": ("P", "GIF", {"save_all": True}),
    "bmp": ("RGB", "BMP", {}),
    "bmp_rgba": ("RGBA", "BMP", {}),
    "bmp_gray": ("L", "BMP", {}),
    "webp": ("RGB", "WEBP", {}),
    "webp_lossless": ("RGB", "WEBP", {"lossless": True}),
    "webp_extended": ("RGB", "WEBP", {"xmp": b"<x/>"}),
}


def picture(mode: str = "RGB", height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """A noisy image; its alpha, where the mode has one, varies."""
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 4), np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise.view(np.uint16)[..., 0])
    return Image.fromarray(noise).convert("RGBA" if mode in ("RGBA", "LA") else "RGB").convert(mode)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@cache
def good(name: str) -> bytes:
    mode, format, options = GOOD[name]
    image = picture(mode)
    more = {"append_images": [image.rotate(180)]} if "save_all" in options else {}
    return saved(image, format, **options, **more)


def exif(orientation: int, order: str = "II") -> bytes:
    """An EXIF block of three tags, the orientation in their midst."""
    mark, tag = ("<", b"II*\0") if order == "II" else (">", b"MM\0*")
    entries = [(0x0100, 3, 1, WIDTH, 0), (0x0112, 3, 1, orientation, 0), (0x0128, 3, 1, 2, 0)]
    body = b"".join(struct.pack(mark + "HHIHH", *entry) for entry in entries)
    return b"Exif\0\0" + tag + struct.pack(mark + "IH", 8, len(entries)) + body + bytes(4)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(height: int, width: int, *, kind: tuple[int, ...] = (8, 2, 0, 0, 0), more: bytes = b"") -> bytes:
    """A PNG with the header asked for; its pixels fit 1 x 1 only."""
    header = png_chunk(b"IHDR", struct.pack(">II5B", width, height, *kind))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(4)))
    return b"\x89PNG\r\n\x1a\n" + header + more + pixels + png_chunk(b"IEND", b"")


def gif(frames: list[tuple[int, int]], screen: tuple[int, int] = (7, 9)) -> bytes:
    """A GIF of frames (height, width) on a logical screen, each frame Pillow's own code of a black image."""
    blocks = b""
    for height, width in frames:
        alone = saved(Image.new("1", (width, height)).convert("P"), "GIF")
        at = alone.rfind(b"," + struct.pack("<HHHH", 0, 0, width, height))
        table_bytes = 3 << (alone[at + 9] & 7) + 1 if alone[at + 9] & 0x80 else 0
        blocks += alone[at : at + 9] + b"\0" + alone[at + 10 + table_bytes : -1]
    return b"GIF89a" + struct.pack("<HHBBB", screen[1], screen[0], 0x80, 0, 0) + bytes(3) + b"\xff" * 3 + blocks + b";"


def bmp(bits: int, *, height: int = 2, compression: int = 0, masks: tuple[int, ...] = ()) -> bytes:
    """A BMP of `height` rows of 4 black pixels; negative heights go top-down."""
    extra = struct.pack(f"<{len(masks)}I", *masks)
    pixels = bytes(abs(height) * max(4, bits // 2))
    start = 54 + len(extra)
    head = struct.pack("<IiiHHIIiiII", 40, 4, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + extra + pixels


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(n + struct.pack("<I", len(c)) + c + bytes(len(c) & 1) for n, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def with_inserted(name: str, mark: bytes, inserted: bytes) -> bytes:
    """The good file with bytes put in before the first `mark`."""
    data = good(name)
    at = data.index(mark)
    return data[:at] + inserted + data[at:]


def canvas(flags: int, height: int, width: int) -> bytes:
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


# ---- Refusals ----
FORMATS = "jpeg, png, gif, bmp, webp"


NOT_READ = f"not supported; convert it to one of: {FORMATS}."


JPEG, PNG, WEBP = good("jpeg"), good("png"), good("webp")


SOF, SOS = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")


VP8 = WEBP[20:]


LOOKS = {
    "HTML": b"\xef\xbb\xbf\n <!DOCTYPE html><svg>",
    "XML": b"<?xml version='1.0'?><a/>",
    "JSON": b'{"error": 404}',
    "PDF": b"%PDF-1.7",
    "a ZIP archive": b"PK\x03\x04",
    "gzip": b"\x1f\x8b\x08",
    "a video": b"\0\0\0\x20ftypisom",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1",
    "text": b"404 Not Found",
    "a PNG whose line ends were rewritten": b"\x89PNG\n\x1a\n",
    "a RIFF file of another kind (sound or video)": b"RIFF\x04\0\0\0WAVE",
    "nothing known, beginning with 00 01 02": b"\0\1\2",
}


OTHERS = {
    "TIFF": saved(picture(), "TIFF"),
    "ICO": saved(picture(), "ICO"),
    "AVIF": b"\0\0\0\x20ftypavif",
    "HEIC": b"\0\0\0\x20ftypheic",
    "JPEG XL": b"\xff\x0a\0",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "PSD": b"8BPS\0\1",
    "SVG": b"<?xml version='1.0'?>\n<svg width='4'/>",
    "Animated WebP": saved(picture(), "WEBP", save_all=True, append_images=[picture().rotate(180)]),
    "WebP with transparency": saved(picture("RGBA"), "WEBP"),
    "BMP of 1 bits a pixel with compression 0": saved(picture("1"), "BMP"),
    "BMP of 16 bits a pixel with compression 0": bmp(16),
    "BMP of 8 bits a pixel with compression 1": bmp(8, compression=1),
    "BMP of 32 bits a pixel with compression 3": bmp(32, compression=3, masks=(0xFF, 0xFF00, 0xFF0000)),
    "BMP with a palette of colours": saved(picture("P"), "BMP"),
    "BMP with an OS/2 header": b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 4, 2, 1, 24) + bytes(40),
}


JPEG_MARKER = f"is at byte {SOF}, where it can't be decoded."


# Reason, sentence, bytes.
REFUSED: list[tuple[str, str, bytes]] = [
    ("empty", "The file has 0 bytes.", b""),
    *(
        ("not_an_image", f"The bytes look like {look}, not like an image; supported are: {FORMATS}.", data)
        for look, data in LOOKS.items()
    ),
    *(("unsupported_format", f"{kind} is {NOT_READ}", data) for kind, data in OTHERS.items()),
    *(
        ("unsupported_format", f"WebP with transparency is {NOT_READ}", data)
        for data in [
            saved(picture("RGBA"), "WEBP", lossless=True),
            webp((b"VP8X", canvas(0x10, HEIGHT, WIDTH)), (b"VP8 ", VP8)),
            webp((b"VP8X", canvas(0, HEIGHT, WIDTH)), (b"ALPH", b"\0"), (b"VP8 ", VP8)),
        ]
    ),
    ("unsupported_format", f"BMP with a palette of colours is {NOT_READ}", bmp(8, masks=(0xFFFFFF, 0))),
    *(
        ("bad_header", f"The {name} header breaks off; {n} bytes came.", good(name.lower())[:n])
        for name, n in [("JPEG", 3), ("JPEG", SOF + 6), ("PNG", 20), ("GIF", 8), ("BMP", 20)]
    ),
    *(
        ("bad_header", f"JPEG marker FF {marker:02X} {JPEG_MARKER}", with_byte(JPEG, SOF + 1, marker))
        for marker in [0x02, 0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xCB, 0xCD, 0xCE, 0xCF, 0xD8, 0xF0]
    ),
    ("bad_header", f"JPEG marker FF DA {JPEG_MARKER}", JPEG[:SOF] + JPEG[SOS:]),
    ("bad_header", f"JPEG marker FF D9 {JPEG_MARKER}", JPEG[:SOF] + JPEG[-2:]),
    (
        "bad_header",
        f"JPEG marker FF C0 is at byte {SOF + 19}, where it can't be decoded.",
        JPEG[: SOF + 19] + JPEG[SOF:],
    ),
    *(
        (
            "bad_header",
            f"The JPEG frame at byte {SOF + 2} has {length} bytes for {components} components of {bits} bits; "
            "supported are 1, 3 or 4 components of 8.",
            JPEG[: SOF + 3] + bytes([length, bits]) + JPEG[SOF + 5 : SOF + 9] + bytes([components]) + JPEG[SOF + 10 :],
        )
        for length, components, bits in [(17, 3, 12), (17, 4, 8), (14, 2, 8)]
    ),
    ("bad_header", "The JPEG gives its size as 0 x 40; 1 to 65500 a side is allowed.", with_byte(JPEG, SOF + 6, 0)),
    (
        "bad_header",
        "The JPEG gives its size as 65535 x 40; 1 to 65500 a side is allowed.",
        JPEG[: SOF + 5] + b"\xff\xff" + JPEG[SOF + 7 :],
    ),
    (
        "bad_header",
        f"The JPEG scan header at byte {SOS + 2} has 12 bytes for 0 components.",
        with_byte(JPEG, SOS + 4, 0),
    ),
    ("bad_header", "The PNG does not begin with an intact IHDR chunk.", with_byte(PNG, 19, 41)),
    ("bad_header", "The PNG does not begin with an intact IHDR chunk.", PNG[:8] + png_chunk(b"tEXt", b"") + PNG[8:]),
    *(
        (
            "bad_header",
            f"The PNG has colour type 2 of {bits} bits, methods {a}, {b} and {c}; no such PNG exists.",
            png(1, 1, kind=(bits, 2, a, b, c)),
        )
        for bits, a, b, c in [(4, 0, 0, 0), (8, 1, 0, 0), (8, 0, 1, 0), (8, 0, 0, 2)]
    ),
    *(
        (
            "bad_header",
            f"The PNG gives its size as {height} x {width}; 1 to 1000000 a side is allowed.",
            png(height, width),
        )
        for height, width in [(1, 0), (1_000_001, 1)]
    ),
    *(
        ("bad_header", f"The PNG has the critical chunks {found}; it needs {needed}.", data)
        for found, needed, data in [
            ([b"IDAT"], [b"IDAT", b"PLTE"], png(1, 1, kind=(8, 3, 0, 0, 0))),
            ([b"ABCD", b"IDAT"], [b"IDAT"], png(1, 1, more=png_chunk(b"ABCD", b""))),
            ([], [b"IDAT"], PNG[:33] + PNG[-12:]),
        ]
    ),
    ("bad_header", "The GIF gives its size as 0 x 0; 1 to 65535 a side is allowed.", gif([])),
    (
        "bad_header",
        "The BMP header gives 41 as its length; known are (40, 52, 56, 64, 108, 124).",
        with_byte(good("bmp"), 14, 41),
    ),
    ("bad_header", "The BMP gives its size as 0 x 4; 1 to 2147483647 a side is allowed.", bmp(24, height=0)),
    ("bad_header", "The BMP is 2 bytes longer than its header says; 80 came.", bmp(24) + b"\0\0"),
    *(
        ("bad_header", f"The WebP holds no intact VP8 or VP8L image; its chunks are {names}.", data)
        for names, data in [
            ([b"VP8X"], webp((b"VP8X", canvas(0, 4, 4)))),
            ([b"ABCD", b"VP8 "], webp((b"ABCD", b""), (b"VP8 ", VP8))),
            ([b"VP8 "], with_byte(WEBP, 23, 0)),  # start code
            ([b"VP8 "], with_byte(WEBP, 20, VP8[0] | 1)),  # not a key frame
            ([b"VP8 "], with_byte(WEBP, 20, VP8[0] & ~0x10)),  # not shown
            ([b"VP8L"], with_byte(good("webp_lossless"), 20, 0)),  # signature
            ([b"VP8L"], with_byte(good("webp_lossless"), 24, 0x20)),
        ]
    ),  # version
    ("bad_header", "The WebP gives its size as 30 x 0; 1 to 16384 a side is allowed.", with_byte(WEBP, 26, 0)),
    (
        "bad_header",
        "The WebP has a canvas of (30, 41) but an image of (30, 40); they must be equal.",
        webp((b"VP8X", canvas(0, HEIGHT, WIDTH + 1)), (b"VP8 ", VP8)),
    ),
    (
        "bad_header",
        f"The WebP chunk b'VP8 ' reaches byte {len(WEBP) + 4}, past the end at {len(WEBP)}.",
        WEBP[:16] + struct.pack("<I", len(VP8) + 4) + VP8,
    ),
    ("truncated", f"The JPEG is cut: no end marker FF D9 follows the scan; {len(JPEG) - 2} bytes came.", JPEG[:-2]),
    (
        "truncated",
        f"The JPEG is cut: no end marker FF D9 follows the scan; {SOS + 14} bytes came.",
        JPEG[: SOS + 12] + b"\xff\xd9",
    ),
    ("truncated", f"The PNG is cut: no IEND chunk ends it; {len(PNG) - 12} bytes came.", PNG[:-12]),
    (
        "truncated",
        f"The GIF is cut: there is no trailer 3B where its blocks end; {len(good('gif')) - 1} bytes came.",
        good("gif")[:-1],
    ),
    ("truncated", "The BMP is cut: its pixels begin at byte 1078; 999 came.", good("bmp_gray")[:999]),
    ("truncated", "The BMP is cut: 3 bytes are missing; 75 came.", bmp(24)[:-3]),
    ("truncated", f"The WebP is cut: its header announces {len(WEBP)} bytes; {len(WEBP) - 1} came.", WEBP[:-1]),
    (
        "too_many_pixels",
        "The image has 20000 x 20000 = 400000000 pixels; --max_pixels allows 67108864.",
        png(20_000, 20_000),
    ),
    ("too_many_pixels", "The image has 8192 x 8193 = 67117056 pixels; --max_pixels allows 67108864.", png(8192, 8193)),
]
