"""Everything that is listed comes out exactly once: to be read, or refused with its reason."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import write_listing

from beam_jobs.sources import Entry, Listed, Refused, open_source
from tfpipe.errors import UsageError

LONG = "x" * 250


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


# ---- what is refused at the start


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda root: root / "nowhere",
            "No input at '{root}/nowhere'; --input takes a folder with a folder per class, or a CSV listing.",
        ),
        (lambda root: root, "'{root}' holds no folders; images lie in one folder per class: {root}/CLASS/image.jpg."),
        (lambda root: touch(root, "a.png") / "a.png", "'{root}/a.png' is neither a folder nor a .csv or .txt listing."),
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
