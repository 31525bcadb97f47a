"""From a listing to a plan: which record goes into which shard, decided before any image is read.

Indexing a piece of the listing writes *runs*: files of up to RUN_REFS references, sorted by (split, order). A plan cuts
the order of each split at equal bytes; a shard is then a range of the order, and its references are the slices of all
runs that fall into it. So references are shuffled through sorted files, images never, and memory does not grow with the
number of images.

    for number, piece in enumerate(source.pieces(None)):
        index_piece(indexing, number, piece)
    plan = make_plan(job, indexing)
    refs = shard_refs(indexing.runs, plan.shards[0])
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xxhash

from beam_jobs.job import Job
from beam_jobs.sources import Listed, Ref, Refused, Source
from beam_jobs.sources.labels import label_problem, names_in
from tfpipe.format.sharding import cut_order, key_hashes, num_shards, pick_split, split_bounds
from tfpipe.storage import replace_file

# Some 250 B each while they are gathered: 16 MB.
RUN_REFS = 1 << 16
# A shard's border lies between two of 2**18 equal parts of the order: fine enough for 16,000 shards of one split.
_PART_BITS = 18
_PARTS = 1 << _PART_BITS
# Key, label, shape and framing of a record, besides the strings themselves and the payload.
_RECORD_OVERHEAD = 110

_RUN_DTYPE = np.dtype([("order", "<u8"), ("size", "<i8"), ("begin", "<u8"), ("place", "<u4"), ("split", "u1")])
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_INT, _FLOAT, _TEXT, _EMPTY, _LARGE = 1, 2, 4, 8, 16
# float32 holds every whole number up to here.
_MOST_EXACT = 1 << 24


@dataclass(frozen=True)
class Indexing:
    """What indexing needs to know.

    Attributes:
      source: the listing.
      runs: the folder for runs.
      seed: of the split and the order.
      splits: the names of the splits.
      bounds: of the draws of each split; see split_bounds.
      class_names: the classes that are known; None takes what occurs.
      label_kind: "class", "multi" or "number".
    """

    source: Source
    runs: str
    seed: int
    splits: tuple[str, ...]
    bounds: tuple[int, ...]
    class_names: tuple[str, ...] | None
    label_kind: str = "class"

    @cached_property
    def known_classes(self) -> frozenset[str] | None:
        """The classes that are known, for a quick look."""
        return None if self.class_names is None else frozenset(self.class_names)


def make_indexing(job: Job, source: Source, runs: str, class_names: tuple[str, ...] | None) -> Indexing:
    """The indexing of a job's source into a folder of runs."""
    splits = source.splits or tuple(job.fractions)
    bounds = (1 << 64,) * len(splits) if source.splits else tuple(split_bounds(job.fractions))
    return Indexing(source, runs, job.seed, splits, bounds, class_names, job.label_kind)


# ---- runs


