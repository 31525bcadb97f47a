"""What `tfpipe bench --json` printed, with --fit or without, as the tables and bars of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfpipe.report.charts import short
from tfpipe.report.rates import rate_bars, use_bars

# The columns of the ways to read, and of trainings: the key of a row, and the header.
_READING = {
    name: name.replace("_", " ")
    for name in ("images_per_second", "images_per_cpu_second", "utilisation", "first_epoch_seconds", "speedup")
}
_TRAINING = {
    "images_per_second": "images/s",
    "share_of_ceiling": "of ceiling",
    "step_seconds": "step s",
    "input_wait_seconds": "wait s",
    "speedup": "speedup",
}
_GPU = {"below_10": "GPU <10 %", "below_50": "GPU <50 %", "below_90": "GPU <90 %", "mean": "GPU mean"}


def timing_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the template report.html shows of a document.

    Returns:
      title, text, notes (sentences), columns and rows of a table, and charts.
    """
    rows = document["rows"]
    is_training = bool(rows) and all(_has_numbers(row, _TRAINING) for row in rows)
    names = {key: name for key, name in (_TRAINING if is_training else _READING).items() if _all_have(rows, key)}
    uses = [row["gpu"] if _has_numbers(row.get("gpu"), _GPU) else None for row in rows] if is_training else []
    with_gpu = any(use is not None for use in uses)
    table = [(str(row.get("variant", "")), *(_cell(row[key]) for key in names)) for row in rows]
    columns = [("variant", "name"), *((name, "number") for name in names.values())]
    if with_gpu:
        columns += [(name, "number") for name in _GPU.values()]
        table = [
            (*cells, *(_cell(use[key]) if use else ("", -1.0) for key in _GPU))
            for cells, use in zip(table, uses, strict=True)
        ]
    charts = [chart for chart in (rate_bars(rows), use_bars(rows)) if chart] if is_training else []
    return {
        "title": "Trainings" if is_training else "Ways to read it",
        "text": _text(document, is_training=is_training),
        "notes": _notes(document) if is_training else [],
        "columns": columns,
        "rows": table,
        "charts": charts,
    }


def _text(document: Mapping[str, Any], *, is_training: bool) -> str:
    model = f"model {document.get('model')}, augmentation {document.get('policy')}, " if is_training else ""
    return (
        f"Measured by tfpipe bench{' --fit' * is_training}: batches of {document.get('batch_size')}, "
        f"{model}{document.get('mode')}, {document.get('cores')} cores, page cache {document.get('page_cache')}."
    )


def _notes(document: Mapping[str, Any]) -> list[str]:
    found = [f"Bottleneck: {document.get('bottleneck')}.", document.get("advice"), document.get("gpu_unknown")]
    if document.get("gpu_name"):
        found.append(f"GPU: {document['gpu_name']}.")
    return [str(line) for line in found if line]


def _has_numbers(values: Any, names: Mapping[str, str]) -> bool:
    return isinstance(values, Mapping) and all(_is_number(values.get(name)) for name in names)


def _all_have(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return bool(rows) and all(_is_number(row.get(name)) for row in rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: float) -> tuple[str, float]:
    return short(value), value
