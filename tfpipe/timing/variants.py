"""The variants that the timing tables compare: ways to read one dataset, each one a ReadOptions.

    task = Task(load_manifest("photos_tfrecord"), batch_size=128, image_size=(224, 224))
    variants, left_out = fitting_variants(task, cache_dir="/scratch")
    task.build(variants["interleave"])

`sample_shards` reduces a large dataset to a few shards, so that a pass takes seconds. Whether a cache fits is decided
by the size of the whole split: a sample's gain from a cache that has no room for the split would mean nothing.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfpipe.format.example import is_vectorizable
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import Schema
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.memory import free_memory
from tfpipe.reader.options import AUTOTUNE, ReadOptions

# Of the free memory or disk: the rest is for the model, and for the other variant that caches at the same time.
_CACHE_PART = 0.4


@dataclass(frozen=True)
class Task:
    """What every variant reads: the same records, in batches of the same shape.

    Attributes:
      manifest: the manifest of the dataset, or of a sample of its shards.
      split: the split to read.
      batch_size: records in a batch.
      image_size: (height, width) to resize to; None if all images have one size.
      resize: "pad", "stretch" or "crop".
      antialias: average over the source pixels where an image shrinks.
      dct: of all variants: "exact" or "fast", see ReadOptions.
    """

    manifest: Manifest
    split: str = "train"
    batch_size: int = 32
    image_size: tuple[int, int] | None = None
    resize: str = "pad"
    antialias: bool = True
    dct: str = "exact"

    @property
    def options(self) -> ReadOptions:
        """The defaults, with the task's dct."""
        return ReadOptions(dct=self.dct)

    @property
    def labels(self) -> str | None:
        """The `labels` argument of make_dataset: None if the records have no label."""
        schema = self.manifest.schema
        return "one_hot" if "label_int" in schema or schema.label_kind == "number" else None

    @property
    def num_records(self) -> int:
        """The number of records of the split."""
        return self.manifest.num_records(self.split)

    @property
    def paths(self) -> list[Path]:
        """The shards of the split."""
        return [self.manifest.shard_file(shard) for shard in self.manifest.split(self.split).shards]

    @property
    def image_schema(self) -> Schema:
        """Only the features that the pixels, or the embedding, are decoded from."""
        schema = self.manifest.schema
        names = ("embedding",) if schema.payload == "embedding" else ("image", "shape", "orientation")
        return schema.select(names)

    @property
    def parses_batches(self) -> bool:
        """Whether whole batches can be parsed at once: every shape is known, and no image is resized."""
        return is_vectorizable(self.image_schema) and self.size_to_make is None

    @property
    def size_to_make(self) -> tuple[int, int] | None:
        """The (height, width) that images are resized to; None where they have it."""
        schema = self.manifest.schema
        stored_size = schema["image"].shape[:2] if "image" in schema else None
        return None if self.image_size == stored_size else self.image_size

    def build(self, options: ReadOptions, *, transforms: Sequence[Any] = ()) -> tf.data.Dataset:
        """The batches of make_dataset in training, with its transforms: only full ones."""
        return make_dataset(
            self.manifest,
            self.split,
            batch_size=self.batch_size,
            image_size=self.image_size,
            resize=self.resize,
            antialias=self.antialias,
            labels=self.labels,
            transforms=transforms,
            training=True,
            options=options,
        )


def images_of(batch: tuple[tf.Tensor, ...] | dict[str, tf.Tensor]) -> tf.Tensor:
    """The images of a batch, or its embeddings: [B, ...]."""
    if isinstance(batch, dict):
        return batch["embedding"] if "embedding" in batch else batch["image"]
    return batch[0]


# ---- which variants there are


def all_variants(*, cache_dir: str | None = None) -> dict[str, ReadOptions]:
    """Every variant by its name, plain first; disk caches only if a folder for them is given."""
    both = ReadOptions.interleave_parallel_map()
    variants = {
        "plain": ReadOptions.plain(),
        "parallel_map": ReadOptions.parallel_map(),
        "interleave": ReadOptions.interleave(),
        "interleave_parallel_map": both,
        "prefetch": dataclasses.replace(both, prefetch=AUTOTUNE),
        "book": ReadOptions.book(),
        "vectorize": dataclasses.replace(both, prefetch=AUTOTUNE, vectorize=True),
        "default": ReadOptions(),
    }
    positions = ("records", "batches")
    variants |= {f"cache_memory_{place}": ReadOptions(cache="memory", cache_place=place) for place in positions}
    if cache_dir is not None:
        disk = ReadOptions(cache="disk", cache_dir=cache_dir)
        variants |= {f"cache_disk_{place}": dataclasses.replace(disk, cache_place=place) for place in positions}
    return variants


def fitting_variants(task: Task, *, cache_dir: str | None = None) -> tuple[dict[str, ReadOptions], dict[str, str]]:
    """The variants that make sense for this dataset and have room on this machine.

    Args:
      task: the task on the whole dataset.
      cache_dir: the folder of disk caches; None leaves them out.

    Returns:
      The options by name, and the reason by name for each variant left out.
    """
    fitting, left_out = {}, {}
    for name, variant in all_variants(cache_dir=cache_dir).items():
        options = dataclasses.replace(variant, dct=task.dct)
        reason = _obstacle(task, options, is_about_parsing=name == "vectorize")
        if reason:
            left_out[name] = reason
        else:
            fitting[name] = options
    return fitting, left_out


def _obstacle(task: Task, options: ReadOptions, *, is_about_parsing: bool) -> str | None:
    if is_about_parsing and not task.parses_batches:
        return "image files and images of several sizes are decoded individually"
    if options.cache == "none":
        return None
    memory = options.cache == "memory"
    room = free_memory() if memory else shutil.disk_usage(_existing_parent(Path(str(options.cache_dir)))).free
    needed = cache_bytes(task)
    if needed <= room * _CACHE_PART:
        return None
    where = "of memory" if memory else f"in {options.cache_dir}"
    return f"the decoded split takes {needed / 1e9:,.1f} GB, but only {room / 1e9:,.1f} GB {where} are free"


def cache_bytes(task: Task) -> int:
    """The bytes of a cache of the split, which holds every image at its size in the batch."""
    images = images_of(task.build(task.options).element_spec)
    return task.num_records * math.prod(images.shape[1:]) * images.dtype.size


def _existing_parent(folder: Path) -> Path:
    """The folder, or its closest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def order_of(options: ReadOptions) -> str:
    """The order of an epoch under these options, in words."""
    if options.cache != "none" and options.cache_place == "batches":
        return "the same batches in every epoch"
    if options.shuffle == "global":
        return "a new order of the whole split in every epoch"
    if options.shuffle == "buffer":
        return f"the order on disk, shuffled by a buffer of {options.shuffle_buffer}"
    return "the order on disk in every epoch"


# ---- a sample of a large dataset


def sample_shards(manifest: Manifest, split: str, limit: int) -> Manifest:
    """The manifest of the split's first shards: as few as hold `limit` records, but at least two if there are two.

    Two, because some variants differ only in reading several files at once.
    """
    part = manifest.split(split)
    filled = [shard for shard in part.shards if shard.num_records]
    count, num_records = 0, 0
    while count < len(filled) and (num_records < limit or count < 2):
        num_records += filled[count].num_records
        count += 1
    sampled = dataclasses.replace(part, shards=tuple(filled[:count]))
    return dataclasses.replace(manifest, splits={split: sampled})
