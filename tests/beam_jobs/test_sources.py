"""Everything that is listed comes out exactly once: to be read, or refused with its reason."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listed import csv_file, entries_of, listed, row_file, touch

from beam_jobs.sources import Listed, open_source
from tfpipe.errors import SetupError, UsageError

LONG = "x" * 250


# ---- folder per class


def test_a_folder_is_a_class_and_whatever_lies_below_it_is_of_that_class(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "cat/1.jpg",
        "cat/deep/er/2.jpg",
        "dog/3.txt",
        "top.jpg",
        "cat/.hidden",
        ".git/4.jpg",
        "cat/.dir/5.jpg",
    )
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path) == {"cat/1.jpg": "cat", "cat/deep/er/2.jpg": "cat", "dog/3.txt": "dog"}
    source = open_source(f"{tmp_path}/")
    assert Path(source.path("cat/deep/er/2.jpg")).read_bytes() == b"x"
    assert (source.columns, source.splits) == ((), ())


@pytest.mark.parametrize(
    "name",
    [
        "größe.jpg",
        "日本.png",
        "two words.jpg",
        "line\nbreak.jpg",
        "a[x].jpg",
        "*?.jpg",
        "quote\"'.jpg",
        "a,b.jpg",
        f"{LONG}.jpg",
        "-rf.jpg",
        "back\\slash.jpg",
        "\u202e.jpg",
        "e\u0301.jpg",
        "é.jpg",
        "%s.jpg",
        "no_ending",
    ],
)
def test_any_name_of_a_file_is_a_key(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"cat/{name}")
    source = open_source(str(tmp_path))
    assert listed(tmp_path) == {f"cat/{name}": "cat"}
    assert os.path.exists(source.path(f"cat/{name}"))


def test_names_that_differ_in_case_or_unicode_form_are_different_keys(tmp_path: Path) -> None:
    touch(tmp_path, "cat/A.jpg", "cat/a.jpg", "cat/é.jpg", "cat/e\u0301.jpg", "Cat/a.jpg")
    assert set(listed(tmp_path).values()) == {"cat", "Cat"}
    assert len(listed(tmp_path)) == 5


def test_what_is_no_readable_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    touch(tmp_path, "cat/good.jpg")
    touch(tmp_path, "cat/empty.jpg", content=b"")
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    (tmp_path / "cat/up").symlink_to("..")
    (tmp_path / "cat/self").symlink_to("self")
    (tmp_path / "cat/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "cat/link.jpg").symlink_to("good.jpg")
    (tmp_path / "cat/device").symlink_to("/dev/null")
    os.symlink("good.jpg", os.fsencode(tmp_path / "cat") + b"/\xff.jpg")
    assert listed(tmp_path) == {
        "cat/good.jpg": "cat",
        "cat/link.jpg": "cat",
        "cat/empty.jpg": "empty",
        "cat/pipe.jpg": "not_a_file",
        "cat/up/cat": "symlink_loop",
        "cat/self": "symlink_loop",
        "cat/gone.jpg": "missing",
        "cat/device": "not_a_file",
        "cat/\\udcff.jpg": "bad_name",
    }


def test_a_link_to_a_folder_beside_is_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "cat/dogs").symlink_to("../dog")
    (tmp_path / "dog/cats").symlink_to("../cat")
    assert listed(tmp_path) == {
        "cat/1.jpg": "cat",
        "cat/dogs/2.jpg": "cat",
        "cat/dogs/cats": "symlink_loop",
        "dog/2.jpg": "dog",
        "dog/cats/1.jpg": "dog",
        "dog/cats/dogs": "symlink_loop",
    }


def test_folders_nested_some_hundreds_deep_are_walked(tmp_path: Path) -> None:
    key = "cat/" + "d/" * 480 + "1.jpg"
    for depth in range(481):
        os.mkdir(tmp_path / key[: 3 + 2 * depth])
    (tmp_path / key).write_bytes(b"x")
    assert listed(tmp_path) == {key: "cat"}


def test_split_folders_keep_their_split(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/cat/1.jpg",
        "val/cat/2.jpg",
        "validation/dog/3.jpg",
        "test/dog/4.jpg",
        "train/top.jpg",
        "readme.txt",
    )
    found = {(entry.key, entry.label, entry.split) for entry in entries_of(tmp_path) if isinstance(entry, Listed)}
    assert found == {
        ("train/cat/1.jpg", "cat", "train"),
        ("val/cat/2.jpg", "cat", "validation"),
        ("validation/dog/3.jpg", "dog", "validation"),
        ("test/dog/4.jpg", "dog", "test"),
    }
    assert open_source(str(tmp_path)).splits == ("train", "validation", "test")


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 30))
def test_a_limit_takes_of_each_class_in_turn(counts: list[int], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for label, count in enumerate(counts):
            (Path(folder) / f"c{label}").mkdir()
            touch(Path(folder), *(f"c{label}/{i}.jpg" for i in range(count)))
        found = list(listed(Path(folder), limit).values())
    assert len(found) == min(limit, sum(counts))
    taken = [found.count(f"c{label}") for label in range(len(counts))]
    highest = max(taken, default=0)
    assert all(got in (highest, highest - 1) or got == count for got, count in zip(taken, counts, strict=True))


@given(st.integers(1, 40))
def test_the_pieces_hold_every_folder_once(classes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), *(f"c{label:02d}/1.jpg" for label in range(classes)))
        assert len(listed(Path(folder))) == classes
        assert 1 <= len(open_source(folder).pieces(None)) <= 16


# ---- what is refused at the start


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda root: root / "nowhere",
            "No input at '{root}/nowhere'; --input takes a folder with a folder per class; a listing (.csv, .txt, ",
        ),
        (
            lambda root: root,
            "'{root}' holds no folders; it takes one folder of images per class: {root}/CLASS/image.jpg. --label_kind ",
        ),
        (
            lambda root: touch(root, "a.png") / "a.png",
            "tfpipe can't read '{root}/a.png'; --input takes a folder with a folder per class; ",
        ),
        (lambda root: csv_file(root, ""), "'{root}/list.csv' lists nothing."),
        (lambda root: csv_file(root, "\n\n"), "'{root}/list.csv' lists nothing."),
        (
            lambda root: csv_file(root, "a.jpg\n"),
            "The first row of '{root}/list.csv' has one cell; a row holds a file and its label: photo.jpg,cat. ",
        ),
        (lambda root: csv_file(root, '"a"b,cat\n'), "'{root}/list.csv' is not CSV: its first row: "),
        (
            lambda root: csv_file(root, "uri,label,age,age\n"),
            "The header of '{root}/list.csv' names the column 'age' twice.",
        ),
        (
            lambda root: row_file(root, [{"file": "a.jpg", "depth": 1, "text": "big"}]),
            "No column of '{root}/list.jsonl' is known as the label; it has ['depth', 'file', 'text']. --label_column ",
        ),
        (
            lambda root: row_file(root, [{"label": "cat"}], "parquet"),
            "No column of '{root}/list.parquet' is known as the file; it has ['label']. --file_column ",
        ),
        (lambda root: row_file(root, []), "'{root}/list.jsonl' lists nothing."),
        (
            lambda root: row_file(root, ["no"]),
            "'{root}/list.jsonl' lists nothing but its row 'no': The row is not JSON",
        ),
        (
            lambda root: row_file(root, [{"file": "a.jpg", "label": "cat", "": 1}]),
            "The header of '{root}/list.jsonl' names the column '', which is empty, ",
        ),
        (
            lambda root: csv_file(root, b"uri,label,\xff\na.jpg,cat,1\n"),
            "The header of '{root}/list.csv' names the column ",
        ),
    ],
)
def test_an_input_that_is_wrong_as_a_whole_is_refused_with_one_sentence(
    tmp_path: Path, make: Any, sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(str(make(tmp_path)))
    assert str(caught.value).startswith(sentence.replace("{root}", str(tmp_path)))
    str(caught.value).encode()


def test_a_class_folder_whose_name_is_not_utf8_is_refused_at_the_start(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(UsageError, match=r"The folder name 'caf\\\\udce9' in .* is not UTF-8; rename it"):
        open_source(str(tmp_path))


def test_a_missing_pyarrow_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = row_file(tmp_path, [{"file": "a.jpg", "label": "cat"}], "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"Reading Parquet takes pyarrow; pip install 'tfpipe\[beam\]'"):
        open_source(str(path))
