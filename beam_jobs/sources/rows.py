"""Listings of files: CSV, JSON lines and Parquet, with a row for each file, or for each box of a file.

    source = open_rows("labels.csv", SourceOptions(image_root="photos"))

`tables` reads the rows, `columns` tells what their columns mean, `lookup` finds the files, `box_rows` reads boxes. A
row that lacks a column of another has it empty; lists and objects ride along as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from beam_jobs.sources.box_rows import BoxReader, ImageSize, file_cell, has_area, survey
from beam_jobs.sources.cells import NUMBER_KINDS, cell_kind
from beam_jobs.sources.columns import ColumnFinder, RowColumns, split_names
from beam_jobs.sources.files import absolute, folder_of, map_files, peek, read_file
from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import (
    MASK_COLUMN,
    Entry,
    LeftOut,
    Listed,
    Ref,
    Refusal,
    Refused,
    check_names,
    mask_dtypes,
    printable,
    read_whole,
    to_cell,
)
from beam_jobs.sources.lookup import Found, Lookup, image_root
from beam_jobs.sources.options import SourceOptions
from beam_jobs.sources.row_values import RowValues
from beam_jobs.sources.tables import Row, Table, open_table
from tfpipe.errors import UsageError
from tfpipe.images.probe import NotAnImage, probe
from tfpipe.storage import is_url

# The rows of one file.
_Rows = Sequence[Row]


@dataclass(frozen=True)
class RowSource:
    """A listing.

    Attributes:
      table: its rows.
      row_columns: what its columns mean.
      lookup: finds its files.
      options: of the source.
      values: reads labels, splits and groups.
      boxes: reads the boxes; None where there are none.
      class_names: the classes, where boxes must know them beforehand.
    """

    table: Table
    row_columns: RowColumns
    lookup: Lookup
    options: SourceOptions
    values: RowValues
    boxes: BoxReader | None = None
    class_names: tuple[str, ...] | None = None
    label_kinds: tuple[str, ...] = ("class", "multi", "number", "none")

    # See Source for the members that have no docstring.
    @property
    def columns(self) -> tuple[str, ...]:
        per_box = dict(self.boxes.dtypes) if self.boxes else {}
        return (*(name for name in self.row_columns.features if name not in per_box), *per_box)

    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        return (*mask_dtypes(self.columns), *(self.boxes.dtypes if self.boxes else ()))

    @property
    def splits(self) -> tuple[str, ...]:
        return self.values.splits

    @cached_property
    def _single_extras(self) -> tuple[str, ...]:
        """The additional columns with one value for a file."""
        per_box = [name for name, _, _ in self.boxes.lists] if self.boxes else []
        return tuple(name for name in self.row_columns.extras if name not in per_box)

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        files = self._files_of_boxes() if self.boxes else ([row] for row in self.table.rows())
        first, rows = peek(islice(files, piece))
        concurrent = first is not None and self._is_remote(first[0][0])
        for entry, without_area in map_files(self._entry, rows, concurrent=concurrent):
            if without_area:
                yield LeftOut("boxes_without_area", without_area)
            yield entry

    def path(self, key: str) -> str:
        """The file that a key names."""
        return self.lookup.path(key)

    def read(self, ref: Ref) -> bytes:
        return read_whole(self.lookup.path(ref.locator or ref.key), ref.size)

    def read_mask(self, ref: Ref) -> bytes:
        return read_file(self.lookup.path(ref.extras[self.columns.index(MASK_COLUMN)]))

    def _is_remote(self, row: dict[str, Any] | str) -> bool:
        return is_url(self.lookup.folder) or (not isinstance(row, str) and is_url(row.get(self.row_columns.file)))

    def _files_of_boxes(self) -> Iterator[_Rows]:
        """The rows of each file together, wherever they are in the listing."""
        files: dict[str, list[Row]] = {}
        for number, (row, text) in enumerate(self.table.rows()):
            # A row that names no file is a refusal of its own.
            name = "" if isinstance(row, str) else file_cell(row, self.row_columns.file)
            files.setdefault(name or f"\0{number}", []).append((row, text))
        yield from files.values()

    # ---- one file

    def _entry(self, rows: _Rows) -> tuple[Entry, int]:
        """The entry of a file, and how many of its boxes have no area and are left out."""
        row, text = rows[0]
        if isinstance(row, str):
            source = printable(text) if text else self.table.path.rpartition("/")[2]
            return Refused(self._first_cell(text), source, "bad_row", row), 0
        cell = to_cell(row.get(self.row_columns.file))
        if not cell.strip():
            return Refused("", printable(text), "bad_row", "The row names no file."), 0
        try:
            return self._list_file([one for one, _ in rows if not isinstance(one, str)], cell)
        except Refusal as refusal:
            return refusal.of(printable(cell)), 0

    def _list_file(self, rows: Sequence[dict[str, Any]], cell: str) -> tuple[Listed, int]:
        row, columns, without_area = rows[0], self.row_columns, 0
        if len(rows) > 1:
            self._check_equal(rows)
        found: Found | None = None
        boxes: tuple[str, ...] = ()
        if self.boxes is None:
            label = self.values.label(row)
        else:
            check_names(cell)
            found = self.lookup.find(cell)
            label, boxes, without_area = self._with_boxes(self.boxes, rows, found)
        group = self.values.group(row)
        extras = [to_cell(row.get(name)) for name in self._single_extras]
        if columns.mask is not None:
            extras.append(self._mask(row))
        if columns.group is not None:
            extras.append(group)
        key = to_cell(row.get(columns.key)).strip() if columns.key else ""
        split = self.values.split(row)
        check_names(cell, label, key, split, *extras, *boxes)
        found = found or self.lookup.find(cell)
        key = key or found.key
        locator = found.name if found.name != key else ""
        return Listed(key, label, split, found.size, (*extras, *boxes), locator, group), without_area

    def _check_equal(self, rows: Sequence[dict[str, Any]]) -> None:
        """Raises a Refusal where the rows of one file contradict each other."""
        columns = self.row_columns
        label = [columns.label] if self.boxes is None or self.boxes.label != columns.label else []
        for name in (*label, columns.split, columns.key, columns.mask, columns.group, *columns.class_columns):
            if name is not None and len(cells := {to_cell(row.get(name)) for row in rows}) > 1:
                one, two = sorted(cells)[:2]
                raise Refusal("bad_row", f"The rows of the file differ in the column {name!r}: {one!r} and {two!r}.")

    def _mask(self, row: Mapping[str, Any]) -> str:
        cell = to_cell(row.get(str(self.row_columns.mask)))
        if not cell.strip():
            raise Refusal("missing_mask", "The row names no mask.")
        try:
            return self.lookup.find(cell).name
        except Refusal:
            return cell  # What is wrong with it is said where it is read.

    # ---- boxes

    def _with_boxes(
        self, reader: BoxReader, rows: Sequence[dict[str, Any]], found: Found
    ) -> tuple[str, tuple[str, ...], int]:
        """The label of a file by its boxes, the cells with a value for each box, and how many boxes have no area."""
        pairs = [(box, label, row) for row in rows for box, label in reader.read(row)]
        kept = [pair for pair in pairs if has_area(pair[0])]
        label = self._label_of_boxes(reader, rows[0], [label for _, label, _ in kept or pairs])
        width, height = self._image_size(rows[0], reader, found) if reader.is_relative and kept else (1, 1)
        corners = [n * side for box, _, _ in kept for n, side in zip(box, (width, height) * 2, strict=True)]
        cells = [" ".join(map(repr, corners))]
        if reader.label:
            cells.append(" ".join(str(reader.ids[label]) for _, label, _ in kept))
        for name, _, dtype in reader.lists:
            values = [to_cell(row.get(name)).strip() for _, _, row in kept]
            cells.append(json.dumps(values) if dtype == "string" else " ".join(value or "nan" for value in values))
        return label, tuple(cells), len(pairs) - len(kept)

    def _label_of_boxes(self, reader: BoxReader, row: Mapping[str, Any], labels: Sequence[str]) -> str:
        columns, kind = self.row_columns, self.options.label_kind
        if kind in ("none", "number") or (columns.label and columns.label != reader.label):
            return self.values.label(row)
        if not labels and reader.label and to_cell(row.get(reader.label)).strip() not in ("", "[]"):
            return self.values.label(row)  # An image without boxes may have a label all the same.
        if kind == "multi":
            return label_text(list(labels))
        if not labels:
            raise Refusal("empty_label", "The image has no boxes and no label; --label_kind multi takes such images.")
        return reader.frequent(labels)

    def _image_size(self, row: Mapping[str, Any], reader: BoxReader, found: Found) -> ImageSize:
        """The size that the row or the file's header states."""
        cells = [to_cell(row.get(name)) for name in reader.columns.size or ()]
        if cells and all(cell.isdecimal() and int(cell) > 0 for cell in cells):
            return int(cells[0]), int(cells[1])
        try:
            header = probe(read_whole(self.lookup.path(found.name), found.size))
        except NotAnImage as error:
            raise Refusal(error.reason, str(error)) from error
        return header.width, header.height

    def _first_cell(self, text: str) -> str:
        """The file of a row that could not be read, where its text begins with one."""
        return printable(text.partition(",")[0].strip()) if self.table.separator else ""


