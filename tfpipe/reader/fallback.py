"""Two ways to the same batches: a fast path for valid data, and a fallback that goes on where the fast path fails.

The fast path stops at its first error, whatever it is. The fallback begins with the batch that was not delivered,
meets the same error, and can report which record it is in or leave that record out. It is built only then: a part of a
graph that is never run would still cost every epoch 0.2 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfpipe.reader.order import Order, first_batch_of, global_batches, step_numbers
from tfpipe.tf_internals import variant_of

# Fallback datasets that are kept alive: one for each iteration that goes on at the same time.
_MOST_KEPT = 16


def with_fallback(
    order: Order,
    epochs: tf.data.Dataset,
    fast: tf.data.Dataset,
    fallback: Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset],
) -> tf.data.Dataset:
    """The batches of an epoch, by the fast path up to its first error; each iteration is the next epoch.

    Args:
      order: tells the batches of an epoch.
      epochs: the number of the epoch, alone; another one in each iteration.
      fast: features; its n-th element is the epoch's n-th batch, or else an error. It counts epochs itself.
      fallback: from (epoch, first batch), int64 scalars, to ((epoch, global number), features) from that batch on.

    Returns:
      ((epoch, global number), features) of each batch.
    """
    # Several iterations of one dataset may run at once; they are distinguished by their epochs.
    delivered = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
    number = tf.data.Dataset.range(0)
    # take(0): the zip alone would ask for a batch and count an epoch.
    none = tf.data.Dataset.zip(tf.data.Dataset.zip(number, number), fast).take(0)
    # The Python functions in a dataset's graph live as long as the dataset does.
    kept: deque[tf.data.Dataset] = deque(maxlen=_MOST_KEPT)

    def build_rest(epoch: tf.Tensor) -> tf.Tensor:
        first = tf.maximum(first_batch_of(order, epoch), delivered.lookup(epoch))
        if first == order.num_batches:
            return variant_of(none)
        kept.append(fallback(epoch, first))
        return variant_of(kept[-1])

    def read_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        before_error = _read_until_error(order, epoch, fast, delivered)
        rest = tf.data.Dataset.from_tensors(epoch).flat_map(
            lambda epoch: _dataset_from_python(build_rest, epoch, none.element_spec)
        )
        return before_error.concatenate(rest)

    return epochs.flat_map(read_epoch)


def _read_until_error(
    order: Order, epoch: tf.Tensor, fast: tf.data.Dataset, delivered: tf.lookup.experimental.MutableHashTable
) -> tf.data.Dataset:
    """((epoch, global number), features) of the batches before the first error; notes which batch comes next."""
    first = first_batch_of(order, epoch)
    numbers = step_numbers(epoch, global_batches(order, first))
    # An error removes its number as well, so that the next pair does not follow the one before. No more pairs are
    # requested than there are numbers: a file that can't be opened fails again at every call.
    pairs = tf.data.Dataset.zip(numbers, fast).ignore_errors()

    def follows(step: tuple[tf.Tensor, tf.Tensor], features: Any) -> tf.Tensor:
        expected = tf.maximum(first, delivered.lookup(epoch))
        same = step[1] == expected * order.host_count + order.host_index
        with tf.control_dependencies([delivered.insert(epoch, expected + tf.cast(same, tf.int64))]):
            return tf.identity(same)

    return pairs.take_while(follows)


def _dataset_from_python(make: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor, spec: Any) -> tf.data.Dataset:
    """The dataset whose variant tensor a Python function makes at its first use."""
    variant = tf.ensure_shape(tf.py_function(make, [value], tf.variant), [])
    return tf.data.experimental.from_variant(variant, spec)
