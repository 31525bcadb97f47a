"""Statistics of the images of a dataset: sizes, shapes and duplicates; and warnings about its classes and splits.

Each shard has a census of its own, so that a resumed run counts nothing twice; publishing merges them. Sizes are
counted in buckets an eighth of an octave wide: quantiles come out within 4.5 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfpipe.format.manifest import Manifest

# For each quantity: its exact "low" and "high", and "counts" as pairs of bucket and count.
Sizes = dict[str, dict[str, Any]]

_PER_OCTAVE = 8
_QUANTITIES = ("file_bytes", "height", "width", "aspect_ratio")
# A class this many times the size of another gets a warning, and so does one this small.
_IMBALANCE = 10
_FEW_RECORDS = 10
_MOST_NAMED = 5


def count_sizes(rows: npt.ArrayLike) -> Sizes:
    """The sizes of a shard's images.

    Args:
      rows: [N, 3] bytes of the file, height and width of each image, upright.
    """
    table = np.asarray(rows, np.float64)
    if not len(table):
        return {}
    columns = [*table.T, table[:, 2] / table[:, 1]]
    return {name: _count(column) for name, column in zip(_QUANTITIES, columns, strict=True)}


def _count(values: np.ndarray) -> dict[str, Any]:
    numbers, counts = np.unique(np.rint(_PER_OCTAVE * np.log2(values)).astype(int), return_counts=True)
    buckets = [[number, count] for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)]
    return {"low": float(values.min()), "high": float(values.max()), "counts": buckets}


def merge_sizes(parts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """For each quantity its smallest and largest value and its approximate median, over all parts."""
    present = [part for part in parts if part]
    return {name: _merge([part[name] for part in present]) for name in _QUANTITIES if present}


def _merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    total: Counter[int] = Counter()
    for part in parts:
        total.update(dict(part["counts"]))
    numbers = sorted(total)
    ends = np.cumsum([total[number] for number in numbers])
    middle = numbers[int(np.searchsorted(ends, (int(ends[-1]) + 1) // 2))]
    smallest, largest = min(part["low"] for part in parts), max(part["high"] for part in parts)
    found = {"smallest": smallest, "median": 2 ** (middle / _PER_OCTAVE), "largest": largest}
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def find_duplicates(content_digests: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many records hold a file that another record holds too.

    Args:
      content_digests: for each split, a digest of every record's file: [N] bytes strings.

    Returns:
      "records": copies beyond the first of each file, anywhere; "across_splits": files that occur in several splits.
    """
    everything = np.concatenate(list(content_digests.values())) if content_digests else np.array([], "S16")
    distinct = {name: np.unique(digests) for name, digests in content_digests.items()}
    total = np.unique(everything)
    across = np.concatenate(list(distinct.values())) if distinct else everything
    _, counts = np.unique(across, return_counts=True)
    return {"records": int(len(everything) - len(total)), "across_splits": int((counts > 1).sum())}


def warnings_of(
    class_names: Sequence[str], counts: Mapping[str, Sequence[int]], duplicates: Mapping[str, int]
) -> list[str]:
    """Warnings about problems for training: missing, near-empty, unbalanced and lonely classes, leaks between splits.

    Args:
      class_names: the classes.
      counts: for each split, the records of each class.
      duplicates: see find_duplicates.
    """
    columns = list(zip(*counts.values(), strict=True))
    totals = {name: sum(column) for name, column in zip(class_names, columns, strict=False)}
    found = []
    empty = [name for name, total in totals.items() if not total]
    few = [name for name, total in totals.items() if 0 < total < _FEW_RECORDS]
    if empty:
        found.append(f"no record of {_join_names(empty)}.")
    if few:
        found.append(f"fewer than {_FEW_RECORDS} records of {_join_names(few)}.")
    present = {name: total for name, total in totals.items() if total}
    if len(class_names) == 1 and present:
        found.append(f"all records are of one class, {class_names[0]!r}; if its folders are the classes, convert it.")
    if present and max(present.values()) >= _IMBALANCE * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        found.append(f"{most!r} has {present[most]} records, {least!r} has {present[least]}: classes are unbalanced.")
    if duplicates.get("across_splits"):
        found.append(
            f"{duplicates['across_splits']} files occur in several splits under different keys: scores will flatter."
        )
    elif duplicates.get("records"):
        found.append(f"{duplicates['records']} records repeat a file that another record holds.")
    return found


def manifest_warnings(manifest: Manifest) -> list[str]:
    """The warnings about a written dataset; see warnings_of."""
    counts = {name: split.class_counts for name, split in manifest.splits.items()}
    return warnings_of(manifest.class_names, counts, manifest.statistics.get("duplicates", {}))


def _join_names(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{'class' if len(names) == 1 else 'classes'} {listed}{more}"


def census_json(sizes: Iterable[Mapping[str, Any]], duplicates: Mapping[str, int]) -> dict[str, Any]:
    """The manifest's `statistics`."""
    return {**merge_sizes(sizes), "duplicates": dict(duplicates)}
