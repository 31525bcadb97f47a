"""Image files that Pillow reads and TensorFlow does not, or reads wrongly: one of each kind; and what Pillow sees."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from pictures import file_bytes, photo
from PIL import Image, ImageOps

HEIGHT, WIDTH = 9, 14
COLOUR = Image.fromarray(photo(3, HEIGHT, WIDTH))
ALPHA = Image.fromarray(np.dstack([photo(4, HEIGHT, WIDTH), photo(5, HEIGHT, WIDTH)[..., 0] * 2]))
GRAY = COLOUR.convert("L")
PALETTE = COLOUR.quantize(16)
LINES = COLOUR.convert("1")
# 12 bits, so that the two ways to make 8 of 16 differ.
DEEP = Image.fromarray((photo(6, HEIGHT, WIDTH)[..., 0].astype(np.uint16) << 4) + 9)


def bmp(bits: int, rows: bytes, *, header: int = 40, compression: int = 0, table: bytes = b"", top_down: bool = False,
        end: bytes = b"") -> bytes:  # fmt: skip
    """A BMP of HEIGHT x WIDTH with these packed rows, and a palette or masks behind its header."""
    height = -HEIGHT if top_down else HEIGHT
    if header == 12:
        head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        fields = (40, WIDTH, height, 1, bits, compression, len(rows), 0, 0, len(table) // 4 if bits <= 8 else 0, 0)
        head = struct.pack("<IiiHHIIiiII", *fields)
    start = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + table + rows + end


def _padded(values: np.ndarray) -> bytes:
    rows = [row.tobytes() for row in values]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def _packed(indices: np.ndarray, bits: int) -> bytes:
    spread = np.unpackbits(indices[..., None].astype(np.uint8), axis=2)[..., 8 - bits :]
    return _padded(np.packbits(spread.reshape(len(indices), -1), axis=1))


def _run_lengths(indices: np.ndarray, bits: int) -> bytes:
    """Encoded runs of one pixel, or of two of 4 bits; end of line, end of bitmap."""
    rows = b""
    for row in indices:
        if bits == 8:
            rows += b"".join(bytes([1, value]) for value in row.tolist())
        else:
            rows += b"".join(bytes([2, a << 4 | b]) for a, b in row.reshape(-1, 2).tolist())
        rows += b"\0\0"
    return rows[:-2] + b"\0\1"


INDICES = np.asarray(PALETTE)
_TABLE = np.array(PALETTE.getpalette()[:48], np.uint8).reshape(-1, 3)[:, ::-1]
_COLOURS = b"".join(bytes([*entry, 0]) for entry in _TABLE.tolist())
_RGB = np.asarray(COLOUR)
_565 = (_RGB[..., 0].astype("<u2") >> 3 << 11) | (_RGB[..., 1].astype("<u2") >> 2 << 5) | (_RGB[..., 2] >> 3)


def gif(image: Image.Image = PALETTE, *, at: tuple[int, int] = (0, 0), canvas: tuple[int, int] = (WIDTH, HEIGHT),
        transparent: int | None = None, empty_extension: bool = False) -> bytes:  # fmt: skip
    """A GIF of one frame at (left, top) of a canvas (width, height)."""
    data = file_bytes(image, "GIF")
    frame = data.rfind(b"," + struct.pack("<HHHH", 0, 0, *image.size))
    more = b"" if transparent is None else b"\x21\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    more += b"\x21\xfe\0" if empty_extension else b""
    moved = b"," + struct.pack("<HH", *at) + data[frame + 5 :]
    return b"GIF89a" + struct.pack("<HH", *canvas) + data[10:frame] + more + moved


def cmyk_jpeg(*, adobe: bool) -> bytes:
    data = file_bytes(COLOUR.convert("CMYK"), "JPEG", quality=95)
    at = data.index(b"\xff\xee")
    return data if adobe else data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]


def lossless_jpeg() -> bytes:
    """A gray JPEG of SOF3: each pixel's difference to its left neighbour, in Huffman codes of 4 bits for its length."""
    values = np.asarray(GRAY).astype(int)
    before = np.c_[np.r_[128, values[:-1, 0]], values[:, :-1]]
    code = ""
    for difference in (values - before).ravel().tolist():
        length = abs(difference).bit_length()
        below = difference if difference > 0 else difference + (1 << length) - 1
        code += f"{length:04b}" + (f"{below:0{length}b}" if length else "")
    code += "1" * (-len(code) % 8)
    scan = int(code, 2).to_bytes(len(code) // 8).replace(b"\xff", b"\xff\0")
    table = b"\0" + bytes([0, 0, 0, 10, *[0] * 12]) + bytes(range(10))
    parts = [(0xC3, struct.pack(">BHHBBBB", 8, HEIGHT, WIDTH, 1, 1, 0x11, 0)), (0xC4, table), (0xDA, b"\1\1\0\1\0\0")]
    segments = b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body for marker, body in parts)
    return b"\xff\xd8" + segments + scan + b"\xff\xd9"


