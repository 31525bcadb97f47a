"""Third-party TFRecords are adopted without being moved, and read like those of tfpipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from foreign import (
    NAMES,
    Record,
    book,
    embeddings,
    features_of,
    floats,
    imagenet,
    ints,
    pixels,
    text,
    tfds,
    write,
    write_all,
)
from pictures import file_bytes, files_of, photo, turned

import tfpipe
from tfpipe.errors import DataError
from tfpipe.format.example import decode_record, encode_record
from tfpipe.format.manifest import INDEX_NAME, MANIFEST_NAME, load_manifest
from tfpipe.format.schema import Feature, Schema
from tfpipe.maintenance.adopt import split_of
from tfpipe.maintenance.check import check_dataset
from tfpipe.reader.dataset import make_dataset

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
def test_third_party_records_are_adopted_and_read(tmp_path: Path, make, payload, names, features, compression) -> None:
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


# ---- names, splits, folders


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
def test_the_split_follows_from_the_file_s_name(name: str, split: str) -> None:
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
    with pytest.raises(ValueError, match="have no label_int; labels=None gives dicts of their features"):
        make_dataset(manifest, batch_size=1)
    batches = make_dataset(manifest, batch_size=5, labels=None, training=False)
    assert next(iter(batches))["label"].numpy().tolist() == [b"cat", b"dog", b"cat", b"dog", b"cat"]


def test_peculiarities_are_noted_in_the_manifest(tmp_path: Path) -> None:
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


def test_labels_of_several_classes_and_numbers_are_read_as_in_tfpipe_s_own_records(tmp_path: Path) -> None:
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


def test_lists_of_any_length_become_additional_features(tmp_path: Path) -> None:
    words = [(b"a", b"b"), (), (b"c",)]
    records = [{**tfds(n), "words": text(*words[n]), "boxes": floats([0.5] * n)} for n in range(3)]
    manifest = tfpipe.index(write(tmp_path / "a.tfrecord", records).parent)
    assert features_of(manifest)["words"] == ("string", (None,), "plain", None)
    (batch,) = make_dataset(manifest, batch_size=3, labels=None, training=False)
    assert batch["words"].to_list() == [list(row) for row in words]
    assert batch["boxes"].to_list() == [[], [0.5], [0.5, 0.5]]


def test_a_given_schema_is_used(tmp_path: Path) -> None:
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
