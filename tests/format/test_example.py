"""Values become records that stock TensorFlow reads, and come back as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import file_bytes, photo, turned, upright_pixels

from tfpipe.format.example import decode_batch, decode_record, encode_record, is_vectorizable, record_encoder
from tfpipe.format.schema import Feature, Schema
from tfpipe.format.wire import parse_example

PIXELS = photo(5, 6, 8)
# Name -> feature, a value, and the spec with which a reader without tfpipe parses it.
CASES: dict[str, tuple[Feature, Any, Any]] = {
    "text": (Feature("v", "string"), "größe\n", tf.io.FixedLenFeature([], tf.string)),
    "bytes": (Feature("v", "string"), b"\0\xff", tf.io.FixedLenFeature([], tf.string)),
    "number": (Feature("v", "int64"), -(2**63), tf.io.FixedLenFeature([], tf.int64)),
    "float": (Feature("v", "float32"), 0.1, tf.io.FixedLenFeature([], tf.float32)),
    "not a number": (Feature("v", "float32"), float("nan"), tf.io.FixedLenFeature([], tf.float32)),
    "numbers": (Feature("v", "int64", (3,)), (4, 5, 3), tf.io.FixedLenFeature([3], tf.int64)),
    "vector": (Feature("v", "float32", (4,)), np.arange(4, dtype=np.float32), tf.io.FixedLenFeature([4], tf.float32)),
    "matrix": (Feature("v", "float32", (2, 2)), np.eye(2, dtype=np.float32), tf.io.FixedLenFeature([2, 2], tf.float32)),
    "float32 image": (
        Feature("v", "float32", (6, 8, 3)),
        PIXELS / np.float32(255),
        tf.io.FixedLenFeature([6, 8, 3], tf.float32),
    ),
    "float16 pixels": (Feature("v", "float16", (6, 8, 3), "pixels"), (PIXELS / 255).astype(np.float16), None),
    "float32 pixels": (Feature("v", "float32", (6, 8, 3), "pixels"), PIXELS / np.float32(255), None),
    "uint8 pixels": (Feature("v", "uint8", (6, 8, 3), "pixels"), PIXELS, None),
    "default that is not taken": (Feature("v", "int64", default=1), 6, tf.io.FixedLenFeature([], tf.int64, 1)),
    "default that is taken": (Feature("v", "int64", default=1), 1, tf.io.FixedLenFeature([], tf.int64, 1)),
}


def encoded(feature: Feature, value: Any) -> bytes:
    return b"".join(encode_record(Schema("raw", (feature,)), {"v": value}))


def expected(feature: Feature, value: Any) -> Any:
    if feature.dtype == "string":
        return value.encode() if isinstance(value, str) else value
    return np.asarray(value, feature.dtype)


@pytest.mark.parametrize("name", CASES)
def test_a_value_comes_back_as_it_was(name: str) -> None:
    feature, value, _ = CASES[name]
    found = decode_record(Schema("raw", (feature,)), tf.constant(encoded(feature, value)))["v"]
    np.testing.assert_array_equal(found.numpy(), expected(feature, value))
    assert found.dtype.name == feature.dtype
    assert found.shape == feature.shape


@pytest.mark.parametrize("name", CASES)
def test_stock_tensorflow_parses_the_value(name: str) -> None:
    feature, value, spec = CASES[name]
    data = encoded(feature, value)
    if spec is None:
        bytes_value = tf.io.parse_single_example(data, {"v": tf.io.FixedLenFeature([], tf.string)})["v"].numpy()
        found = np.frombuffer(bytes_value, np.dtype(feature.dtype).newbyteorder("<")).reshape(feature.shape)
    else:
        found = tf.io.parse_single_example(data, {"v": spec})["v"].numpy()
    np.testing.assert_array_equal(found, expected(feature, value))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_decodes_as_its_records_one_by_one(name: str) -> None:
    feature, value, _ = CASES[name]
    schema = Schema("raw", (feature,))
    assert is_vectorizable(schema)
    batch = decode_batch(schema, tf.constant([encoded(feature, value)] * 3))["v"]
    assert batch.shape == (3, *feature.shape)
    for row in batch:
        np.testing.assert_array_equal(row.numpy(), expected(feature, value))


@pytest.mark.parametrize("name", CASES)
def test_decoding_in_a_graph_gives_what_it_gives_eagerly_and_keeps_the_shape(name: str) -> None:
    feature, value, _ = CASES[name]
    schema = Schema("raw", (feature,))
    records = tf.data.Dataset.from_tensors(encoded(feature, value)).map(lambda record: decode_record(schema, record))
    assert records.element_spec["v"] == tf.TensorSpec(feature.shape, feature.dtype)
    np.testing.assert_array_equal(next(records.as_numpy_iterator())["v"], expected(feature, value))


@settings(max_examples=60)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))),
    st.sampled_from(["uint8", "float16", "float32"]),
)
def test_an_image_of_any_size_comes_back_through_its_shape(pixels: np.ndarray, dtype: str) -> None:
    codec = "plain" if dtype == "float32" else "pixels"
    schema = Schema("decoded", (Feature("image", dtype, (None, None, 3), codec), Feature("shape", "int64", (3,))))
    image = pixels if dtype == "uint8" else (pixels / np.float32(255)).astype(dtype)
    data = b"".join(encode_record(schema, {"image": image, "shape": image.shape}))
    assert not is_vectorizable(schema)
    np.testing.assert_array_equal(decode_record(schema, tf.constant(data))["image"].numpy(), image)


def test_a_value_equal_to_its_default_takes_no_bytes() -> None:
    feature = Feature("v", "int64", default=1)
    assert encoded(feature, 1) == b"".join(encode_record(Schema("raw", (feature,)), {})) == b"\x0a\x00"
    assert b"v" in encoded(feature, 2)


def test_a_record_without_one_of_its_values_is_refused() -> None:
    with pytest.raises(KeyError, match="label"):
        encode_record(Schema("raw", (Feature("label", "string"),)), {"key": "a"})


def test_the_reader_takes_examples_of_other_writers() -> None:
    schema = Schema("raw", (Feature("label", "string"), Feature("label_int", "int64"), Feature("weight", "float32")))
    stock = tf.train.Example(
        features=tf.train.Features(
            feature={
                "weight": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5])),
                "label": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"cat"])),
                "label_int": tf.train.Feature(int64_list=tf.train.Int64List(value=[3])),
                "unknown": tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2])),
            }
        )
    )
    found = decode_record(schema, tf.constant(stock.SerializeToString()))
    assert {name: value.numpy() for name, value in found.items()} == {"label": b"cat", "label_int": 3, "weight": 0.5}


def test_labels_that_are_equal_and_have_other_bytes_are_distinguished() -> None:
    """0.0 == -0.0: the cache of packed values must distinguish them."""
    schema = Schema("raw", (Feature("label", "float32"),))
    encode = record_encoder(schema)
    found = [parse_example(b"".join(encode({"label": value})))["label"] for value in (0.0, -0.0, 0.0)]
    assert [str(label[0]) for label in found] == ["0.0", "-0.0", "0.0"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_raw_file_decodes_upright(orientation: int) -> None:
    schema = Schema(
        "raw", (Feature("image", "uint8", (None, None, 3), "jpeg"), Feature("orientation", "int64", default=1))
    )
    data = turned(3, orientation)
    record = tf.constant(b"".join(encode_record(schema, {"image": data, "orientation": orientation})))
    exact = decode_record(schema, record, exact=True)["image"].numpy().astype(int)
    assert np.abs(exact - upright_pixels(data)).max() <= 2  # Pillow's libjpeg rounds its inverse DCT at another step
    fast = decode_record(schema, record)["image"].numpy().astype(int)
    assert np.square(fast - exact).mean() < 20  # 35 dB


def test_raw_records_of_all_formats_are_not_parsed_as_a_batch() -> None:
    assert not is_vectorizable(Schema("raw", (Feature("image", "uint8", (4, 4, 3), "image"),)))
    schema = Schema("raw", (Feature("image", "uint8", (30, 40, 3), "image"),))
    data = file_bytes(photo(1), "PNG")
    image = decode_record(schema, tf.constant(b"".join(encode_record(schema, {"image": data}))))["image"]
    np.testing.assert_array_equal(image.numpy(), photo(1))
