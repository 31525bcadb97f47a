"""What changes where a conversion replaces a dataset: told before anything is written.

changes = changes_of(load_manifest("out"), plan, recorded, versions)
changes                    # {"splits": {"train": [80, 39], "test": [10, 50]}, "class_ids": {"10": [1, 9]}}
change_lines(changes)      # ["records of splits: train 80 -> 39, test 10 -> 50", ...]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.encode.columns import extra_features
from beam_jobs.encode.masks import has_masks
from beam_jobs.plan import Plan
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import RESERVED, Feature

# Of each part, the names with their old and new values.
Changes = Mapping[str, Mapping[str, Sequence[Any]]]

_MOST_NAMED = 6


def changes_of(old: Manifest, plan: Plan, recorded: Mapping[str, Any], versions: Mapping[str, str]) -> Changes:
    """What a dataset and the plan of its replacement say differently: of each part, the names with [old, new] values.

    Args:
      old: the dataset that is there.
      plan: what will be written.
      recorded: the new job, as the manifest's made_by records it.
      versions: of the packages that decide the bytes now.

    Returns:
      "splits" with numbers of records, "class_ids", "columns" with their dtypes, "options", "model", "versions" and,
      where nothing else shows why the plans differ, "input"; None stands for what one of the two lacks. Empty where
      both are of one plan.
    """
    made_by = old.made_by
    if made_by.get("plan") == recorded["plan"]:
        return {}
    parts = {
        "splits": _split_changes(old, plan),
        "class_ids": _pairs(_numbers(old.class_names), _numbers(plan.class_names)),
        "columns": _pairs(_columns(old), _planned_columns(plan)),
        "options": _pairs(made_by.get("options") or {"payload": old.schema.payload}, recorded["options"]),
        "model": _pairs(made_by.get("model", {}), recorded.get("model", {})),
        "versions": _pairs(made_by.get("versions", {}), versions),
    }
    found = {name: pairs for name, pairs in parts.items() if pairs}
    return found or {"input": {"plan": [made_by.get("plan"), recorded["plan"]]}}


def change_lines(changes: Changes) -> list[str]:
    """The changes in a line for each part."""
    lines = []
    for part, pairs in changes.items():
        if part == "input":
            lines.append("input: other files, labels or cuts between shards; splits, classes and options are the same")
            continue
        texts = [f"{name} {_shown(old)} -> {_shown(new)}" for name, (old, new) in pairs.items()]
        more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
        title = {"splits": "records of splits", "class_ids": "class ids"}.get(part, part)
        lines.append(f"{title}: " + ", ".join(texts[:_MOST_NAMED]) + more)
    return lines


def _split_changes(old: Manifest, plan: Plan) -> dict[str, list[Any]]:
    """The splits whose numbers of records differ by more than images that were refused when they were read."""
    before = {name: split.num_records for name, split in old.splits.items()}
    after = {name: plan.num_refs(number) for number, name in enumerate(plan.splits)}
    unread = max(sum(old.rejected.values()) - sum(plan.refused.values()), 0)
    pairs = _pairs(before, after).items()
    return {name: pair for name, pair in pairs if None in pair or not 0 <= pair[1] - pair[0] <= unread}


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = sorted({*old, *new}, key=str)
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def _numbers(class_names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(class_names)}


def _columns(old: Manifest) -> dict[str, str]:
    columns = {feature.name: _dtype(feature) for feature in old.schema.features if feature.name not in RESERVED}
    return columns | ({"mask": "mask"} if "mask" in old.schema else {})


def _planned_columns(plan: Plan) -> dict[str, str]:
    columns = {feature.name: _dtype(feature) for feature in extra_features(plan.columns)}
    return columns | ({"mask": "mask"} if has_masks(plan.columns) else {})


def _dtype(feature: Feature) -> str:
    return feature.dtype + "".join(f"[{'' if size is None else size}]" for size in feature.shape)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={part}" for name, part in value.items())
    return "none" if value is None else f"{value:,}" if type(value) is int else str(value)
