"""Records that can't be adopted are refused by name, and the command shows the inferred schema."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from foreign import (
    Record,
    imagenet,
    ints,
    tfds,
    write,
    write_all,
)

import tfpipe
from tfpipe import cli
from tfpipe.errors import DataError, UsageError
from tfpipe.format.framing import frame
from tfpipe.format.manifest import MANIFEST_NAME, Manifest
from tfpipe.maintenance.check import check_dataset

# ---- refusals


def test_a_damaged_shard_is_refused_with_its_record_and_a_way_out(tmp_path: Path) -> None:
    for compression in ("", "GZIP"):
        folder = write_all(tmp_path / f"c{compression}", tfds, compression)
        path = folder / "x-train.tfrecord-00001-of-00003"
        data = path.read_bytes()
        path.write_bytes(data[:-10])
        with pytest.raises(DataError, match=r"x-train.tfrecord-00001-of-00003: record 9 at byte .*tfpipe repair, with"):
            tfpipe.index(folder)
        assert not (folder / MANIFEST_NAME).exists()


def test_records_that_do_not_fit_are_refused_with_shard_and_record(tmp_path: Path) -> None:
    cases: list[tuple[bytes | Record, str]] = [
        (b"\xff\xff", "record 1: Not a tf.train.Example of 2 bytes"),
        ({"image": tfds(1)["image"]}, r"record 1: it has no label_int of one value under 'label'; it has \['image'\]"),
        ({**tfds(1), "label": ints(2**40)}, r"record 1: its label is 1099511627776; class ids are below 1,048,576"),
    ]
    for bad, sentence in cases:
        good = [tf.train.Example(features=tf.train.Features(feature=tfds(0))).SerializeToString()] * 17
        other = bad if isinstance(bad, bytes) else b""
        if not isinstance(bad, bytes):
            other = tf.train.Example(features=tf.train.Features(feature=bad)).SerializeToString()
        # The sample comes from the first file: what follows it must fit too.
        (tmp_path / "a.tfrecord").write_bytes(b"".join(chunk for data in good for chunk in frame([data])))
        (tmp_path / "b.tfrecord").write_bytes(b"".join(chunk for data in (good[0], other) for chunk in frame([data])))
        with pytest.raises(DataError, match=f"b.tfrecord: {sentence}"):
            tfpipe.index(tmp_path)


def test_nothing_is_overwritten_and_nothing_is_mixed(tmp_path: Path) -> None:
    write_all(tmp_path / "a", tfds)
    write_all(tmp_path / "b", tfds)
    with pytest.raises(UsageError, match="The files are in 2 folders .*one: give an output, into which they are"):
        tfpipe.index(f"{tmp_path}/*/*")
    with pytest.raises(UsageError, match="2 of the files are called x-train.tfrecord-00000-of-00003"):
        tfpipe.index(f"{tmp_path}/*/*", output=tmp_path / "c")
    tfpipe.index(tmp_path / "a")
    with pytest.raises(ValueError, match="dataset.json exists already: remove it, or give another output"):
        tfpipe.index(tmp_path / "a")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x-val.tfrecord-00000-of-00001").write_bytes(b"another")
    with pytest.raises(UsageError, match="x-val.tfrecord-00000-of-00001 exists already, and is another file than"):
        tfpipe.index(tmp_path / "b", output=tmp_path / "d")
    with pytest.raises(FileNotFoundError, match="No file matches .*nothing"):
        tfpipe.index(tmp_path / "nothing*")
    (tmp_path / "e").mkdir()
    with pytest.raises(FileNotFoundError, match="of a folder, files named as TFRecords are used, such as"):
        tfpipe.index(tmp_path / "e")
    (tmp_path / "e" / "empty.tfrecord").touch()
    with pytest.raises(DataError, match="The 1 files hold no record"):
        tfpipe.index(tmp_path / "e")


def test_other_files_beside_adopted_ones_are_no_strangers(tmp_path: Path) -> None:
    write(tmp_path / "train.tfrecord", [tfds(1)])
    write(tmp_path / "other.tfrecord", [tfds(1)])
    assert check_dataset(tfpipe.index(f"{tmp_path}/train*")) == []


def test_our_own_shards_are_adopted_with_the_schema_they_had(raw_dataset: Manifest, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw_dataset.directory, tmp_path / "copy"))
    (folder / MANIFEST_NAME).unlink()
    manifest = tfpipe.index(folder)
    assert manifest.schema == raw_dataset.schema
    assert manifest.class_names == raw_dataset.class_names
    assert {name: split.class_counts for name, split in manifest.splits.items()} == {
        name: split.class_counts for name, split in raw_dataset.splits.items()
    }
    for name, split in manifest.splits.items():
        theirs = {shard.path: shard for shard in raw_dataset.split(name).shards}
        for shard in split.shards:
            assert dataclasses.replace(shard, index_start=0) == dataclasses.replace(theirs[shard.path], index_start=0)


# ---- the command line


def run_tfpipe(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["tfpipe", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_verb_shows_what_it_inferred(tmp_path: Path, monkeypatch, capsys) -> None:
    write_all(tmp_path / "theirs", imagenet, "GZIP")
    pattern = f"{tmp_path}/theirs/*"
    assert run_tfpipe(monkeypatch, "index", pattern, "--output", tmp_path / "ours") == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'ours'}: 40 raw records of 4 classes" in out
    assert "image/encoded" in out
    assert "Note: 1 class ids have no record (0); ids are taken as they are stored." in out
    assert "Note: Compressed shards have no offsets" in out
    assert run_tfpipe(monkeypatch, "index", pattern, "--output", tmp_path / "ours") == 2
    assert "dataset.json exists already" in capsys.readouterr().err
    assert run_tfpipe(monkeypatch, "index", pattern, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["records"], document["shards"]) == ({"train": 30, "validation": 10}, 4)
    assert run_tfpipe(monkeypatch, "inspect", tmp_path / "ours") == 0
    out = capsys.readouterr().out
    assert "Compressed: train, validation; without offsets, training shuffles shards and a buffer of records" in out
    assert run_tfpipe(monkeypatch, "check", tmp_path / "ours") == 0


def test_the_verb_takes_a_schema(tmp_path: Path, monkeypatch, capsys) -> None:
    write(tmp_path / "a.tfrecord", [{"picture": tfds(n)["image"], "kind": ints(n % 3)} for n in range(6)])
    schema = {
        "payload": "raw",
        "features": [
            {"name": "image", "dtype": "uint8", "shape": [30, 40, 3], "codec": "image", "stored_as": "picture"},
            {"name": "label_int", "dtype": "int64", "stored_as": "kind"},
        ],
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    pattern = f"{tmp_path}/*.tfrecord"
    assert run_tfpipe(monkeypatch, "index", pattern, "--schema", tmp_path / "schema.json", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["class_names"] == ["0", "1", "2"]
    assert [feature["stored_as"] for feature in document["schema"]["features"]] == ["picture", "kind"]
    options = ["--output", tmp_path / "out", "--schema", tmp_path / "schema.json", "--split", "train=1"]
    assert run_tfpipe(monkeypatch, "convert", "--input", pattern, *options) == 0
    assert "6 raw records of 3 classes" in capsys.readouterr().out
    assert run_tfpipe(monkeypatch, "index", pattern, "--output", tmp_path / "x", "--schema", tmp_path / "none") == 2
    assert "none' can't be read: No such file or directory" in capsys.readouterr().err
