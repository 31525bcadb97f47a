"""make_dataset: from a dataset on disk to batches for `model.fit`.

    train = make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224))
    validation = make_dataset("photos_tfrecord", "validation", batch_size=128, image_size=(224, 224))
    model.fit(train, validation_data=validation, epochs=10)

The flow, one tf.data step after another; those in brackets are options:

    order ─▶ read ─▶ parse, decode, resize ─▶ (cache) ─▶ batch ─▶ labels, transforms ─▶ prefetch (to a device)
                └─ after an error the fallback goes on: it names the record, or leaves it out; see fallback.py

A training split is shuffled globally, in an order that is a pure function of (seed, epoch). In what tfpipe converted,
blocks of at most 64 consecutive records are visited in a permutation of the whole split, and the records of a window,
8 MB of blocks, are permuted again. block_records=1 reads single records, in a permutation uniform over the split,
for a file opened per record. ReadOptions says which blocks third-party shards get. With a tf.data service, its workers
do all steps up to the transforms. Labels and transforms work on whole batches. Prefetch comes last, or batching would
run in the training loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.example import decode_batch, decode_parsed, decode_record, has_fixed_lengths, parse_batch
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.reader.caching import cache_dataset
from tfpipe.reader.crops import Crop
from tfpipe.reader.damage import Skipped
from tfpipe.reader.decode import Decoder
from tfpipe.reader.exclusions import check_exclusions
from tfpipe.reader.free_decoding import as_measured
from tfpipe.reader.images import check_channels, make_resizer, mask_fill_of, with_channels
from tfpipe.reader.mixtures import check_weights, class_groups, common_manifest, source_groups
from tfpipe.reader.options import ReadOptions, to_integer
from tfpipe.reader.order import EpochCounter, epochs
from tfpipe.reader.pipeline import Stream, read_epochs, read_share
from tfpipe.reader.placing import place
from tfpipe.reader.plan import ReadPlan, plan_reading
from tfpipe.reader.positions import Order
from tfpipe.reader.records import open_records
from tfpipe.reader.request import (
    Batch,
    Groups,
    Request,
    check_files,
    check_request,
    needed_schema,
    size_to_make,
)
from tfpipe.reader.service import read_from_workers
from tfpipe.reader.targets import (
    LostBoxes,
    finish_batch,
    print_lost,
    transform_batch,
    view_draw,
    view_name,
    with_labels,
)
from tfpipe.reader.transforms import Transform, check_transforms, transform_runs
from tfpipe.tf_internals import CountedDataset, map_on_one_device

# What an iterator on a device has ready at least.
_LEAST_AHEAD = 1

DatasetLike = str | os.PathLike[str] | Manifest


def make_dataset(
    source: DatasetLike | Mapping[DatasetLike, float],
    split: str = "train",
    *,
    batch_size: int,
    image_size: int | Sequence[int] | None = None,
    resize: str | Crop = "pad",
    antialias: bool = True,
    channels: int = 3,
    mask_fill: int | None = None,
    labels: str | None = "one_hot",
    max_boxes: int = 100,
    max_points: int = 128,
    views: int = 1,
    transforms: Sequence[Transform] = (),
    training: bool | None = None,
    repeat: bool = False,
    seed: int = 0,
    options: ReadOptions | str | os.PathLike[str] = ReadOptions(),  # noqa: B008 (frozen)
) -> tf.data.Dataset:
    """Batches of a split, ready for model.fit. Each new iteration is the next epoch, in another order.

    Args:
      source: the dataset's folder or its manifest; or a mixture, {source: weight}: in training an epoch has as many
        records as all sources together, each source its weight's share of them; in evaluation every record of every
        source is read once. Batches hold the features that all sources have.
      split: one of the manifest's splits.
      batch_size: records in a batch.
      image_size: (height, width) to resize to, or one number for a square; None where the manifest shows that all
        images have one size.
      resize: to the image_size: "pad" (keeps the aspect, black borders), "stretch", or "crop" (keeps the aspect, cuts
        the rest); a tfpipe.RandomResizedCrop or PaddedCrop draws another window of each image in each epoch of
        training, and drops boxes that it cuts off.
      antialias: average over the source where an image shrinks, as Pillow and torchvision do; a program is compiled
        for it first, which takes a second or two. False takes the four nearest pixels, at a slightly higher rate; with
        ReadOptions(dct="fast") the pixels are those that earlier versions gave by default.
      channels: 3, where gray is repeated, or 1: gray as it is, and colours as Pillow's L, 0.299 R + 0.587 G + 0.114 B.
        Stored pixels of other than 1 or 3 channels keep them.
      mask_fill: what comes into a mask from outside, by "pad" or PaddedCrop: 0 to 255, such as 255 where a loss ignores
        that; None: as the dataset was converted (--mask_fill), or else 0. Transforms have their own.
      labels: "one_hot": float32 [B, classes], with a 1 for each class of a record that has several, or float32 [B]
        where the labels are numbers; "int": int64 [B], for one class per record; adopted records whose label is a
        vector of n whole numbers give it as float32 or int64 [B, n]. "boxes": (images, {"boxes": float32 [B, max_boxes,
        4], x0, y0, x1, y1 in pixels of the image, "labels": int32 [B, max_boxes], -1 behind an image's own,
        "num_boxes": int32 [B]}), as Keras 3 names them; records without box_labels have 0, and behind augment.mixup
        there are "weights", float32 [B, max_boxes], too; records with keypoints or polygons of their boxes give those,
        too, with a row for each box; boxes that a crop leaves nothing of are not in it. "mask": (images, masks).
        None: batches are dicts of all features, and those whose length differs from record to record are ragged. A
        `mask` is uint8 [B, H, W, 1], turned and resized as its image is, to the nearest value; `boxes`, `keypoints`
        and `polygons`, as conversion writes them, are in pixels of the batch's images.
      max_boxes: with labels="boxes": of an image that has more, the first ones stay, and a warning counts the others.
        Transforms come before that.
      max_points: of a polygon: `polygons` are float32 [B, N, max_points, 2], which repeat their last point. Of a longer
        one so many points are taken, evenly.
      views: n yields ((v1, ..., vn), labels), each view with draws of its own of the crop and of all transforms; v1 is
        what views=1 gives. augment.views gives each view other transforms.
      transforms: applied in order to whole training batches; each takes ({"image", "label", ...}, seed int32 [2]).
        Evaluation refuses them: what it needs too is a .map of its batches.
      training: shuffle, drop the last partial batch, and apply the transforms; None means split == "train".
      repeat: go on into the next epochs without an end, which a `fit` with steps_per_epoch takes; evaluation keeps the
        smaller batch at the end of each. The dataset's own .repeat() would come behind the copy to options.device and
        undo it, and would empty what is prefetched at the end of each epoch.
      seed: of the order, the random crops and the transforms: any integer, also negative, of which only the value
        modulo 2**53 counts.
      options: how to read, and which settings exclude each other: see ReadOptions. A path is a file that
        ReadOptions.save or `tfpipe tune` wrote.

    For epochs of another length than the dataset's ("virtual epochs"), repeat it: each repetition is the next epoch.

        train = make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), repeat=True)
        model.fit(train, steps_per_epoch=1000, epochs=30)

    Returns:
      A dataset of known cardinality, tf.data.INFINITE_CARDINALITY with repeat, with elements (images, labels), or dicts
      with labels=None. Images are uint8 [B, H, W, channels] for raw and decoded uint8, float32 or float16 in [0, 1] for
      decoded floats; for embeddings, vectors float32 [B, D] instead.

    Raises:
      FileNotFoundError: there is no manifest, or a shard is missing.
      ValueError: an argument is out of range or excluded by another, or a shard has not the size in the manifest.
    """
    options = _read_options(options)
    batch_size, seed = to_integer("batch_size", batch_size), to_integer("seed", seed)
    training = split == "train" if training is None else _as_bool("training", training)
    sources, weights = _sources(source)
    manifest = sources[0] if weights is None else common_manifest(sources, split)
    schema = needed_schema(manifest, labels)
    check_channels(channels, schema)
    request = Request(
        manifest=manifest,
        sources=tuple(sources),
        groups=_groups(sources, weights, split, options) if training else None,
        split=split,
        schema=schema,
        batch_size=batch_size,
        image_size=size_to_make(manifest, image_size, resize),
        resize=resize,
        antialias=antialias,
        channels=channels,
        mask_fill=mask_fill_of(mask_fill, sources, schema),
        labels=labels,
        max_boxes=to_integer("max_boxes", max_boxes),
        max_points=to_integer("max_points", max_points),
        views=to_integer("views", views),
        transforms=check_transforms(transforms),
        training=training,
        repeat=_as_bool("repeat", repeat),
        seed=seed,
        options=options,
    )
    check_request(request)
    check_exclusions(request)
    check_files(request)
    return _dataset(request)


def _as_bool(name: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise UsageError(
        f"{name} is {value!r}; it must be {'True, False or None' if name == 'training' else 'True or False'}."
    )


def _sources(source: DatasetLike | Mapping[DatasetLike, float]) -> tuple[list[Manifest], list[float] | None]:
    """The manifests to read, and their weights where they are mixed."""
    if not isinstance(source, Mapping):
        return [_manifest(source)], None
    if not source:
        raise UsageError("A mixture takes at least one source: {source: weight}.")
    manifests = [_manifest(one) for one in source]
    return manifests, check_weights(manifests, list(source.values()))


def _read_options(options: ReadOptions | str | os.PathLike[str]) -> ReadOptions:
    if isinstance(options, str | os.PathLike):
        return ReadOptions.load(options)
    if not isinstance(options, ReadOptions):
        raise UsageError(f"options is {options!r}; it must be a ReadOptions, or the path of a file of them.")
    return options


def _manifest(source: DatasetLike) -> Manifest:
    return source if isinstance(source, Manifest) else load_manifest(source)


def _groups(
    sources: Sequence[Manifest], weights: Sequence[float] | None, split: str, options: ReadOptions
) -> Groups | None:
    """The groups to sample by weight: classes, or the sources of a mixture; None reads every record once."""
    if options.balance_classes:
        return class_groups(sources, split, weights)
    return None if weights is None else source_groups(sources, split, weights)


def _dataset(request: Request) -> tf.data.Dataset:
    plan = plan_reading(request)
    decoder = as_measured(_make_decoder(request, plan), request.options)
    table = open_records([(source, request.split) for source in request.sources])
    skipped = Skipped(table, decoder.single) if request.options.on_error == "skip" else None
    stream, counter = Stream(plan, table, decoder, skipped), EpochCounter(plan.order)
    if request.options.service is None:
        cache = partial(cache_dataset, request=request)
        dataset = _finish(read_epochs(stream, counter, cache, endless=request.repeat), request, plan)
    else:
        dataset = _read_from_service(request, stream, counter)
    # An iterator, and the batches that it returns, are on the device of the last stage.
    with tf.device(request.options.device):
        dataset = dataset.with_options(_tf_options(plan))
        length = tf.data.INFINITE_CARDINALITY if request.repeat else request.num_batches
        if request.repeat or (skipped is None and not plan.order.first_batch):
            return dataset.apply(tf.data.experimental.assert_cardinality(length))
    # The number of batches differs between iterations, which tf.data can't express.
    return CountedDataset(dataset, lambda: _remaining_batches(plan.order, counter))


def _read_from_service(request: Request, stream: Stream, counter: EpochCounter) -> tf.data.Dataset:
    """The batches that a service's workers make; `device` is one of this process, not of the workers."""
    worker = replace(request, options=replace(request.options, device=None))
    dataset = read_from_workers(
        lambda epoch: _finish(read_share(stream, epoch), worker, stream.plan),
        str(request.options.service),
        epochs(counter, endless=request.repeat),
    )
    return _prefetch(dataset, stream.plan, request.options.device)


