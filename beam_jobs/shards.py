"""Writes one shard, and a sidecar with its statistics.

In the output's `_state` folder a shard is stored under its planned name; a sidecar, renamed into place once the shard
is on the disk, makes it count. A resumed run finds the sidecars and writes only the shards that have none.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from beam_jobs.census import Sizes, count_sizes
from beam_jobs.encode.payloads import Payload
from beam_jobs.encode.record import Encoded
from beam_jobs.engines.threads import map_ordered
from beam_jobs.sources import Ref, Refused
from tfpipe.format.framing import Chunks
from tfpipe.images.moments import Moments
from tfpipe.images.transcode import transcoder_versions
from tfpipe.storage import begin_sync, draft_path, rename_drafts

_WRITE_BYTES = 1 << 18
# How many keys of each kind of note are kept.
_MOST_KEYS = 20
# Category -> kind -> how many files, and the keys of the first, sorted.
Notes = dict[str, dict[str, tuple[int, list[str]]]]
# The kernel takes up to 1024 chunks in one call.
_WRITE_CHUNKS = 1000
# The disk writes so much of a shard at a time, while the next part is encoded.
_SYNC_BYTES = 8 << 20
# Of the digest of a record's file, in NAME.contents.
CONTENT_BYTES = 16


@dataclass
class ShardStats:
    """The statistics of one shard: the content of its sidecar. The names are keys of its JSON.

    Attributes:
      name: the planned name.
      num_records, num_bytes, digest: of the shard's file.
      class_counts: by label_int.
      formats: how many files of each format.
      turned: how many files have an EXIF orientation other than upright.
      sizes: [smallest height, width, largest height, width] of the images; None for embeddings and empty shards.
      image_sizes: the distribution of the sizes of images and files; see census.
      moments: of all pixels; None where none were decoded.
      source_digest: the sum of the records' digests.
      refused: inputs that could not become records.
      plan: the digest of the plan that it was written for; None in sidecars of versions that did not note it.
      notes: what files went through, by category and kind: how many, and the first keys.
      transcoder: the versions that re-encoded files; empty where none was.
    """

    name: str
    num_records: int = 0
    num_bytes: int = 0
    digest: str = ""
    class_counts: dict[int, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    turned: int = 0
    sizes: tuple[int, int, int, int] | None = None
    image_sizes: Sizes = field(default_factory=dict)
    moments: Moments | None = None
    source_digest: int = 0
    refused: list[Refused] = field(default_factory=list)
    plan: str | None = None
    notes: Notes = field(default_factory=dict)
    transcoder: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The content of the sidecar."""
        return json.dumps(vars(self)).encode()

    @classmethod
    def load(cls, path: Path) -> ShardStats:
        """The stats in a sidecar."""
        fields: dict[str, Any] = json.loads(path.read_text())
        fields["class_counts"] = {int(label): count for label, count in fields["class_counts"].items()}
        fields["refused"] = [Refused(*refusal) for refusal in fields["refused"]]
        fields["notes"] = merge_notes([fields.get("notes", {})])
        fields["sizes"] = fields["sizes"] and tuple(fields["sizes"])
        if fields["moments"] is not None:
            count, sums, squares = fields["moments"]
            fields["moments"] = Moments(count, tuple(sums), tuple(squares))
        return cls(**fields)


def find_stats(path: Path, plan: str) -> ShardStats | None:
    """The stats in a sidecar; None where it is missing, damaged or of another plan, given by its digest."""
    try:
        stats = ShardStats.load(path)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return stats if stats.plan in (None, plan) else None


def write_shard(
    state: Path,
    name: str,
    refs: Sequence[Ref],
    payload: Payload,
    *,
    refused: Sequence[Refused] = (),
    threads: int = 1,
    plan: str | None = None,
    fsync: bool = True,
) -> ShardStats:
    """Writes a shard's file, offsets (NAME.index), digests of its files (NAME.contents) and sidecar.

    Several processes may write the same shard: each writes drafts of its own, and the last renames count.

    Args:
      state: the state folder.
      name: the planned name.
      refs: the references that become records, in order.
      payload: turns them into records.
      refused: inputs that are refused already, to be listed in the sidecar.
      threads: how many batches are encoded at once.
      plan: the digest of the plan.
      fsync: wait until everything is on the disk; the sidecar gets its name after that.

    Raises:
      OSError: the disk is full or the folder gone; the unfinished shard is removed.
    """
    # The sidecar is renamed last: it makes the shard count.
    paths = [state / f"{name}.{ending}" for ending in ("tfrecord", "index", "contents", "json")]
    drafts = {draft_path(path): path for path in paths}
    shard, index, contents, sidecar = drafts
    builder, all_refused = _StatsBuilder(), list(refused)
    try:
        with open(shard, "wb", buffering=0) as file:
            writer = _Writer(file, begins_sync=fsync)
            batches = map_ordered(payload.encode, _batches(refs, payload, threads), threads=threads, ahead=2 * threads)
            for results in batches:
                records = [result for result in results if isinstance(result, Encoded)]
                if len(records) < len(results):
                    all_refused += [result for result in results if isinstance(result, Refused)]
                writer.write([chunk for record in records for chunk in record.chunks])
                builder.add(records)
            stats = builder.build(name, digest=writer.finish(), refused=all_refused, plan=plan)
        index.write_bytes(builder.offsets().tobytes())
        contents.write_bytes(builder.content_digests)
        sidecar.write_bytes(stats.to_bytes())
        rename_drafts(drafts, fsync=fsync)
    except BaseException:
        for draft in drafts:
            draft.unlink(missing_ok=True)
        raise
    return stats


