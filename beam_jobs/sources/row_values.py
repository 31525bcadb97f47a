"""The label, the split and the group of a row, by what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beam_jobs.sources.columns import RowColumns, says_yes
from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import Refusal, to_cell


@dataclass(frozen=True)
class RowValues:
    """Reads rows. Each method raises a Refusal where a row does not have what its column promises.

    Attributes:
      columns: what the columns mean.
      separator: between several labels of a cell; None where a cell is one label.
      split_of: the split of each word in the split's column.
    """

    columns: RowColumns
    separator: str | None
    split_of: Mapping[str, str]

    def label(self, row: Mapping[str, Any]) -> str:
        """The label as label_text gives it; "" where there are none."""
        columns = self.columns
        if columns.class_columns:
            unclear = [name for name in columns.class_columns if not to_cell(row.get(name)).strip()]
            if unclear:
                raise Refusal("bad_label", f"The row has nothing in the column {unclear[0]!r}; it takes 0 or 1.")
            return label_text([name for name in columns.class_columns if says_yes(to_cell(row.get(name)))])
        return "" if columns.label is None else label_text(self._separated(row.get(columns.label)))

    def _separated(self, value: Any) -> Any:
        """The labels of a cell, where a separator is given."""
        if self.separator is None or not isinstance(value, str):
            return value
        parts = value.split(None if self.separator == " " else self.separator)
        return [part.strip() for part in parts if part.strip()]

    def split(self, row: Mapping[str, Any]) -> str:
        """The split that the row assigns; "" where no column does."""
        column = self.columns.split
        if column is None:
            return ""
        word = to_cell(row.get(column)).strip()
        if not word:
            raise Refusal("empty_split", f"The row has no split in the column {column!r}, which assigns them.")
        return self.split_of[word]

    def group(self, row: Mapping[str, Any]) -> str:
        """The group; "" where no column holds groups."""
        column = self.columns.group
        group = to_cell(row.get(column)).strip() if column else ""
        if column and not group:
            raise Refusal("empty_group", f"The row has nothing in the column {column!r}.")
        return group

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that rows assign, the usual ones first."""
        found = set(self.split_of.values())
        usual = [name for name in ("train", "validation", "test") if name in found]
        return (*usual, *sorted(found - {*usual}))
