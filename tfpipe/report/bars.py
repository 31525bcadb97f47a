"""The table of `tfpipe bench` as a picture: a bar for each variant, its spread, and the limits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure

_REFERENCES = ("synthetic_ceiling", "decode_only")
_BLUE, _GREY = "#4878a8", "#b8b8b8"


class Rate(Protocol):
    """A measured variant; see tfpipe.timing.Row."""

    @property
    def variant(self) -> str:
        """The name."""

    @property
    def images_per_second(self) -> float:
        """The median over the passes."""

    @property
    def spread(self) -> float:
        """(largest - smallest) / median of the rates."""

    @property
    def images_per_cpu_second(self) -> float:
        """The median over the passes."""

    @property
    def speedup(self) -> float:
        """The rate as a multiple of the first variant's."""


def draw_rows(rows: Sequence[Rate], path: str | os.PathLike[str], *, title: str) -> None:
    """Draws images per second and per CPU second of every row into a file, whose suffix decides the format."""
    figure = Figure(figsize=(11, 1.6 + 0.34 * len(rows)), layout="constrained")
    wall, cpu = figure.subplots(1, 2, sharey=True)
    figure.suptitle(title, fontsize=10)
    names = [row.variant for row in rows]
    colors = [_GREY if name in _REFERENCES else _BLUE for name in names]
    rates = [row.images_per_second for row in rows]
    half_spreads = [row.spread * row.images_per_second / 2 for row in rows]
    wall.barh(names, rates, color=colors, xerr=half_spreads, error_kw={"elinewidth": 1, "capsize": 2})
    for index, row in enumerate(rows):
        wall.annotate(f" {row.images_per_second:,.0f} ({row.speedup:.2f}x)", (0, index), va="center", fontsize=8)
    wall.set_xlabel("images per second; whiskers: spread")
    cpu.barh(names, [row.images_per_cpu_second for row in rows], color=colors)
    cpu.set_xlabel("images per CPU second")
    for axes in (wall, cpu):
        # The synthetic ceiling is often a hundred times the other rates.
        axes.set_xscale("log")
        axes.grid(axis="x", alpha=0.3)
    wall.invert_yaxis()
    figure.savefig(path, dpi=120)
