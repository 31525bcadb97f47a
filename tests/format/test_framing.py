"""Records are byte for byte what TensorFlow writes, and no byte of a shard can change unseen."""

from __future__ import annotations

import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe.format.framing import FRAME_BYTES, DamagedRecord, frame, load_index, masked_crc, scan, scan_bytes
from tfpipe.format.wire import (
    NotAnExample,
    Packed,
    bytes_feature,
    float_feature,
    int64_feature,
    pack_example,
    parse_example,
    varint,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
# Long values too: from 1024 bytes on, a value is passed on without a copy.
BYTES = st.one_of(st.binary(max_size=30), st.integers(1000, 1100).map(bytes))
VALUES = st.one_of(
    st.lists(BYTES, max_size=3),
    st.lists(INT64, max_size=5).map(lambda numbers: np.array(numbers, np.int64)),
    st.lists(st.floats(width=32), max_size=5).map(lambda numbers: np.array(numbers, np.float32)),
)
FEATURES = st.dictionaries(
    st.text(max_size=6) | st.sampled_from(["label", "label_int", "image", "key"]), VALUES, max_size=6
)


def pack(value: Any) -> Packed:
    if isinstance(value, list):
        return bytes_feature(*value)
    return int64_feature(value.tolist()) if value.dtype == np.int64 else float_feature(value)


def stock_feature(value: Any) -> tf.train.Feature:
    if isinstance(value, list):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if value.dtype == np.int64:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))


def stock_example(features: dict[str, Any]) -> tf.train.Example:
    return tf.train.Example(
        features=tf.train.Features(feature={name: stock_feature(v) for name, v in features.items()})
    )


def assert_same_features(found: dict[str, Any], features: dict[str, Any]) -> None:
    assert set(found) == set(features)
    for name, value in features.items():
        if isinstance(value, list):
            assert found[name] == value
        else:
            assert np.asarray(found[name], value.dtype).tobytes() == value.tobytes()


def framed(*payloads: bytes) -> bytes:
    return b"".join(chunk for payload in payloads for chunk in frame([payload]))


# ---- tf.train.Example


@settings(max_examples=300)
@given(FEATURES)
def test_a_packed_example_is_what_deterministic_serialization_gives(features: dict[str, Any]) -> None:
    chunks = pack_example({name: pack(value) for name, value in features.items()})
    stock = stock_example(features)
    stock.features.SetInParent()
    assert b"".join(chunks) == stock.SerializeToString(deterministic=True)


@settings(max_examples=200)
@given(FEATURES)
def test_what_is_packed_is_parsed_by_the_stock_parser_and_by_ours(features: dict[str, Any]) -> None:
    data = b"".join(pack_example({name: pack(value) for name, value in features.items()}))
    stock = tf.train.Example.FromString(data).features.feature
    assert {
        name: list(getattr(stock[name], stock[name].WhichOneof("kind")).value) for name in stock
    }.keys() == features.keys()
    assert_same_features(parse_example(data), features)


@settings(max_examples=200)
@given(FEATURES)
def test_stock_examples_are_parsed(features: dict[str, Any]) -> None:
    assert_same_features(parse_example(stock_example(features).SerializeToString()), features)


def test_lists_that_other_writers_leave_unpacked_are_parsed() -> None:
    # One field for every number: tag 0x08 and a varint; tag 0x0d and four bytes.
    numbers = b"\x08\x05\x08" + varint(-1)
    floats = b"\x0d" + struct.pack("<f", 1.5) + b"\x0d" + struct.pack("<f", -2)

    def entry(name: bytes, list_tag: bytes, content: bytes) -> bytes:
        feature = list_tag + varint(len(content)) + content
        body = b"\x0a" + varint(len(name)) + name + b"\x12" + varint(len(feature)) + feature
        return b"\x0a" + varint(len(body)) + body

    features = entry(b"n", b"\x1a", numbers) + entry(b"f", b"\x12", floats)
    data = b"\x0a" + varint(len(features)) + features
    assert_same_features(parse_example(data), {"n": np.array([5, -1]), "f": np.array([1.5, -2], np.float32)})
    assert list(tf.train.Example.FromString(data).features.feature["n"].int64_list.value) == [5, -1]


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_the_last_of_several_features_of_one_name_wins_and_unknown_fields_are_skipped() -> None:
    unknown = field(9, b"later versions") + b"\x50\x07"

    def entry(value: bytes) -> bytes:
        feature = field(2, field(1, value) + unknown) + unknown
        return field(1, field(1, b"f") + field(2, feature) + unknown)

    first, last = struct.pack("<f", 1), struct.pack("<2f", 2, 3)
    data = field(1, entry(first) + entry(last) + unknown) + unknown
    assert_same_features(parse_example(data), {"f": np.array([2, 3], np.float32)})


