"""TFRecords that others wrote are adopted where they lie, and read like our own."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pictures import file_bytes, files_of, photo, turned

import tfpipe
from tfpipe import cli
from tfpipe.adopt import split_of
from tfpipe.check import check_dataset
from tfpipe.compressed import compression_of, inflate, scan_shard
from tfpipe.dataset import make_dataset
from tfpipe.errors import DataError, UsageError
from tfpipe.example import decode_record, encode_record
from tfpipe.manifest import INDEX_NAME, MANIFEST_NAME, Manifest, load_manifest, manifest_text, parse_manifest
from tfpipe.readoptions import ReadOptions
from tfpipe.records import DamagedRecord, frame, scan
from tfpipe.schema import Feature, Schema

Record = dict[str, tf.train.Feature]
NAMES = (b"cat", b"dog", b"emu")


def text(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats(values: Any) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


# ---- what others write


def tfds(number: int) -> Record:
    return {"image": text(file_bytes(photo(number), "PNG")), "label": ints(number % 3)}


def imagenet(number: int) -> Record:
    return {
        "image/encoded": text(file_bytes(photo(number, 30 + number % 4), "JPEG")),
        "image/class/label": ints(1 + number % 3),
        "image/class/text": text(NAMES[number % 3]),
        "image/filename": text(b"n%d.JPEG" % number),
        "image/height": ints(30 + number % 4),
        "image/object/bbox/xmin": floats([0.5] * (number % 3)),
    }


def book(number: int) -> Record:
    image = photo(number, 8 + number % 3, 10) / 255
    return {
        "image": floats(image.ravel()),
        "shape": ints(*image.shape),
        "label": text(NAMES[number % 3]),
        "label_int": ints(number % 3),
    }


def pixels(number: int) -> Record:
    image = photo(number, 8, 10)
    return {"image": text(image.tobytes()), "shape": ints(*image.shape), "label": ints(number % 3)}


def embeddings(number: int) -> Record:
    return {"embedding": floats([number, 0.5]), "label_int": ints(number % 3)}


def write(path: Path, records: list[Record], compression: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(tf.train.Example(features=tf.train.Features(feature=record)).SerializeToString())
    return path


def write_all(folder: Path, make: Callable[[int], Record], compression: str = "") -> Path:
    """30 training records in three shards and ten for validation."""
    for shard in range(3):
        records = [make(number) for number in range(10 * shard, 10 * shard + 10)]
        write(folder / f"x-train.tfrecord-0000{shard}-of-00003", records, compression)
    write(folder / "x-val.tfrecord-00000-of-00001", [make(number) for number in range(10)], compression)
    return folder


def features_of(manifest: Manifest) -> dict[str, tuple[Any, ...]]:
    return {f.name: (f.dtype, f.shape, f.codec, f.stored_as) for f in manifest.schema.features}


EXPECTED: list[tuple[Callable[[int], Record], str, tuple[str, ...], dict[str, tuple[Any, ...]]]] = [
    (
        tfds,
        "raw",
        ("0", "1", "2"),
        {"image": ("uint8", (30, 40, 3), "image", None), "label_int": ("int64", (), "plain", "label")},
    ),
    (
        imagenet,
        "raw",
        ("0", "cat", "dog", "emu"),
        {
            "image": ("uint8", (None, None, 3), "jpeg", "image/encoded"),
            "label_int": ("int64", (), "plain", "image/class/label"),
            "label": ("string", (), "plain", "image/class/text"),
            "key": ("string", (), "plain", "image/filename"),
            "image/height": ("int64", (), "plain", None),
            "image/object/bbox/xmin": ("float32", (None,), "plain", None),
        },
    ),
    (
        book,
        "decoded",
        ("cat", "dog", "emu"),
        {
            "image": ("float32", (None, None, 3), "plain", None),
            "shape": ("int64", (3,), "plain", None),
            "label": ("string", (), "plain", None),
            "label_int": ("int64", (), "plain", None),
        },
    ),
    (
        pixels,
        "decoded",
        ("0", "1", "2"),
        {
            "image": ("uint8", (8, 10, 3), "pixels", None),
            "shape": ("int64", (3,), "plain", None),
            "label_int": ("int64", (), "plain", "label"),
        },
    ),
    (
        embeddings,
        "embedding",
        ("0", "1", "2"),
        {"embedding": ("float32", (2,), "plain", None), "label_int": ("int64", (), "plain", None)},
    ),
]


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize(("make", "payload", "names", "features"), EXPECTED, ids=[row[0].__name__ for row in EXPECTED])
def test_what_others_write_is_adopted_and_read(tmp_path: Path, make, payload, names, features, compression) -> None:
    before = files_of(write_all(tmp_path, make, compression))
    manifest = tfpipe.index(tmp_path)
    assert (manifest.schema.payload, manifest.class_names, features_of(manifest)) == (payload, names, features)
    extra = 1 if make is imagenet else 0
    assert {name: (split.num_records, split.class_counts) for name, split in manifest.splits.items()} == {
        "train": (30, (*[0] * extra, 10, 10, 10)),
        "validation": (10, (*[0] * extra, 4, 3, 3)),
    }
    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {MANIFEST_NAME} | (set() if compression else {INDEX_NAME})
    assert check_dataset(manifest) == [] == check_dataset(load_manifest(tmp_path), quick=True)
    size = None if payload == "embedding" else (16, 20)
    for training in (False, True):
        batches = list(make_dataset(tmp_path, batch_size=5, image_size=size, training=training))
        labels = np.concatenate([label.numpy().argmax(1) for _, label in batches])
        assert np.bincount(labels).tolist() == [*[0] * extra, 10, 10, 10]
        assert batches[0][0].shape == ((5, 2) if size is None else (5, 16, 20, 3))
        assert batches[0][1].shape == (5, len(names))


def test_images_come_out_as_they_went_in(tmp_path: Path) -> None:
    for make in (book, pixels):
        manifest = tfpipe.index(write_all(tmp_path / make.__name__, make))
        batches = make_dataset(
            manifest, "validation", batch_size=1, labels=None, image_size=None if make is pixels else (8, 10)
        )
        for number, batch in zip(range(10), batches, strict=True):
            if make is pixels or number % 3 == 0:
                expected = photo(number, 8, 10) / (1 if make is pixels else 255)
                np.testing.assert_allclose(batch["image"][0], expected, atol=1e-7)


# ---- compressed shards


def keys_by_epoch(manifest: Manifest, **options: Any) -> list[list[bytes]]:
    dataset = make_dataset(
        manifest, batch_size=5, image_size=(4, 4), labels=None, seed=3, options=ReadOptions(**options)
    )
    return [[key for batch in dataset for key in batch["key"].numpy()] for _ in range(2)]


def test_compressed_shards_are_shuffled_by_shard_and_buffer(tmp_path: Path) -> None:
    def make(number: int) -> Record:
        return {**tfds(number), "key": text(b"%d" % number)}

    manifest = tfpipe.index(write_all(tmp_path, make, "GZIP"))
    everything = sorted(b"%d" % number for number in range(30))
    for settings in ({}, {"cache": "memory"}, {"shuffle": "buffer"}, {"parallel_reads": 1}):
        first, second = keys_by_epoch(manifest, **settings)
        assert sorted(first) == sorted(second) == everything
        assert first != second
    assert keys_by_epoch(manifest) == keys_by_epoch(manifest)
    # With a buffer of one and one file at a time, only whole shards change places.
    for epoch in keys_by_epoch(manifest, shuffle_buffer=1, parallel_reads=1):
        numbers = [int(key) for key in epoch]
        assert sorted(numbers[::10]) == [0, 10, 20]
        assert all(numbers[i] == numbers[i - 1] + 1 for i in range(30) if i % 10)
    plain = [[int(key) for key in epoch] for epoch in keys_by_epoch(manifest, shuffle="none", parallel_reads=1)]
    assert plain == [list(range(30))] * 2


def test_hosts_cannot_share_compressed_shards(tmp_path: Path) -> None:
    manifest = tfpipe.index(write_all(tmp_path, tfds, "GZIP"))
    with pytest.raises(ValueError, match="host_count is 2, but split 'train' has compressed shards: each host seeks"):
        make_dataset(manifest, batch_size=5, image_size=(4, 4), options=ReadOptions(host_count=2))


def test_compressed_and_plain_shards_may_lie_together(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord.gz", [tfds(number) for number in range(5)], "GZIP")
    write(tmp_path / "b.tfrecord", [tfds(number) for number in range(5, 10)])
    write(tmp_path / "test.tfrecord", [tfds(number) for number in range(4)])
    manifest = tfpipe.index(tmp_path)
    assert [(s.path, s.compression, s.index_start) for s in manifest.split("train").shards] == [
        ("a.tfrecord.gz", "GZIP", None),
        ("b.tfrecord", None, 0),
    ]
    assert [len(part) for part in manifest.offsets("test")] == [4]
    assert len(list(make_dataset(manifest, batch_size=1))) == 10
    assert check_dataset(manifest) == []
    data = (tmp_path / "a.tfrecord.gz").read_bytes()
    (tmp_path / "a.tfrecord.gz").write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    (problem,) = check_dataset(manifest)
    assert (problem.file, problem.record) == ("a.tfrecord.gz", 0)
    write(tmp_path / "a.tfrecord.gz", [tfds(number) for number in range(4)], "GZIP")
    assert [str(problem) for problem in check_dataset(manifest)] == [
        "a.tfrecord.gz: record 4: it holds 4 records, the manifest says 5."
    ]


def test_the_compression_is_in_the_document_only_where_there_is_one(tmp_path: Path) -> None:
    manifest = tfpipe.index(write_all(tmp_path, tfds, "GZIP"))
    text_of = manifest_text(manifest)
    assert text_of.count('"compression": "GZIP"') == 4
    assert parse_manifest(text_of, tmp_path) == manifest
    for changed in (text_of.replace('"GZIP"', '"LZMA"'), text_of.replace('"index_start": null', '"index_start": 0')):
        with pytest.raises(ValueError, match="has compression"):
            parse_manifest(changed, tmp_path)
    plain = tfpipe.index(write_all(tmp_path / "plain", tfds))
    assert "compression" not in manifest_text(plain)


def test_a_record_that_begins_like_a_gzip_file_is_none(tmp_path: Path) -> None:
    payload = bytes(0x088B1F)
    path = tmp_path / "a"
    path.write_bytes(b"".join(frame([payload])))
    assert path.read_bytes().startswith(b"\x1f\x8b\x08")
    assert compression_of(path) is None


def test_gzip_files_of_several_members_are_read_and_inflated(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [tfds(1)], "GZIP").read_bytes()
    plain = write(tmp_path / "plain", [tfds(1)] * 3).read_bytes()
    (tmp_path / "three").write_bytes(one * 3)
    assert inflate(tmp_path / "three") == plain
    assert [r.data for r in scan_shard(tmp_path / "three", "GZIP")] == [r.data for r in scan(tmp_path / "plain")]


def test_a_damaged_compressed_shard_is_named_whatever_is_damaged(tmp_path: Path) -> None:
    data = write(tmp_path / "good", [tfds(1), tfds(2)], "GZIP").read_bytes()
    path = tmp_path / "bad"
    for place in [*range(0, len(data), 97), *range(len(data) - 8, len(data))]:
        for changed in (data[:place], data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]):
            path.write_bytes(changed)
            # Of the ten bytes of the header, those of name, time and system say nothing of the content.
            if not changed or (len(changed) == len(data) and 3 < place < 10):
                continue
            with pytest.raises(DamagedRecord, match=f"{path}: record [012] at byte "):
                list(scan_shard(path, "GZIP"))


# ---- names, splits, places


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-01024", "train"),
        ("validation-00000-of-00128", "validation"),
        ("mnist-test.tfrecord-00000-of-00001", "test"),
        ("VAL_03.tfrecord.gz", "validation"),
        ("test_images-training-1", "train"),
        ("contest-3.tfrecord", "train"),
        ("flowers03.tfrecord", "train"),
    ],
)
def test_a_file_s_name_tells_its_split(name: str, split: str) -> None:
    assert split_of(name) == split


def test_files_are_linked_into_the_output_never_copied(tmp_path: Path) -> None:
    write_all(tmp_path / "theirs", tfds)
    before = files_of(tmp_path / "theirs")
    manifest = tfpipe.index(f"{tmp_path}/theirs/*train*", output=tmp_path / "ours")
    assert list(manifest.splits) == ["train"]
    assert all(manifest.shard_path(s).samefile(tmp_path / "theirs" / s.path) for s in manifest.split("train").shards)
    assert files_of(tmp_path / "theirs") == before
    assert len(list(make_dataset(manifest, batch_size=10))) == 3
    (tmp_path / "ours" / MANIFEST_NAME).unlink()  # A run that was killed before its end is repeated.
    assert tfpipe.index(tmp_path / "theirs", output=tmp_path / "ours").num_records() == 40


def test_files_on_another_device_are_linked_symbolically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    manifest = tfpipe.index(write_all(tmp_path / "theirs", tfds), output=tmp_path / "ours")
    assert all(manifest.shard_path(shard).is_symlink() for shard in manifest.split("train").shards)
    assert len(list(make_dataset(manifest, batch_size=10))) == 3


def test_tfds_lists_of_names_and_ids_without_a_record_name_the_classes(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", [{**tfds(0), "label": ints(4)}, {**tfds(1), "label": ints(2)}])
    assert tfpipe.index(tmp_path).class_names == ("0", "1", "2", "3", "4")
    (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / "label.labels.txt").write_text("ant\nbee\ncat\ndog\nemu\nfox\n")
    manifest = tfpipe.index(tmp_path)
    assert manifest.class_names == ("ant", "bee", "cat", "dog", "emu", "fox")
    assert manifest.split("train").class_counts == (0, 0, 1, 0, 1, 0)


def test_texts_alone_are_counted_but_give_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", [{**tfds(n), "label": text(NAMES[n % 2])} for n in range(5)])
    manifest = tfpipe.index(tmp_path)
    assert (manifest.class_names, manifest.split("train").class_counts) == (("cat", "dog"), (3, 2))
    with pytest.raises(ValueError, match="have no label_int; labels=None gives dicts of what they have"):
        make_dataset(manifest, batch_size=1)
    batches = make_dataset(manifest, batch_size=5, labels=None, training=False)
    assert next(iter(batches))["label"].numpy().tolist() == [b"cat", b"dog", b"cat", b"dog", b"cat"]


def test_what_a_reader_should_know_is_noted(tmp_path: Path) -> None:
    record = {**tfds(1), "mixed": text(b"a", b"b"), "note": text(b"x")}
    unlabelled = {**tfds(2), "label": ints(-1)}
    broken = {**tfds(3), "mixed": ints(3), "image": text(file_bytes(photo(3), "PNG")[:-9])}
    write(tmp_path / "a.tfrecord", [record, unlabelled, broken, {**tfds(4), "image": text(turned(4, 6))}])
    manifest = tfpipe.index(tmp_path)
    notes = manifest.made_by["adopted"]
    assert notes["first_unreadable"].startswith("a.tfrecord: record 2: The PNG is cut")
    assert {name: value for name, value in notes.items() if name != "first_unreadable"} == {
        "unreadable_images": 1,
        "turns_not_applied": 1,
        "unlabelled": 1,
        "features_left_out": ["mixed"],
    }
    assert manifest.schema["note"].default == ""
    assert manifest.split("train").class_counts == (1, 2)


def test_labels_of_several_classes_and_numbers_are_taken_as_ours_are(tmp_path: Path) -> None:
    several = [(b"cat", b"emu"), (b"dog",), ()]
    write(
        tmp_path / "multi" / "a.tfrecord",
        [
            {**tfds(n), "label": text(*names), "label_int": ints(*map(NAMES.index, names))}
            for n, names in enumerate(several)
        ],
    )
    manifest = tfpipe.index(tmp_path / "multi")
    assert (manifest.class_names, manifest.split("train").class_counts) == (("cat", "dog", "emu"), (1, 1, 1))
    (batch,) = make_dataset(manifest, batch_size=3, training=False)
    assert batch[1].numpy().tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    write(tmp_path / "number" / "a.tfrecord", [{**tfds(n), "label": floats([n / 2])} for n in range(3)])
    manifest = tfpipe.index(tmp_path / "number")
    assert manifest.class_names == ()
    (batch,) = make_dataset(manifest, batch_size=3, training=False)
    assert batch[1].numpy().tolist() == [0, 0.5, 1]


def test_lists_of_any_length_ride_along(tmp_path: Path) -> None:
    words = [(b"a", b"b"), (), (b"c",)]
    records = [{**tfds(n), "words": text(*words[n]), "boxes": floats([0.5] * n)} for n in range(3)]
    manifest = tfpipe.index(write(tmp_path / "a.tfrecord", records).parent)
    assert features_of(manifest)["words"] == ("string", (None,), "plain", None)
    (batch,) = make_dataset(manifest, batch_size=3, labels=None, training=False)
    assert batch["words"].to_list() == [list(row) for row in words]
    assert batch["boxes"].to_list() == [[], [0.5], [0.5, 0.5]]


def test_a_given_schema_is_taken(tmp_path: Path) -> None:
    write_all(tmp_path, lambda n: {"picture": floats(np.full(12, n / 30)), "kind": ints(n % 3)})
    with pytest.raises(ValueError, match=r"No feature is known as an image or an embedding; the records have \['kind'"):
        tfpipe.index(tmp_path)
    schema = Schema(
        "decoded",
        (
            Feature("image", "float32", (2, 2, 3), stored_as="picture"),
            Feature("label_int", "int64", stored_as="kind"),
        ),
    )
    with pytest.raises(DataError, match=r"record 0: it lacks \['sort'\]; it has \['kind', 'picture'\]"):
        tfpipe.index(tmp_path, Schema("decoded", (schema["image"], Feature("label_int", "int64", stored_as="sort"))))
    manifest = tfpipe.index(tmp_path, schema)
    assert manifest.schema == schema
    images, labels = next(iter(make_dataset(manifest, "validation", batch_size=10, labels="int")))
    np.testing.assert_allclose(images[:, 1, 1, 2], np.arange(10) / 30, rtol=1e-6)
    assert labels.numpy().tolist() == [n % 3 for n in range(10)]


# ---- a feature that is stored under another name


def test_a_feature_is_encoded_and_decoded_under_its_stored_name() -> None:
    schema = Schema(
        "raw",
        (
            Feature("image", "uint8", (2, 2, 3), "pixels", stored_as="image/encoded"),
            Feature("label_int", "int64", stored_as="a"),
            Feature("key", "string"),
        ),
    )
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    assert [feature.get("stored_as") for feature in schema.to_json()["features"]] == ["image/encoded", None, "a"]
    image = photo(1, 2, 2)
    data = b"".join(encode_record(schema, {"image": image, "label_int": 7, "key": "k"}))
    example = tf.train.Example.FromString(data)
    assert sorted(example.features.feature) == ["a", "image/encoded", "key"]
    assert example.SerializeToString(deterministic=True) == data
    decoded = decode_record(schema, tf.constant(data))
    np.testing.assert_array_equal(decoded["image"], image)
    assert (int(decoded["label_int"]), decoded["key"].numpy()) == (7, b"k")


def test_two_features_cannot_be_stored_under_one_name() -> None:
    with pytest.raises(ValueError, match=r"Two features of the schema are stored under one name: \['a'\]"):
        Schema("raw", (Feature("a", "int64"), Feature("b", "string", stored_as="a")))
    with pytest.raises(ValueError, match="Feature 'a' is stored as ''; it takes a name or None"):
        Feature("a", "int64", stored_as="")


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
    with pytest.raises(UsageError, match="The files lie in 2 folders .*one: give an output, where they are linked"):
        tfpipe.index(f"{tmp_path}/*/*")
    with pytest.raises(UsageError, match="2 of the files are called x-train.tfrecord-00000-of-00003"):
        tfpipe.index(f"{tmp_path}/*/*", output=tmp_path / "c")
    tfpipe.index(tmp_path / "a")
    with pytest.raises(ValueError, match="dataset.json is there already: remove it, or give another output"):
        tfpipe.index(tmp_path / "a")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x-val.tfrecord-00000-of-00001").write_bytes(b"another")
    with pytest.raises(UsageError, match="x-val.tfrecord-00000-of-00001 is there already, and another file than"):
        tfpipe.index(tmp_path / "b", output=tmp_path / "d")
    with pytest.raises(FileNotFoundError, match="No file matches .*nothing"):
        tfpipe.index(tmp_path / "nothing*")
    (tmp_path / "e").mkdir()
    with pytest.raises(FileNotFoundError, match="of a folder, files with 'tfrecord' in their name are taken"):
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
    assert "dataset.json is there already" in capsys.readouterr().err
    assert run_tfpipe(monkeypatch, "index", pattern, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["records"], document["shards"]) == ({"train": 30, "validation": 10}, 4)
    assert run_tfpipe(monkeypatch, "inspect", tmp_path / "ours") == 0
    out = capsys.readouterr().out
    assert "Compressed: train, validation; without offsets, training shuffles shards and a buffer of records" in out
    assert run_tfpipe(monkeypatch, "check", tmp_path / "ours") == 0
