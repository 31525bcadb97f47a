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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from tfpipe.format.example import decode_batch, decode_record
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.images.boxes import fit_boxes, turn_boxes
from tfpipe.images.fit import Fit, Fitting
from tfpipe.reader.crops import Crop
from tfpipe.reader.damage import Skipped, reported
from tfpipe.reader.decode import Decoder
from tfpipe.reader.mixtures import class_groups, common_manifest, source_groups
from tfpipe.reader.options import AUTOTUNE, ReadOptions
from tfpipe.reader.order import TRANSFORM_STREAM, Groups, Order, epoch_counter, stream_bits
from tfpipe.reader.pipeline import read_epochs, read_share
from tfpipe.reader.records import Shelf, mapped, open_shelf
from tfpipe.reader.request import (
    Batch,
    Request,
    Transform,
    check_files,
    check_request,
    has_boxes,
    needed_schema,
    size_to_make,
)
from tfpipe.reader.service import distributed
from tfpipe.tf_internals import CountedDataset

Source = str | os.PathLike[str] | Manifest


def make_dataset(
    source: Source | Mapping[Source, float],
    split: str = "train",
    *,
    batch_size: int,
    image_size: tuple[int, int] | None = None,
    resize: str | Crop = "pad",
    antialias: bool = False,
    labels: str | None = "one_hot",
    transforms: Sequence[Transform] = (),
    training: bool | None = None,
    seed: int = 0,
    options: ReadOptions | str | os.PathLike[str] = ReadOptions(),  # noqa: B008 (frozen)
) -> tf.data.Dataset:
    """Batches of a split, ready for model.fit. Each new iteration is the next epoch, in another order.

    Args:
      source: the dataset's folder or its manifest.
      split: one of the manifest's splits.
      batch_size: records in a batch.
      image_size: (height, width) to resize to; None where the manifest shows that all images have one size.
      resize: "pad" (keeps the aspect, black borders), "stretch", or "crop" (keeps the aspect, cuts what overhangs); a
        tfpipe.RandomResizedCrop or PaddedCrop draws another window of each image in each epoch of training.
      antialias: average over the source where an image shrinks, as Pillow does: better images at about the same rate;
        a program is compiled for it first, for a second or two.
      labels: "one_hot": float32 [B, classes], with a 1 for each class of a record that has several, or float32 [B]
        where the labels are numbers; "int": int64 [B], for one class a record; None: batches are dicts of every
        feature, and those whose length differs from record to record are ragged. A `mask` is uint8 [B, H, W, 1], turned
        and fitted as its image is, to the nearest value; .map(lambda batch: (batch["image"], batch["mask"])) makes
        what a segmentation model is fitted to. `boxes`, as conversion writes them, are in pixels of the batch's images.
      transforms: applied in order to whole training batches; each takes ({"image", "label", ...}, seed int32 [2]).
      training: shuffle, drop the last partial batch, and apply the transforms; None means split == "train".
      seed: of the order and of the transforms.
      options: how to read; see ReadOptions. A path is of a file that ReadOptions.save or `tfpipe tune` wrote.

    For epochs of another length than the dataset's ("virtual epochs"), repeat it: each repetition is the next epoch.

        model.fit(train.repeat(), steps_per_epoch=1000, epochs=30)

    Returns:
      A dataset of known cardinality that yields (images, labels), or dicts with labels=None. Images are uint8
      [B, H, W, 3] for raw and decoded uint8, float32 or float16 in [0, 1] for decoded floats; an embedding dataset
      yields its vectors, float32 [B, D], in their place.

    Raises:
      FileNotFoundError: there is no manifest, or a shard is missing.
      ValueError: an argument is out of range, or a shard has not the size that the manifest says.
    """
    options = (options if isinstance(options, ReadOptions) else ReadOptions.load(options)).resolved
    sources, weights = _sources(source)
    manifest = sources[0] if weights is None else common_manifest(sources, split)
    training = split == "train" if training is None else training
    request = Request(
        manifest=manifest,
        sources=tuple(sources),
        groups=_groups(sources, weights, split, options) if training else None,
        split=split,
        schema=needed_schema(manifest.schema, labels),
        batch_size=batch_size,
        image_size=size_to_make(manifest, image_size, resize),
        resize=resize,
        antialias=antialias,
        labels=labels,
        transforms=tuple(transforms),
        training=training,
        seed=seed,
        options=options,
    )
    check_request(request)
    check_files(request)
    return _dataset(request)


