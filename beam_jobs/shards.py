"""Writes one shard, and leaves a sidecar that says what is in it.

In the output's `_state` folder a shard lies under its planned name; a sidecar, renamed into place after it, makes it
count. A run that is resumed finds the sidecars and writes only what has none.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from beam_jobs.census import Sizes, count_sizes
from beam_jobs.encode.payloads import Encoded, Payload
from beam_jobs.plan import Ref
from beam_jobs.sources import Refused
from tfpipe.format.framing import Chunks
from tfpipe.images.moments import Moments
from tfpipe.storage import replace_file

_WRITE_BYTES = 1 << 18
# The kernel takes up to 1024 chunks in one call.
_WRITE_CHUNKS = 1000


@dataclass
class ShardFacts:
    """What one shard holds: the content of its sidecar.

    Attributes:
      name: the planned name.
      num_records, num_bytes, digest: of the shard's file.
      class_counts: by label_int.
      formats: how many files of each format.
      turned: how many files carry an EXIF turn.
      sizes: [smallest height, width, largest height, width] of the images; None for embeddings and empty shards.
      image_sizes: how large the images and their files are; see census.
      moments: of all pixels; None where none were decoded.
      source_digest: the sum of the records' digests.
      refused: inputs that could not become records.
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

    def save(self, path: Path) -> None:
        """Writes the sidecar by rename."""
        replace_file(path, json.dumps(vars(self)).encode(), fsync=False, shared=True)

    @classmethod
    def load(cls, path: Path) -> ShardFacts:
        """The facts that `save` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text())
        fields["class_counts"] = {int(label): count for label, count in fields["class_counts"].items()}
        fields["refused"] = [Refused(*refusal) for refusal in fields["refused"]]
        fields["sizes"] = fields["sizes"] and tuple(fields["sizes"])
        if fields["moments"] is not None:
            count, sums, squares = fields["moments"]
            fields["moments"] = Moments(count, tuple(sums), tuple(squares))
        return cls(**fields)


def write_shard(
    state: Path, name: str, refs: Sequence[Ref], payload: Payload, *, refused: Sequence[Refused] = (), threads: int = 1
) -> ShardFacts:
    """Writes a shard's file, offsets and sidecar into the state folder.

    Args:
      state: the folder.
      name: the planned name.
      refs: what becomes records, in order.
      payload: how.
      refused: inputs that are refused already, to be carried in the sidecar.
      threads: how many batches are encoded at once.

    Raises:
      OSError: the disk is full or the folder gone; what was written of the shard is removed.
    """
    facts = ShardFacts(name, refused=list(refused))
    # The process's own: another that was left behind by a killed run may still write the same shard.
    draft = state / f"{name}.{os.getpid()}.draft"
    try:
        with open(draft, "wb", buffering=0) as file:
            _write_records(file, facts, _encode_all(refs, payload, threads), state)
        os.replace(draft, state / f"{name}.tfrecord")
        facts.save(state / f"{name}.json")
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return facts


def _write_records(file: Any, facts: ShardFacts, batches: Iterable[list[Encoded | Refused]], state: Path) -> None:
    """Writes the records, and beside them NAME.index (their offsets) and NAME.contents (their files' digests)."""
    writer = _Writer(file)
    census = _Census()
    for results in batches:
        records = [result for result in results if isinstance(result, Encoded)]
        if len(records) < len(results):
            facts.refused += [result for result in results if isinstance(result, Refused)]
        writer.write([chunk for record in records for chunk in record.chunks])
        census.add(records)
    facts.digest = writer.finish()
    offsets = census.fill(facts)
    offsets.tofile(state / f"{facts.name}.index")
    (state / f"{facts.name}.contents").write_bytes(census.contents)


class _Writer:
    """Hands chunks to the disk some 256 kB at a time, uncopied, and digests them while they are in the cache.

    A thread for it made raw records slower, not faster: 70 us against 58, for all the handing over of Python's lock.
    """

    def __init__(self, file: Any) -> None:
        self._handle = file.fileno()
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
        """Writes what is left; returns the digest of everything."""
        self._flush()
        return f"xxh3_128:{self._digest.hexdigest()}"

    def _flush(self) -> None:
        for i in range(0, len(self._pending), _WRITE_CHUNKS):
            _write_whole(self._handle, self._pending[i : i + _WRITE_CHUNKS])
        self._pending, self._pending_bytes = [], 0


def _write_whole(handle: int, chunks: Chunks) -> None:
    written = os.writev(handle, chunks)
    if written < sum(map(len, chunks)):  # A signal, or the last bytes of a disk that fills up.
        rest = memoryview(b"".join(chunks))[written:]
        while rest:
            rest = rest[os.write(handle, rest) :]


class _Census:
    """What is counted of a shard's records, column by column: a record at a time took 5 us, so it takes 1."""

    def __init__(self) -> None:
        # Flat, for a shard of small images may hold half a million: 56 B a record.
        self.contents = bytearray()
        self._lengths = array("Q")
        self._files = array("q")  # bytes, height, width
        self._sizes = array("q")  # height, width
        self._classes: Counter[int] = Counter()
        self._formats: Counter[str] = Counter()
        self._turned = self._source_digest = 0
        self._moments: Moments | None = None

    def add(self, records: Sequence[Encoded]) -> None:
        if not records:
            return
        classes, chunks, headers, sizes, moments, contents, file_bytes, digests = zip(*records, strict=True)
        self._lengths.extend([sum(map(len, parts)) for parts in chunks])
        self._classes.update(chain.from_iterable(classes))
        self._formats.update([header.format for header in headers])
        self._turned += sum(header.orientation > 1 for header in headers)
        for size, header in zip(file_bytes, headers, strict=True):
            self._files.extend((size, *header.upright_size))
        self._sizes.extend(chain.from_iterable(filter(None, sizes)))
        if decoded := [part for part in moments if part is not None]:
            self._moments = sum_moments([*decoded, self._moments or Moments()])
        self.contents += b"".join(contents)
        self._source_digest += sum(digests)

    def fill(self, facts: ShardFacts) -> np.ndarray:
        """Puts all counts into a shard's facts; returns the offset of each record, uint64 [N]."""
        lengths = np.array(self._lengths, np.uint64)
        facts.num_records, facts.num_bytes = len(lengths), int(lengths.sum())
        facts.class_counts, facts.formats = dict(self._classes), dict(self._formats)
        facts.turned, facts.source_digest, facts.moments = self._turned, self._source_digest, self._moments
        facts.image_sizes = count_sizes(np.array(self._files, np.int64).reshape(-1, 3))
        if self._sizes:
            sizes = np.array(self._sizes, np.int64).reshape(-1, 2)
            facts.sizes = (*sizes.min(0).tolist(), *sizes.max(0).tolist())
        return (np.cumsum(lengths) - lengths).astype("<u8")


def _encode_all(refs: Sequence[Ref], payload: Payload, threads: int) -> Iterator[list[Encoded | Refused]]:
    batches = _batches(refs, payload, threads)
    if threads == 1:
        yield from map(payload.encode, batches)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, payload, batches, ahead=2 * threads)


def _batches(refs: Sequence[Ref], payload: Payload, threads: int) -> Iterator[Sequence[Ref]]:
    """The references in batches; where several threads take them, smaller ones to the end, so that all end together."""
    first = 0
    while first < len(refs):
        size = payload.batch_refs
        if threads > 1 and payload.divisible:
            size = min(size, math.ceil((len(refs) - first) / (2 * threads)))
        yield refs[first : first + size]
        first += size


def _in_order(
    pool: ThreadPoolExecutor, payload: Payload, batches: Iterable[Sequence[Ref]], *, ahead: int
) -> Iterator[list[Encoded | Refused]]:
    """Yields results in the order of the batches, with at most `ahead` of them under way: memory stays bounded."""
    waiting: deque[Future[list[Encoded | Refused]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(payload.encode, batch))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def sum_moments(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together."""
    total = Moments()
    for part in parts:
        total = total.plus(part)
    return total


def merge_counts(parts: Iterable[dict[Any, int]]) -> Counter[Any]:
    """The sum of several counts."""
    total: Counter[Any] = Counter()
    for part in parts:
        total.update(part)
    return total
