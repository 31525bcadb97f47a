"""tf.train.Example, packed and parsed without TensorFlow: byte-equal to its deterministic serialization.

The messages are Example {1: Features}, Features {1: map entry}, entry {1: name, 2: Feature}, Feature {1: BytesList,
2: FloatList, 3: Int64List}, each list {1: values}; features are in sorted order.

Large values are never copied: a message is a list of byte chunks, and an image stays the bytes object that was read.

    chunks = pack_example({"image": bytes_feature(jpeg), "label_int": int64_feature([3])})
    parse_example(b"".join(chunks))["label_int"]     # [3]
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfpipe.format.framing import SMALL_BYTES, Chunks

# A message in two parts: what was packed here, and a value that is handed on uncopied (or b"").
Packed = tuple[bytes, bytes]

# Which of the three lists a Feature holds.
BYTES_LIST, FLOAT_LIST, INT64_LIST = b"\x0a", b"\x12", b"\x1a"

_SMALL_VARINTS = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """The protobuf varint of a number in [-2**63, 2**64); negative ones take ten bytes."""
    if 0 <= number < 128:
        return _SMALL_VARINTS[number]
    # The lengths around an image are five varints a record: 0.2 us each like this, 0.6 us in the loop below.
    if 128 <= number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    if 128 <= number < 1 << 21:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def bytes_feature(*values: bytes) -> Packed:
    """A tf.train.Feature with a BytesList. The last value is not copied."""
    head = b"".join([b"\x0a" + varint(len(value)) + value for value in values[:-1]])
    tail = values[-1] if values else b""
    if values:
        head += b"\x0a" + varint(len(tail))
    return BYTES_LIST + varint(len(head) + len(tail)) + head, tail


def int64_feature(values: Iterable[int]) -> Packed:
    """A tf.train.Feature with a packed Int64List."""
    return _packed_list(INT64_LIST, pack_int64(values))


def float_feature(values: np.ndarray | Sequence[float]) -> Packed:
    """A tf.train.Feature with a packed FloatList; an array is flattened in C order."""
    return _packed_list(FLOAT_LIST, pack_floats(values))


def pack_int64(values: Iterable[int]) -> bytes:
    """The packed values of an Int64List."""
    return b"".join(map(varint, values))


def pack_floats(values: np.ndarray | Sequence[float] | float) -> bytes:
    """The packed values of a FloatList; an array is flattened in C order."""
    return np.ascontiguousarray(values, "<f4").tobytes()


def _packed_list(tag: bytes, values: bytes) -> Packed:
    head = b"\x0a" + varint(len(values)) if values else b""
    return tag + varint(len(head) + len(values)) + head, values


@functools.lru_cache(maxsize=4096)
def map_order(name: str) -> bytes:
    """What the names in an Example sort by: the stock serializer puts a name before its own prefixes."""
    # label_int, then label: UTF-8 has no byte 0xff.
    return name.encode() + b"\xff"


@functools.lru_cache(maxsize=4096)
def _entry_head(name: str) -> bytes:
    coded = name.encode()
    return b"\x0a" + varint(len(coded)) + coded + b"\x12"


def pack_entry(name: str, feature: Packed) -> Packed:
    """One entry of the map that an Example is: the packed feature under its name."""
    head, tail = feature
    entry = _entry_head(name) + varint(len(head) + len(tail)) + head
    return b"\x0a" + varint(len(entry) + len(tail)) + entry, tail


def entry_head(name: str, kind: bytes, num_bytes: int) -> bytes:
    """What stands before the value of an entry that holds one bytes value or one packed list; see pack_entry.

    Args:
      name: of the feature.
      kind: BYTES_LIST, FLOAT_LIST or INT64_LIST.
      num_bytes: of the value, or of the packed list, which is not empty.
    """
    values = b"\x0a" + varint(num_bytes)
    feature = kind + varint(len(values) + num_bytes) + values
    entry = _entry_head(name) + varint(len(feature) + num_bytes) + feature
    return b"\x0a" + varint(len(entry) + num_bytes) + entry


def join_entries(entries: Iterable[Packed]) -> Chunks:
    """The chunks of a serialized tf.train.Example of entries, which are in map_order."""
    chunks: Chunks = []
    small: Chunks = []
    total = 0
    for head, tail in entries:
        small.append(head)
        if len(tail) >= SMALL_BYTES:
            chunks += [b"".join(small), tail]
            small = []
        elif tail:
            small.append(tail)
        total += len(head) + len(tail)
    first = b"\x0a" + varint(total)
    if not chunks:
        return [first + b"".join(small)]
    chunks[0] = first + chunks[0]
    return [*chunks, b"".join(small)] if small else chunks


def pack_example(features: Mapping[str, Packed]) -> Chunks:
    """The chunks of a serialized tf.train.Example: what SerializeToString(deterministic=True) gives."""
    return join_entries([pack_entry(name, features[name]) for name in sorted(features, key=map_order)])


class NotAnExample(ValueError):
    """Bytes that are not a serialized tf.train.Example."""


def parse_example(data: bytes) -> dict[str, list[bytes] | np.ndarray]:
    """The features of a serialized tf.train.Example: bytes lists as lists, numbers as float32 and int64 arrays.

    A feature without a value is an empty list. Takes whatever order and packing other writers use.

    Raises:
      NotAnExample: the bytes are no Example.
    """
    try:
        features: dict[str, list[bytes] | np.ndarray] = {}
        for block in _fields(data, 1):
            for entry in _fields(block, 1):
                name = b"".join(_fields(entry, 1)[-1:]).decode()
                features[name] = _feature_values(b"".join(_fields(entry, 2)[-1:]))
        return features
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise NotAnExample(f"Not a tf.train.Example of {len(data)} bytes: {error}.") from error


def _feature_values(feature: bytes) -> list[bytes] | np.ndarray:
    values: list[bytes] | np.ndarray = []
    for number, wire, content in _walk(feature):
        if wire != 2 or not isinstance(content, bytes):
            continue
        if number == 1:
            values = _fields(content, 1)
        elif number == 2:
            values = np.frombuffer(b"".join(_raw_fields(content, 5)), "<f4")
        elif number == 3:
            values = _int64_values(content)
    return values


def _int64_values(content: bytes) -> np.ndarray:
    numbers: list[int] = []
    for number, wire, value in _walk(content):
        if number != 1:
            continue
        if isinstance(value, int):
            numbers.append(value)
        elif wire == 2:
            position = 0
            while position < len(value):
                one, position = _read_varint(value, position)
                numbers.append(one)
    return np.array(numbers, np.uint64).astype(np.int64)


def _raw_fields(content: bytes, unpacked_wire: int) -> list[bytes]:
    wires = (2, unpacked_wire)
    return [
        value for number, wire, value in _walk(content) if number == 1 and wire in wires and isinstance(value, bytes)
    ]


def _fields(message: bytes, wanted: int) -> list[bytes]:
    return [
        value for number, wire, value in _walk(message) if number == wanted and wire == 2 and isinstance(value, bytes)
    ]


def _walk(message: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yields (field number, wire type, value) of a protobuf message; values are ints for wire type 0, else bytes."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _read_varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _read_varint(message, position)
            yield number, wire, value
            continue
        if wire == 2:
            length, position = _read_varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > end:
            raise ValueError(f"a field runs {position + length - end} bytes past the end")
        yield number, wire, message[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result & 0xFFFFFFFFFFFFFFFF, position
    raise ValueError("a varint of more than ten bytes")
