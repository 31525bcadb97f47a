"""Two ways to the same batches: a fast path for valid data, and a careful one that goes on where it fails.

The fast path stops at its first error, whatever it is. The careful one begins with the batch that was not delivered,
meets the same error, and can report which record it is in or leave that record out. It is built only then, which saves
every stream the half of its start. No Python runs before: a thread that works ahead could not enter it while the main
thread drops the iterator and waits for that thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfpipe.reader.order import first_batch_of
from tfpipe.reader.positions import Order
from tfpipe.tf_internals import flat_map_on_one_device, map_on_one_device, take_while_on_one_device, variant_of

# Careful datasets that are kept alive: one for each iteration that goes on at the same time.
_MOST_KEPT = 16


def delivered_batches() -> tf.lookup.experimental.MutableHashTable:
    """Where with_fallback notes, for each epoch, the number of the batch that comes next."""
    return tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)


def with_fallback(
    order: Order,
    epoch: tf.Tensor,
    fast: tf.data.Dataset,
    careful: Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset],
    delivered: tf.lookup.experimental.MutableHashTable,
) -> tf.data.Dataset:
    """The batches of an epoch, by the fast path up to its first error. In the function of an epoch.

    Args:
      order: tells the batches of an epoch.
      epoch: its number; each iteration has another one, also of several that run at once.
      fast: (span, features) of each batch, as decode_fast gives them; some are missing, errors, or not whole.
      careful: from (epoch, first batch), int64 scalars, to (number of the batch among all hosts', features) from it on.
      delivered: as delivered_batches makes it, outside of the function.

    Returns:
      (number of the batch among all hosts', features) of each batch.
    """
    first, size = first_batch_of(order, epoch), order.batch_size
    # The Python functions in a dataset's graph live as long as the dataset does.
    kept: deque[tf.data.Dataset] = deque(maxlen=_MOST_KEPT)

    def follows(span: tf.Tensor, features: Any) -> tf.Tensor:
        # What is left of a batch that lost a piece, or was put together with another, has another span.
        expected = tf.maximum(first, delivered.lookup(epoch))
        begin, end = expected * size, tf.minimum((expected + 1) * size, order.num_positions)
        same = tf.reduce_all(span == tf.stack([begin, end, end - begin]))
        with tf.control_dependencies([delivered.insert(epoch, expected + tf.cast(same, tf.int64))]):
            return tf.identity(same)

    def numbered(span: tf.Tensor, features: Any) -> tuple[tf.Tensor, Any]:
        return span[0] // size * order.host_count + order.host_index, features

    batches = map_on_one_device(take_while_on_one_device(fast.ignore_errors(), follows), numbered)

    def build(epoch: tf.Tensor) -> tf.Tensor:
        kept.append(careful(epoch, tf.maximum(first_batch_of(order, epoch), delivered.lookup(epoch))))
        return variant_of(kept[-1])

    def rest(epoch: tf.Tensor) -> tf.data.Dataset:
        variant = tf.cond(
            tf.maximum(first_batch_of(order, epoch), delivered.lookup(epoch)) == order.num_batches,
            lambda: variant_of(batches.take(0)),
            lambda: tf.ensure_shape(tf.py_function(build, [epoch], tf.variant), []),
        )
        return tf.data.experimental.from_variant(variant, batches.element_spec)

    return batches.concatenate(flat_map_on_one_device(tf.data.Dataset.from_tensors(epoch), rest))
