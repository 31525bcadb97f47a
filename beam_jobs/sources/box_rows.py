"""The boxes of a listing, and several rows of one file joined into one record.

Boxes come as four columns of a row (xmin, ymin, xmax, ymax), or in one column, as four numbers or as a list of boxes.
In a record they are x0, y0, x1, y1 in pixels of the image as stored.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_jobs.sources.cells import cell_kind, column_dtype
from beam_jobs.sources.column_names import BOX_FEATURES
from beam_jobs.sources.columns import BoxColumns, RowColumns
from beam_jobs.sources.labels import class_order
from beam_jobs.sources.listing import Refusal, to_cell
from beam_jobs.sources.options import SourceOptions
from beam_jobs.sources.tables import Row
from tfpipe.errors import UsageError

BOXES, BOX_LABELS = BOX_FEATURES
# (width, height) of an image as stored.
ImageSize = tuple[int, int]
_Numbers = tuple[float, float, float, float]
# Pixels that a box may lie beyond its image before it is taken for one that was written in the other order.
_SLACK = 2.0


@dataclass(frozen=True)
class BoxReader:
    """Reads the boxes of rows.

    Attributes:
      columns: of the boxes.
      label: the column with their classes; None where they have none.
      is_relative: whether the numbers are fractions of the image's sides.
      ids: the number of each class.
      lists: the additional columns whose cells differ between the rows of a file: column, name in records, dtype.
    """

    columns: BoxColumns
    label: str | None
    is_relative: bool
    ids: Mapping[str, int]
    lists: tuple[tuple[str, str, str], ...] = ()

    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        """The features of boxes, and of columns that have a value for each of them, with their dtypes."""
        labels = ((BOX_LABELS, "int64[]"),) if self.label else ()
        return ((BOXES, "float32[4]"), *labels, *((feature, dtype) for _, feature, dtype in self.lists))

    def read(self, row: Mapping[str, Any]) -> list[tuple[_Numbers, str]]:
        """The boxes of a row with their classes, as corners; of classless ones the class is "".

        Raises:
          Refusal: what is there is no box.
        """
        boxes = [_corners(numbers, self.columns.order) for numbers in numbers_of(row, self.columns.names)]
        value = row.get(self.label) if self.label else None
        labels = [to_cell(one).strip() for one in value] if isinstance(value, list) else []
        if len(labels) != len(boxes):
            if labels:
                raise Refusal("bad_box", f"The row has {len(boxes)} boxes and {len(labels)} labels for them.")
            labels = [to_cell(value).strip()] * len(boxes)
        unknown = [label for label in labels if label and label not in self.ids]
        if unknown:
            raise Refusal("unknown_label", f"The labels file has no class {unknown[0]!r}.")
        if self.label and not all(labels):
            raise Refusal("empty_label", "A box has no label.")
        return list(zip(boxes, labels, strict=True))

    def frequent(self, labels: Iterable[str]) -> str:
        """The class that occurs most often, the lowest number where several do; "" where there are none."""
        counts = Counter(label for label in labels if label)
        return min(counts, key=lambda label: (-counts[label], self.ids[label])) if counts else ""


def numbers_of(row: Mapping[str, Any], names: Sequence[str]) -> list[_Numbers]:
    """The numbers of the boxes of a row; none where the cells are empty."""
    cells = [row.get(name) for name in names]
    if all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells):
        return []
    values = cells if len(names) == 4 else _parsed(cells[0])
    several = values if values and isinstance(values[0], list | tuple) else [values] if values else []
    return [_four(one) for one in several]


def _parsed(cell: Any) -> list[Any]:
    """A cell with a box or a list of them: a list, the JSON of one, or numbers with blanks or commas between them."""
    if isinstance(cell, list | tuple):
        return list(cell)
    text = to_cell(cell).strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = re.split(r"[\s,;]+", text.strip("[](){} "))
    return value if isinstance(value, list) else [value]


def _four(values: Any) -> _Numbers:
    try:
        a, b, c, d = map(float, values)
    except (TypeError, ValueError):
        pass
    else:
        if all(map(math.isfinite, (a, b, c, d))):
            return a, b, c, d
    raise Refusal("bad_box", f"The box is {str(values)[:80]}; it takes four numbers.")


def _corners(numbers: _Numbers, order: str) -> _Numbers:
    a, b, c, d = numbers
    return (a, b, a + c, b + d) if order == "xywh" else numbers


def has_area(box: _Numbers) -> bool:
    """Whether a box, as corners, has an area."""
    return box[2] > box[0] and box[3] > box[1]


# ---- what the whole listing tells


def survey(
    rows: Callable[[], Iterable[Row]],
    columns: RowColumns,
    boxes: BoxColumns,
    options: SourceOptions,
    listing: str,
    image_size: Callable[[str], ImageSize | None],
) -> BoxReader:
    """The reader of a listing's boxes, by one look at all rows.

    Args:
      rows: yields the rows.
      columns: of the listing.
      boxes: those of its columns that hold boxes.
      options: of the source.
      listing: the file, for messages.
      image_size: the size of the image in the file that a cell names, for a few of them; None where it has none.

    Raises:
      UsageError: the boxes could be of two orders.
    """
    label = boxes.label or (None if options.label_kind == "number" else columns.label)
    found = _Survey(columns, boxes, label)
    for row, _ in rows():
        if not isinstance(row, str):
            found.add(row)
    if options.box_order is None and len(boxes.names) == 1:
        _check_order(found, boxes, listing, image_size)
    names = options.class_names or class_order(found.labels)
    lists = tuple((name, columns.feature(name), found.dtype(name)) for name in columns.extras if name in found.differ)
    return BoxReader(boxes, label, found.is_relative, {name: i for i, name in enumerate(names)}, lists)


class _Survey:
    """What is to be known of all rows before the first record is made."""

    def __init__(self, columns: RowColumns, boxes: BoxColumns, label: str | None) -> None:
        self._columns, self._boxes, self._label = columns, boxes, label
        self._first: dict[str, tuple[str, ...]] = {}
        self._kinds = dict.fromkeys(columns.extras, 0)
        self.labels: set[str] = set()
        self.differ: set[str] = set()
        self.sample: list[tuple[str, _Numbers]] = []
        self.num_boxes = 0
        self._within_one = True

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a row."""
        file = file_cell(row, self._columns.file)
        cells = tuple(to_cell(row.get(name)) for name in self._columns.extras)
        known = self._first.setdefault(file, cells)
        for name, cell, first in zip(self._columns.extras, cells, known, strict=True):
            self._kinds[name] |= cell_kind(cell.strip())
            if cell != first:
                self.differ.add(name)
        value = row.get(self._label) if self._label else None
        labels = value if isinstance(value, list) else [value]
        self.labels.update(text for one in labels if (text := to_cell(one).strip()))
        try:
            boxes = numbers_of(row, self._boxes.names)
        except Refusal:
            return
        self.num_boxes += len(boxes)
        self._within_one &= all(0 <= number <= 1 for box in boxes for number in box)
        self.sample += [(file, box) for box in boxes[: max(0, 10_000 - len(self.sample))]]

    @property
    def is_relative(self) -> bool:
        """Whether no number of any box is beyond 0 and 1: then they are fractions."""
        return self._within_one and self.num_boxes > 0

    def dtype(self, name: str) -> str:
        """The dtype of a column with a value for each row."""
        dtype = column_dtype(self._kinds[name])
        return dtype if dtype == "string" else f"{dtype}[]"


