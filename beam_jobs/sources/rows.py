"""Listings whose rows have named columns, JSON lines and Parquet; and the entry that the values of a row become.

A row names a file in one column ("image", "file", "path", "filename", "file_name", "uri" or "url") and its label in
"label" (or "labels"); the label is a text, a number or a list of texts. All other columns are kept: texts and numbers
as they are, lists and objects as JSON text. A row that lacks a column of another has it empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from beam_jobs.sources.files import (
    absolute,
    file_bytes,
    folder_of,
    map_files,
    open_binary,
    open_text,
    peek,
    read_file,
    resolve,
)
from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import (
    EMPTY_FILE,
    FILE_COLUMNS,
    LABEL_COLUMNS,
    MASK_COLUMN,
    Entry,
    Listed,
    Ref,
    Refusal,
    Refused,
    check_columns,
    check_names,
    file_problem,
    printable,
    read_whole,
    stat_problem,
    to_cell,
)
from tfpipe.errors import SetupError, UsageError
from tfpipe.storage import is_url

_BATCH_ROWS = 4096
_MOST_COLUMNS = 1000


# ---- values


def listed_file(path: str, key: str, label: str, extras: tuple[str, ...]) -> Listed:
    """The entry of a row with the path of its file; raises a Refusal where the file can't be taken."""
    size = _object_bytes(path) if "://" in path and is_url(path) else _regular_file_bytes(path)
    return Listed(key, label, "", size, extras)


def _regular_file_bytes(path: str) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise Refusal(*stat_problem(error)) from error
    if problem := file_problem(status):
        raise Refusal(*problem)
    return status.st_size


def _object_bytes(url: str) -> int:
    try:
        size = file_bytes(url)
    except FileNotFoundError as error:
        raise Refusal(*stat_problem(error)) from error
    if not size:
        raise Refusal(*EMPTY_FILE)
    return size


def mask_dtypes(columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The dtypes of a listing's columns that the cells do not decide: that of masks."""
    return ((MASK_COLUMN, MASK_COLUMN),) if MASK_COLUMN in columns else ()


def read_listed_mask(folder: str, columns: Sequence[str], ref: Ref) -> bytes:
    """The mask file that a row names, below the listing's folder or absolute."""
    return read_file(resolve(folder, ref.extras[columns.index(MASK_COLUMN)]))


def check_row(texts: Sequence[str], columns: Sequence[str], extras: Sequence[str]) -> None:
    """Raises a Refusal where a text of a row can't be taken, or a row names no mask where it should."""
    if columns and MASK_COLUMN in columns and not extras[columns.index(MASK_COLUMN)].strip():
        raise Refusal("missing_mask", "The row names no mask.")
    check_names(*texts, *extras)


@dataclass(frozen=True)
class RowColumns:
    """The columns of a row by their meaning.

    Attributes:
      file: the column that names the file.
      label: the column with the label.
      extras: the additional columns.
    """

    file: str
    label: str
    extras: tuple[str, ...]


def find_columns(names: Sequence[str], listing: str) -> RowColumns:
    """The columns of a listing by their names.

    Raises:
      UsageError: there is no file or no label, or an additional column can't be a feature.
    """
    file = next((name for name in FILE_COLUMNS if name in names), None)
    label = next((name for name in LABEL_COLUMNS if name in names), None)
    if file is None or label is None:
        needed = f"a file in one of {list(FILE_COLUMNS)}" if file is None else f"a label in one of {LABEL_COLUMNS}"
        raise UsageError(f"The rows of {listing!r} have the columns {list(names)}; a row needs {needed}.")
    extras = tuple(name for name in names if name not in (file, label))
    check_columns(extras, listing, masks=True)
    return RowColumns(file, label, extras)


def row_entry(row: Mapping[str, Any], columns: RowColumns, folder: str, text: str) -> Entry:
    """The entry of a row of values whose files are absolute or below a folder; `text` shows the row in a refusal."""
    key = to_cell(row.get(columns.file))
    if not key.strip():
        return Refused("", printable(text), "bad_row", "The row names no file.")
    try:
        label = label_text(row.get(columns.label))
        extras = tuple(to_cell(row.get(name)) for name in columns.extras)
        check_row((key, label), columns.extras, extras)
        return listed_file(resolve(folder, key), key, label, extras)
    except Refusal as refusal:
        return refusal.of(printable(key))


# ---- listings


@dataclass(frozen=True)
class RowSource:
    """A JSON lines or Parquet listing. Files are absolute or relative to the listing."""

    listing: str
    row_columns: RowColumns
    splits: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "multi", "number")

    # See Source for the members that have no docstring.
    @property
    def columns(self) -> tuple[str, ...]:
        return self.row_columns.extras

    @cached_property
    def folder(self) -> str:
        """The folder that its relative paths start from."""
        return folder_of(self.listing)

    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        return mask_dtypes(self.columns)

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        first, rows = peek(islice(_rows_of(self.listing), piece))
        yield from map_files(self._entry, rows, concurrent=first is not None and self._is_remote(first[0]))

    def read(self, ref: Ref) -> bytes:
        return read_whole(resolve(self.folder, ref.key), ref.size)

    def read_mask(self, ref: Ref) -> bytes:
        return read_listed_mask(self.folder, self.columns, ref)

    def _entry(self, numbered: _Row) -> Entry:
        row, text = numbered
        if isinstance(row, str):
            return Refused("", printable(text), "bad_row", row)
        return row_entry(row, self.row_columns, self.folder, text)

    def _is_remote(self, row: dict[str, Any] | str) -> bool:
        return is_url(self.listing) or (not isinstance(row, str) and is_url(row.get(self.row_columns.file)))


# A row, or the problem with it; and the row as text.
_Row = tuple[dict[str, Any] | str, str]


def open_rows(listing: str) -> RowSource:
    """The source of a JSON lines or Parquet listing.

    Raises:
      UsageError: it lists nothing, its first row is no row, or a column is missing.
      SetupError: Parquet needs pyarrow.
    """
    listing = absolute(listing)
    if is_parquet(listing):
        return RowSource(listing, find_columns(open_parquet(listing).schema_arrow.names, listing))
    return RowSource(listing, find_columns(_json_columns(listing), listing))


def _json_columns(listing: str) -> list[str]:
    """The columns of all rows, sorted: objects leave out empty cells, and the order of the rows must not matter."""
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
    with open_text(listing) as file:
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
        return pyarrow.parquet.ParquetFile(open_binary(path) if is_url(path) else path)
    except pyarrow.ArrowInvalid as error:
        raise UsageError(f"{path!r} is not a Parquet file: {str(error).splitlines()[0]}") from error


def _parquet_rows(listing: str) -> Iterator[_Row]:
    with open_parquet(listing) as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            for row in batch.to_pylist():
                yield row, json.dumps(row, default=str, ensure_ascii=False)[:200]