def png(kind: int, values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel: uint16 [H, W, C]."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _pnm(kind: str, largest: int, values: np.ndarray) -> bytes:
    return f"{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{largest}\n".encode() + values.tobytes()


_FRAMES = {"save_all": True, "append_images": [ALPHA.rotate(180)]}
_DEEP = np.asarray(DEEP)
# Name -> (the kind under which it is counted, bytes).
STRANGE: dict[str, tuple[str, bytes]] = {
    "moved.gif": ("gif", gif(at=(3, 2), canvas=(20, 12))),
    "beyond.gif": ("gif", gif(at=(3, 2))),
    "small.gif": ("gif", gif(canvas=(WIDTH + 1, HEIGHT))),
    "transparent.gif": ("gif", gif(transparent=2)),
    "empty extension.gif": ("gif", gif(empty_extension=True)),
    "alpha.webp": ("webp", file_bytes(ALPHA, "WEBP")),
    "lossless alpha.webp": ("webp", file_bytes(ALPHA, "WEBP", lossless=True, exact=True)),
    "animated.webp": ("webp", file_bytes(ALPHA, "WEBP", **_FRAMES)),
    "palette.bmp": ("bmp", file_bytes(PALETTE, "BMP")),
    "1.bmp": ("bmp", bmp(1, _packed(np.asarray(LINES), 1), table=b"\0\x40\xff\0\xff\xff\x80\0")),
    "4.bmp": ("bmp", bmp(4, _packed(INDICES, 4), table=_COLOURS)),
    "rle8.bmp": ("bmp", bmp(8, _run_lengths(INDICES, 8), compression=1, table=_COLOURS)),
    "rle4.bmp": ("bmp", bmp(4, _run_lengths(INDICES, 4), compression=2, table=_COLOURS)),
    "16.bmp": ("bmp", bmp(16, _padded(_565 & 0x7FFF))),
    "565.bmp": ("bmp", bmp(16, _padded(_565), compression=3, table=struct.pack("<III", 0xF800, 0x7E0, 0x1F))),
    "top down.bmp": ("bmp", bmp(4, _packed(INDICES, 4), table=_COLOURS, top_down=True)),
    "os2.bmp": ("bmp", bmp(24, _padded(_RGB[::-1, :, ::-1]), header=12)),
    "trailing.bmp": ("bmp", bmp(24, _padded(_RGB), end=b"\0\0\0")),
    "colour.tif": ("tiff", file_bytes(COLOUR, "TIFF")),
    "packed.tif": ("tiff", file_bytes(COLOUR, "TIFF", compression="tiff_lzw")),
    "cmyk.tif": ("tiff", file_bytes(COLOUR.convert("CMYK"), "TIFF")),
    "palette.tif": ("tiff", file_bytes(PALETTE, "TIFF")),
    "lines.tif": ("tiff", file_bytes(LINES, "TIFF", compression="group4")),
    "alpha.tif": ("tiff", file_bytes(ALPHA, "TIFF")),
    "lab.tif": ("tiff", file_bytes(Image.fromarray(_RGB, "LAB"), "TIFF")),
    "big.tif": ("tiff", file_bytes(COLOUR, "TIFF", big_tiff=True)),
    "deep.tif": ("tiff", file_bytes(DEEP, "TIFF")),
    "icon.ico": ("ico", file_bytes(ALPHA.resize((16, 16)), "ICO")),
    "old icon.ico": ("ico", file_bytes(ALPHA.resize((16, 16)), "ICO", bitmap_format="bmp")),
    "colour.tga": ("tga", file_bytes(COLOUR, "TGA")),
    "packed.tga": ("tga", file_bytes(COLOUR, "TGA", compression="tga_rle")),
    "alpha.tga": ("tga", file_bytes(ALPHA, "TGA")),
    "gray.tga": ("tga", file_bytes(GRAY, "TGA")),
    "palette.tga": ("tga", file_bytes(PALETTE, "TGA")),
    "colour.ppm": ("ppm", file_bytes(COLOUR, "PPM")),
    "gray.pgm": ("ppm", file_bytes(GRAY, "PPM")),
    "lines.pbm": ("ppm", file_bytes(LINES, "PPM")),
    "plain.ppm": ("ppm", f"P3\n{WIDTH} {HEIGHT}\n255\n{' '.join(map(str, _RGB.ravel().tolist()))}\n".encode()),
    "12 bits.ppm": ("ppm", _pnm("P6", 4095, (_RGB.astype(np.uint16) << 4).astype(">u2"))),
    "deep.pgm": ("ppm", _pnm("P5", 65535, _DEEP.astype(">u2"))),
    "colour.avif": ("avif", file_bytes(COLOUR, "AVIF")),
    "alpha.avif": ("avif", file_bytes(ALPHA, "AVIF")),
    "colour.jp2": ("jpeg2000", file_bytes(COLOUR, "JPEG2000")),
    "code stream.j2k": ("jpeg2000", file_bytes(COLOUR, "JPEG2000", no_jp2=True)),
    "deep.jp2": ("jpeg2000", file_bytes(DEEP, "JPEG2000")),
    "cmyk.jpg": ("jpeg", cmyk_jpeg(adobe=False)),
    "lossless.jpg": ("jpeg", lossless_jpeg()),
}
# Files of 16 bits of gray, with their values; those of the PGM and the JPEG 2000 are Pillow's.
DEEP_FILES = {
    "gray.png": file_bytes(DEEP, "PNG"),
    "gray alpha.png": png(4, np.dstack([_DEEP, _DEEP[::-1]])),
    **{name: STRANGE[name][1] for name in ("deep.tif", "deep.pgm", "deep.jp2")},
}
DEEP_VALUES = _DEEP


def seen_by_pillow(data: bytes) -> np.ndarray:
    """exif_transpose of the first frame, convert("RGB"), colours under alpha kept; of 16 bits of gray the high 8."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 3, 2)
    return np.asarray(image.convert("RGB"))
