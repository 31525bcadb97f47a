"""Listings whose rows have named columns: JSON lines and Parquet. And what any row's values become.

A row names a file in one column ("image", "file", "path", "filename", "file_name", "uri" or "url") and its label in
"label" (or "labels"); the label is a text, a number or a list of texts. All other columns are carried along: texts and
numbers as they are, lists and objects as JSON text. A row that lacks a column of another has it empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    Entry,
    Listed,
    Ref,
    Refused,
    cell_text,
    check_columns,
    file_problem,
    name_problem,
    printable,
    read_whole,
    stat_problem,
)
from tfpipe.errors import SetupError, UsageError

_BATCH_ROWS = 4096
_MOST_COLUMNS = 1000


# ---- values


def listed_file(path: str, key: str, label: str, extras: tuple[str, ...]) -> Entry:
    """The entry of a row whose file lies at a path, by the file's status."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return Refused(key, key, *stat_problem(error))
    problem = file_problem(status)
    if problem:
        return Refused(key, key, *problem)
    return Listed(key, label, "", status.st_size, extras)


@dataclass(frozen=True)
class RowColumns:
    """Which columns of a row are what.

    Attributes:
      file: the column that names the file.
      label: the column with the label.
      further: the columns that are carried along.
    """

    file: str
    label: str
    further: tuple[str, ...]


def find_columns(names: Sequence[str], listing: str) -> RowColumns:
    """The columns of a listing by their names.

    Raises:
      UsageError: there is no file or no label, or a further column can't be a feature.
    """
    file = next((name for name in FILE_COLUMNS if name in names), None)
    label = next((name for name in LABEL_COLUMNS if name in names), None)
    if file is None or label is None:
        needed = f"a file in one of {list(FILE_COLUMNS)}" if file is None else f"a label in one of {LABEL_COLUMNS}"
        raise UsageError(f"The rows of {listing!r} have the columns {list(names)}; a row needs {needed}.")
    further = tuple(name for name in names if name not in (file, label))
    check_columns(further, listing)
    return RowColumns(file, label, further)


def row_entry(row: Mapping[str, Any], columns: RowColumns, folder: str, text: str) -> Entry:
    """The entry of a row of values whose files are absolute or below a folder; `text` shows the row in a refusal."""
    key = cell_text(row.get(columns.file))
    if not key.strip():
        return Refused("", printable(text), "bad_row", "The row names no file.")
    label = label_text(row.get(columns.label))
    if isinstance(label, tuple):
        return Refused(printable(key), printable(key), *label)
    extras = tuple(cell_text(row.get(name)) for name in columns.further)
    problem = next((problem for cell in (key, label, *extras) if (problem := name_problem(cell))), None)
    if problem:
        return Refused(printable(key), printable(key), *problem)
    return listed_file(os.path.join(folder, key), key, label, extras)


# ---- listings


@dataclass(frozen=True)
class RowSource:
    """A JSON lines or Parquet listing. Files are absolute or relative to the listing."""

    listing: str
    row_columns: RowColumns
    splits: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "multi", "number")

    @property
    def columns(self) -> tuple[str, ...]:
        return self.row_columns.further

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        folder = os.path.dirname(self.listing)
        for row, text in islice(_rows_of(self.listing), piece):
            if isinstance(row, str):
                yield Refused("", printable(text), "bad_row", row)
            else:
                yield row_entry(row, self.row_columns, folder, text)

    def read(self, ref: Ref) -> bytes:
        return read_whole(os.path.join(os.path.dirname(self.listing), ref.key), ref.size)


# A row, or what is wrong with it; and the row as text.
_Row = tuple[dict[str, Any] | str, str]


def open_rows(listing: str) -> RowSource:
    """The source of a JSON lines or Parquet listing.

    Raises:
      UsageError: it lists nothing, its first row is no row, or a column is missing.
      SetupError: Parquet needs pyarrow.
    """
    listing = os.path.abspath(listing)
    if is_parquet(listing):
        return RowSource(listing, find_columns(open_parquet(listing).schema_arrow.names, listing))
    return RowSource(listing, find_columns(_json_columns(listing), listing))


def _json_columns(listing: str) -> list[str]:
    """The columns of all rows, sorted: objects leave out what is empty, and the rows' order is not to count."""
    names: set[str] = set()
    rows, problem = 0, ""
    for row, text in _json_rows(listing):
        rows += 1
        if isinstance(row, str):
            problem = problem or f"its row {printable(text)!r}: {row}"
            continue
        names.update(row)
        if len(names) > _MOST_COLUMNS:
            raise UsageError(f"The rows of {listing!r} have more than {_MOST_COLUMNS} different columns.")
    if not names:
        raise UsageError(f"{listing!r} lists nothing but {problem}" if rows else f"{listing!r} lists nothing.")
    return sorted(names)


def _rows_of(listing: str) -> Iterator[_Row]:
    return _parquet_rows(listing) if is_parquet(listing) else _json_rows(listing)


def _json_rows(listing: str) -> Iterator[_Row]:
    with open(listing, encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            if line.strip():
                yield _json_row(line), line.strip()[:200]


def _json_row(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or a number of thousands of digits.
        return f"The row is not JSON: {error}."
    return row if isinstance(row, dict) else "The row is not a JSON object."


# ---- Parquet


def is_parquet(path: str) -> bool:
    """Whether a path names a Parquet file."""
    return path.lower().endswith((".parquet", ".pq"))


def open_parquet(path: str) -> Any:
    """The pyarrow.parquet.ParquetFile at a path.

    Raises:
      UsageError: it is not Parquet.
      SetupError: pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise SetupError("Reading Parquet takes pyarrow; pip install 'tfpipe[beam]'.") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise UsageError(f"{path!r} is not a Parquet file: {str(error).splitlines()[0]}") from error


def _parquet_rows(listing: str) -> Iterator[_Row]:
    with open_parquet(listing) as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            for row in batch.to_pylist():
                yield row, json.dumps(row, default=str, ensure_ascii=False)[:200]
