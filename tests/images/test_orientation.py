"""The probe finds the orientation where Pillow's exif_transpose finds it, in every container, order and type."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from exif_files import (
    ATTRIBUTE,
    ELEMENT,
    ORDERS,
    TYPES,
    XAP,
    block,
    containers,
    extended_webp,
    itxt,
    jpeg,
    png,
    xmp,
)
from PIL import Image, ImageOps
from probe_files import picture, saved

from tfpipe.images.probe import probe

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def agrees(data: bytes) -> int:
    """The orientation that the probe finds, which is the one that turns the stored pixels into exif_transpose's."""
    stored = Image.open(io.BytesIO(data))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = probe(data).orientation
    turned = stored if TURNS[found] is None else stored.transpose(TURNS[found])
    np.testing.assert_array_equal(np.asarray(turned), upright)
    return found


CONTAINERS = list(containers(b""))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_in_every_container_and_byte_order(value: int, container: str, order: str) -> None:
    assert agrees(containers(block(value, order=order))[container]) == value


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("container", ["jpeg", "png", "webp"])
def test_every_type_of_number_counts_and_bytes_are_none(kind: str, order: str, container: str) -> None:
    value = 1 if kind in ("BYTE", "UNDEFINED", "unknown") else 6
    assert agrees(containers(block(6, order=order, kind=kind))[container]) == value


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("container", CONTAINERS)
def test_values_out_of_range_are_none(value: int, container: str) -> None:
    assert agrees(containers(block(value))[container]) == 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_of_two_values_the_first_counts_and_of_two_entries_the_last_that_is_whole() -> None:
    assert agrees(jpeg(b"Exif\0\0" + block(6, count=2))) == 6
    assert agrees(jpeg(b"Exif\0\0" + block(6, count=0))) == 1
    assert agrees(jpeg(b"Exif\0\0" + block(6, kind="LONG8", count=2))) == 1
    twice = block(6, entries=2)
    at = twice.rindex(b"\x12\x01\x03\0") + 8
    assert agrees(jpeg(b"Exif\0\0" + twice[:at] + b"\x03" + twice[at + 1 :])) == 3
    assert agrees(jpeg(b"Exif\0\0" + twice[: at - 4] + b"\0" + twice[at - 3 :])) == 6


@pytest.mark.parametrize("form", [ATTRIBUTE, ELEMENT])
@pytest.mark.parametrize("value", [*range(10), "a", "12"])
def test_xmp_tells_where_exif_does_not(value: object, form: str) -> None:
    text = xmp(value, form)
    files = [
        jpeg(XAP + text),
        png(itxt(text)),
        png(itxt(text, packed=True)),
        png(itxt(text), late=True),
        extended_webp(4, (b"XMP ", text)),
    ]
    expected = int(str(value)[0]) if str(value)[0] in "12345678" else 1
    assert [agrees(data) for data in files] == [expected] * len(files)


def test_exif_goes_before_xmp_even_where_its_value_is_none() -> None:
    for value, expected in ((3, 3), (0, 1), (1, 1)):
        exif = block(value)
        assert agrees(jpeg(XAP + xmp(6), b"Exif\0\0" + exif)) == expected
        assert agrees(png(itxt(xmp(6)), (b"eXIf", exif))) == expected
        assert agrees(extended_webp(12, (b"EXIF", exif), (b"XMP ", xmp(6)))) == expected
    without = block(6).replace(b"\x12\x01", b"\x13\x01")
    assert agrees(jpeg(b"Exif\0\0" + without, XAP + xmp(6))) == 6


def test_of_several_segments_pillow_s_counts() -> None:
    assert agrees(jpeg(b"Exif\0\0" + block(6), b"Exif\0\0" + block(3))) == 6
    assert agrees(jpeg(b"Exif\0\0", b"Exif\0\0" + block(3))) == 3
    assert agrees(jpeg(b"Exif\0\0" + block(6)[:20], b"Exif\0\0" + block(6)[20:])) == 6
    assert agrees(jpeg(XAP + xmp(6), XAP + xmp(3))) == 3
    assert agrees(jpeg(b"Exif\0\0Exif\0\0" + block(8))) == 8


def test_chunks_that_a_webp_does_not_announce_are_not_read() -> None:
    assert agrees(extended_webp(0, (b"EXIF", block(6)), (b"XMP ", xmp(3)))) == 1
    assert agrees(extended_webp(4, (b"EXIF", block(6)), (b"XMP ", xmp(3)))) == 3


def test_a_file_of_several_pictures_is_turned_as_its_first() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)], exif=exif)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert agrees(data) == 6


def test_damaged_texts_of_a_png_are_none() -> None:
    for chunk in (
        (b"zTXt", b"Raw profile type exif\0\0junk"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0junk"),
        (b"iTXt", b"XML:com.adobe.xmp\0"),
        (b"tEXt", b"Raw profile type exif\0\nexif\n 3\nzz\n"),
        (b"tEXt", b"Raw profile type exif"),
    ):
        assert probe(png(chunk)).orientation == 1


def test_a_bomb_in_a_text_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(200_000_000), 1)
    assert probe(png((b"zTXt", b"Raw profile type exif\0\0" + bomb))).orientation == 1
