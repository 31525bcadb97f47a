"""What all searches are told: how a child is trained, and where it gets its images. No TensorFlow here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfpipe.errors import UsageError

# Images uint8 [N, H, W, C] and labels int [N]; or a dataset's folder and a split of it.
Pair = tuple[np.ndarray, np.ndarray] | tuple[str | os.PathLike[str], str]
# (height, width, channels), number of classes -> a Keras model; or the name of one of ours.
Builder = Callable[[tuple[int, int, int], int], Any] | str


class OutOfTime(Exception):
    """A training of the child that was cut off at the deadline."""


@dataclass(frozen=True)
class Training:
    """How a child is trained and scored: from scratch, for the same number of steps under every policy.

    Attributes:
      steps: of one child.
      batch_size: images in a step.
      epochs: the parts that the steps are cut into; a schedule has a policy for each.
      last: the reward is the mean validation accuracy after the last of these parts.
      validation_images: so many are drawn afresh from the validation set for each trial.
      fill: what comes in from outside the image; see augment.policy. The policy that was found needs the same.
      interpolation: "nearest" or "bilinear".
      form: "loop", "dense" or "auto".
    """

    steps: int = 400
    batch_size: int = 64
    epochs: int = 10
    last: int = 3
    validation_images: int = 1000
    fill: int | tuple[int, ...] | None = 128
    interpolation: str = "nearest"
    form: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "epochs", "last", "validation_images"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name} is {value!r}; it must be an integer of at least 1.")
        if self.epochs > self.steps:
            raise UsageError(f"epochs is {self.epochs}, but there are only {self.steps} steps.")
        if self.last > self.epochs:
            raise UsageError(f"last is {self.last}, but there are only {self.epochs} epochs.")

    def steps_of(self, epoch: int) -> int:
        """The steps of one of the parts; together they are all steps."""
        return self.steps * (epoch + 1) // self.epochs - self.steps * epoch // self.epochs


@dataclass(frozen=True)
class Data:
    """Images in memory.

    Attributes:
      images: uint8 [N, H, W, C].
      labels: int64 [N].
      num_classes: of the whole task.
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int

    def part(self, index: np.ndarray) -> Data:
        """The images of an index."""
        return Data(self.images[index], self.labels[index], self.num_classes)

    @property
    def digest(self) -> str:
        """A name of the contents."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()[:16]


def open_data(
    *pairs: Pair, image_size: int | tuple[int, int] | None = None, channels: int = 3, limit: int | None = None
) -> list[Data]:
    """The images of pairs that belong to one task, in memory.

    Args:
      pairs: train, validation, ...
      image_size: to resize a dataset's images to; None where all have one size.
      channels: of a dataset's images, 3 or 1.
      limit: the most images to take of each, the first; None: all.

    Raises:
      UsageError: a pair is neither arrays nor a dataset, or they do not fit together.
    """
    loaded = [_load(pair, image_size, channels, limit) for pair in pairs]
    sizes = {images.shape[1:] for images, _, _ in loaded}
    if len(sizes) > 1:
        raise UsageError(f"The images of one search have one size; got {sorted(sizes)}.")
    classes = max(max(known, int(labels.max()) + 1) for _, labels, known in loaded)
    if classes < 2:
        raise UsageError("A search compares classifiers; the labels name a single class.")
    return [Data(images, labels, classes) for images, labels, _ in loaded]


def _load(pair: Pair, image_size: Any, channels: int, limit: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UsageError("Images come as (images, labels) or as (folder of a dataset, split).")
    first, second = pair
    if isinstance(first, str | os.PathLike):
        return _read(first, str(second), image_size, channels, limit)
    images, labels = np.asarray(first), np.asarray(second)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8:
        raise UsageError(f"Images are uint8 [N, H, W, C]; got {images.dtype} {list(images.shape)}.")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or not len(labels):
        raise UsageError(f"Labels are integers [{len(images)}], at least one; got {labels.dtype} {list(labels.shape)}.")
    if int(labels.min()) < 0:
        raise UsageError(f"Labels count from 0; the smallest is {labels.min()}.")
    return images[:limit], labels[:limit].astype(np.int64), 0


def _read(
    folder: str | os.PathLike[str], split: str, image_size: Any, channels: int, limit: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    from tfpipe.format.manifest import load_manifest
    from tfpipe.reader.dataset import make_dataset

    manifest = load_manifest(folder)
    manifest.split(split)
    batches = make_dataset(
        manifest, split, batch_size=64, image_size=image_size, channels=channels, labels="int", training=False
    )
    images, labels, count = [], [], 0
    for image, label in batches.as_numpy_iterator():
        images.append(image)
        labels.append(label)
        count += len(label)
        if limit is not None and count >= limit:
            break
    if not images:
        raise UsageError(f"The split {split!r} of {folder} has no records.")
    joined = np.concatenate(images)[:limit]
    if joined.ndim != 4 or joined.dtype != np.uint8:
        raise UsageError(f"A search augments images of uint8; {folder} gives {joined.dtype} {list(joined.shape)}.")
    return joined, np.concatenate(labels)[:limit].astype(np.int64), len(manifest.class_names)
