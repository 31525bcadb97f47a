"""Where images come from: a listing is cut into pieces, and a piece yields one entry for everything that it lists.

A source is small and picklable. `pieces` says what can be read independently; `entries` reads one piece. Everything
listed comes out exactly once, as `Listed` or, where it can't be taken, as `Refused`.

    source = open_source("photos")            # photos/CLASS/**/file, or a CSV listing
    for piece in source.pieces(limit=None):
        for entry in source.entries(piece):
            ...
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tfpipe.errors import UsageError
from tfpipe.schema import RESERVED

# Folders of these names directly in ROOT are splits where nothing else lies beside them.
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
# A first row whose first cell is one of these is a header.
HEADER_CELLS = frozenset({"uri", "url", "path", "file", "filename", "image"})
# Each worker reads whole pieces; more of them would only make more files to merge.
_MAX_PIECES = 16


class Listed(NamedTuple):
    """An input as the source lists it.

    Attributes:
      key: its name in the dataset.
      label: the class's name.
      split: the split that the source assigns, or "" where the hash decides.
      size: the file's bytes.
      extras: the further columns' cells.
    """

    key: str
    label: str
    split: str
    size: int
    extras: tuple[str, ...] = ()


class Refused(NamedTuple):
    """An input that can't be taken: a line of rejected.jsonl.

    Attributes:
      key: its name in the dataset, or "" where it has none.
      source: the file as the source names it.
      reason: one snake_case word.
      detail: a sentence.
    """

    key: str
    source: str
    reason: str
    detail: str


Entry = Listed | Refused


class Source(Protocol):
    """A listing of images."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the further columns, in the order of Listed.extras."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source assigns itself; empty where the hash decides."""

    def pieces(self, limit: int | None) -> list[Any]:
        """The parts that can be read independently; at most `limit` entries come out of all of them."""

    def entries(self, piece: Any) -> Iterator[Entry]:
        """Yields what a piece lists."""

    def path(self, key: str) -> str:
        """The file that a key names."""


def open_source(location: str) -> Source:
    """The source that lies at a path: a folder, or a CSV listing.

    Raises:
      UsageError: nothing is there, or nothing that tfpipe can read.
    """
    if os.path.isdir(location):
        return _open_folder(location)
    if not os.path.isfile(location):
        raise UsageError(f"No input at {location!r}; --input takes a folder with a folder per class, or a CSV listing.")
    if not location.lower().endswith((".csv", ".txt")):
        raise UsageError(f"{location!r} is neither a folder nor a .csv or .txt listing.")
    return _open_csv(location)


# ---- folder per class


class _Folder(NamedTuple):
    """One class's folder, below ROOT."""

    path: str
    label: str
    split: str


