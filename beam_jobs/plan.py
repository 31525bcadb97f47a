"""From a listing to a plan: which record goes into which shard, decided before any image is read.

Listing a piece of the source writes *sorted runs*: files of up to RUN_REFS references, sorted by (split, order). A plan
cuts the order of each split at equal bytes; a shard is then a range of the order, and its references are the slices of
all runs that fall into it. So references are shuffled through sorted files, images never, and memory does not grow with
the number of images.

    for number, piece in enumerate(source.pieces(None)):
        list_piece(scan, number, piece)
    plan = make_plan(job, scan, RecordSize())
    refs, repeated = shard_refs(scan.sorted_runs, plan.shards[0])
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xxhash

from beam_jobs.engines.failures import check_pieces
from beam_jobs.job import Job
from beam_jobs.sources import LeftOut, Listed, Ref, Refused, Source
from beam_jobs.sources.cells import cell_kind, column_dtype
from beam_jobs.sources.labels import class_order, label_problem, names_in
from tfpipe.format.sharding import cut_order, key_hashes, num_shards, pick_split, split_bounds
from tfpipe.storage import replace_file

# Some 250 B each until they are saved: 16 MB.
RUN_REFS = 1 << 16
# Shards are cut between two of 2**18 equal parts of the order: fine enough for 16,000 shards of one split.
_PART_BITS = 18
_PARTS = 1 << _PART_BITS
# Key, label, shape and framing of a record, besides the strings themselves and the payload.
_RECORD_OVERHEAD = 110

_RUN_DTYPE = np.dtype([("order", "<u8"), ("size", "<i8"), ("begin", "<u8"), ("place", "<u4"), ("split", "u1")])
# Names that hardly ever stand for files which are re-encoded.
KEPT_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ListingScan:
    """How a source is listed.

    Attributes:
      source: the listing.
      sorted_runs: the folder for the runs.
      seed: of the split and the order.
      splits: the names of the splits.
      bounds: of the draws of each split; see split_bounds.
      class_names: the known classes; None takes those that occur.
      label_kind: "class", "multi" or "number".
    """

    source: Source
    sorted_runs: str
    seed: int
    splits: tuple[str, ...]
    bounds: tuple[int, ...]
    class_names: tuple[str, ...] | None
    label_kind: str = "class"

    @cached_property
    def known_classes(self) -> frozenset[str] | None:
        """The classes that are known, as a set."""
        return None if self.class_names is None else frozenset(self.class_names)


def make_listing_scan(job: Job, source: Source, sorted_runs: str, class_names: tuple[str, ...] | None) -> ListingScan:
    """The scan of a job's source into a folder of runs."""
    splits = source.splits or tuple(job.fractions)
    bounds = (1 << 64,) * len(splits) if source.splits else tuple(split_bounds(job.fractions))
    return ListingScan(source, sorted_runs, job.seed, splits, bounds, class_names, job.label_kind)


# ---- runs


