"""Images inside tar and zip archives are read in place, and every container gives what the folder gives."""

from __future__ import annotations

import gzip
import json
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from containers import (
    CONTAINERS,
    JPEGS,
    hub_table,
    sample_members,
    shards_of,
    write_hub,
    write_tar,
    write_zip,
)
from conversions import assert_accounted, reasons_in, run
from pictures import KINDS, files_of, stock_read

from beam_jobs.convert import convert
from beam_jobs.job import Job
from beam_jobs.sources import open_source, zips
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest, load_manifest


@pytest.mark.parametrize("kind", [kind for kind in CONTAINERS if kind != "samples.tar"])
def test_a_container_gives_the_shards_of_the_folder_that_it_holds(
    from_folder: Manifest, tmp_path: Path, kind: str
) -> None:
    source = CONTAINERS[kind](tmp_path / kind, JPEGS)
    run(source, tmp_path / "out")
    assert list(shards_of(tmp_path / "out").values()) == list(shards_of(from_folder.directory).values())
    assert not (tmp_path / "out/_state").exists()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_order_and_threads_change_no_byte(tmp_path: Path, kind: str) -> None:
    mixed = dict(random.Random(0).sample(list(JPEGS.items()), len(JPEGS)))
    run(CONTAINERS[kind](tmp_path / f"one {kind}", JPEGS), tmp_path / "one")
    run(CONTAINERS[kind](tmp_path / f"two {kind}", mixed), tmp_path / "two", threads=3)
    run(tmp_path / f"two {kind}", tmp_path / "three", threads=3, verify="decode", split=None)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert shards_of(tmp_path / "three").keys() != {}
    assert load_manifest(tmp_path / "three").num_records() == len(JPEGS)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_dry_run_and_a_limit_take_what_they_say(tmp_path: Path, kind: str) -> None:
    source = CONTAINERS[kind](tmp_path / kind, JPEGS)
    options = {"payload": "decoded", "dtype": "uint8"}
    assert run(source, tmp_path / "dry", dry_run=True, **options).plan.listed == len(JPEGS)
    assert not (tmp_path / "dry").exists()
    assert run(source, tmp_path / "few", limit=7, **options).plan.listed == 7
    assert load_manifest(tmp_path / "few").num_records() == 7
    again = run(source, tmp_path / "few", limit=7, resume=True, **options)
    assert again.resumed == len(again.plan.shards)


def test_a_finished_conversion_resumes_to_nothing_and_an_unfinished_one_to_the_same_bytes(tmp_path: Path) -> None:
    source = write_hub(tmp_path / "hub.parquet", JPEGS)
    (tmp_path / "hub.parquet").rename(source)
    with pytest.raises(Exception, match="may be"):
        convert(Job(input=str(_with_bad_row(tmp_path)), output=str(tmp_path / "out"), max_rejected="0"))
    outcome = run(tmp_path / "bad.parquet", tmp_path / "out", resume=True, target_bytes=64_000_000)
    run(tmp_path / "bad.parquet", tmp_path / "plain", target_bytes=64_000_000)
    assert_accounted(outcome, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "plain")


def _with_bad_row(root: Path) -> Path:
    pq.write_table(hub_table({**JPEGS, "a/cut.jpg": JPEGS["a/000.jpg"][:-2]}), root / "bad.parquet")
    return root / "bad.parquet"