def open_rows(listing: str, options: SourceOptions) -> RowSource:
    """The source of a CSV, JSON lines or Parquet listing.

    Raises:
      UsageError: it lists nothing, or its columns do not tell the file, the label or the split.
      SetupError: Parquet needs pyarrow.
    """
    listing = absolute(listing)
    lookup = Lookup(image_root(options) or folder_of(listing))
    table = open_table(listing, lookup)
    options = _without_header(table, options)
    finder = ColumnFinder(
        table.names, listing, options, sample=table.sample(), values=lambda name: _cells(table, name), lookup=lookup
    )
    columns = finder.columns()
    split_of = split_names(_cells(table, columns.split), columns.split, listing) if columns.split else {}
    values = RowValues(columns, options.label_separator, split_of)
    source = RowSource(table, columns, lookup, options, values)
    _check_separator(source)
    if columns.boxes is None:
        return source
    boxes = survey(table.rows, columns, columns.boxes, options, listing, lambda cell: _stored_size(lookup, cell))
    classes = tuple(boxes.ids) if boxes.label and options.label_kind in ("class", "multi") else None
    return replace(source, boxes=boxes, class_names=None if columns.boxes.label else classes)


def _without_header(table: Table, options: SourceOptions) -> SourceOptions:
    """The options with the columns of a listing without names: the first is the file, the second the label."""
    if table.has_header:
        return options
    if len(table.names) < 2 and options.label_kind != "none":
        raise UsageError(
            f"The first row of {table.path!r} has one cell; a row holds a file and its label: photo.jpg,cat. "
            "--label_kind none takes images without labels."
        )
    kinds = [_all_numbers(table, name) for name in table.names[1:6]]
    if options.label_column is None and options.label_kind == "class" and kinds == [True] * 4 + [False]:
        raise UsageError(
            f"The rows of {table.path!r} have no header and look like FILE,x0,y0,x1,y1,CLASS; name the columns in a "
            "first row: file,xmin,ymin,xmax,ymax,label. --label_column column_2 takes the second as the label."
        )
    label = options.label_column or ("column_2" if options.label_kind != "none" else None)
    return replace(options, file_column=options.file_column or "column_1", label_column=label)


