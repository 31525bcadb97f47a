"""A conversion over a dataset says what changes before it writes, and nothing where nothing does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from containers import JPEGS
from conversions import REJECTED, converted
from listed import touch
from pictures import file_bytes, files_of, photo, write_listing

from beam_jobs.convert import Outcome, convert
from beam_jobs.job import Job
from beam_jobs.replaced import Changes, change_lines
from tfpipe.format.manifest import save_manifest
from tfpipe.storage import replace_file


def photos_of(root: Path, tops: tuple[str, ...], classes: dict[str, str]) -> Path:
    for top in tops:
        for name, data in JPEGS.items():
            label, _, last = name.partition("/")
            touch(root, f"{top}/{classes[label]}/{last}", content=data)
    return root


def over(source: Path, output: Path, **options: Any) -> tuple[Outcome, list[Changes]]:
    """A conversion over what is there; what it announced, and that nothing was written until then."""
    announced = []
    before = files_of(output)

    def announce(changes: Changes) -> None:
        assert {name: data for name, data in files_of(output).items() if not name.startswith("_")} == before
        announced.append(changes)

    job = Job(input=str(source), output=str(output), max_rejected="50%", **{"overwrite": True, **options})
    return convert(job, announce=announce), announced


def test_nothing_is_said_where_there_is_no_dataset_or_the_same(tmp_path: Path) -> None:
    photos = photos_of(tmp_path / "in", ("x",), {"a": "a", "b": "b"})
    touch(photos, "x/a/bad.jpg", content=b"no image")
    (tmp_path / "out").mkdir()
    outcome, announced = over(photos, tmp_path / "out")
    assert (outcome.replaces, announced) == (None, [])
    assert (tmp_path / "out" / REJECTED).read_text().count("\n") == 1
    outcome, announced = over(photos, tmp_path / "out")
    assert (outcome.replaces, announced) == ({}, [])
    # Of another plan: the image that was refused when it was read makes no difference between the splits.
    assert over(photos, tmp_path / "out", target_bytes=10**6)[0].replaces == {
        "options": {"target_bytes": [64_000_000, 10**6]}
    }


def test_splits_classes_and_options_that_change_are_said(tmp_path: Path) -> None:
    photos = photos_of(tmp_path / "in", ("Training", "Testing"), {"a": "dog", "b": "cat"})
    old = convert(Job(input=str(photos), output=str(tmp_path / "out"), split_folders="no")).manifest
    assert old is not None
    counts = {name: split.num_records for name, split in old.splits.items()}
    for dry_run in (True, False):
        options = {"dry_run": True, "overwrite": False} if dry_run else {}
        outcome, announced = over(photos, tmp_path / "out", **options)
        assert (
            outcome.replaces
            == announced[0]
            == {
                "splits": {
                    "test": [counts["test"], 24],
                    "train": [counts["train"], 24],
                    "validation": [counts["validation"], None],
                },
                "class_ids": {"Testing": [0, None], "Training": [1, None], "cat": [None, 0], "dog": [None, 1]},
                "options": {
                    "split": [{"train": 0.8, "validation": 0.1, "test": 0.1}, "folders"],
                    "split_folders": ["no", None],
                },
            }
        )
    assert change_lines(announced[0]) == [
        f"records of splits: test {counts['test']} -> 24, train {counts['train']} -> 24, "
        f"validation {counts['validation']} -> none",
        "class ids: Testing 0 -> none, Training 1 -> none, cat none -> 0, dog none -> 1",
        "options: split train=0.8,validation=0.1,test=0.1 -> folders, split_folders no -> none",
    ]


def test_classes_that_move_columns_and_versions_are_said(tmp_path: Path) -> None:
    files = {f"{i}.jpg": data for i, data in enumerate(JPEGS.values())}
    for name, data in files.items():
        touch(tmp_path, name, content=data)
    rows = [[name, "dog" if i % 2 else "cat", str(i)] for i, name in enumerate(files)]
    listing = write_listing(tmp_path / "list.csv", [["file", "label", "width"], *rows])
    old = converted(listing, tmp_path / "out", target_bytes=64_000_000)
    made_by = {**old.made_by, "plan": "another", "versions": {**old.made_by["versions"], "tfpipe": "0.0.1"}}
    save_manifest(replace(old, made_by=made_by), tmp_path / "out")
    rows = [[name, ["ant", "cat"][i % 2], f"w{i}", str(i / 2)] for i, name in enumerate(files)]
    write_listing(tmp_path / "list.csv", [["file", "label", "width", "score"], *rows])
    outcome, announced = over(listing, tmp_path / "out")
    assert announced[0]["class_ids"] == {"ant": [None, 0], "cat": [0, 1], "dog": [1, None]}
    assert announced[0]["columns"] == {"score": [None, "float32"], "width": ["int64", "string"]}
    assert announced[0]["versions"]["tfpipe"][0] == "0.0.1"
    assert "splits" not in announced[0]
    assert outcome.manifest is not None
    assert over(listing, tmp_path / "out")[1] == []


def test_another_file_under_the_same_key_is_said_as_another_input(tmp_path: Path) -> None:
    photos = photos_of(tmp_path / "in", ("x", "y"), {"a": "a", "b": "b"})
    first = over(photos, tmp_path / "out")[0].manifest
    (photos / "x/a/000.jpg").write_bytes(file_bytes(photo(1, 200, 300), "JPEG"))
    second, announced = over(photos, tmp_path / "out")
    assert first is not None
    assert second.manifest is not None
    assert announced == [{"input": {"plan": [first.made_by["plan"], second.manifest.made_by["plan"]]}}]
    assert change_lines(announced[0])[0].startswith("input: other files, labels or cuts between shards;")


def test_a_damaged_manifest_is_replaced_without_a_word(tmp_path: Path) -> None:
    photos = photos_of(tmp_path / "in", ("x",), {"a": "a", "b": "b"})
    over(photos, tmp_path / "out")
    replace_file(tmp_path / "out/dataset.json", b"{")
    outcome, announced = over(photos, tmp_path / "out")
    assert (outcome.replaces, announced) == (None, [])


@pytest.mark.parametrize("count", [3, 30])
def test_a_line_names_a_few_and_counts_the_others(count: int) -> None:
    line = change_lines({"class_ids": {f"c{i:02d}": [i, i + 1] for i in range(count)}})[0]
    assert line.endswith("c02 2 -> 3" if count == 3 else "c05 5 -> 6 and 24 more")
