"""Single records by their place or key, from plain and compressed shards."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tfpipe.errors import DataError, UsageError
from tfpipe.format.lookup import Place, find_key, list_shards, place_of_index, read_record, scan_records
from tfpipe.format.manifest import Manifest, Split
from tfpipe.format.wire import parse_example


def key_at(manifest: Manifest, place: Place) -> str:
    return parse_example(read_record(manifest, place))["key"][0].decode()


def all_places(manifest: Manifest) -> list[Place]:
    return [
        Place(split, at, number) for split, at, shard in list_shards(manifest) for number in range(shard.num_records)
    ]


def test_every_record_is_found_by_its_key_and_by_its_number(raw_dataset: Manifest) -> None:
    places = all_places(raw_dataset)
    keys = [key_at(raw_dataset, place) for place in places]
    assert len(set(keys)) == raw_dataset.num_records()
    for index, (key, place) in enumerate(zip(keys, places, strict=True)):
        assert find_key(raw_dataset, key) == place
        assert place_of_index(raw_dataset, index) == place
    of_test = [place for place in places if place.split == "test"]
    found = [place_of_index(raw_dataset, index, split="test") for index in range(len(of_test))]
    assert found == of_test


def test_what_is_not_there_is_refused(raw_dataset: Manifest) -> None:
    with pytest.raises(UsageError, match="has the key 'cat/0'"):  # the beginning of a key
        find_key(raw_dataset, "cat/0")
    with pytest.raises(UsageError, match="The key is 3; it takes a text, such as"):
        find_key(raw_dataset, 3)
    with pytest.raises(UsageError, match="No record 42: the dataset has 42, from 0 on"):
        place_of_index(raw_dataset, 42)
    with pytest.raises(UsageError, match="No record -1: split 'test' has"):
        place_of_index(raw_dataset, -1, split="test")
    schema = raw_dataset.schema.select(("image", "label"))
    with pytest.raises(UsageError, match="have no keys"):
        find_key(replace(raw_dataset, schema=schema), "cat/000.jpg")


def test_a_damaged_record_is_named(raw_dataset: Manifest, tmp_path: Path) -> None:
    manifest = replace(raw_dataset, directory=shutil.copytree(raw_dataset.directory, tmp_path / "out"))
    shard = manifest.split("train").shards[0]
    path = tmp_path / "out" / shard.path
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{shard.path}: record {shard.num_records - 1} is damaged"):
        read_record(manifest, Place("train", 0, shard.num_records - 1))
    assert len(list(scan_records(manifest, shard))) == shard.num_records - 1


def test_compressed_shards_are_read_from_their_beginning(raw_dataset: Manifest, tmp_path: Path) -> None:
    splits = {}
    for name, split in raw_dataset.splits.items():
        shards = []
        for shard in split.shards:
            packed = gzip.compress((raw_dataset.directory / shard.path).read_bytes())
            (tmp_path / shard.path).write_bytes(packed)
            shards.append(replace(shard, index_start=None, compression="GZIP", num_bytes=len(packed)))
        splits[name] = Split(tuple(shards), split.class_counts)
    manifest = replace(raw_dataset, splits=splits, directory=tmp_path)
    for place in all_places(raw_dataset)[::5]:
        assert read_record(manifest, place) == read_record(raw_dataset, place)