class _Run:
    """References and refusals that are being gathered for one run."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int]] = []  # split, order, size, bytes of the place
        self.blobs: list[bytes] = []
        self.labels: Counter[str] = Counter()
        self.kinds: list[int] = []
        self.refused: list[Refused] = []
        self.digest = 0

    def add(self, entry: Listed, indexing: Indexing) -> None:
        key, label, split, size, extras, place = entry
        draw, order = key_hashes(key, seed=indexing.seed)
        number = indexing.splits.index(split) if split else pick_split(draw, indexing.bounds)
        blob = "\0".join((key, label, *extras)).encode()
        # The place is no part of the digest, nor of the plan: it changes with the order in which an archive was packed.
        end = b"\0" + place.encode() if place else b""
        self.rows.append((number, order, size, len(end)))
        self.blobs.append(blob + end)
        if indexing.label_kind != "number":
            self.labels[label] += 1
        if extras:
            self.kinds = [a | b for a, b in zip(self.kinds or [0] * len(extras), map(_cell_kind, extras), strict=True)]
        # A sum does not depend on the order of what is listed.
        self.digest += xxhash.xxh3_128_intdigest(blob + b"\0%d\0%d" % (size, number))

    def save(self, stem: Path) -> None:
        if self.rows:
            self._save_refs(stem)
        facts = {"labels": self.labels, "kinds": self.kinds, "refused": self.refused, "digest": self.digest}
        # Last, by rename: a run without it does not count.
        replace_file(stem.with_suffix(".json"), json.dumps(facts).encode(), fsync=False, shared=True)

    def _save_refs(self, stem: Path) -> None:
        table = np.empty(len(self.rows), _RUN_DTYPE)
        rows = np.array(self.rows, np.uint64).reshape(-1, 4)
        places = np.lexsort((rows[:, 1], rows[:, 0]))
        table["split"], table["order"], table["size"], table["place"] = rows[places].T
        blobs = [self.blobs[place] for place in places]
        table["begin"] = np.cumsum([0, *map(len, blobs)])[:-1]
        stem.with_suffix(".blob").write_bytes(b"".join(blobs))
        np.save(stem.with_suffix(".npy"), table)


def index_piece(indexing: Indexing, number: int, piece: Any) -> None:
    """Writes the runs of one piece of the listing; the same piece always writes the same files."""
    run, saved = _Run(), 0
    kind, known = indexing.label_kind, indexing.known_classes
    for entry in indexing.source.entries(piece):
        refused = entry if isinstance(entry, Refused) else label_problem(entry, kind, known)
        if refused:
            run.refused.append(refused)
        elif isinstance(entry, Listed):
            run.add(entry, indexing)
        if len(run.rows) + len(run.refused) == RUN_REFS:
            run.save(Path(indexing.runs, f"{number:04d}-{saved:05d}"))
            run, saved = _Run(), saved + 1
    run.save(Path(indexing.runs, f"{number:04d}-{saved:05d}"))


def _cell_kind(cell: str) -> int:
    if not cell:
        return _EMPTY
    if _WHOLE.fullmatch(cell):
        return _INT if abs(int(cell)) <= _MOST_EXACT else _INT | _LARGE
    # 007 and numbers beyond int64 are names, not quantities.
    return _FLOAT if _NUMBER.fullmatch(cell) and not cell.lstrip("-").isdecimal() else _TEXT


def _column_dtype(kinds: int) -> str:
    """int64 where every cell is a whole number; float32 where each is a number or empty (NaN); else string.

    A column whose whole numbers float32 would change is kept as string.
    """
    if kinds & ~_LARGE == _INT:
        return "int64"
    return "float32" if kinds & (_INT | _FLOAT) and not kinds & (_TEXT | _LARGE) else "string"


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
    """What will be written.

    Attributes:
      splits: the names of the splits.
      shards: in the order of splits and places.
      class_names: label_int is a position in this tuple.
      columns: name and dtype of every further column.
      listed: how many inputs the source listed.
      refused: how many of them indexing refused, by reason.
      source_digest: of all references, whatever their order.
      num_bytes: what the payloads are expected to take.
    """

    splits: tuple[str, ...]
    shards: tuple[PlannedShard, ...]
    class_names: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    listed: int
    refused: Mapping[str, int]
    source_digest: str
    num_bytes: int

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
    """What a record takes on disk: a fixed payload, or so many bytes for each byte of the file."""

    fixed: int = 0
    per_file_byte: float = 1.0


def make_plan(job: Job, indexing: Indexing, size: RecordSize) -> Plan:
    """The plan for all runs: a pure function of what was listed and the options, not of how it was cut into runs."""
    facts = [json.loads(path.read_text()) for path in sorted(Path(indexing.runs).glob("*.json"))]
    sizes, counts = _order_histogram(indexing, size)
    labels = {name for fact in facts for label in fact["labels"] for name in names_in(label, indexing.label_kind)}
    refused = Counter(refusal[2] for fact in facts for refusal in fact["refused"])
    digest = sum(fact["digest"] for fact in facts) % (1 << 128)
    return Plan(
        splits=indexing.splits,
        shards=tuple(_cut_splits(indexing.splits, sizes, counts, job.target_bytes)),
        class_names=indexing.class_names or tuple(sorted(labels)),
        columns=_typed_columns(facts, indexing.source),
        listed=int(counts.sum()) + sum(refused.values()),
        refused=dict(sorted(refused.items())),
        source_digest=f"{digest:032x}",
        num_bytes=int(sizes.sum()),
    )


def _order_histogram(indexing: Indexing, size: RecordSize) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and references in each part of the order of each split: two [splits, _PARTS] arrays."""
    shape = (len(indexing.splits), _PARTS)
    sizes, counts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for path in sorted(Path(indexing.runs).glob("*.npy")):
        table = np.load(path)
        parts = (table["order"] >> np.uint64(64 - _PART_BITS)).astype(np.int64)
        lengths = np.diff(table["begin"].astype(np.int64), append=os.path.getsize(path.with_suffix(".blob")))
        lengths -= table["place"].astype(np.int64)
        places = (table["split"].astype(np.int64), parts)
        payload = size.fixed + np.floor(table["size"] * size.per_file_byte).astype(np.int64)
        np.add.at(sizes, places, payload + lengths + _RECORD_OVERHEAD)
        np.add.at(counts, places, 1)
    return sizes, counts


