"""Files that Pillow reads and TensorFlow does not are stored as PNG of the same pixels, counted and named."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions import converted, reasons_in, run
from pictures import EXIF_ORIENTATION, file_bytes, photo, stock_read, upright_pixels
from PIL import Image
from strange_images import ALPHA, COLOUR, DEEP_FILES, DEEP_VALUES, HEIGHT, STRANGE, WIDTH, cmyk_jpeg, seen_by_pillow

import tfpipe.images.transcode as transcode
from beam_jobs.job import Job, Transcoding
from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import load_manifest
from tfpipe.images.png import LEVEL, write_png
from tfpipe.images.probe import NotAnImage
from tfpipe.images.transcode import take_file, transcoder_versions

HOW = Transcoding(max_pixels=10**6)
JPEG = file_bytes(photo(1), "JPEG")
KINDS = sorted({kind for kind, _ in STRANGE.values()})


def taken_pixels(data: bytes, how: Transcoding = HOW) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(take_file(data, how).data)).convert("RGB"))


def refusal(data: bytes, how: Transcoding = HOW) -> NotAnImage:
    with pytest.raises(NotAnImage) as caught:
        take_file(data, how)
    return caught.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each strange kind, and a JPEG."""
    root = tmp_path_factory.mktemp("strange")
    (root / "cat").mkdir()
    for name, (_, data) in STRANGE.items():
        (root / "cat" / name).write_bytes(data)
    (root / "cat/plain.jpg").write_bytes(file_bytes(photo(1), "JPEG"))
    return root


# ---- pixels
@pytest.mark.parametrize("name", STRANGE)
def test_the_png_of_a_file_has_the_pixels_that_pillow_sees(name: str) -> None:
    kind, data = STRANGE[name]
    taken = take_file(data, HOW)
    expected = seen_by_pillow(data)
    np.testing.assert_array_equal(taken_pixels(data), expected)
    assert taken.header == ("png", *expected.shape[:2], 1)
    assert taken.notes[0] == ("transcoded", kind)
    assert taken.data.startswith(b"\x89PNG")


@pytest.mark.parametrize("payload", [{}, {"payload": "decoded", "dtype": "uint8"}], ids=["raw", "decoded"])
def test_a_dataset_of_them_gives_pillow_s_pixels(folder: Path, tmp_path: Path, payload: dict[str, Any]) -> None:
    import tensorflow as tf

    manifest = converted(folder, tmp_path / "out", split={"train": 1.0}, **payload)
    spec = {"image": tf.io.FixedLenFeature([], tf.string), "shape": tf.io.FixedLenFeature([3], tf.int64)}
    records = {record["key"].decode(): record for record in stock_read(manifest, **spec)}
    assert len(records) == len(STRANGE) + 1
    for name, (_, data) in STRANGE.items():
        record = records[f"cat/{name}"]
        if payload:
            found = np.frombuffer(record["image"], np.uint8).reshape(record["shape"])
        else:
            found = tf.io.decode_image(record["image"], channels=3, expand_animations=False).numpy()
        np.testing.assert_array_equal(found, seen_by_pillow(data), err_msg=name)


@pytest.mark.parametrize("format", ["WEBP", "TIFF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_kept_beside_the_pixels_and_gives_exif_transpose(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    image = ALPHA if format == "WEBP" else COLOUR
    options = {"exif": exif} if format != "JPEG2000" else {}
    data = file_bytes(image, format, **options)
    taken = take_file(data, HOW)
    turn = Image.Exif()
    turn[EXIF_ORIENTATION] = taken.header.orientation
    again = file_bytes(Image.open(io.BytesIO(taken.data)), "PNG", exif=turn)
    np.testing.assert_array_equal(upright_pixels(again), seen_by_pillow(data))
    # Pillow turns a TIFF while it loads it.
    assert taken.header.orientation == (orientation if format in ("WEBP", "AVIF") else 1)


def test_a_broken_exif_block_does_not_cost_the_image() -> None:
    data = file_bytes(ALPHA, "WEBP", exif=b"Exif\0\0no tiff at all")
    assert take_file(data, HOW).header == ("png", HEIGHT, WIDTH, 1)


@pytest.mark.parametrize("name", DEEP_FILES)
def test_of_16_bits_of_gray_the_high_8_are_kept_or_all_in_proportion_to_the_largest(name: str) -> None:
    data, values = DEEP_FILES[name], DEEP_VALUES.astype(int)
    high, scaled = take_file(data, HOW), take_file(data, Transcoding(10**6, sixteen_bit="scale"))
    assert high.notes[-1] == ("sixteen_bit", "high")
    assert scaled.notes[-1] == ("sixteen_bit", "scale")
    found = taken_pixels(data, Transcoding(10**6, sixteen_bit="scale"))
    np.testing.assert_array_equal(found, np.repeat(np.floor(255 * values / values.max() + 0.5)[..., None], 3, 2))
    assert found.max() == 255
    if name.endswith(".png"):
        assert high.data is data
        assert scaled.notes[0] == ("transcoded", "png")
    else:
        np.testing.assert_array_equal(taken_pixels(data)[..., 0], values >> 8)


def test_a_black_image_of_16_bits_stays_black() -> None:
    data = file_bytes(Image.fromarray(np.zeros((3, 4), np.uint16)), "PNG")
    assert not taken_pixels(data, Transcoding(10**6, sixteen_bit="scale")).any()


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        (np.float32([0, 255]), True),
        (np.int32([0, 255]), True),
        (np.float32([0, 0.5]), False),
        (np.float32([0, np.nan]), False),
        (np.float32([-1, 3]), False),
        (np.int32([-1, 3]), False),
        (np.int32([0, 256]), False),
    ],
)
def test_wide_values_are_taken_only_where_none_would_change(values: np.ndarray, fits: bool) -> None:
    data = file_bytes(Image.fromarray(values[None]), "TIFF")
    if fits:
        assert taken_pixels(data)[0, :, 0].tolist() == values.tolist()
    else:
        error = refusal(data)
        assert error.reason == "unsupported_format"
        assert "nothing says how they fit 0 to 255" in error.sentence


