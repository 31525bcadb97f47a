"""Writes one shard, and leaves a sidecar that says what is in it.

In the output's `_state` folder a shard lies under its planned name; a sidecar, renamed into place after it, makes it
count. A run that is resumed finds the sidecars and writes only what has none.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from beam_jobs.census import Sizes, count_sizes
from beam_jobs.payloads import Encoded, Payload
from beam_jobs.plan import Ref
from beam_jobs.sources import Refused
from tfpipe.moments import Moments
from tfpipe.records import Chunks

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
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(vars(self)))
        os.replace(draft, path)

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


def _write_records(file: Any, facts: ShardFacts, results: Iterable[Encoded | Refused], state: Path) -> None:
    """Writes the records, and beside them NAME.index (their offsets) and NAME.contents (their files' digests)."""
    writer = _Writer(file)
    offsets: list[int] = []
    contents: list[bytes] = []
    sizes: list[tuple[int, int, int]] = []
    for result in results:
        if isinstance(result, Refused):
            facts.refused.append(result)
            continue
        offsets.append(facts.num_bytes)
        contents.append(result.content)
        sizes.append((result.file_bytes, *result.header.upright_size))
        facts.num_bytes += sum(map(len, result.chunks))
        writer.write(result.chunks)
        _count(facts, result)
    facts.num_records, facts.digest, facts.image_sizes = len(offsets), writer.finish(), count_sizes(sizes)
    np.array(offsets, "<u8").tofile(state / f"{facts.name}.index")
    (state / f"{facts.name}.contents").write_bytes(b"".join(contents))


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
        for chunk in chunks:
            self._digest.update(chunk)
            self._pending_bytes += len(chunk)
        self._pending += chunks
        if self._pending_bytes >= _WRITE_BYTES or len(self._pending) > _WRITE_CHUNKS:
            self._flush()

    def finish(self) -> str:
        """Writes what is left; returns the digest of everything."""
        self._flush()
        return f"xxh3_128:{self._digest.hexdigest()}"

    def _flush(self) -> None:
        written = os.writev(self._handle, self._pending)
        if written < self._pending_bytes:  # A signal, or the last bytes of a disk that fills up.
            rest = memoryview(b"".join(self._pending))[written:]
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        self._pending, self._pending_bytes = [], 0


def _count(facts: ShardFacts, record: Encoded) -> None:
    for number in record.classes:
        facts.class_counts[number] = facts.class_counts.get(number, 0) + 1
    facts.formats[record.header.format] = facts.formats.get(record.header.format, 0) + 1
    facts.turned += record.header.orientation > 1
    facts.source_digest += record.digest
    if record.moments is not None:
        facts.moments = record.moments.plus(facts.moments or Moments())
    if record.size is not None:
        height, width = record.size
        low_h, low_w, high_h, high_w = facts.sizes or (height, width, height, width)
        facts.sizes = (min(low_h, height), min(low_w, width), max(high_h, height), max(high_w, width))


def _encode_all(refs: Sequence[Ref], payload: Payload, threads: int) -> Iterator[Encoded | Refused]:
    step = payload.batch_refs
    batches = (refs[i : i + step] for i in range(0, len(refs), step))
    if threads == 1:
        for batch in batches:
            yield from payload.encode(batch)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, payload, batches, ahead=2 * threads)


def _in_order(
    pool: ThreadPoolExecutor, payload: Payload, batches: Iterable[Sequence[Ref]], *, ahead: int
) -> Iterator[Encoded | Refused]:
    """Yields results in the order of the batches, with at most `ahead` of them under way: memory stays bounded."""
    waiting: deque[Future[list[Encoded | Refused]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(payload.encode, batch))
        if len(waiting) >= ahead:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def merge_counts(parts: Iterable[dict[Any, int]]) -> Counter[Any]:
    """The sum of several counts."""
    total: Counter[Any] = Counter()
    for part in parts:
        total.update(part)
    return total