def test_several_tars_put_their_names_before_the_keys_and_may_be_named_by_folder_or_pattern(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(3):
        write_tar(shards / f"part-{number}.tar", sample_members(JPEGS))
    outcome = run(shards, tmp_path / "folder")
    run(Path(f"{shards}/part-*.tar"), tmp_path / "pattern")
    assert files_of(tmp_path / "folder") == files_of(tmp_path / "pattern")
    assert outcome.plan.listed == 3 * len(JPEGS)
    keys = {record["key"].decode() for record in stock_read(load_manifest(tmp_path / "folder"))}
    assert keys == {f"part-{number}.tar/{name}" for number in range(3) for name in JPEGS}


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_files_that_begin_with_the_name_of_a_split_keep_it(tmp_path: Path, ending: str) -> None:
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        path = tmp_path / "in" / f"{name}.{ending}"
        path.parent.mkdir(exist_ok=True)
        _ = write_hub(path, JPEGS) if ending == "parquet" else write_tar(path, sample_members(JPEGS))
    manifest = run(tmp_path / "in", tmp_path / "out").manifest
    assert manifest is not None
    assert {name: manifest.num_records(name) for name in manifest.splits} == {"train": 24, "test": 24}
    with pytest.raises(UsageError, match="assigns the splits"):
        run(tmp_path / "in", tmp_path / "other", split={"train": 1})


# ---- tar


def test_the_columns_of_a_sample_ride_along(tmp_path: Path) -> None:
    members = []
    for i in range(12):
        row = {"label": "cat", "width": i, "score": i / 2, "key": "dropped", "boxes": [1, 2]}
        members += [(f"x/{i}.JPG", KINDS[".jpg"](i)), (f"x/{i}.json", json.dumps(row).encode())]
        members += [(f"x/{i}.txt", f"größe {i}".encode()), (f"x/{i}.npy", b"not for us")]
    run(write_tar(tmp_path / "in.tar", members), tmp_path / "out")
    manifest = load_manifest(tmp_path / "out")
    names = {"width": tf.int64, "score": tf.float32, "txt": tf.string, "boxes": tf.string}
    records = stock_read(manifest, **{name: tf.io.FixedLenFeature([], dtype) for name, dtype in names.items()})
    assert len(records) == 12
    for record in records:
        i = int(record["width"])
        assert record["key"].decode() == f"x/{i}.JPG"
        assert (record["txt"].decode(), record["score"], record["boxes"]) == (f"größe {i}", i / 2, b"[1, 2]")


def test_every_bad_member_of_a_tar_is_refused_with_its_reason(tmp_path: Path) -> None:
    jpeg = JPEGS["a/000.jpg"]
    good = [(f"good{i}.{ending}", data) for i in range(9) for ending, data in (("jpg", jpeg), ("cls", b"a"))]
    bad = [
        *[("../up.jpg", jpeg), ("/etc/absolute.jpg", jpeg), ("back\\slash.jpg", jpeg), ("nolabel.jpg", jpeg)],
        *[("noimage.cls", b"a"), ("two.jpg", jpeg), ("two.png", KINDS[".png"](1)), ("two.cls", b"a")],
        *[("twice.jpg", jpeg), ("twice.jpg", jpeg), ("twice.cls", b"a")],
        *[("apart.jpg", jpeg), ("apart.cls", b"a"), ("between.jpg", jpeg), ("between.cls", b"a")],
        *[("apart.jpg", jpeg), ("apart.cls", b"a"), ("json.jpg", jpeg), ("json.json", b"{"), ("list.jpg", jpeg)],
        *[("list.json", b"[]"), ("odd.jpg", jpeg), ("odd.json", b'{"label": "a", "strange": 1}')],
        *[("large.jpg", jpeg), ("large.cls", b"a" * (1 << 20 | 1)), ("zero.jpg", b""), ("zero.cls", b"a")],
        *[("cut.jpg", jpeg[:-2]), ("cut.cls", b"a"), (".hidden.jpg", jpeg), ("text.jpg", b"404"), ("text.cls", b"a")],
        *[("latin.jpg", jpeg), ("latin.cls", b"\xff"), ("./dots/../x.jpg", jpeg)],
    ]
    path = write_tar(tmp_path / "in.tar", good + bad)
    with tarfile.open(path, "a") as tar:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("hard.jpg", tarfile.LNKTYPE), ("dev.jpg", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(_folder("some.jpg"))
    outcome = run(path, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert sorted((row["key"], row["reason"]) for row in rows) == sorted(
        [
            *[("../up.jpg", "bad_name"), ("/etc/absolute.jpg", "bad_name"), ("back\\slash.jpg", "bad_name")],
            *[("nolabel.jpg", "empty_label"), ("noimage", "no_image"), ("two", "several_images")],
            *[("twice.jpg", "duplicate_key")] * 2,
            *[("apart.jpg", "duplicate_key")] * 2,
            *[("json.jpg", "bad_row"), ("list.jpg", "bad_row"), ("large.jpg", "bad_row")],
            *[("zero.jpg", "empty"), ("cut.jpg", "truncated"), ("text.jpg", "not_an_image"), ("latin.jpg", "bad_name")],
            *[("dots/../x.jpg", "bad_name")],
            *[("link.jpg", "not_a_file"), ("hard.jpg", "not_a_file"), ("dev.jpg", "not_a_file")],
        ]
    )
    assert outcome.manifest is not None
    assert outcome.manifest.num_records() + len(rows) == outcome.plan.listed
    assert outcome.manifest.num_records() == 11
    assert outcome.plan.columns == (("strange", "float32"),)


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


@pytest.mark.parametrize("damage", ["cut", "header"])
def test_what_a_damaged_tar_loses_is_said(tmp_path: Path, damage: str) -> None:
    path = write_tar(tmp_path / "in.tar", sample_members(JPEGS))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        info = tar.getmember("b/005.jpg")
    if damage == "cut":
        del data[info.offset_data + info.size * 9 // 10 :]
    else:
        data[info.offset + 3] ^= 255
    path.write_bytes(data)
    outcome = run(path, tmp_path / "out")
    rejected = reasons_in(tmp_path / "out")
    assert rejected[""] == "bad_archive"
    assert rejected.get("b/005.jpg") == ("truncated" if damage == "cut" else None)
    assert_accounted(outcome, tmp_path / "out")
    assert load_manifest(tmp_path / "out").num_records() == 17


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    plain = write_tar(tmp_path / "in.tar", sample_members(JPEGS))
    for name in ("in.tar.gz", "called.tar"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        with pytest.raises(UsageError, match=r"is compressed; tar archives are read in place.*gunzip it first"):
            open_source(str(tmp_path / name))
    (tmp_path / "no.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UsageError, match="no.tar' is not a tar archive: "):
        open_source(str(tmp_path / "no.tar"))


# ---- zip


def test_every_bad_member_of_a_zip_is_refused_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MOST_BYTES", 200_000)
    path = tmp_path / "in.zip"
    jpeg = JPEGS["a/000.jpg"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in JPEGS.items():
            archive.writestr(name, data)
        for name in ("../up/x.jpg", "/etc/x.jpg", "a/../../x.jpg", "a\\x.jpg"):
            archive.writestr(name, jpeg)
        archive.writestr("top.jpg", jpeg)
        archive.writestr("a/.hidden.jpg", jpeg)
        archive.writestr("__MACOSX/a/._000.jpg", jpeg)
        archive.writestr("a/zero.jpg", b"")
        archive.writestr("a/bomb.bmp", bytes(100_000))
        archive.writestr("a/large.bmp", random.Random(0).randbytes(200_001))
        archive.writestr("a/text.jpg", b"404 Not Found")
        archive.writestr("a/lzma.jpg", jpeg, zipfile.ZIP_LZMA)
        link = zipfile.ZipInfo("a/link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/001.jpg", jpeg)
    outcome = run(path, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert sorted((row["key"], row["reason"]) for row in rows) == sorted(
        [
            *[("../up/x.jpg", "bad_name"), ("/etc/x.jpg", "bad_name"), ("a/../../x.jpg", "bad_name")],
            *[("a\\x.jpg", "bad_name"), ("a/zero.jpg", "empty"), ("a/bomb.bmp", "bomb"), ("a/large.bmp", "bomb")],
            *[("a/text.jpg", "not_an_image"), ("a/lzma.jpg", "unsupported_format"), ("a/link.jpg", "not_a_file")],
            *[("a/001.jpg", "duplicate_key")] * 2,
        ]
    )
    assert outcome.manifest is not None
    assert outcome.manifest.num_records() == len(JPEGS) - 1 == outcome.plan.listed - len(rows)


def test_a_member_that_lies_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "in.zip", [*JPEGS.items(), ("a/lies.bmp", bytes(50_000))])
    data = bytearray(path.read_bytes())
    for name, place, value in (("a/lies.bmp", 24, 5000), ("a/002.jpg", 16, 7), ("a/003.jpg", 24, 9)):
        begin = data.rfind(name.encode()) - 46  # Its entry in the directory; the stated size is at 24, the CRC at 16.
        assert data[begin : begin + 4] == b"PK\x01\x02"
        data[begin + place : begin + place + 4] = struct.pack("<I", value)
    begin = data.find(b"a/004.jpg") + len("a/004.jpg")
    data[begin : begin + 40] = b"\xff" * 40
    data[data.find(b"a/005.jpg") - 30] = 0
    path.write_bytes(data)
    outcome = run(path, tmp_path / "out")
    assert reasons_in(tmp_path / "out") == {
        "a/lies.bmp": "bomb",
        "a/002.jpg": "damaged_member",
        "a/003.jpg": "bomb",
        "a/004.jpg": "damaged_member",
        "a/005.jpg": "damaged_member",
    }
    assert_accounted(outcome, tmp_path / "out")


def test_a_zip_that_is_none_or_overlaps_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"nothing")
    write_zip(tmp_path / "flat.zip", [("top.jpg", b"x")])
    data = bytearray(write_zip(tmp_path / "overlap.zip", JPEGS.items()).read_bytes())
    begin = data.rfind(b"a/002.jpg") - 46
    data[begin + 20 : begin + 24] = struct.pack("<I", 10_000_000)
    (tmp_path / "overlap.zip").write_bytes(data)
    for name, sentence in (
        ("no.zip", "is not a valid zip archive"),
        ("flat.zip", "holds no folders; a zip archive holds CLASS/image.jpg"),
        ("overlap.zip", "overlap: together they are larger than the archive"),
    ):
        with pytest.raises(UsageError, match=sentence):
            open_source(str(tmp_path / name))


def test_a_zip_of_split_folders_keeps_them(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "in.zip", [(f"{s}/{n}", d) for s in ("train", "val") for n, d in JPEGS.items()])
    manifest = run(path, tmp_path / "out").manifest
    assert manifest is not None
    assert {name: manifest.num_records(name) for name in manifest.splits} == {"train": 24, "validation": 24}
    assert manifest.class_names == ("a", "b")
