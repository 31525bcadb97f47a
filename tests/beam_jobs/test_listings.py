"""Each row of a listing comes out exactly once: to be read, or refused with its reason."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listed import csv_file, entries_of, listed, row_file
from pictures import write_listing

from beam_jobs.sources import Listed, Ref, Refused, open_source

LONG = "x" * 250
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)


# ---- CSV


# Name -> the listing; key to label or reason.
LISTINGS: dict[str, tuple[str | bytes, dict[str, str]]] = {
    "no header": ("a.jpg,cat\nb.jpg,dog\n", {"a.jpg": "cat", "b.jpg": "dog"}),
    "no last newline": ("a.jpg,cat\nb.jpg,dog", {"a.jpg": "cat", "b.jpg": "dog"}),
    **{
        f"header {cell}": (f"{cell},label\na.jpg,cat\n", {"a.jpg": "cat"})
        for cell in ("uri", "URL", "Path", "file", "FileName", " image ")
    },
    "a header by its label": ("shot,label\na.jpg,cat\n", {"a.jpg": "cat"}),
    "a first file that is missing": ("z.jpg,cat\na.jpg,dog\n", {"z.jpg": "missing", "a.jpg": "dog"}),
    "a first id that is missing": ("z,cat\na.jpg,dog\nb.jpg,cat\n", {"z": "missing", "a.jpg": "dog", "b.jpg": "cat"}),
    "byte order mark": ("\ufeffa.jpg,cat\n", {"a.jpg": "cat"}),
    "byte order mark and header": ("\ufeffuri,label\na.jpg,cat\n", {"a.jpg": "cat"}),
    "crlf": ("uri,label\r\na.jpg,cat\r\nb.jpg,dog\r\n", {"a.jpg": "cat", "b.jpg": "dog"}),
    "old Mac line ends": ("uri,label\ra.jpg,cat\rb.jpg,dog\r", {"a.jpg": "cat", "b.jpg": "dog"}),
    "blank lines": ("\na.jpg,cat\n\n\nb.jpg,dog\n\n", {"a.jpg": "cat", "b.jpg": "dog"}),
    "blank lines before a header": ("\n\r\nuri,label\na.jpg,cat\n", {"a.jpg": "cat"}),
    "quoted commas, quotes and line ends": ('"c,d.jpg","cat, ""big""\nand old"\n', {"c,d.jpg": 'cat, "big"\nand old'}),
    "unicode": ("größe.jpg,chaton é\n", {"größe.jpg": "chaton é"}),
    "a folder below": ("sub/e.jpg,cat\n./a.jpg,cat\n", {"sub/e.jpg": "cat", "./a.jpg": "cat"}),
    "spaces around labels": ("a.jpg, cat \n", {"a.jpg": "cat"}),
    "missing cell": ("a.jpg,cat\nb.jpg\n", {"a.jpg": "cat", "b.jpg": "bad_row"}),
    "extra cell": ("a.jpg,cat\nb.jpg,dog,7\n", {"a.jpg": "cat", "b.jpg": "bad_row"}),
    "no label": ("a.jpg,cat\nb.jpg,\nc.jpg, \n", {"a.jpg": "cat", "b.jpg": "empty_label", "c.jpg": "empty_label"}),
    "no file": ("a.jpg,cat\n,dog\n", {"a.jpg": "cat", "": "bad_row"}),
    "a blank cell": ("a.jpg,cat\n   \n", {"a.jpg": "cat", "": "bad_row"}),
    "a missing file": ("a.jpg,cat\nz.jpg,dog\n", {"a.jpg": "cat", "z.jpg": "missing"}),
    "a folder for a file": (
        "a.jpg,cat\nsub,dog\na.jpg/x,dog\n",
        {"a.jpg": "cat", "sub": "not_a_file", "a.jpg/x": "missing"},
    ),
    "a name too long": (f"a.jpg,cat\n{LONG * 2},dog\n", {"a.jpg": "cat", LONG * 2: "unreadable"}),
    "not utf-8": (
        b"a.jpg,cat\n\xff.jpg,dog\nb.jpg,\xfe\n",
        {"a.jpg": "cat", "\\udcff.jpg": "bad_name", "b.jpg": "bad_name"},
    ),
    "a NUL": ("a.jpg,cat\nb\0.jpg,dog\nb.jpg,d\0g\n", {"a.jpg": "cat", "b\0.jpg": "bad_name", "b.jpg": "bad_name"}),
    "a stray quote": ('a.jpg,cat\n"b"x.jpg,dog\nb.jpg,dog\n', {"a.jpg": "cat", "": "bad_row", "b.jpg": "dog"}),
    "a quote that never ends": ('a.jpg,cat\n"b.jpg,dog\n', {"a.jpg": "cat", "": "bad_row"}),
    "a cell beyond csv's limit": (
        f"a.jpg,cat\n{'y' * 140_000},dog\nb.jpg,dog\n",
        {"a.jpg": "cat", "": "bad_row", "b.jpg": "dog"},
    ),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_each_row_of_a_listing_is_an_entry_or_a_refusal(tmp_path: Path, name: str) -> None:
    content, expected = LISTINGS[name]
    assert listed(csv_file(tmp_path, content)) == expected


def test_a_row_that_is_refused_says_what_came_and_what_is_expected(tmp_path: Path) -> None:
    (refused,) = [e for e in entries_of(csv_file(tmp_path, "a.jpg,cat,1\nb.jpg,dog\n")) if isinstance(e, Refused)]
    assert refused == ("b.jpg", "b.jpg,dog", "bad_row", "The row has 2 cells; the first row has 3.")


def test_further_columns_take_the_header_s_names_or_numbers(tmp_path: Path) -> None:
    named = open_source(str(csv_file(tmp_path, "uri,label, Age ,größe\na.jpg,cat,3,x\n")))
    assert named.columns == ("Age", "größe")
    assert open_source(str(csv_file(tmp_path, "a.jpg,cat,3,x\n"))).columns == ("column_3", "column_4")
    (entry,) = entries_of(csv_file(tmp_path, 'a.jpg,cat, 3,"x\ny"\n'))
    assert entry == Listed("a.jpg", "cat", "", 1, (" 3", "x\ny"))


def test_files_are_absolute_or_lie_beside_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = csv_file(tmp_path, f"{tmp_path}/a.jpg,cat\nb.jpg,dog\n")
    monkeypatch.chdir("/")
    assert listed(listing) == {f"{tmp_path}/a.jpg": "cat", "b.jpg": "dog"}
    source = open_source(str(listing))
    assert (source.path("b.jpg"), source.path(f"{tmp_path}/a.jpg")) == (f"{tmp_path}/b.jpg", f"{tmp_path}/a.jpg")


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    assert listed(csv_file(tmp_path, "uri,label\na.jpg,cat\nz.jpg,dog\nb.jpg,dog\n"), 2) == {
        "a.jpg": "cat",
        "z.jpg": "missing",
    }


@given(
    st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.text(max_size=3)), max_size=6)
)
def test_any_quoted_rows_are_accounted_for(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_listing(Path(folder, "list.csv"), [("uri", "label"), *rows])
        assert len(entries_of(path)) == len(rows)


# ---- JSON lines and Parquet


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "parquet"])
@pytest.mark.parametrize("column", ["file", "image", "path", "filename", "file_name", "uri", "url"])
def test_rows_with_named_columns_are_a_listing(tmp_path: Path, kind: str, column: str) -> None:
    rows = [
        {"label": "cat", "age": 3, column: "a.jpg", "text": None, "weight": 0.1, "tags": ["x", "y"], "new": True},
        {"label": "dog", "age": None, column: "größe.jpg", "text": "007", "weight": 1e-30, "tags": [], "new": False},
        {
            "label": "dog",
            "age": 4,
            column: f"{tmp_path}/sub/e.jpg",
            "text": "",
            "weight": 2.0,
            "tags": None,
            "new": None,
        },
    ]
    path = row_file(tmp_path, rows, kind)
    source = open_source(str(path))
    found = {entry.key: entry for entry in entries_of(path)}
    assert set(source.columns) == {"age", "text", "weight", "tags", "new"}
    cells = {key: dict(zip(source.columns, entry.extras, strict=True)) for key, entry in found.items()}
    assert cells == {
        "a.jpg": {"age": "3", "text": "", "weight": "0.1", "tags": '["x", "y"]', "new": "true"},
        "größe.jpg": {"age": "", "text": "007", "weight": "1e-30", "tags": "[]", "new": "false"},
        f"{tmp_path}/sub/e.jpg": {"age": "4", "text": "", "weight": "2.0", "tags": "", "new": ""},
    }
    assert [entry.label for entry in found.values()] == ["cat", "dog", "dog"]
    assert source.read(Ref(0, "größe.jpg", "dog", 1, ())) == b"x"
    assert len(entries_of(path, 2)) == 2


def test_each_line_of_json_is_an_entry_or_a_refusal(tmp_path: Path) -> None:
    rows = [
        *['{"file": "a.jpg", "label": "cat"}', "", "   ", "not json", "[1]", "3", '{"file": "b.jpg"', "[" * 5000],
        *['{"file": "b.jpg", "label": %s}' % ("9" * 5000), '{"label": "cat"}', '{"file": " ", "label": "cat"}'],
        *['{"file": "x.jpg", "label": "cat"}', '{"file": "sub", "label": "cat"}', '{"file": "n\\u0000", "label": "c"}'],
        *['{"file": "\\ud800.jpg", "label": "cat"}', '{"file": "\udcff.jpg", "label": "cat"}'],
        *['{"file": "größe.jpg"}', '{"file": "sub/e.jpg", "label": {"a": 1}}'],
    ]
    found = entries_of(row_file(tmp_path, rows))
    assert [(e.key, e.label if isinstance(e, Listed) else e.reason) for e in found] == [
        *[("a.jpg", "cat"), *[("", "bad_row")] * 8, ("x.jpg", "missing"), ("sub", "not_a_file"), ("n\0", "bad_name")],
        *[("\\ud800.jpg", "bad_name"), ("\\udcff.jpg", "bad_name"), ("größe.jpg", "empty_label")],
        ("sub/e.jpg", "bad_label"),
    ]


def test_the_order_of_lines_and_of_names_in_them_changes_no_column(tmp_path: Path) -> None:
    rows = [{"file": "a.jpg", "label": "cat", "b": 1}, {"a": 2, "label": "dog", "file": "b.jpg"}]
    one = open_source(str(row_file(tmp_path / "one", rows)))
    two = open_source(str(row_file(tmp_path / "two", rows[::-1])))
    assert one.columns == two.columns == ("a", "b")


@given(
    st.lists(
        st.one_of(st.text(max_size=20), st.dictionaries(st.sampled_from(["file", "label", "x"]), JSON)), max_size=6
    )
)
def test_any_lines_are_accounted_for(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = {"file": "a.jpg", "label": "cat"}
        lines = [row if isinstance(row, dict) else " ".join(row.split()) for row in rows]
        path = row_file(Path(folder), [first, *lines])
        assert len(entries_of(path)) == 1 + sum(row != "" for row in lines)
