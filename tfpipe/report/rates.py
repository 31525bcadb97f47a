"""The bars of `tfpipe bench --fit` as numbers that a template draws in SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfpipe.search.page import Drawing, Mark

_WIDTH = 340
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
