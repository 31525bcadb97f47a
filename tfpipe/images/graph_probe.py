"""What tfpipe.images.probe says of a file, in TensorFlow operations: a SavedModel holds no Python.

    header = read_header(data)
    header.orientation      # to turn the decoded pixels by
    header.refusal          # "" or why the file is not decoded

Refused by name is what TensorFlow does not read, or reads wrongly: those that conversion stores as PNG. A file that
is cut or broken is left to the decoder. A JPEG's EXIF and XMP are read in full, as are those of PNG and WebP but where
they are packed into texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfpipe.images.graph_exif import UNKNOWN, FileBytes, find_orientation
from tfpipe.images.probe.header import FORMATS
from tfpipe.images.probe.strangers import OTHER_IMAGES

# A kind that is refused, and whether Pillow reads it. Numbers and tensors are written into the name.
Case = tuple[tf.Tensor, "str | tf.Tensor"]


class GraphHeader(NamedTuple):
    """What a file says of its image.

    Attributes:
      orientation: scalar int64, 1 to 8.
      refusal: scalar string, a sentence; "" where the file can be decoded.
    """

    orientation: tf.Tensor
    refusal: tf.Tensor


def read_header(data: tf.Tensor, *, sixteen_bit: str = "high") -> GraphHeader:
    """The header of an image file, scalar string.

    Args:
      data: the file.
      sixteen_bit: what conversion made of 16 bits of gray; "scale" takes Pillow, so such files are refused.
    """
    file = FileBytes(data)
    readers: dict[tuple[bytes, bytes], Callable[[FileBytes], GraphHeader]] = {
        (b"\xff\xd8\xff", b""): _read_jpeg,
        (b"\x89PNG\r\n\x1a\n", b""): lambda of: _read_png(of, sixteen_bit),
        (b"GIF8", b""): _read_gif,
        (b"BM", b""): _read_bmp,
        (b"RIFF", b"WEBP"): _read_webp,
    }
    matches = [
        tf.equal(file.text(0, len(first)), first) & tf.equal(file.text(8, len(second)), second)
        for first, second in readers
    ]
    index = tf.argmax(tf.cast([*matches, True], tf.int32), output_type=tf.int32)
    branches = [lambda read=read: tuple(read(file)) for read in (*readers.values(), _refuse_stranger)]
    return GraphHeader(*tf.switch_case(index, branches))


def _header(exif: tf.Tensor, xmp: tf.Tensor, *cases: Case) -> GraphHeader:
    orientation = find_orientation(exif, xmp)
    unknown = (tf.equal(orientation, UNKNOWN), "An orientation that is not one short number")
    return GraphHeader(tf.maximum(orientation, 1), _refusal(*cases, unknown))


def _upright(*cases: Case) -> GraphHeader:
    return GraphHeader(tf.constant(1, tf.int64), _refusal(*cases))


def _refusal(*cases: Case) -> tf.Tensor:
    """The sentence of the first case that holds; "" where none does."""
    kind: tf.Tensor = tf.constant("")
    for holds, name in reversed(cases):
        kind = tf.where(holds, name, kind)
    rest = f" is not decoded inside a model; tfpipe.load_image takes it, or convert it to one of: {FORMATS}."
    return tf.where(tf.equal(kind, ""), "", tf.strings.join([kind, rest]))


def _refuse_stranger(file: FileBytes) -> GraphHeader:
    sentence: Any = tf.constant(
        f"The bytes are none of: {FORMATS}, which a model decodes; tfpipe.load_image takes others, such as TGA."
    )
    sentence = tf.where(tf.strings.regex_full_match(file.text(0, 3), r"P[1-6][\s#]"), _of_pillow("PPM"), sentence)
    for at, signature, name, pillow in reversed(OTHER_IMAGES):
        said: Any = _of_pillow(name) if pillow else f"{name} is not supported; convert it to one of: {FORMATS}."
        if name == "HEIC":
            is_avif = tf.strings.regex_full_match(file.text(16, file.number(0, 4) - 16), r"\C*avif\C*")
            said = tf.where(is_avif, _of_pillow("AVIF"), said)
        sentence = tf.where(tf.equal(file.text(at, len(signature)), signature), said, sentence)
    return GraphHeader(tf.constant(1, tf.int64), tf.where(file.size == 0, "The file has 0 bytes.", sentence))


def _of_pillow(name: str) -> tf.Tensor:
    return _refusal((tf.constant(True), name))


# ---- JPEG: its segments up to the scan

_SCAN, _APP1, _APP14 = 0xDA, 0xE1, 0xEE
_FRAMES = [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF]
_DECODED_FRAMES = [0xC0, 0xC1, 0xC2, 0xC9, 0xCA]
_BARE = [0x01, *range(0xD0, 0xD8)]
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def _read_jpeg(file: FileBytes) -> GraphHeader:
    def step(
        at: tf.Tensor, _: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, has_adobe: tf.Tensor, frame: tf.Tensor
    ) -> Any:
        at = _marker_at(file, at)
        head = tf.cast(file.values[at : at + 10], tf.int64)
        marker, length = head[1], head[2] * 256 + head[3]
        content = file.text(at + 4, tf.where(_in(marker, [_APP1, _APP14]), length - 2, 0))
        is_app1 = tf.equal(marker, _APP1)
        exif, xmp = tf.cond(is_app1, lambda: _metadata(content, exif, xmp), lambda: (exif, xmp))
        has_adobe |= tf.equal(marker, _APP14) & tf.equal(tf.strings.substr(content, 0, 5), "Adobe")
        found = tf.stack([marker, head[4], head[9]])
        frame = tf.where(_in(marker, _FRAMES) & tf.equal(frame[0], 0), found, frame)
        at += 2 + tf.where(_in(marker, _BARE), tf.constant(0, tf.int64), length)
        return at, tf.equal(marker, _SCAN), exif, xmp, has_adobe, frame

    started = (tf.constant(2, tf.int64), tf.constant(False), tf.constant(""), tf.constant(""), tf.constant(False))
    *_, exif, xmp, has_adobe, frame = tf.while_loop(
        lambda at, ended, *_: ~ended & (at + 4 <= file.size), step, (*started, tf.zeros([3], tf.int64))
    )
    marker, precision, components = tf.unstack(frame)
    return _header(
        exif, xmp,
        ((marker > 0) & ~_in(marker, _DECODED_FRAMES), "Lossless JPEG"),
        ((marker > 0) & (precision != 8), "JPEG of other than 8 bits"),
        (tf.equal(components, 4) & ~has_adobe, "CMYK JPEG without Adobe's marker"),
    )  # fmt: skip


def _marker_at(file: FileBytes, at: tf.Tensor) -> tf.Tensor:
    """The byte at which the next marker starts; junk and fill bytes before it are skipped, as libjpeg does."""

    def is_marker(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        return tf.equal(first, 0xFF) & (second != 0) & (second != 0xFF)

    def search() -> tf.Tensor:
        rest = file.values[at:]
        found = tf.where(is_marker(rest[:-1], rest[1:]))
        return tf.concat([at + found[:1, 0], [file.size]], 0)[0]

    return tf.cond(is_marker(file.values[at], file.values[at + 1]), lambda: at, search)


def _metadata(content: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The EXIF block, in several segments or one, and the last XMP packet, after one more segment."""
    is_exif = tf.equal(tf.strings.substr(content, 0, len(_EXIF)), _EXIF)
    is_xmp = tf.equal(tf.strings.substr(content, 0, len(_XMP)), _XMP)
    block = tf.strings.substr(content, tf.minimum(len(_EXIF), tf.strings.length(content)), 2**16)
    return tf.where(is_exif, tf.strings.join([exif, block]), exif), tf.where(is_xmp, content, xmp)


