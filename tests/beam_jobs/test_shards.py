"""A shard is written in order whatever the number of threads, and counts only once its sidecar is there."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import files_of

from beam_jobs import shards
from beam_jobs.census import count_sizes
from beam_jobs.encode.record import Encoded
from beam_jobs.plan import Ref
from beam_jobs.shards import ShardStats, find_stats, merge_counts, write_shard
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


@pytest.mark.parametrize("ending", ["tfrecord", "index", "contents", "json"])
def test_a_full_disk_leaves_nothing_of_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0123456789abcdef")
    draft = shards.draft_path(tmp_path / f"train-0.{ending}")
    draft.symlink_to("/dev/full")  # where every write finds the disk full
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


def test_two_workers_with_one_process_id_write_one_shard_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers that share a folder: neither takes the other's draft, and no file is seen half written."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    (tmp_path / "alone").mkdir()
    write_shard(tmp_path / "alone", "train-0", refs_of(*KEYS), MadePayload())
    whole = files_of(tmp_path / "alone")
    (tmp_path / "both").mkdir()
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            work = [
                pool.submit(write_shard, tmp_path / "both", "train-0", refs_of(*KEYS), MadePayload(seconds=0.001))
                for _ in range(4)
            ]
            while not all(one.done() for one in work):
                seen = {path.name: path.read_bytes() for path in (tmp_path / "both").glob("train-0.*")}
                assert seen == {name: whole[name] for name in seen}
        assert [one.result() for one in work] == [work[0].result()] * 4
        assert files_of(tmp_path / "both") == whole


def test_a_shard_is_on_the_disk_before_its_sidecar_counts_and_its_sidecar_on_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[str]()

    def kind(path: str) -> str:
        return "folder" if path == str(tmp_path) else path.partition("train-0.")[2].partition(".")[0]

    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (steps.append("sync " + kind(os.readlink(f"/proc/self/fd/{handle}"))), sync(handle))
    )
    monkeypatch.setattr(
        os, "replace", lambda draft, path: (steps.append(f"name {kind(str(path))}"), rename(draft, path))
    )
    write_shard(tmp_path, "train-0", refs_of(*KEYS), MadePayload())
    files = ["tfrecord", "index", "contents", "json"]
    assert sorted(steps[:4]) == sorted(f"sync {file}" for file in files)
    assert steps[4:] == [*(f"name {file}" for file in files), "sync folder"]
    steps.clear()
    write_shard(tmp_path, "train-0", refs_of(*KEYS), MadePayload(), fsync=False)
    assert not [step for step in steps if step.startswith("sync")]


def test_the_disk_begins_to_write_a_large_shard_while_it_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[tuple[int, int]]()
    monkeypatch.setattr(shards, "_WRITE_BYTES", 100)
    monkeypatch.setattr(shards, "_SYNC_BYTES", 500)
    monkeypatch.setattr(shards, "begin_sync", lambda _, begin, end: begun.append((begin, end)))
    facts = write_shard(tmp_path, "train-0", refs_of(*KEYS), MadePayload())
    assert len(begun) > 3
    assert [begin for begin, _ in begun] == [0, *(end for _, end in begun[:-1])]
    assert facts.num_bytes - 1000 < begun[-1][1] <= facts.num_bytes
    begun.clear()
    write_shard(tmp_path, "train-0", refs_of(*KEYS), MadePayload(), fsync=False)
    assert begun == []


def test_a_sidecar_counts_for_its_own_plan_only(tmp_path: Path) -> None:
    facts = write_shard(tmp_path, "train-0", refs_of(*KEYS), MadePayload(), plan="a")
    assert find_stats(tmp_path / "train-0.json", "a") == facts
    assert find_stats(tmp_path / "train-0.json", "b") is None
    assert find_stats(tmp_path / "train-1.json", "a") is None
    (tmp_path / "train-0.json").write_bytes(bytes(100))
    assert find_stats(tmp_path / "train-0.json", "a") is None


def test_counts_are_merged() -> None:
    assert merge_counts([{"a": 1}, {"a": 2, "b": 3}, {}]) == {"a": 3, "b": 3}
