"""The HTML page of a search: screen, history with re-scores, schedule, pictures, baselines, costs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfpipe.images.png import write_png
from tfpipe.policy import Policy
from tfpipe.search.space import strength_of

_WIDTH, _ROW, _LABEL, _PLOT = 640, 20, 170, 200
_DRAWS = 4


class Mark(NamedTuple):
    """A rectangle or point of a chart, in pixels, with what a pointer on it shows."""

    x: float
    y: float
    width: float
    height: float
    text: str
    opacity: float = 1.0


class Drawing(NamedTuple):
    """A chart: its size, its marks by kind, its labels (x, y, anchor, text), and a line."""

    title: str
    width: int
    height: int
    bars: tuple[Mark, ...] = ()
    dots: tuple[Mark, ...] = ()
    rings: tuple[Mark, ...] = ()
    labels: tuple[tuple[float, float, str, str], ...] = ()
    line: str = ""


def write_report(result: Any | None, path: str | os.PathLike[str], *, comparison: Any | None = None) -> None:
    """Writes the page of a search, of a comparison, or of both.

    Args:
      result: a SearchResult.
      path: the file.
      comparison: a Comparison.

    Raises:
      ImportError: jinja2 is missing; it comes with tfpipe[report].
    """
    from tfpipe.report.page import render_page

    values: dict[str, Any] = {"title": "Search of an augmentation", "result": None, "table": None, "facts": []}
    if result is not None:
        values |= _of_result(result)
    if comparison is not None:
        values["table"] = _of_comparison(comparison)
        values["compared"] = _costs(comparison.costs)
    found = result or comparison
    values["provenance"] = list(found.provenance.items()) if found else []
    values["settings"] = json.dumps(found.settings, indent=1) if found else ""
    Path(path).write_text(render_page("search.html", values), encoding="utf-8")


def _of_result(result: Any) -> dict[str, Any]:
    score = "none was made" if result.score is None else f"{result.score:.4f}"
    baseline = [] if result.baseline is None else [("without augmentation, first score", f"{result.baseline:.4f}")]
    facts = [("accuracy, second score", score), *baseline, ("trials", f"{len(result.trials)}")]
    stops = {"": "It came to its end.", "budget": "It ran out of time.", "interrupted": "It was interrupted."}
    return {
        "result": result,
        "end": stops[result.stopped],
        "facts": [*facts, *_costs(result.costs)],
        "screen": _screen(result) if result.screen else None,
        "history": _history(result),
        "schedule": _schedule(result) if result.schedule is not None else None,
        "steps": [_step_row(number, step) for number, subs in enumerate(result.policy.sub_policies) for step in subs],
        "rescores": [_rescore_row(row) for row in result.rescores],
        "pictures": _pictures(result),
        "policy": json.dumps((result.schedule or result.policy).to_json(), indent=1),
    }


def _costs(costs: Any) -> list[tuple[str, str]]:
    return [
        ("trainings of a child", f"{costs.trainings:,}"),
        ("child steps", f"{costs.steps:,}"),
        ("trials per minute", f"{costs.trials_per_minute:.1f}"),
        ("CPU hours", f"{costs.cpu_hours:.3f}"),
        ("GPU hours", f"{costs.gpu_hours:.3f}"),
        ("wall seconds of this run", f"{costs.wall_seconds:,.0f}"),
    ]


def _step_row(number: int, step: Any) -> tuple[str, ...]:
    magnitude = "" if step.magnitude is None else f"{step.magnitude:.3g}"
    return str(number), step.op, f"{step.probability:.2f}", magnitude


def _rescore_row(row: Any) -> tuple[str, ...]:
    again = ", ".join(f"{reward:.4f}" for reward in row.rewards)
    name = "schedule" if row.index < 0 else str(row.index)
    return name, f"{row.first:.4f}", f"{row.mean:.4f}", f"{row.mean - row.first:+.4f}", again


def _screen(result: Any) -> Drawing:
    """A bar for each single op, from the trial without augmentation."""
    base = result.baseline or 0.0
    gains = [trial.reward - base for trial in result.screen]
    most = max([abs(gain) for gain in gains] + [1e-9])
    middle, scale = _LABEL + (_WIDTH - _LABEL) / 2, (_WIDTH - _LABEL) / 2 / most * 0.8
    bars, labels = [], []
    for row, (trial, gain) in enumerate(zip(result.screen, gains, strict=True)):
        y = row * _ROW + 4.0
        left = middle + min(gain, 0) * scale
        text = f"{trial.op}: {trial.reward:.4f}, {gain:+.4f}"
        bars.append(Mark(round(left, 1), y, round(abs(gain) * scale, 1), _ROW - 6.0, text))
        labels.append((_LABEL - 8.0, y + 11, "end", trial.op))
        labels.append((float(_WIDTH), y + 11, "end", f"{gain:+.3f}"))
    line = f"M{middle:.1f} 0V{len(bars) * _ROW}"
    title = "Each op alone: accuracy above the trial without augmentation"
    return Drawing(title, _WIDTH, len(bars) * _ROW + 4, tuple(bars), labels=tuple(labels), line=line)


def _history(result: Any) -> Drawing | None:
    """The reward of each trial, the best so far as a line, and the second scores as rings."""
    if not result.trials:
        return None
    second = [(row.index, row.mean) for row in result.rescores if row.index >= 0]
    values = [trial.reward for trial in result.trials] + [score for _, score in second]
    low, high = min(values), max(max(values), min(values) + 1e-6)
    last = max(trial.index for trial in result.trials) or 1

    def place(index: float, value: float) -> tuple[float, float]:
        return (
            round(_LABEL / 3 + (_WIDTH - _LABEL / 3 - 8) * index / last, 1),
            round(_PLOT - 8 - (_PLOT - 16) * (value - low) / (high - low), 1),
        )

    dots: list[Mark] = []
    line: list[str] = []
    best = -1.0
    for trial in result.trials:
        x, y = place(trial.index, trial.reward)
        kind = trial.op or ("pruned" if trial.pruned else trial.kind)
        dots.append(Mark(x, y, 3, 3, f"trial {trial.index} ({kind}): {trial.reward:.4f}", 0.35 if trial.pruned else 1))
        if not trial.pruned and trial.reward > best:
            best = trial.reward
            line.append(f"{'H' if line else 'M'}{x}{f'V{y}' if line else f' {y}'}")
    rings = [Mark(*place(index, value), 5, 5, f"trial {index} again: {value:.4f}") for index, value in second]
    labels = ((0.0, 14.0, "start", f"{high:.3f}"), (0.0, _PLOT - 4.0, "start", f"{low:.3f}"))
    path = "".join(line) + f"H{_WIDTH - 8}" if line else ""
    title = "Validation accuracy, trial by trial; the line is the best first score, rings are second scores"
    return Drawing(title, _WIDTH, _PLOT, (), tuple(dots), tuple(rings), labels, path)


def _schedule(result: Any) -> Drawing:
    """A heat map: a row for each op, a column for each epoch, as dark as the policy's strength."""
    policies: tuple[Policy, ...] = result.schedule.policies if result.schedule is not None else ()
    ops = list(dict.fromkeys(step.op for policy in policies for step in policy.steps))
    table = np.array([[strength_of(policy, op) for policy in policies] for op in ops])
    most, step = max(float(table.max()), 1e-9), (_WIDTH - _LABEL) / len(policies)
    bars, labels = [], []
    for row, op in enumerate(ops):
        labels.append((_LABEL - 8.0, row * _ROW + 14.0, "end", op))
        for epoch in range(len(policies)):
            value = float(table[row, epoch])
            text = f"{op}, epoch {epoch}: {value:.2f}"
            x = round(_LABEL + epoch * step, 2)
            bars.append(Mark(x, row * _ROW, round(step, 2), _ROW - 1, text, round(value / most, 3)))
    title = f"Probability times magnitude of each op over {len(policies)} epochs"
    return Drawing(title, _WIDTH, len(ops) * _ROW + 4, tuple(bars), labels=tuple(labels))


