"""Histograms as numbers that a template draws in SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WIDTH, _BASE, _HEIGHT = 340, 110, 132


class Bar(NamedTuple):
    """One bar, in pixels, and what a pointer on it shows."""

    x: float
    y: float
    width: float
    height: float
    text: str


class Chart(NamedTuple):
    """A histogram.

    Attributes:
      title: the line below it.
      bars: from left to right.
      ticks: x, the anchor of the text, and the text.
      marked: x and width of a range behind the bars, such as the sizes that shards should have; None: none.
    """

    title: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str, str], ...]
    marked: tuple[float, float] | None = None
    width: int = _WIDTH
    height: int = _HEIGHT
    base: int = _BASE


def log_histogram(
    values: Sequence[float] | np.ndarray, title: str, *, unit: str = "", marked: tuple[float, float] | None = None
) -> Chart:
    """The histogram of positive values, on a logarithmic axis of at most 30 bins.

    Args:
      values: they may be of any number but 0.
      title: the line below it.
      unit: behind the numbers of the axis.
      marked: a range of values to mark.
    """
    logs = np.log2(np.asarray(values, np.float64))
    low, high = float(logs.min()), float(logs.max())
    if marked is not None:
        low, high = min(low, math.log2(marked[0])), max(high, math.log2(marked[1]))
    if high - low < 0.2:
        low, high = low - 0.5, high + 0.5
    bins = min(30, max(6, math.ceil((high - low) * 8)))
    counts, edges = np.histogram(logs, bins=bins, range=(low, high))
    step, most = _WIDTH / bins, int(counts.max())
    bars = tuple(
        Bar(
            round(number * step + 0.5, 2),
            round(_BASE - (_BASE - 8) * count / most, 2),
            round(step - 1, 2),
            round((_BASE - 8) * count / most, 2),
            f"{_short(2 ** edges[number])} to {_short(2 ** edges[number + 1])}{unit}: {count:,}",
        )
        for number, count in enumerate(counts.tolist())
        if count
    )
    middle = (low + high) / 2
    ticks = tuple(
        (x, anchor, f"{_short(2**value)}{unit}")
        for x, anchor, value in ((0, "start", low), (_WIDTH / 2, "middle", middle), (_WIDTH, "end", high))
    )
    scale = _WIDTH / (high - low)
    area = None
    if marked is not None:
        begin, end = ((math.log2(value) - low) * scale for value in marked)
        area = (round(begin, 2), round(end - begin, 2))
    return Chart(title, bars, ticks, area)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
