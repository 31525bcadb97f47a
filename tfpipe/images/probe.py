"""Reads what an image file says of itself: its format, size and EXIF turn.

No pixel is decoded. A header comes back only for bytes that are whole and that tf.io.decode_image reads rightly
(channels=3, expand_animations=False); everything else raises `NotAnImage`, whose `reason` is one of

  empty               no bytes at all
  not_an_image        an unknown signature; the sentence says what the bytes look like
  unsupported_format  an image of a format, or a kind within it, that tfpipe doesn't read
  bad_header          a known signature, then fields that can't be true
  truncated           the end is missing
  too_many_pixels     height * width is above `max_pixels`

    header = probe(path.read_bytes())
    height, width = header.upright_size

A bit flipped among the pixels goes unseen: only a digest protects those. What TensorFlow does is stated below as
measured with TensorFlow 2.21.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple, NoReturn

# 67 million pixels, 200 MB as RGB: above every camera's photo, below any bomb's harm.
DEFAULT_MAX_PIXELS = 2**26


class NotAnImage(ValueError):
    """Says why bytes can't be a sound image.

    Attributes:
      reason: a short code, listed in the module's docstring; str() gives the sentence.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        # Both stand in `args`, so that the error survives pickling between processes.
        super().__init__(reason, sentence)
        self.reason, self.sentence = reason, sentence

    def __str__(self) -> str:
        return self.sentence


