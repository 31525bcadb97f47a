"""What a damaged shard still holds: its valid records, and the keys that can be read in the bytes of the others.

valid = rescue(data, bounds, num_records=40, keyed=True)
identify_lost(data, valid, bounds, num_records=40, key_name=b"key")    # (LostRecord(record=17, key="dog/003.jpg"),)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import xxhash

from tfpipe.format.framing import FRAME_BYTES, valid_payload
from tfpipe.format.wire import varint
from tfpipe.maintenance.salvage import salvage


class LostRecord(NamedTuple):
    """A record that could not be saved.

    Attributes:
      record: its number in the shard; None if unknown.
      key: its key, if it can still be read in the damaged bytes; else None.
    """

    record: int | None
    key: str | None


class Extent(NamedTuple):
    """A range of a shard's bytes, such as the frame of a record."""

    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        """The length of the range."""
        return self.end - self.begin


@dataclass(frozen=True)
class ValidRecords:
    """The valid records of a shard.

    Attributes:
      extents: the bytes of each, in file order.
      lost_records: the numbers of records that are certainly lost; there may be more, of unknown numbers.
    """

    extents: list[Extent]
    lost_records: list[int]


def find_extents(data: bytes, *, begin: int = 0, end: int | None = None) -> list[Extent]:
    """The bytes of each valid record, whatever is between them."""
    found = salvage(data, begin=begin, end=end)
    return [Extent(offset, offset + FRAME_BYTES + len(payload)) for offset, payload in found]


def rescue(data: bytes, bounds: Sequence[int] | None, *, num_records: int, keyed: bool) -> ValidRecords:
    """The valid records of a shard, without the copies that damage made.

    Args:
      data: the shard as it is, decompressed.
      bounds: [num_records + 1] where its records began, and the last one ended; None if unknown.
      num_records: how many it should hold.
      keyed: no two records can be equal, since their keys differ.
    """
    if bounds is not None:
        return _rescue_by_index(data, bounds, keyed)
    return ValidRecords(_without_copies(data, find_extents(data), num_records, keyed), [])


def _rescue_by_index(data: bytes, bounds: Sequence[int], keyed: bool) -> ValidRecords:
    """The records at their original offsets, and between them those that the damage moved."""
    expected = [Extent(begin, end) for begin, end in pairwise(bounds)]
    fixed = [extent for extent in expected if valid_payload(data, begin=extent.begin, end=extent.end) is not None]
    lengths = Counter(extent.num_bytes for extent in expected)
    moved = [
        extent
        for gap in find_gaps(fixed, len(data))
        for extent in find_extents(data, begin=gap.begin, end=gap.end)
        if extent.num_bytes in lengths
    ]
    found = sorted([*fixed, *moved])
    kept = _without_copies(data, found, len(expected), keyed)
    has_copies = len(kept) < len(found)
    kept = _without_surplus(kept, set(fixed), lengths)
    in_place = set(kept) <= set(fixed) and not has_copies and len(data) == bounds[-1]
    return ValidRecords(kept, _certainly_lost(expected, kept, in_place))


def _without_surplus(extents: Sequence[Extent], fixed: set[Extent], lengths: Counter[int]) -> list[Extent]:
    """All records at their original offsets, and of the moved ones only as many of each length as are missing.

    A payload may itself hold a TFRecord file; its records are not the shard's.
    """
    room = lengths - Counter(extent.num_bytes for extent in extents if extent in fixed)
    kept = []
    for extent in extents:
        if extent not in fixed:
            room[extent.num_bytes] -= 1
        if extent in fixed or room[extent.num_bytes] >= 0:
            kept.append(extent)
    return kept


def _certainly_lost(expected: Sequence[Extent], kept: Sequence[Extent], in_place: bool) -> list[int]:
    """The numbers of records that are neither at their original offset nor, judging by their length, anywhere else.

    If records moved by the length of others, one at the offset of a record may be another record: only a length that
    no other record of the shard has proves which one is lost.
    """
    there = set(kept)
    moved = {extent.num_bytes for extent in there - set(expected)}
    lengths = Counter(extent.num_bytes for extent in expected)
    return [
        number
        for number, extent in enumerate(expected)
        if extent not in there
        and extent.num_bytes not in moved
        and (in_place or not there or lengths[extent.num_bytes] == 1)
    ]


def _without_copies(data: bytes, extents: Sequence[Extent], most: int, keyed: bool) -> list[Extent]:
    """The records without repeated ones, if keys make them unique or there are more than there should be."""
    surplus = len(extents) if keyed else max(0, len(extents) - most)
    seen: set[bytes] = set()
    kept = []
    for extent in extents:
        digest = _digest(data, extent)
        if digest in seen and surplus:
            surplus -= 1
            continue
        seen.add(digest)
        kept.append(extent)
    return kept


def _digest(data: bytes, extent: Extent) -> bytes:
    return xxhash.xxh3_128_digest(data[extent.begin : extent.end])


# ---- numbers and keys of lost records


def identify_lost(
    data: bytes, valid: ValidRecords, bounds: Sequence[int] | None, *, num_records: int, key_name: bytes | None
) -> tuple[LostRecord, ...]:
    """An entry for each record that was not rescued, with its number and key if they are known.

    Args:
      data: the shard as it is, decompressed.
      valid: what `rescue` found in it.
      bounds: as for `rescue`.
      num_records: how many the shard should hold.
      key_name: the name under which records store their key; None if they have none.
    """
    saved = {key for extent in valid.extents for key in find_keys(data, extent, key_name)}
    damaged = find_gaps(valid.extents, len(data))
    # In file order, each once.
    keys = dict.fromkeys(key for extent in damaged for key in find_keys(data, extent, key_name) if key not in saved)
    lost = []
    for number in valid.lost_records:
        begin, end = (bounds or ())[number : number + 2]
        key = next((key for key in find_keys(data, Extent(begin, end), key_name) if key in keys), None)
        keys.pop(key or "", None)
        lost.append(LostRecord(number, key))
    lost += [LostRecord(None, key) for key in keys]
    count = max(0, num_records - len(valid.extents))
    return tuple(lost[:count] + [LostRecord(None, None)] * (count - len(lost)))


def find_gaps(extents: Sequence[Extent], end: int) -> Iterator[Extent]:
    """Yields the ranges of a shard's bytes that belong to none of the records."""
    low = 0
    for extent in [*extents, Extent(end, end)]:
        if extent.begin > low:
            yield Extent(low, extent.begin)
        low = extent.end


def find_keys(data: bytes, extent: Extent, key_name: bytes | None) -> list[str]:
    """The keys that can be read in some bytes, whatever else of their records is damaged."""
    if key_name is None:
        return []
    # The map entry of the key: its name; then feature, list and value, each with its length of one or two bytes.
    size = rb"[\x80-\xff]?[\x00-\x7f]"
    head = re.escape(b"\x0a" + varint(len(key_name)) + key_name + b"\x12")
    keys = []
    for match in re.finditer(head + size + rb"\x0a" + size + rb"\x0a(" + size + rb")", data[extent.begin : extent.end]):
        low, *high = match[1]
        start = extent.begin + match.end()
        value = data[start : min(start + (low & 127 | (high[0] << 7 if high else 0)), extent.end)]
        keys += [key for key in (value.decode("utf-8", "ignore"),) if key and key.encode() == value]
    return keys
