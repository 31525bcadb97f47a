"""Records as other writers lay them out: TFDS, ImageNet's scripts, the book, bare pixels, vectors, boxes, lists."""

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


def tensorflow(number: int) -> Record:
    """TensorFlow's examples, such as its MNIST: gray pixels, with their size in three numbers."""
    image = photo(number, 8, 10)[..., :1]
    sides = {"height": ints(8), "width": ints(10), "depth": ints(1)}
    return {"image_raw": text(image.tobytes()), **sides, "label": ints(number % 3)}


def tensorflow_sizes(number: int) -> Record:
    """The same in colour, of several sizes, under another usual name."""
    image = photo(number, 8 + number % 3, 10)
    sides = {"height": ints(8 + number % 3), "width": ints(10), "depth": ints(3)}
    return {"img_raw": text(image.tobytes()), **sides, "label": ints(number % 3)}


def two_sides(number: int) -> Record:
    """Pixels whose channels nothing but their number tells."""
    image = photo(number, 8, 10)
    return {"image": text(image.tobytes()), "rows": ints(8), "cols": ints(10), "class": ints(number % 3)}


def float_bytes(number: int) -> Record:
    image = (photo(number, 8, 10) / 255).astype("<f4")
    return {"image_raw": text(image.tobytes()), "shape": ints(8, 10, 3), "label": ints(number % 3)}


def float_levels(number: int) -> Record:
    """Floats from 0 to 255."""
    sides = {"image/height": ints(8), "image/width": ints(10)}
    return {"image": floats(photo(number, 8, 10).ravel()), **sides, "label": ints(number % 3)}


def detection(number: int) -> Record:
    """TensorFlow's object detection API: boxes and their classes, none for the image."""
    sides = {"image/height": ints(30), "image/width": ints(40)}
    return {
        "image/encoded": text(file_bytes(photo(number), "JPEG")),
        "image/format": text(b"jpeg"),
        "image/filename": text(b"%d.jpg" % number),
        "image/source_id": text(b"%d" % number),
        **sides,
        **boxes_of(number),
        "image/object/class/label": ints(*[1 + (number + i) % 3 for i in range(number % 3 + 1)]),
        "image/object/class/text": text(*[NAMES[(number + i) % 3] for i in range(number % 3 + 1)]),
    }


def boxes_of(number: int) -> Record:
    """number % 3 + 1 boxes in fractions of the image."""
    count = number % 3 + 1
    low = [0.125 * (i + 1) for i in range(count)]
    corners = {"xmin": low, "ymin": [one / 2 for one in low], "xmax": [one + 0.25 for one in low], "ymax": low}
    return {f"image/object/bbox/{name}": floats(values) for name, values in corners.items()}


def boxed_pngs(number: int) -> Record:
    """ImageNet's boxes, on PNG files of several sizes that no feature tells."""
    image = file_bytes(photo(number, 30 + number % 4), "PNG")
    return {"image/encoded": text(image), "image/class/label": ints(number % 3), **boxes_of(number)}


def boxed_pixels(number: int) -> Record:
    return {**tensorflow_sizes(number), **boxes_of(number)}


def several(number: int) -> Record:
    """Class ids, one or two a record."""
    return {**tfds(number), "label": ints(*sorted({number % 3, number % 2}))}


def vector(number: int) -> Record:
    """A vector of zeros and ones, as datasets of attributes have it."""
    return {**tfds(number), "label": ints(number % 2, 1, int(number % 3 == 0))}


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
