"""Batches of photographs as tf.data has them at hand, for the rows that TensorFlow runs."""

from functools import reduce

import tensorflow as tf


def whole_batches(images, batch_size):
    """An endless dataset of uint8 [batch_size, H, W, C] that copies nothing: slices of one tensor would be copied."""
    firsts = range(0, len(images), batch_size)
    tensors = [tf.data.Dataset.from_tensors(images[first : first + batch_size]) for first in firsts]
    return reduce(lambda some, more: some.concatenate(more), tensors).repeat()


def numbered(dataset):
    """(batch, seed int32 [2]): a seed for each batch."""
    seeds = tf.data.Dataset.counter().map(lambda step: tf.stack([17, tf.cast(step, tf.int32)]))
    return tf.data.Dataset.zip(dataset, seeds)
