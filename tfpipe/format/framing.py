"""TFRecord framing, written and read without TensorFlow, with the same bytes.

A record is framed as length (uint64 little-endian), masked CRC-32C of the length, the payload, masked CRC-32C of the
payload. The payload is a serialized tf.train.Example; see wire.py.

Large values are never copied: a record is a list of byte chunks, in which an image is the bytes object that was read.

    file.write(b"".join(frame(pack_example({"image": bytes_feature(jpeg), "label_int": int64_feature([3])}))))
    for record in scan(path):
        parse_example(record.data)["label_int"]     # [3]
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from tfpipe.errors import DataError

Chunks = list[bytes]

HEADER_BYTES, FOOTER_BYTES = 12, 4
FRAME_BYTES = HEADER_BYTES + FOOTER_BYTES

MASK_DELTA = 0xA282EAD8

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<QI")
# Below this size copying is faster than passing on another chunk.
SMALL_BYTES = 1024


class DamagedRecord(DataError):
    """A shard contains bytes that are not a valid record.

    Attributes:
      path: the shard's file.
      number: how many valid records precede the damage.
      offset: the byte at which the damaged record begins.
    """

    def __init__(self, path: str, number: int, offset: int, what: str) -> None:
        super().__init__(f"{path}: record {number} at byte {offset}: {what}.")
        self.path, self.number, self.offset, self.what = path, number, offset, what

    def __reduce__(self) -> tuple[type, tuple[str, int, int, str]]:
        return DamagedRecord, (self.path, self.number, self.offset, self.what)


class Record(NamedTuple):
    """One record of a shard: the byte where its frame begins, and its payload."""

    offset: int
    data: bytes


def masked_crc(chunks: Iterable[bytes]) -> int:
    """The CRC-32C of the chunks' bytes, rotated and offset as TFRecord stores it."""
    crc = 0
    for chunk in chunks:
        crc = google_crc32c.extend(crc, chunk)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def frame(payload: Sequence[bytes]) -> Chunks:
    """The chunks of one TFRecord frame around a payload, which has at least one chunk.

    A large value at the payload's end is not copied: the last checksum becomes a separate chunk.
    """
    length = _LENGTH.pack(sum(map(len, payload)))
    chunks = [length + _CRC.pack(masked_crc((length,))) + payload[0], *payload[1:]]
    footer = _CRC.pack(masked_crc(payload))
    if len(chunks[-1]) < SMALL_BYTES:
        chunks[-1] += footer
    else:
        chunks.append(footer)
    return chunks


def scan(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yields every record of an uncompressed shard in file order, after checking both CRCs.

    Raises:
      DamagedRecord: at the first byte that is not part of a valid record, after all records before it.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from scan_bytes(data, path=os.fspath(path))


def scan_bytes(data: bytes | mmap.mmap, *, path: str = "<bytes>") -> Iterator[Record]:
    """Yields every record of a shard's bytes; `path` is used in errors only. See scan."""
    offset, number, end = 0, 0, len(data)
    while offset < end:
        length = _record_length(data, offset, number, path)
        begin = offset + HEADER_BYTES
        payload = data[begin : begin + length]
        if not matches_crc(payload, data[begin + length : begin + length + FOOTER_BYTES]):
            raise DamagedRecord(path, number, offset, f"the {length} bytes of its payload do not match their CRC")
        yield Record(offset, payload)
        offset = begin + length + FOOTER_BYTES
        number += 1


def _record_length(data: bytes | mmap.mmap, offset: int, number: int, path: str) -> int:
    """The payload's length, if the header is complete and matches its CRC, and the frame fits into the file."""
    end = len(data)
    if offset + FRAME_BYTES > end:
        raise DamagedRecord(path, number, offset, f"the file ends {end - offset} bytes into the record")
    length, stored = _HEADER.unpack_from(data, offset)
    if stored != masked_crc((data[offset : offset + 8],)):
        raise DamagedRecord(path, number, offset, "its length does not match its CRC")
    if offset + FRAME_BYTES + length > end:
        raise DamagedRecord(
            path, number, offset, f"it should take {FRAME_BYTES + length} bytes, the file ends after {end - offset}"
        )
    return length


def valid_length(header: bytes) -> int | None:
    """The payload's length by a record's header; None if it does not match its CRC, or the header is cut."""
    if len(header) < HEADER_BYTES:
        return None
    length, stored = _HEADER.unpack_from(header)
    return length if stored == masked_crc((header[:8],)) else None


def matches_crc(payload: bytes, footer: bytes) -> bool:
    """Whether a payload has the CRC in the footer that follows it."""
    return footer == _CRC.pack(masked_crc((payload,)))


def valid_payload(data: bytes | mmap.mmap, *, begin: int = 0, end: int | None = None) -> bytes | None:
    """The payload of the record whose frame is data[begin:end]; None if its length or a CRC does not match."""
    end = len(data) if end is None else end
    if end > len(data) or valid_length(data[begin : begin + HEADER_BYTES]) != end - begin - FRAME_BYTES:
        return None
    payload = data[begin + HEADER_BYTES : end - FOOTER_BYTES]
    return payload if matches_crc(payload, data[end - FOOTER_BYTES : end]) else None


# Of each record's offset in records.index.
INDEX_ENTRY_BYTES = 8


def load_index(path: str | os.PathLike[str]) -> np.ndarray:
    """The offsets in a records.index file: [N] uint64.

    Raises:
      ValueError: the file's size is not a multiple of 8.
    """
    return parse_index(Path(path).read_bytes(), str(path))


def parse_index(data: bytes, path: str) -> np.ndarray:
    """The offsets in the bytes of a records.index; `path` is used in errors only. See load_index."""
    if len(data) % 8:
        raise DataError(f"{path} has {len(data)} bytes, which is not a multiple of 8.")
    return np.frombuffer(data, "<u8")