def test_cmyk_of_adobe_keeps_its_bytes_within_a_level_of_pillow() -> None:
    import tensorflow as tf

    data = cmyk_jpeg(adobe=True)
    assert take_file(data, HOW).data is data
    found = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy().astype(int)
    assert np.abs(found - seen_by_pillow(data)).max() <= 1


# ---- bytes
def test_the_png_has_one_filter_and_what_the_named_library_makes_of_it() -> None:
    pixels = photo(2, 20, 30)
    for smooth, filtered in ((True, 2), (False, 0)):
        data = write_png(pixels, smooth=smooth)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
        packed = data[data.index(b"IDAT") + 4 : -16]
        rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(20, 91)
        assert set(rows[:, 0].tolist()) == {filtered}
        assert packed == zlib.compress(rows.tobytes(), LEVEL)
    gray = write_png(pixels[..., 0], smooth=True)
    assert Image.open(io.BytesIO(gray)).mode == "L"


def test_gray_files_become_gray_png_and_colours_stay_colours() -> None:
    modes = {name: Image.open(io.BytesIO(take_file(STRANGE[name][1], HOW).data)).mode for name in STRANGE}
    gray = {name for name, mode in modes.items() if mode == "L"}
    assert {"lines.tif", "deep.tif", "gray.tga", "gray.pgm", "lines.pbm", "deep.pgm", "lossless.jpg"} <= gray
    assert modes["palette.bmp"] == modes["colour.tif"] == "RGB"


def test_threads_and_repeated_runs_make_the_same_bytes_and_no_warning_comes_out() -> None:
    files = [data for _, data in STRANGE.values()] * 4
    once = [take_file(data, HOW).data for data in files]
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as threads:
        warnings.simplefilter("error")
        assert list(threads.map(lambda data: take_file(data, HOW).data, files)) == once
    assert limit == Image.MAX_IMAGE_PIXELS


def test_raw_and_decoded_datasets_are_the_same_bytes_whatever_the_number_of_processes(
    folder: Path, tmp_path: Path
) -> None:
    one, two = (converted(folder, tmp_path / f"out{threads}", threads=threads) for threads in (1, 3))
    assert one.fingerprint() == two.fingerprint()


# ---- what is refused
@pytest.mark.parametrize("name", STRANGE)
def test_without_transcoding_each_is_refused_as_before(name: str) -> None:
    with pytest.raises(NotAnImage) as caught:
        take_file(STRANGE[name][1], Transcoding(10**6, to_png=False))
    assert caught.value.reason in ("unsupported_format", "bad_header", "not_an_image")


def test_transcode_none_refuses_a_folder_of_them_and_is_recorded(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "out", transcode="none", max_rejected="100%").manifest
    assert set(reasons_in(tmp_path / "out")) == {f"cat/{name}" for name in STRANGE}
    assert manifest is not None
    assert manifest.made_by["options"]["transcode"] == "none"
    assert "transcoded" not in manifest.made_by
    assert "pillow" not in manifest.made_by["versions"]


def test_scaling_without_transcoding_contradicts_itself() -> None:
    with pytest.raises(UsageError, match="--sixteen_bit scale re-encodes files, --transcode none forbids it"):
        Job("in", "out", transcode="none", sixteen_bit="scale")
    with pytest.raises(UsageError, match=r"--transcode is 'jpeg'; it takes one of \['png', 'none'\]"):
        Job("in", "out", transcode="jpeg")


