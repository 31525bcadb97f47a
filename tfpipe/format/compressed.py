"""Records of GZIP-compressed shards, which third-party writers make.

They allow no random access: they are read sequentially, from the first byte on. Offsets count decompressed bytes.

    for record in scan_shard(path, compression_of(path)):
        parse_example(record.data)
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator

from tfpipe.errors import DataError
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

# The two bytes of the signature, and the only compression method: deflate.
_SIGNATURE = b"\x1f\x8b\x08"
_GZIP_BITS = 31
_CHUNK_BYTES = 1 << 16
# A length that was forged together with its CRC must not allocate all memory at once.
_MOST_AT_ONCE = 1 << 24


def compression_of(path: str | os.PathLike[str]) -> str | None:
    """The compression of a shard: "GZIP" or None."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    # A record of 35,615 bytes begins with the same two bytes, but a valid length means that nothing is compressed.
    return GZIP if head.startswith(_SIGNATURE) and valid_length(head) is None else None


def scan_shard(path: str | os.PathLike[str], compression: str | None) -> Iterator[Record]:
    """Yields every record of a shard in file order, after checking both CRCs; see tfpipe.format.framing.scan.

    Raises:
      DamagedRecord: at the first record that is not valid or can't be decompressed.
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
      ValueError: the next bytes are no valid record; the message says why.
    """
    head = file.read(HEADER_BYTES)
    if not head:
        return None
    length = valid_length(head)
    if length is None:
        raise DataError("its length does not match its CRC")
    body = _read_bytes(file, length + FOOTER_BYTES)
    if len(body) < length + FOOTER_BYTES:
        raise DataError(f"it should take {FRAME_BYTES + length} bytes, the file ends after {HEADER_BYTES + len(body)}")
    if not matches_crc(body[:length], body[length:]):
        raise DataError(f"the {length} bytes of its payload do not match their CRC")
    return body[:length]


def _read_bytes(file: gzip.GzipFile, count: int) -> bytes:
    parts = []
    while count and (part := file.read(min(count, _MOST_AT_ONCE))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def inflate(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a GZIP file that can be decompressed: those before the first damaged block."""
    parts: list[bytes] = []
    inflater = zlib.decompressobj(_GZIP_BITS)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            before = inflater.copy()
            try:
                inflater = _inflate_chunk(inflater, chunk, parts)
            except zlib.error:
                _inflate_bytewise(before, chunk, parts)
                break
    return b"".join(parts)


def _inflate_chunk(inflater: zlib._Decompress, chunk: bytes, parts: list[bytes]) -> zlib._Decompress:
    out = [inflater.decompress(chunk)]
    # Files of several members, as `cat` makes them of several gzip files.
    while inflater.eof and inflater.unused_data:
        chunk, inflater = inflater.unused_data, zlib.decompressobj(_GZIP_BITS)
        out.append(inflater.decompress(chunk))
    parts += out
    return zlib.decompressobj(_GZIP_BITS) if inflater.eof else inflater


def _inflate_bytewise(inflater: zlib._Decompress, chunk: bytes, parts: list[bytes]) -> None:
    """Appends the output up to the byte that can't be decompressed; a call that fails returns none of it."""
    for index in range(len(chunk)):
        try:
            inflater = _inflate_chunk(inflater, chunk[index : index + 1], parts)
        except zlib.error:
            return
