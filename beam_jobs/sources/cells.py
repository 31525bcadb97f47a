"""What the cells of a column can be: integers, numbers or texts."""

from __future__ import annotations

import re

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_INT, _FLOAT, _TEXT, _EMPTY, _LARGE = 1, 2, 4, 8, 16
# Of cells that are numbers.
NUMBER_KINDS = (_INT, _FLOAT, _INT | _LARGE)
# float32 holds every integer up to here.
_MOST_EXACT = 1 << 24


def cell_kind(cell: str) -> int:
    """What a cell can be, as one bit; those of a column are joined by |."""
    if not cell:
        return _EMPTY
    if _INTEGER.fullmatch(cell):
        return _INT if abs(int(cell)) <= _MOST_EXACT else _INT | _LARGE
    # 007 and numbers beyond int64 are names, not quantities.
    return _FLOAT if _NUMBER.fullmatch(cell) and not cell.lstrip("-").isdecimal() else _TEXT


def column_dtype(kinds: int) -> str:
    """The narrowest dtype for a column with cells of these kinds.

    int64 where every cell is an integer; float32 where each is a number or empty (NaN); else string. A column whose
    integers float32 would change is kept as string.
    """
    if kinds & ~_LARGE == _INT:
        return "int64"
    return "float32" if kinds & (_INT | _FLOAT) and not kinds & (_TEXT | _LARGE) else "string"