@dataclass(frozen=True)
class FolderSource:
    """ROOT/CLASS/**/file, or ROOT/SPLIT/CLASS/**/file. Dot files and files directly in ROOT are not listed."""

    root: str
    folders: tuple[_Folder, ...]
    columns: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        found = {folder.split for folder in self.folders} - {""}
        return tuple(name for name in ("train", "validation", "test") if name in found)

    def pieces(self, limit: int | None) -> list[Any]:
        if limit is not None:
            return [(self.folders, limit)]
        step = -(-len(self.folders) // _MAX_PIECES)
        return [(self.folders[i : i + step], None) for i in range(0, len(self.folders), step)]

    def entries(self, piece: tuple[Sequence[_Folder], int | None]) -> Iterator[Entry]:
        folders, limit = piece
        walks = [self._walk(folder) for folder in folders]
        if limit is None:
            for walk in walks:
                yield from walk
        else:
            yield from islice(_in_turn(walks), limit)

    def path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _walk(self, folder: _Folder) -> Iterator[Entry]:
        top = f"{self.root}/{folder.path}"
        # A stack of folders still to be read, each with all that hold it: they may nest deeper than Python's calls.
        waiting = [(top, frozenset({_identity(os.stat(top))}))]
        while waiting:
            directory, ancestors = waiting.pop()
            try:
                with os.scandir(directory) as found:
                    children = sorted((c for c in found if not c.name.startswith(".")), key=lambda c: c.name)
            except OSError as error:
                yield self._refused(directory, "unreadable", f"The folder can't be read: {error.strerror}.")
                continue
            for child in children:
                entry = self._entry(child, folder, ancestors)
                if isinstance(entry, os.stat_result):
                    waiting.append((child.path, ancestors | {_identity(entry)}))
                else:
                    yield entry

    def _entry(
        self, child: os.DirEntry[str], folder: _Folder, ancestors: frozenset[tuple[int, int]]
    ) -> Entry | os.stat_result:
        """What a child is in the listing; its status where it is a folder to be walked."""
        try:
            status = child.stat()
        except OSError as error:
            return self._refused(child.path, *_stat_problem(error))
        if stat.S_ISDIR(status.st_mode):
            if _identity(status) in ancestors:
                return self._refused(child.path, "symlink_loop", "The link leads back to a folder that holds it.")
            return status
        key = child.path[len(self.root) + 1 :]
        problem = _file_problem(status) or _name_problem(key)
        if problem:
            return self._refused(child.path, *problem)
        return Listed(key, folder.label, folder.split, status.st_size)

    def _refused(self, path: str, reason: str, detail: str) -> Refused:
        key = _printable(path[len(self.root) + 1 :])
        return Refused(key, key, reason, detail)


def _open_folder(root: str) -> FolderSource:
    root = os.path.abspath(root)
    names = _folders_in(root)
    if not names:
        raise UsageError(f"{root!r} holds no folders; images lie in one folder per class: {root}/CLASS/image.jpg.")
    if set(names) <= set(SPLIT_FOLDERS) and any(_folders_in(f"{root}/{name}") for name in names):
        parts = [
            (f"{name}/{label}", label, SPLIT_FOLDERS[name]) for name in names for label in _folders_in(f"{root}/{name}")
        ]
    else:
        parts = [(name, name, "") for name in names]
    bad = [path for path, _, _ in parts if _name_problem(path)]
    if bad:
        raise UsageError(f"The folder name {_printable(bad[0])!r} in {root!r} is not UTF-8; rename it.")
    return FolderSource(root, tuple(_Folder(*part) for part in parts))


def _folders_in(directory: str) -> list[str]:
    with os.scandir(directory) as found:
        return sorted(child.name for child in found if not child.name.startswith(".") and child.is_dir())


def _in_turn(walks: list[Iterator[Entry]]) -> Iterator[Entry]:
    """One entry of each in turn, so that a limit takes from every class."""
    while walks:
        going = []
        for walk in walks:
            for entry in islice(walk, 1):
                yield entry
                going.append(walk)
        walks = going


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


# ---- CSV listing


@dataclass(frozen=True)
class CsvSource:
    """A comma-separated listing: the file, its label, and further columns that are carried along.

    Files are absolute or relative to the listing. With a header, the further columns keep its names; without one they
    are column_3, column_4, ...
    """

    listing: str
    has_header: bool
    columns: tuple[str, ...]
    splits: tuple[str, ...] = ()

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        yield from islice(self._all_entries(), piece)

    def path(self, key: str) -> str:
        return os.path.join(os.path.dirname(self.listing), key)

    def _all_entries(self) -> Iterator[Entry]:
        with _open_listing(self.listing) as file:
            rows = csv.reader(file, strict=True)
            if self.has_header:
                next(row for row in rows if row)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Refused("", f"{Path(self.listing).name}", "bad_row", f"The row is not CSV: {error}.")
                    continue
                if row:
                    yield self._entry(row)

    def _entry(self, row: list[str]) -> Entry:
        key, text = row[0], ",".join(row)[:200]
        if not key.strip():
            return Refused("", text, "bad_row", "The row names no file.")
        if len(row) != len(self.columns) + 2:
            return Refused(
                _printable(key),
                text,
                "bad_row",
                f"The row has {len(row)} cells; the first row has {len(self.columns) + 2}.",
            )
        if not row[1].strip():
            return Refused(_printable(key), key, "empty_label", "The row has no label.")
        problem = next((problem for cell in row if (problem := _name_problem(cell))), None)
        if problem:
            return Refused(_printable(key), _printable(key), *problem)
        try:
            status = os.stat(self.path(key))
        except (OSError, ValueError) as error:
            return Refused(key, key, *_stat_problem(error))
        problem = _file_problem(status)
        if problem:
            return Refused(key, key, *problem)
        return Listed(key, row[1].strip(), "", status.st_size, tuple(row[2:]))


def _open_csv(listing: str) -> CsvSource:
    listing = os.path.abspath(listing)
    with _open_listing(listing) as file:
        try:
            first = next((row for row in csv.reader(file, strict=True) if row), None)
        except csv.Error as error:
            raise UsageError(f"{listing!r} is not CSV: its first row: {error}.") from error
    if first is None:
        raise UsageError(f"{listing!r} lists nothing.")
    if len(first) < 2:
        raise UsageError(f"The first row of {listing!r} is {first!r}; a row holds a file and its label: photo.jpg,cat.")
    has_header = first[0].strip().lower() in HEADER_CELLS
    columns = (
        tuple(cell.strip() for cell in first[2:])
        if has_header
        else tuple(f"column_{i}" for i in range(3, len(first) + 1))
    )
    _check_columns(columns, listing)
    return CsvSource(listing, has_header, columns)


def _check_columns(columns: tuple[str, ...], listing: str) -> None:
    bad = [name for name in columns if not name or columns.count(name) > 1 or name in RESERVED or _name_problem(name)]
    if bad:
        raise UsageError(
            f"The header of {listing!r} names the column {bad[0]!r}, which is empty, occurs twice, is not UTF-8, "
            f"or is one that records use themselves: {list(RESERVED)}."
        )


def _open_listing(path: str) -> Any:
    # utf-8-sig drops the byte order mark that spreadsheets write; surrogateescape lets a bad cell be refused by itself.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


# ---- what is wrong with a file or a name


def _file_problem(status: os.stat_result) -> tuple[str, str] | None:
    if not stat.S_ISREG(status.st_mode):
        return "not_a_file", "It is not a regular file."
    if status.st_size == 0:
        return "empty", "The file has no bytes."
    return None


def _stat_problem(error: Exception) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing", "There is no such file."
    text = getattr(error, "strerror", None) or str(error)
    if "symbolic link" in text:
        return "symlink_loop", "The link leads back to itself."
    return "unreadable", f"The file can't be read: {text}."


def _name_problem(text: str) -> tuple[str, str] | None:
    if text.isascii() and "\0" not in text:
        return None
    if "\0" in text:
        return "bad_name", "The name holds a NUL character."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "bad_name", "The name is not UTF-8."
    return None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
