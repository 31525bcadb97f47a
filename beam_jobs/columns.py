"""The further columns of a source: what their cells become in a record, and the features that hold it.

A column's dtype is "string", "int64" or "float32"; "int64[]" is an array of any length, "float32[4]" one of rows of
four numbers. "mask" names the file of the image's mask: what a record holds of that is a part of its image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from beam_jobs.sources.listing import MASK_COLUMN
from tfpipe.format.schema import Feature

_SCALARS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "int64": int,
    "float32": lambda cell: float(cell) if cell else float("nan"),
}


def cell_value(cell: str, dtype: str) -> Any:
    """What a cell says: a text or a number, or the numbers of an array, between blanks, in one flat list."""
    if dtype in _SCALARS:
        return _SCALARS[dtype](cell)
    return [*map(int if dtype.startswith("int64") else float, cell.split())]


def extra_features(columns: Sequence[tuple[str, str]]) -> tuple[Feature, ...]:
    """The features of the source's further columns, by their names and dtypes; none for masks."""
    features = []
    for name, text in columns:
        if text != MASK_COLUMN:
            dtype, bracket, width = text.rstrip("]").partition("[")
            shape = (None, *([int(width)] if width else [])) if bracket else ()
            features.append(Feature(name, dtype, shape))
    return tuple(features)
