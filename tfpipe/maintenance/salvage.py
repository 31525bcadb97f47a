"""The valid records of a damaged shard, whatever is around them.

A TFRecord header is the payload's length, uint64 little-endian, and the masked CRC-32C of those eight bytes. CRC-32C is
linear over XOR, so the CRCs at all bytes of a block come from eight table look-ups, without a loop over bytes.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator

import google_crc32c
import numpy as np

from tfpipe.format.framing import FRAME_BYTES, HEADER_BYTES, MASK_DELTA, valid_length, valid_payload

# Small enough for the arrays of one block to stay in the processor's cache.
_BLOCK_BYTES = 1 << 16


def salvage(data: bytes | mmap.mmap, *, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yields the offset and payload of every valid record between two bytes of a shard, whatever is around them.

    After damage, the search continues where the damaged record ends by its own length, if there is a header; else at
    the next valid header. Both CRCs of every yielded record match.
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
    """The offset of a chain of records that ends exactly at `stop`, where the damaged record ends by its own length.

    Such records follow one that lost as many bytes as they have. Returns `stop` if there are none. A TFRecord file
    inside the damaged payload is no such chain: it is followed by the payload's own CRC.
    """
    visited: set[int] = set()
    start = headers.next_from(offset + 1)
    while start < stop:
        position = start
        while position < stop and position not in visited:
            visited.add(position)
            length = valid_length(data[position : position + HEADER_BYTES])
            position = position if length is None else position + FRAME_BYTES + length
        if position == stop:
            return start
        start = headers.next_from(start + 1)
    return stop


class HeaderSearch:
    """Finds headers whose length matches its CRC, in the bytes before `end`, one block at a time."""

    def __init__(self, data: bytes | mmap.mmap, end: int) -> None:
        self._data, self._end = data, end
        self._low, self._high, self._found = 0, 0, np.zeros(0, np.int64)

    def next_from(self, offset: int) -> int:
        """The offset of the first valid header at or after this offset; the end if there is none."""
        while offset < self._end:
            if not self._low <= offset < self._high:
                self._search_block(offset)
            index = np.searchsorted(self._found, offset)
            if index < len(self._found):
                return int(self._found[index])
            offset = self._high
        return self._end

    def _search_block(self, low: int) -> None:
        self._low, self._high = low, min(low + _BLOCK_BYTES, self._end)
        block = np.frombuffer(self._data[low : min(self._high + HEADER_BYTES - 1, self._end)], np.uint8)
        self._found = low + _valid_headers(block, self._end - low)


def _valid_headers(block: np.ndarray, room: int) -> np.ndarray:
    """The offsets of all whole, valid headers in a block of bytes, of records of at most `room` bytes."""
    count = len(block) - HEADER_BYTES + 1
    if count < 1:
        return np.zeros(0, np.int64)
    # Views of the numbers that begin at every byte. No record is longer than its shard, so few offsets are candidates.
    lengths = np.ndarray(count, "<u8", block, strides=(1,))
    stored = np.ndarray(count, "<u4", block, offset=8, strides=(1,))
    # Zeros are common in shards, but are no header: the CRC of eight zeros is not zero.
    candidates = np.flatnonzero((lengths <= room) & ((lengths | stored) != 0))
    crc = np.full(len(candidates), google_crc32c.value(bytes(8)), np.uint32)
    for k in range((room.bit_length() + 7) // 8):  # the upper bytes of the length are zero and change nothing
        crc ^= _crc_tables()[k][block[candidates + k]]
    masked = (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(MASK_DELTA)
    return candidates[masked == stored[candidates]]


@functools.cache
def _crc_tables() -> np.ndarray:
    """[8, 256] uint32: what byte b at index k changes in the CRC of eight bytes."""
    zeros = google_crc32c.value(bytes(8))
    rows = [[google_crc32c.value(bytes(k) + bytes([b]) + bytes(7 - k)) ^ zeros for b in range(256)] for k in range(8)]
    return np.array(rows, np.uint32)
