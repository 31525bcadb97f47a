"""Of N records, k damaged, at least N - k are saved, nothing else is, and lost records are named."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import files_of

from tfpipe import cli
from tfpipe.errors import DataError, UsageError
from tfpipe.format.framing import FRAME_BYTES, frame, scan, scan_bytes
from tfpipe.format.manifest import (
    INDEX_NAME,
    REJECTED_NAME,
    Manifest,
    Shard,
    Split,
    digest_bytes,
    load_manifest,
    save_manifest,
)
from tfpipe.format.schema import Feature, Schema
from tfpipe.format.wire import bytes_feature, int64_feature, pack_example, parse_example
from tfpipe.maintenance.check import check_dataset
from tfpipe.maintenance.repair import LostRecord, Repair, repair
from tfpipe.maintenance.rescue import rescue
from tfpipe.maintenance.salvage import salvage


def framed(*payloads: bytes) -> bytes:
    return b"".join(chunk for payload in payloads for chunk in frame([payload]))


def payloads_of(data: bytes) -> list[bytes]:
    return [payload for _, payload in salvage(data)]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def dataset(raw_dataset: Manifest, tmp_path: Path) -> Manifest:
    """A dataset of several shards, that a test may damage."""
    return load_manifest(shutil.copytree(raw_dataset.directory, tmp_path / "copy"))


def shards_of(manifest: Manifest) -> list[Shard]:
    return [shard for split in manifest.splits.values() for shard in split.shards]


def records_of(manifest: Manifest, shard: Shard) -> list[bytes]:
    """The frames of a valid shard."""
    data = manifest.shard_path(shard).read_bytes()
    starts = [*(record.offset for record in scan_bytes(data)), len(data)]
    return [data[low:high] for low, high in pairwise(starts)]


def key_of(framed_record: bytes) -> str:
    (payload,) = payloads_of(framed_record)
    return bytes(parse_example(payload)["key"][0]).decode()


def keys_of(manifest: Manifest) -> list[str]:
    return [
        bytes(parse_example(record.data)["key"][0]).decode()
        for shard in shards_of(manifest)
        for record in scan(manifest.shard_path(shard))
    ]


def assert_valid(repaired: Repair) -> None:
    """The new dataset passes check, and counts what it holds."""
    manifest = repaired.manifest
    assert check_dataset(manifest) == []
    for split in manifest.splits.values():
        labels = Counter(
            int(parse_example(record.data)["label_int"][0])
            for shard in split.shards
            for record in scan(manifest.shard_path(shard))
        )
        assert split.class_counts == tuple(labels[number] for number in range(len(manifest.class_names)))


# ---- salvage

DAMAGES = ("length", "length_crc", "payload", "payload_crc", "cut_inside", "insert", "overwrite")


def damage(record: bytes, kind: str, rng: random.Random) -> bytes:
    """A record damaged in one way; it is never left valid."""
    end = len(record)
    low, high = {
        "length": (0, 8),
        "length_crc": (8, 12),
        "payload": (12, end - 4) if end > FRAME_BYTES else (0, 12),
        "payload_crc": (end - 4, end),
    }.get(kind, (0, end))
    if kind == "cut_inside":
        start = rng.randrange(end - 1)
        return record[:start] + record[rng.randrange(start + 1, end) :]
    index = rng.randrange(low, high)
    if kind == "insert":
        index = max(index, 1)
        return record[:index] + rng.randbytes(rng.randrange(1, 40)) + record[index:]
    if kind == "overwrite":
        return record[:index] + bytes(byte ^ rng.randrange(1, 256) for byte in record[index:])
    return flipped(record, 8 * index + rng.randrange(8))


@settings(max_examples=300)
@given(st.data())
def test_of_k_damaged_records_all_others_are_saved_and_nothing_else(draw: st.DataObject) -> None:
    sizes = draw.draw(st.lists(st.sampled_from([0, 1, 7, 40, 40, 300, 70_000]), min_size=1, max_size=25))
    rng = random.Random(draw.draw(st.integers(0, 2**32)))
    payloads = [rng.randbytes(size) for size in sizes]
    records = [framed(payload) for payload in payloads]
    chosen = draw.draw(st.sets(st.integers(0, len(records) - 1)))
    for number in chosen:
        records[number] = damage(records[number], draw.draw(st.sampled_from(DAMAGES)), rng)
    junk = draw.draw(st.sampled_from([b"", b"", b"\x00" * 9, b"junk", rng.randbytes(100)]))
    index = rng.randrange(len(records) + 1)
    data = b"".join([*records[:index], junk, *records[index:]])
    found = list(salvage(data))
    whole = Counter(payload for number, payload in enumerate(payloads) if number not in chosen)
    assert not whole - Counter(payload for _, payload in found)  # N - k
    assert {payload for _, payload in found} <= set(payloads)
    assert all(data[offset:].startswith(framed(payload)) for offset, payload in found)
    offsets = [offset for offset, _ in found]
    assert offsets == sorted(offsets)


@settings(max_examples=300)
@given(st.data())
def test_with_the_offsets_known_the_same_holds_and_the_lost_numbers_are_right(draw: st.DataObject) -> None:
    rng = random.Random(draw.draw(st.integers(0, 2**32)))
    sizes = draw.draw(st.lists(st.sampled_from([1, 40, 40, 300]), min_size=1, max_size=20))
    payloads = [bytes([number]) + rng.randbytes(size) for number, size in enumerate(sizes)]
    records = [framed(payload) for payload in payloads]
    bounds = [0]
    for record in records:
        bounds.append(bounds[-1] + len(record))
    chosen = draw.draw(st.sets(st.integers(0, len(records) - 1)))
    kinds = set()
    for number in chosen:
        kind = draw.draw(st.sampled_from([*DAMAGES, "remove"]))
        kinds.add(kind)
        records[number] = b"" if kind == "remove" else damage(records[number], kind, rng)
    repeated = draw.draw(st.sets(st.integers(0, len(records) - 1), max_size=2))
    for number in repeated:
        records[number] *= 2
    data = b"".join(records)
    valid = rescue(data, bounds, num_records=len(payloads), keyed=True)
    found = [data[extent.begin + 12 : extent.end - 4] for extent in valid.extents]
    assert sorted(found) == [payload for number, payload in enumerate(payloads) if number not in chosen]
    # A record is removed and as many bytes inserted elsewhere: between them, each may be at the offset of the next.
    assert set(valid.lost_records) <= chosen or ("remove" in kinds and ("insert" in kinds or repeated & chosen))


def test_a_record_at_every_offset_is_found_behind_damage_of_every_length() -> None:
    payload = b"the record behind the damage"
    for junk in (bytes(1), bytes(11), bytes(65_535), bytes(65_540), b"\xff" * 131_071):
        assert payloads_of(junk + framed(payload)) == [payload]


def test_cut_anywhere_all_whole_records_before_the_cut_are_saved() -> None:
    payloads = [b"first", b"", b"the third record", bytes(50)]
    data = framed(*payloads)
    ends = [len(framed(*payloads[:n])) for n in range(5)]
    for end in range(len(data) + 1):
        assert payloads_of(data[:end]) == payloads[: sum(stop <= end for stop in ends) - 1]


def test_records_behind_one_that_lost_as_many_bytes_as_they_have_are_saved() -> None:
    payloads = [random.Random(0).randbytes(100), b"second", b"third", b"fourth"]
    first = framed(payloads[0])
    gap = len(framed(*payloads[1:3]))
    assert payloads_of(first[:20] + first[20 + gap :] + framed(*payloads[1:])) == payloads[1:]


def test_a_tfrecord_file_inside_a_payload_is_not_mistaken_for_records_if_the_offsets_are_known() -> None:
    inner = framed(b"a", b"bb", b"ccc")
    payloads = [b"first", inner, b"third"]
    records = [framed(payload) for payload in payloads]
    data = records[0] + flipped(records[1], 3) + records[2]
    bounds = [0, len(records[0]), len(records[0] + records[1]), len(data)]
    valid = rescue(data, bounds, num_records=3, keyed=True)
    assert [data[extent.begin : extent.end] for extent in valid.extents] == [records[0], records[2]]
    assert valid.lost_records == [1]


@pytest.mark.parametrize("with_index", [True, False])
def test_a_repeated_record_of_the_same_length_replaces_no_other(with_index: bool) -> None:
    records = [framed(b"record %d" % number) for number in range(6)]
    bounds = [len(records[0]) * number for number in range(7)] if with_index else None
    repeated = [*records[:3], records[2], *records[3:]]

    def saved(changed: list[bytes], *, keyed: bool) -> list[bytes]:
        data = b"".join(changed)
        found = rescue(data, bounds, num_records=6, keyed=keyed).extents
        return [data[extent.begin : extent.end] for extent in found]

    for keyed in (True, False):
        assert saved(repeated, keyed=keyed) == records
        assert saved([records[0], *repeated], keyed=keyed) == records
    # Repeated and removed: only keys show that the copy is not another record.
    assert saved([*repeated[:5], records[5]], keyed=True) == [*records[:4], records[5]]
    twins = [records[0], records[0], *records[2:]]
    assert saved([*twins[:5], flipped(records[5], 3)], keyed=False) == twins[:5]


def test_salvage_takes_linear_time_whatever_is_damaged() -> None:
    records = [framed(random.Random(n).randbytes(100)) for n in range(20_000)]
    seconds = []
    for count in (5_000, 20_000):
        data = b"".join(b"\xff" + record[1:] if n % 2 else record for n, record in enumerate(records[:count]))
        started = time.process_time()
        assert len(payloads_of(data)) >= count // 2
        seconds.append(time.process_time() - started)
    assert seconds[1] < 12 * seconds[0] + 0.1  # 4 if linear, 16 if quadratic


def test_bytes_that_are_no_shard_contain_no_records() -> None:
    for data in (b"", b"x", bytes(15), bytes(100_000), random.Random(0).randbytes(200_000)):
        assert payloads_of(data) == []


# ---- datasets


def test_a_valid_dataset_is_linked_and_nothing_is_lost(dataset: Manifest, tmp_path: Path) -> None:
    before = files_of(dataset.directory)
    repaired = repair(dataset.directory, tmp_path / "new")
    assert (repaired.shards, repaired.num_lost) == ((), 0)
    assert repaired.manifest.splits == dataset.splits
    assert all(dataset.shard_path(s).samefile(repaired.manifest.shard_path(s)) for s in shards_of(dataset))
    assert (tmp_path / "new" / INDEX_NAME).read_bytes() == before[INDEX_NAME]
    assert (tmp_path / "new" / REJECTED_NAME).read_bytes() == before[REJECTED_NAME]
    assert_valid(repaired)
    assert files_of(dataset.directory) == before


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("with_index", [True, False])
def test_damaged_records_are_lost_and_named_and_the_others_saved(
    dataset: Manifest, tmp_path: Path, kind: str, with_index: bool
) -> None:
    shard = max(shards_of(dataset), key=lambda shard: shard.num_records)
    records = records_of(dataset, shard)
    keys = [key_of(record) for record in records]
    rng = random.Random(kind)
    chosen = {1, shard.num_records - 1}
    all_keys = set(keys_of(dataset))
    damaged = [damage(record, kind, rng) if number in chosen else record for number, record in enumerate(records)]
    dataset.shard_path(shard).write_bytes(b"".join(damaged))
    if not with_index:
        (dataset.directory / INDEX_NAME).unlink()
    before = files_of(dataset.directory)
    repaired = repair(dataset.directory, tmp_path / "new")
    assert files_of(dataset.directory) == before
    assert_valid(repaired)
    assert repaired.num_lost == len(all_keys) - repaired.manifest.num_records() <= 2
    (report,) = repaired.shards
    assert (report.path, report.num_saved) == (shard.path, shard.num_records - len(report.lost))
    assert set(keys_of(repaired.manifest)) == all_keys - {keys[number] for number in chosen}
    if with_index and kind in ("length", "length_crc", "payload_crc"):
        assert report.lost == tuple(LostRecord(number, keys[number]) for number in sorted(chosen))
    assert {lost.key for lost in report.lost} <= {None, *(keys[number] for number in chosen)} or kind in (
        "payload",
        "overwrite",
        "insert",
        "cut_inside",
    )
    assert repaired.manifest.made_by["repaired"]["lost"] == 2


def test_removed_repeated_moved_records_and_junk_are_put_right(dataset: Manifest, tmp_path: Path) -> None:
    shard = max(shards_of(dataset), key=lambda shard: shard.num_records)
    records = records_of(dataset, shard)
    keys = [key_of(record) for record in records]
    others = set(keys_of(dataset)) - set(keys)
    cases = [
        (records[:2] + records[3:], {2}),
        ([*records[:3], records[2], *records[3:]], set()),
        ([*records, records[0]], set()),
        ([records[1], records[0], *records[2:]], set()),
        ([*records[:1], records[0], *records[2:]], {1}),
        ([*records[:2], b"junk between", *records[2:]], set()),
        ([*records, bytes(4096)], set()),
        ([bytes(7), *records], set()),
        (records[:-1], {len(records) - 1}),
        ([], set(range(len(records)))),
    ]
    for number, (changed, lost) in enumerate(cases):
        dataset.shard_path(shard).write_bytes(b"".join(changed))
        repaired = repair(dataset.directory, tmp_path / f"new{number}")
        assert_valid(repaired)
        saved = keys_of(repaired.manifest)
        assert Counter(saved) == Counter(others | {key for n, key in enumerate(keys) if n not in lost}), number
        (report,) = repaired.shards
        assert len(report.lost) == repaired.num_lost == len(lost)
        assert {one.record for one in report.lost} <= lost | {None}


def test_of_a_missing_shard_all_records_are_lost(dataset: Manifest, tmp_path: Path) -> None:
    shard = shards_of(dataset)[0]
    dataset.shard_path(shard).unlink()
    repaired = repair(dataset.directory, tmp_path / "new")
    (report,) = repaired.shards
    assert report.problem == f"{shard.path}: the file is missing."
    assert report.lost == tuple(LostRecord(number, None) for number in range(shard.num_records))
    assert shard.path not in {new.path for new in shards_of(repaired.manifest)}
    assert_valid(repaired)


def test_a_stale_index_is_rebuilt(dataset: Manifest, tmp_path: Path) -> None:
    original = (dataset.directory / INDEX_NAME).read_bytes()
    (dataset.directory / INDEX_NAME).write_bytes(bytes(len(original)))
    repaired = repair(dataset.directory, tmp_path / "new")
    assert (tmp_path / "new" / INDEX_NAME).read_bytes() == original
    assert repaired.shards == ()
    assert_valid(repaired)


def test_a_repaired_dataset_is_read(dataset: Manifest, tmp_path: Path) -> None:
    from tfpipe.reader.dataset import make_dataset

    path = dataset.shard_path(dataset.split("train").shards[0])
    path.write_bytes(flipped(path.read_bytes(), 8))
    manifest = repair(dataset.directory, tmp_path / "new").manifest
    batches = make_dataset(manifest, batch_size=1, image_size=(8, 8), labels=None)
    assert len({batch["key"][0].numpy() for batch in batches}) == manifest.num_records("train")


# ---- compressed shards


def gzip_dataset(folder: Path, data: bytes, num_records: int) -> Manifest:
    folder.mkdir()
    (folder / "train.tfrecord.gz").write_bytes(data)
    shard = Shard("train.tfrecord.gz", num_records, len(data), digest_bytes(data), None, "GZIP")
    features = (Feature("key", "string"), Feature("label_int", "int64"))
    manifest = Manifest(Schema("raw", features), {"train": Split((shard,), (num_records,))}, ("one",))
    save_manifest(manifest, folder)
    return load_manifest(folder)


def test_of_a_compressed_shard_all_before_the_damage_is_saved(tmp_path: Path) -> None:
    rng = random.Random(0)
    payloads = [
        b"".join(pack_example({"key": bytes_feature(rng.randbytes(5000)), "label_int": int64_feature([0])}))
        for _ in range(40)
    ]
    data = gzip.compress(framed(*payloads))
    manifest = gzip_dataset(tmp_path / "old", data, 40)
    assert check_dataset(manifest) == []
    path = manifest.shard_path(shards_of(manifest)[0])
    for number, changed in enumerate((data[: len(data) // 2], data[:-3], data[:-8] + bytes(8), data + b"junk")):
        path.write_bytes(changed)
        (problem,) = check_dataset(manifest)
        assert problem.record == (len(list(salvage(framed(*payloads)[: len(changed)]))) if number == 0 else 40)
        repaired = repair(tmp_path / "old", tmp_path / f"new{number}")
        (shard,) = shards_of(repaired.manifest)
        assert repaired.num_lost == (40 - shard.num_records if number == 0 else 0)
        assert shard.num_records >= (19 if number == 0 else 40)
        assert (shard.compression, check_dataset(repaired.manifest)) == ("GZIP", [])
        kept = gzip.decompress(repaired.manifest.shard_path(shard).read_bytes())
        assert payloads_of(kept) == payloads[: shard.num_records]


# ---- files without a manifest


def test_files_without_a_manifest_are_salvaged_and_adopted(dataset: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for shard in dataset.split("train").shards[:2]:
        shutil.copy(dataset.shard_path(shard), folder)
    first, second = sorted(folder.iterdir())
    records = records_of(dataset, Shard(str(first), 0, 0, "", 0))
    first.write_bytes(flipped(first.read_bytes(), 0))
    repaired = repair(f"{folder}/*", tmp_path / "new")
    assert [(report.path, report.lost) for report in repaired.shards] == [
        (first.name, (LostRecord(None, key_of(records[0])),))
    ]
    assert repaired.manifest.num_records() == len(records) - 1 + len(list(scan(second)))
    assert check_dataset(repaired.manifest) == []


# ---- refusals and the command line


def test_the_output_must_be_empty_and_something_must_be_saved(dataset: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not empty: a repaired dataset is written into a new folder"):
        repair(dataset.directory, dataset.directory)
    with pytest.raises(FileNotFoundError, match="No manifest"):
        repair(tmp_path / "nothing", tmp_path / "new")
    for shard in shards_of(dataset):
        dataset.shard_path(shard).write_bytes(b"")
    with pytest.raises(DataError, match=r"No record of .* can be saved; .*it holds 0 records"):
        repair(dataset.directory, tmp_path / "new")


def run_tfpipe(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["tfpipe", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_verb_says_what_is_lost(dataset: Manifest, tmp_path: Path, monkeypatch, capsys) -> None:
    shard = shards_of(dataset)[0]
    path, key = dataset.shard_path(shard), key_of(records_of(dataset, shards_of(dataset)[0])[0])
    assert run_tfpipe(monkeypatch, "repair", dataset.directory, "--output", tmp_path / "sound") == 0
    assert "No shard was damaged." in capsys.readouterr().out
    path.write_bytes(flipped(path.read_bytes(), 8 * 9))
    assert run_tfpipe(monkeypatch, "repair", dataset.directory, "--output", tmp_path / "new") == 1
    out = capsys.readouterr().out
    assert f"{tmp_path / 'new'}: {dataset.num_records() - 1} records saved, 1 lost" in out
    assert f"Lost: {shard.path}: record 0, {key}" in out
    assert run_tfpipe(monkeypatch, "repair", dataset.directory, "--output", tmp_path / "json", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["lost"], document["records"]) == (1, dataset.num_records() - 1)
    assert document["shards"][0]["lost"] == [{"record": 0, "key": key}]
