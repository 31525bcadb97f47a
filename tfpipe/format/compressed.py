"""Records of GZIP-compressed shards, which others write.

Nothing in them can be sought: they are read through from the front. An offset counts decompressed bytes.

    for record in scan_shard(path, compression_of(path)):
        parse_example(record.data)
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator

from tfpipe.format.framing import (
    FOOTER_BYTES,
    FRAME_BYTES,
    HEADER_BYTES,
    DamagedRecord,
    Record,
    matches_crc,
    scan,
    valid_length,
)

GZIP = "GZIP"

# The two bytes of the signature, and the only method there is: deflate.
_SIGNATURE = b"\x1f\x8b\x08"
_GZIP_BITS = 31
_CHUNK_BYTES = 1 << 16
# A length that was forged together with its CRC must not take the memory in one go.
_MOST_AT_ONCE = 1 << 24


def compression_of(path: str | os.PathLike[str]) -> str | None:
    """How a shard is compressed: "GZIP" or None."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    # A record of 35,615 bytes begins with the same two bytes: a sound length says that nothing is compressed.
    return GZIP if head.startswith(_SIGNATURE) and valid_length(head) is None else None


def scan_shard(path: str | os.PathLike[str], compression: str | None) -> Iterator[Record]:
    """Yields every record of a shard in order, both CRCs checked; see tfpipe.format.framing.scan.

    Raises:
      DamagedRecord: at the first record that is not sound or can't be decompressed.
    """
    return scan(path) if compression is None else _scan_gzip(path)


def _scan_gzip(path: str | os.PathLike[str]) -> Iterator[Record]:
    number = offset = 0
    with gzip.open(path, "rb") as file:
        while True:
            try:
                payload = _read_record(file)
            except (EOFError, OSError, zlib.error, ValueError) as error:
                raise DamagedRecord(os.fspath(path), number, offset, str(error).rstrip(".")) from error
            if payload is None:
                return
            yield Record(offset, payload)
            offset += FRAME_BYTES + len(payload)
            number += 1


def _read_record(file: gzip.GzipFile) -> bytes | None:
    """The next payload; None at the end.

    Raises:
      ValueError: what comes next is no sound record; the sentence says why.
    """
    head = file.read(HEADER_BYTES)
    if not head:
        return None
    length = valid_length(head)
    if length is None:
        raise ValueError("its length does not match its CRC")
    body = _read_bytes(file, length + FOOTER_BYTES)
    if len(body) < length + FOOTER_BYTES:
        raise ValueError(f"it should take {FRAME_BYTES + length} bytes, the file ends after {HEADER_BYTES + len(body)}")
    if not matches_crc(body[:length], body[length:]):
        raise ValueError(f"the {length} bytes of its payload do not match their CRC")
    return body[:length]


def _read_bytes(file: gzip.GzipFile, count: int) -> bytes:
    parts = []
    while count and (part := file.read(min(count, _MOST_AT_ONCE))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def inflate(path: str | os.PathLike[str]) -> bytes:
    """What can still be decompressed of a GZIP file: all that comes before the first block that can't be."""
    parts: list[bytes] = []
    machine = zlib.decompressobj(_GZIP_BITS)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            before = machine.copy()
            try:
                machine = _inflate_chunk(machine, chunk, parts)
            except zlib.error:
                _inflate_bytewise(before, chunk, parts)
                break
    return b"".join(parts)


def _inflate_chunk(machine: zlib._Decompress, chunk: bytes, parts: list[bytes]) -> zlib._Decompress:
    out = [machine.decompress(chunk)]
    # Files of several members: one gzip file after the other, as `cat` makes them.
    while machine.eof and machine.unused_data:
        chunk, machine = machine.unused_data, zlib.decompressobj(_GZIP_BITS)
        out.append(machine.decompress(chunk))
    parts += out
    return zlib.decompressobj(_GZIP_BITS) if machine.eof else machine


def _inflate_bytewise(machine: zlib._Decompress, chunk: bytes, parts: list[bytes]) -> None:
    """The output up to the very byte that can't be decompressed: the call that fails returns nothing."""
    for place in range(len(chunk)):
        try:
            machine = _inflate_chunk(machine, chunk[place : place + 1], parts)
        except zlib.error:
            return