def _all_numbers(table: Table, column: str) -> bool:
    return all(cell_kind(to_cell(row.get(column)).strip()) in NUMBER_KINDS for row in table.sample())


def _cells(table: Table, column: str) -> Iterator[str]:
    return (to_cell(row.get(column)) for row, _ in table.rows() if not isinstance(row, str))


def _check_separator(source: RowSource) -> None:
    """Refuses cells that hold several labels or one, as you read them, where --label_kind multi asks for several."""
    options, column = source.options, source.row_columns.label
    if options.label_kind != "multi" or options.label_separator is not None or column is None or source.boxes:
        return
    for row, _ in source.table.rows():
        value = None if isinstance(row, str) else row.get(column)
        mark = next((one for one in "|;, " if isinstance(value, str) and one in value.strip()), None)
        if mark is not None:
            raise UsageError(
                f"The label {value!r} of {source.table.path!r} can be one class or several; --label_separator "
                f"{mark!r} takes it apart, another one, such as '/', leaves it whole."
            )


def _stored_size(lookup: Lookup, cell: str) -> ImageSize | None:
    """The (width, height) of the image in a file; None where there is no image."""
    try:
        found = lookup.find(cell)
        header = probe(read_whole(lookup.path(found.name), found.size))
    except (Refusal, NotAnImage, OSError):
        return None
    return header.width, header.height
