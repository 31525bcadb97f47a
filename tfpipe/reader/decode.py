"""The stage that decodes: serialized records to features, whole pieces first.

A piece of records is decoded as a whole; only where that fails, record by record. So nothing is paid for valid data,
and damage costs no more than the one record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfpipe.reader.damage import Features, Skipped, explain
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.records import Shelf, interleaved
from tfpipe.tf_internals import fail_unless


@dataclass(frozen=True)
class Decoder:
    """How serialized records become features.

    Attributes:
      single: a scalar string, and the number of its draw where it is drawn, to the features of one record.
      batch: [n] string to the features of n records; None decodes them one by one.
      ragged: whether a feature's length differs from record to record.
    """

    single: Callable[..., Features]
    batch: Callable[[tf.Tensor], Features] | None = None
    ragged: bool = False


def decoded(
    pieces: tf.data.Dataset, shelf: Shelf, decoder: Decoder, skipped: Skipped | None, options: ReadOptions
) -> tf.data.Dataset:
    """Pieces of serialized records to pieces of features.

    Args:
      pieces: (numbers int64 [n], serialized string [n]), and draws int64 [n] where the decoder takes them; "" is a
        record that could not be read.
      shelf: the shards they came from.
      decoder: how to decode them.
      skipped: notes what is left out; None raises an error that names it.
      options: how many pieces are decoded at once.

    Returns:
      features [n, ...]; where records may be left out, (sound bool [n], features), and what is not sound holds zeros.
    """
    lost = tf.data.Dataset.from_tensors((False, _zeros(decoder)))

    def one(number: tf.Tensor, *record: tf.Tensor) -> tf.data.Dataset:
        sound = tf.data.Dataset.from_tensors(record).map(lambda *r: (True, _single(decoder, *r))).ignore_errors()
        marked = sound.concatenate(lost).take(1).map(lambda sound, features: (noted(number, sound), features))
        return marked if skipped is not None else marked.map(lambda _, features: features)

    def piece(numbers: tf.Tensor, *records: tf.Tensor) -> tf.data.Dataset:
        count = tf.size(numbers, out_type=tf.int64)
        whole = _whole(decoder, *records).ignore_errors()
        if skipped is not None:
            whole = tf.data.Dataset.zip(tf.data.Dataset.from_tensors(tf.fill([count], True)), whole)
        singles = tf.data.Dataset.from_tensor_slices((numbers, *records)).flat_map(one)
        return whole.concatenate(_batched(singles, count, decoder)).take(1)

    def noted(number: tf.Tensor, sound: tf.Tensor) -> tf.Tensor:
        # Only a copy of `sound` that hangs on the note: else the graph would drop it.
        with tf.control_dependencies([tf.cond(sound, lambda: False, lambda: note(number))]):
            return tf.identity(sound)

    def note(number: tf.Tensor) -> tf.Tensor:
        if options.service is not None:
            return _noted_in_graph(shelf, number, raises=skipped is None)
        if skipped is not None:
            return tf.numpy_function(skipped.add, [number], tf.bool)
        sentence = tf.numpy_function(lambda n: explain(shelf, n, decode=decoder.single), [number], tf.string)
        with tf.control_dependencies([fail_unless(tf.constant(False), sentence)]):
            return tf.constant(False)

    return interleaved(pieces, piece, options.parallel_calls, options)


def _whole(decoder: Decoder, *records: tf.Tensor) -> tf.data.Dataset:
    """One element: the features of the records; an error where one of them can't be had."""
    if decoder.batch is not None:
        return tf.data.Dataset.from_tensors(records).map(lambda serialized: _batch(serialized, decoder))
    singles = tf.data.Dataset.from_tensor_slices(records).map(lambda *record: _single(decoder, *record))
    return _batched(singles, tf.size(records[0], out_type=tf.int64), decoder)


def _batch(serialized: tf.Tensor, decoder: Decoder) -> Features:
    with tf.control_dependencies([_read(tf.reduce_all(serialized != ""))]):
        return decoder.batch(tf.identity(serialized)) if decoder.batch is not None else {}


def _single(decoder: Decoder, serialized: tf.Tensor, *draw: tf.Tensor) -> Features:
    with tf.control_dependencies([_read(serialized != "")]):
        return decoder.single(tf.identity(serialized), *draw)


def _read(sound: tf.Tensor) -> tf.Operation:
    """Fails where a record could not be read: an empty one might pass for an Example without features."""
    return fail_unless(sound, "unreadable")


def _batched(records: tf.data.Dataset, count: tf.Tensor, decoder: Decoder) -> tf.data.Dataset:
    batch = records.ragged_batch if decoder.ragged else records.batch
    return batch(count, drop_remainder=True)


def _zeros(decoder: Decoder) -> Features:
    spec = tf.data.Dataset.from_tensors("").map(decoder.single).element_spec
    return tf.nest.map_structure(lambda part: tf.zeros([size or 0 for size in part.shape], part.dtype), spec)


def _noted_in_graph(shelf: Shelf, number: tf.Tensor, *, raises: bool) -> tf.Tensor:
    """What a worker in another process can do: it has no Python of ours."""
    shard = tf.searchsorted(shelf.table["starts"], number[None], side="right")[0] - 1
    record = tf.strings.as_string(number - tf.gather(shelf.table["starts"], shard))
    where = tf.strings.join(["record ", record, " of ", tf.gather(shelf.table["paths"], shard)])
    if raises:
        text = tf.strings.join([where, " cannot be read or decoded"])
        with tf.control_dependencies([fail_unless(tf.constant(False), text)]):
            return tf.constant(False)
    with tf.control_dependencies([tf.print("tfpipe skipped", where)]):
        return tf.constant(True)
