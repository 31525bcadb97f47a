"""The probe agrees with Pillow and TensorFlow on good files and refuses the others, each with its sentence."""

from __future__ import annotations

import io
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from probe_files import (
    GOOD,
    HEIGHT,
    REFUSED,
    WIDTH,
    bmp,
    canvas,
    exif,
    gif,
    good,
    picture,
    png,
    png_chunk,
    saved,
    webp,
    with_byte,
    with_inserted,
)

from tfpipe.images.probe import DEFAULT_MAX_PIXELS, ImageHeader, NotAnImage, probe

SEEDS = ("jpeg", "jpeg_progressive", "png", "gif_animated", "bmp_gray", "webp", "webp_lossless", "webp_extended")


def refusal(data: bytes, **options: int) -> NotAnImage:
    with pytest.raises(NotAnImage) as caught:
        probe(data, **options)
    return caught.value


# ---- Good files ----
@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_gives_its_format_and_size(name: str) -> None:
    assert probe(good(name)) == ImageHeader(name.split("_")[0], HEIGHT, WIDTH, 1)


@pytest.mark.parametrize("name", GOOD)
def test_bytes_after_the_end_are_ignored_in_all_formats_but_bmp(name: str) -> None:
    data = good(name) + b"\0\0"
    if name.startswith("bmp"):
        assert refusal(data).reason == "bad_header"
    else:
        assert probe(data) == probe(good(name))


def test_junk_and_fill_bytes_between_jpeg_markers_are_skipped() -> None:
    for junk in (b"abc", b"\xff\xff", b"\xff\x00", b"\xff\xd0", b"\xff\x01", b"\xff\xe5\0\0", b"\xff\xe5\0\1"):
        assert probe(with_inserted("jpeg", b"\xff\xdb", junk)) == ("jpeg", HEIGHT, WIDTH, 1)


@pytest.mark.parametrize(
    ("frames", "screen"),
    [([(5, 20), (12, 8)], (90, 80)), ([(12, 20), (13, 8)], (12, 20)), ([(5, 20)], (5, 21)), ([(5, 20)], (4, 20))],
)
def test_a_gif_whose_frames_are_off_its_canvas_is_one_for_pillow(
    frames: list[tuple[int, int]], screen: tuple[int, int]
) -> None:
    error = refusal(gif(frames, screen=screen))
    assert (error.reason, error.pillow) == ("unsupported_format", "GIF")
    assert str(error).startswith("GIF with frames off their canvas is not supported")


def test_later_frames_of_a_gif_may_be_smaller() -> None:
    assert probe(gif([(12, 20), (5, 8)], screen=(12, 20))) == ("gif", 12, 20, 1)


def test_a_gif_without_a_table_of_colours_is_refused_for_all() -> None:
    data = good("gif")
    table = slice(13, 13 + 3 * (2 << (data[10] & 7)))
    error = refusal(with_byte(data[: table.start] + data[table.stop :], 10, data[10] & 0x7F))
    assert (error.reason, error.pillow) == ("bad_header", "")
    assert str(error) == "The GIF has no colour table: nothing says what its pixels look like."


def test_a_bmp_of_negative_height_goes_top_down() -> None:
    assert probe(bmp(24, height=-3)) == ("bmp", 3, 4, 1)


def test_a_32_bit_bmp_may_name_the_usual_masks() -> None:
    assert probe(bmp(32, compression=3, masks=(0xFF0000, 0xFF00, 0xFF))).format == "bmp"


def test_as_many_pixels_as_allowed_are_allowed_and_no_more() -> None:
    assert probe(png(8192, 8192)).width == 8192
    assert probe(good("jpeg"), max_pixels=1200).height == HEIGHT
    error = refusal(good("jpeg"), max_pixels=1199)
    assert str(error) == "The image has 30 x 40 = 1200 pixels; --max_pixels allows 1199."


# ---- EXIF ----
@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_that_of_exif_transpose(orientation: int, format: str, order: str) -> None:
    data = saved(picture(), format, exif=exif(orientation, order))
    header = probe(data)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert header == (format.lower(), HEIGHT, WIDTH, orientation)
    assert header.upright_size == (turned.height, turned.width)


def test_an_exif_prefix_inside_png_and_webp_is_skipped() -> None:
    block = exif(6)
    assert probe(with_inserted("png", b"\0\0\0\0IEND", png_chunk(b"eXIf", block))).orientation == 6
    picture_chunk = good("webp")[20:]
    assert probe(webp((b"VP8X", canvas(8, HEIGHT, WIDTH)), (b"VP8 ", picture_chunk), (b"EXIF", block))).orientation == 6


@pytest.mark.parametrize(
    "block",
    [
        exif(0),
        exif(9),
        exif(6)[:6],
        exif(6)[:14],
        exif(6)[:30],
        exif(6).replace(b"II*", b"II+"),
        exif(6).replace(b"\x08\0\0\0", b"\xff\xff\xff\xff"),
        exif(6).replace(b"\x12\x01\x03", b"\x12\x01\x07"),
    ],
)
def test_a_broken_exif_block_gives_orientation_1(block: bytes) -> None:
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block
    assert probe(with_inserted("jpeg", b"\xff\xdb", segment)) == ("jpeg", HEIGHT, WIDTH, 1)
    assert probe(with_inserted("png", b"\0\0\0\0IEND", png_chunk(b"eXIf", block[6:]))) == ("png", HEIGHT, WIDTH, 1)