def _sources(source: Source | Mapping[Source, float]) -> tuple[list[Manifest], list[float] | None]:
    """The manifests to read, and their weights where they are mixed."""
    if not isinstance(source, Mapping):
        return [_manifest(source)], None
    if not source:
        raise ValueError("A mixture takes at least one source: {source: weight}.")
    return [_manifest(one) for one in source], [float(weight) for weight in source.values()]


def _manifest(source: Source) -> Manifest:
    return source if isinstance(source, Manifest) else load_manifest(source)


def _groups(
    sources: Sequence[Manifest], weights: Sequence[float] | None, split: str, options: ReadOptions
) -> Groups | None:
    """What is drawn by weight in training: classes, or the sources of a mixture; None: every record comes once."""
    if options.balance_classes:
        return class_groups(sources, split, weights)
    return None if weights is None else source_groups(sources, split, weights)


def _dataset(request: Request) -> tf.data.Dataset:
    decoder = _parsed(request)
    shelf = open_shelf([(source, request.split) for source in request.sources])
    skipped = Skipped(shelf, decoder.single) if request.options.on_error == "skip" else None
    begun = epoch_counter(request.order)
    if request.options.service is None:
        dataset = _finished(read_epochs(request, shelf, decoder, skipped, begun), request)
        dataset = dataset if skipped is None else reported(dataset, skipped)
    else:
        dataset = _served(request, shelf, decoder, skipped, begun)
    # An iterator stands where the last stage does, and what it hands out with it.
    with tf.device(request.options.device):
        dataset = dataset.with_options(_tf_options(request.options))
        if skipped is None and not request.order.first_batch:
            return dataset.apply(tf.data.experimental.assert_cardinality(request.num_batches))
    # The number differs between iterations, for which TensorFlow has no word.
    return CountedDataset(dataset, lambda: _batches_to_come(request.order, begun))


def _served(
    request: Request, shelf: Shelf, decoder: Decoder, skipped: Skipped | None, begun: tf.Variable
) -> tf.data.Dataset:
    """The batches as a service's workers make them; the device is this process's own."""
    worker = replace(request, options=replace(request.options, device=None))
    dataset = distributed(
        lambda epoch: _finished(read_share(worker, shelf, decoder, skipped, epoch), worker),
        request.order,
        str(request.options.service),
        begun,
    )
    return _prefetched(dataset, request)


def _batches_to_come(order: Order, begun: tf.Variable) -> int:
    """The batches of the next iteration: a resumed first one holds only the rest of its epoch."""
    return order.num_batches - (order.first_batch if int(begun) < order.first_epoch else 0)


# ---- records to features


def _parsed(request: Request) -> Decoder:
    """How serialized records become features: whole batches at once, or records one by one."""
    return Decoder(
        single=lambda serialized, draw=None: _parse(serialized, request, draw),
        batch=(lambda serialized: decode_batch(request.schema, serialized)) if request.vectorized else None,
        ragged=request.ragged,
    )


def _parse(serialized: tf.Tensor, request: Request, draw: tf.Tensor | None) -> Batch:
    """The features of one record, its image decoded and resized."""
    features = decode_record(request.schema, serialized, fit=_fit(request, draw))
    if request.labels is not None and request.manifest.schema.label_kind == "multi":
        # By record, unlike all else: rows of unequal length don't batch.
        features["label_int"] = _multi_hot(features["label_int"], len(request.manifest.class_names))
    if request.labels is None and has_boxes(request.schema) and "adopted" not in request.manifest.made_by:
        features["boxes"] = _moved_boxes(features, request)
    return features


def _fit(request: Request, draw: tf.Tensor | None) -> Fitting | None:
    size, resize, antialias = request.image_size, request.resize, request.antialias
    if size is None:
        return None
    if isinstance(resize, str):
        return Fit(size, resize, antialias)
    if draw is None:
        return resize.resting(size, antialias=antialias)
    return resize.drawn(size, antialias=antialias, seed=request.seed, draw=draw)


