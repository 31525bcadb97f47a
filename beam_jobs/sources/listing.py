"""The protocol of all sources, the entries that they list, and the checks that they share.

A source is small and picklable. `pieces` are the parts that can be read independently; `entries` reads one piece. Every
input comes out exactly once, as `Listed` or, where it can't be taken, as `Refused`. `read` gives the bytes of an image
later, in another process and in the order of the hash; it finds them by the entry's locator.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from tfpipe.errors import UsageError
from tfpipe.format.schema import RESERVED
from tfpipe.storage import StorePath

# Each worker reads whole pieces; more of them would only give more files to merge.
MAX_PIECES = 16
# More different columns are a listing that isn't one.
MOST_COLUMNS = 1000
# The column whose cells name mask files, and the dtype that says so.
MASK_COLUMN = "mask"
# The column with the group of a record, where groups are kept in one split.
GROUP_COLUMN = "group"
# Of files that are taken for images before they are read.
IMAGE_ENDINGS = frozenset(
    (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "ico", "tga"),
        *("ppm", "pgm", "pbm", "pnm", "avif", "jp2", "j2k"),
    )
)
# How images that lie beside or above the class folders are counted; other files there are not.
OUTSIDE = "images_outside_class_folders"
# Between the class names of a record with several. No name may hold it; NUL separates the fields of a reference.
BETWEEN_LABELS = "\x1f"


class Listed(NamedTuple):
    r"""An input as the source lists it.

    Attributes:
      key: its name in the dataset.
      label: the class's name, the names of several with "\x1f" between them, or a number as text.
      split: the split that the source assigns, or "" where the hash decides.
      size: the image file's bytes.
      extras: the cells of the additional columns.
      locator: the position by which the source finds the bytes again; "" where it follows from the key.
      group: records of one group fall into one split; "" where each is on its own.
    """

    key: str
    label: str
    split: str
    size: int
    extras: tuple[str, ...] = ()
    locator: str = ""
    group: str = ""


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


class LeftOut(NamedTuple):
    """What belongs to inputs and does not come into the dataset, though its input does; no input of its own.

    It comes before the input that it belongs to, or, of the whole source, first.

    Attributes:
      what: a plural in snake_case, such as "boxes_without_area".
      number: how many.
    """

    what: str
    number: int = 1


Entry = Listed | Refused | LeftOut
# A reason and a sentence.
Problem = tuple[str, str]
EMPTY_FILE: Problem = "empty", "The file has no bytes."


class Ref(NamedTuple):
    """One input that will become a record; refs sort into the order of their split."""

    order: int
    key: str
    label: str
    size: int
    extras: tuple[str, ...]
    locator: str = ""


class Refusal(Exception):
    """Why an input can't be taken; caught where its entry or its record is made.

    Attributes:
      reason: one snake_case word.
      detail: a sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def of(self, key: str) -> Refused:
        """The refused input of that key, where the source names the file by its key too."""
        return Refused(key, key, self.reason, self.detail)


class Source(Protocol):
    """A listing of images."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the additional columns, in the order of Listed.extras."""

    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        """The columns whose dtype the source knows; the cells decide for the others. See beam_jobs.encode.columns."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source assigns itself; empty where the hash decides."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes in the order of their ids, where the source knows them."""

    @property
    def label_kinds(self) -> tuple[str, ...]:
        """The kinds of labels, of "class", "multi" and "number", that it can hold."""

    def pieces(self, limit: int | None) -> list[Any]:
        """The parts that can be read independently; at most `limit` entries come out of all of them."""

    def entries(self, piece: Any) -> Iterator[Entry]:
        """Yields the entries of a piece."""

    def read(self, ref: Ref) -> bytes:
        """The bytes of an image file.

        Raises:
          OSError: it can't be read.
          Refusal: the bytes that are there are not those that were listed.
        """


class MaskReader(Protocol):
    """The additional method of a source where a column has the dtype "mask"."""

    def read_mask(self, ref: Ref) -> bytes:
        """The bytes of an image's mask file; raises what Source.read raises."""