def _cut_splits(splits: Sequence[str], sizes: np.ndarray, counts: np.ndarray, target: int) -> Iterator[PlannedShard]:
    for number, name in enumerate(splits):
        if not counts[number].any():
            continue
        cuts = cut_order(sizes[number], num_shards(int(sizes[number].sum()), target_bytes=target))
        for i, (low, high) in enumerate(pairwise(cuts.tolist())):
            title = f"{name}-{i:05d}-of-{len(cuts) - 1:05d}"
            yield PlannedShard(title, number, low, high, int(counts[number, low:high].sum()))


def _typed_columns(facts: list[dict[str, Any]], source: Source) -> tuple[tuple[str, str], ...]:
    """Every column with its dtype: the source's word, else what all cells allow."""
    known, kinds = dict(source.dtypes), [0] * len(source.columns)
    for fact in facts:
        kinds = [a | b for a, b in zip(kinds, fact["kinds"] or [0] * len(kinds), strict=True)]
    return tuple((name, known.get(name) or _column_dtype(k)) for name, k in zip(source.columns, kinds, strict=True))


def index_refusals(runs: str) -> Iterator[Refused]:
    """Yields what indexing refused."""
    for path in sorted(Path(runs).glob("*.json")):
        for fields in json.loads(path.read_text())["refused"]:
            yield Refused(*fields)


def refused_keys(runs: str) -> Counter[str]:
    """How often each key was refused while indexing."""
    return Counter(refusal.key for refusal in index_refusals(runs) if refusal.key)


def shard_refs(
    runs: str, shard: PlannedShard, refused: Mapping[str, int] = MappingProxyType({})
) -> tuple[list[Ref], list[Refused]]:
    """A shard's references in order, and the refusals of every copy of a key that is listed more than once.

    Args:
      runs: the folder of runs.
      shard: the part of the order to take.
      refused: copies that indexing refused; they count as listed.
    """
    refs: list[Ref] = []
    for path in sorted(Path(runs).glob("*.npy")):
        refs += _run_slice(path, shard)
    refs.sort()
    keys = {ref.key for ref in refs}
    if len(keys) == len(refs) and keys.isdisjoint(refused):
        return refs, []
    # Equal keys have equal hashes, so all copies lie side by side in one shard.
    copies = Counter(ref.key for ref in refs)
    copies.update({key: refused[key] for key in copies if key in refused})
    kept = [ref for ref in refs if copies[ref.key] == 1]
    repeated = [
        Refused(ref.key, ref.key, "duplicate_key", f"The key is listed {copies[ref.key]} times.")
        for ref in refs
        if copies[ref.key] > 1
    ]
    return kept, repeated


def lowest_refs(runs: str, count: int) -> list[Ref]:
    """The references that come first in the order of the hash, all splits together: a sample chosen by nothing else."""
    refs: list[Ref] = []
    for path in sorted(Path(runs).glob("*.npy")):
        table = np.load(path, mmap_mode="r")
        places = np.argsort(table["order"], kind="stable")[:count]
        blobs = path.with_suffix(".blob").read_bytes()
        refs += [ref for place in places for ref in _refs(table, blobs, 0, int(place), int(place) + 1)]
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


def _refs(table: np.ndarray, blobs: bytes, base: int, low: int, high: int) -> list[Ref]:
    """The references [low, high) of a run, whose blobs lie in `blobs` from byte `base` on."""
    begins = (table["begin"][low : high + 1].astype(np.int64) - base).tolist()
    if high == len(table):
        begins.append(len(blobs))
    orders, sizes = table["order"][low:high].tolist(), table["size"][low:high].tolist()
    places = table["place"][low:high].tolist()
    refs = []
    for i, (order, size, place) in enumerate(zip(orders, sizes, places, strict=True)):
        key, label, *extras = blobs[begins[i] : begins[i + 1]].decode().split("\0")
        where = extras.pop() if place else ""
        refs.append(Ref(order, key, label, size, tuple(extras), where))
    return refs