def _moved_boxes(features: Batch, request: Request) -> tf.Tensor:
    """The boxes of a record on its image as it leaves: upright, in the size that was asked for."""
    boxes, size = features["boxes"], features["shape"][:2]
    if "orientation" in features:
        boxes = turn_boxes(boxes, size, features["orientation"])
        size = tf.where(features["orientation"] >= 5, size[::-1], size)
    if request.image_size is None:
        return boxes
    return fit_boxes(boxes, size, request.image_size, resize=str(request.resize))


def _multi_hot(ids: tf.Tensor, classes: int) -> tf.Tensor:
    """float32 [classes] with a 1 for each of the ids [N]; all 0 where there are none."""
    return tf.cast(tf.reduce_any(tf.one_hot(ids, classes, True, False, dtype=tf.bool), axis=0), tf.float32)


# ---- batches to what the model takes


def _finished(batches: tf.data.Dataset, request: Request) -> tf.data.Dataset:
    """Labels, transforms and structure, on whole batches: behind the caches, so that every epoch draws anew.

    Args:
      batches: ((epoch, global number of the batch), features).
      request: what was asked for.
    """
    if request.options.device is None:
        finished = mapped(
            batches, lambda step, features: _left(step, _labelled(features, request), request), request.options
        )
        return _prefetched(finished, request)
    labelled = mapped(batches, lambda step, features: (step, _labelled(features, request)), request.options)
    # Copied first: what is placed behind the copy runs on the device, beside the step.
    with tf.device(request.options.device):
        copied = _copied(labelled, request.options.device)
        finished = mapped(copied, lambda step, batch: _left(step, batch, request), request.options)
        return finished.prefetch(request.options.prefetch or AUTOTUNE)


def _labelled(features: Batch, request: Request) -> Batch:
    """What the transforms take: every feature for dict batches, else `image` and `label`."""
    if request.labels is None:
        return features
    kind = request.manifest.schema.label_kind
    label = features["label" if kind == "number" else "label_int"]
    if kind == "class" and request.labels == "one_hot":
        label = tf.one_hot(label, len(request.manifest.class_names))
    return {"image": features["embedding" if request.schema.payload == "embedding" else "image"], "label": label}


def _left(step: tuple[tf.Tensor, tf.Tensor], batch: Batch, request: Request) -> Any:
    """The batch as it leaves: transformed in training, and a pair where labels are asked for."""
    epoch, number = step
    # Schedules, such as augment.pba's, read the epoch; a column of that name goes its own way.
    told = {} if "epoch" in batch else {"epoch": epoch}
    for i, transform in enumerate(request.transforms if request.training else ()):
        draw = epoch * request.full_batches + number
        batch = transform({**batch, **told}, stream_bits(request.seed, TRANSFORM_STREAM + i, draw, [2], tf.int32))
    if request.labels is None:
        return {name: value for name, value in batch.items() if name not in told}
    return batch["image"], batch["label"]


def _prefetched(dataset: tf.data.Dataset, request: Request) -> tf.data.Dataset:
    """Batches made ahead, on the device where one is named."""
    device, ahead = request.options.device, request.options.prefetch
    if device is None:
        return dataset.prefetch(ahead) if ahead else dataset
    with tf.device(device):
        return _copied(dataset, device).prefetch(ahead or AUTOTUNE)


def _copied(dataset: tf.data.Dataset, device: str) -> tf.data.Dataset:
    return dataset.apply(tf.data.experimental.copy_to_device(device))


def _tf_options(options: ReadOptions) -> tf.data.Options:
    settings = tf.data.Options()
    settings.deterministic = options.deterministic
    # One call at a time is meant: TensorFlow would make sequential maps parallel by itself.
    settings.experimental_optimization.apply_default_optimizations = options.parallel_calls != 1
    settings.autotune.enabled = AUTOTUNE in (options.parallel_calls, options.prefetch)
    if options.ram_budget is not None:
        settings.autotune.ram_budget = options.ram_budget
    if options.cpu_budget is not None:
        settings.autotune.cpu_budget = options.cpu_budget
    return settings
