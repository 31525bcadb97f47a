"""The consumers at the end of a timed pipeline, and two reference pipelines that bound its rate.

A consumer runs through batches once and returns the number of images. `ThresholdMean` is the loop of the book
(Practical Machine Learning for Computer Vision), `Fit` a training step for each batch. `synthetic_ceiling` repeats one
batch: the rate of the consumer if the pipeline cost nothing. `decode_only` is the rate of the pipeline if everything
but parsing and decoding cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.example import decode_batch, decode_record, is_vectorizable
from tfpipe.timing.models import build_model
from tfpipe.timing.variants import Task, images_of

# decode_only keeps its records in memory.
_MOST_HELD_BYTES = 1 << 30


class ThresholdMean:
    """Computes the mean of all values above a threshold drawn for each epoch, which takes every pixel every time."""

    def __init__(self, *, seed: int = 0) -> None:
        self._draw = np.random.default_rng(seed)
        self.mean = float("nan")

    def __call__(self, batches: tf.data.Dataset) -> int:
        """Runs through the batches; `mean` then holds the mean over all."""
        threshold = float(self._draw.uniform(0.3, 0.7))
        total, count = 0.0, 0
        for batch in batches:
            images = images_of(batch)
            size = int(images.shape[0])
            total += size * float(_mean_above(images, tf.constant(threshold * _white(images.dtype))))
            count += size
        self.mean = total / max(count, 1)
        return count


def _white(dtype: tf.DType) -> float:
    return float(dtype.max) if dtype.is_integer else 1.0


# Compiled, and summed over the batch first: 11 ms for 128 x 224 x 224 x 3 uint8 values. Op by op it takes 75 ms, seven
# times as long as reading them from a cache, and all pipelines would look alike.
@tf.function(jit_compile=True)
def _mean_above(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    values = tf.cast(tf.reshape(images, [images.shape[0], -1]), tf.float32)
    return tf.reduce_mean(tf.reduce_sum(tf.where(values > threshold, values, 0.0), 0)) / images.shape[0]


class Fit:
    """Trains a Keras model for one epoch.

    Args:
      batches: any of the datasets to train on, for the shapes of images and labels.
      label_kind: "class", "multi", "number" or "vector"; see Schema.label_kind.
      model: a compiled model; None takes the book's, one linear layer on all pixels, here with a softmax.
    """

    def __init__(self, batches: tf.data.Dataset, label_kind: str, *, model: Any = None) -> None:
        self.check(batches)
        self.model = model or build_model("linear", batches, label_kind)

    @staticmethod
    def check(batches: tf.data.Dataset) -> None:
        """Raises UsageError where there is nothing to train on."""
        if not isinstance(batches.element_spec, tuple):
            raise UsageError("The records have no label to train on; leave out --fit.")

    def __call__(self, batches: tf.data.Dataset, *, steps: int | None = None, callbacks: Sequence[Any] = ()) -> int:
        """Trains on the batches, which are all full, or on the first ones."""
        self.model.fit(batches, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=list(callbacks))
        return (steps or int(batches.cardinality())) * int(images_of(batches.element_spec).shape[0])


# ---- reference pipelines


def synthetic_ceiling(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The first batch of `batches`, repeated as often as there are batches."""
    first = next(iter(batches))
    count = int(batches.cardinality())
    return tf.data.Dataset.from_tensors(first).repeat(count).prefetch(2)


def blank_batches(element_spec: Any) -> tf.data.Dataset:
    """One batch of zeros of these shapes and dtypes, on which a consumer compiles what it needs."""
    zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), element_spec)
    return tf.data.Dataset.from_tensors(zeros)


def decode_only(task: Task) -> tf.data.Dataset:
    """Records from memory, parsed and decoded in parallel in any order; each gives one value.

    Without reading, resizing and batching of images, this is the limit that no setting changes. Yields
    (values float32 [B],): the first value of each image. Its shape would not do: if that is known, TensorFlow decodes
    nothing.
    """
    schema = task.image_schema
    serialized = tf.data.Dataset.from_tensor_slices(_load_records(task))
    if is_vectorizable(schema):
        batches = serialized.batch(task.batch_size, drop_remainder=True)
        return _map_first_values(
            batches, lambda batch: tf.reshape(images_of(decode_batch(schema, batch)), [task.batch_size, -1])
        )
    exact = task.dct == "exact"
    values = _map_first_values(
        serialized, lambda record: tf.reshape(images_of(decode_record(schema, record, exact=exact)), [1, -1])
    )
    return values.rebatch(task.batch_size, drop_remainder=True)


def _map_first_values(dataset: tf.data.Dataset, function: Callable[[tf.Tensor], tf.Tensor]) -> tf.data.Dataset:
    """The first value of each row of the function's results: (float32 [rows],)."""
    return dataset.map(lambda element: (tf.cast(function(element)[:, 0], tf.float32),), tf.data.AUTOTUNE, False)


def serialized_records(task: Task) -> tf.data.Dataset:
    """The serialized records of the split in file order."""
    shards = task.manifest.split(task.split).shards
    # All shards of a split have one compression: `convert` writes none, and `index` takes a folder as it is.
    compression = shards[0].compression or ""
    return tf.data.TFRecordDataset([str(path) for path in task.paths], compression_type=compression)


def _load_records(task: Task) -> list[bytes]:
    """Serialized records of the split: whole batches, at most 1 GiB."""
    mean_bytes = task.manifest.split(task.split).num_bytes / task.num_records
    count = min(task.num_records, max(task.batch_size, int(_MOST_HELD_BYTES / mean_bytes)))
    return list(serialized_records(task).take(count // task.batch_size * task.batch_size).as_numpy_iterator())