def test_a_feature_without_a_value_is_an_empty_list() -> None:
    example = tf.train.Example(features=tf.train.Features(feature={"a": tf.train.Feature()}))
    assert parse_example(example.SerializeToString()) == {"a": []}
    assert parse_example(b"") == {}


@given(INT64 | st.integers(2**63, 2**64 - 1))
def test_varints_have_the_bytes_of_protobuf(number: int) -> None:
    coded = varint(number)
    assert len(coded) == max(1, -(-(number % 2**64).bit_length() // 7))
    assert sum((byte & 127) << 7 * i for i, byte in enumerate(coded)) % 2**64 == number % 2**64
    assert [byte >> 7 for byte in coded] == [1] * (len(coded) - 1) + [0]


def test_a_large_value_is_passed_on_without_a_copy() -> None:
    image = bytes(5000)
    chunks = frame(pack_example({"image": bytes_feature(image), "label_int": int64_feature([3])}))
    assert any(chunk is image for chunk in chunks)


@settings(max_examples=400)
@given(FEATURES, st.data())
def test_damaged_examples_are_parsed_or_refused_never_worse(features: dict[str, Any], draw: st.DataObject) -> None:
    data = bytearray(stock_example(features).SerializeToString())
    for _ in range(draw.draw(st.integers(0, 3)) if data else 0):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        parse_example(bytes(data[: draw.draw(st.integers(0, len(data)))]))
    except NotAnExample as error:
        assert str(error).startswith("Not a tf.train.Example of ")


# ---- framing


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_frames_are_what_tfrecordwriter_writes(payloads: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stock")
        with tf.io.TFRecordWriter(str(path)) as writer:
            for payload in payloads:
                writer.write(payload)
        assert framed(*payloads) == path.read_bytes()
        assert [record.data for record in scan(path)] == payloads


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_scan_yields_every_record_with_its_offset(payloads: list[bytes]) -> None:
    records = list(scan_bytes(framed(*payloads)))
    assert [record.data for record in records] == payloads
    starts = np.cumsum([0, *(len(payload) + FRAME_BYTES for payload in payloads)])[:-1]
    assert [record.offset for record in records] == starts.tolist()


@given(st.binary(max_size=50), st.integers(0, 50))
def test_a_payload_may_come_in_chunks(payload: bytes, cut: int) -> None:
    assert b"".join(frame([payload[:cut], payload[cut:]])) == framed(payload)
    assert masked_crc([payload[:cut], b"", payload[cut:]]) == masked_crc([payload])


SHARD = framed(b"first", b"", b"the third record")
STARTS = [0, 21, 37, len(SHARD)]


def test_a_cut_is_seen_wherever_it_does_not_lie_between_two_records() -> None:
    for end in range(len(SHARD)):
        before = sum(start <= end for start in STARTS) - 1
        if end in STARTS:
            assert len(list(scan_bytes(SHARD[:end]))) == before
        else:
            with pytest.raises(DamagedRecord) as caught:
                list(scan_bytes(SHARD[:end]))
            assert (caught.value.number, caught.value.offset) == (before, STARTS[before])


def test_every_flipped_bit_is_seen_in_its_record() -> None:
    for bit in range(8 * len(SHARD)):
        data = bytearray(SHARD)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord) as caught:
            list(scan_bytes(bytes(data)))
        assert caught.value.number == sum(start <= bit // 8 for start in STARTS) - 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (SHARD + b"junk", f"s: record 3 at byte {len(SHARD)}: the file ends 4 bytes into the record."),
        (SHARD[:-1], "s: record 2 at byte 37: it should take 32 bytes, the file ends after 31."),
        (bytes(40), "s: record 0 at byte 0: its length does not match its CRC."),
        (SHARD[:13] + b"X" + SHARD[14:], "s: record 0 at byte 0: the 5 bytes of its payload do not match their CRC."),
    ],
    ids=["junk", "cut", "zeros", "changed"],
)
def test_damage_is_named_with_file_record_and_byte(data: bytes, sentence: str) -> None:
    with pytest.raises(DamagedRecord) as caught:
        list(scan_bytes(data, path="s"))
    assert str(caught.value) == sentence
    assert str(pickle.loads(pickle.dumps(caught.value))) == sentence


def test_records_before_the_damage_are_yielded() -> None:
    records = scan_bytes(SHARD[:-1])
    assert [next(records).data, next(records).data] == [b"first", b""]
    with pytest.raises(DamagedRecord, match="record 2 at byte 37"):
        next(records)


def test_an_empty_shard_holds_no_records(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert list(scan(tmp_path / "empty")) == []


# ---- records.index


def test_the_index_is_read_as_offsets_and_an_odd_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.index"
    path.write_bytes(np.array([0, 21, 2**40], "<u8").tobytes())
    assert load_index(path).tolist() == [0, 21, 2**40]
    path.write_bytes(bytes(9))
    with pytest.raises(ValueError, match="has 9 bytes, which is not a multiple of 8"):
        load_index(path)
