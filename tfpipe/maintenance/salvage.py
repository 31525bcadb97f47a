"""The records that a damaged shard still holds, whatever is around them.

A TFRecord header is the payload's length, uint64 little-endian, and the masked CRC-32C of those eight bytes. CRC-32C is
linear over XOR, so that the CRCs at every byte of a block come from eight table look-ups, without a loop over bytes.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator

import google_crc32c
import numpy as np

from tfpipe.format.framing import FRAME_BYTES, HEADER_BYTES, MASK_DELTA, valid_length, valid_payload

# The arrays of one block stay in the cache.
_BLOCK_BYTES = 1 << 16


def salvage(data: bytes | mmap.mmap, *, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yields the offset and payload of every sound record between two bytes of a shard, whatever lies around them.

    Behind damage it goes on where the damaged record says that it ends, if a header stands there; else at the next
    byte where a sound header stands. Both CRCs of what is yielded are checked.
    """
    end = len(data) if end is None else end
    headers = HeaderSearch(data, end)
    offset = begin
    while offset + FRAME_BYTES <= end:
        length = valid_length(data[offset : offset + HEADER_BYTES])
        follows = end + 1 if length is None else offset + FRAME_BYTES + length
        payload = valid_payload(data, begin=offset, end=follows) if follows <= end else None
        if payload is not None:
            yield offset, payload
            offset = follows
        elif follows == end or (follows < end and valid_length(data[follows : follows + HEADER_BYTES]) is not None):
            offset = _chain_start(data, headers, offset, follows)
        else:
            offset = headers.next_from(offset + 1)


def _chain_start(data: bytes | mmap.mmap, headers: HeaderSearch, offset: int, stop: int) -> int:
    """Where records begin that end exactly where the damaged record at the offset says that it ends; else there.

    Such records follow one that lost as many bytes as they have. A TFRecord file inside the damaged payload is none of
    them: the payload's own CRC comes behind it.
    """
    visited: set[int] = set()
    start = headers.next_from(offset + 1)
    while start < stop:
        at = start
        while at < stop and at not in visited:
            visited.add(at)
            length = valid_length(data[at : at + HEADER_BYTES])
            at = at if length is None else at + FRAME_BYTES + length
        if at == stop:
            return start
        start = headers.next_from(start + 1)
    return stop


class HeaderSearch:
    """Finds headers whose length matches its CRC, in the bytes before `end`, a block at a time."""

    def __init__(self, data: bytes | mmap.mmap, end: int) -> None:
        self._data, self._end = data, end
        self._low, self._high, self._found = 0, 0, np.zeros(0, np.int64)

    def next_from(self, offset: int) -> int:
        """The first offset from this one on at which a sound header stands; the end where there is none."""
        while offset < self._end:
            if not self._low <= offset < self._high:
                self._search_block(offset)
            place = np.searchsorted(self._found, offset)
            if place < len(self._found):
                return int(self._found[place])
            offset = self._high
        return self._end

    def _search_block(self, low: int) -> None:
        self._low, self._high = low, min(low + _BLOCK_BYTES, self._end)
        block = np.frombuffer(self._data[low : min(self._high + HEADER_BYTES - 1, self._end)], np.uint8)
        self._found = low + _sound_headers(block, self._end - low)


def _sound_headers(block: np.ndarray, room: int) -> np.ndarray:
    """The offsets in a block of bytes at which a whole, sound header stands, of a record that fits into the room."""
    count = len(block) - HEADER_BYTES + 1
    if count < 1:
        return np.zeros(0, np.int64)
    # Views of what stands at every byte. No record is longer than its shard: that leaves few places to look at.
    lengths = np.ndarray(count, "<u8", block, strides=(1,))
    stored = np.ndarray(count, "<u4", block, offset=8, strides=(1,))
    # Zeros are common in shards, and no header: the CRC of eight zeros is not zero.
    places = np.flatnonzero((lengths <= room) & ((lengths | stored) != 0))
    crc = np.full(len(places), google_crc32c.value(bytes(8)), np.uint32)
    for k in range((room.bit_length() + 7) // 8):  # the upper bytes of the length are zero, and change nothing
        crc ^= _crc_tables()[k][block[places + k]]
    masked = (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(MASK_DELTA)
    return places[masked == stored[places]]


@functools.cache
def _crc_tables() -> np.ndarray:
    """[8, 256] uint32: what byte b at place k changes in the CRC of eight bytes; the CRC is linear over XOR."""
    zeros = google_crc32c.value(bytes(8))
    rows = [[google_crc32c.value(bytes(k) + bytes([b]) + bytes(7 - k)) ^ zeros for b in range(256)] for k in range(8)]
    return np.array(rows, np.uint32)
