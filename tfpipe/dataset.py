"""make_dataset: from a dataset on disk to batches that go straight into `model.fit`.

    train = make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224))
    validation = make_dataset("photos_tfrecord", "validation", batch_size=128, image_size=(224, 224))
    model.fit(train, validation_data=validation, epochs=10)

The flow, one tf.data step after the other:

    positions ─▶ read ─▶ parse, decode, resize ─▶ (cache) ─▶ batch ─▶ one-hot, transforms ─▶ prefetch

A training split is shuffled globally: position p of an epoch is record permutation(seed, epoch)(p), which is read by
itself through its offset. So the order is a pure function of (seed, epoch), uniform over the whole split, and costs no
buffer. Labels and transforms work on whole batches. Prefetch comes last, or batching would fall on the training loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import xxhash

from tfpipe.example import decode_batch, decode_record, is_vectorizable
from tfpipe.images import RESIZES, resize_image
from tfpipe.manifest import Manifest, Shard, load_manifest
from tfpipe.reading import TRANSFORM_STREAM, Order, read_by_position, read_in_order, read_mixed, steps, stream_bits
from tfpipe.readoptions import AUTOTUNE, ReadOptions
from tfpipe.schema import Schema
from tfpipe.sharding import host_batches

Batch = dict[str, tf.Tensor]
Transform = Callable[[Batch, tf.Tensor], Batch]

LABELS = ("one_hot", "int", None)


@dataclass(frozen=True)
class _Reading:
    """What one call of make_dataset asks for, checked and complete."""

    manifest: Manifest
    split: str
    schema: Schema
    batch_size: int
    image_size: tuple[int, int] | None
    resize: str
    antialias: bool
    labels: str | None
    transforms: tuple[Transform, ...]
    training: bool
    seed: int
    options: ReadOptions

    @property
    def shards(self) -> tuple[Shard, ...]:
        return tuple(shard for shard in self.manifest.split(self.split).shards if shard.num_records)

    @property
    def num_records(self) -> int:
        return self.manifest.num_records(self.split)

    @property
    def full_batches(self) -> int:
        return self.num_records // self.batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether a smaller batch ends the epoch: never in training, nor where hosts share the batches."""
        return not self.training and self.options.host_count == 1 and self.num_records % self.batch_size > 0

    @property
    def num_batches(self) -> int:
        host = host_batches(self.full_batches, host_index=self.options.host_index, host_count=self.options.host_count)
        return len(host) + self.has_partial_batch

    @property
    def shuffle(self) -> str:
        return self.options.shuffle if self.training else "none"

    @property
    def order(self) -> Order:
        return Order(
            num_records=self.num_records,
            num_positions=self.num_records if self.has_partial_batch else self.num_batches * self.batch_size,
            batch_size=self.batch_size,
            host_index=self.options.host_index,
            host_count=self.options.host_count,
            seed=self.seed,
            shuffled=self.shuffle == "global",
        )

    @property
    def is_seekable(self) -> bool:
        return self.manifest.split(self.split).is_seekable

    @property
    def vectorized(self) -> bool:
        needs_resize = self.image_size is not None
        return self.options.vectorize and is_vectorizable(self.schema) and not needs_resize


def make_dataset(
    source: str | os.PathLike[str] | Manifest,
    split: str = "train",
    *,
    batch_size: int,
    image_size: tuple[int, int] | None = None,
    resize: str = "pad",
    antialias: bool = False,
    labels: str | None = "one_hot",
    transforms: Sequence[Transform] = (),
    training: bool | None = None,
    seed: int = 0,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (frozen)
) -> tf.data.Dataset:
    """Batches of a split, ready for model.fit. Each new iteration is the next epoch, in another order.

    Args:
      source: the dataset's folder or its manifest.
      split: one of the manifest's splits.
      batch_size: records in a batch.
      image_size: (height, width) to resize to; None where the manifest shows that all images have one size.
      resize: "pad" (keeps the aspect, black borders), "stretch", or "crop" (keeps the aspect, cuts what overhangs).
      antialias: average over the source where an image shrinks: closer to Pillow, and some three times slower.
      labels: "one_hot": float32 [B, classes], with a 1 for each class of a record that has several, or float32 [B]
        where the labels are numbers; "int": int64 [B], for one class a record; None: batches are dicts of every
        feature, and those whose length differs from record to record are ragged.
      transforms: applied in order to whole training batches; each takes ({"image", "label", ...}, seed int32 [2]).
      training: shuffle, drop the last partial batch, and apply the transforms; None means split == "train".
      seed: of the order and of the transforms.
      options: how to read; see ReadOptions.

    Returns:
      A dataset of known cardinality that yields (images, labels), or dicts with labels=None. Images are uint8
      [B, H, W, 3] for raw and decoded uint8, float32 or float16 in [0, 1] for decoded floats; an embedding dataset
      yields its vectors, float32 [B, D], in their place.

    Raises:
      FileNotFoundError: there is no manifest, or a shard is missing.
      ValueError: an argument is out of range, or a shard has not the size that the manifest says.
    """
    manifest = source if isinstance(source, Manifest) else load_manifest(source)
    reading = _Reading(
        manifest=manifest,
        split=split,
        schema=_needed_schema(manifest.schema, labels),
        batch_size=batch_size,
        image_size=_size_to_make(manifest, image_size),
        resize=resize,
        antialias=antialias,
        labels=labels,
        transforms=tuple(transforms),
        training=split == "train" if training is None else training,
        seed=seed,
        options=options,
    )
    _check_reading(reading)
    _check_files(reading)
    dataset = _prefetched(_finished(_batches(reading), reading), reading)
    return dataset.with_options(_tf_options(reading.options))