class _SortedRun:
    """The references and refusals of one run, until it is saved."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int]] = []  # split, order, size, bytes of the locator
        self.refs_bytes: list[bytes] = []
        self.labels: Counter[str] = Counter()
        self.kinds: list[int] = []
        self.refused: list[Refused] = []
        self.left_out: Counter[str] = Counter()
        self.digest = 0
        self.names_tell = True

    def add(self, entry: Listed, scan: ListingScan) -> None:
        key, label, split, size, extras, locator, group = entry
        draw, order = key_hashes(key, seed=scan.seed)
        if group:
            draw, _ = key_hashes(group, seed=scan.seed)
        number = scan.splits.index(split) if split else pick_split(draw, scan.bounds)
        data = "\0".join((key, label, *extras)).encode()
        # Neither the digest nor the plan covers the locator: it changes with the order in which an archive was packed.
        end = b"\0" + locator.encode() if locator else b""
        self.rows.append((number, order, size, len(end)))
        self.refs_bytes.append(data + end)
        self.names_tell &= key.lower().endswith(KEPT_ENDINGS)
        if scan.label_kind not in ("number", "none"):
            self.labels[label] += 1
        if extras:
            self.kinds = [a | b for a, b in zip(self.kinds or [0] * len(extras), map(cell_kind, extras), strict=True)]
        # A sum does not depend on the order of what is listed.
        self.digest += xxhash.xxh3_128_intdigest(data + b"\0%d\0%d" % (size, number))

    def save(self, stem: Path, *, last: bool) -> None:
        """Saves the run; `last` says that it is the last of its piece."""
        if self.rows:
            self._save_refs(stem)
        facts = {"labels": self.labels, "kinds": self.kinds, "refused": self.refused, "digest": self.digest}
        facts["names_tell"] = self.names_tell
        facts |= {"left_out": self.left_out} if self.left_out else {}
        # After the others: a run without it does not count. Not synced: every run of a conversion lists anew.
        replace_file(stem.with_suffix(".json"), json.dumps({**facts, "last": last}).encode(), fsync=False)

    def _save_refs(self, stem: Path) -> None:
        table = np.empty(len(self.rows), _RUN_DTYPE)
        rows = np.array(self.rows, np.uint64).reshape(-1, 4)
        positions = np.lexsort((rows[:, 1], rows[:, 0]))
        table["split"], table["order"], table["size"], table["place"] = rows[positions].T
        refs_bytes = [self.refs_bytes[position] for position in positions]
        table["begin"] = np.cumsum([0, *map(len, refs_bytes)])[:-1]
        saved = io.BytesIO()
        np.save(saved, table)
        replace_file(stem.with_suffix(".blob"), b"".join(refs_bytes), fsync=False)
        replace_file(stem.with_suffix(".npy"), saved.getvalue(), fsync=False)


def list_piece(scan: ListingScan, number: int, piece: Any) -> None:
    """Writes the runs of one piece of the listing; the same piece always writes the same files."""
    run, saved = _SortedRun(), 0
    kind, known = scan.label_kind, scan.known_classes
    for entry in scan.source.entries(piece):
        if isinstance(entry, Listed):
            refused = label_problem(entry, kind, known)
            if refused:
                run.refused.append(refused)
            else:
                run.add(entry, scan)
        elif isinstance(entry, LeftOut):
            run.left_out[entry.what] += entry.number
            continue
        else:
            run.refused.append(entry)
        if len(run.rows) + len(run.refused) == RUN_REFS:
            run.save(Path(scan.sorted_runs, f"{number:04d}-{saved:05d}"), last=False)
            run, saved = _SortedRun(), saved + 1
    run.save(Path(scan.sorted_runs, f"{number:04d}-{saved:05d}"), last=True)


# ---- the plan


class PlannedShard(NamedTuple):
    """One shard: a range of the order of one split.

    Attributes:
      name: such as "train-00000-of-00014".
      split: the number of the split.
      low, high: it takes the parts [low, high) of the 2**18 parts of the order.
      num_refs: how many references fall into it.
    """

    name: str
    split: int
    low: int
    high: int
    num_refs: int


@dataclass(frozen=True)
class Plan:
    """The shards that will be written, and what is known of their records.

    Attributes:
      splits: the names of the splits.
      shards: in the order of the splits, and of each split's order.
      class_names: label_int is an index of this tuple.
      columns: name and dtype of every additional column.
      listed: how many inputs the source listed.
      refused: how many of them the listing refused, by reason.
      source_digest: of all references, whatever their order.
      num_bytes: the expected size of all shards.
      left_out: how much of the inputs does not come into their records, by what it is; see sources.LeftOut.
      may_transcode: whether some name is that of no JPEG or PNG: its file may have to be re-encoded.
    """

    splits: tuple[str, ...]
    shards: tuple[PlannedShard, ...]
    class_names: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    listed: int
    refused: Mapping[str, int]
    source_digest: str
    num_bytes: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    may_transcode: bool = False

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return json.loads(json.dumps({**vars(self), "shards": [list(shard) for shard in self.shards]}))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote."""
        fields = dict(document)
        fields["shards"] = tuple(PlannedShard(*shard) for shard in fields["shards"])
        fields["columns"] = tuple((name, dtype) for name, dtype in fields["columns"])
        for name in ("splits", "class_names"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    def num_refs(self, split: int) -> int:
        """How many references fall into a split."""
        return sum(shard.num_refs for shard in self.shards if shard.split == split)


@dataclass(frozen=True)
class RecordSize:
    """The bytes of a record's payload: fixed, or a number of bytes for each byte of the file."""

    fixed: int = 0
    per_file_byte: float = 1.0


def make_plan(job: Job, scan: ListingScan, size: RecordSize) -> Plan:
    """The plan for all runs: a pure function of the listed inputs and the options, not of the cuts between runs.

    Raises:
      SetupError: the runs are not those of every piece of the source.
    """
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(Path(scan.sorted_runs).glob("*.json"))}
    check_pieces(runs, len(scan.source.pieces(job.limit)))
    facts = list(runs.values())
    sizes, counts = _order_histogram(scan, size)
    labels = {name for fact in facts for label in fact["labels"] for name in names_in(label, scan.label_kind)}
    refused = Counter(refusal[2] for fact in facts for refusal in fact["refused"])
    digest = sum(fact["digest"] for fact in facts) % (1 << 128)
    left_out: Counter[str] = sum((Counter(fact.get("left_out")) for fact in facts), Counter())
    return Plan(
        splits=scan.splits,
        shards=tuple(_cut_splits(scan.splits, sizes, counts, job.target_bytes)),
        class_names=scan.class_names or class_order(labels),
        columns=_type_columns(facts, scan.source),
        listed=int(counts.sum()) + sum(refused.values()),
        refused=dict(sorted(refused.items())),
        source_digest=f"{digest:032x}",
        num_bytes=int(sizes.sum()),
        left_out=dict(sorted(left_out.items())),
        may_transcode=not all(fact.get("names_tell", True) for fact in facts),
    )


def _order_histogram(scan: ListingScan, size: RecordSize) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and references in each part of the order of each split: two [splits, _PARTS] arrays."""
    shape = (len(scan.splits), _PARTS)
    sizes, counts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for path in sorted(Path(scan.sorted_runs).glob("*.npy")):
        table = np.load(path)
        parts = (table["order"] >> np.uint64(64 - _PART_BITS)).astype(np.int64)
        lengths = np.diff(table["begin"].astype(np.int64), append=os.path.getsize(path.with_suffix(".blob")))
        lengths -= table["place"].astype(np.int64)
        bins = (table["split"].astype(np.int64), parts)
        payload = size.fixed + np.floor(table["size"] * size.per_file_byte).astype(np.int64)
        np.add.at(sizes, bins, payload + lengths + _RECORD_OVERHEAD)
        np.add.at(counts, bins, 1)
    return sizes, counts


def _cut_splits(splits: Sequence[str], sizes: np.ndarray, counts: np.ndarray, target: int) -> Iterator[PlannedShard]:
    for number, name in enumerate(splits):
        if not counts[number].any():
            continue
        cuts = cut_order(sizes[number], num_shards(int(sizes[number].sum()), target_bytes=target))
        for i, (low, high) in enumerate(pairwise(cuts.tolist())):
            title = f"{name}-{i:05d}-of-{len(cuts) - 1:05d}"
            yield PlannedShard(title, number, low, high, int(counts[number, low:high].sum()))


def _type_columns(facts: list[dict[str, Any]], source: Source) -> tuple[tuple[str, str], ...]:
    """Every column with its dtype: the source's where it knows one, else the narrowest that holds all cells."""
    known, kinds = dict(source.dtypes), [0] * len(source.columns)
    for fact in facts:
        kinds = [a | b for a, b in zip(kinds, fact["kinds"] or [0] * len(kinds), strict=True)]
    return tuple((name, known.get(name) or column_dtype(k)) for name, k in zip(source.columns, kinds, strict=True))


def listing_refusals(sorted_runs: str) -> Iterator[Refused]:
    """Yields the inputs that the listing refused."""
    for path in sorted(Path(sorted_runs).glob("*.json")):
        for fields in json.loads(path.read_text())["refused"]:
            yield Refused(*fields)


def refused_keys(sorted_runs: str) -> Counter[str]:
    """How often the listing refused each key."""
    return Counter(refusal.key for refusal in listing_refusals(sorted_runs) if refusal.key)


def shard_refs(
    sorted_runs: str, shard: PlannedShard, *, refused: Mapping[str, int] = MappingProxyType({})
) -> tuple[list[Ref], list[Refused]]:
    """A shard's references in order, and the refusals of every copy of a key that is listed more than once.

    Args:
      sorted_runs: the folder of runs.
      shard: the part of the order to take.
      refused: how many copies of each key the listing refused; they count as listed.
    """
    refs: list[Ref] = []
    for path in sorted(Path(sorted_runs).glob("*.npy")):
        refs += _run_slice(path, shard)
    refs.sort()
    keys = {ref.key for ref in refs}
    if len(keys) == len(refs) and keys.isdisjoint(refused):
        return refs, []
    # Equal keys have equal hashes, so all copies are neighbours in one shard.
    copies = Counter(ref.key for ref in refs)
    copies.update({key: refused[key] for key in copies if key in refused})
    kept = [ref for ref in refs if copies[ref.key] == 1]
    repeated = [
        Refused(ref.key, ref.key, "duplicate_key", f"The key is listed {copies[ref.key]} times.")
        for ref in refs
        if copies[ref.key] > 1
    ]
    return kept, repeated


def lowest_refs(sorted_runs: str, count: int) -> list[Ref]:
    """The references that come first in the order of the hash, of all splits: a sample that depends on nothing else."""
    refs: list[Ref] = []
    for path in sorted(Path(sorted_runs).glob("*.npy")):
        table = np.load(path, mmap_mode="r")
        lowest = np.argsort(table["order"], kind="stable")[:count].tolist()
        refs_bytes = path.with_suffix(".blob").read_bytes()
        refs += [ref for row in lowest for ref in _refs(table, refs_bytes, 0, row, row + 1)]
    return sorted(refs)[:count]


def _run_slice(path: Path, shard: PlannedShard) -> list[Ref]:
    table = np.load(path, mmap_mode="r")
    first, last = np.searchsorted(table["split"], [shard.split, shard.split + 1])
    orders = table["order"][first:last]
    shift = 64 - _PART_BITS
    low = first + np.searchsorted(orders, np.uint64(shard.low << shift))
    high = last if shard.high == _PARTS else first + np.searchsorted(orders, np.uint64(shard.high << shift))
    if low == high:
        return []
    begin = int(table["begin"][low])
    with open(path.with_suffix(".blob"), "rb") as file:
        file.seek(begin)
        end = int(table["begin"][high]) if high < len(table) else os.fstat(file.fileno()).st_size
        return _refs(table, file.read(end - begin), begin, int(low), int(high))


def _refs(table: np.ndarray, refs_bytes: bytes, base: int, low: int, high: int) -> list[Ref]:
    """The references [low, high) of a run; `refs_bytes` holds their bytes from byte `base` of the file on."""
    begins = (table["begin"][low : high + 1].astype(np.int64) - base).tolist()
    if high == len(table):
        begins.append(len(refs_bytes))
    orders, sizes = table["order"][low:high].tolist(), table["size"][low:high].tolist()
    locator_bytes = table["place"][low:high].tolist()
    refs = []
    for i, (order, size, has_locator) in enumerate(zip(orders, sizes, locator_bytes, strict=True)):
        key, label, *extras = refs_bytes[begins[i] : begins[i + 1]].decode().split("\0")
        locator = extras.pop() if has_locator else ""
        refs.append(Ref(order, key, label, size, tuple(extras), locator))
    return refs
