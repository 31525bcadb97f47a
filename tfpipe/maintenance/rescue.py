"""What a damaged shard still holds: its sound records, and the keys that the bytes of the others still show.

rescued = rescue(data, bounds, num_records=40, keyed=True)
name_lost(data, rescued, bounds, num_records=40, key_name=b"key")      # (Lost(record=17, key="dog/003.jpg"),)
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


class Lost(NamedTuple):
    """A record that could not be saved.

    Attributes:
      record: its number in the shard; None where it can't be told.
      key: its key, where the damaged bytes still show it; else None.
    """

    record: int | None
    key: str | None


class Place(NamedTuple):
    """Where a record's frame lies in a shard's bytes."""

    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        """The length of the frame."""
        return self.end - self.begin


@dataclass(frozen=True)
class Rescued:
    """The sound records of a shard.

    Attributes:
      places: where they lie, in their order.
      lost_records: the numbers of records that are surely lost; there may be more, of unknown numbers.
    """

    places: list[Place]
    lost_records: list[int]


def sound_places(data: bytes, *, begin: int = 0, end: int | None = None) -> list[Place]:
    """Where sound records lie, whatever lies between them."""
    found = salvage(data, begin=begin, end=end)
    return [Place(offset, offset + FRAME_BYTES + len(payload)) for offset, payload in found]


def rescue(data: bytes, bounds: Sequence[int] | None, *, num_records: int, keyed: bool) -> Rescued:
    """The sound records of a shard, without those that damage repeated.

    Args:
      data: the shard as it is, decompressed.
      bounds: [num_records + 1] where its records began, and the last one ended; None where that isn't known.
      num_records: how many it should hold.
      keyed: no two records can be equal, since their keys differ.
    """
    if bounds is not None:
        return _rescue_by_index(data, bounds, keyed)
    return Rescued(_without_copies(data, sound_places(data), num_records, keyed), [])


def _rescue_by_index(data: bytes, bounds: Sequence[int], keyed: bool) -> Rescued:
    """The records that stand where they should; and between those, what the damage moved."""
    expected = [Place(begin, end) for begin, end in pairwise(bounds)]
    fixed = [place for place in expected if valid_payload(data, begin=place.begin, end=place.end) is not None]
    lengths = Counter(place.num_bytes for place in expected)
    moved = [
        place
        for gap in bytes_between(fixed, len(data))
        for place in sound_places(data, begin=gap.begin, end=gap.end)
        if place.num_bytes in lengths
    ]
    found = sorted([*fixed, *moved])
    kept = _without_copies(data, found, len(expected), keyed)
    has_copies = len(kept) < len(found)
    kept = _without_surplus(kept, set(fixed), lengths)
    in_place = set(kept) <= set(fixed) and not has_copies and len(data) == bounds[-1]
    return Rescued(kept, _surely_lost(expected, kept, in_place))


def _without_surplus(places: Sequence[Place], fixed: set[Place], lengths: Counter[int]) -> list[Place]:
    """The records, and of those that moved only as many of a length as are missing.

    A payload may itself hold a TFRecord file; its records are not the shard's.
    """
    room = lengths - Counter(place.num_bytes for place in places if place in fixed)
    kept = []
    for place in places:
        if place not in fixed:
            room[place.num_bytes] -= 1
        if place in fixed or room[place.num_bytes] >= 0:
            kept.append(place)
    return kept


def _surely_lost(expected: Sequence[Place], kept: Sequence[Place], in_place: bool) -> list[int]:
    """The numbers of records that stand neither where they should nor, by their length, anywhere else.

    Where records moved by the length of others, one that stands in a record's place may be another: only a length that
    no other record of the shard has tells which is lost.
    """
    there = set(kept)
    moved = {place.num_bytes for place in there - set(expected)}
    lengths = Counter(place.num_bytes for place in expected)
    return [
        number
        for number, place in enumerate(expected)
        if place not in there
        and place.num_bytes not in moved
        and (in_place or not there or lengths[place.num_bytes] == 1)
    ]


def _without_copies(data: bytes, places: Sequence[Place], most: int, keyed: bool) -> list[Place]:
    """The records without repeated ones, where keys make them unique or there are more than there should be."""
    surplus = len(places) if keyed else max(0, len(places) - most)
    seen: set[bytes] = set()
    kept = []
    for place in places:
        digest = _digest(data, place)
        if digest in seen and surplus:
            surplus -= 1
            continue
        seen.add(digest)
        kept.append(place)
    return kept


def _digest(data: bytes, place: Place) -> bytes:
    return xxhash.xxh3_128_digest(data[place.begin : place.end])


# ---- names of what is lost


def name_lost(
    data: bytes, rescued: Rescued, bounds: Sequence[int] | None, *, num_records: int, key_name: bytes | None
) -> tuple[Lost, ...]:
    """An entry for each record that was not rescued, with its number and key where they can be told.

    Args:
      data: the shard as it is, decompressed.
      rescued: what `rescue` found in it.
      bounds: as for `rescue`.
      num_records: how many the shard should hold.
      key_name: the name under which records store their key; None where they have none.
    """
    saved = {key for place in rescued.places for key in keys_in(data, place, key_name)}
    damaged = bytes_between(rescued.places, len(data))
    # In the order in which they stand there, each once.
    keys = dict.fromkeys(key for place in damaged for key in keys_in(data, place, key_name) if key not in saved)
    lost = []
    for number in rescued.lost_records:
        begin, end = (bounds or ())[number : number + 2]
        key = next((key for key in keys_in(data, Place(begin, end), key_name) if key in keys), None)
        keys.pop(key or "", None)
        lost.append(Lost(number, key))
    lost += [Lost(None, key) for key in keys]
    count = max(0, num_records - len(rescued.places))
    return tuple(lost[:count] + [Lost(None, None)] * (count - len(lost)))


def bytes_between(places: Sequence[Place], end: int) -> Iterator[Place]:
    """The stretches of a shard's bytes that belong to none of the records."""
    low = 0
    for place in [*places, Place(end, end)]:
        if place.begin > low:
            yield Place(low, place.begin)
        low = place.end


def keys_in(data: bytes, place: Place, key_name: bytes | None) -> list[str]:
    """The keys that stand in some bytes, whatever else of their records is damaged."""
    if key_name is None:
        return []
    # The map entry of the key: its name; then feature, list and value, each with its length of one or two bytes.
    size = rb"[\x80-\xff]?[\x00-\x7f]"
    head = re.escape(b"\x0a" + varint(len(key_name)) + key_name + b"\x12")
    keys = []
    for match in re.finditer(head + size + rb"\x0a" + size + rb"\x0a(" + size + rb")", data[place.begin : place.end]):
        low, *high = match[1]
        start = place.begin + match.end()
        value = data[start : min(start + (low & 127 | (high[0] << 7 if high else 0)), place.end)]
        keys += [key for key in (value.decode("utf-8", "ignore"),) if key and key.encode() == value]
    return keys