def _check_order(
    found: _Survey, boxes: BoxColumns, listing: str, image_size: Callable[[str], ImageSize | None]
) -> None:
    """Refuses boxes that fit their images only in the order that the column's name does not stand for."""
    sizes = {file: image_size(file) for file in list(dict.fromkeys(file for file, _ in found.sample))[:50]}
    misfits = dict.fromkeys(("xyxy", "xywh"), 0)
    for file, numbers in found.sample:
        for order in misfits:
            x0, y0, x1, y1 = _corners(numbers, order)
            size = None if found.is_relative else sizes.get(file)
            width, height = size or ((1, 1) if found.is_relative else (math.inf, math.inf))
            slack = 0.01 if found.is_relative else _SLACK
            misfits[order] += x1 < x0 or y1 < y0 or x1 > width + slack or y1 > height + slack
    other = "xyxy" if boxes.order == "xywh" else "xywh"
    if misfits[boxes.order] and not misfits[other]:
        meanings = {"xyxy": "two corners", "xywh": "a corner and the sides"}
        raise UsageError(
            f"The column {boxes.names[0]!r} of {listing!r} usually holds {meanings[boxes.order]} ({boxes.order}), but "
            f"{misfits[boxes.order]} boxes fit their images only as {meanings[other]} ({other}); --box_order says "
            "which it is."
        )


def file_cell(row: Mapping[str, Any], column: str) -> str:
    """The file of a row, in one spelling for all rows of the file."""
    return to_cell(row.get(column)).strip().replace("\\", "/")