class ImageHeader(NamedTuple):
    """What a file says of its image.

    Attributes:
      format: "jpeg", "png", "gif", "bmp" or "webp".
      height: in pixels, as stored and as tf.io.decode_image returns it.
      width: likewise.
      orientation: the EXIF turn, 1 to 8; 1 where there is none.
    """

    format: str
    height: int
    width: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Returns (height, width) after the EXIF turn."""
        if self.orientation >= 5:
            return self.width, self.height
        return self.height, self.width


def probe(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """Returns the header of the image which `data` holds.

    Args:
      data: a whole file.
      max_pixels: the largest height * width allowed.

    Raises:
      NotAnImage: the bytes can't be a sound image, or hold too many pixels.
    """
    read = _reader(data)
    try:
        header = read(data)
    except (IndexError, struct.error):
        name = read.__name__.removeprefix("_read_").upper()
        _refuse("bad_header", f"The {name} header breaks off; {len(data)} bytes came.")
    num_pixels = header.height * header.width
    if num_pixels > max_pixels:
        _refuse(
            "too_many_pixels",
            f"The image has {header.height} x {header.width} = {num_pixels} pixels; --max_pixels allows {max_pixels}.",
        )
    return header


def _reader(data: bytes) -> Callable[[bytes], ImageHeader]:
    for signature, read in _READERS.items():
        if data.startswith(signature):
            return read
    return _refuse_stranger(data)


def _refuse(reason: str, sentence: str) -> NoReturn:
    raise NotAnImage(reason, sentence) from None


def _refuse_format(kind: str) -> NoReturn:
    _refuse("unsupported_format", f"{kind} is not supported; convert it to one of: {_FORMATS}.")


# ---- JPEG ----
_JPEG_END, _JPEG_SCAN, _JPEG_APP1 = b"\xff\xd9", 0xDA, 0xE1
# Tables, comments and APPn, which the walk jumps over. libjpeg stops at markers in no list here.
_JPEG_SKIPPED = frozenset([0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE])
_JPEG_BARE = frozenset([0x01, *range(0xD0, 0xD8)])  # no length follows
# Baseline, extended, progressive, and the two arithmetic ones TensorFlow's libjpeg-turbo has built in.
_JPEG_FRAMES = frozenset([0xC0, 0xC1, 0xC2, 0xC9, 0xCA])
_JPEG_MAX_SIDE = 65_500  # libjpeg's own limit, below the format's 65535
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")


def _read_jpeg(data: bytes) -> ImageHeader:
    at, size, orientation = 2, None, 1
    while True:
        if data[at] != 0xFF or data[at + 1] in b"\x00\xff":
            at = _next_jpeg_marker(data, at)
        marker = data[at + 1]
        at += 2
        if marker in _JPEG_SKIPPED:
            if marker == _JPEG_APP1 and orientation == 1 and data.startswith(b"Exif\0\0", at + 2):
                orientation = _exif_orientation(data, at + 8, at + (data[at] << 8 | data[at + 1]))
        elif marker in _JPEG_FRAMES and size is None:
            size = _jpeg_size(data, at)
        elif marker in _JPEG_BARE:
            continue
        elif marker == _JPEG_SCAN and size is not None:
            break
        else:
            _refuse("bad_header", f"JPEG marker FF {marker:02X} stands at byte {at - 2}, where it can't be decoded.")
        at += data[at] << 8 | data[at + 1]  # a length below 2 is junk, and skipped as junk
    _check_jpeg_scan(data, at)
    return ImageHeader("jpeg", *size, orientation)


def _next_jpeg_marker(data: bytes, at: int) -> int:
    """Returns where the next marker starts; libjpeg too skips junk and fill bytes before it."""
    found = _JPEG_MARKER.search(data, at)
    if found is None:
        raise IndexError
    return found.start()


def _jpeg_size(data: bytes, at: int) -> tuple[int, int]:
    length, precision, height, width, components = struct.unpack_from(">HBHHB", data, at)
    if precision != 8 or components not in (1, 3, 4) or length != 8 + 3 * components:
        _refuse(
            "bad_header",
            f"The JPEG frame at byte {at} has {length} bytes for {components} components of "
            f"{precision} bits; read are 1, 3 or 4 components of 8.",
        )
    return _checked_size("JPEG", height, width, _JPEG_MAX_SIDE)


def _check_jpeg_scan(data: bytes, at: int) -> None:
    length = data[at] << 8 | data[at + 1]
    if length != 6 + 2 * data[at + 2]:
        _refuse("bad_header", f"The JPEG scan header at byte {at} has {length} bytes for {data[at + 2]} components.")
    # Searching from the scan on, an EXIF thumbnail's end marker can't stand in for the image's.
    if not data.endswith(_JPEG_END, at + length) and data.rfind(_JPEG_END, at + length) < 0:
        _refuse("truncated", f"The JPEG is cut: no end marker FF D9 follows the scan; {len(data)} bytes came.")


# ---- PNG ----
_PNG_FIRST, _PNG_END = b"\0\0\0\x0dIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82"
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_PNG_PALETTE = 3
_PNG_MAX_SIDE = 1_000_000  # libpng's own limit, below the format's 2**31 - 1


def _read_png(data: bytes) -> ImageHeader:
    width, height, depth, colour, compression, filtering, interlace, crc = struct.unpack_from(">IIBBBBBI", data, 16)
    if data[8:16] != _PNG_FIRST or zlib.crc32(data[12:29]) != crc:
        _refuse("bad_header", "The PNG does not begin with an intact IHDR chunk.")
    if depth not in _PNG_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        _refuse(
            "bad_header",
            f"The PNG has colour type {colour} of {depth} bits, methods {compression}, {filtering} "
            f"and {interlace}; no such PNG exists.",
        )
    size = _checked_size("PNG", height, width, _PNG_MAX_SIDE)
    chunks = _png_chunks(data)
    needed = {b"IDAT", b"PLTE"} if colour == _PNG_PALETTE else {b"IDAT"}
    critical = {name for name in chunks if not name[0] & 0x20}
    if not needed <= critical <= {b"IDAT", b"PLTE"}:
        _refuse("bad_header", f"The PNG has the critical chunks {sorted(critical)[:8]}; it needs {sorted(needed)}.")
    return ImageHeader("png", *size, _exif_orientation(data, *chunks.get(b"eXIf", (0, 0))))


def _png_chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Returns where each chunk's content starts and ends, between IHDR and IEND; the last of a name counts."""
    at, chunks = 33, {}
    while not data.startswith(_PNG_END, at):
        name = data[at + 4 : at + 8]
        if len(name) < 4:
            _refuse("truncated", f"The PNG is cut: no IEND chunk ends it; {len(data)} bytes came.")
        end = at + 8 + int.from_bytes(data[at : at + 4])
        chunks[name] = at + 8, end
        at = end + 4
    return chunks


# ---- GIF ----
_GIF_FRAME, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B


