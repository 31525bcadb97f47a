"""Images of existing TFRecords, ours or others', are sharded anew."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from containers import (
    JPEGS,
    sample_members,
    write_records,
    write_tar,
    write_zip,
)
from conversions import assert_accounted, reasons_in, run
from pictures import stock_read

from beam_jobs.sources import Refused, open_source
from tfpipe.errors import UsageError

IMAGE = tf.io.FixedLenFeature([], tf.string)


def test_a_dataset_is_sharded_anew_with_its_splits_classes_and_columns(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("b\na\nzebra\n")
    rows = [json.dumps({"file": f"in/{n}", "label": n[0], "text": "007", "n": i}) for i, n in enumerate(JPEGS)]
    for name, data in JPEGS.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    options = {"split": {"train": 0.5, "odd": 0.5}, "seed": 3, "labels": str(tmp_path / "labels.txt")}
    one = run(tmp_path / "in.jsonl", tmp_path / "one", **options).manifest
    two = run(tmp_path / "one", tmp_path / "two", target_bytes=64_000_000, seed=3).manifest
    assert one is not None
    assert two is not None
    assert two.class_names == one.class_names == ("b", "a", "zebra")
    assert [two.schema[name].dtype for name in ("text", "n")] == ["string", "int64"]
    assert sum(len(split.shards) for split in one.splits.values()) > 2
    spec = {"text": IMAGE, "image": IMAGE, "n": tf.io.FixedLenFeature([], tf.int64)}
    for split in ("train", "odd"):
        assert len(two.splits[split].shards) == 1
        assert stock_read(two, split, **spec) == stock_read(one, split, **spec)
    again = run(Path(f"{tmp_path}/one/*.tfrecord"), tmp_path / "three", seed=3, labels=options["labels"]).manifest
    assert again is not None
    assert list(again.splits) == ["train", "validation", "test"]


def test_records_of_the_tfds_kind_have_their_class_numbers_as_names(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "mnist-train.tfrecord-00000-of-00001")) as writer:
        for i, data in enumerate(JPEGS.values()):
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 3])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    outcome = run(tmp_path / "mnist-train.tfrecord-00000-of-00001", tmp_path / "out")
    assert outcome.manifest is not None
    assert outcome.manifest.class_names == ("0", "1", "2")
    keys = {record["key"].decode() for record in stock_read(outcome.manifest)}
    assert keys == {f"mnist-train.tfrecord-00000-of-00001/{i}" for i in range(len(JPEGS))}


def test_bad_records_are_refused_and_a_damaged_one_ends_its_file(tmp_path: Path) -> None:
    write_records(tmp_path / "one.tfrecord", {**JPEGS, "a/none.jpg": b""})
    with tf.io.TFRecordWriter(str(tmp_path / "two.tfrecord")) as writer:
        writer.write(b"\xff\xff")
    two = (tmp_path / "two.tfrecord").read_bytes()
    (tmp_path / "two.tfrecord").write_bytes(two + two[:-1])
    outcome = run(Path(f"{tmp_path}/*.tfrecord"), tmp_path / "out")
    assert reasons_in(tmp_path / "out") == {
        "a/none.jpg": "no_image",
        "two.tfrecord/0": "bad_record",
        "": "damaged_record",
    }
    assert_accounted(outcome, tmp_path / "out")


def test_records_that_hold_no_files_are_refused(tmp_path: Path) -> None:
    run(write_zip(tmp_path / "in.zip", JPEGS.items()), tmp_path / "pixels", payload="decoded", dtype="uint8")
    with pytest.raises(UsageError, match="holds decoded records, not image files; convert its source images"):
        open_source(str(tmp_path / "pixels"))
    with tf.io.TFRecordWriter(str(tmp_path / "y.tfrecord")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(UsageError, match=r"No feature is known as an image .* have \[\], known are \['image',"):
        open_source(str(tmp_path / "y.tfrecord"))


def test_a_file_that_goes_away_after_listing_is_a_refusal(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "in.tar", sample_members(JPEGS))
    source = open_source(str(path))
    entry = next(iter(source.entries(source.pieces(None)[0])))
    assert not isinstance(entry, Refused)
    shutil.move(path, tmp_path / "away.tar")
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(source)).read(entry)
