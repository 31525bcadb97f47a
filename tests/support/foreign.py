"""Records as other writers lay them out: TFDS, ImageNet's scripts, the book, bare pixels, vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from pictures import file_bytes, photo

from tfpipe.format.manifest import Manifest

Record = dict[str, tf.train.Feature]
NAMES = (b"cat", b"dog", b"emu")


def text(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats(values: Any) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def tfds(number: int) -> Record:
    return {"image": text(file_bytes(photo(number), "PNG")), "label": ints(number % 3)}


def imagenet(number: int) -> Record:
    return {
        "image/encoded": text(file_bytes(photo(number, 30 + number % 4), "JPEG")),
        "image/class/label": ints(1 + number % 3),
        "image/class/text": text(NAMES[number % 3]),
        "image/filename": text(b"n%d.JPEG" % number),
        "image/height": ints(30 + number % 4),
        "image/object/bbox/xmin": floats([0.5] * (number % 3)),
    }


def book(number: int) -> Record:
    image = photo(number, 8 + number % 3, 10) / 255
    return {
        "image": floats(image.ravel()),
        "shape": ints(*image.shape),
        "label": text(NAMES[number % 3]),
        "label_int": ints(number % 3),
    }


def pixels(number: int) -> Record:
    image = photo(number, 8, 10)
    return {"image": text(image.tobytes()), "shape": ints(*image.shape), "label": ints(number % 3)}


def embeddings(number: int) -> Record:
    return {"embedding": floats([number, 0.5]), "label_int": ints(number % 3)}


def write(path: Path, records: list[Record], compression: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(tf.train.Example(features=tf.train.Features(feature=record)).SerializeToString())
    return path


def write_all(folder: Path, make: Callable[[int], Record], compression: str = "") -> Path:
    """30 training records in three shards and ten for validation."""
    for shard in range(3):
        records = [make(number) for number in range(10 * shard, 10 * shard + 10)]
        write(folder / f"x-train.tfrecord-0000{shard}-of-00003", records, compression)
    write(folder / "x-val.tfrecord-00000-of-00001", [make(number) for number in range(10)], compression)
    return folder


def features_of(manifest: Manifest) -> dict[str, tuple[Any, ...]]:
    return {f.name: (f.dtype, f.shape, f.codec, f.stored_as) for f in manifest.schema.features}