# ---- PNG: its chunks

_TEXTS = [b"tEXt", b"zTXt", b"iTXt"]
_PROFILE_KEY, _XMP_KEY = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"


def _read_png(file: FileBytes, sixteen_bit: str) -> GraphHeader:
    def step(at: tf.Tensor, _: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, has_profile: tf.Tensor) -> Any:
        length, name = file.number(at, 4), file.text(at + 4, 4)
        is_text = tf.reduce_any(tf.equal(name, _TEXTS))
        content = file.text(at + 8, tf.where(is_text | tf.equal(name, "eXIf"), length, 0))
        exif = tf.where(tf.equal(name, "eXIf"), content, exif)
        # A packed text is marked by what comes behind its keyword.
        packed = tf.equal(name, "zTXt") | (
            tf.equal(name, "iTXt")
            & (tf.strings.substr(tf.strings.join([content, b"\0" * 99]), len(_XMP_KEY), 1) != b"\0")
        )
        is_xmp = is_text & _starts(content, _XMP_KEY)
        xmp = tf.where(is_xmp, tf.where(packed, _PACKED, content), xmp)
        has_profile |= is_text & _starts(content, _PROFILE_KEY)
        return at + 12 + length, tf.equal(name, "IEND"), exif, xmp, has_profile

    started = (tf.constant(33, tf.int64), tf.constant(False), tf.constant(""), tf.constant(""), tf.constant(False))
    _, _, exif, xmp, has_profile = tf.while_loop(lambda at, ended, *_: ~ended & (at + 8 <= file.size), step, started)
    is_deep_gray = tf.equal(file.values[24], 16) & _in(tf.cast(file.values[25], tf.int64), [0, 4])
    has_no_exif = tf.equal(exif, "")
    return _header(
        exif, xmp,
        (is_deep_gray & (sixteen_bit == "scale"), "PNG of 16 bits of gray, which --sixteen_bit scale re-encodes,"),
        (has_no_exif & has_profile, "PNG with its EXIF in a text"),
        (has_no_exif & tf.equal(xmp, _PACKED), "PNG with packed XMP"),
    )  # fmt: skip