def mask_dtypes(columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The dtypes of columns that the cells do not decide: that of masks."""
    return ((MASK_COLUMN, MASK_COLUMN),) if MASK_COLUMN in columns else ()


def chunked(items: Sequence[Any], *, most: int = MAX_PIECES) -> list[tuple[Any, ...]]:
    """The items cut into at most `most` groups of neighbours."""
    step = -(-len(items) // most) or 1
    return [tuple(items[i : i + step]) for i in range(0, len(items), step)]


def round_robin(walks: Iterable[Iterator[Entry]]) -> Iterator[Entry]:
    """Yields one entry of each walk after the other, again and again, so that a limit takes from every class."""
    walks = list(walks)
    while walks:
        going = []
        for walk in walks:
            for entry in islice(walk, 1):
                yield entry
                going.append(walk)
        walks = going


def first_inputs(entries: Iterable[Entry], limit: int | None) -> Iterator[Entry]:
    """Yields the first `limit` inputs, with what is left out of them."""
    taken = 0
    for entry in entries:
        yield entry
        taken += not isinstance(entry, LeftOut)
        if taken == limit:
            return


def looks_like_image(name: str) -> bool:
    """Whether a file's name ends as an image's does."""
    return name.rpartition(".")[2].lower() in IMAGE_ENDINGS


def ordered_splits(found: Iterable[str]) -> tuple[str, ...]:
    """The splits that occur, in their usual order."""
    names = set(found)
    return tuple(name for name in ("train", "validation", "test") if name in names)


# ---- values as text


def to_cell(value: Any) -> str:
    """A value as the text of a cell: "" for none, JSON for lists and objects."""
    if type(value) is str:  # Nearly every cell of a million rows.
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return repr(value) if isinstance(value, float) else str(value)


# ---- problems of a file, a name or a header


def file_problem(status: os.stat_result) -> Problem | None:
    """The problem with a file, by its status."""
    if not stat.S_ISREG(status.st_mode):
        return "not_a_file", "It is not a regular file."
    return None if status.st_size else EMPTY_FILE


def stat_problem(error: Exception) -> Problem:
    """The problem of a file without a status."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing", "There is no such file."
    text = getattr(error, "strerror", None) or str(error)
    if "symbolic link" in text:
        return "symlink_loop", "The link leads back to itself."
    return "unreadable", f"The file can't be read: {text}."


def name_problem(text: str) -> Problem | None:
    """The problem with a text that can't be a key, a label or a cell."""
    if text.isascii() and "\0" not in text:
        return None
    if "\0" in text:
        return "bad_name", "The name holds a NUL character."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "bad_name", "The name is not UTF-8."
    return None


def check_names(*texts: str) -> None:
    """Raises a Refusal where one of the texts can't be a key, a label or a cell."""
    for text in texts:
        if problem := name_problem(text):
            raise Refusal(*problem)


def member_problem(name: str) -> Problem | None:
    """The problem with the name of an archive's member: it leads out of the archive, or is no text."""
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        return "bad_name", "The name is absolute, or holds .. or a backslash: it could lead out of the archive."
    return name_problem(name)


def printable(text: str) -> str:
    """A text in which bytes that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_columns(columns: Sequence[str], listing: str) -> None:
    """Checks that columns can be features of a record.

    Raises:
      UsageError: it names the first one.
    """
    bad = [name for name in columns if not name or columns.count(name) > 1 or name in RESERVED or name_problem(name)]
    if bad:
        raise UsageError(
            f"The header of {listing!r} names the column {bad[0]!r}, which is empty, occurs twice, is not UTF-8, "
            f"or is one that records use themselves: {list(RESERVED)}."
        )


# ---- bytes


def read_whole(path: str, expected: int) -> bytes:
    """The file's bytes: in three system calls where the size is as expected; open() takes seven."""
    if "://" in path:
        return StorePath(path).read_bytes()
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(handle, expected + 1)
        while len(data) != expected:  # It changed since it was listed, or the read came short, as across a network.
            more = os.read(handle, 1 << 20)
            if not more:
                break
            data += more
        return data
    finally:
        os.close(handle)
