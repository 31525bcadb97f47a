"""Encodes a record's values as a serialized tf.train.Example, and decodes it to tensors.

Encoding needs no TensorFlow; decoding imports it. The codecs:

    codec        in the record                                    encode accepts        decode returns
    plain        the bytes, float or int64 list of the dtype      number, text, array   tensor of the feature's shape
    pixels       one bytes value, little-endian                   array                 tensor of the feature's shape
    jpeg, image  one bytes value, the file                        bytes                 uint8 [H, W, C], turned upright
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.format.framing import Chunks
from tfpipe.format.schema import Feature, Schema
from tfpipe.format.wire import (
    BYTES_LIST,
    FLOAT_LIST,
    INT64_LIST,
    Packed,
    bytes_feature,
    entry_head,
    join_entries,
    pack_entry,
    pack_floats,
    pack_int64,
    varint,
)

if TYPE_CHECKING:
    import tensorflow as tf

    from tfpipe.images.fit import Resizer

_PIXEL_DTYPES = {"uint8": "<u1", "float16": "<f2", "float32": "<f4"}


# ---- values to bytes


def encode_record(schema: Schema, values: Mapping[str, Any]) -> Chunks:
    """The chunks of the serialized Example that holds a record's values; see record_encoder."""
    return record_encoder(schema)(values)


def record_encoder(schema: Schema) -> Callable[[Mapping[str, Any]], Chunks]:
    """A function from a record's values to the chunks of its serialized Example.

    Args:
      schema: the features to write.

    Returns:
      A function of a value for every feature; one with a default may be missing or equal to it, and is then not stored.
      It raises KeyError if another value is missing.
    """
    features = [(feature.name, feature.default, _entry_packer(feature)) for feature in schema.in_map_order]

    def encode(values: Mapping[str, Any]) -> Chunks:
        entries = []
        for name, default, pack in features:
            value = values[name] if default is None else values.get(name, default)
            if default is None or value != default:
                entries.append(pack(value))
        return join_entries(entries)

    return encode


# Few values of these recur often: packing one takes 3 us, a look-up in the cache 0.2 us.
_REPEATED = frozenset({"label", "label_int", "orientation"})
_KINDS = {"bytes": BYTES_LIST, "float": FLOAT_LIST, "int64": INT64_LIST}


def _entry_packer(feature: Feature) -> Callable[[Any], Packed]:
    """A function from a value of the feature to its packed entry."""
    if feature.list_type == "bytes" and feature.codec == "plain" and feature.shape:
        return lambda value: pack_entry(feature.stored_name, _pack_texts(value))
    to_bytes = _value_packer(feature)
    head: Callable[[int], bytes] = partial(entry_head, feature.stored_name, _KINDS[feature.list_type])
    if feature.codec != "jpeg" and feature.codec != "image":
        # Except for files, the same lengths recur: the bytes before such a value come from a cache.
        head = lru_cache(maxsize=4096)(head)

    def pack(value: Any) -> Packed:
        data = to_bytes(value)
        if not data and feature.list_type != "bytes":
            return pack_entry(feature.stored_name, (_KINDS[feature.list_type] + b"\0", b""))
        return head(len(data)), data

    # Float labels are not cached: 0.0 and -0.0 are the same key, but different bytes.
    if feature.name in _REPEATED and feature.dtype != "float32":
        return lru_cache(maxsize=4096)(pack)
    return pack


def _value_packer(feature: Feature) -> Callable[[Any], bytes]:
    """A function from a value to the bytes that follow an entry's head."""
    if feature.codec == "pixels":
        return lambda value: np.ascontiguousarray(value, _PIXEL_DTYPES[feature.dtype]).tobytes()
    if feature.list_type == "bytes":
        return lambda value: value.encode() if isinstance(value, str) else value
    if feature.list_type == "int64":
        return pack_int64 if feature.shape else varint
    return pack_floats


def _pack_texts(values: Iterable[str | bytes]) -> Packed:
    return bytes_feature(*[value.encode() if isinstance(value, str) else value for value in values])


# ---- bytes to tensors


def is_vectorizable(schema: Schema) -> bool:
    """Whether whole batches can be parsed at once: no image files, and every shape is known."""
    return not schema.derived and all(f.codec in ("plain", "pixels") and None not in f.shape for f in schema.features)


def decode_record(
    schema: Schema, serialized: tf.Tensor, *, exact: bool = False, resizer: Resizer | None = None
) -> dict[str, tf.Tensor]:
    """The features of one record.

    Args:
      schema: the features to read.
      serialized: scalar string.
      exact: decode image files exactly rather than fast, where no resizer does; see tfpipe.images.decode.decode_file.
      resizer: decodes and resizes `image`, and resizes its `mask`; None keeps their stored size.

    Returns:
      Every feature of the schema under its name: images upright as [H, W, 3], the others in their shape and dtype; and
      the derived ones, `boxes` in place of its parts, in pixels of the image as stored, with the `shape` of that image.
    """
    import tensorflow as tf

    return decode_parsed(
        schema, tf.io.parse_single_example(serialized, _parse_specs(schema)), exact=exact, resizer=resizer
    )