def _pictures(result: Any) -> list[dict[str, str]]:
    """A few images as they are, and as the policy makes them."""
    if result.pictures is None:
        return []
    from tfpipe import augment
    from tfpipe.report.page import image_url

    training = result.settings["training"]
    transform = augment.policy(result.policy, fill=training["fill"], interpolation=training["interpolation"])
    rows: list[tuple[str, Any]] = [("as it is", result.pictures)]
    for draw in range(_DRAWS):
        changed = transform({"image": np.asarray(result.pictures)}, [draw, 0])["image"]
        rows.append((f"augmented, draw {draw + 1}", np.asarray(changed)))
    return [{"url": image_url(_png(images), kind="png"), "caption": caption} for caption, images in rows]


def _png(images: np.ndarray) -> bytes:
    """Images side by side."""
    channels = images.shape[-1]
    shown = images if channels in (1, 3) else images[..., :1]
    joined = np.concatenate(list(shown), axis=1)
    return write_png(np.ascontiguousarray(joined[..., 0] if shown.shape[-1] == 1 else joined), smooth=False)


def _of_comparison(comparison: Any) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = []
    for row in comparison.rows:
        found = comparison.interval(row.name, "none")
        gain = "" if row.name == "none" else f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        seeds = ", ".join(f"{accuracy:.4f}" for accuracy in row.accuracies)
        rows.append((row.name, f"{row.mean:.4f}", gain, comparison.verdict(row.name), str(row.trainings), seeds))
    return rows