@pytest.mark.parametrize("name", [name for name in STRANGE if not name.endswith((".gif", "trailing.bmp"))])
def test_a_cut_file_is_refused_or_has_all_its_pixels(name: str) -> None:
    data = STRANGE[name][1]
    whole = taken_pixels(data)
    for part in (0.2, 0.5, 0.8, 0.95):
        try:
            found = taken_pixels(data[: int(part * len(data))])
        except NotAnImage:
            continue
        np.testing.assert_array_equal(found, whole)


def test_max_pixels_is_checked_before_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = STRANGE["packed.tif"][1]
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", lambda self: pytest.fail("decoded"))
    for allowed in (125, 60):  # Pillow warns, and raises beyond twice as many.
        error = refusal(data, Transcoding(max_pixels=allowed))
        assert error.reason == "too_many_pixels"
        assert error.sentence == f"The image has {HEIGHT * WIDTH} pixels; --max_pixels allows {allowed}."
    monkeypatch.undo()
    assert take_file(data, Transcoding(max_pixels=126)).header.width == WIDTH


def test_an_image_inside_a_file_may_not_be_larger_than_allowed_either() -> None:
    inside = file_bytes(Image.new("L", (300, 300)), "PNG")
    data = bytearray(file_bytes(ALPHA.resize((16, 16)), "ICO", sizes=[(16, 16)]))
    at = data.index(b"\x89PNG")
    data[at:] = inside
    data[14:18] = len(inside).to_bytes(4, "little")
    assert refusal(bytes(data), Transcoding(max_pixels=10_000)).reason == "too_many_pixels"


def test_only_the_format_of_the_signature_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    real = Image.open
    monkeypatch.setattr("PIL.Image.open", lambda *args, formats: opened.append(formats) or real(*args, formats=formats))
    for kind in ("colour.tif", "icon.ico", "alpha.webp"):
        take_file(STRANGE[kind][1], HOW)
    assert opened == [["TIFF"], ["ICO"], ["WEBP"]]
    with pytest.raises(NotAnImage, match="PSD is not supported"):
        take_file(b"8BPS\0\1" + bytes(100), HOW)
    assert len(opened) == 3


def test_masks_are_not_transcoded(tmp_path: Path) -> None:
    for part in ("in", "masks"):
        (tmp_path / part / "cat").mkdir(parents=True)
    for i in range(3):
        (tmp_path / f"in/cat/{i}.tif").write_bytes(STRANGE["colour.tif"][1])
        (tmp_path / f"masks/cat/{i}.png").write_bytes(file_bytes(np.full((HEIGHT, WIDTH), i, np.uint8), "PNG"))
    (tmp_path / "masks/cat/0.png").write_bytes(STRANGE["palette.tif"][1])
    run(tmp_path / "in", tmp_path / "out", masks=str(tmp_path / "masks"))
    assert reasons_in(tmp_path / "out") == {"cat/0.tif": "bad_mask"}