def decode_parsed(
    schema: Schema, stored: Mapping[str, tf.Tensor], *, exact: bool = False, resizer: Resizer | None = None
) -> dict[str, tf.Tensor]:
    """As decode_record, from what one record stores by its name: a row of parse_batch."""
    parsed = {f.name: stored[f.stored_name] for f in schema.features}
    derived = _derive(schema, parsed) if schema.derived else {}
    parsed |= derived
    parts = schema.derived_from("boxes")
    return {f.name: _decode(f, parsed, exact, resizer) for f in schema.features if f.name not in parts} | derived


def _derive(schema: Schema, parsed: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The derived features of a record: `shape` int64 [3], `boxes` float32 [N, 4]."""
    import tensorflow as tf

    found = {}
    sides = [parsed[name] for name in schema.derived_from("shape")]
    if sides:
        channels = schema["image"].shape[-1] if "image" in schema else None
        found["shape"] = tf.stack(sides if len(sides) == 3 else [*sides, tf.constant(channels, tf.int64)])
    parts = schema.derived_from("boxes")
    if parts:
        shape = parsed["shape"] if "shape" in schema else found.get("shape")
        found["shape"] = shape = _image_shape(schema["image"], parsed["image"]) if shape is None else shape
        height, width = tf.unstack(tf.cast(shape[:2], tf.float32))
        found["boxes"] = tf.stack([parsed[name] for name in parts], axis=1) * tf.stack([width, height, width, height])
        found["boxes"].set_shape([None, 4])
    return found


def _image_shape(feature: Feature, stored: tf.Tensor) -> tf.Tensor:
    """The shape int64 [3] of an image that no feature tells: that of its file as stored, or the one of the schema."""
    import tensorflow as tf

    if feature.codec == "jpeg":
        sides = tf.io.extract_jpeg_shape(stored, output_type=tf.int32)[:2]
    elif feature.codec == "image":
        # Decoded once more: the headers of PNG, GIF, BMP and WebP have nothing in common.
        sides = tf.shape(tf.io.decode_image(stored, channels=3, expand_animations=False))[:2]
    else:
        sides = tf.constant(feature.shape[:2], tf.int32)
    return tf.concat([tf.cast(sides, tf.int64), tf.constant(feature.shape[-1:], tf.int64)], 0)


def decode_batch(schema: Schema, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """The features of a batch of records, parsed at once: some ten times as fast as one record at a time.

    Args:
      schema: a schema for which is_vectorizable holds.
      serialized: [B] string.

    Returns:
      Every feature under its name, with B in front of its shape.
    """
    stored = parse_batch(schema, serialized)
    return {f.name: _reshape(f, stored[f.stored_name], batch=(-1,)) for f in schema.features}


def has_fixed_lengths(schema: Schema) -> bool:
    """Whether what records store can be parsed at once: no list has another length in another record."""
    return not any(f.codec == "plain" and None in f.shape for f in schema.features)


def parse_batch(schema: Schema, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """What records store, by its name, each with B in front of its shape; image files are not decoded yet.

    Args:
      schema: a schema for which has_fixed_lengths holds.
      serialized: [B] string.
    """
    import tensorflow as tf

    return tf.io.parse_example(serialized, _parse_specs(schema))


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


def _decode(feature: Feature, parsed: Mapping[str, tf.Tensor], exact: bool, resizer: Resizer | None) -> tf.Tensor:
    value = parsed[feature.name]
    if feature.codec in ("jpeg", "image"):
        return _decode_file(feature, value, parsed.get("orientation"), exact, resizer)
    if feature.name not in ("image", "mask"):
        return _reshape(feature, value)
    shape = _own_shape(feature, parsed["shape"]) if None in feature.shape else None
    return _fit(feature, _reshape(feature, value, shape=shape), resizer)


def _own_shape(feature: Feature, stored: tf.Tensor) -> tf.Tensor:
    """The stored shape of an image; for its mask, the same with one channel."""
    import tensorflow as tf

    return stored if feature.name == "image" else tf.concat([stored[:2], [1]], 0)


def _decode_file(
    feature: Feature, data: tf.Tensor, orientation: tf.Tensor | None, exact: bool, resizer: Resizer | None
) -> tf.Tensor:
    from tfpipe.images.decode import decode_file, decode_mask, turn_upright

    jpeg_only = feature.codec == "jpeg"
    if resizer is not None and feature.name == "image":
        return resizer.decode(data, jpeg_only=jpeg_only, orientation=orientation)
    is_mask = feature.shape[-1] == 1
    image = decode_mask(data) if is_mask else decode_file(data, jpeg_only=jpeg_only, exact=exact)
    if orientation is not None:
        image = turn_upright(image, orientation)
    image.set_shape(feature.shape)
    return _fit(feature, image, resizer)


def _fit(feature: Feature, image: tf.Tensor, resizer: Resizer | None) -> tf.Tensor:
    if resizer is None or feature.name not in ("image", "mask"):
        return image
    return resizer.resize(image) if feature.name == "image" else resizer.resize_mask(image)


def _reshape(
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
