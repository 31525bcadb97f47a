"""Sizes that a user gives: (height, width), or one number for a square, and how images get one. Loads no TensorFlow."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from tfpipe.errors import UsageError

RESIZES = ("pad", "stretch", "crop")


def as_size(value: Any, name: str) -> tuple[int, int]:
    """The (height, width) that an argument means: a pair of integers, or one integer for a square.

    Args:
      value: what was given.
      name: of the argument, for the message.

    Raises:
      ValueError: it is neither, or a side is below 1.
    """
    sides = (value, value) if not isinstance(value, Sequence) and not hasattr(value, "__len__") else value
    if not isinstance(sides, str | bytes) and len(sides) == 2:
        pair = [_integer(side) for side in sides]
        if pair[0] >= 1 and pair[1] >= 1:
            return pair[0], pair[1]
    raise UsageError(f"{name} is {value!r}; it takes (height, width), or one number for a square, of at least 1 each.")


def _integer(side: Any) -> int:
    """The side as an int; 0, which no size takes, where it is none."""
    if isinstance(side, bool):
        return 0
    try:
        return operator.index(side)
    except TypeError:
        return 0