def _remaining_batches(order: Order, counter: EpochCounter) -> int:
    """The number of batches in the next iteration: a resumed first one has only the rest of its epoch."""
    return order.num_batches - (order.first_batch if counter.next_epoch <= order.first_epoch else 0)


# ---- records to features


def _make_decoder(request: Request, plan: ReadPlan) -> Decoder:
    """The decoder of serialized records: of whole batches at once, or of records one by one."""
    return Decoder(
        single=lambda serialized, draw=None: _features(decode_record, serialized, request, draw),
        row=lambda stored, draw=None: _features(decode_parsed, stored, request, draw),
        parse=(lambda serialized: parse_batch(request.schema, serialized))
        if has_fixed_lengths(request.schema)
        else None,
        batch=(lambda serialized: _parse_batch(serialized, request)) if plan.is_vectorized else None,
        ragged=plan.is_ragged,
        draws=plan.draws,
    )


def _features(decode: Callable[..., Batch], record: Any, request: Request, draw: tf.Tensor | None) -> Batch:
    """The features of one record, its image decoded and resized; decode_record or decode_parsed takes it."""
    exact, resizer = request.options.dct == "exact", make_resizer(request, draw)
    features = _with_channels(decode(request.schema, record, exact=exact, resizer=resizer), request)
    for view in range(1, request.views if draw is not None else 1):
        other = make_resizer(request, view_draw(draw, view))
        again = _with_channels(decode(request.schema, record, exact=exact, resizer=other), request)
        features[view_name(view)] = again["image"]
    if request.labels is not None and request.schema.label_kind == "multi":
        # For each record, unlike all other labels: rows of unequal length can't be batched.
        features["label_int"] = _multi_hot(features["label_int"], len(request.manifest.class_names))
    return place(features, request, resizer)


