"""Records sampled by weight: mixtures of datasets, balanced classes, and class weights for Keras.

make_dataset({"photos": 0.7, "drawings": 0.3}, batch_size=128, image_size=(224, 224))
make_dataset("photos", batch_size=128, image_size=(224, 224), options=ReadOptions(balance_classes=True))
model.fit(train, class_weight=class_weights(load_manifest("photos")))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.errors import DataError, UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import Feature, Schema
from tfpipe.policy import is_number
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.positions import Groups
from tfpipe.reader.records import read_in_order

_LABELS_AT_ONCE = 1024


def class_weights(manifest: Manifest, split: str = "train") -> dict[int, float]:
    """The value for `model.fit(class_weight=...)` that gives every class the same weight in the loss.

    Returns:
      Class id to records / (classes that occur * records of the class); to 0 for a class that does not occur.

    Raises:
      ValueError: there is no such split, or its records are not counted by class.
    """
    counts = manifest.split(split).class_counts
    present = sum(count > 0 for count in counts)
    if not present:
        raise UsageError(f"Split {split!r} of {manifest.directory} has no records with classes to weigh.")
    return {label: sum(counts) / (present * count) if count else 0.0 for label, count in enumerate(counts)}


# ---- mixtures


def common_manifest(sources: Sequence[Manifest], split: str) -> Manifest:
    """A manifest of what the sources of a mixture have in common: the features that all hold, and their classes.

    Raises:
      ValueError: classes differ, or a feature has another type in another source.
    """
    first = sources[0]
    for other in sources[1:]:
        if other.class_names != first.class_names:
            raise UsageError(
                f"The classes of {other.directory} are not those of {first.directory}: "
                f"{list(other.class_names)[:10]} and {list(first.class_names)[:10]}."
            )
        if (other.schema.payload, other.schema.label_kind) != (first.schema.payload, first.schema.label_kind):
            raise UsageError(
                f"{other.directory} holds {other.schema.payload} records with {other.schema.label_kind} labels, "
                f"{first.directory} {first.schema.payload} with {first.schema.label_kind}: they can't be mixed."
            )
        if other.schema.derived_from("shape") != first.schema.derived_from("shape"):
            raise UsageError(f"{other.directory} and {first.directory} store the sizes of their images differently.")
    names = [
        name
        for name in first.schema.names
        if first.schema[name].default is not None or all(name in other.schema for other in sources)
    ]
    extra = [
        f.name for other in sources for f in other.schema.features if f.name not in names and f.default is not None
    ]
    features = [
        _common_feature([s for s in sources if name in s.schema], name) for name in dict.fromkeys([*names, *extra])
    ]
    derived = tuple(one for one in first.schema.derived if all(one in other.schema.derived for other in sources))
    return replace(first, schema=Schema(first.schema.payload, tuple(features), derived))


def _common_feature(sources: Sequence[Manifest], name: str) -> Feature:
    found = [source.schema[name] for source in sources]
    first = found[0]
    for source, feature in zip(sources, found, strict=True):
        if feature == first:
            continue
        codecs = {first.codec, feature.codec}
        same_files = codecs <= {"jpeg", "image"} and feature.dtype == first.dtype
        if not same_files or len(feature.shape) != len(first.shape):
            raise UsageError(f"Feature {name!r} of {source.directory} is {feature}, in {sources[0].directory} {first}.")
        shape = tuple(a if a == b else None for a, b in zip(first.shape, feature.shape, strict=True))
        first = replace(first, codec="jpeg" if codecs == {"jpeg"} else "image", shape=shape)
    return first


def source_groups(sources: Sequence[Manifest], split: str, weights: Sequence[float]) -> Groups:
    """A group for each source, with its weight's share of an epoch, which is as long as all sources together.

    Raises:
      ValueError: a source has no record in the split, or too small a weight for one record an epoch.
    """
    sizes = [source.num_records(split) for source in sources]
    quotas = _quotas(sum(sizes), weights)
    for source, weight, size, quota in zip(sources, weights, sizes, quotas, strict=True):
        if not size:
            raise UsageError(f"Split {split!r} of {source.directory} has no records to draw from.")
        if not quota:
            raise UsageError(
                f"The weight of {source.directory} is {weight} of {sum(weights)}: not one of the {sum(sizes)} records "
                "of an epoch. Give it more weight, or leave it out."
            )
    return Groups(np.arange(sum(sizes)), tuple(sizes), quotas)


def check_weights(sources: Sequence[Manifest], weights: Sequence[Any]) -> list[float]:
    """The weights as floats.

    Raises:
      ValueError: a weight is no number, or not positive and finite.
    """
    for source, weight in zip(sources, weights, strict=True):
        if not is_number(weight, kinds=Real) or weight <= 0:
            given = float(weight) if isinstance(weight, Real) else repr(weight)
            raise UsageError(f"The weight of {source.directory} is {given}; it must be positive and finite.")
    return [float(weight) for weight in weights]


def _quotas(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """The integer shares of a total that are nearest to the weights, by largest remainder."""
    exact = np.array(weights, float) / sum(weights) * total
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return tuple(shares.tolist())


# ---- classes


def class_groups(sources: Sequence[Manifest], split: str, weights: Sequence[float] | None) -> Groups:
    """A group for each class that occurs, all with equal shares of an epoch.

    In a mixture, each source's share is divided among its classes. Labels are read from the records, once per process.

    Raises:
      ValueError: the records do not have one class each, one can't be read, or a class gets no record of an epoch.
    """
    members: list[np.ndarray] = []
    shares: list[float] = []
    start = 0
    for source, weight in zip(sources, weights or [1.0] * len(sources), strict=True):
        if source.schema.label_kind != "class" or "label_int" not in source.schema:
            raise UsageError(f"balance_classes takes one class a record; {source.directory} has none or several.")
        labels = _labels_of(_LabelKey(source, split))
        groups = [start + np.flatnonzero(labels == value) for value in np.unique(labels)]
        members += groups
        shares += [weight / len(groups)] * len(groups)
        start += len(labels)
    quotas = _quotas(start, shares)
    if not all(quotas):
        raise UsageError(
            f"balance_classes divides the weight of each source among its classes: {quotas.count(0)} of {len(quotas)} "
            f"would get none of the {start} records of an epoch. Give the sources of small weight more."
        )
    return Groups(np.concatenate(members), tuple(map(len, members)), quotas)


class _LabelKey:
    """A manifest and a split, compared by their contents: manifests hold dicts, which can't be keys of a cache."""

    def __init__(self, manifest: Manifest, split: str) -> None:
        self.manifest, self.split = manifest, split
        self.name = (str(manifest.directory), manifest.fingerprint(), split)

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LabelKey) and self.name == other.name


@lru_cache(maxsize=16)
def _labels_of(source: _LabelKey) -> np.ndarray:
    """The class id of every record: int64 [N]."""
    stored = source.manifest.schema["label_int"].stored_name
    spec = {stored: tf.io.FixedLenFeature([], tf.int64)}
    records = read_in_order(source.manifest, source.split, ReadOptions.plain()).batch(_LABELS_AT_ONCE)
    labels = records.map(lambda batch: tf.io.parse_example(batch, spec)[stored], num_parallel_calls=tf.data.AUTOTUNE)
    try:
        return np.concatenate(list(labels.as_numpy_iterator()))
    except tf.errors.OpError as error:
        folder = source.manifest.directory
        raise DataError(
            f"balance_classes reads every label before the first batch, and a record of split {source.split!r} of "
            f"{folder} can't be read; on_error can't leave it out there. `tfpipe check {folder}` names it, `tfpipe "
            "repair` saves the others, and balance_classes=False needs no labels."
        ) from error
