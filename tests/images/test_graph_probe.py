"""In a graph a file is said of what the probe says of it; what takes Pillow is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tensorflow as tf
from exif_files import ATTRIBUTE, ELEMENT, ORDERS, TYPES, XAP, block, containers, extended_webp, itxt, jpeg, png, xmp
from pictures import KINDS
from probe_files import GOOD, LOOKS, OTHERS, good
from strange_images import DEEP_FILES, STRANGE

from tfpipe.images.graph_probe import read_header
from tfpipe.images.probe import NotAnImage, probe

FORMATS = "jpeg, png, gif, bmp, webp"
TAKEN = f" is not decoded inside a model; tfpipe.load_image takes it, or convert it to one of: {FORMATS}."


@pytest.fixture(scope="module")
def read() -> Callable[[bytes], tuple[int, str]]:
    """The orientation and the refusal, by one graph for all files."""
    spec = [tf.TensorSpec([], tf.string)]
    function = tf.function(lambda data: tuple(read_header(data)), input_signature=spec, autograph=False)

    def header(data: bytes) -> tuple[int, str]:
        orientation, refusal = function(tf.constant(data))
        return int(orientation), refusal.numpy().decode()

    return header


def test_every_file_that_tensorflow_reads_is_taken(read: Callable[[bytes], tuple[int, str]]) -> None:
    files = {ending: make(3) for ending, make in KINDS.items()} | {name: good(name) for name in GOOD}
    for name, data in files.items():
        assert read(data) == (probe(data).orientation, ""), name


def test_every_orientation_is_the_probe_s(read: Callable[[bytes], tuple[int, str]]) -> None:
    files = {}
    for order in ORDERS:
        for value in (*range(10), 65535):
            found = containers(block(value, order=order))
            files |= {(order, value, name): data for name, data in found.items() if "profile" not in name}
    for form in (ATTRIBUTE, ELEMENT):
        for value in (*range(10), "a", "12"):
            text = xmp(value, form)
            made = [jpeg(XAP + text), png(itxt(text)), png(itxt(text), late=True), extended_webp(4, (b"XMP ", text))]
            files |= {(form, value, number): data for number, data in enumerate(made)}
    exif = b"Exif\0\0"
    without = block(6).replace(b"\x12\x01", b"\x13\x01")
    twice = block(6, entries=2)
    at = twice.rindex(b"\x12\x01\x03\0") + 8
    rare = [
        jpeg(XAP + xmp(6), exif + block(3)),
        jpeg(XAP + xmp(6), exif + block(0)),
        png(itxt(xmp(6)), (b"eXIf", block(3))),
        jpeg(exif + without, XAP + xmp(6)),
        jpeg(exif + block(6), exif + block(3)),
        jpeg(exif, exif + block(3)),
        jpeg(exif + block(6)[:20], exif + block(6)[20:]),
        jpeg(XAP + xmp(6), XAP + xmp(3)),
        jpeg(exif + exif + block(8)),
        jpeg(exif + block(6, count=0)),
        jpeg(exif + block(6, count=2)),
        jpeg(exif + b"junk" + block(6)),
        jpeg(exif + block(6)[:9]),
        jpeg(exif + twice[:at] + b"\x03" + twice[at + 1 :]),
        extended_webp(0, (b"EXIF", block(6)), (b"XMP ", xmp(3))),
        extended_webp(12, (b"EXIF", block(3)), (b"XMP ", xmp(6))),
        jpeg(XAP + b"\xff\xfe\0" + xmp(6)),
        jpeg(exif + block(5)).replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
    ]
    files |= {("rare", number, ""): data for number, data in enumerate(rare)}
    assert len(files) > 200
    turned = 0
    for name, data in files.items():
        expected = probe(data).orientation
        assert read(data) == (expected, ""), name
        turned += expected > 1
    assert turned > 100


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_type_of_number_is_the_probe_s_or_refused(
    read: Callable[[bytes], tuple[int, str]], kind: str, order: str
) -> None:
    elsewhere = kind in ("RATIONAL", "SRATIONAL", "FLOAT", "DOUBLE", "LONG8")
    data = containers(block(6, order=order, kind=kind))["jpeg"]
    refusal = f"An orientation that is not one short number{TAKEN}"
    assert read(data) == ((1, refusal) if elsewhere else (probe(data).orientation, ""))


# The kinds that conversion re-encodes, and how they are named.
NAMES = {
    "gif": ("GIF with ",),
    "webp": ("Animated WebP", "WebP with "),
    "bmp": ("BMP ",),
    "tiff": ("TIFF",),
    "ico": ("ICO",),
    "ppm": ("PPM",),
    "avif": ("AVIF",),
    "jpeg2000": ("JPEG 2000",),
    "jpeg": ("CMYK JPEG without", "Lossless JPEG"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_conversion_re_encodes_is_refused_by_name(read: Callable[[bytes], tuple[int, str]], name: str) -> None:
    kind, data = STRANGE[name]
    refusal = read(data)[1]
    if kind == "tga":  # It has no signature.
        assert (
            refusal == f"The bytes are none of: {FORMATS}, which a model decodes; tfpipe.load_image takes others, "
            "such as TGA."
        )
    else:
        assert refusal.startswith(NAMES[kind])
        assert refusal.endswith(TAKEN)


def test_what_is_no_image_is_refused_and_load_image_is_not_promised(
    read: Callable[[bytes], tuple[int, str]],
) -> None:
    for name, data in {**LOOKS, "empty": b"", **{name: OTHERS[name] for name in ("HEIC", "JPEG XL", "PSD")}}.items():
        with pytest.raises(NotAnImage):
            probe(data)
        refusal = read(data)[1]
        assert refusal.endswith("."), name
        assert "takes it" not in refusal, name
    assert read(OTHERS["HEIC"])[1] == f"HEIC is not supported; convert it to one of: {FORMATS}."


def test_orientations_in_texts_are_refused(read: Callable[[bytes], tuple[int, str]]) -> None:
    texts = {name: data for name, data in containers(block(6)).items() if "profile" in name}
    assert len(texts) == 2
    for data in texts.values():
        assert read(data) == (1, f"PNG with its EXIF in a text{TAKEN}")
    assert read(png(itxt(xmp(6), packed=True))) == (1, f"PNG with packed XMP{TAKEN}")
    assert read(png(itxt(xmp(6), packed=True), (b"eXIf", block(3)))) == (3, "")


def test_deep_gray_is_refused_where_it_was_scaled() -> None:
    for name in ("gray.png", "gray alpha.png"):
        assert read_header(tf.constant(DEEP_FILES[name])).refusal == ""
        refusal = read_header(tf.constant(DEEP_FILES[name]), sixteen_bit="scale").refusal.numpy().decode()
        assert refusal.startswith("PNG of 16 bits of gray, which --sixteen_bit scale re-encodes, is not decoded")
    assert read_header(tf.constant(good("png")), sixteen_bit="scale").refusal == ""
