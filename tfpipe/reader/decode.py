"""The decoding stage: serialized records to features, whole pieces first.

A piece of records is decoded as a whole; only if that fails, record by record. So valid data pays nothing for it, and
damage costs no more than the one record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfpipe.reader.damage import Features, Skipped, explain
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.records import RecordTable, interleave_reads
from tfpipe.tf_internals import fail_unless


@dataclass(frozen=True)
class Decoder:
    """The functions from serialized records to features.

    Attributes:
      single: from a scalar string, and the number of its random crop where there is one, to one record's features.
      batch: from [n] strings to the features of n records; None decodes them one by one.
      ragged: whether a feature's length differs from record to record.
    """

    single: Callable[..., Features]
    batch: Callable[[tf.Tensor], Features] | None = None
    ragged: bool = False


def decode_pieces(
    pieces: tf.data.Dataset, table: RecordTable, decoder: Decoder, skipped: Skipped | None, options: ReadOptions
) -> tf.data.Dataset:
    """Pieces of serialized records to pieces of features.

    Args:
      pieces: (numbers int64 [n], serialized string [n]), and draws int64 [n] where the decoder takes them; "" is a
        record that could not be read.
      table: the records that they came from.
      decoder: how to decode them.
      skipped: notes what is left out; None raises an error that names it.
      options: how many pieces are decoded at once.

    Returns:
      features [n, ...]; where records may be left out, (valid bool [n], features), zeros for those not valid.
    """
    lost = tf.data.Dataset.from_tensors((False, _zeros(decoder)))

    def decode_one(number: tf.Tensor, *record: tf.Tensor) -> tf.data.Dataset:
        found = tf.data.Dataset.from_tensors(record).map(lambda *r: (True, _decode_single(decoder, *r)))
        marked = found.ignore_errors().concatenate(lost).take(1)
        marked = marked.map(lambda valid, features: (note_invalid(number, valid), features))
        return marked if skipped is not None else marked.map(lambda _, features: features)

    def decode_piece(numbers: tf.Tensor, *records: tf.Tensor) -> tf.data.Dataset:
        count = tf.size(numbers, out_type=tf.int64)
        whole = _decode_whole(decoder, *records).ignore_errors()
        if skipped is not None:
            whole = tf.data.Dataset.zip(tf.data.Dataset.from_tensors(tf.fill([count], True)), whole)
        singles = tf.data.Dataset.from_tensor_slices((numbers, *records)).flat_map(decode_one)
        return whole.concatenate(_batch(singles, count, decoder)).take(1)

    def note_invalid(number: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        # A copy of `valid` that depends on the note: otherwise the graph would drop the note.
        with tf.control_dependencies([tf.cond(valid, lambda: False, lambda: note(number))]):
            return tf.identity(valid)

    def note(number: tf.Tensor) -> tf.Tensor:
        if options.service is not None:
            return _note_in_graph(table, number, raises=skipped is None)
        if skipped is not None:
            return tf.numpy_function(skipped.add, [number], tf.bool)
        sentence = tf.numpy_function(lambda n: explain(table, n, decode=decoder.single), [number], tf.string)
        with tf.control_dependencies([fail_unless(tf.constant(False), sentence)]):
            return tf.constant(False)

    return interleave_reads(pieces, decode_piece, options.parallel_calls, options)


def _decode_whole(decoder: Decoder, *records: tf.Tensor) -> tf.data.Dataset:
    """One element: the features of the records; an error where one of them can't be decoded."""
    if decoder.batch is not None:
        return tf.data.Dataset.from_tensors(records).map(lambda serialized: _decode_batch(serialized, decoder))
    singles = tf.data.Dataset.from_tensor_slices(records).map(lambda *record: _decode_single(decoder, *record))
    return _batch(singles, tf.size(records[0], out_type=tf.int64), decoder)


def _decode_batch(serialized: tf.Tensor, decoder: Decoder) -> Features:
    with tf.control_dependencies([_require_read(tf.reduce_all(serialized != ""))]):
        return decoder.batch(tf.identity(serialized)) if decoder.batch is not None else {}


def _decode_single(decoder: Decoder, serialized: tf.Tensor, *draw: tf.Tensor) -> Features:
    with tf.control_dependencies([_require_read(serialized != "")]):
        return decoder.single(tf.identity(serialized), *draw)


def _require_read(is_read: tf.Tensor) -> tf.Operation:
    """Fails where a record could not be read: an empty one might pass for an Example without features."""
    return fail_unless(is_read, "unreadable")


def _batch(records: tf.data.Dataset, count: tf.Tensor, decoder: Decoder) -> tf.data.Dataset:
    batch = records.ragged_batch if decoder.ragged else records.batch
    return batch(count, drop_remainder=True)


def _zeros(decoder: Decoder) -> Features:
    spec = tf.data.Dataset.from_tensors("").map(decoder.single).element_spec
    return tf.nest.map_structure(lambda part: tf.zeros([size or 0 for size in part.shape], part.dtype), spec)


def _note_in_graph(table: RecordTable, number: tf.Tensor, *, raises: bool) -> tf.Tensor:
    """The same inside a service's worker, which is another process and can't call our Python functions."""
    shard = tf.searchsorted(table.tensors["starts"], number[None], side="right")[0] - 1
    record = tf.strings.as_string(number - tf.gather(table.tensors["starts"], shard))
    where = tf.strings.join(["record ", record, " of ", tf.gather(table.tensors["paths"], shard)])
    if raises:
        text = tf.strings.join([where, " cannot be read or decoded"])
        with tf.control_dependencies([fail_unless(tf.constant(False), text)]):
            return tf.constant(False)
    with tf.control_dependencies([tf.print("tfpipe skipped", where)]):
        return tf.constant(True)
