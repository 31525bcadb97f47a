"""A CSV listing: the file, its label, and additional columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from beam_jobs.sources.files import absolute, folder_of, map_files, open_text, peek, resolve
from beam_jobs.sources.listing import Entry, Ref, Refusal, Refused, check_columns, printable, read_whole
from beam_jobs.sources.rows import check_row, listed_file, mask_dtypes, read_listed_mask
from tfpipe.errors import UsageError
from tfpipe.storage import is_url

# A first row whose first cell is one of these is a header.
HEADER_CELLS = frozenset({"uri", "url", "path", "file", "filename", "image"})


@dataclass(frozen=True)
class CsvSource:
    """A comma-separated listing.

    Files are absolute or relative to the listing. With a header, the additional columns keep its names; without one
    they are column_3, column_4, ...
    """

    listing: str
    has_header: bool
    columns: tuple[str, ...]
    splits: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "number")

    @cached_property
    def folder(self) -> str:
        """The folder that its relative paths start from."""
        return folder_of(self.listing)

    # See Source for the members that have no docstring.
    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        return mask_dtypes(self.columns)

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        first, rows = peek(islice(self._rows(), piece))
        yield from map_files(self._entry, rows, concurrent=self._is_remote(first))

    def path(self, key: str) -> str:
        """The file that a key names."""
        return resolve(self.folder, key)

    def read(self, ref: Ref) -> bytes:
        return read_whole(self.path(ref.key), ref.size)

    def read_mask(self, ref: Ref) -> bytes:
        return read_listed_mask(self.folder, self.columns, ref)

    def _is_remote(self, row: list[str] | Refused | None) -> bool:
        return is_url(self.listing) or (isinstance(row, list) and is_url(row[0]))

    def _rows(self) -> Iterator[list[str] | Refused]:
        with open_text(self.listing, newline="") as file:
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
                    yield row

    def _entry(self, row: list[str] | Refused) -> Entry:
        if isinstance(row, Refused):
            return row
        key, text = row[0], ",".join(row)[:200]
        if not key.strip():
            return Refused("", text, "bad_row", "The row names no file.")
        if len(row) != len(self.columns) + 2:
            detail = f"The row has {len(row)} cells; the first row has {len(self.columns) + 2}."
            return Refused(printable(key), text, "bad_row", detail)
        if not row[1].strip():
            return Refused(printable(key), key, "empty_label", "The row has no label.")
        try:
            check_row(row[:2], self.columns, row[2:])
            return listed_file(self.path(key), key, row[1].strip(), tuple(row[2:]))
        except Refusal as refusal:
            return refusal.of(printable(key))


def open_csv(listing: str) -> CsvSource:
    """The source of a CSV listing.

    Raises:
      UsageError: it lists nothing, is no CSV, or its header can't be that of a listing.
    """
    listing = absolute(listing)
    with open_text(listing, newline="") as file:
        try:
            first = next((row for row in csv.reader(file, strict=True) if row), None)
        except csv.Error as error:
            raise UsageError(f"{listing!r} is not CSV: its first row: {error}.") from error
    if first is None:
        raise UsageError(f"{listing!r} lists nothing.")
    if len(first) < 2:
        raise UsageError(f"The first row of {listing!r} is {first!r}; a row holds a file and its label: photo.jpg,cat.")
    has_header = first[0].strip().lower() in HEADER_CELLS
    names = first[2:] if has_header else [f"column_{i}" for i in range(3, len(first) + 1)]
    columns = tuple(name.strip() for name in names)
    check_columns(columns, listing, masks=True)
    return CsvSource(listing, has_header, columns)
