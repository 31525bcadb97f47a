"""One record of a dataset, as a model gets it.

record = get("photos_tfrecord", "cat/001.jpg")
record["image"].shape, record["label"]      # (333, 500, 3), "cat"
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfpipe.format.example import decode_record
from tfpipe.format.lookup import find_key, read_record
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.images.boxes import place_regions, split_polygons
from tfpipe.images.fit import Resize
from tfpipe.images.sizes import as_size
from tfpipe.reader.images import mask_fill_of
from tfpipe.reader.request import has_polygons, regions_in_pixels


def get(
    source: str | os.PathLike[str] | Manifest,
    key: str,
    *,
    image_size: int | Sequence[int] | None = None,
    resize: str = "pad",
) -> dict[str, Any]:
    """The record with a key: every feature, as make_dataset(labels=None) gives it, without the axis of the batch.

    The shards are read until it is found, at the rate of the disk.

    Args:
      source: the dataset's folder or its manifest.
      key: of the record: the path below the input folder, or the file as the listing writes it.
      image_size: (height, width), or one number for a square; None keeps the image's own.
      resize: to the image_size: "pad", "stretch" or "crop".

    Returns:
      Name to NumPy array; texts are str, or bytes where they are not UTF-8. The image is upright; boxes, keypoints
      and polygons are in its pixels, these with as many points as the longest of them.

    Raises:
      UsageError: no record has the key.
      DataError: the record is damaged.
    """
    manifest = source if isinstance(source, Manifest) else load_manifest(source)
    size = None if image_size is None else as_size(image_size, "image_size")
    prepare = record_preparer(manifest, size, resize)
    record = prepare(read_record(manifest, find_key(manifest, key)))
    return {name: plain_value(value) for name, value in record.items()}


def record_preparer(
    manifest: Manifest, image_size: tuple[int, int] | None, resize: str
) -> Callable[[bytes], dict[str, tf.Tensor]]:
    """A function from a serialized record to its features: the image upright and in the size, mask and boxes with it.

    It is compiled for images of all sizes at once, which takes a second or two: make one for many records.

    Args:
      manifest: the dataset's.
      image_size: (height, width); None keeps the image's own.
      resize: "pad", "stretch" or "crop".
    """
    fill = mask_fill_of(None, [manifest], manifest.schema)
    resizer = None if image_size is None else Resize(image_size, resize, antialias=True, mask_fill=fill)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def prepare(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            features = decode_record(manifest.schema, serialized, exact=True, resizer=resizer)
            if names := regions_in_pixels(manifest, manifest.schema):
                features |= place_regions(features, names, resizer)
            if has_polygons(manifest, manifest.schema):
                counts = features.pop("polygon_points")
                features["polygons"] = split_polygons(features["polygons"], counts, None)
        return features

    return lambda serialized: prepare(tf.constant(serialized))


def plain_value(value: tf.Tensor) -> Any:
    """A tensor as a NumPy array; text as str, or bytes where it is not UTF-8."""
    array = value.numpy()
    if isinstance(array, bytes):
        try:
            return array.decode()
        except UnicodeDecodeError:
            return array
    return array
