"""The label of an input as one text, whatever its kind, and the checks of it.

Of the kind "class" it is a class's name; of "multi" the names of several, sorted, with BETWEEN_LABELS between them; of
"number" a number as it was written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from beam_jobs.sources.listing import BETWEEN_LABELS, Listed, Problem, Refusal, Refused, to_cell

# The largest float32; NaN is not below it.
_LARGEST = 3.4028234663852886e38


def label_text(value: Any) -> str:
    """A label of a listing as text, the names of a list sorted and each once.

    Raises:
      Refusal: "bad_label" or "empty_label".
    """
    several = isinstance(value, list | tuple)
    parts = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(part, list | tuple | dict) for part in parts):
        detail = "The label is a text, a number or a list of texts; an object or a nested list came."
        raise Refusal("bad_label", detail)
    texts = [to_cell(part).strip() for part in parts]
    if not all(texts):
        raise Refusal("empty_label", "A label in the list is empty." if several else "The row has no label.")
    if any(BETWEEN_LABELS in text for text in texts):
        raise Refusal("bad_label", "The label holds the control character 0x1f.")
    return BETWEEN_LABELS.join(sorted(set(texts)))


def name_classes(value: Any, class_names: Sequence[str] | None) -> Any:
    """A label of a listing with class numbers replaced by their names, where the source knows these."""
    if isinstance(value, list):
        return [name_classes(one, class_names) for one in value]
    if class_names is None or not isinstance(value, int):
        return value
    # The hub writes -1 where a label is withheld.
    return class_names[value] if 0 <= value < len(class_names) else None


def split_labels(label: str) -> list[str]:
    """The class names that label_text joined."""
    return label.split(BETWEEN_LABELS) if label else []


def names_in(label: str, kind: str) -> list[str]:
    """The class names in a label of a kind."""
    if kind in ("number", "none"):
        return []
    return split_labels(label) if kind == "multi" else [label]


def label_problem(entry: Listed, kind: str, known: Collection[str] | None) -> Refused | None:
    """The refusal of a label that is not of its kind, or of no known class; `known` is None where any class will do."""
    if kind == "class" and entry.label and BETWEEN_LABELS not in entry.label and known is None:
        return None  # Nearly every entry of nearly every job: a million of them.
    problem = _kind_problem(entry.label, kind)
    if problem is None and known is not None and entry.label not in known:
        unknown = [name for name in names_in(entry.label, kind) if name not in known]
        if unknown:
            problem = "unknown_label", f"The labels file has no class {unknown[0]!r}."
    return Refused(entry.key, entry.key, *problem) if problem else None


def _kind_problem(label: str, kind: str) -> Problem | None:
    if kind == "number":
        return None if _is_number(label) else ("bad_label", f"The label {label[:80]!r} is not a finite float32.")
    if kind == "class" and not label:
        return "empty_label", "The list of labels is empty."
    if kind == "class" and BETWEEN_LABELS in label:
        several = split_labels(label)[:9]
        return "bad_label", f"The record has the labels {several}; --label_kind multi takes several."
    return None


def _is_number(label: str) -> bool:
    try:
        return abs(float(label)) <= _LARGEST
    except ValueError:
        return False
