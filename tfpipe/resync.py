"""Where in a damaged shard the next record begins: finds the headers whose length matches its CRC.

A TFRecord header is the payload's length, uint64 little-endian, and the masked CRC-32C of those eight bytes. CRC-32C is
linear over XOR, so that the CRCs at all places of a block come from eight table look-ups, without a loop over bytes.
"""

from __future__ import annotations

import functools
import mmap

import google_crc32c
import numpy as np

HEADER_BYTES = 12
MASK_DELTA = 0xA282EAD8

# The arrays of one block stay in the cache.
_BLOCK_BYTES = 1 << 16


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