def test_exif_entries_beyond_the_end_of_their_block_are_not_read() -> None:
    segment = b"\xff\xe1" + struct.pack(">H", 18) + exif(6)
    assert probe(with_inserted("jpeg", b"\xff\xdb", segment)).orientation == 1


def test_the_first_exif_block_counts_and_other_app1_segments_do_not() -> None:
    contents = (b"http://ns.adobe.com/xap/1.0/\0<x/>", exif(6), exif(3))
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content for content in contents)
    assert probe(with_inserted("jpeg", b"\xff\xdb", segments)).orientation == 6


@pytest.mark.parametrize(("reason", "sentence", "data"), REFUSED, ids=[f"{r}-{s[:40]}" for r, s, _ in REFUSED])
def test_each_refusal_gives_its_reason_and_its_sentence(reason: str, sentence: str, data: bytes) -> None:
    error = refusal(data)
    assert (error.reason, str(error)) == (reason, sentence)


def test_a_thumbnail_inside_exif_does_not_hide_a_cut_jpeg() -> None:
    whole = saved(picture(), "JPEG", exif=exif(6) + saved(picture(height=6, width=8), "JPEG"))
    assert probe(whole) == ("jpeg", HEIGHT, WIDTH, 6)
    assert refusal(whole[:-2]).reason == "truncated"
    assert refusal(whole[:-20] + bytes(50)).reason == "truncated"


def test_a_gif_cut_just_behind_a_byte_like_its_trailer_is_still_cut() -> None:
    data = good("gif")
    assert refusal(data[: data.index(b";", 800) + 1]).reason == "truncated"


def test_the_error_is_a_value_error_and_survives_pickling() -> None:
    error: NotAnImage = pickle.loads(pickle.dumps(refusal(b"")))
    assert issubclass(NotAnImage, ValueError)
    assert (type(error), error.reason, str(error)) == (NotAnImage, "empty", "The file has 0 bytes.")
    assert pickle.loads(pickle.dumps(refusal(b"II*\0"))).pillow == "TIFF"


# ---- Hostile bytes ----
def check(data: bytes) -> None:
    try:
        header = probe(data)
    except NotAnImage as error:
        assert error.reason in {reason for reason, _, _ in REFUSED}
        assert len(str(error)) < 300
    else:
        assert 0 < header.height * header.width <= DEFAULT_MAX_PIXELS
        assert 1 <= header.orientation <= 8


SIGNATURES = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\x20\0\0\0WEBPVP8X"])


@settings(deadline=None, max_examples=500)
@given(SIGNATURES, st.binary(max_size=200))
def test_any_bytes_give_a_header_or_a_refusal(signature: bytes, rest: bytes) -> None:
    check(signature + rest)


@settings(deadline=None, max_examples=1000)
@given(st.sampled_from(SEEDS), st.data())
def test_a_changed_or_cut_file_gives_a_header_or_a_refusal(name: str, draw: st.DataObject) -> None:
    seed = saved(picture(), "JPEG", exif=exif(6)) if name == "jpeg" else good(name)
    data = bytearray(seed)
    for at, value in draw.draw(st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4)):
        data[at] = value
    check(bytes(data[: draw.draw(st.integers(0, len(data)))]))
    check(bytes(data))


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    data = good(name)
    for num_bytes in range(len(data)):
        assert refusal(data[:num_bytes]).reason in ("empty", "not_an_image", "bad_header", "truncated")


# ---- TensorFlow ----
def test_tensorflow_decodes_what_passes_to_the_size_told_and_no_cut_file_that_it_refuses_passes() -> None:
    tf = pytest.importorskip("tensorflow")

    def decoded_size(data: bytes) -> tuple[int, int] | None:
        try:
            return tuple(tf.io.decode_image(data, channels=3, expand_animations=False).shape[:2])
        except tf.errors.InvalidArgumentError:
            return None

    files = {name: good(name) for name in GOOD} | {
        "gif of two sizes": gif([(12, 20), (12, 8)], screen=(12, 20)),
        "top-down bmp": bmp(24, height=-3),
        "masked bmp": bmp(32, compression=3, masks=(0xFF0000, 0xFF00, 0xFF)),
        "turned jpeg": saved(picture(), "JPEG", exif=exif(6)),
        "turned webp": saved(picture(), "WEBP", exif=exif(6)),
    }
    for name, data in files.items():
        assert decoded_size(data) == probe(data)[1:3], name
        for num_bytes in (1, 2, 10, len(data) // 2):
            cut = data[:-num_bytes]
            if decoded_size(cut) is None:
                assert refusal(cut).reason in ("truncated", "bad_header"), (name, num_bytes)
