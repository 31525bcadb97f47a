"""A conversion writes the same bytes however it runs, holds every image as it was, and never loses what is there."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pictures import KINDS, file_bytes, files_of, fill_folder, photo, stock_read, upright_pixels, write_listing
from test_images import TOLERANCES

from beam_jobs import publish as publish_module
from beam_jobs import workers
from beam_jobs.convert import Outcome, convert
from beam_jobs.options import Job
from tfpipe.check import check_dataset
from tfpipe.errors import DataError, SetupError, UsageError
from tfpipe.images import resize_image
from tfpipe.manifest import Manifest, load_manifest
from tfpipe.records import scan

TARGET = 8_000
IMAGE = tf.io.FixedLenFeature([], tf.string)
SHAPE = tf.io.FixedLenFeature([3], tf.int64)
WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def converted(source: Path, output: Path, **options: Any) -> Manifest:
    manifest = convert(Job(input=str(source), output=str(output), **{"target_bytes": TARGET, **options})).manifest
    assert manifest is not None
    return manifest


def listing_of(folder: Path, path: Path, *, step: int = 1) -> Path:
    """A CSV of every file below a folder; step=-1 lists them backwards."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return write_listing(path, [(str(file.relative_to(path.parent)), file.parent.name) for file in files[::step]])


@pytest.fixture
def own_photos(photos: Path, tmp_path: Path) -> Path:
    """The photos at a place of the test's own."""
    return shutil.copytree(photos, tmp_path / "photos")


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
        assert record["shape"].tolist() == [30, 40, 3]  # as stored: a reader turns it
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
            # float16 keeps 11 bits: every level of 255 stays apart from its neighbours.
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


# ---- the output folder


def dry(job: Job) -> Outcome:
    return convert(replace(job, dry_run=True))


def test_a_dry_run_writes_nothing(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    job = Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=TARGET)
    outcome = dry(job)
    assert os.listdir(tmp_path) == []
    assert (outcome.manifest, outcome.plan.listed) == (None, 42)
    names = [shard.path for split in raw_dataset.splits.values() for shard in split.shards]
    assert [shard.name for shard in outcome.plan.shards] == [name.rpartition("-")[0] for name in names]
    before = files_of(raw_dataset.directory)
    dry(replace(job, output=str(raw_dataset.directory)))
    assert files_of(raw_dataset.directory) == before


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty; --resume verifies it, --overwrite replaces a dataset there"):
        converted(photos, output)
    assert files_of(output) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_files_of_others_are_kept(photos: Path, raw_dataset: Manifest, tmp_path: Path, option: str) -> None:
    output = tmp_path / "out"
    (output / "papers").mkdir(parents=True)
    (output / "papers/thesis.tex").write_text("mine")
    (output / "train-00000-of-00099-deadbeef.tfrecord").write_text("not ours")
    converted(photos, output, **{option: True})
    expected = {**files_of(raw_dataset.directory), "papers/thesis.tex": b"mine"}
    assert files_of(output) == {**expected, "train-00000-of-00099-deadbeef.tfrecord": b"not ours"}


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("photos", "lies inside --input"),
        ("photos/cat/out", "lies inside --input"),
        ("link", "lies inside --input"),
        ("file", "is a file; it takes a folder"),
    ],
)
def test_an_output_that_would_harm_something_is_refused(
    own_photos: Path, tmp_path: Path, place: str, sentence: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("photos/dog")
    before = files_of(tmp_path)
    for option in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=sentence):
            converted(own_photos, tmp_path / place, **option)
    assert files_of(tmp_path) == before


def test_a_second_writer_is_refused_while_the_first_holds_the_folder(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    handle = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for option in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(SetupError, match=r"Another conversion is writing to .*out; wait for it"):
                converted(photos, output, **option)
    finally:
        os.close(handle)
    assert os.listdir(output) == []
    assert converted(photos, output).num_records() == 42


def test_a_refusal_at_the_start_leaves_no_folder_behind(photos: Path, tmp_path: Path) -> None:
    write_listing(tmp_path / "list.csv", [("uri", "label")])
    with pytest.raises(UsageError, match="lists no images"):
        converted(tmp_path / "list.csv", tmp_path / "out")
    with pytest.raises(UsageError, match="Beam has no option '--nonsense=1'; what follows -- goes to Beam"):
        converted(photos, tmp_path / "out", beam_args=("--nonsense=1",))
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_said_before_writing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1234))
    with pytest.raises(SetupError, match=r"has 1,234 bytes free; about \d\d,\d{3} are needed"):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    assert converted(photos, tmp_path / "out", resume=True).num_records() == 42


def test_a_disk_that_fills_up_is_one_sentence_and_can_be_resumed(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "x.draft")

    monkeypatch.setattr(workers, "write_shard", full)
    with pytest.raises(SetupError, match=r"^x\.draft: No space left on device\.$"):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    converted(photos, tmp_path / "out", resume=True)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


# ---- overwrite


def all_offsets(manifest: Manifest) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [part.tolist() for split in manifest.splits for part in manifest.offsets(split)]


