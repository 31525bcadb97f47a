"""Everything that is listed comes out exactly once: to be read, or refused with its reason."""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_listing

from beam_jobs.sources import Entry, Listed, Ref, Refused, open_source
from tfpipe.errors import SetupError, UsageError

LONG = "x" * 250
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)


def entries_of(location: Path, limit: int | None = None) -> list[Entry]:
    """What all pieces list, as a worker gets them: through pickle."""
    source = pickle.loads(pickle.dumps(open_source(str(location))))
    return [entry for piece in source.pieces(limit) for entry in source.entries(pickle.loads(pickle.dumps(piece)))]


def listed(location: Path, limit: int | None = None) -> dict[str, Any]:
    """Key to label for what can be read, to reason for what is refused."""
    found = entries_of(location, limit)
    outcome = {entry.key: entry.label if isinstance(entry, Listed) else entry.reason for entry in found}
    assert len(outcome) == len(found)
    return outcome


def touch(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


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


@pytest.mark.parametrize(
    "names", [("train/cat/1.jpg", "other/cat/2.jpg"), ("train/1.jpg", "test/2.jpg")], ids=["beside others", "flat"]
)
def test_folders_named_like_splits_are_classes_where_they_can_t_be_splits(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    touch(tmp_path, *names)
    assert open_source(str(tmp_path)).splits == ()
    assert listed(tmp_path) == {name: name.partition("/")[0] for name in names}


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


# ---- CSV


def csv_file(root: Path, content: str | bytes) -> Path:
    touch(root, "a.jpg", "b.jpg", "c,d.jpg", "größe.jpg", "sub/e.jpg")
    path = root / "list.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Name -> the listing; key to label or reason.
LISTINGS: dict[str, tuple[str | bytes, dict[str, str]]] = {
    "no header": ("a.jpg,cat\nb.jpg,dog\n", {"a.jpg": "cat", "b.jpg": "dog"}),
    "no last newline": ("a.jpg,cat\nb.jpg,dog", {"a.jpg": "cat", "b.jpg": "dog"}),
    **{
        f"header {cell}": (f"{cell},label\na.jpg,cat\n", {"a.jpg": "cat"})
        for cell in ("uri", "URL", "Path", "file", "FileName", " image ")
    },
    "a first row that is no header": ("photo,label\na.jpg,cat\n", {"photo": "missing", "a.jpg": "cat"}),
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


def row_file(root: Path, rows: list[Any], kind: str = "jsonl") -> Path:
    """A listing of rows; in JSON lines a row may be a text, which stands there as it is."""
    touch(root, "a.jpg", "b.jpg", "größe.jpg", "sub/e.jpg")
    path = root / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
        return path
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    return path


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


# ---- what is refused at the start


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda root: root / "nowhere",
            "No input at '{root}/nowhere'; --input takes a folder with a folder per class; a listing (.csv, .txt, ",
        ),
        (lambda root: root, "'{root}' holds no folders; images lie in one folder per class: {root}/CLASS/image.jpg."),
        (
            lambda root: touch(root, "a.png") / "a.png",
            "tfpipe can't read '{root}/a.png'; --input takes a folder with a folder per class; ",
        ),
        (lambda root: csv_file(root, ""), "'{root}/list.csv' lists nothing."),
        (lambda root: csv_file(root, "\n\n"), "'{root}/list.csv' lists nothing."),
        (
            lambda root: csv_file(root, "a.jpg\n"),
            "The first row of '{root}/list.csv' is ['a.jpg']; a row holds a file and its label: photo.jpg,cat.",
        ),
        (
            lambda root: csv_file(root, "a.jpg;cat\n"),
            "The first row of '{root}/list.csv' is ['a.jpg;cat']; a row holds a file and its label: photo.jpg,cat.",
        ),
        (lambda root: csv_file(root, '"a"b,cat\n'), "'{root}/list.csv' is not CSV: its first row: "),
        (
            lambda root: csv_file(root, "uri,label,age,age\n"),
            "The header of '{root}/list.csv' names the column 'age', which is empty, ",
        ),
        (
            lambda root: csv_file(root, "uri,label,,b\n"),
            "The header of '{root}/list.csv' names the column '', which is empty, ",
        ),
        (
            lambda root: csv_file(root, "uri,label,image\n"),
            "The header of '{root}/list.csv' names the column 'image', which is empty, ",
        ),
        (
            lambda root: row_file(root, [{"file": "a.jpg", "class": "cat"}]),
            "The rows of '{root}/list.jsonl' have the columns ['class', 'file']; a row needs a label in one of ",
        ),
        (
            lambda root: row_file(root, [{"label": "cat"}], "parquet"),
            "The rows of '{root}/list.parquet' have the columns ['label']; a row needs a file in one of ['image', ",
        ),
        (lambda root: row_file(root, []), "'{root}/list.jsonl' lists nothing."),
        (
            lambda root: row_file(root, ["no"]),
            "'{root}/list.jsonl' lists nothing but its row 'no': The row is not JSON",
        ),
        (
            lambda root: row_file(root, [{"file": "a.jpg", "label": "cat", "shape": 1}]),
            "The header of '{root}/list.jsonl' names the column 'shape', which is empty, ",
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
