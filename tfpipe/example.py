"""A record's values to a serialized tf.train.Example, and back to tensors: the two directions face to face.

Encoding needs no TensorFlow; decoding imports it. What a codec means is written once for each direction:

    codec        in the record                                    encode takes          decode gives
    plain        the bytes, float or int64 list of the dtype      number, text, array   tensor of the feature's shape
    pixels       one bytes value, little-endian                   array                 tensor of the feature's shape
    jpeg, image  one bytes value, the file                        bytes                 uint8 [H, W, 3], turned upright
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.records import Chunks, Packed, bytes_feature, float_feature, int64_feature, join_entries, pack_entry
from tfpipe.schema import Feature, Schema

if TYPE_CHECKING:
    import tensorflow as tf

_PIXEL_DTYPES = {"uint8": "<u1", "float16": "<f2", "float32": "<f4"}


# ---- values to bytes


def encode_record(schema: Schema, values: Mapping[str, Any]) -> Chunks:
    """The chunks of the serialized Example that holds a record's values.

    Args:
      schema: the features to write.
      values: a value for every feature; one with a default may be missing or equal to it, and is then left out.

    Raises:
      KeyError: a value is missing.
    """
    entries = []
    for feature in schema.in_map_order:
        name, default = feature.name, feature.default
        value = values[name] if default is None else values.get(name, default)
        if default is not None and value == default:
            continue
        entries.append(_repeated_entry(feature, value) if name in _REPEATED else _entry(feature, value))
    return join_entries(entries)


def _entry(feature: Feature, value: Any) -> Packed:
    return pack_entry(feature.stored_name, _encode(feature, value))


# Few values occur over and over: packing one takes 3 us, finding it again 0.2 us.
_REPEATED = frozenset({"label", "label_int", "shape", "orientation"})
_repeated_entry = lru_cache(maxsize=4096)(_entry)


def _encode(feature: Feature, value: Any) -> Packed:
    if feature.codec == "pixels":
        return bytes_feature(np.ascontiguousarray(value, _PIXEL_DTYPES[feature.dtype]).tobytes())
    if feature.list_type == "bytes":
        values = value if feature.codec == "plain" and feature.shape else (value,)
        return bytes_feature(*[one.encode() if isinstance(one, str) else one for one in values])
    if feature.list_type == "int64":
        return int64_feature(value if feature.shape else (value,))
    return float_feature(value)


# ---- bytes to tensors


def is_vectorizable(schema: Schema) -> bool:
    """Whether a whole batch can be parsed at once: no image files, and every shape known."""
    return all(f.codec in ("plain", "pixels") and None not in f.shape for f in schema.features)


def decode_record(schema: Schema, serialized: tf.Tensor, *, exact: bool = False) -> dict[str, tf.Tensor]:
    """The features of one record.

    Args:
      schema: the features to read.
      serialized: scalar string.
      exact: decode image files exactly rather than fast; see tfpipe.images.decode_file.

    Returns:
      Every feature of the schema under its name: images upright as [H, W, 3], the others in their shape and dtype.
    """
    import tensorflow as tf

    stored = tf.io.parse_single_example(serialized, _parse_specs(schema))
    parsed = {f.name: stored[f.stored_name] for f in schema.features}
    return {f.name: _decode(f, parsed, exact) for f in schema.features}


def decode_batch(schema: Schema, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """The features of a batch of records, parsed at once: some ten times the rate of one at a time.

    Args:
      schema: a schema for which is_vectorizable holds.
      serialized: [B] string.

    Returns:
      Every feature under its name, with B in front of its shape.
    """
    import tensorflow as tf

    stored = tf.io.parse_example(serialized, _parse_specs(schema))
    return {f.name: _shaped(f, stored[f.stored_name], batch=(-1,)) for f in schema.features}


def _parse_specs(schema: Schema) -> dict[str, Any]:
    return {f.stored_name: _parse_spec(f) for f in schema.features}


def _parse_spec(feature: Feature) -> Any:
    import tensorflow as tf

    if feature.list_type == "bytes" and not (feature.codec == "plain" and feature.shape):
        return tf.io.FixedLenFeature([], tf.string, feature.default)
    dtype = tf.as_dtype(feature.dtype)
    if None in feature.shape:
        rows = [] if None in feature.shape[1:] else list(feature.shape[1:])
        return tf.io.FixedLenSequenceFeature(rows, dtype, allow_missing=True)
    return tf.io.FixedLenFeature(list(feature.shape), dtype, feature.default)


def _decode(feature: Feature, parsed: Mapping[str, tf.Tensor], exact: bool) -> tf.Tensor:
    value = parsed[feature.name]
    if feature.codec in ("jpeg", "image"):
        return _decode_file(feature, value, parsed.get("orientation"), exact)
    if None in feature.shape and feature.name == "image":
        return _shaped(feature, value, shape=parsed["shape"])
    return _shaped(feature, value)


def _decode_file(feature: Feature, data: tf.Tensor, orientation: tf.Tensor | None, exact: bool) -> tf.Tensor:
    from tfpipe import images

    image = images.decode_file(data, jpeg_only=feature.codec == "jpeg", exact=exact)
    if orientation is not None:
        image = images.turn_upright(image, orientation)
    image.set_shape(feature.shape)
    return image


def _shaped(
    feature: Feature, value: tf.Tensor, *, batch: tuple[int, ...] = (), shape: tf.Tensor | None = None
) -> tf.Tensor:
    import tensorflow as tf

    if feature.codec == "pixels":
        value = tf.io.decode_raw(value, tf.as_dtype(feature.dtype), little_endian=True)
    if shape is None and None not in feature.shape:
        return tf.reshape(value, [*batch, *feature.shape])
    result = value if shape is None else tf.reshape(value, shape)
    result.set_shape(feature.shape)
    return result
