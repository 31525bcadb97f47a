"""A shard is written in order whatever the number of threads, and counts only once its sidecar is there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pictures import files_of

from beam_jobs import shards
from beam_jobs.census import count_sizes
from beam_jobs.encode.record import Encoded
from beam_jobs.plan import Ref
from beam_jobs.shards import ShardStats, merge_counts, write_shard
from beam_jobs.sources import Refused
from tfpipe.format.framing import frame, scan
from tfpipe.format.manifest import digest_bytes
from tfpipe.images.moments import Moments
from tfpipe.images.probe import ImageHeader


class MadePayload:
    """Records that say their key; a key that ends in x is refused. Later batches are done earlier."""

    def __init__(self, batch_refs: int = 3, *, seconds: float = 0, small_batches_help: bool = True) -> None:
        self.batch_refs, self.seconds, self.small_batches_help = batch_refs, seconds, small_batches_help
        self.under_way, self.most_under_way, self.batches = 0, 0, list[list[str]]()
        self._lock = threading.Lock()

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        with self._lock:
            self.batches.append([ref.key for ref in refs])
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        time.sleep(self.seconds * (refs[0].order % 3))
        with self._lock:
            self.under_way -= 1
        return [self._encode(ref) for ref in refs]

    def _encode(self, ref: Ref) -> Encoded | Refused:
        if ref.key.endswith("x"):
            return Refused(ref.key, ref.key, "truncated", "It is cut.")
        header = ImageHeader("png" if ref.order % 2 else "jpeg", ref.size, 2 * ref.size, 1 + ref.order % 2)
        moments = Moments(ref.size, (ref.size,) * 3, (ref.size,) * 3)
        return Encoded(
            (ref.order % 3,),
            frame([ref.key.encode() * 50]),
            header,
            header.upright_size,
            moments,
            b"0" * 16,
            99,
            ref.order,
        )


def refs_of(*keys: str) -> list[Ref]:
    return [Ref(i, key, "cat", i + 1, ()) for i, key in enumerate(keys)]


KEYS = [f"key{i}{'x' * (i % 5 == 0)}" for i in range(32)]


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_byte(tmp_path: Path, threads: int) -> None:
    for name, count in (("one", 1), ("many", threads)):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, "train-0", refs_of(*KEYS), MadePayload(seconds=0.002), threads=count)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "many")


def test_a_shard_holds_the_records_in_order_with_their_offsets(tmp_path: Path) -> None:
    facts = write_shard(tmp_path, "train-0", refs_of(*KEYS), MadePayload())
    records = list(scan(tmp_path / "train-0.tfrecord"))
    assert [record.data for record in records] == [key.encode() * 50 for key in KEYS if not key.endswith("x")]
    assert np.fromfile(tmp_path / "train-0.index", "<u8").tolist() == [record.offset for record in records]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "train-0.contents",
        "train-0.index",
        "train-0.json",
        "train-0.tfrecord",
    ]
    assert facts.num_records == len(records)


def test_the_sidecar_says_what_was_written(tmp_path: Path) -> None:
    earlier = Refused("twice", "twice", "duplicate_key", "It is listed 2 times.")
    facts = write_shard(tmp_path, "train-0", refs_of("a", "b", "cx", "d"), MadePayload(), refused=[earlier])
    data = (tmp_path / "train-0.tfrecord").read_bytes()
    assert facts == ShardStats(
        "train-0",
        3,
        len(data),
        digest_bytes(data),
        {0: 2, 1: 1},
        {"jpeg": 1, "png": 2},
        2,
        (1, 2, 4, 8),
        count_sizes([(99, 1, 2), (99, 2, 4), (99, 4, 8)]),
        Moments(7, (7, 7, 7), (7, 7, 7)),
        0 + 1 + 3,
        [earlier, Refused("cx", "cx", "truncated", "It is cut.")],
    )
    assert ShardStats.load(tmp_path / "train-0.json") == facts


def test_a_shard_without_records_is_an_empty_file(tmp_path: Path) -> None:
    facts = write_shard(tmp_path, "train-0", refs_of("x"), MadePayload())
    assert ShardStats.load(tmp_path / "train-0.json") == facts
    assert (facts.num_records, facts.num_bytes, facts.sizes, facts.moments) == (0, 0, None, None)
    assert files_of(tmp_path)["train-0.tfrecord"] == files_of(tmp_path)["train-0.index"] == b""


def test_batches_are_those_of_the_shard_and_few_are_under_way(tmp_path: Path) -> None:
    payload = MadePayload(batch_refs=4, seconds=0.001, small_batches_help=False)
    write_shard(tmp_path, "train-0", refs_of(*KEYS), payload, threads=3)
    assert sorted(payload.batches, key=lambda keys: KEYS.index(keys[0])) == [KEYS[i : i + 4] for i in range(0, 32, 4)]
    assert 1 < payload.most_under_way <= 3


def test_several_threads_take_smaller_batches_to_the_end(tmp_path: Path) -> None:
    payload = MadePayload(batch_refs=6)
    write_shard(tmp_path, "train-0", refs_of(*KEYS), payload, threads=2)
    batches = sorted(payload.batches, key=lambda keys: KEYS.index(keys[0]))
    assert [key for batch in batches for key in batch] == KEYS
    assert [len(batch) for batch in batches] == [6, 6, 5, 4, 3, 2, 2, 1, 1, 1, 1]
    alone = MadePayload(batch_refs=6)
    write_shard(tmp_path, "train-1", refs_of(*KEYS), alone, threads=1)
    assert [len(batch) for batch in alone.batches] == [6, 6, 6, 6, 6, 2]


def test_large_records_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_WRITE_BYTES", 100)
    small = write_shard(tmp_path, "a", refs_of(*KEYS), MadePayload())
    monkeypatch.undo()
    assert small.digest == write_shard(tmp_path, "b", refs_of(*KEYS), MadePayload()).digest


def test_a_full_disk_leaves_nothing_of_the_shard(tmp_path: Path) -> None:
    (tmp_path / f"train-0.{os.getpid()}.draft").symlink_to("/dev/full")  # where every write finds the disk full
    with pytest.raises(OSError, match="No space left on device"):
        write_shard(tmp_path, "train-0", refs_of("a"), MadePayload())
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_payload_leaves_no_sidecar(tmp_path: Path) -> None:
    class Broken(MadePayload):
        def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
            raise RuntimeError("bug")

    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="bug"):
            write_shard(tmp_path, "train-0", refs_of("a", "b"), Broken(), threads=threads)
    assert not (tmp_path / "train-0.json").exists()


def test_counts_are_merged() -> None:
    assert merge_counts([{"a": 1}, {"a": 2, "b": 3}, {}]) == {"a": 3, "b": 3}
