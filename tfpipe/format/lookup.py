"""Single serialized records, by their place or their key; without TensorFlow.

place = find_key(manifest, "cat/001.jpg")
serialized = read_record(manifest, place)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from tfpipe.errors import DataError, UsageError
from tfpipe.format.compressed import scan_shard
from tfpipe.format.framing import FOOTER_BYTES, HEADER_BYTES, DamagedRecord, valid_length, valid_payload
from tfpipe.format.manifest import Manifest, Shard
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.storage import local_copy


class Place(NamedTuple):
    """Where a record is: its split, the number of its shard in that split, and its own number in that shard."""

    split: str
    shard: int
    number: int


def list_shards(manifest: Manifest) -> list[tuple[str, int, Shard]]:
    """Every shard with the name of its split and its number there, in the order of the splits."""
    return [(name, at, shard) for name, split in manifest.splits.items() for at, shard in enumerate(split.shards)]


def place_of_index(manifest: Manifest, index: int, *, split: str | None = None) -> Place:
    """The place of a record by its number in a split, or over all splits.

    Raises:
      UsageError: there is none of that number.
    """
    rest = index
    for name, at, shard in list_shards(manifest):
        if split in (None, name):
            if 0 <= rest < shard.num_records:
                return Place(name, at, rest)
            rest -= shard.num_records
    where = f"split {split!r}" if split else "the dataset"
    raise UsageError(f"No record {index}: {where} has {manifest.num_records(split):,}, from 0 on.")


def find_key(manifest: Manifest, key: str) -> Place:
    """The place of the record with a key; the shards are read until it is found.

    Raises:
      UsageError: it is no text, no record has it, or the dataset's records have no keys.
    """
    if not isinstance(key, str):
        raise UsageError(f"The key is {key!r}; it takes a text, such as 'cat/001.jpg'.")
    if "key" not in manifest.schema:
        raise UsageError(f"The records of {manifest.directory} have no keys; name one by its number.")
    name, coded = manifest.schema["key"].stored_name, key.encode("utf-8", "surrogateescape")
    for split, at, shard in list_shards(manifest):
        for number, data in enumerate(scan_records(manifest, shard)):
            # Parsing each record would take ten times as long.
            if coded in data and _has_value(data, name, coded):
                return Place(split, at, number)
    raise UsageError(f"No record of {manifest.directory} has the key {key!r}; tfpipe show DATASET --index 0 shows one.")


def _has_value(data: bytes, name: str, value: bytes) -> bool:
    try:
        return list(parse_example(data).get(name, ())) == [value]
    except NotAnExample:
        return False


def read_record(manifest: Manifest, place: Place) -> bytes:
    """The serialized record at a place.

    Raises:
      DataError: it is damaged.
    """
    for _, data in read_records(manifest, place.split, place.shard, [place.number]):
        return data
    path = manifest.shard_path(manifest.split(place.split).shards[place.shard])
    raise DataError(f"{path}: record {place.number} is damaged; tfpipe repair saves the other records.")


def read_records(manifest: Manifest, split: str, shard: int, numbers: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yields (number, serialized) of some records of a shard, without those that are damaged."""
    one = manifest.split(split).shards[shard]
    if one.compression is not None or one.index_start is None:
        yield from ((at, data) for at, data in enumerate(scan_records(manifest, one)) if at in numbers)
        return
    offsets = manifest.offsets(split)[shard]
    with manifest.shard_path(one).open("rb") as file:
        for number in sorted(numbers):
            file.seek(int(offsets[number]))
            header = file.read(HEADER_BYTES)
            payload = valid_payload(header + file.read((valid_length(header) or 0) + FOOTER_BYTES))
            if payload is not None:
                yield number, payload


def scan_records(manifest: Manifest, shard: Shard) -> Iterator[bytes]:
    """Yields the serialized records of a shard, up to the first that is damaged."""
    with local_copy(manifest.shard_path(shard)) as path:
        try:
            yield from (bytes(record.data) for record in scan_shard(path, shard.compression))
        except DamagedRecord:
            return