def _parse_batch(serialized: tf.Tensor, request: Request) -> Batch:
    """The features of records whose every shape is known, parsed at once."""
    return _with_channels(decode_batch(request.schema, serialized), request)


def _with_channels(features: Batch, request: Request) -> Batch:
    if "image" in features:
        features["image"] = with_channels(features["image"], request.channels)
    return features


def _multi_hot(ids: tf.Tensor, classes: int) -> tf.Tensor:
    """float32 [classes] with a 1 for each of the ids [N]; all 0 where there are none."""
    return tf.cast(tf.reduce_any(tf.one_hot(ids, classes, True, False, dtype=tf.bool), axis=0), tf.float32)


# ---- batches to what the model takes


def _finish(batches: tf.data.Dataset, request: Request, plan: ReadPlan) -> tf.data.Dataset:
    """Batches with labels and transforms applied: behind the caches, so that every epoch draws new random numbers.

    Args:
      batches: ((epoch, global number of the batch), features).
      request: what was asked for.
      plan: how many batches are transformed at once.
    """
    calls, note = plan.transforms_at_once, print_lost if plan.is_remote else LostBoxes(request.max_boxes).note
    if request.options.device is None:
        return _prefetch(_finish_on_host(batches, request, plan, note), plan, None)
    labelled = batches.map(lambda step, features: (step, with_labels(features, request)))
    # Copied first: the transforms behind the copy run on the device, beside the step.
    with tf.device(request.options.device):
        copied = _copy_to_device(labelled, request.options.device)
        finished = copied.map(lambda step, batch: finish_batch(step, batch, request, note), num_parallel_calls=calls)
        return finished.prefetch(plan.prefetch or _LEAST_AHEAD)