def shard_paths(manifest: Manifest) -> set[str]:
    return {shard.path for split in manifest.splits.values() for shard in split.shards}


@pytest.mark.parametrize("options", [{}, {"seed": 9}], ids=["changed images", "another order"])
def test_overwriting_shows_a_reader_the_old_or_the_new_and_never_a_mix(
    own_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    output = tmp_path / "out"
    old = converted(own_photos, output)
    old_offsets = all_offsets(old)
    for file in own_photos.rglob("*.jpg") if not options else ():
        # Of equal size, so that names, counts and plan stay: only the content differs.
        data = bytearray(file.read_bytes())
        data[-30] ^= 1
        file.write_bytes(data)
    real = publish_module.save_manifest
    checked: list[str] = []

    def save(manifest: Manifest, directory: Path) -> None:
        for name, expected in (("old", old), ("new", manifest)):
            seen = load_manifest(output)
            problems = {problem.file for problem in check_dataset(seen)}
            assert (seen, problems - {"records.index"}) == (expected, set())
            assert name == "new" or all_offsets(seen) == old_offsets
            checked.append(name)
            real(manifest, directory)

    monkeypatch.setattr(publish_module, "save_manifest", save)
    new = converted(own_photos, output, overwrite=True, **options)
    assert checked == ["old", "new"]
    assert shard_paths(old).isdisjoint(shard_paths(new))
    assert {path.name for path in output.glob("*.tfrecord")} == shard_paths(new)
    assert (new.made_by["plan"] == old.made_by["plan"]) is (not options)
    assert check_dataset(new) == []


def test_overwriting_with_the_same_gives_the_same(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    converted(photos, tmp_path / "out")
    converted(photos, tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


def test_overwriting_removes_what_the_old_dataset_had_more(photos: Path, tmp_path: Path) -> None:
    converted(photos, tmp_path / "out", target_bytes=2_000)
    converted(photos, tmp_path / "out", target_bytes=10**6, overwrite=True)
    converted(photos, tmp_path / "fresh", target_bytes=10**6)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


# ---- resume


class KilledError(Exception):
    """Stands for whatever ends a run."""


def test_resume_on_nothing_starts_and_on_a_finished_dataset_verifies(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    job = Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=TARGET, resume=True)
    shards = len(list(raw_dataset.directory.glob("*.tfrecord")))
    assert convert(job).resumed == 0
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = convert(job)
    assert (again.resumed, again.manifest) == (shards, raw_dataset)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times
    next((tmp_path / "out").glob("train-00001*")).write_bytes(b"")
    with pytest.raises(DataError, match=r"is finished but damaged: train-00001-of-\S+ record 0: it holds 0 records"):
        convert(job)


@pytest.mark.parametrize("written", [0, 1, 3])
@pytest.mark.parametrize("other", [{}, {"threads": 3}])
def test_a_run_that_dies_among_the_shards_is_resumed_to_the_same_bytes(
    photos: Path,
    raw_dataset: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int,
    other: dict[str, Any],
) -> None:
    real, left = workers.write_shard, [written]

    def write(*args: Any, **options: Any) -> Any:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return real(*args, **options)

    monkeypatch.setattr(workers, "write_shard", write)
    with pytest.raises(RuntimeError, match="KilledError"):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="its conversion has not finished: run it again with --resume"):
        load_manifest(tmp_path / "out")
    with pytest.raises(UsageError, match="is not empty; --resume goes on with the unfinished conversion there"):
        converted(photos, tmp_path / "out")
    outcome = convert(Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=TARGET, resume=True, **other))
    assert outcome.resumed == written
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


def fail_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but its call of that number (from 0) dies before it does anything."""
    calls = iter(range(10**6))

    def function(*args: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise KilledError
        return real(*args, **options)

    return function


# What publishing does, one after the other, and at which of its calls it dies.
STEPS = [
    ("os.replace", 0),
    ("os.replace", 3),
    ("replace_file", 0),
    ("replace_file", 1),
    ("save_manifest", 0),
    ("shutil.rmtree", 0),
]


@pytest.mark.parametrize("before", [False, True], ids=["fresh", "overwriting"])
@pytest.mark.parametrize(("step", "call"), STEPS, ids=[f"{step} {call}" for step, call in STEPS])
def test_a_run_that_dies_while_publishing_is_resumed_to_the_same_bytes(
    photos: Path,
    raw_dataset: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    call: int,
    before: bool,
) -> None:
    output = tmp_path / "out"
    if before:
        converted(photos, output, seed=5)
    owner, name = (
        (getattr(publish_module, step.partition(".")[0]), step.partition(".")[2])
        if "." in step
        else (publish_module, step)
    )
    stand_in = type("module", (), {**vars(owner), name: staticmethod(fail_at(call, getattr(owner, name)))})
    if owner is publish_module:
        monkeypatch.setattr(publish_module, name, fail_at(call, getattr(owner, name)))
    else:
        monkeypatch.setattr(publish_module, step.partition(".")[0], stand_in)
    with pytest.raises(KilledError):
        converted(photos, output, overwrite=before)
    monkeypatch.undo()
    converted(photos, output, resume=True)
    assert files_of(output) == files_of(raw_dataset.directory)


SLOWLY = """
import sys, time
from beam_jobs import shards
from beam_jobs.convert import Job, convert
real = shards.ShardFacts.save
shards.ShardFacts.save = lambda self, path: (real(self, path), time.sleep(0.3))
convert(Job(input=sys.argv[1], output=sys.argv[2], target_bytes=int(sys.argv[3])))
"""


def test_a_run_that_is_killed_is_resumed_to_the_same_bytes(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(photos), str(output), str(TARGET)], stderr=subprocess.DEVNULL
    )
    while len(list((output / "_state").glob("*-of-*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "dataset.json").exists()
    outcome = convert(Job(input=str(photos), output=str(output), target_bytes=TARGET, resume=True))
    assert outcome.resumed >= 2
    assert files_of(output) == files_of(raw_dataset.directory)


def test_a_half_written_shard_or_sidecar_of_a_killed_run_does_not_count(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_module, "replace_file", fail_at(1, publish_module.replace_file))
    monkeypatch.setattr(publish_module.os, "replace", os.replace)
    with pytest.raises(KilledError):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    shards = sorted((tmp_path / "out").glob("*.tfrecord"))
    sidecars = sorted((tmp_path / "out/_state").glob("*-of-*.json"))
    shards[0].unlink()
    sidecars[1].write_text(sidecars[1].read_text()[:40])
    sidecars[2].unlink()
    converted(photos, tmp_path / "out", resume=True)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "seed was 0 and is 1"),
    ({"target_bytes": 9_000}, "target_bytes was 8000 and is 9000"),
    ({"split": {"train": 1.0}}, "split was {'train': 0.8, 'validation': 0.1, 'test': 0.1} and is {'train': 1.0}"),
    ({"payload": "decoded"}, "dtype was None and is 'float32'"),
    ({"verify": "decode"}, "verify was 'none' and is 'decode'"),
    ({"max_pixels": 10_000}, "max_pixels was 67108864 and is 10000"),
    ({"limit": 9}, "limit was None and is 9"),
]


@pytest.fixture(scope="module")
def unfinished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unfinished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish_module, "save_manifest", fail_at(0, publish_module.save_manifest))
        with pytest.raises(KilledError):
            converted(photos, output)
    return output


@pytest.mark.parametrize(("change", "sentence"), CHANGES, ids=[next(iter(change)) for change, _ in CHANGES])
def test_resuming_with_another_option_names_it(
    photos: Path, unfinished: Path, raw_dataset: Manifest, change: dict[str, Any], sentence: str
) -> None:
    before = files_of(raw_dataset.directory)
    with pytest.raises(UsageError) as caught:
        converted(photos, raw_dataset.directory, resume=True, **change)
    assert str(caught.value) == f"{raw_dataset.directory} holds another dataset: {sentence}; --overwrite replaces it."
    assert files_of(raw_dataset.directory) == before
    with pytest.raises(UsageError) as caught:
        converted(photos, unfinished, resume=True, **change)
    assert sentence in str(caught.value)
    assert "holds an unfinished conversion of another kind" in str(caught.value)


def test_resuming_with_another_input_says_so_and_the_right_one_still_finishes(
    photos: Path, own_photos: Path, raw_dataset: Manifest, unfinished: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(unfinished, tmp_path / "out")
    (own_photos / "cat/more.jpg").write_bytes(KINDS[".jpg"](77))
    with pytest.raises(UsageError, match="listed was 42 and is 43; run it with what it had, or take --overwrite"):
        converted(own_photos, output, resume=True)
    (own_photos / "cat/more.jpg").unlink()
    (own_photos / "cat").rename(own_photos / "cow")
    with pytest.raises(UsageError, match=r"class_names was \['cat', 'dog', 'emu'\] and is \['cow', 'dog', 'emu'\]"):
        converted(own_photos, output, resume=True)
    converted(photos, output, resume=True)
    assert files_of(output) == files_of(raw_dataset.directory)


def test_resuming_after_the_images_changed_so_that_other_cuts_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)

    def write(height: int) -> None:
        for i in range(20):
            (tmp_path / f"in/cat/{i}.jpg").write_bytes(file_bytes(photo(i, height, 30), "JPEG").ljust(3000, b"\0"))

    write(40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish_module, "save_manifest", fail_at(0, publish_module.save_manifest))
        with pytest.raises(KilledError):
            converted(tmp_path / "in", tmp_path / "out", payload="decoded")
    write(10)
    with pytest.raises(UsageError, match="holds an unfinished conversion of another kind"):
        converted(tmp_path / "in", tmp_path / "out", payload="decoded", resume=True)


def test_overwrite_starts_an_unfinished_conversion_anew(photos: Path, unfinished: Path, tmp_path: Path) -> None:
    output = shutil.copytree(unfinished, tmp_path / "out")
    manifest = converted(photos, output, overwrite=True, seed=3)
    assert check_dataset(manifest) == []
    assert not (output / "_state").exists()


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
