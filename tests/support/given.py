"""What the pages of the documentation work on: a few photographs, and what was made of them. Each is made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from conversions import run
from PIL import Image

CLASSES = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}
EXAMPLES = Path(__file__).parents[2] / "examples"
_OF_EACH = 40


class Given:
    """A folder of things that pages are given, made when they are first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.make = cache(self._make)

    def put(self, names: list[str], folder: Path) -> None:
        """Copies the things of these names into a folder."""
        for name in names:
            source = self.make(name)
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copy(source, folder / name)

    def _make(self, name: str) -> Path:
        path = self.root / name
        MAKERS[name](self, path)
        return path


def _photos(given: Given, path: Path) -> None:
    """Three classes of 40 JPEG files, crops of 150 to 250 pixels of the photographs that scikit-image ships."""
    from skimage import data

    draw = np.random.default_rng(0)
    for label, photograph in CLASSES.items():
        pixels = getattr(data, photograph)()[..., :3]
        (path / label).mkdir(parents=True)
        for number in range(_OF_EACH):
            height, width = draw.integers(150, 251, 2)
            top = int(draw.integers(0, pixels.shape[0] - height + 1))
            left = int(draw.integers(0, pixels.shape[1] - width + 1))
            crop = Image.fromarray(pixels[top : top + height, left : left + width])
            crop.save(path / label / f"{number:03d}.jpg", quality=90)


def _masks(given: Given, path: Path) -> None:
    """A mask for each photo: 1 where it is brighter than its mean, else 0."""
    for photo in sorted(given.make("photos").rglob("*.jpg")):
        target = path / photo.parent.name / f"{photo.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        gray = np.asarray(Image.open(photo).convert("L"), np.float32)
        Image.fromarray((gray > gray.mean()).astype(np.uint8)).save(target)


def _photos_tfrecord(given: Given, path: Path) -> None:
    run(given.make("photos"), path)


def _holiday(given: Given, path: Path) -> None:
    shutil.copy(given.make("photos") / "cat" / "000.jpg", path)


def _others(given: Given, path: Path) -> None:
    """TFRecords as many programs write them: image/encoded, image/class/label, image/class/text."""
    import tensorflow as tf

    path.mkdir()
    photos = sorted(given.make("photos").rglob("*.jpg"))
    for shard in range(2):
        with tf.io.TFRecordWriter(str(path / f"train-{shard:05d}-of-00002.tfrecord")) as writer:
            for photo in photos[shard::2]:
                label = list(CLASSES).index(photo.parent.name)
                values = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[photo.read_bytes()])),
                    "image/filename": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[f"{photo.parent.name}/{photo.name}".encode()])
                    ),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label + 1])),
                    "image/class/text": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[photo.parent.name.encode()])
                    ),
                }
                example = tf.train.Example(features=tf.train.Features(feature=values))
                writer.write(example.SerializeToString())


def _examples(given: Given, path: Path) -> None:
    shutil.copytree(EXAMPLES, path, ignore=shutil.ignore_patterns("__pycache__"))


MAKERS: dict[str, Callable[[Given, Path], None]] = {
    "photos": _photos,
    "masks": _masks,
    "photos_tfrecord": _photos_tfrecord,
    "holiday.jpg": _holiday,
    "others": _others,
    "examples": _examples,
}