def _finish_on_host(
    batches: tf.data.Dataset, request: Request, plan: ReadPlan, note: Callable[[tf.Tensor], tf.Operation]
) -> tf.data.Dataset:
    """The same on the CPU: one map for each run of transforms of one kind.

    A function made for one device skips passes that look at all of a compiled program at each beginning of an epoch:
    2 s of CPU for RandAugment. A user's function may have devices and loops, and is converted by AutoGraph.
    """

    def finish(run: range, step: tuple[tf.Tensor, tf.Tensor], batch: Batch) -> Any:
        if run.start == 0:
            batch = with_labels(batch, request)
        if run.stop == len(request.transforms):
            return finish_batch(step, batch, request, note, run=run)
        return step, transform_batch(step, batch, request, run)

    calls, everything = plan.transforms_at_once, range(len(request.transforms))
    runs = transform_runs(request.transforms) or [(everything, True)]
    if request.views > 1:
        # The views are told apart, and their labels compared, within one function.
        runs = [(everything, all(own for _, own in runs))]
    for run, own in runs:
        if own:
            batches = map_on_one_device(batches, partial(finish, run), calls=calls, deterministic=plan.keeps_order)
        else:
            batches = batches.map(partial(finish, run), num_parallel_calls=calls, deterministic=plan.keeps_order)
    return batches


def _prefetch(dataset: tf.data.Dataset, plan: ReadPlan, device: str | None) -> tf.data.Dataset:
    """The batches prefetched, to the device where one is named."""
    if device is None:
        return dataset.prefetch(plan.prefetch) if plan.prefetch else dataset
    with tf.device(device):
        return _copy_to_device(dataset, device).prefetch(plan.prefetch or _LEAST_AHEAD)


def _copy_to_device(dataset: tf.data.Dataset, device: str) -> tf.data.Dataset:
    return dataset.apply(tf.data.experimental.copy_to_device(device))


def _tf_options(plan: ReadPlan) -> tf.data.Options:
    settings = tf.data.Options()
    settings.deterministic = plan.keeps_order
    # The plan says what runs in parallel: TensorFlow would make sequential maps parallel, and look for a number of its
    # own, in a thread that sleeps for up to half an epoch before an iterator can end.
    settings.experimental_optimization.apply_default_optimizations = False
    settings.autotune.enabled = plan.is_remote
    return settings
