"""The tables of `tfpipe bench` as pictures: a bar for each variant, its spread, and the limits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from matplotlib.figure import Figure

_REFERENCES = ("synthetic_ceiling", "decode_only")
_BLUE, _GREY = "#4878a8", "#b8b8b8"


_SHADES = ("#d0d7de", "#a9c1d9", "#7d9fc2", "#2f5f8f")


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


class Use(Protocol):
    """How busy a GPU was; see tfpipe.timing.gpu.GpuUse."""

    @property
    def below_10(self) -> float:
        """The share of the time in which it was below 10 %."""

    @property
    def below_50(self) -> float:
        """The share of the time in which it was below 50 %."""

    @property
    def below_90(self) -> float:
        """The share of the time in which it was below 90 %."""


class Training(Protocol):
    """A measured training; see tfpipe.timing.training.FitRow."""

    @property
    def row(self) -> Rate:
        """Its rates."""

    @property
    def share_of_ceiling(self) -> float:
        """Its rate as a share of the ceiling's."""

    @property
    def step_seconds(self) -> float:
        """The time of a step."""

    @property
    def input_wait_seconds(self) -> float:
        """What of it is spent waiting for input."""

    @property
    def gpu(self) -> Use | None:
        """How busy the GPU was."""


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


def draw_trainings(rows: Sequence[Training], path: str | os.PathLike[str], *, title: str) -> None:
    """Draws `tfpipe bench --fit` into a file: rates, the wait in each step, and the GPU's time where it is known."""
    parts = 3 if any(row.gpu for row in rows) else 2
    figure = Figure(figsize=(4.5 + 3 * parts, 1.8 + 0.4 * len(rows)), layout="constrained")
    rates, steps, *more = figure.subplots(1, parts, sharey=True)
    figure.suptitle(title, fontsize=10)
    names = [row.row.variant for row in rows]
    colors = [_GREY if name in _REFERENCES else _BLUE for name in names]
    rates.barh(names, [row.row.images_per_second for row in rows], color=colors)
    rates.axvline(rows[0].row.images_per_second, color=_GREY, linestyle="--", linewidth=1)
    for index, row in enumerate(rows):
        text = f" {row.row.images_per_second:,.0f} ({row.share_of_ceiling:.0%})"
        rates.annotate(text, (0, index), va="center", fontsize=8)
    rates.set_xlabel("images per second; dashed: the ceiling")
    waits = [1000 * row.input_wait_seconds for row in rows]
    work = [max(0.0, 1000 * row.step_seconds - wait) for row, wait in zip(rows, waits, strict=True)]
    steps.barh(names, work, color=_SHADES[-1], label="step")
    steps.barh(names, waits, left=work, color=_SHADES[0], label="wait for input")
    steps.set_xlabel("ms of a step")
    _put_legend(steps)
    for axes in more:
        _draw_use(axes, names, [row.gpu for row in rows])
    rates.invert_yaxis()
    figure.savefig(path, dpi=120)


def _draw_use(axes: Any, names: Sequence[str], uses: Sequence[Use | None]) -> None:
    """The shares of a GPU's time, from idle to busy."""
    bounds = [(0.0, *((use.below_10, use.below_50, use.below_90, 1.0) if use else (0.0,) * 4)) for use in uses]
    for part, label in enumerate(("<10 %", "10-50 %", "50-90 %", "90 % and more")):
        lefts = [bound[part] for bound in bounds]
        widths = [bound[part + 1] - bound[part] for bound in bounds]
        axes.barh(names, widths, left=lefts, color=_SHADES[part], label=label)
    axes.set_xlabel("share of the time, by the GPU's utilisation")
    _put_legend(axes)


def _put_legend(axes: Any) -> None:
    """A legend above the bars: on them, it would hide some."""
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, columnspacing=1)
