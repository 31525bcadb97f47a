"""Request: one call of make_dataset, checked and complete; all stages of the pipeline share it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfpipe.errors import DataError, ShardNotFound, UsageError
from tfpipe.format.manifest import Manifest, Shard
from tfpipe.format.record_files import stranger
from tfpipe.format.schema import Schema
from tfpipe.format.sharding import host_batches
from tfpipe.images.sizes import RESIZES, as_size
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.positions import Groups
from tfpipe.reader.transforms import Transform
from tfpipe.storage import scheme_of

if TYPE_CHECKING:
    import tensorflow as tf

    from tfpipe.reader.crops import Crop

Batch = dict[str, "tf.Tensor"]

POINTS = ("keypoints", "polygons")
LABELS = ("one_hot", "int", "boxes", "mask", None)


@dataclass(frozen=True)
class Request:
    """One call of make_dataset, checked and complete.

    Attributes:
      manifest: tells schema and classes; of a mixture, what its sources have in common.
      sources: the manifests that are read: one, or those of a mixture.
      groups: records that are sampled by weight; None reads every record once.
      channels: of the images: 1 or 3.
      mask_fill: what comes into a mask from outside.
      repeat: whether an iteration goes on into the next epochs.
      num_batches, full_batches: of this host, and of all hosts together.
    """

    manifest: Manifest
    sources: tuple[Manifest, ...]
    groups: Groups | None
    split: str
    schema: Schema
    batch_size: int
    image_size: tuple[int, int] | None
    resize: str | Crop
    antialias: bool
    channels: int
    mask_fill: int
    labels: str | None
    max_boxes: int
    max_points: int
    views: int
    transforms: tuple[Transform, ...]
    training: bool
    repeat: bool
    seed: int
    options: ReadOptions

    @property
    def shards(self) -> list[tuple[Manifest, Shard]]:
        """The shards of all sources that hold records, each with its manifest."""
        return [
            (source, shard) for source in self.sources for shard in source.split(self.split).shards if shard.num_records
        ]

    @property
    def num_records(self) -> int:
        """The number of records of all sources."""
        return sum(source.num_records(self.split) for source in self.sources)

    @property
    def in_hash_order(self) -> bool:
        """Whether neighbouring records have nothing in common: tfpipe's converter wrote all sources."""
        return all("plan" in source.made_by for source in self.sources)

    @property
    def full_batches(self) -> int:
        """The number of full batches in an epoch, of all hosts together."""
        return self.num_records // self.batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether a smaller batch ends the epoch: never in training, nor where hosts share the batches."""
        return not self.training and self.options.host_count == 1 and self.num_records % self.batch_size > 0

    @property
    def num_batches(self) -> int:
        """The number of an epoch's batches that this host reads."""
        host = host_batches(self.full_batches, host_index=self.options.host_index, host_count=self.options.host_count)
        return len(host) + self.has_partial_batch

    @property
    def shuffle(self) -> str:
        """The way this stream is shuffled: "none" in evaluation."""
        return self.options.shuffle if self.training else "none"

    @property
    def bytes_a_record(self) -> int:
        """The mean size of a stored record."""
        return max(1, sum(shard.num_bytes for _, shard in self.shards) // max(1, self.num_records))

    @property
    def bytes_a_batch(self) -> int:
        """The size of a batch's images or vectors; 1 where the manifest does not tell their shape."""
        feature = self.schema["embedding" if self.schema.payload == "embedding" else "image"]
        shape = feature.shape if self.image_size is None else (*self.image_size, self.channels)
        known = math.prod(side for side in shape if side is not None)
        return max(
            1, self.batch_size * known * np.dtype(feature.dtype if feature.dtype != "string" else "uint8").itemsize
        )

    @property
    def is_seekable(self) -> bool:
        """Whether records can be read through their offsets: no source has compressed shards."""
        return all(source.split(self.split).is_seekable for source in self.sources)

    @property
    def has_random_access(self) -> bool:
        """Whether any batch can be read at once: the order is computed, and records have offsets."""
        return self.is_seekable and self.shuffle != "buffer"

    @property
    def has_random_crop(self) -> bool:
        """Whether each record of each epoch gets a random crop of its own."""
        return self.training and not isinstance(self.resize, str)

    @property
    def is_in_store(self) -> bool:
        """Whether a source is in a store, where each seek takes long, and not on a disk."""
        return any(scheme_of(str(source.directory)) is not None for source in self.sources)

    @property
    def has_limited_buffer(self) -> bool:
        """Whether records pass a buffer of shuffle_buffer records."""
        by_default = self.shuffle == "global" and self.options.cache == "none" and not self.is_seekable
        return self.shuffle == "buffer" or by_default


def has_boxes(schema: Schema) -> bool:
    """Whether a schema has `boxes` [N, 4], and tells the size of the image that they refer to."""
    return bool(schema.derived_from("boxes")) or (
        "boxes" in schema
        and "shape" in schema
        and schema["boxes"].shape == (None, 4)
        and schema["boxes"].codec == "plain"
    )


def regions_in_pixels(manifest: Manifest, schema: Schema) -> tuple[str, ...]:
    """The features of records that mark regions in pixels of their stored images: boxes, keypoints and polygons.

    Args:
      manifest: of the dataset; of third-party records only boxes that a reader derives are known to be in pixels.
      schema: of what is read.
    """
    own = "adopted" not in manifest.made_by
    boxes = ("boxes",) if has_boxes(schema) and (own or schema.derived_from("boxes")) else ()
    points = [name for name in POINTS if own and name in schema and "shape" in schema]
    return (*boxes, *(name for name in points if len(schema[name].shape) > 1 and schema[name].shape[-1] in (2, 3)))


def has_polygons(manifest: Manifest, schema: Schema) -> bool:
    """Whether records have `polygons` as conversion writes them: points, and how many each box has."""
    forms = {"polygons": ("float32", (None, 2)), "polygon_points": ("int64", (None,))}
    stored = {f.name: (f.dtype, f.shape) for f in schema.features if f.name in forms}
    return stored == forms and {"boxes", "polygons"} <= {*regions_in_pixels(manifest, schema)}


def points_of_boxes(manifest: Manifest, schema: Schema) -> tuple[str, ...]:
    """The keypoints and polygons that batches have a row of for each box."""
    found = [name for name in regions_in_pixels(manifest, schema) if name in POINTS and len(schema[name].shape) == 3]
    return (*found, *(["polygons"] if has_polygons(manifest, schema) else []))


def needed_schema(manifest: Manifest, labels: str | None) -> Schema:
    """The features to parse: all for dict batches, else only those that images and labels need."""
    schema = manifest.schema
    if labels is None:
        return schema
    needed = {"embedding"} if schema.payload == "embedding" else {"image", "orientation"}
    if labels == "boxes":
        needed |= {"boxes", "box_labels", "shape", *schema.derived_from("boxes"), *points_of_boxes(manifest, schema)}
        needed |= {"polygon_points"} if has_polygons(manifest, schema) else set()
    elif labels == "mask":
        needed.add("mask")
    else:
        needed.add("label" if schema.label_kind == "number" else "label_int")
    if "image" in schema and None in schema["image"].shape and schema["image"].codec in ("plain", "pixels"):
        needed.add("shape")
    return schema.select(needed)


def size_to_make(
    manifest: Manifest, image_size: int | Sequence[int] | None, resize: str | Crop
) -> tuple[int, int] | None:
    """The (height, width) to resize to; None where nothing is resized."""
    if manifest.schema.payload == "embedding":
        if image_size is not None:
            raise UsageError(f"image_size is {image_size}, but {manifest.directory} holds embeddings, not images.")
        return None
    stored = manifest.schema["image"].shape[:2]
    if image_size is None:
        stored_height, stored_width = stored
        if stored_height is None or stored_width is None:
            raise UsageError(f"The images in {manifest.directory} differ in size; give image_size=(height, width).")
        return None if isinstance(resize, str) else (stored_height, stored_width)
    size = as_size(image_size, "image_size")
    return None if stored == size and isinstance(resize, str) else size


def check_request(request: Request) -> None:
    """Raises ValueError for arguments that are out of range or do not fit the dataset."""
    for source in request.sources:
        source.split(request.split)
    if request.batch_size < 1:
        raise UsageError(f"batch_size is {request.batch_size}; it must be at least 1.")
    _check_resize(request)
    if request.labels not in LABELS:
        raise UsageError(f"labels is {request.labels!r}; it takes one of {list(LABELS)}.")
    kind, targets = request.manifest.schema.label_kind, request.labels in ("one_hot", "int")
    if targets and kind == "none":
        raise UsageError(
            f"labels is {request.labels!r}, but the records in {request.manifest.directory} have no labels; "
            "labels=None gives dicts of their features."
        )
    if request.labels == "int" and kind not in ("class", "vector"):
        what = "floats" if kind == "number" else "several classes a record"
        raise UsageError(f"labels is 'int', but the labels are {what}; 'one_hot' gives them as float32.")
    if targets and kind != "number" and "label_int" not in request.schema:
        raise UsageError(
            f"The records in {request.manifest.directory} have no label_int; labels=None gives dicts of their features"
            + ("; tfpipe convert numbers the texts of `label`." if "label" in request.manifest.schema else ".")
        )
    _check_regions(request)
    if request.num_batches == 0:
        share = f" for each of {request.options.host_count} hosts" if request.options.host_count > 1 else ""
        raise UsageError(
            f"Split {request.split!r} has {request.num_records} records: not one batch of {request.batch_size}{share}."
        )


def _check_regions(request: Request) -> None:
    folder = request.manifest.directory
    if request.labels == "mask" and "mask" not in request.schema:
        raise UsageError(f"labels is 'mask', but the records of {folder} have none; tfpipe convert --masks adds them.")
    if request.labels == "boxes" and not has_boxes(request.schema):
        raise UsageError(f"labels is 'boxes', but the records of {folder} have none, or tell no size of the image.")
    if request.max_boxes < 1:
        raise UsageError(f"max_boxes is {request.max_boxes}; it must be at least 1.")
    if request.max_points < 3:
        raise UsageError(f"max_points is {request.max_points}; it must be at least 3.")
    if request.views < 1:
        raise UsageError(f"views is {request.views}; it must be at least 1.")
    if request.views > 1 and request.schema.payload == "embedding":
        raise UsageError(f"views is {request.views}, but {folder} holds embeddings: there are no images to view.")
    if request.views > 1 and request.has_random_crop and "mask" in request.schema:
        raise UsageError(
            f"views is {request.views}: each has a crop of its own, and the masks would follow the first one alone; "
            "transforms=[augment.random_resized_crop(...)] crops images and masks of each view."
        )


def _check_resize(request: Request) -> None:
    if not hasattr(request.resize, "for_training"):
        if request.resize not in RESIZES:
            raise UsageError(
                f"Unknown resize {request.resize!r}; known: {list(RESIZES)}, RandomResizedCrop() and PaddedCrop()."
            )
        return
    name = type(request.resize).__name__
    if request.image_size is None:
        raise UsageError(f"{name} crops images; the records of {request.manifest.directory} hold embeddings.")


def check_files(request: Request) -> None:
    """Raises if a shard is missing or has a wrong size: TensorFlow would take a cut file for a complete one."""
    for source in request.sources:
        _check_scheme(source)
    for manifest, shard in request.shards:
        path = manifest.shard_path(shard)
        if not path.exists():
            raise ShardNotFound(f"The shard {path} is missing; tfpipe check {manifest.directory} tells more.")
        if path.stat().st_size != shard.num_bytes:
            what = stranger(path) if isinstance(path, Path) else None
            hint = f"tfpipe check {manifest.directory} tells more" if what is None else f"it is {what}"
            raise DataError(
                f"The shard {path} has {path.stat().st_size} bytes, the manifest says {shard.num_bytes}; {hint}."
            )


def _check_scheme(manifest: Manifest) -> None:
    """Raises ValueError for a store that TensorFlow's file systems, which read the records, do not know."""
    scheme = scheme_of(str(manifest.directory))
    if scheme is None:
        return
    import tensorflow as tf

    known = tf.io.gfile.get_registered_schemes()
    if scheme not in known:
        readable = sorted(name for name in known if name not in ("", "ram", "file"))
        raise UsageError(
            f"{manifest.directory}: TensorFlow reads records from the stores {readable}, not from {scheme}://; "
            "copy the dataset to a folder or to one of those (tensorflow-io adds s3)."
        )
