"""Compressed third-party shards are read, shuffled as far as possible, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from foreign import (
    Record,
    text,
    tfds,
    write,
    write_all,
)

import tfpipe
from tfpipe.format.compressed import compression_of, inflate, scan_shard
from tfpipe.format.framing import DamagedRecord, frame, scan
from tfpipe.format.manifest import Manifest, manifest_text, parse_manifest
from tfpipe.maintenance.check import check_dataset
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions


def keys_by_epoch(manifest: Manifest, **options: Any) -> list[list[bytes]]:
    dataset = make_dataset(
        manifest, batch_size=5, image_size=(4, 4), labels=None, seed=3, options=ReadOptions(**options)
    )
    return [[key for batch in dataset for key in batch["key"].numpy()] for _ in range(2)]


def test_compressed_shards_are_shuffled_by_shard_and_buffer(tmp_path: Path) -> None:
    def make(number: int) -> Record:
        return {**tfds(number), "key": text(b"%d" % number)}

    manifest = tfpipe.index(write_all(tmp_path, make, "GZIP"))
    everything = sorted(b"%d" % number for number in range(30))
    for settings in ({}, {"cache": "memory"}, {"shuffle": "buffer"}, {"parallel_reads": 1}):
        first, second = keys_by_epoch(manifest, **settings)
        assert sorted(first) == sorted(second) == everything
        assert first != second
    assert keys_by_epoch(manifest) == keys_by_epoch(manifest)
    # With a buffer of one and one file at a time, only whole shards are shuffled.
    for epoch in keys_by_epoch(manifest, shuffle_buffer=1, parallel_reads=1):
        numbers = [int(key) for key in epoch]
        assert sorted(numbers[::10]) == [0, 10, 20]
        assert all(numbers[i] == numbers[i - 1] + 1 for i in range(30) if i % 10)
    plain = [[int(key) for key in epoch] for epoch in keys_by_epoch(manifest, shuffle="none", parallel_reads=1)]
    assert plain == [list(range(30))] * 2


def test_a_stream_of_compressed_shards_resumes_at_any_step(tmp_path: Path) -> None:
    manifest = tfpipe.index(write_all(tmp_path, lambda number: {**tfds(number), "key": text(b"%d" % number)}, "GZIP"))
    for settings in ({}, {"shuffle": "none"}):
        first, second = keys_by_epoch(manifest, **settings)
        for step in (1, 3, 6, 8):
            resumed = (first + second)[5 * step :]
            rest = 30 - 5 * step % 30
            found = keys_by_epoch(manifest, start_step=step, **settings)
            assert found[0] == resumed[:rest]
            assert found[1][: len(resumed) - rest] == resumed[rest:]


def test_hosts_cannot_share_compressed_shards(tmp_path: Path) -> None:
    manifest = tfpipe.index(write_all(tmp_path, tfds, "GZIP"))
    with pytest.raises(ValueError, match="host_count is 2, but split 'train' has compressed shards: each host seeks"):
        make_dataset(manifest, batch_size=5, image_size=(4, 4), options=ReadOptions(host_count=2))


def test_compressed_and_plain_shards_may_lie_together(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord.gz", [tfds(number) for number in range(5)], "GZIP")
    write(tmp_path / "b.tfrecord", [tfds(number) for number in range(5, 10)])
    write(tmp_path / "test.tfrecord", [tfds(number) for number in range(4)])
    manifest = tfpipe.index(tmp_path)
    assert [(s.path, s.compression, s.index_start) for s in manifest.split("train").shards] == [
        ("a.tfrecord.gz", "GZIP", None),
        ("b.tfrecord", None, 0),
    ]
    assert [len(part) for part in manifest.offsets("test")] == [4]
    assert len(list(make_dataset(manifest, batch_size=1))) == 10
    assert check_dataset(manifest) == []
    data = (tmp_path / "a.tfrecord.gz").read_bytes()
    (tmp_path / "a.tfrecord.gz").write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    (problem,) = check_dataset(manifest)
    assert (problem.file, problem.record) == ("a.tfrecord.gz", 0)
    write(tmp_path / "a.tfrecord.gz", [tfds(number) for number in range(4)], "GZIP")
    assert [str(problem) for problem in check_dataset(manifest)] == [
        "a.tfrecord.gz: record 4: it holds 4 records, the manifest says 5."
    ]


def test_the_compression_is_in_the_document_only_where_there_is_one(tmp_path: Path) -> None:
    manifest = tfpipe.index(write_all(tmp_path, tfds, "GZIP"))
    text_of = manifest_text(manifest)
    assert text_of.count('"compression": "GZIP"') == 4
    assert parse_manifest(text_of, tmp_path) == manifest
    for changed in (text_of.replace('"GZIP"', '"LZMA"'), text_of.replace('"index_start": null', '"index_start": 0')):
        with pytest.raises(ValueError, match="has compression"):
            parse_manifest(changed, tmp_path)
    plain = tfpipe.index(write_all(tmp_path / "plain", tfds))
    assert "compression" not in manifest_text(plain)


def test_a_record_that_begins_like_a_gzip_file_is_none(tmp_path: Path) -> None:
    payload = bytes(0x088B1F)
    path = tmp_path / "a"
    path.write_bytes(b"".join(frame([payload])))
    assert path.read_bytes().startswith(b"\x1f\x8b\x08")
    assert compression_of(path) is None


def test_gzip_files_of_several_members_are_read_and_inflated(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [tfds(1)], "GZIP").read_bytes()
    plain = write(tmp_path / "plain", [tfds(1)] * 3).read_bytes()
    (tmp_path / "three").write_bytes(one * 3)
    assert inflate(tmp_path / "three") == plain
    assert [r.data for r in scan_shard(tmp_path / "three", "GZIP")] == [r.data for r in scan(tmp_path / "plain")]


def test_a_damaged_compressed_shard_is_named_whatever_is_damaged(tmp_path: Path) -> None:
    data = write(tmp_path / "good", [tfds(1), tfds(2)], "GZIP").read_bytes()
    path = tmp_path / "bad"
    for place in [*range(0, len(data), 97), *range(len(data) - 8, len(data))]:
        for changed in (data[:place], data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]):
            path.write_bytes(changed)
            # Of the ten bytes of the header, those of name, time and system say nothing of the content.
            if not changed or (len(changed) == len(data) and 3 < place < 10):
                continue
            with pytest.raises(DamagedRecord, match=f"{path}: record [012] at byte "):
                list(scan_shard(path, "GZIP"))
