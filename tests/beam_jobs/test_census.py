"""The statistics of a conversion: sizes, duplicates, warnings."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import fill_folder

from beam_jobs.census import count_sizes, find_duplicates, manifest_warnings, merge_sizes, warnings_of
from beam_jobs.convert import convert
from beam_jobs.job import Job

ROWS = st.lists(st.tuples(st.integers(1, 10**8), st.integers(1, 10**4), st.integers(1, 10**4)), min_size=1, max_size=50)


@given(ROWS, st.integers(0, 50))
def test_the_census_of_parts_is_the_census_of_all(rows, cut):
    assert merge_sizes([count_sizes(rows[:cut]), count_sizes(rows[cut:])]) == merge_sizes([count_sizes(rows)])


@given(ROWS)
def test_sizes_are_exact_at_the_ends_and_close_in_the_middle(rows):
    found = merge_sizes([count_sizes(rows)])
    columns = {"file_bytes": 0, "height": 1, "width": 2}
    for name, column in columns.items():
        values = sorted(row[column] for row in rows)
        assert found[name]["smallest"] == pytest.approx(values[0], rel=1e-4)
        assert found[name]["largest"] == pytest.approx(values[-1], rel=1e-4)
        assert found[name]["median"] == pytest.approx(values[(len(values) - 1) // 2], rel=0.046)


def test_shards_without_records_count_nothing():
    assert merge_sizes([count_sizes([])]) == {}


def test_copies_are_counted_within_and_across_splits():
    contents = {
        "train": np.array([b"a" * 16, b"b" * 16, b"a" * 16, b"c" * 16], "S16"),
        "test": np.array([b"c" * 16, b"d" * 16], "S16"),
        "empty": np.array([], "S16"),
    }
    assert find_duplicates(contents) == {"records": 2, "across_splits": 1}
    assert find_duplicates({}) == {"records": 0, "across_splits": 0}


@pytest.mark.parametrize(
    ("counts", "duplicates", "expected"),
    [
        ({"train": [100, 90], "test": [10, 10]}, {}, []),
        ({"train": [100, 0], "test": [10, 0]}, {}, ["no record of class 'dog'."]),
        ({"train": [50, 7]}, {}, ["fewer than 10 records of class 'dog'."]),
        ({"train": [500, 50]}, {}, ["'cat' has 500 records, 'dog' has 50: classes are unbalanced."]),
        ({"train": [50, 50]}, {"records": 3}, ["3 records repeat a file that another record holds."]),
        (
            {"train": [50, 50]},
            {"records": 3, "across_splits": 2},
            ["2 files occur in several splits under different keys: scores will flatter."],
        ),
    ],
)
def test_what_may_hurt_training_is_said(counts, duplicates, expected):
    assert warnings_of(["cat", "dog"], counts, duplicates) == expected


def test_many_classes_are_named_in_part():
    names = [f"c{i}" for i in range(20)]
    (line,) = warnings_of(names, {"train": [0] * 20}, {})
    assert line == "no record of classes 'c0', 'c1', 'c2', 'c3', 'c4' and 15 more."


@pytest.mark.parametrize("threads", [1, 2])
def test_a_conversion_finds_files_that_leak_between_splits(tmp_path, threads):
    folder = fill_folder(tmp_path / "in", ["cat", "dog"], 12)
    for path in sorted((folder / "cat").iterdir()):
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
    job = Job(input=str(folder), output=str(tmp_path / "out"), target_bytes=5000, threads=threads)
    manifest = convert(job).manifest
    assert manifest.statistics["duplicates"]["records"] == 12
    leaks = manifest.statistics["duplicates"]["across_splits"]
    assert leaks > 0
    assert f"{leaks} files occur in several splits under different keys: scores will flatter." in manifest_warnings(
        manifest
    )
    assert manifest.statistics["height"] == {"smallest": 30.0, "median": pytest.approx(30, rel=0.05), "largest": 30.0}


def test_a_single_class_is_said():
    assert warnings_of(["flowers"], {"train": [50], "test": [20]}, {}) == [
        "all records are of one class, 'flowers'; if its folders are the classes, convert it."
    ]
