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
      most: what the highest bar stands for, such as "240 images".
      bars: from left to right.
      ticks: x, the anchor of the text, and the text.
      marked: x and width of a range behind the bars, such as the sizes that shards should have; None: none.
    """

    title: str
    most: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str, str], ...]
    marked: tuple[float, float] | None = None
    width: int = _WIDTH
    height: int = _HEIGHT
    base: int = _BASE


def log_histogram(
    values: Sequence[float] | np.ndarray,
    title: str,
    of: str,
    *,
    unit: str = "",
    whole: bool = False,
    marked: tuple[float, float] | None = None,
) -> Chart:
    """The histogram of positive values, on a logarithmic axis of at most 30 bins.

    Args:
      values: they may be of any number but 0.
      title: the line below it.
      of: what the values are of, such as "images".
      unit: behind the numbers of the axis.
      whole: the axis has whole numbers.
      marked: a range of values to mark.
    """
    logs = np.log2(np.asarray(values, np.float64))
    low, high = float(logs.min()), float(logs.max())
    if marked is not None:
        low, high = min(low, math.log2(marked[0])), max(high, math.log2(marked[1]))
    if high - low < 0.2:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(logs, bins=min(30, max(6, math.ceil((high - low) * 8))), range=(low, high))
    ticks = tuple(
        (x, anchor, f"{short(2**value, whole=whole)}{unit}")
        for x, anchor, value in ((0, "start", low), (_WIDTH / 2, "middle", (low + high) / 2), (_WIDTH, "end", high))
    )
    area = None
    if marked is not None:
        begin, end = ((math.log2(value) - low) * _WIDTH / (high - low) for value in marked)
        area = (round(begin, 2), round(end - begin, 2))
    return Chart(title, f"{counts.max():,} {of}", _bars(counts, edges, unit), ticks, area)


def _bars(counts: np.ndarray, edges: np.ndarray, unit: str) -> tuple[Bar, ...]:
    """The bars of a histogram, the highest of them as high as the chart; edges are logarithms."""
    step, scale = _WIDTH / len(counts), (_BASE - 8) / counts.max()
    return tuple(
        Bar(
            round(number * step + 0.5, 2),
            round(_BASE - scale * count, 2),
            round(step - 1, 2),
            round(scale * count, 2),
            f"{short(2 ** edges[number])} to {short(2 ** edges[number + 1])}{unit}: {count:,}",
        )
        for number, count in enumerate(counts.tolist())
        if count
    )


def short(value: float, *, whole: bool = False) -> str:
    """A number of three digits, or two below 1, or all before the point; a whole number where that is asked for."""
    if whole or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"