_PACKED = "packed"


def _starts(content: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(content, 0, len(start)), start)


# ---- GIF: its blocks up to the first frame


def _read_gif(file: FileBytes) -> GraphHeader:
    def step(at: tf.Tensor, inside: tf.Tensor, is_empty: tf.Tensor, transparent: tf.Tensor) -> Any:
        length = tf.cast(file.values[at], tf.int64)
        starts = ~inside
        is_control = starts & tf.equal(file.number(at + 1, 1), 0xF9)
        is_empty |= starts & tf.equal(file.number(at + 2, 1), 0)
        transparent = tf.where(is_control, file.number(at + 3, 1) % 2 == 1, transparent)
        return at + tf.where(inside, length + 1, 2), starts | (length > 0), is_empty, transparent

    def unfinished(at: tf.Tensor, inside: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (at < file.size) & (inside | tf.equal(file.values[at], 0x21))

    at = 13 + 3 * _num_colours(file.number(10, 1))
    no = tf.constant(False)
    at, _, is_empty, transparent = tf.while_loop(unfinished, step, (at, no, no, no))
    left, top, width, height = (file.number(at + 1 + 2 * i, 2, little=True) for i in range(4))
    canvas = tf.stack([file.number(8, 2, little=True), file.number(6, 2, little=True)])
    code_bits = file.number(at + 10 + 3 * _num_colours(file.number(at + 9, 1)), 1)
    fills = tf.equal(left + top, 0) & tf.reduce_all(tf.equal(tf.stack([height, width]), canvas))

    def largest_is_canvas() -> tf.Tensor:
        # TensorFlow takes the largest frame for the canvas, and tells of no other frame.
        image = tf.io.decode_image(file.data, channels=3, expand_animations=False)
        return tf.reduce_all(tf.equal(tf.shape(image, tf.int64)[:2], canvas))

    sound = fills & ~transparent & ~is_empty & (code_bits <= 8)
    fills &= tf.cond(sound, largest_is_canvas, lambda: tf.constant(True))
    return _upright(
        (~fills, "GIF with frames off their canvas"),
        (transparent, "GIF with transparent pixels"),
        (code_bits > 8, "GIF with codes of more than 8 bits"),
        (is_empty, "GIF with an empty extension"),
    )


def _num_colours(flags: tf.Tensor) -> tf.Tensor:
    return tf.where(flags >= 0x80, tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)


# ---- BMP

_HEADER_BYTES = [40, 52, 56, 64, 108, 124]
_BGR_MASKS = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"


def _read_bmp(file: FileBytes) -> GraphHeader:
    start, header_bytes, width, height = (file.number(at, 4, little=True) for at in (10, 14, 18, 22))
    bits, compression = file.number(28, 2, little=True), file.number(30, 4, little=True)
    height = tf.minimum(height, 2**32 - height)  # of a negative one, the absolute value
    is_bgr = tf.equal(bits, 32) & tf.equal(compression, 3) & tf.equal(file.text(54, 12), _BGR_MASKS)
    is_plain = _in(bits, [8, 24, 32]) & (tf.equal(compression, 0) | is_bgr)
    palette = file.text(14 + header_bytes, tf.minimum(start - 14 - header_bytes, 1024))
    ramp = b"".join(bytes([i, i, i]) for i in range(256))
    entries = tf.io.decode_raw(palette, tf.uint8)
    count = tf.size(entries) // 4
    grays = tf.reshape(entries[: 4 * count], [-1, 4])[:, :3]
    is_gray = tf.reduce_all(tf.equal(grays, tf.reshape(tf.io.decode_raw(ramp, tf.uint8), [256, 3])[:count]))
    length = start + height * ((width * bits + 31) // 32 * 4)
    name = tf.strings.join(["BMP of ", tf.strings.as_string(bits), " bits a pixel with compression ",
                            tf.strings.as_string(compression)])  # fmt: skip
    return _upright(
        (tf.equal(header_bytes, 12), "BMP with an OS/2 header"),
        (~_in(header_bytes, _HEADER_BYTES), "BMP with an unknown header"),
        (~is_plain, name),
        (tf.equal(bits, 8) & ~(is_gray & tf.equal(tf.size(entries) % 4, 0)), "BMP with a palette of colours"),
        (file.size > length, "BMP that is longer than its header says"),
    )


# ---- WebP: its chunks

_ANIMATED, _HAS_XMP, _HAS_EXIF, _HAS_ALPHA = 2, 4, 8, 16


def _read_webp(file: FileBytes) -> GraphHeader:
    def step(at: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, places: tf.Tensor) -> Any:
        length, name = file.number(at + 4, 4, little=True), file.text(at, 4)
        exif = tf.where(tf.equal(name, "EXIF") & tf.equal(exif, ""), file.text(at + 8, length), exif)
        xmp = tf.where(tf.equal(name, "XMP ") & tf.equal(xmp, ""), file.text(at + 8, length), xmp)
        is_first = tf.equal(name, [b"VP8 ", b"VP8L", b"ALPH"]) & tf.equal(places, 0)
        return at + 8 + length + length % 2, exif, xmp, tf.where(is_first, at + 8, places)

    started = (tf.constant(12, tf.int64), tf.constant(""), tf.constant(""), tf.zeros([3], tf.int64))
    _, exif, xmp, places = tf.while_loop(lambda at, *_: at + 8 <= file.size, step, started)
    lossy, lossless, alpha = tf.unstack(places)
    is_extended = tf.equal(file.text(12, 4), "VP8X")
    flags = tf.where(is_extended, file.number(20, 1), 0)
    bits = file.number(lossless + 1, 4, little=True)
    sides = [file.number(lossy + at, 2, little=True) % 2**14 for at in (8, 6)]
    size = tf.where(lossy > 0, tf.stack(sides), tf.stack([bits // 2**14, bits]) % 2**14 + 1)
    canvas = tf.stack([file.number(at, 3, little=True) + 1 for at in (27, 24)])
    has_alpha = tf.where(lossy > 0, _has(flags, _HAS_ALPHA) | (alpha > 0), bits // 2**28 % 2 == 1)
    return _header(
        tf.where(_has(flags, _HAS_EXIF), exif, ""), tf.where(_has(flags, _HAS_XMP), xmp, ""),
        (_has(flags, _ANIMATED), "Animated WebP"),
        (is_extended & tf.reduce_any(canvas != size), "WebP with an image of another size than its canvas"),
        (has_alpha, "WebP with transparency"),
    )  # fmt: skip


def _has(flags: tf.Tensor, flag: int) -> tf.Tensor:
    return flags // flag % 2 == 1


def _in(value: tf.Tensor, numbers: list[int]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, tf.constant(numbers, value.dtype)))
