"""A conversion writes the same bytes however it runs, holds every image as it was, and never loses existing files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conversions import TARGET, converted
from pictures import KINDS, file_bytes, files_of, fill_folder, photo, stock_read, upright_pixels, write_listing
from tolerances import TOLERANCES

from tfpipe.errors import UsageError
from tfpipe.format.framing import scan
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.images.decode import resize_image
from tfpipe.maintenance.check import check_dataset

IMAGE = tf.io.FixedLenFeature([], tf.string)
SHAPE = tf.io.FixedLenFeature([3], tf.int64)
WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def listing_of(folder: Path, path: Path, *, step: int = 1) -> Path:
    """A CSV of every file below a folder; step=-1 lists them backwards."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return write_listing(path, [(str(file.relative_to(path.parent)), file.parent.name) for file in files[::step]])


# ---- the same bytes


@pytest.mark.parametrize(
    "options", [{}, {"payload": "decoded", "dtype": "uint8", "target_bytes": 40_000}], ids=["raw", "decoded"]
)
def test_threads_and_places_change_no_byte(photos: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    converted(photos, tmp_path / "one", threads=1, **options)
    elsewhere = shutil.copytree(photos, tmp_path / "deep/er/copy")
    converted(elsewhere, tmp_path / "many", threads=4, **options)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "many")
    assert len(load_manifest(tmp_path / "one").split("train").shards) > 2
    for data in files_of(tmp_path / "one").values():
        assert str(tmp_path).encode() not in data
        assert str(photos).encode() not in data


def test_the_order_of_a_listing_changes_no_byte(own_photos: Path, tmp_path: Path) -> None:
    (own_photos / "dog/000.jpg").write_bytes(b"not an image")
    for name, step in (("up", 1), ("down", -1)):
        converted(listing_of(own_photos, tmp_path / f"{name}.csv", step=step), tmp_path / name, max_rejected="1")
    assert files_of(tmp_path / "up") == files_of(tmp_path / "down")
    assert len((tmp_path / "up/rejected.jsonl").read_text().splitlines()) == 1


