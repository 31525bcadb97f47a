"""Two ways to the same batches: a direct one for sound data, and a careful one that goes on where that fails.

The direct way stops at its first error, whatever it is. The careful one begins with the batch that was not delivered,
meets the same error, and can say which record it is in or leave that record out. It is built only then: what stands in
a graph and is never run would cost every epoch 0.2 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfpipe.reader.order import Order, first_batch_of, global_batches, steps
from tfpipe.tf_internals import variant_of

# Careful ways that are kept: one for each iteration that goes on at the same time.
_MOST_KEPT = 16


def handed_over(
    order: Order,
    epochs: tf.data.Dataset,
    direct: tf.data.Dataset,
    careful: Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset],
) -> tf.data.Dataset:
    """The batches of an epoch, by the direct way as far as it goes; each iteration is the next epoch.

    Args:
      order: tells the batches of an epoch.
      epochs: the number of the epoch, alone; another one in each iteration.
      direct: features; its n-th element is the epoch's n-th batch, or else an error. It counts epochs itself.
      careful: from (epoch, first batch), int64 scalars, to ((epoch, global number), features) from that batch on.

    Returns:
      ((epoch, global number), features) of each batch.
    """
    # Iterations of one dataset, of which there may be several at once, are told apart by their epochs.
    delivered = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
    number = tf.data.Dataset.range(0)
    # take(0): the zip alone would ask for a batch and count an epoch.
    none = tf.data.Dataset.zip(tf.data.Dataset.zip(number, number), direct).take(0)
    # The Python functions in a dataset's graph live as long as the dataset does.
    kept: deque[tf.data.Dataset] = deque(maxlen=_MOST_KEPT)

    def rest(epoch: tf.Tensor) -> tf.Tensor:
        first = tf.maximum(first_batch_of(order, epoch), delivered.lookup(epoch))
        if first == order.num_batches:
            return variant_of(none)
        kept.append(careful(epoch, first))
        return variant_of(kept[-1])

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        sound = _sound(order, epoch, direct, delivered)
        later = tf.data.Dataset.from_tensors(epoch).flat_map(
            lambda epoch: _from_python(rest, epoch, none.element_spec),
        )
        return sound.concatenate(later)

    return epochs.flat_map(of_epoch)


def _sound(
    order: Order,
    epoch: tf.Tensor,
    direct: tf.data.Dataset,
    delivered: tf.lookup.experimental.MutableHashTable,
) -> tf.data.Dataset:
    """((epoch, global number), features) of the batches before the first error; notes which batch comes next."""
    first = first_batch_of(order, epoch)
    numbers = steps(epoch, global_batches(order, first))
    # An error takes its number with it, so that the next pair does not follow the one before. No more pairs are asked
    # for than there are numbers: what can't be opened fails again at every call.
    pairs = tf.data.Dataset.zip(numbers, direct).ignore_errors()

    def follows(step: tuple[tf.Tensor, tf.Tensor], features: Any) -> tf.Tensor:
        expected = tf.maximum(first, delivered.lookup(epoch))
        same = step[1] == expected * order.host_count + order.host_index
        with tf.control_dependencies([delivered.insert(epoch, expected + tf.cast(same, tf.int64))]):
            return tf.identity(same)

    return pairs.take_while(follows)


def _from_python(make: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor, spec: Any) -> tf.data.Dataset:
    """The dataset whose variant tensor a Python function makes when it is asked for."""
    variant = tf.ensure_shape(tf.py_function(make, [value], tf.variant), [])
    return tf.data.experimental.from_variant(variant, spec)
