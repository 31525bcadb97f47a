"""Labels of the three kinds, from a listing to model.fit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from conversions import assert_accounted, reasons_in, run
from pictures import files_of, fill_folder, stock_read, write_listing

import tfpipe
from beam_jobs.job import Job
from beam_jobs.sources.labels import label_text, names_in, split_labels
from tfpipe.errors import UsageError
from tfpipe.format.schema import Schema, record_schema

# Which classes each of 24 images is of; one has none.
SEVERAL = {f"in/{i:03d}.jpg": [name for j, name in enumerate(["sky", "sea", "cat"]) if i >> j & 1] for i in range(24)}
NUMBERS = {f"in/{i:03d}.jpg": i / 4 - 2 for i in range(24)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_folder(tmp_path_factory.mktemp("labels"), ["in"], 24)


def listing(root: Path, labels: dict[str, Any], kind: str = "jsonl") -> Path:
    """A listing of the kind that gives each file its label."""
    path = root / f"list.{kind}"
    if kind == "csv":
        return write_listing(path, [("file", "label"), *((name, str(label)) for name, label in labels.items())])
    if kind == "parquet":
        pq.write_table(pa.table({"file": list(labels), "label": list(labels.values())}), path)
        return path
    path.write_text("".join(json.dumps({"file": name, "label": label}) + "\n" for name, label in labels.items()))
    return path


def fit(train: tf.data.Dataset, units: int, loss: str) -> float:
    """The loss of one epoch of a small model."""
    layers = [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(units, "sigmoid" if units > 1 else None)])
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model.fit(train, epochs=1, verbose=0).history["loss"][-1]


# ---- several classes a record


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_several_classes_are_counted_stored_and_read_as_multi_hot(images: Path, tmp_path: Path, kind: str) -> None:
    outcome = run(listing(images, SEVERAL, kind), tmp_path / "out", label_kind="multi", split={"train": 1})
    assert_accounted(outcome, tmp_path / "out")
    manifest = tfpipe.load_manifest(tmp_path / "out")
    assert manifest.schema.label_kind == "multi"
    assert manifest.class_names == ("cat", "sea", "sky")
    counts = Counter(name for names in SEVERAL.values() for name in names)
    assert manifest.splits["train"].class_counts == tuple(counts[name] for name in manifest.class_names)
    spec = {
        name: tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True)
        for name, dtype in (("label", tf.string), ("label_int", tf.int64))
    }
    for record in stock_read(manifest, **spec):
        names = sorted(SEVERAL[record["key"].decode()])
        assert [name.decode() for name in record["label"]] == names
        assert [manifest.class_names[i] for i in record["label_int"]] == names
    train = tfpipe.make_dataset(manifest, batch_size=4, image_size=(8, 8))
    assert train.element_spec[1] == tf.TensorSpec((4, 3), tf.float32)
    assert 0 < fit(train, 3, "binary_crossentropy") < 5


@pytest.mark.parametrize("payload", [{}, {"payload": "decoded", "dtype": "uint8", "image_size": (8, 8)}])
def test_dict_batches_hold_several_classes_as_ragged_rows(
    images: Path, tmp_path: Path, payload: dict[str, Any]
) -> None:
    run(listing(images, SEVERAL), tmp_path / "out", label_kind="multi", **payload)
    size = None if payload else (8, 8)
    both = [
        tfpipe.make_dataset(tmp_path / "out", batch_size=4, image_size=size, labels=how) for how in (None, "one_hot")
    ]
    names = tfpipe.load_manifest(tmp_path / "out").class_names
    for batch, (pixels, hot) in zip(*both, strict=True):
        assert isinstance(batch["label_int"], tf.RaggedTensor)
        assert isinstance(batch["image"], tf.Tensor)
        np.testing.assert_array_equal(batch["image"], pixels)
        for key, ids, row in zip(batch["key"].numpy(), batch["label_int"].to_list(), hot.numpy(), strict=True):
            assert sorted(SEVERAL[key.decode()]) == [names[i] for i in ids] == [names[i] for i in np.flatnonzero(row)]


def test_a_labels_file_orders_several_classes_and_refuses_others(images: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("sky\nsea\n")
    options = {"label_kind": "multi", "labels": str(tmp_path / "labels.txt")}
    outcome = run(listing(images, SEVERAL), tmp_path / "out", **options)
    assert reasons_in(tmp_path / "out") == {key: "unknown_label" for key, names in SEVERAL.items() if "cat" in names}
    assert_accounted(outcome, tmp_path / "out")
    spec = {
        name: tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True)
        for name, dtype in (("label", tf.string), ("label_int", tf.int64))
    }
    for record in stock_read(tfpipe.load_manifest(tmp_path / "out"), **spec):
        assert sorted(record["label_int"]) == list(record["label_int"])
        assert [("sky", "sea").index(name.decode()) for name in record["label"]] == list(record["label_int"])


def test_a_dataset_of_several_classes_is_sharded_anew(images: Path, tmp_path: Path) -> None:
    run(listing(images, SEVERAL), tmp_path / "one", label_kind="multi")
    one = tfpipe.load_manifest(tmp_path / "one")
    run(tmp_path / "one", tmp_path / "two", label_kind="multi")
    two = tfpipe.load_manifest(tmp_path / "two")
    assert one.schema == two.schema
    assert [split.class_counts for split in one.splits.values()] == [s.class_counts for s in two.splits.values()]
    parts = [[d for n, d in files_of(tmp_path / name).items() if "tfrecord" in n] for name in ("one", "two")]
    assert parts[0] == parts[1]


# ---- numbers


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_numbers_are_stored_as_floats_without_classes(images: Path, tmp_path: Path, kind: str) -> None:
    outcome = run(listing(images, NUMBERS, kind), tmp_path / "out", label_kind="number", split={"train": 1})
    assert_accounted(outcome, tmp_path / "out")
    manifest = tfpipe.load_manifest(tmp_path / "out")
    assert (manifest.schema.label_kind, manifest.class_names) == ("number", ())
    assert manifest.splits["train"].class_counts == ()
    assert "label_int" not in manifest.schema
    spec = {"key": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.float32)}
    files = [str(manifest.shard_path(shard)) for shard in manifest.splits["train"].shards]
    found = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, spec))
    assert {r["key"].decode(): r["label"] for r in found.as_numpy_iterator()} == NUMBERS
    train = tfpipe.make_dataset(manifest, batch_size=4, image_size=(8, 8))
    assert train.element_spec[1] == tf.TensorSpec((4,), tf.float32)
    assert 0 < fit(train, 1, "mse") < 100
    (batch,) = tfpipe.make_dataset(manifest, batch_size=24, image_size=(8, 8), labels=None, training=False)
    assert {k.decode(): v for k, v in zip(batch["key"].numpy(), batch["label"].numpy(), strict=True)} == NUMBERS


# ---- what is refused


def test_integer_labels_are_refused_where_there_is_no_one_class(images: Path, tmp_path: Path) -> None:
    run(listing(images, SEVERAL), tmp_path / "multi", label_kind="multi")
    run(listing(images, NUMBERS), tmp_path / "number", label_kind="number")
    for name, what in (("multi", "several classes a record"), ("number", "floats")):
        with pytest.raises(ValueError, match=f"labels is 'int', but the labels are {what}; 'one_hot' gives them"):
            tfpipe.make_dataset(tmp_path / name, batch_size=4, image_size=(8, 8), labels="int")


# label_kind -> the label of a row -> the reason for which it is refused, or None.
LABELS: dict[str, list[tuple[Any, str | None]]] = {
    "class": [
        *[("cat", None), (3, None), (2.5, None), (True, None), (["cat"], None), (["cat", "cat"], None)],
        *[([], "empty_label"), (["a", "b"], "bad_label"), ("", "empty_label"), (None, "empty_label")],
        *[([""], "empty_label"), ([None], "empty_label"), ({"a": 1}, "bad_label"), ([["a"]], "bad_label")],
        *[("a\0b", "bad_name"), ("a\x1fb", "bad_label"), ("\ud800", "bad_name")],
    ],
    "multi": [("cat", None), ([], None), (["a", "b"], None), (["a", ""], "empty_label"), (["a\x1fb"], "bad_label")],
    "number": [
        *[
            (3, None),
            ("2.5", None),
            (-1e30, None),
            (-1e300, "bad_label"),
            ("one", "bad_label"),
            (float("nan"), "bad_label"),
        ],
        *[("1e999", "bad_label"), ([], "bad_label"), ([1, 2], "bad_label"), (None, "empty_label")],
    ],
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_that_is_not_of_its_kind_is_refused_with_its_reason(images: Path, tmp_path: Path, kind: str) -> None:
    labels = {f"in/{i:03d}.jpg": label for i, (label, _) in enumerate(LABELS[kind])}
    outcome = run(listing(images, labels), tmp_path / "out", label_kind=kind)
    expected = {f"in/{i:03d}.jpg": reason for i, (_, reason) in enumerate(LABELS[kind]) if reason}
    assert reasons_in(tmp_path / "out") == expected
    assert_accounted(outcome, tmp_path / "out")


def test_a_source_that_can_t_hold_a_kind_of_label_says_so(images: Path, tmp_path: Path) -> None:
    for kind in ("multi", "number"):
        with pytest.raises(UsageError, match=f"can't hold labels of --label_kind {kind}; it takes one of"):
            run(images, tmp_path / "out", label_kind=kind)
    with pytest.raises(UsageError, match="--labels lists class names; with --label_kind number there are none"):
        Job(input="in", output="out", label_kind="number", labels="x")
    kinds = r"\['class', 'multi', 'number', 'none'\]"
    with pytest.raises(UsageError, match=rf"--label_kind is 'several'; it takes one of {kinds}"):
        Job(input="in", output="out", label_kind="several")


def test_resuming_with_another_kind_of_label_names_the_difference(images: Path, tmp_path: Path) -> None:
    source = listing(images, NUMBERS)
    run(source, tmp_path / "out", label_kind="number")
    with pytest.raises(UsageError, match="label_kind was 'number' and is None"):
        run(source, tmp_path / "out", resume=True)


# ---- the text between


def test_the_names_of_a_list_are_sorted_and_stand_once() -> None:
    text = label_text(["b", " a ", "b"])
    assert isinstance(text, str)
    assert names_in(text, "multi") == split_labels(text) == ["a", "b"]
    assert (names_in("a", "class"), names_in("1", "number"), split_labels("")) == (["a"], [], [])


@pytest.mark.parametrize("kind", ["class", "multi", "number", "none"])
def test_the_schema_tells_the_kind_after_json_too(kind: str) -> None:
    schema = record_schema("embedding", embedding_size=3, label_kind=kind)
    assert Schema.from_json(schema.to_json()).label_kind == kind
