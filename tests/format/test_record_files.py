"""TFRecord files are known by their names, and what is none of them by its first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfpipe.format.framing import frame
from tfpipe.format.record_files import describe_payload, is_record_file, is_sequence_example, stranger

RECORDS = b"".join(chunk for payload in (b"x" * 40, b"y" * 3000) for chunk in frame([payload]))


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("a.jpg", b"x")
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


STRANGERS: dict[str, tuple[Callable[[], bytes] | bytes, str]] = {
    "empty": (b"", "empty (0 bytes): copy or write it again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer, .*`git lfs pull`"),
    "riegeli": (bytes.fromhex("83af70d10d884a3f") + bytes(56), "Riegeli records, as ArrayRecord files are: write its"),
    "zlib": (zlib.compress(RECORDS), "compressed by ZLIB, which tfpipe does not read .*: unpack it first: python3"),
    "zlib-9": (zlib.compress(RECORDS, 9), "compressed by ZLIB"),
    "zlib-text": (zlib.compress(b"hello" * 99), "compressed by ZLIB"),
    "gzip-text": (gzip.compress(b"hello, " * 99), "compressed by GZIP, and inside it is text"),
    "gzip-tar": (lambda: gzip.compress(tar()), "compressed by GZIP, and inside it is a tar archive"),
    "gzip-zlib": (gzip.compress(zlib.compress(RECORDS)), "compressed by GZIP, and inside it is compressed by ZLIB"),
    "bzip2": (bz2.compress(RECORDS), "compressed by bzip2: `bunzip2`"),
    "xz": (lzma.compress(RECORDS), "compressed by xz: `unxz`"),
    "parquet": (b"PAR1" + bytes(99), "a Parquet file: tfpipe convert reads it under its own ending"),
    "zip": (archive, "a ZIP archive: tfpipe convert"),
    "tar": (tar, "a tar archive: tfpipe convert"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file: write its images"),
    "json": (b'\xef\xbb\xbf {"images": []}', "JSON text: tfpipe convert"),
    "jsonl": (b'[1, 2]\n[3]\n', "JSON text"),
    "html": (b"<!DOCTYPE html>\n<html>404", "a page of HTML, such as the error page of a download"),
    "csv": ("file,label\na.jpg,caf\u00e9\n".encode(), "text: name only the files of records"),
    "numpy": (array, "a NumPy array"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG image"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_a_file_that_holds_no_records_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    content, sentence = STRANGERS[name]
    (tmp_path / "x.tfrecord").write_bytes(content() if callable(content) else content)
    found = stranger(tmp_path / "x.tfrecord")
    assert found is not None
    assert "repair" not in found
    assert re.search(sentence.replace("(0 bytes)", ".0 bytes."), found), found


@pytest.mark.parametrize(
    "content",
    [RECORDS, gzip.compress(RECORDS), bytes(range(1, 200)), b"\x0b" * 40, RECORDS[1:]],
    ids=["records", "gzip", "bytes", "control", "cut"],
)
def test_records_gzip_around_them_and_what_may_be_damage_are_no_strangers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert stranger(tmp_path / "x") is None


@pytest.mark.parametrize(
    "name",
    [
        "train-00000-of-00010",
        "validation-00127-of-00128",
        "a.record",
        "a.records",
        "test07-310.tfrec",
        "a.tfrecord",
        "A.TFRecords",
        "mnist-train.tfrecord-00000-of-00001",
        "coco_train.record-00000-of-00100",
        "a.tfrecord.gz",
        "train-00000-of-00010.gz",
        "mnist_tfrecord_07",
        "x.tfrecord_01",
        "a.tfrecords.3",
    ],
)
def test_names_of_tfrecord_files(name: str) -> None:
    assert is_record_file(name)


@pytest.mark.parametrize(
    "name",
    [
        "x.tfrecord.idx",
        "x.tfrecord.index",
        "train-00000-of-00004.parquet",
        "a.array_record-00000-of-00001",
        "label.labels.txt",
        "dataset_info.json",
        "records.index",
        ".tfrecord",
        "train.tar",
        "train",
        "a.csv.gz",
    ],
)
def test_names_of_other_files(name: str) -> None:
    assert not is_record_file(name)


def test_other_messages_are_named() -> None:
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    sequence = tf.train.SequenceExample()
    sequence.context.feature["label"].int64_list.value.append(1)
    sequence.feature_lists.feature_list["frames"].feature.add().bytes_list.value.append(b"x")
    listed = tf.train.SequenceExample()
    listed.feature_lists.CopyFrom(sequence.feature_lists)
    example = tf.train.Example()
    example.features.feature["label"].int64_list.value.append(1)
    for message, sentence in [
        (sequence.SerializeToString(), "a tf.train.SequenceExample: write each step"),
        (listed.SerializeToString(), "a tf.train.SequenceExample: write each step"),
        (tf.io.serialize_tensor(tf.zeros([2, 3])).numpy(), "a serialized tensor"),
        (tf.io.serialize_tensor(tf.zeros([2, 3], tf.uint8)).numpy(), "a serialized tensor"),
        (Event(wall_time=1.5, file_version="brain.Event:2").SerializeToString(), "an event of TensorBoard's logs"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "a JPEG image: put it into a feature"),
        (b'{"a": 1}', "JSON text: put it into a feature"),
        (b"\xff\xff", "another message, or bytes that are none"),
    ]:
        assert describe_payload(message).startswith(sentence), message
        assert is_sequence_example(message) == ("SequenceExample" in sentence)
    assert not is_sequence_example(example.SerializeToString())
