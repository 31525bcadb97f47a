"""Split folders and files: honoured by one table of words, or refused with both readings; WebDataset samples."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from containers import JPEGS, hub_table, sample_members, write_hub, write_tar, write_zip
from conversions import run
from listed import touch
from pictures import HEIGHT, KINDS, WIDTH, file_bytes, stock_read
from stores import store as store
from stores import upload

from beam_jobs.sources import LeftOut, Listed, open_source
from beam_jobs.sources.layout import file_splits
from beam_jobs.sources.members import Member, read_members
from beam_jobs.sources.options import SourceOptions
from tfpipe.errors import UsageError
from tfpipe.format.manifest import load_manifest

KIND_OF_INPUT = ("folder", "store", "zip", "tar")


@pytest.fixture(params=KIND_OF_INPUT)
def place(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> Any:
    """A function that makes an input of one kind from names of files."""

    def make(*names: str) -> str:
        members = [(name, b"x") for name in names]
        if request.param == "zip":
            return str(write_zip(tmp_path / "in.zip", members))
        if request.param == "tar":
            return str(write_tar(tmp_path / "in.tar", members))
        folder = touch(tmp_path / "in", *names)
        return str(folder) if request.param == "folder" else upload(folder, f"{store}/in")

    return make


def found(location: str, mode: str = "auto") -> dict[str, tuple[str, str]]:
    """The label and the split of every key."""
    source = open_source(location, options=SourceOptions(split_folders=mode))
    entries = [entry for piece in source.pieces(None) for entry in source.entries(piece)]
    assert {entry.split for entry in entries if isinstance(entry, Listed)} - {""} <= set(source.splits)
    return {entry.key: (entry.label, entry.split) for entry in entries if isinstance(entry, Listed)}


JUNK = ("__MACOSX/train/._1.jpg", ".git/x/1.jpg", "@eaDir/x/1.jpg", "$RECYCLE.BIN/x/1.jpg")


@pytest.mark.parametrize(
    ("words", "splits"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("Train", "Test"), ("train", "test")),
        (("train", "valid"), ("train", "validation")),
        (("TRAIN", "dev", "test"), ("train", "validation", "test")),
        (("train", "eval", "hold-out"), ("train", "validation", "test")),
        (("train", "val", "Validation"), ("train", "validation", "validation")),
        (("train",), ("train",)),
        (("evaluation",), ("validation",)),
    ],
)
@pytest.mark.parametrize("top", ["", "flowers/", "a/b c/"])
def test_split_folders_of_any_spelling_are_honoured_below_wrappers_and_beside_leftovers(
    place: Any, words: tuple[str, ...], splits: tuple[str, ...], top: str
) -> None:
    pairs = [(word, split, label) for word, split in zip(words, splits, strict=True) for label in "ab"]
    names = {f"{top}{word}/{label}/1.jpg": (label, split) for word, split, label in pairs}
    leftovers = ("Thumbs.db", "desktop.ini", ".DS_Store", "a/Thumbs.DB", "a/x/Desktop.ini", "a/__MACOSX/1.jpg")
    below = [f"{top}{words[0]}/{name}" for name in leftovers]
    assert found(place(*names, *JUNK, *below)) == names


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("train/a/1.jpg", "test/a/1.jpg", "cat/1.jpg"), "'test', 'train' beside 'cat' of .* may be splits or classes"),
        (("cat/1.jpg", "dog/1.jpg", "test/1.jpg"), "'test' beside 'cat', 'dog' of"),
        (("training_set/a/1.jpg", "test_set/a/1.jpg"), "'test_set', 'training_set' of .* may be splits"),
        (("TrainImages/a/1.jpg", "valImages/a/1.jpg", "docs/a/1.txt"), "'TrainImages', 'valImages' beside 'docs'"),
        (("trainset/a/1.jpg", "testset/a/1.jpg"), "'testset', 'trainset'"),
        (("trainA/1.jpg", "trainB/1.jpg", "testA/1.jpg"), "'testA', 'trainA', 'trainB'"),
        (("Train2/a/1.jpg",), "'Train2'"),
        (("my_train/a/1.jpg", "my-test/a/1.jpg"), "'my-test', 'my_train'"),
        (
            ("data/train_images/a/1.jpg", "data/test_images/a/1.jpg"),
            "/data' may be splits or classes; --split_folders no takes 'data' as the class, --split",
        ),
        (
            ("train/1.jpg", "test/1.jpg"),
            "but hold no class folders; --split_folders no takes them as classes",
        ),
        (("data/train/1.jpg", "data/test/1.jpg"), "named like splits but hold no class folders"),
        (("train/a/1.jpg", "dev/a/1.jpg", "eval/a/1.jpg"), "'dev' and 'eval' of .* both name the split 'validation'"),
        (
            ("cat/train/1.jpg", "cat/test/1.jpg", "dog/train/1.jpg"),
            "class folders of .* hold split folders, 'test', 'train'",
        ),
        (("test/train/1.jpg", "test/val/1.jpg"), "hold 'train', 'val', and all are named like splits"),
    ],
)
def test_what_can_be_read_in_two_ways_stops_and_names_the_option(
    place: Any, names: tuple[str, ...], sentence: str
) -> None:
    location = place(*names)
    with pytest.raises(UsageError, match=sentence) as error:
        found(location)
    assert "--split_folders no" in str(error.value)
    assert str(error.value).endswith(".")
    assert found(location, "no") == {name: (name.partition("/")[0], "") for name in names}


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.jpg", "dog/deep/1.jpg"),
        ("cat/1.jpg",),
        ("train_station/1.jpg", "bus/1.jpg", "airport/2.jpg"),
        ("cat/deep/er/1.jpg",),
        ("testament/1.jpg", "values/1.jpg"),
        ("cat/train/1.jpg", "dog/1.jpg"),
    ],
)
def test_other_folders_are_classes(place: Any, names: tuple[str, ...]) -> None:
    assert found(place(*names)) == {name: (name.partition("/")[0], "") for name in names}


@pytest.mark.parametrize(
    ("names", "mode_yes"),
    [
        (("training_set/a/1.jpg", "test_set/b/1.jpg"), [("a", "train"), ("b", "test")]),
        (("x/my_train/a/1.jpg", "x/valA/b/1.jpg"), [("a", "train"), ("b", "validation")]),
        (("testing-data/train/1.jpg", "testing-data/cat/1.jpg"), [("train", "test"), ("cat", "test")]),
        (("train/a/1.jpg",), [("a", "train")]),
        (("test/train/1.jpg", "test/val/1.jpg"), [("train", "test"), ("val", "test")]),
    ],
)
def test_yes_takes_the_word_within_a_name(place: Any, names: tuple[str, ...], mode_yes: list[tuple[str, str]]) -> None:
    assert found(place(*names), "yes") == dict(zip(names, mode_yes, strict=True))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("train/a/1.jpg", "cat/1.jpg"), "the folders 'cat' of .* name no split, or several"),
        (("cat/1.jpg", "dog/1.jpg"), "'cat', 'dog'"),
        (("train/a/1.jpg", "train_val/a/1.jpg"), "'train_val'"),
        (("train/1.jpg", "test/1.jpg"), "hold no class folders"),
        (("dev_set/a/1.jpg", "eval_set/a/1.jpg"), "'dev' and 'eval' of"),
    ],
)
def test_yes_refuses_what_names_no_split(place: Any, names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        found(place(*names), "yes")


def test_images_outside_the_class_folders_are_counted_and_texts_are_not(place: Any) -> None:
    names = ("d/train/cat/1.jpg", "d/test/cat/2.jpg", "d/test/loose.png", "d/up.JPG", "top.jpeg", "d/test/notes.txt")
    source = open_source(place(*names))
    entries = [entry for piece in source.pieces(None) for entry in source.entries(piece)]
    assert sum(entry.number for entry in entries if isinstance(entry, LeftOut)) == 3
    assert len([entry for entry in entries if isinstance(entry, Listed)]) == 2
    limited = [entry for piece in source.pieces(1) for entry in source.entries(piece)]
    assert len([entry for entry in limited if isinstance(entry, Listed)]) == 1


def test_a_split_folder_without_classes_is_none_and_its_images_are_counted(place: Any) -> None:
    location = place("train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg", "test/2.jpg")
    source = open_source(location)
    entries = [entry for piece in source.pieces(None) for entry in source.entries(piece)]
    assert source.splits == ("train",)
    assert sum(entry.number for entry in entries if isinstance(entry, LeftOut)) == 2
    assert found(location) == {"train/cat/1.jpg": ("cat", "train"), "train/dog/1.jpg": ("dog", "train")}


def test_the_option_is_recorded_only_where_it_is_given(tmp_path: Path) -> None:
    images = {f"{top}_set/{name}": data for top in ("training", "test") for name, data in JPEGS.items()}
    path = write_zip(tmp_path / "in.zip", images.items())
    manifest = run(path, tmp_path / "out", split_folders="yes").manifest
    assert manifest is not None
    assert {name: split.num_records for name, split in manifest.splits.items()} == {"train": 24, "test": 24}
    assert manifest.made_by["options"]["split_folders"] == "yes"
    plain = run(write_zip(tmp_path / "plain.zip", JPEGS.items()), tmp_path / "plain").manifest
    assert plain is not None
    assert "split_folders" not in plain.made_by["options"]


@pytest.mark.parametrize("mode", ["yes", "no"])
def test_the_option_is_refused_where_no_folder_says_a_split(tmp_path: Path, mode: str) -> None:
    touch(tmp_path, "a.jpg", "list.csv", content=b"a.jpg,cat\n")
    with pytest.raises(UsageError, match="--split_folders goes with folders and with archives"):
        found(str(tmp_path / "list.csv"), mode)
    with pytest.raises(UsageError, match="it takes one of"):
        run(tmp_path, tmp_path / "out", split_folders="maybe")


# ---- files that name their split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train-00000.tar", "eval-00000.tar"), ("train", "validation")),
        (("imagenet-Training-0.tar", "imagenet-holdout-0.tar"), ("train", "test")),
        (("train/0000.parquet", "test/0000.parquet"), ("train", "test")),
        (("trainset.tar", "testset.tar"), ("train", "test")),
        (("train-0.tar", "train-1.tar"), ("", "")),
        (("a.tar", "b.tar"), ("", "")),
    ],
)
def test_files_are_of_the_split_that_they_name_where_they_name_several(
    names: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    assert file_splits(names, "auto") == splits
    assert file_splits(names, "no") == ("", "")


def test_files_that_name_splits_only_partly_stop() -> None:
    for names, sentence in (
        (("train-0.tar", "test-0.tar", "extra.tar"), "'extra.tar' names no split"),
        (("train-0.tar", "train_val-0.tar", "test-0.tar"), "'train_val-0.tar' names no split, or several"),
        (("dev-0.tar", "eval-0.tar"), "'dev' and 'eval' of"),
    ):
        with pytest.raises(UsageError, match=sentence) as error:
            file_splits(names, "auto")
        assert "--split_folders no" in str(error.value)
        assert set(file_splits(names, "no")) == {""}
    assert file_splits(("train-0.tar", "train-1.tar"), "yes") == ("train", "train")
    with pytest.raises(UsageError, match=r"'a\.tar' names no split"):
        file_splits(("a.tar",), "yes")


@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_archives_named_by_any_split_word_keep_their_split(tmp_path: Path, ending: str) -> None:
    for name in ("Training-0", "dev-0", "heldout-0"):
        path = tmp_path / "in" / f"{name}.{ending}"
        path.parent.mkdir(exist_ok=True)
        _ = write_hub(path, JPEGS) if ending == "parquet" else write_tar(path, sample_members(JPEGS))
    manifest = run(tmp_path / "in", tmp_path / "out").manifest
    assert manifest is not None
    assert {name: manifest.num_records(name) for name in manifest.splits} == {"train": 24, "validation": 24, "test": 24}
    mixed = run(tmp_path / "in", tmp_path / "mixed", split_folders="no").manifest
    assert mixed is not None
    assert mixed.num_records("train") > 24


def test_a_tar_named_by_one_split_that_holds_folders_of_another_stops(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_tar(folder / "train.tar", [("train/a/1.jpg", b"x")])
    write_tar(folder / "test.tar", [("test/a/2.jpg", b"x")])
    assert found(str(folder)) == {"train.tar/train/a/1.jpg": ("a", "train"), "test.tar/test/a/2.jpg": ("a", "test")}
    write_tar(folder / "test.tar", [("test/a/2.jpg", b"x"), ("train/a/3.jpg", b"x")])
    with pytest.raises(
        UsageError, match=r"'test.tar' is named like the split 'test' and holds folders of \['test', 'train'\]"
    ):
        found(str(folder))


# ---- WebDataset samples


def sample(name: str, row: dict[str, Any] | None = None, **further: bytes) -> list[tuple[str, bytes]]:
    members = [(f"{name}.jpg", KINDS[".jpg"](len(name)))]
    members += [] if row is None else [(f"{name}.json", json.dumps(row).encode())]
    return members + [(f"{name}.{ending}", data) for ending, data in further.items()]


def test_a_field_that_a_sample_lacks_is_empty_whatever_the_order(tmp_path: Path) -> None:
    samples = [
        sample("a", {"label": "cat", "caption": "one", "width": 5}),
        sample("b", {"label": "cat", "license": "by", "width": 6}),
        sample("c", {"label": "dog", "caption": None, "width": 7}, txt=b"a text"),
        sample("d", None, cls=b"dog"),
    ]
    for name, order in (("one", samples), ("two", samples[::-1])):
        run(write_tar(tmp_path / f"{name}.tar", [member for one in order for member in one]), tmp_path / name)
    one, two = load_manifest(tmp_path / "one"), load_manifest(tmp_path / "two")
    assert one.fingerprint() == two.fingerprint()
    assert one.rejected == {}
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("caption", "license", "txt")}
    rows = {record["key"]: record for record in stock_read(one, **spec, width=tf.io.FixedLenFeature([], tf.float32))}
    assert [rows[f"{name}.jpg".encode()]["caption"] for name in "abcd"] == [b"one", b"", b"", b""]
    assert [rows[f"{name}.jpg".encode()]["license"] for name in "abcd"] == [b"", b"by", b"", b""]
    assert [rows[f"{name}.jpg".encode()]["txt"] for name in "abcd"] == [b"", b"", b"a text", b""]
    assert [float(rows[f"{name}.jpg".encode()]["width"]) for name in "abc"] == [5, 6, 7]


def test_columns_are_those_of_all_archives(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        write_tar(tmp_path / f"in/part-{i}.tar", sample(f"s{i}", {"label": "cat", f"only_{i}": i}))
    manifest = run(tmp_path / "in", tmp_path / "out").manifest
    assert manifest is not None
    assert {"only_0", "only_1", "only_2"} <= {feature.name for feature in manifest.schema.features}
    assert manifest.num_records() == 3


def test_masks_ride_along_where_every_sample_has_one(tmp_path: Path) -> None:
    image = KINDS[".jpg"](3)
    members = [(f"{i}.{ending}", data) for i in range(4) for ending, data in (("jpg", image), ("cls", b"a"))]
    masks = {i: file_bytes(np.full((HEIGHT, WIDTH), i, np.uint8), "PNG") for i in range(4)}
    with_masks = sorted([*members, *((f"{i}.seg.png", data) for i, data in masks.items())])
    manifest = run(write_tar(tmp_path / "in.tar", with_masks), tmp_path / "out").manifest
    assert manifest is not None
    assert manifest.rejected == {}
    records = stock_read(manifest, mask=tf.io.FixedLenFeature([], tf.string))
    assert {record["key"].decode(): record["mask"] for record in records} == {f"{i}.jpg": masks[i] for i in range(4)}
    partly = [member for member in with_masks if member[0] != "2.seg.png"]
    outcome = run(write_tar(tmp_path / "partly.tar", partly), tmp_path / "partly")
    assert outcome.plan.left_out == {"seg.png_members": 3}
    assert outcome.plan.columns == ()


def test_other_members_and_reserved_fields_are_left_out_and_counted(tmp_path: Path) -> None:
    members = [*sample("a", {"label": "x", "key": "1"}, npy=b"1", pkl=b"2"), *sample("b", {"label": "x"}, npy=b"1")]
    outcome = run(write_tar(tmp_path / "in.tar", members), tmp_path / "out")
    assert outcome.plan.left_out == {"key_fields": 1, "npy_members": 2, "pkl_members": 1}
    few = run(tmp_path / "in.tar", tmp_path / "few", limit=1)
    assert (few.plan.listed, few.plan.left_out) == (1, {"key_fields": 1, "npy_members": 1, "pkl_members": 1})
    assert outcome.manifest is not None
    assert outcome.manifest.made_by["left_out"] == outcome.plan.left_out


def test_a_sample_that_says_two_things_is_refused(tmp_path: Path) -> None:
    members = [
        *sample("good", {"label": 3}, cls=b"3\n"),
        *sample("labels", {"label": "cat"}, cls=b"dog"),
        *sample("texts", {"label": 3, "txt": "one"}, txt=b"other"),
        *sample("both", {"label": "3", "cls": 4}),
    ]
    outcome = run(write_tar(tmp_path / "in.tar", members), tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert {row["key"]: row["reason"] for row in rows} == {"labels.jpg": "bad_label", "texts.jpg": "bad_row"}
    assert "'dog'" in rows[0]["detail"]
    assert "'cat'" in rows[0]["detail"]
    assert dict(outcome.plan.columns)["cls"] == "float32"


def test_split_folders_around_samples_are_honoured(tmp_path: Path) -> None:
    members = [(f"{top}/{name}", data) for top in ("train", "Val") for name, data in sample_members(JPEGS)]
    manifest = run(write_tar(tmp_path / "in.tar", members), tmp_path / "out").manifest
    assert manifest is not None
    assert {name: manifest.num_records(name) for name in manifest.splits} == {"train": 24, "validation": 24}
    assert manifest.class_names == ("a", "b")
    assert found(str(tmp_path / "in.tar"), "no")["train/a/000.jpg"] == ("a", "")
    below = write_tar(tmp_path / "below.tar", [(f"set/of/{name}", data) for name, data in members])
    assert found(str(below))["set/of/Val/b/003.jpg"] == ("b", "validation")
    alike = write_tar(tmp_path / "alike.tar", [(f"my_{name}", data) for name, data in members])
    with pytest.raises(UsageError, match="'my_Val', 'my_train' around the samples of .* may be splits"):
        found(str(alike))
    assert found(str(alike), "yes")["my_Val/b/003.jpg"] == ("b", "validation")
    flat = write_tar(tmp_path / "flat.tar", [member for name in "ab" for member in sample(name, cls=b"x")])
    for path in (flat, write_tar(tmp_path / "mixed.tar", [*members, *sample("top", cls=b"x")])):
        assert {split for _, split in found(str(path)).values()} == {""}
        with pytest.raises(UsageError, match="neither the name of .* nor all folders in it say a split"):
            found(str(path), "yes")
    named = write_tar(tmp_path / "training.tar", sample("a", cls=b"x"))
    assert found(str(named), "yes") == {"a.jpg": ("x", "train")}


def test_columns_of_bytes_beside_the_image_of_a_parquet_file_are_counted(tmp_path: Path) -> None:
    table = hub_table(JPEGS).append_column("depth", pa.array([b"x"] * len(JPEGS), pa.binary()))
    pq.write_table(table, tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", tmp_path / "out").plan.left_out == {"depth_cells": len(JPEGS)}


def test_headers_of_every_form_of_tar_are_read_as_tarfile_reads_them(tmp_path: Path) -> None:
    long = "a/" + "x" * 90 + "/" + "y" * 90 + ".jpg"
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for name, size in (("a/1.jpg", 5), (long, 700), ("a/größe.jpg", 0), ("./a/2.jpg", 512), ("a/b/3.jpg", 513)):
                info = tarfile.TarInfo(name)
                info.size = size
                tar.addfile(info, io.BytesIO(b"y" * size))
        with tarfile.open(path) as tar:
            expected = [(info.name.removeprefix("./"), info.offset_data, info.size) for info in tar.getmembers()]
        assert [tuple(member) for member in read_members(str(path)) if isinstance(member, Member)] == expected
        assert expected[2][0] == "a/größe.jpg"
