"""Files that are no TFRecords, and records that are no Examples, are named by every verb that meets them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from conversions import run
from foreign import ints, text, tfds, write

import tfpipe
from tfpipe.cli.index import notes
from tfpipe.errors import DataError, UsageError
from tfpipe.format.framing import frame
from tfpipe.maintenance.check import check_dataset

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def sequence() -> bytes:
    message = tf.train.SequenceExample()
    message.context.feature["image"].CopyFrom(tfds(1)["image"])
    message.context.feature["label"].CopyFrom(ints(1))
    message.feature_lists.feature_list["frames"].feature.add().CopyFrom(text(b"x"))
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: POINTER, "it is a Git LFS pointer, not the file itself: `git lfs pull` fetches it"),
        (zlib.compress, "it is compressed by ZLIB, which tfpipe does not read"),
        (lambda data: gzip.compress(POINTER), "it is compressed by GZIP, and inside it is a Git LFS pointer"),
        (lambda data: bytes.fromhex("83af70d10d884a3f") + data, "it is a file of Riegeli records, as ArrayRecord"),
        (lambda data: b"PAR1" + data, "it is a Parquet file: tfpipe convert reads it under its own ending"),
        (lambda data: b'{"images": []}', "it is JSON text"),
    ],
)
def test_files_that_are_no_records_are_named_everywhere(
    tmp_path: Path, change: Callable[[bytes], bytes], sentence: str
) -> None:
    path = write(tmp_path / "in" / "b.tfrecord", [tfds(n) for n in range(9)])
    write(tmp_path / "in" / "a.tfrecord", [tfds(n) for n in range(9)])
    manifest = tfpipe.index(tmp_path / "in")
    path.write_bytes(change(path.read_bytes()))
    (tmp_path / "in" / "dataset.json").rename(tmp_path / "dataset.json")
    for refuse, error in [
        (lambda: tfpipe.index(tmp_path / "in"), DataError),
        (lambda: tfpipe.index(path), DataError),
        (lambda: run(tmp_path / "in", tmp_path / "out"), UsageError),
    ]:
        with pytest.raises(error, match=f"b.tfrecord'? is no TFRecord file; {sentence}") as caught:
            refuse()
        assert "repair" not in str(caught.value)
    (problem,) = check_dataset(manifest)[1:] or check_dataset(manifest)
    assert sentence in problem.text
    with pytest.raises(ValueError, match=f"b.tfrecord has .* bytes, the manifest says .*; {sentence}"):
        tfpipe.make_dataset(manifest, batch_size=1)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (sequence, "is a tf.train.SequenceExample: write each step"),
        (lambda: tf.io.serialize_tensor(tf.zeros([4, 4])).numpy(), "is a serialized tensor"),
        (lambda: b"\xff\xd8\xff\xe0" + bytes(40), "is a JPEG image: put it into a feature of a tf.train.Example first"),
    ],
)
def test_records_that_are_other_messages_are_named(tmp_path: Path, payload: Callable[[], bytes], sentence: str) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(frame([payload()])))
    for refuse in (lambda: tfpipe.index(path), lambda: run(path, tmp_path / "out")):
        with pytest.raises(ValueError, match=sentence) as caught:
            refuse()
        assert "repair" not in str(caught.value)


def test_an_empty_file_adds_no_record_and_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.tfrecord", [tfds(n) for n in range(9)])
    (tmp_path / "in" / "b.tfrecord").touch()
    manifest = tfpipe.index(tmp_path / "in", output=tmp_path / "adopted")
    assert "1 files hold no record: b.tfrecord." in notes(manifest)
    assert len(list(tfpipe.make_dataset(manifest, batch_size=3))) == 3
    outcome = run(tmp_path / "in", tmp_path / "out", split={"train": 1.0})
    assert outcome.manifest is not None
    assert outcome.manifest.num_records() == 9
    assert "1 files hold no record: b.tfrecord." in outcome.notes
    for source in (
        lambda: tfpipe.index(tmp_path / "in" / "b.tfrecord"),
        lambda: run(tmp_path / "in/b.tfrecord", tmp_path),
    ):
        with pytest.raises(ValueError, match=r"The 1 files hold no record; b.tfrecord is empty \(0 bytes\): copy"):
            source()


def test_a_manifest_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(POINTER)
    with pytest.raises(
        ValueError, match="dataset.json is a Git LFS pointer, not the file itself: `git lfs pull` fetches it"
    ):
        tfpipe.load_manifest(tmp_path)
