"""Every change of a dataset is found and named; a valid dataset has no problems."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from opened import opened_files

from tfpipe.format.framing import frame, scan_bytes
from tfpipe.format.manifest import INDEX_NAME, Manifest, Shard, load_manifest
from tfpipe.maintenance.check import Problem, check_dataset


@pytest.fixture
def dataset(raw_dataset: Manifest, tmp_path: Path) -> Manifest:
    """A dataset of several shards, yours to damage."""
    return load_manifest(shutil.copytree(raw_dataset.directory, tmp_path / "copy"))


def shards_of(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]


def starts_of(data: bytes) -> list[int]:
    return [record.offset for record in scan_bytes(data)]


def problem_of(manifest: Manifest, *, quick: bool = False) -> Problem:
    """The only problem that is found."""
    (problem,) = check_dataset(manifest, quick=quick)
    return problem


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_valid_dataset_has_no_problem_and_every_shard_is_checked(
    raw_dataset: Manifest, quick: bool, threads: int
) -> None:
    seen: list[Shard] = []
    assert check_dataset(raw_dataset, quick=quick, threads=threads, on_shard=seen.append) == []
    assert sorted(seen, key=lambda shard: shard.path) == sorted(shards_of(raw_dataset), key=lambda shard: shard.path)
    assert len(seen) > 4


def test_a_shard_cut_between_two_records_is_found_at_the_first_that_is_missing(dataset: Manifest) -> None:
    shard = shards_of(dataset)[0]
    path = dataset.shard_path(shard)
    data = path.read_bytes()
    for number, start in enumerate(starts_of(data)):
        path.write_bytes(data[:start])
        problem = problem_of(dataset)
        assert (problem.file, problem.record) == (shard.path, number)
        assert problem.text == f"it holds {number} records, the manifest says {shard.num_records}."
        assert problem_of(dataset, quick=True).file == shard.path


def test_a_shard_cut_anywhere_is_found_at_the_record_cut(dataset: Manifest) -> None:
    shard = shards_of(dataset)[0]
    path = dataset.shard_path(shard)
    data = path.read_bytes()
    starts = starts_of(data)
    for end in random.Random(0).sample(range(len(data)), 100):
        path.write_bytes(data[:end])
        problem = problem_of(dataset)
        assert (problem.file, problem.record) == (
            shard.path,
            np.searchsorted(starts, end, "right") - (end not in starts),
        )


def test_a_flipped_bit_is_found_in_its_record_wherever_it_is(dataset: Manifest) -> None:
    shard = shards_of(dataset)[1]
    path = dataset.shard_path(shard)
    data = path.read_bytes()
    starts = starts_of(data)
    for bit in random.Random(1).sample(range(8 * len(data)), 400):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        problem = problem_of(dataset)
        assert (problem.file, problem.record) == (shard.path, np.searchsorted(starts, bit // 8, "right") - 1)


def without_first(records: list[bytes]) -> list[bytes]:
    return records[1:]


def without_third(records: list[bytes]) -> list[bytes]:
    return records[:2] + records[3:]


def with_second_twice(records: list[bytes]) -> list[bytes]:
    return records[:2] + records[1:]


def swapped(records: list[bytes]) -> list[bytes]:
    return [records[1], records[0], *records[2:]]


def with_last_twice(records: list[bytes]) -> list[bytes]:
    return [*records, records[-1]]


# A change to the records of a shard, and the first record with another offset.
REWRITTEN: list[tuple[Callable[[list[bytes]], list[bytes]], Callable[[int], int]]] = [
    (without_first, lambda count: 1),
    (without_third, lambda count: 3),
    (with_second_twice, lambda count: 3),
    (swapped, lambda count: 1),
    (with_last_twice, lambda count: count),
]


@pytest.mark.parametrize(("rewrite", "record"), REWRITTEN, ids=[rewrite.__name__ for rewrite, _ in REWRITTEN])
def test_valid_records_at_wrong_offsets_are_found_at_the_first_of_them(dataset: Manifest, rewrite, record) -> None:
    shard = shards_of(dataset)[0]
    path = dataset.shard_path(shard)
    data = path.read_bytes()
    starts = [*starts_of(data), len(data)]
    records = [data[low:high] for low, high in pairwise(starts)]
    assert len({len(one) for one in records}) == len(records)  # else two could be swapped without changing offsets
    path.write_bytes(b"".join(rewrite(records)))
    problem = problem_of(dataset)
    assert (problem.file, problem.record) == (shard.path, record(shard.num_records))


def test_an_emptied_a_missing_and_a_swapped_shard_are_named(dataset: Manifest) -> None:
    first, second, third, fourth, *_ = shards_of(dataset)
    dataset.shard_path(first).write_bytes(b"")
    dataset.shard_path(second).unlink()
    one, two = dataset.shard_path(third).read_bytes(), dataset.shard_path(fourth).read_bytes()
    dataset.shard_path(third).write_bytes(two)
    dataset.shard_path(fourth).write_bytes(one)
    problems = check_dataset(dataset, threads=2)
    assert [problem.file for problem in problems] == [first.path, second.path, third.path, fourth.path]
    assert (problems[0].record, str(problems[1])) == (0, f"{second.path}: the file is missing.")
    assert {problem.file for problem in check_dataset(dataset, quick=True)} >= {first.path, second.path}


def test_other_content_of_the_same_sizes_is_found_by_its_digest(dataset: Manifest) -> None:
    shard = shards_of(dataset)[0]
    path = dataset.shard_path(shard)
    payloads = [record.data for record in scan_bytes(path.read_bytes())]
    payloads[2] = payloads[2].replace(b"cat", b"cow").replace(b"dog", b"cow").replace(b"emu", b"cow")
    path.write_bytes(b"".join(chunk for payload in payloads for chunk in frame([payload])))
    problem = problem_of(dataset)
    assert (problem.file, problem.text) == (
        shard.path,
        "its records are valid, but not those that the manifest describes.",
    )
    assert check_dataset(dataset, quick=True) == []  # sizes only: this is what quick gives up


@pytest.mark.parametrize("tail", [bytes(16), b"junk", bytes(1000)], ids=len)
def test_what_is_appended_is_found_behind_the_last_record(dataset: Manifest, tail: bytes) -> None:
    shard = shards_of(dataset)[0]
    with open(dataset.shard_path(shard), "ab") as file:
        file.write(tail)
    problem = problem_of(dataset)
    assert (problem.file, problem.record) == (shard.path, shard.num_records)


def test_a_stale_or_missing_index_is_named_and_the_shards_are_still_checked(dataset: Manifest) -> None:
    index = dataset.directory / INDEX_NAME
    data = index.read_bytes()
    for stale in (b"", data[:-8], data[:-1], data + bytes(8), data[8:] + data[:8], bytes(len(data))):
        index.write_bytes(stale)
        assert problem_of(dataset) == (INDEX_NAME, None, "its digest is not the manifest's.")
        text = f"it has {len(stale)} bytes, the manifest says {len(data)}."
        by_size = [] if len(stale) == len(data) else [(INDEX_NAME, None, text)]
        assert check_dataset(dataset, quick=True) == by_size
    index.unlink()
    dataset.shard_path(shards_of(dataset)[0]).unlink()
    for quick in (False, True):
        assert [problem.text for problem in check_dataset(dataset, quick=quick)] == ["the file is missing."] * 2


def test_a_quick_check_opens_no_file_but_the_manifest(dataset: Manifest) -> None:
    with opened_files() as opened:
        assert check_dataset(dataset, quick=True) == []
    assert [path for path in opened if path.startswith(str(dataset.directory))] == [
        str(dataset.directory / "dataset.json")
    ]


def test_a_shard_that_is_a_folder_can_t_be_read(dataset: Manifest) -> None:
    path = dataset.shard_path(shards_of(dataset)[0])
    path.unlink()
    path.mkdir()
    assert problem_of(dataset).text == "the file can't be read: Is a directory."


def test_a_problem_reads_as_a_line() -> None:
    assert str(Problem("a.tfrecord", 7, "cut.")) == "a.tfrecord: record 7: cut."
    assert str(Problem("a.tfrecord", None, "gone.")) == "a.tfrecord: gone."
