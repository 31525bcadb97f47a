"""Whatever is listed is written or refused with its reason, and the job goes on as far as --max_rejected allows."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf
from conversions import REJECTED, assert_accounted, reasons_in, run
from pictures import KINDS, files_of, fill_folder, stock_read, turned, write_listing

from beam_jobs import convert as convert_module
from beam_jobs.convert import convert
from beam_jobs.job import Job, read_labels
from beam_jobs.sources import listing
from tfpipe.errors import DataError, UsageError
from tfpipe.format.manifest import load_manifest
from tfpipe.images.probe import DEFAULT_MAX_PIXELS
from tfpipe.maintenance.check import check_dataset

JPEG, PNG = KINDS[".jpg"](1), KINDS[".png"](1)
IMAGE = tf.io.FixedLenFeature([], tf.string)


def bomb() -> bytes:
    """A PNG of 70 bytes whose header announces 400 megapixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">II5B", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# File name -> content, and the reason for which it is refused; None where it is taken.
FILES: dict[str, tuple[bytes, str | None]] = {
    "good.jpg": (JPEG, None),
    "größe.jpg": (JPEG, None),
    "日本語.png": (PNG, None),
    "two words.jpg": (JPEG, None),
    "line\nbreak.jpg": (JPEG, None),
    "[x]*?.jpg": (JPEG, None),
    "quote\"'`$(id).jpg": (JPEG, None),
    "x" * 240 + ".jpg": (JPEG, None),
    "e\u0301.jpg": (JPEG, None),
    "é.jpg": (JPEG, None),
    "A.jpg": (JPEG, None),
    "a.jpg": (JPEG, None),
    "png called.jpg": (PNG, None),
    "no_ending": (JPEG, None),
    "junk behind.jpg": (JPEG + b"junk", None),
    "turned.jpg": (turned(1, 6), None),
    "zero.jpg": (b"", "empty"),
    "text.jpg": (b"404 Not Found", "not_an_image"),
    "page.jpg": (b"<!DOCTYPE html><html></html>", "not_an_image"),
    "notes.txt": (b"these are notes", "not_an_image"),
    "cut.jpg": (JPEG[: len(JPEG) * 4 // 5], "truncated"),
    "cut at the end.jpg": (JPEG[:-2], "truncated"),
    "cut.png": (PNG[:-12], "truncated"),
    "cut in the header.jpg": (JPEG[:20], "bad_header"),
    "bomb.png": (bomb(), "too_many_pixels"),
    "photo.tiff": (b"II*\0" + bytes(100), "unsupported_format"),
    "photo.avif": (b"\0\0\0\x20ftypavif" + bytes(100), "unsupported_format"),
}
# Passes the probe, and the decoder refuses it: the compressed pixels are junk.
UNDECODABLE = PNG[:41] + bytes(len(PNG) - 57) + PNG[-16:]


@pytest.mark.parametrize(
    "options",
    [{}, {"threads": 3, "verify": "decode"}, {"payload": "decoded", "dtype": "uint8"}],
    ids=["raw", "raw, decoded once", "decoded"],
)
def test_every_bad_file_of_a_folder_is_refused_with_its_reason(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = tmp_path / "in" / "cat"
    folder.mkdir(parents=True)
    for name, (data, _) in FILES.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop").symlink_to(".")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(JPEG)
    (folder / "undecodable.png").write_bytes(UNDECODABLE)
    decodes = options.get("verify") == "decode" or "payload" in options
    expected = {f"cat/{name}": reason for name, (_, reason) in FILES.items() if reason}
    expected |= {
        "cat/pipe.jpg": "not_a_file",
        "cat/loop": "symlink_loop",
        "cat/self.jpg": "symlink_loop",
        "cat/gone.jpg": "missing",
        "cat/caf\\udce9.jpg": "bad_name",
    }
    expected |= {"cat/undecodable.png": "undecodable"} if decodes else {}
    outcome = run(tmp_path / "in", tmp_path / "out", **options)
    assert reasons_in(tmp_path / "out") == expected
    assert_accounted(outcome, tmp_path / "out")
    keys = {record["key"].decode() for record in stock_read(load_manifest(tmp_path / "out"))}
    taken = {f"cat/{name}" for name, (_, reason) in FILES.items() if reason is None}
    assert keys == (taken if decodes else taken | {"cat/undecodable.png"})


def test_every_bad_row_of_a_listing_is_refused_with_its_reason(tmp_path: Path) -> None:
    fill_folder(tmp_path, ["cat"], 12)
    good = [(f"cat/{i:03d}.jpg", "cat", "1") for i in range(8)]
    (tmp_path / "cat/cut.jpg").write_bytes(JPEG[:-2])
    (tmp_path / "cat/zero.jpg").touch()
    bad = [
        ("cat/gone.jpg", "cat", "1"),
        ("cat/cut.jpg", "cat", "1"),
        ("cat/zero.jpg", "cat", "1"),
        ("cat/008.jpg", "cat"),
        ("cat/009.jpg", "cat", "1", "2"),
        ("cat/010.jpg", "", "1"),
        ("cat/011.jpg", "owl", "1"),
        ("cat", "cat", "1"),
        ("y" * 300, "cat", "1"),
        ("", "cat", "1"),
        ("z\0.jpg", "cat", "1"),
    ]
    listing = write_listing(tmp_path / "list.csv", [("uri", "label", "age"), *good, *bad])
    with open(listing, "ab") as file:
        file.write(b"\n\n\xff.jpg,cat,1\n")
    (tmp_path / "labels.txt").write_text("cat\n")
    outcome = run(listing, tmp_path / "out", labels=str(tmp_path / "labels.txt"))
    assert reasons_in(tmp_path / "out") == {
        "cat/gone.jpg": "missing",
        "cat/cut.jpg": "truncated",
        "cat/zero.jpg": "empty",
        "cat/008.jpg": "bad_row",
        "cat/009.jpg": "bad_row",
        "cat/010.jpg": "empty_label",
        "cat/011.jpg": "unknown_label",
        "cat": "not_a_file",
        "y" * 300: "unreadable",
        "": "bad_row",
        "z\0.jpg": "bad_name",
        "\\udcff.jpg": "bad_name",
    }
    assert_accounted(outcome, tmp_path / "out")
    assert outcome.manifest is not None
    assert outcome.manifest.num_records() == 8


@pytest.mark.parametrize("copies", [("cat", "cat"), ("cat", "dog"), ("cat", "cat", "dog")], ids="-".join)
def test_every_copy_of_a_duplicate_key_is_refused(tmp_path: Path, copies: tuple[str, ...]) -> None:
    fill_folder(tmp_path, ["in"], 5)
    rows = [("in/000.jpg", "cat"), *(("in/001.jpg", label) for label in copies), ("in/002.jpg", "dog")]
    outcome = run(write_listing(tmp_path / "list.csv", rows), tmp_path / "out")
    lines = (tmp_path / "out" / REJECTED).read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["in/001.jpg"] * len(copies)
    assert outcome.refused == {"duplicate_key": len(copies)}
    assert_accounted(outcome, tmp_path / "out")


def test_a_file_of_which_every_row_is_bad_is_no_duplicate(tmp_path: Path) -> None:
    fill_folder(tmp_path, ["in"], 5)
    rows = [("in/000.jpg", "cat"), ("in/gone.jpg", "cat"), ("in/gone.jpg", "cat")]
    outcome = run(write_listing(tmp_path / "list.csv", rows), tmp_path / "out")
    assert outcome.refused == {"missing": 2}
    assert_accounted(outcome, tmp_path / "out")


def test_a_file_that_goes_away_between_listing_and_reading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_folder(tmp_path / "in", ["cat"], 12)
    real = convert_module._check_space

    def vanish(*args: Any) -> None:
        (tmp_path / "in/cat/003.jpg").unlink()
        real(*args)

    monkeypatch.setattr(convert_module, "_check_space", vanish)
    outcome = run(tmp_path / "in", tmp_path / "out")
    assert reasons_in(tmp_path / "out") == {"cat/003.jpg": "unreadable"}
    assert_accounted(outcome, tmp_path / "out")


@pytest.mark.parametrize("most", [100, 10**9], ids=["short reads", "whole reads"])
def test_a_file_that_changes_its_size_is_read_whole_however_short_the_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    fill_folder(tmp_path / "in", ["cat"], 12)
    real = convert_module._check_space

    def grow(*args: Any) -> None:
        (tmp_path / "in/cat/003.jpg").write_bytes(KINDS[".png"](99))
        real(*args)

    short = SimpleNamespace(**{**vars(os), "read": lambda handle, count: os.read(handle, min(count, most))})
    monkeypatch.setattr(listing, "os", short)
    monkeypatch.setattr(convert_module, "_check_space", grow)
    manifest = run(tmp_path / "in", tmp_path / "out").manifest
    assert manifest is not None
    images = {record["key"].decode(): record["image"] for record in stock_read(manifest, image=IMAGE)}
    assert images == files_of(tmp_path / "in")


def test_max_pixels_draws_the_line(tmp_path: Path) -> None:
    fill_folder(tmp_path / "in", ["cat"], 5)
    assert run(tmp_path / "in", tmp_path / "fits", max_pixels=1200).refused == {}
    with pytest.raises(DataError, match="30 x 40 = 1200 pixels; --max_pixels allows 1199"):
        run(tmp_path / "in", tmp_path / "out", max_pixels=1199)
    assert DEFAULT_MAX_PIXELS == 2**26


# ---- how many may be refused


def with_bad(folder: Path, *, good: int, cut: int, zero: int) -> Path:
    """A folder with files that indexing refuses and files that only reading does."""
    fill_folder(folder, ["cat"], good)
    for i in range(cut):
        (folder / f"cat/cut{i}.jpg").write_bytes(JPEG[:-2])
    for i in range(zero):
        (folder / f"cat/zero{i}.jpg").touch()
    return folder


@pytest.mark.parametrize(
    ("allowed", "enough"),
    [
        ("0", False),
        ("3", False),
        ("4", True),
        ("1000", True),
        ("0%", False),
        ("19.9%", False),
        ("20%", True),
        ("100%", True),
    ],
)
def test_as_many_as_allowed_may_be_refused_and_no_more(tmp_path: Path, allowed: str, enough: bool) -> None:
    source = with_bad(tmp_path / "in", good=16, cut=2, zero=2)
    if enough:
        assert_accounted(run(source, tmp_path / "out", max_rejected=allowed), tmp_path / "out")
    else:
        with pytest.raises(DataError, match=rf"of 20 inputs were refused .*\(--max_rejected {allowed}\)"):
            run(source, tmp_path / "out", max_rejected=allowed)


def test_the_default_is_one_in_a_hundred(tmp_path: Path) -> None:
    source = with_bad(tmp_path / "in", good=99, cut=1, zero=0)
    assert convert(Job(input=str(source), output=str(tmp_path / "out"))).refused == {"truncated": 1}
    (source / "cat/000.jpg").unlink()
    with pytest.raises(DataError, match="1 of 99 inputs were refused"):
        convert(Job(input=str(source), output=str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            {"cut": 0, "zero": 3},
            "3 of 19 inputs were refused (3 empty), 2 may be (--max_rejected 2); the first is 'cat/zero0.jpg': "
            "The file has no bytes. All are in ",
        ),
        (
            {"cut": 2, "zero": 1},
            "3 of 19 inputs were refused (2 truncated, 1 empty), 2 may be (--max_rejected 2); the first is "
            "'cat/cut0.jpg': The JPEG is cut: ",
        ),
    ],
    ids=["while listing", "while reading"],
)
def test_too_many_refusals_stop_before_the_manifest_and_a_higher_limit_goes_on(
    tmp_path: Path, counts: dict[str, int], sentence: str
) -> None:
    source = with_bad(tmp_path / "in", good=16, **counts)
    output = tmp_path / "out"
    for options in ({}, {"resume": True}):
        with pytest.raises(DataError) as caught:
            run(source, output, max_rejected="2", **options)
        assert str(caught.value).startswith(sentence)
        assert "go on with --resume and a higher --max_rejected" in str(caught.value)
        assert len(reasons_in(output)) == 3
        assert not (output / "dataset.json").exists()
    run(source, output, max_rejected="3", resume=True)
    run(source, tmp_path / "undisturbed", max_rejected="3")
    assert files_of(output) == files_of(tmp_path / "undisturbed")


def test_a_dataset_of_refusals_alone_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    (tmp_path / "in/cat/1.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"All 1 inputs were refused \(1 not_an_image\): there is nothing to write; "):
        run(tmp_path / "in", tmp_path / "out", max_rejected="100%")
    assert not (tmp_path / "out/dataset.json").exists()


def test_an_overwrite_with_too_many_refusals_leaves_the_old_dataset(tmp_path: Path) -> None:
    source = fill_folder(tmp_path / "in", ["cat"], 12)
    old = run(source, tmp_path / "out").manifest
    (source / "cat/cut.jpg").write_bytes(JPEG[:-2])
    with pytest.raises(DataError):
        run(source, tmp_path / "out", overwrite=True, max_rejected="0")
    assert load_manifest(tmp_path / "out") == old
    assert check_dataset(load_manifest(tmp_path / "out")) == []


# ---- options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"payload": "video"}, r"--payload is 'video'; it takes one of \['raw', 'decoded', 'embedding'\]"),
        ({"resize": "squash"}, r"--resize is 'squash'; it takes one of \['pad', 'stretch', 'crop'\]"),
        ({"dtype": "int8"}, "--dtype is 'int8'; it takes one of"),
        ({"target_bytes": 0}, "--target_bytes is 0; it must be at least 1"),
        ({"threads": 0}, "--threads is 0; it must be at least 1"),
        ({"limit": 0}, "--limit is 0; it must be at least 1"),
        ({"seed": -1}, r"--seed is -1; it must be in \[0, 2\*\*64\)"),
        (
            {"resume": True, "overwrite": True},
            "--resume goes on with what is there, --overwrite replaces it; take one of the two",
        ),
        ({"max_rejected": "some"}, "--max_rejected is 'some'; it takes a count such as 10, or a share such as 1%"),
        ({"max_rejected": "-1"}, "--max_rejected is '-1'"),
        ({"split": {"train": 0.5}}, "sum to 0.5; they must sum to 1"),
        ({"payload": "embedding"}, "--payload embedding needs --model"),
        ({"model": "MobileNetV2"}, "--model and --model_range go with --payload embedding, not raw"),
        ({"image_size": (3, 3)}, "--image_size goes with --payload decoded or embedding; raw keeps each file as it is"),
        (
            {"payload": "decoded", "verify": "decode"},
            "--verify goes with --payload raw; decoded decodes every image anyway",
        ),
        ({"payload": "decoded", "image_size": (0, 5)}, r"--image_size is \(0, 5\); "),
        ({"payload": "embedding", "model": "x", "model_range": "0,2"}, "--model_range is '0,2'; it takes one of"),
    ],
)
def test_a_job_that_contradicts_itself_is_refused_before_anything_is_read(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Job(input="in", output="out", **options)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"cat\n\ndog\n", "labels.txt:2: the line is blank; every line is a class name"),
        (b"cat\ndog\ncat\n", "labels.txt:3: the class 'cat' occurs twice, first in line 1"),
        (b"", "lists no classes"),
        (b"\xff\n", "can't be read: "),
    ],
)
def test_a_labels_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        read_labels(str(tmp_path / "labels.txt"))


def test_a_labels_file_may_come_from_windows(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffchat noir\r\ngröße\r\n".encode())
    assert read_labels(str(tmp_path / "labels.txt")) == ("chat noir", "größe")
    with pytest.raises(UsageError, match="nowhere.txt' can't be read"):
        read_labels(str(tmp_path / "nowhere.txt"))