def test_worker_processes_change_no_byte(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    converted(photos, tmp_path / "out", beam_args=WORKERS, threads=2)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


def test_another_seed_splits_and_orders_differently(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    other = converted(photos, tmp_path / "out", seed=1)
    keys = [[record["key"] for record in stock_read(manifest)] for manifest in (raw_dataset, other)]
    assert sorted(keys[0]) == sorted(keys[1])
    train = [{record["key"] for record in stock_read(manifest, "train")} for manifest in (raw_dataset, other)]
    assert train[0] != train[1]


def test_an_image_more_moves_no_other_between_splits(own_photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    (own_photos / "cat/new.jpg").write_bytes(KINDS[".jpg"](99))
    more = converted(own_photos, tmp_path / "out")
    for split in raw_dataset.splits:
        keys = {record["key"] for record in stock_read(raw_dataset, split)}
        assert keys == {record["key"] for record in stock_read(more, split)} - {b"cat/new.jpg"}


# ---- what is written


def test_raw_records_hold_the_files_and_a_reader_without_tfpipe_gets_them(mixed: Path, tmp_path: Path) -> None:
    manifest = converted(mixed, tmp_path / "out")
    orientation = tf.io.FixedLenFeature([], tf.int64, 1)
    records = stock_read(manifest, image=IMAGE, shape=SHAPE, orientation=orientation)
    assert len(records) == 4 * len(KINDS)
    assert {record["key"].decode() for record in records} == set(files_of(mixed))
    for record in records:
        key = record["key"].decode()
        assert record["image"] == (mixed / key).read_bytes()
        assert record["label"].decode() == key.partition("/")[0] == manifest.class_names[record["label_int"]]
        assert record["shape"].tolist() == [30, 40, 3]  # as stored: a reader brings it upright
        assert record["orientation"] == (6 if "_turned" in key else 1)
    assert manifest.schema["image"].codec == "image"
    assert (manifest.schema["image"].shape, manifest.schema["orientation"].default) == ((None, None, 3), 1)
    assert (manifest.mean, manifest.std) == (None, None)


def test_upright_jpegs_of_one_size_are_known_as_such(raw_dataset: Manifest) -> None:
    assert (raw_dataset.schema["image"].codec, raw_dataset.schema["image"].shape) == ("jpeg", (30, 40, 3))
    assert "orientation" not in raw_dataset.schema


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_decoded_records_hold_the_pixels_that_pillow_sees(mixed: Path, tmp_path: Path, dtype: str) -> None:
    manifest = converted(mixed, tmp_path / "out", payload="decoded", dtype=dtype, target_bytes=40_000)
    floats = tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)
    records = stock_read(manifest, image=floats if dtype == "float32" else IMAGE, shape=SHAPE)
    assert len(records) == 4 * len(KINDS)
    for record in records:
        key, values = record["key"].decode(), record["image"]
        values = values if dtype == "float32" else np.frombuffer(values, np.dtype(dtype).newbyteorder("<"))
        image = values.reshape(record["shape"])
        expected = upright_pixels((mixed / key).read_bytes())
        if dtype != "uint8":
            assert 0 <= image.min() <= image.max() <= 1
            # float16 keeps 11 bits: all 256 values stay distinct.
            levels = np.round(image.astype(np.float64) * 255)
            np.testing.assert_array_equal(image, (levels.astype(np.float32) / np.float32(255)).astype(dtype))
            image = levels
        ending = next(kind for kind in sorted(KINDS, key=len, reverse=True) if key.endswith(kind))
        assert image.shape == expected.shape == ((40, 30, 3) if ending == "_turned.jpg" else (30, 40, 3))
        assert np.abs(image.astype(int) - expected).max() <= TOLERANCES.get(ending, 0), key
    assert manifest.schema["image"].shape == (None, None, 3)
    assert "orientation" not in manifest.schema


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
def test_image_size_gives_every_image_that_size(mixed: Path, tmp_path: Path, resize: str) -> None:
    options = {"payload": "decoded", "dtype": "uint8", "image_size": (20, 16), "resize": resize, "limit": 24}
    manifest = converted(mixed, tmp_path / "out", **options)
    assert manifest.schema["image"].shape == (20, 16, 3)
    records = stock_read(manifest, image=IMAGE, shape=SHAPE)
    for record in records:
        image = np.frombuffer(record["image"], np.uint8).reshape(20, 16, 3).astype(int)
        whole = tf.constant(upright_pixels((mixed / record["key"].decode()).read_bytes()))
        expected = resize_image(whole, (20, 16), resize=resize, antialias=True).numpy().astype(int)
        assert np.abs(image - expected).max() <= 4
        assert record["shape"].tolist() == [20, 16, 3]
    assert len(records) == 24


def test_mean_and_std_are_those_of_all_pixels_in_any_dtype(mixed: Path, tmp_path: Path) -> None:
    manifests = [
        converted(mixed, tmp_path / "decoded", payload="decoded", dtype="uint8"),
        converted(mixed, tmp_path / "half", payload="decoded", dtype="float16"),
        converted(mixed, tmp_path / "raw", verify="decode"),
    ]
    images = [np.frombuffer(record["image"], np.uint8) for record in stock_read(manifests[0], image=IMAGE)]
    pixels = np.concatenate(images).reshape(-1, 3).astype(np.float64) / 255
    for manifest in manifests:
        np.testing.assert_allclose(manifest.mean, pixels.mean(0), atol=1e-9, rtol=0)
        np.testing.assert_allclose(manifest.std, pixels.std(0), atol=1e-9, rtol=0)


def test_the_manifest_says_what_was_written(raw_dataset: Manifest, photos: Path) -> None:
    assert raw_dataset.class_names == ("cat", "dog", "emu")
    for name, split in raw_dataset.splits.items():
        labels = [record["label_int"] for record in stock_read(raw_dataset, name)]
        assert split.class_counts == tuple(np.bincount(labels, minlength=3))
        assert split.num_records == len(labels)
        for shard, offsets in zip(split.shards, raw_dataset.offsets(name), strict=True):
            assert [record.offset for record in scan(raw_dataset.shard_path(shard))] == offsets.tolist()
            assert TARGET / 2 < shard.num_bytes < 2 * TARGET or len(split.shards) == 1
    assert set(os.listdir(raw_dataset.directory)) == {
        "dataset.json",
        "records.index",
        "rejected.jsonl",
        *(shard.path for split in raw_dataset.splits.values() for shard in split.shards),
    }
    assert check_dataset(raw_dataset) == []
    assert raw_dataset.made_by["options"] == {
        "payload": "raw",
        "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        "target_bytes": TARGET,
        "seed": 0,
        "max_pixels": 2**26,
        "limit": None,
        "verify": "none",
    }
    assert set(raw_dataset.made_by) == {"options", "plan", "source_digest", "versions"}
    assert set(raw_dataset.made_by["versions"]) == {"tfpipe", "numpy", "xxhash"}


def test_the_source_digest_changes_with_content_alone(own_photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    file = own_photos / "cat/000.jpg"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    other = converted(own_photos, tmp_path / "out")
    assert other.made_by["plan"] == raw_dataset.made_by["plan"]
    assert other.made_by["source_digest"] != raw_dataset.made_by["source_digest"]


def test_a_labels_file_gives_the_ids_and_refuses_other_classes(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("emu\nowl\ncat\n")
    manifest = converted(photos, tmp_path / "out", labels=str(tmp_path / "labels.txt"), max_rejected="14")
    assert manifest.class_names == ("emu", "owl", "cat")
    assert manifest.rejected == {"unknown_label": 14}
    counts = np.sum([split.class_counts for split in manifest.splits.values()], axis=0)
    assert counts.tolist() == [14, 0, 14]


COLUMNS = "uri,label,age,weight,note,hole,gap\n"
ROWS = [
    ("7", "0.1", "größe, rot", "", "1"),
    ("-3", "2", 'say "x"', "", ""),
    ("9007199254740993", "1e-3", "two\nlines", "", "3"),
    ("0", "-5.5", "", "", "4"),
]


def test_further_columns_ride_along_by_type(photos: Path, tmp_path: Path) -> None:
    names = [f"cat/{i:03d}.jpg" for i in range(len(ROWS))]
    with open(photos.parent / f"{tmp_path.name}.csv", "w", newline="") as file:
        file.write(COLUMNS)
        csv.writer(file).writerows(
            [f"{photos.name}/{name}", "cat", *row] for name, row in zip(names, ROWS, strict=True)
        )
    manifest = converted(Path(file.name), tmp_path / "out")
    dtypes = {name: manifest.schema[name].dtype for name in ("age", "weight", "note", "hole", "gap")}
    assert dtypes == {"age": "int64", "weight": "float32", "note": "string", "hole": "string", "gap": "float32"}
    spec = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in dtypes.items()}
    found = {record["key"].decode().partition("/")[2]: record for record in stock_read(manifest, **spec)}
    for name, (age, weight, note, _, gap) in zip(names, ROWS, strict=True):
        assert found[name]["age"] == int(age)
        assert found[name]["weight"] == np.float32(weight)
        assert found[name]["note"].decode() == note
        assert found[name]["hole"] == b""
        np.testing.assert_equal(found[name]["gap"], np.float32(gap or "nan"))


def test_split_folders_keep_their_split_and_no_other_may_be_asked_for(photos: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(photos / "cat", tmp_path / "in" / split / "cat")
    manifest = converted(tmp_path / "in", tmp_path / "out")
    assert {name: split.num_records for name, split in manifest.splits.items()} == {
        "train": 14,
        "validation": 14,
        "test": 14,
    }
    assert {record["key"].partition(b"/")[0] for record in stock_read(manifest, "validation")} == {b"val"}
    assert manifest.made_by["options"]["split"] == "folders"
    with pytest.raises(
        UsageError, match=r"assigns the splits \['train', 'validation', 'test'\]; --split can't change them"
    ):
        converted(tmp_path / "in", tmp_path / "other", split={"train": 1.0})


def test_a_limit_takes_classes_in_turn(photos: Path, tmp_path: Path) -> None:
    manifest = converted(photos, tmp_path / "out", limit=7, split={"all": 1.0})
    assert manifest.split("all").class_counts == (3, 2, 2)


def test_a_split_without_records_has_no_shards(photos: Path, tmp_path: Path) -> None:
    manifest = converted(photos, tmp_path / "out", split={"train": 1.0, "test": 0.0})
    assert manifest.split("test").shards == ()
    assert (manifest.num_records("test"), manifest.num_records("train")) == (0, 42)


# ---- larger differences within one dataset


def test_images_of_many_sizes_keep_theirs(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "in" / label / f"{i}.png").write_bytes(file_bytes(photo(i, 5 + 7 * i, 60 - 9 * i), "PNG"))
    for payload in ("raw", "decoded"):
        manifest = converted(tmp_path / "in", tmp_path / payload, payload=payload, split={"all": 1.0})
        assert manifest.schema["image"].shape == (None, None, 3)
        sizes = {record["key"].decode(): tuple(record["shape"]) for record in stock_read(manifest, shape=SHAPE)}
        assert sizes == {f"{label}/{i}.png": (5 + 7 * i, 60 - 9 * i, 3) for label in ("cat", "dog") for i in range(6)}


def test_many_classes_and_shards_come_out_whole(tmp_path: Path) -> None:
    names = [f"class {i:03d}" for i in range(70)]
    fill_folder(tmp_path / "in", names, 2)
    manifest = converted(tmp_path / "in", tmp_path / "out", target_bytes=1, beam_args=())
    assert manifest.class_names == tuple(names)
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 140
    assert json.loads((tmp_path / "out/dataset.json").read_text())["splits"].keys() == {"train", "validation", "test"}
    assert check_dataset(manifest) == []
