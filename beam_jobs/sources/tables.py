"""The rows of a listing as values by column, whatever its format: CSV, JSON lines or Parquet.

A row that can't be read comes out as the sentence that says why, so that it is refused and nothing is lost.

    table = open_table("list.csv", Lookup("photos"))
    table.names                       # ("file", "label")
    for row, text in table.rows(): ...
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from beam_jobs.sources.column_names import known_names, plain_name
from beam_jobs.sources.files import open_binary, open_text
from beam_jobs.sources.listing import printable
from beam_jobs.sources.lookup import Lookup
from tfpipe.errors import SetupError, UsageError
from tfpipe.storage import is_url

# Rows that are looked at to tell what the columns are.
SAMPLE_ROWS = 50
_BATCH_ROWS = 4096
_MOST_COLUMNS = 1000
_SEPARATORS = (",", ";", "\t")
_SAMPLE_CHARACTERS = 1 << 16

# A row, or the problem with it; and the row as text, for refusals.
Row = tuple[dict[str, Any] | str, str]


@dataclass(frozen=True)
class Table:
    """A listing.

    Attributes:
      path: the file.
      names: the columns. Those of a CSV file without a header are column_1, column_2, ...
      separator: between the cells of a CSV file; None for the other formats.
      has_header: whether the first row of a CSV file holds names.
    """

    path: str
    names: tuple[str, ...]
    separator: str | None = None
    has_header: bool = True

    def rows(self) -> Iterator[Row]:
        """Yields the rows in order."""
        if self.separator is not None:
            return _csv_rows(self)
        return _parquet_rows(self.path) if is_parquet(self.path) else _json_rows(self.path)

    def sample(self) -> list[dict[str, Any]]:
        """Some of the first rows that can be read."""
        return [row for row, _ in islice(self.rows(), SAMPLE_ROWS) if not isinstance(row, str)]


def open_table(path: str, lookup: Lookup) -> Table:
    """The listing in a file.

    Args:
      path: of the listing.
      lookup: finds the files that cells name.

    Raises:
      UsageError: it lists nothing, or is not what its ending says.
      SetupError: Parquet needs pyarrow.
    """
    if is_parquet(path):
        return Table(path, tuple(open_parquet(path).schema_arrow.names))
    if path.lower().endswith((".jsonl", ".ndjson")):
        return Table(path, tuple(_json_columns(path)))
    return _open_csv(path, lookup)


# ---- CSV


def _open_csv(path: str, lookup: Lookup) -> Table:
    with open_text(path, newline="") as file:
        text = file.read(_SAMPLE_CHARACTERS)
        cut = bool(file.read(1))
    sampled = {one: rows for one in _SEPARATORS if (rows := _sample_csv(text, one, cut))}
    several = {one: rows for one, rows in sampled.items() if len(rows[0]) > 1} or sampled
    if not several:
        try:
            next((row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row), None)
        except csv.Error as error:
            raise UsageError(f"{path!r} is not CSV: its first row: {error}.") from error
        raise UsageError(f"{path!r} lists nothing.")
    separator = next(iter(several))
    if len(several) > 1:
        separator = max(several, key=lambda one: _fit(several[one], lookup))
    rows = several[separator]
    has_header = _is_header(rows, lookup)
    cells = [cell.strip() for cell in rows[0]]
    names = [cell if has_header and cell else f"column_{i}" for i, cell in enumerate(cells, 1)]
    return Table(path, tuple(names), separator, has_header)


def _sample_csv(text: str, separator: str, cut: bool) -> list[list[str]]:
    """The first rows of a text; where it is cut off, without the last one."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator):
            if row:
                rows.append(row)
    except csv.Error:
        cut = False
    return rows[: len(rows) - cut][: SAMPLE_ROWS + 1] or rows[:1]


def _fit(rows: Sequence[Sequence[str]], lookup: Lookup) -> tuple[int, int]:
    """How well a separator fits: known names and files among the cells, and rows as long as the first."""
    known = sum(plain_name(cell) in known_names() for cell in rows[0])
    files = sum(any(map(lookup.is_there, row)) for row in rows)
    return known + files, sum(len(row) == len(rows[0]) for row in rows)


def _is_header(rows: Sequence[Sequence[str]], lookup: Lookup) -> bool:
    """Whether the first row holds names: known ones, or no file where later rows have one."""
    first, *later = rows
    # In a store each look is a request.
    names = [cell for cell in first if plain_name(cell) in known_names()]
    if any(map(lookup.is_there, names if names and is_url(lookup.folder) else first)):
        return False
    if names:
        return True
    for stems in (False, True):
        files = [i for i in range(len(first)) if any(lookup.is_there(r[i], stems=stems) for r in later if i < len(r))]
        if files:
            # A label that occurs again is a label, and a name with an ending a file that is missing.
            others = [i for i in range(len(first)) if i not in files]
            labels = any(
                _is_number(first[i]) or any(first[i] == row[i] for row in later if i < len(row)) for i in others
            )
            return not labels and not any("." in first[i] or "/" in first[i] for i in files)
    return False


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _csv_rows(table: Table) -> Iterator[Row]:
    names, width = table.names, len(table.names)
    with open_text(table.path, newline="") as file:
        rows = csv.reader(file, strict=True, delimiter=str(table.separator))
        if table.has_header:
            next(row for row in rows if row)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"The row is not CSV: {error}.", ""
                continue
            if len(row) == width:
                yield dict(zip(names, row, strict=True)), ",".join(row)[:200]
            elif row:
                yield f"The row has {len(row)} cells; the first row has {width}.", ",".join(row)[:200]


# ---- JSON lines


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


def _json_rows(listing: str) -> Iterator[Row]:
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


def _parquet_rows(listing: str) -> Iterator[Row]:
    with open_parquet(listing) as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            for row in batch.to_pylist():
                yield row, json.dumps(row, default=str, ensure_ascii=False)[:200]
