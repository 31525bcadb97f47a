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
from tfpipe.images.boxes import fit_boxes, turn_boxes
from tfpipe.images.decode import upright_size
from tfpipe.images.fit import Resize
from tfpipe.images.sizes import as_size


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
      Name to NumPy array; texts are str, or bytes where they are not UTF-8. The image is upright, and boxes are in its
      pixels.

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
    fill = int(manifest.made_by.get("options", {}).get("mask_fill", 0))
    resizer = None if image_size is None else Resize(image_size, resize, antialias=True, mask_fill=fill)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def prepare(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            features = decode_record(manifest.schema, serialized, exact=True, resizer=resizer)
            if has_pixel_boxes(manifest) and "shape" in features:
                features["boxes"] = _move_boxes(features, image_size, resize)
        return features

    return lambda serialized: prepare(tf.constant(serialized))


def has_pixel_boxes(manifest: Manifest) -> bool:
    """Whether records have boxes that are known to be in pixels of their stored images."""
    schema = manifest.schema
    if schema.derived_from("boxes"):
        return True
    return "boxes" in schema and schema["boxes"].shape == (None, 4) and "adopted" not in manifest.made_by


def _move_boxes(features: dict[str, tf.Tensor], image_size: tuple[int, int] | None, resize: str) -> tf.Tensor:
    boxes, size = features["boxes"], features["shape"][:2]
    if "orientation" in features:
        boxes = turn_boxes(boxes, size, features["orientation"])
        size = upright_size(size, features["orientation"])
    return boxes if image_size is None else fit_boxes(boxes, size, image_size, resize=resize)


def plain_value(value: tf.Tensor) -> Any:
    """A tensor as a NumPy array; text as str, or bytes where it is not UTF-8."""
    array = value.numpy()
    if isinstance(array, bytes):
        try:
            return array.decode()
        except UnicodeDecodeError:
            return array
    return array
