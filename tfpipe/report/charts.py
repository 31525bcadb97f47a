"""Histograms, and bars of a benchmark, as numbers that a template draws in SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfpipe.search.page import Drawing, Mark

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


# ---- bars of a benchmark

_LABEL, _ROW, _VALUE = 150, 22, 110
# How dark a part of a GPU's time is, from idle to busy.
_OPACITIES = (0.15, 0.4, 0.65, 1.0)


def rate_bars(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Images per second of each row of `tfpipe bench --fit --json`, with the first one's, the ceiling's, as a line.

    Args:
      rows: with variant, images_per_second and share_of_ceiling.
    """
    most = max(max(float(row["images_per_second"]) for row in rows), 1e-9)
    scale, marks, labels = (_WIDTH - _VALUE / 2) / most, [], []
    for number, row in enumerate(rows):
        rate, y = float(row["images_per_second"]), number * _ROW
        text = f"{rate:,.0f} ({float(row['share_of_ceiling']):.0%})"
        marks.append(Mark(_LABEL, y + 3, round(rate * scale, 1), _ROW - 6, f"{row['variant']}: {text}"))
        labels += _labels(str(row["variant"]), text, y)
    ceiling = _LABEL + float(rows[0]["images_per_second"]) * scale
    line = f"M{ceiling:.1f} 0V{len(rows) * _ROW}"
    title = "Images per second of the training, and their share of the ceiling, which is the line"
    return _drawing(title, marks, labels, line=line)


def use_bars(rows: Sequence[Mapping[str, Any]]) -> Drawing | None:
    """The shares of the GPU's time below 10 %, 50 % and 90 %, and above, as one bar a row; None where none is known.

    Args:
      rows: with variant and gpu, as `tfpipe bench --fit --json` prints them.
    """
    known = [row for row in rows if isinstance(row.get("gpu"), Mapping)]
    if not known:
        return None
    marks, labels = [], []
    for number, row in enumerate(known):
        gpu, y = row["gpu"], number * _ROW
        bounds = [0.0, *(float(gpu[name]) for name in ("below_10", "below_50", "below_90")), 1.0]
        for low, high, part, opacity in zip(bounds, bounds[1:], _PARTS, _OPACITIES, strict=False):
            x, width = _LABEL + low * _WIDTH, max(0.0, high - low) * _WIDTH
            text = f"{row['variant']}: {part} for {high - low:.0%} of the time"
            marks.append(Mark(round(x, 1), y + 3, round(width, 1), _ROW - 6, text, opacity))
        labels += _labels(str(row["variant"]), f"mean {float(gpu['mean']):.0%}", y)
    title = f"The GPU's time by its utilisation, the darker the busier: {', '.join(_PARTS)}"
    return _drawing(title, marks, labels)


_PARTS = ("below 10 %", "10 to 50 %", "50 to 90 %", "90 % and more")


def _labels(name: str, value: str, y: float) -> list[tuple[float, float, str, str]]:
    return [
        (_LABEL - 8.0, y + _ROW - 7.0, "end", name),
        (float(_LABEL + _WIDTH + _VALUE), y + _ROW - 7.0, "end", value),
    ]


def _drawing(title: str, marks: list[Mark], labels: list[tuple[float, float, str, str]], *, line: str = "") -> Drawing:
    height = int(max(mark.y for mark in marks)) + _ROW
    return Drawing(title, _LABEL + _WIDTH + _VALUE, height, tuple(marks), labels=tuple(labels), line=line)