def _read_gif(data: bytes) -> ImageHeader:
    # tf.io.decode_image returns the largest frame's sides, not the logical screen's; so every frame is visited.
    height = width = 0
    at = 13 + _gif_table_bytes(data[10])
    try:
        while data[at] != _GIF_TRAILER:
            if data[at] == _GIF_FRAME:
                frame_width, frame_height, flags = struct.unpack_from("<HHB", data, at + 5)
                height, width = max(height, frame_height), max(width, frame_width)
                at += 11 + _gif_table_bytes(flags)
            elif data[at] == _GIF_EXTENSION:
                at += 2
            else:
                raise IndexError
            while block_bytes := data[at]:
                at += block_bytes + 1
            at += 1
    except (IndexError, struct.error):
        _refuse("truncated", f"The GIF is cut: no trailer 3B stands where its blocks end; {len(data)} bytes came.")
    return ImageHeader("gif", *_checked_size("GIF", height, width, 0xFFFF), 1)


def _gif_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


# ---- BMP ----
_BMP_OS2_HEADER_BYTES, _BMP_HEADER_BYTES = 12, (40, 52, 56, 64, 108, 124)
_BMP_BITFIELDS, _BMP_BGR_MASKS = 3, struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)


def _read_bmp(data: bytes) -> ImageHeader:
    start, header_bytes, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header_bytes == _BMP_OS2_HEADER_BYTES:
        _refuse_format("BMP with an OS/2 header")
    if header_bytes not in _BMP_HEADER_BYTES:
        _refuse("bad_header", f"The BMP header gives {header_bytes} as its length; known are {_BMP_HEADER_BYTES}.")
    if start > len(data):
        _refuse("truncated", f"The BMP is cut: its pixels begin at byte {start}; {len(data)} came.")
    _check_bmp_pixels(data, start, header_bytes, bits, compression)
    size = _checked_size("BMP", abs(height), width, 2**31 - 1)
    surplus = len(data) - start - abs(height) * ((width * bits + 31) // 32 * 4)
    if surplus < 0:
        _refuse("truncated", f"The BMP is cut: {-surplus} bytes are missing; {len(data)} came.")
    if surplus > 0:
        # decode_image refuses even the two zero bytes that some programs append.
        _refuse("bad_header", f"The BMP is {surplus} bytes longer than its header says; {len(data)} came.")
    return ImageHeader("bmp", *size, 1)


def _check_bmp_pixels(data: bytes, start: int, header_bytes: int, bits: int, compression: int) -> None:
    # decode_image reads neither the compression nor the palette: it returns wrong pixels for these, without a word.
    bgr = bits == 32 and compression == _BMP_BITFIELDS and data.startswith(_BMP_BGR_MASKS, 54)
    if bits not in (8, 24, 32) or (compression and not bgr):
        _refuse_format(f"BMP of {bits} bits a pixel with compression {compression}")
    if bits == 8:
        palette = data[14 + header_bytes : min(start, 14 + header_bytes + 1024)]
        ramp = bytes(range(len(palette) // 4))
        if not palette[0::4] == palette[1::4] == palette[2::4] == ramp:
            _refuse_format("BMP with a palette of colours")


# ---- WebP ----
_WEBP_ANIMATED, _WEBP_ALPHA, _WEBP_MAX_SIDE = 0x02, 0x10, 16_384


def _read_webp(data: bytes) -> ImageHeader:
    if data[8:12] != b"WEBP":
        _refuse_kind("a RIFF file of another kind (sound or video)")
    end = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < end:
        _refuse("truncated", f"The WebP is cut: its header announces {end} bytes; {len(data)} came.")
    chunks = _webp_chunks(data, end)
    flags, canvas = 0, None
    if data[12:16] == b"VP8X":
        flags = data[20]
        canvas = int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if flags & _WEBP_ANIMATED:
        _refuse_format("Animated WebP")
    size, has_alpha = _webp_picture(data, chunks, flags)
    if canvas not in (None, size):
        _refuse("bad_header", f"The WebP has a canvas of {canvas} but an image of {size}; they must be equal.")
    if has_alpha:
        _refuse_format("WebP with transparency")  # decode_image refuses it when asked for 3 channels
    return ImageHeader("webp", *size, _exif_orientation(data, *chunks.get(b"EXIF", (0, 0))))


def _webp_chunks(data: bytes, end: int) -> dict[bytes, tuple[int, int]]:
    """Returns where each chunk's content starts and ends; the first of a name counts."""
    at, chunks = 12, dict[bytes, tuple[int, int]]()
    while at + 8 <= end:
        name, chunk_end = data[at : at + 4], at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if chunk_end > end:
            _refuse("bad_header", f"The WebP chunk {name!r} reaches byte {chunk_end}, past the end at {end}.")
        chunks.setdefault(name, (at + 8, chunk_end))
        at = chunk_end + (chunk_end & 1)
    return chunks


def _webp_picture(data: bytes, chunks: dict[bytes, tuple[int, int]], flags: int) -> tuple[tuple[int, int], bool]:
    """Returns the size of the picture's own header, and whether decoding yields an alpha channel."""
    first = data[12:16]
    if b"VP8 " in chunks and first in (b"VP8 ", b"VP8X"):
        tag, start_code, width, height = struct.unpack_from("<B2x3sHH", data, chunks[b"VP8 "][0])
        # A key frame (bit 0) of profile 0 to 3 (bits 1-3), shown (bit 4); the top bits of each side ask for scaling.
        if tag & 0b11001 == 0b10000 and start_code == b"\x9d\x01\x2a":
            size = _checked_size("WebP", height & 0x3FFF, width & 0x3FFF, _WEBP_MAX_SIDE)
            return size, bool(flags & _WEBP_ALPHA) or b"ALPH" in chunks
    elif b"VP8L" in chunks and first in (b"VP8L", b"VP8X"):
        signature, bits = struct.unpack_from("<BI", data, chunks[b"VP8L"][0])
        if signature == 0x2F and bits >> 29 == 0:
            return ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1), bool(bits >> 28)
    _refuse("bad_header", f"The WebP holds no intact VP8 or VP8L image; its chunks are {sorted(chunks)[:8]}.")


# ---- What the formats share ----
_READERS: dict[bytes, Callable[[bytes], ImageHeader]] = {
    b"\xff\xd8\xff": _read_jpeg,
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"GIF8": _read_gif,
    b"BM": _read_bmp,
    b"RIFF": _read_webp,
}
_FORMATS = "jpeg, png, gif, bmp, webp"

# The byte order mark, then tag 0x0112 of type SHORT as that order writes it.
_EXIF_ORDERS = {b"II*\0": ("<", b"\x12\x01\x03\x00"), b"MM\0*": (">", b"\x01\x12\x00\x03")}


def _exif_orientation(data: bytes, start: int, end: int) -> int:
    """Returns the turn that the EXIF block data[start:end] asks for; 1 where the block is broken."""
    if data.startswith(b"Exif\0\0", start, end):
        start += 6  # some programs keep JPEG's prefix in PNG and WebP
    if data[start : start + 4] not in _EXIF_ORDERS:
        return 1
    (order, tag), value = _EXIF_ORDERS[data[start : start + 4]], 1
    try:
        first = start + struct.unpack_from(order + "I", data, start + 4)[0]
        num_entries = struct.unpack_from(order + "H", data, first)[0]
        for at in range(first + 2, min(first + 2 + 12 * num_entries, end - 11), 12):
            if data.startswith(tag, at):
                value = struct.unpack_from(order + "H", data, at + 8)[0]
                break
    except struct.error:
        pass
    return value if 1 <= value <= 8 else 1


def _checked_size(name: str, height: int, width: int, max_side: int) -> tuple[int, int]:
    if not (0 < height <= max_side and 0 < width <= max_side):
        _refuse("bad_header", f"The {name} gives its size as {height} x {width}; 1 to {max_side} a side is allowed.")
    return height, width


# ---- Everything else ----
# Where a signature stands, the signature, its name.
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


def _refuse_stranger(data: bytes) -> NoReturn:
    if not data:
        _refuse("empty", "The file has 0 bytes.")
    for at, signature, name in _OTHER_IMAGES:
        if data.startswith(signature, at):
            _refuse_format(name)
    for at, signature, name in _OTHER_FILES:
        if data.startswith(signature, at):
            _refuse_kind(name)
    head = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head:
        _refuse_format("SVG")
    for start, name in _OTHER_TEXTS:
        if head.startswith(start):
            _refuse_kind(name)
    is_text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    _refuse_kind("text" if is_text else f"nothing known, beginning with {data[:8].hex(' ').upper()}")


def _refuse_kind(kind: str) -> NoReturn:
    _refuse("not_an_image", f"The bytes look like {kind}, not like an image; read are: {_FORMATS}.")
