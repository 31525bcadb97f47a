"""Files of records by their names, and files that hold none, by their first bytes.

is_record_file("train-00000-of-00010")  # True, as are x.record, x.tfrec, x.tfrecord-00000-of-00001, x.tfrecord.gz
stranger("pulled.tfrecord")  # "a Git LFS pointer, not the file itself: `git lfs pull` fetches it"
"""

from __future__ import annotations

import os
import re
import zlib

from tfpipe.format.framing import HEADER_BYTES, valid_length

_ENDINGS = (".tfrecord", ".tfrecords", ".tfrec", ".tfrecs", ".record", ".records")
_COMPRESSED = re.compile(r"\.(gz|gzip)$")
_PART = re.compile(r"[-_.]\d+-of-\d+$")
_NUMBER = re.compile(r"[-_.]\d+$")
# Enough for the signature of a tar archive, at byte 257.
HEAD_BYTES = 512

# The offset of a signature, the signature, what the file is, and what to do.
_CONVERT = "tfpipe convert reads it under its own ending"
_SIGNATURES = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "`git lfs pull` fetches it"),
    (
        0,
        bytes.fromhex("83af70d10d884a3f"),
        "a file of Riegeli records, as ArrayRecord files are",
        "write its records as TFRecords first, as tensorflow_datasets does with file_format='tfrecord'",
    ),
    (0, b"PAR1", "a Parquet file", _CONVERT),
    (0, b"PK\x03\x04", "a ZIP archive", _CONVERT),
    (257, b"ustar", "a tar archive", _CONVERT),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write its images as files or TFRecords first"),
    (0, b"ARROW1", "an Arrow file", "write it as Parquet first"),
    (0, b"SQLite format 3", "an SQLite database", "write its images as files or TFRecords first"),
    (0, b"\x93NUMPY", "a NumPy array", "write its images as files or TFRecords first"),
    (0, b"\x80\x04\x95", "a Python pickle", "write its images as files or TFRecords first"),
    (0, b"\x0a\x23\xd7\xce", "an MXNet RecordIO file", "write its records as TFRecords first"),
    (0, b"\xff\xd8\xff", "a JPEG image", "tfpipe convert reads folders and listings of images"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image", "tfpipe convert reads folders and listings of images"),
    (0, b"BZh", "compressed by bzip2", "`bunzip2` unpacks it"),
    (0, b"\xfd7zXZ\0", "compressed by xz", "`unxz` unpacks it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "`unzstd` unpacks it"),
    (0, b"\x04\x22\x4d\x18", "compressed by LZ4", "`unlz4` unpacks it"),
)
_UNZLIB = (
    "unpack it first: python3 -c 'import sys, zlib; "
    "sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))' < OLD > NEW"
)


def is_record_file(name: str) -> bool:
    """Whether a file's name is one that writers of TFRecords give, compressed ones with .gz behind it."""
    plain = _COMPRESSED.sub("", os.path.basename(name).lower())
    if plain.startswith("."):
        return False
    whole = _PART.sub("", plain)
    ending = os.path.splitext(_NUMBER.sub("", whole))[1]
    # train-00000-of-00010; mnist_tfrecord_07, but not x.tfrecord.idx.
    return ending in _ENDINGS or (not ending and (whole != plain or "tfrecord" in whole))


def stranger(path: str | os.PathLike[str]) -> str | None:
    """What a file is that begins with no record, and what to do, as a part of a sentence; None for a TFRecord file.

    None also where nothing is known about the bytes: they may be a damaged record. GZIP around records is one of the
    forms of a TFRecord file.
    """
    with open(path, "rb") as file:
        return describe(file.read(HEAD_BYTES))


def describe(head: bytes) -> str | None:
    """What a file is that begins with these bytes, up to HEAD_BYTES of them; see stranger."""
    if not head:
        return "empty (0 bytes): copy or write it again"
    if valid_length(head) is not None:
        return None
    if head.startswith(b"\x1f\x8b\x08"):
        inside = _inflated(head, 31)
        if len(inside) < HEADER_BYTES or valid_length(inside) is not None:
            return None
        what = describe(inside) or "other bytes than records: unpack it to see which"
        return f"compressed by GZIP, and inside it is {what}"
    for offset, signature, what, remedy in _SIGNATURES:
        if head.startswith(signature, offset):
            return f"{what}: {remedy}"
    if len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0:
        inside = _inflated(head, zlib.MAX_WBITS)
        if valid_length(inside) is not None:
            return f"compressed by ZLIB, which tfpipe does not read (GZIP it does): {_UNZLIB}"
        if inside:
            return f"compressed by ZLIB: {_UNZLIB}"
    return _describe_text(head)


def _describe_text(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or not all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return None
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < HEAD_BYTES - 3:  # a character may be cut at the end of the head
            return None
    lowered = text.lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a page of HTML, such as the error page of a download: fetch it again"
    if text[:1] in b"{[":
        return f"JSON text: {_CONVERT} (.jsonl, or COCO's .json)"
    return "text: name only the files of records"


def _inflated(head: bytes, bits: int) -> bytes:
    try:
        return zlib.decompressobj(bits).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def describe_payload(data: bytes) -> str:
    """What the payload of a record is that is no tf.train.Example of features, as a part of a sentence."""
    fields = _top_fields(data)
    if data.startswith(b"\x09") and len(data) > 8 and fields is not None:
        return "an event of TensorBoard's logs, which hold no images to train on"
    if is_sequence_example(data):
        return "a tf.train.SequenceExample: write each step as a tf.train.Example first"
    if data.startswith(b"\x08") and fields is not None and 2 in fields:
        return "a serialized tensor (tf.io.serialize_tensor): put it into a feature of a tf.train.Example first"
    what = describe(data[:HEAD_BYTES])
    if what is not None:
        return f"{what.partition(':')[0]}: put it into a feature of a tf.train.Example first"
    return "another message, or bytes that are none: write it as a tf.train.Example first"


def is_sequence_example(data: bytes) -> bool:
    """Whether a payload is a tf.train.SequenceExample, whose context would pass for the features of an Example."""
    # The first field of an Example is its only one.
    fields = _top_fields(data)
    return data.startswith((b"\x0a", b"\x12")) and fields is not None and 2 in fields


def _top_fields(data: bytes) -> list[int] | None:
    """The numbers of a protobuf message's fields, in their order; None where the bytes are no message."""
    fields, at = [], 0
    try:
        while at < len(data):
            tag, at = _varint(data, at)
            fields.append(tag >> 3)
            kind = tag & 7
            if kind == 0:
                _, at = _varint(data, at)
            elif kind == 2:
                size, at = _varint(data, at)
                at += size
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                return None
    except IndexError:
        return None
    return fields if at == len(data) and 0 not in fields else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError
