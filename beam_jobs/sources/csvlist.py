"""A CSV listing: the file, its label, and further columns that are carried along."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from beam_jobs.sources.listing import (
    Entry,
    Ref,
    Refused,
    check_columns,
    name_problem,
    printable,
    read_whole,
)
from beam_jobs.sources.rows import listed_file
from tfpipe.errors import UsageError

# A first row whose first cell is one of these is a header.
HEADER_CELLS = frozenset({"uri", "url", "path", "file", "filename", "image"})


@dataclass(frozen=True)
class CsvSource:
    """A comma-separated listing.

    Files are absolute or relative to the listing. With a header, the further columns keep its names; without one they
    are column_3, column_4, ...
    """

    listing: str
    has_header: bool
    columns: tuple[str, ...]
    splits: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "number")

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        yield from islice(self._all_entries(), piece)

    def path(self, key: str) -> str:
        """The file that a key names."""
        return os.path.join(os.path.dirname(self.listing), key)

    def read(self, ref: Ref) -> bytes:
        return read_whole(self.path(ref.key), ref.size)

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
                printable(key),
                text,
                "bad_row",
                f"The row has {len(row)} cells; the first row has {len(self.columns) + 2}.",
            )
        if not row[1].strip():
            return Refused(printable(key), key, "empty_label", "The row has no label.")
        problem = next((problem for cell in row if (problem := name_problem(cell))), None)
        if problem:
            return Refused(printable(key), printable(key), *problem)
        return listed_file(self.path(key), key, row[1].strip(), tuple(row[2:]))


def open_csv(listing: str) -> CsvSource:
    """The source of a CSV listing.

    Raises:
      UsageError: it lists nothing, is no CSV, or its header can't be that of a listing.
    """
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
    check_columns(columns, listing)
    return CsvSource(listing, has_header, columns)


def _open_listing(path: str) -> Any:
    # utf-8-sig drops the byte order mark that spreadsheets write; surrogateescape lets a bad cell be refused by itself.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