# ---- what is asked for


def _needed_schema(schema: Schema, labels: str | None) -> Schema:
    """The features to parse: all for dict batches, else only what images and labels take."""
    if labels is None:
        return schema
    needed = {"embedding"} if schema.payload == "embedding" else {"image", "orientation"}
    needed.add("label" if schema.label_kind == "number" else "label_int")
    if "image" in schema and None in schema["image"].shape and schema["image"].codec in ("plain", "pixels"):
        needed.add("shape")
    return Schema(schema.payload, tuple(feature for feature in schema.features if feature.name in needed))


def _size_to_make(manifest: Manifest, image_size: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size to resize to; None where nothing is to be resized."""
    if manifest.schema.payload == "embedding":
        if image_size is not None:
            raise ValueError(f"image_size is {image_size}, but {manifest.directory} holds embeddings, not images.")
        return None
    stored = manifest.schema["image"].shape[:2]
    if image_size is None:
        if None in stored:
            raise ValueError(f"The images in {manifest.directory} differ in size; give image_size=(height, width).")
        return None
    height, width = image_size
    if height < 1 or width < 1:
        raise ValueError(f"image_size is {image_size}; height and width must be at least 1.")
    return None if stored == (height, width) else (int(height), int(width))


def _check_reading(reading: _Reading) -> None:
    reading.manifest.split(reading.split)
    if reading.batch_size < 1:
        raise ValueError(f"batch_size is {reading.batch_size}; it must be at least 1.")
    if reading.resize not in RESIZES:
        raise ValueError(f"Unknown resize {reading.resize!r}; known: {list(RESIZES)}.")
    if reading.labels not in LABELS:
        raise ValueError(f"labels is {reading.labels!r}; it takes one of {list(LABELS)}.")
    if reading.options.host_count > 1 and not reading.is_seekable:
        raise ValueError(
            f"host_count is {reading.options.host_count}, but split {reading.split!r} has compressed shards: "
            "each host seeks its own records, and those have no offsets."
        )
    kind = reading.manifest.schema.label_kind
    if reading.labels == "int" and kind != "class":
        what = "floats" if kind == "number" else "several classes a record"
        raise ValueError(f"labels is 'int', but the labels are {what}; 'one_hot' gives them as float32.")
    if reading.labels is not None and kind != "number" and "label_int" not in reading.schema:
        raise ValueError(
            f"The records in {reading.manifest.directory} have no label_int; labels=None gives dicts of what they have."
        )
    if reading.num_batches == 0:
        share = f" for each of {reading.options.host_count} hosts" if reading.options.host_count > 1 else ""
        raise ValueError(
            f"Split {reading.split!r} has {reading.num_records} records: not one batch of {reading.batch_size}{share}."
        )


def _check_files(reading: _Reading) -> None:
    """Every shard is there and has its size: milliseconds, and TensorFlow would take a cut file for a complete one."""
    for shard in reading.shards:
        path = reading.manifest.shard_path(shard)
        if not path.exists():
            raise FileNotFoundError(
                f"The shard {path} is missing; tfpipe check {reading.manifest.directory} tells more."
            )
        if path.stat().st_size != shard.num_bytes:
            raise ValueError(
                f"The shard {path} has {path.stat().st_size} bytes, the manifest says {shard.num_bytes}; "
                f"tfpipe check {reading.manifest.directory} tells more."
            )


# ---- records to batches


def _batches(reading: _Reading) -> tf.data.Dataset:
    """The features of the records, batch by batch."""
    options = reading.options
    cached = options.cache != "none" and options.cache_place
    if cached == "records":
        records = _shuffled_by_buffer(_cached(_parsed(_in_order(reading), reading), reading), reading)
    else:
        records = _parsed(_serialized(reading), reading)
    batches = _batched(records, reading)
    if reading.vectorized:
        batches = _mapped(batches, lambda serialized: decode_batch(reading.schema, serialized), options)
    return _cached(batches, reading) if cached == "batches" else batches


def _batched(records: tf.data.Dataset, reading: _Reading) -> tf.data.Dataset:
    """Records in batches; as ragged ones where a dict holds arrays of any length."""
    ragged = reading.labels is None and any(f.codec == "plain" and None in f.shape for f in reading.schema.features)
    batch = records.ragged_batch if ragged else records.batch
    return batch(reading.batch_size, drop_remainder=not reading.has_partial_batch)


def _serialized(reading: _Reading) -> tf.data.Dataset:
    """Serialized records, in the order of the epoch."""
    if reading.shuffle == "global" and not reading.is_seekable:
        return read_mixed(reading.manifest, reading.split, reading.seed, reading.options)
    if reading.shuffle == "global" or reading.options.host_count > 1:
        return read_by_position(reading.manifest, reading.split, reading.order, reading.options)
    return _shuffled_by_buffer(_in_order(reading), reading)


def _in_order(reading: _Reading) -> tf.data.Dataset:
    return read_in_order(reading.manifest, reading.split, reading.options)


def _parsed(records: tf.data.Dataset, reading: _Reading) -> tf.data.Dataset:
    """Records decoded one by one, in one parallel map; left serialized where whole batches are parsed."""
    if reading.vectorized:
        return records

    def parse(serialized: tf.Tensor) -> Batch:
        features = decode_record(reading.schema, serialized)
        if reading.labels is not None and reading.manifest.schema.label_kind == "multi":
            # By record, unlike all else: rows of unequal length don't batch.
            features["label_int"] = _multi_hot(features["label_int"], len(reading.manifest.class_names))
        if reading.image_size is not None:
            features["image"] = resize_image(
                features["image"], reading.image_size, resize=reading.resize, antialias=reading.antialias
            )
        return features

    return _mapped(records, parse, reading.options)


def _multi_hot(ids: tf.Tensor, classes: int) -> tf.Tensor:
    """float32 [classes] with a 1 for each of the ids [N]; all 0 where there are none."""
    return tf.cast(tf.reduce_any(tf.one_hot(ids, classes, True, False, dtype=tf.bool), axis=0), tf.float32)


def _mapped(dataset: tf.data.Dataset, function: Callable[..., Any], options: ReadOptions) -> tf.data.Dataset:
    if options.parallel_calls == 1:
        return dataset.map(function)
    return dataset.map(function, num_parallel_calls=options.parallel_calls, deterministic=options.deterministic)


def _shuffled_by_buffer(records: tf.data.Dataset, reading: _Reading) -> tf.data.Dataset:
    """Records mixed by a buffer: of the whole split behind a cache, where "global" can't seek."""
    if reading.shuffle == "none":
        return records
    whole = reading.shuffle == "global"
    return records.shuffle(reading.num_records if whole else reading.options.shuffle_buffer, seed=reading.seed)


def _cached(dataset: tf.data.Dataset, reading: _Reading) -> tf.data.Dataset:
    if reading.options.cache == "memory":
        return dataset.cache()
    folder = Path(str(reading.options.cache_dir), _cache_name(reading))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data.index").exists():
        for leftover in folder.iterdir():  # Of a run that was killed: TensorFlow would refuse to go on beside its lock.
            leftover.unlink()
    return dataset.cache(str(folder / "data"))


def _cache_name(reading: _Reading) -> str:
    """Changes with the data and with everything that changes what is cached."""
    settings = {name: value for name, value in vars(reading).items() if name not in ("manifest", "transforms")}
    return xxhash.xxh3_128_hexdigest(f"{reading.manifest.fingerprint()} {settings}".encode())


# ---- batches to what the model takes


def _finished(batches: tf.data.Dataset, reading: _Reading) -> tf.data.Dataset:
    """Labels, transforms and structure, on whole batches: behind the caches, so that every epoch draws anew."""
    classes, kind = len(reading.manifest.class_names), reading.manifest.schema.label_kind
    image_name = "embedding" if reading.schema.payload == "embedding" else "image"

    def finish(step: tuple[tf.Tensor, tf.Tensor], features: Batch) -> Any:
        if reading.labels is None:
            return _transformed(reading, step, features)
        label = features["label" if kind == "number" else "label_int"]
        if kind == "class" and reading.labels == "one_hot":
            label = tf.one_hot(label, classes)
        batch = _transformed(reading, step, {"image": features[image_name], "label": label})
        return batch["image"], batch["label"]

    numbered = tf.data.Dataset.zip(steps(reading.order), batches)
    return _mapped(numbered, finish, reading.options).apply(
        tf.data.experimental.assert_cardinality(reading.num_batches)
    )


def _transformed(reading: _Reading, step: tuple[tf.Tensor, tf.Tensor], batch: Batch) -> Batch:
    if not reading.training:
        return batch
    epoch, number = step
    for i, transform in enumerate(reading.transforms):
        draw = epoch * reading.full_batches + number
        batch = transform(batch, stream_bits(reading.seed, TRANSFORM_STREAM + i, draw, [2], tf.int32))
    return batch


def _prefetched(dataset: tf.data.Dataset, reading: _Reading) -> tf.data.Dataset:
    return dataset.prefetch(reading.options.prefetch) if reading.options.prefetch else dataset


def _tf_options(options: ReadOptions) -> tf.data.Options:
    settings = tf.data.Options()
    settings.deterministic = options.deterministic
    # One call at a time is meant: TensorFlow would make sequential maps parallel by itself.
    settings.experimental_optimization.apply_default_optimizations = options.parallel_calls != 1
    settings.autotune.enabled = AUTOTUNE in (options.parallel_calls, options.parallel_reads, options.prefetch)
    return settings