# ---- what is counted and recorded
def test_what_was_re_encoded_is_counted_and_named(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", folder, "--threads", "1"]
    done = subprocess.run([*command, "--output", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = load_manifest(tmp_path / "out")
    counts = {kind: sum(kind == other for other, _ in STRANGE.values()) for kind in KINDS}
    assert manifest.made_by["transcoded"] == counts
    keys = manifest.made_by["transcoded_keys"]
    assert {kind: len(names) for kind, names in keys.items()} == counts
    assert keys["webp"] == [f"cat/{name}" for name in sorted(STRANGE) if name.endswith(".webp")]
    assert manifest.made_by["sixteen_bit"] == {"high": 3}
    assert {name: manifest.made_by["versions"][name] for name in ("pillow", "zlib")} == transcoder_versions()
    assert f"Re-encoded as PNG: {', '.join(f'{n} {kind}' for kind, n in counts.items())}" in done.stdout
    assert "16-bit gray, of which 8 bits are kept: 3 high" in done.stdout
    done = subprocess.run([*command, "--output", tmp_path / "other", "--sixteen_bit", "scale", "--json"],
                          capture_output=True, text=True)  # fmt: skip
    document = json.loads(done.stdout)
    assert (document["transcoded"], document["sixteen_bit"]) == (counts, {"scale": 3})
    assert load_manifest(tmp_path / "other").made_by["options"]["sixteen_bit"] == "scale"


def test_a_dataset_without_such_files_records_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    (tmp_path / "in/cat/a.jpg").write_bytes(file_bytes(photo(1), "JPEG"))
    manifest = converted(tmp_path / "in", tmp_path / "out")
    assert set(manifest.made_by) == {"options", "plan", "source_digest", "versions"}
    assert not {"transcode", "sixteen_bit"} & set(manifest.made_by["options"])
    assert "zlib" not in manifest.made_by["versions"]


def test_twenty_names_of_a_kind_are_kept_the_first_by_name(tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    for i in range(30):
        (tmp_path / f"in/cat/{i:02d}.gif").write_bytes(STRANGE["transparent.gif"][1])
    manifest = converted(tmp_path / "in", tmp_path / "out", target_bytes=2000)
    assert sum(len(split.shards) for split in manifest.splits.values()) > 3
    assert manifest.made_by["transcoded"] == {"gif": 30}
    assert manifest.made_by["transcoded_keys"] == {"gif": [f"cat/{i:02d}.gif" for i in range(20)]}


def test_digests_and_duplicates_are_those_of_the_files_as_they_were_read(tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    for i, name in enumerate(["colour.tif", "colour.tif", "packed.tif"]):
        (tmp_path / f"in/cat/{i}.tif").write_bytes(STRANGE[name][1])
    first = converted(tmp_path / "in", tmp_path / "out")
    assert first.statistics["duplicates"]["records"] == 1
    other = converted(tmp_path / "in", tmp_path / "decoded", payload="decoded")
    assert other.made_by["source_digest"] == first.made_by["source_digest"]


def test_the_plan_changes_with_the_versions_that_encode(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = converted(folder, tmp_path / "out").made_by["plan"]
    monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "9.9.9")
    assert transcoder_versions()["zlib"] == f"9.9.9 level {LEVEL}"
    assert converted(folder, tmp_path / "other").made_by["plan"] != before


def test_the_plan_of_jpeg_and_png_files_is_the_one_it_always_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    for name in ("a.jpg", "b.JPEG", "c.png"):
        (tmp_path / "in/cat" / name).write_bytes(JPEG)
    before = converted(tmp_path / "in", tmp_path / "out").made_by["plan"]
    monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "9.9.9")
    assert converted(tmp_path / "in", tmp_path / "other").made_by["plan"] == before
    assert converted(tmp_path / "in", tmp_path / "none", transcode="none").made_by["plan"] != before


def test_a_worker_with_other_versions_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.shards.transcoder_versions", lambda: {"pillow": "1", "zlib": "2"})
    with pytest.raises(SetupError, match=r"was re-encoded with \{'pillow': '1', 'zlib': '2'\}, and the plan was made"):
        run(folder, tmp_path / "out")


def test_shards_have_the_target_s_size_though_files_grow(tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    alpha = np.full((80, 100, 1), 200, np.uint8)
    for i in range(40):
        data = file_bytes(Image.fromarray(np.dstack([photo(i, 80, 100), alpha])), "WEBP", quality=30)
        (tmp_path / f"in/cat/{i}.webp").write_bytes(data)
    manifest = converted(tmp_path / "in", tmp_path / "out", split={"train": 1.0}, target_bytes=40_000)
    sizes = [shard.num_bytes for shard in manifest.splits["train"].shards]
    assert len(sizes) > 4
    assert max(sizes) < 60_000


# ---- what is loaded
def test_without_pillow_the_first_file_that_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        SetupError, match=r"read as TIFF, which takes Pillow: pip install 'tfpipe\[beam\]'; convert --trans"
    ):
        take_file(STRANGE["colour.tif"][1], HOW)
    assert take_file(JPEG, HOW).data is JPEG


def test_raw_conversion_loads_no_tensorflow_and_pillow_only_for_a_file_that_needs_it() -> None:
    program = (
        "import sys\n"
        "from tfpipe.images.transcode import take_file\n"
        "from beam_jobs.encode.record import Files\n"
        "from beam_jobs.job import Transcoding\n"
        "taken = take_file(sys.stdin.buffer.read(), Transcoding(10**6))\n"
        "print(taken.header.format, 'tensorflow' in sys.modules, 'PIL' in sys.modules)\n"
    )
    for data, expected in ((JPEG, "jpeg False False"), (STRANGE["colour.tif"][1], "png False True")):
        done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True)
        assert done.stdout.decode().strip() == expected, done.stderr.decode()


def test_broken_files_say_what_pillow_says() -> None:
    tiff = STRANGE["packed.tif"][1]
    assert refusal(tiff[:8] + b"\xff" * (len(tiff) - 150) + tiff[-142:]).sentence.startswith(
        "Pillow refuses the file: "
    )
    assert transcode._broken(OSError("image file is truncated (3 bytes not processed)")).reason == "truncated"