class _Writer:
    """Writes chunks some 256 kB at a time, uncopied, and digests them while they are in the processor's cache.

    A thread for it made raw records slower, not faster: 70 us against 58, since Python's lock then changed hands.
    """

    def __init__(self, file: Any, *, begins_sync: bool) -> None:
        self._handle, self._begins_sync = file.fileno(), begins_sync
        self._written = self._begun = 0
        self._pending: Chunks = []
        self._pending_bytes = 0
        self._digest = xxhash.xxh3_128()

    def write(self, chunks: Chunks) -> None:
        update = self._digest.update
        for chunk in chunks:
            update(chunk)
        self._pending += chunks
        self._pending_bytes += sum(map(len, chunks))
        if self._pending_bytes >= _WRITE_BYTES:
            self._flush()

    def finish(self) -> str:
        """Writes the rest; returns the digest of everything."""
        self._flush()
        return f"xxh3_128:{self._digest.hexdigest()}"

    def _flush(self) -> None:
        for i in range(0, len(self._pending), _WRITE_CHUNKS):
            _write_whole(self._handle, self._pending[i : i + _WRITE_CHUNKS])
        self._written += self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        if self._begins_sync and self._written - self._begun >= _SYNC_BYTES:
            begin_sync(self._handle, self._begun, self._written)
            self._begun = self._written


def _write_whole(handle: int, chunks: Chunks) -> None:
    written = os.writev(handle, chunks)
    if written < sum(map(len, chunks)):  # A signal, or the last bytes of a disk that fills up.
        rest = memoryview(b"".join(chunks))[written:]
        while rest:
            rest = rest[os.write(handle, rest) :]


class _StatsBuilder:
    """Counts a shard's records column by column: a record at a time took 5 us, so it takes 1."""

    def __init__(self) -> None:
        # Flat, for a shard of small images may hold half a million: 56 B a record.
        self.content_digests = bytearray()
        self._lengths = array("Q")
        self._files = array("q")  # bytes, height, width
        self._sizes = array("q")  # height, width
        self._classes: Counter[int] = Counter()
        self._formats: Counter[str] = Counter()
        self._turned = self._source_digest = 0
        self._moments: Moments | None = None
        self._notes: Notes = {}

    def add(self, records: Sequence[Encoded]) -> None:
        if not records:
            return
        classes, chunks, headers, sizes, moments, contents, file_bytes, digests, keys, notes = zip(
            *records, strict=True
        )
        self._lengths.extend([sum(map(len, parts)) for parts in chunks])
        self._classes.update(chain.from_iterable(classes))
        self._formats.update([header.format for header in headers])
        self._turned += sum(header.orientation > 1 for header in headers)
        for size, header in zip(file_bytes, headers, strict=True):
            self._files.extend((size, *header.upright_size))
        self._sizes.extend(chain.from_iterable(filter(None, sizes)))
        if decoded := [part for part in moments if part is not None]:
            self._moments = sum_moments([*decoded, self._moments or Moments()])
        self.content_digests += b"".join(contents)
        self._source_digest += sum(digests)
        if any(notes):
            found = [(category, kind, key) for key, some in zip(keys, notes, strict=True) for category, kind in some]
            self._notes = merge_notes([self._notes, *({c: {k: (1, [key])}} for c, k, key in found)])

    def build(self, name: str, *, digest: str, refused: list[Refused], plan: str | None) -> ShardStats:
        """The stats of all records that were added."""
        sizes = np.array(self._sizes, np.int64).reshape(-1, 2)
        return ShardStats(
            name,
            num_records=len(self._lengths),
            num_bytes=sum(self._lengths),
            digest=digest,
            class_counts=dict(self._classes),
            formats=dict(self._formats),
            turned=self._turned,
            sizes=(*sizes.min(0).tolist(), *sizes.max(0).tolist()) if len(sizes) else None,
            image_sizes=count_sizes(np.array(self._files, np.int64).reshape(-1, 3)),
            moments=self._moments,
            source_digest=self._source_digest,
            refused=refused,
            plan=plan,
            notes=self._notes,
            transcoder=transcoder_versions() if "transcoded" in self._notes else {},
        )

    def offsets(self) -> np.ndarray:
        """The offset of each record: uint64 [N]."""
        lengths = np.array(self._lengths, np.uint64)
        return (np.cumsum(lengths) - lengths).astype("<u8")


def _batches(refs: Sequence[Ref], payload: Payload, threads: int) -> Iterator[Sequence[Ref]]:
    """The references in batches; where several threads take them, smaller ones to the end, so that all end together."""
    first = 0
    while first < len(refs):
        size = payload.batch_refs
        if threads > 1 and payload.small_batches_help:
            size = min(size, math.ceil((len(refs) - first) / (2 * threads)))
        yield refs[first : first + size]
        first += size


def sum_moments(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together."""
    return reduce(Moments.plus, parts, Moments())


def merge_counts(parts: Iterable[dict[Any, int]]) -> Counter[Any]:
    """The sum of several counts."""
    total: Counter[Any] = Counter()
    for part in parts:
        total.update(part)
    return total


def merge_notes(parts: Iterable[Notes]) -> Notes:
    """The notes of all parts together; of the keys of each kind, the first of all."""
    total: Notes = {}
    for part in parts:
        for category, kinds in part.items():
            found = total.setdefault(category, {})
            for kind, (count, keys) in kinds.items():
                before, earlier = found.get(kind, (0, []))
                found[kind] = before + count, sorted([*earlier, *keys])[:_MOST_KEYS]
    return {category: dict(sorted(kinds.items())) for category, kinds in sorted(total.items())}
