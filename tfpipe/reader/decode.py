"""The decoding stage: serialized records to features, on the fast path and on the careful one.

    decode_fast        batches, several at once, by a loop over their records; damage is an error of its batch
    decode_carefully   pieces of records, each first as a whole; where that fails, record by record, and it is named

So valid data pays nothing for damage, which costs no more than the one record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import tensorflow as tf

from tfpipe.reader.damage import Features, Skipped, explain
from tfpipe.reader.order import draw_numbers
from tfpipe.reader.plan import ReadPlan
from tfpipe.reader.records import RecordTable, interleave_reads
from tfpipe.tf_internals import fail_unless, map_on_one_device, map_to_lists, stack_lists


@dataclass(frozen=True)
class Decoder:
    """The functions from serialized records to features.

    Attributes:
      single: from a scalar string, and the number of its random crop where there is one, to one record's features.
      parse: from [n] strings to what n records store, by its name; None where it can't be told for all at once.
      row: as single, from one record's row of that.
      batch: from [n] strings to the features of n records; None decodes them one by one.
      ragged: whether a feature's length differs from record to record.
      draws: whether there are random crops.
    """

    single: Callable[..., Features]
    parse: Callable[[tf.Tensor], Features] | None = None
    row: Callable[..., Features] | None = None
    batch: Callable[[tf.Tensor], Features] | None = None
    ragged: bool = False
    draws: bool = False

    @cached_property
    def dense_spec(self) -> dict[str, tf.TensorSpec]:
        """The types of one record's features."""
        single = tf.autograph.experimental.do_not_convert(self.single)
        record = ("", tf.constant(0, tf.int64)) if self.draws else ("",)
        return dict(tf.data.Dataset.from_tensors(record).map(single).element_spec)

    @property
    def spec(self) -> dict[str, tf.TypeSpec]:
        """The same, those whose length differs as ragged tensors where batches are."""
        return {name: _as_ragged(part) if self.ragged else part for name, part in self.dense_spec.items()}


def decode_fast(pieces: tf.data.Dataset, plan: ReadPlan, decoder: Decoder, epoch: tf.Tensor) -> tf.data.Dataset:
    """Pieces of serialized records to (positions, features) of batches; damage is an error, and its batch is not whole.

    An element of tf.data costs 20 to 110 us at each stage, whatever the number of cores, so no stage hands on single
    records: a call decodes a piece of them in a loop. Until all pieces of a batch are there, its images are passed on
    as lists, and are copied once, into the batch.

    Args:
      pieces: ((positions int64 [n], numbers int64 [n]), serialized string [n]).
      plan: how many pieces are decoded at once.
      decoder: how to decode them.
      epoch: the number of the epoch, for random crops.

    Returns:
      (span, features) of each batch, or of what is there of it; span int64 [3]: its first position, the one after its
      last, and the number of its records, which is less where one between is missing.
    """
    size = None if plan.has_partial_batch else plan.order.batch_size

    def looped(rows: tuple[tf.Tensor, tf.Tensor], serialized: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        draws = (draw_numbers(plan.order, epoch, rows[0]),) if plan.draws else ()
        return _span(rows[0]), decode_piece(decoder, serialized, *draws)

    def stacked(spans: tf.Tensor, lists: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, Features]:
        span = tf.stack([spans[0, 0], spans[-1, 1], tf.reduce_sum(spans[:, 2])])
        return span, with_size(stack_lists(lists, decoder.spec, size=size), size)

    if decoder.batch is not None:
        parse = decoder.batch
        return map_on_one_device(
            pieces, lambda rows, serialized: (_span(rows[0]), with_size(parse(serialized), size)), calls=plan.calls
        )
    lists = map_on_one_device(pieces, looped, calls=plan.calls)
    batches = lists.batch(plan.order.batch_size // plan.piece_records)
    return map_on_one_device(batches, stacked, calls=plan.batches_at_once)


def decode_piece(decoder: Decoder, serialized: tf.Tensor, *draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The features of records, string [n]: a list of n values for each, as map_to_lists has it; damage is an error."""
    if decoder.parse is None or decoder.row is None:
        return map_to_lists(decoder.single, (serialized, *draws), decoder.spec)
    # Parsed at once, which takes 7 us less a record.
    stored, decode = decoder.parse(serialized), decoder.row
    names = list(stored)

    def one(*values: tf.Tensor) -> Features:
        return decode(dict(zip(names, values, strict=False)), *values[len(names) :])

    return map_to_lists(one, (*stored.values(), *draws), decoder.spec)


def _span(positions: tf.Tensor) -> tf.Tensor:
    return tf.stack([positions[0], positions[-1] + 1, tf.size(positions, out_type=tf.int64)])


def with_size(features: Features, size: int | None) -> Features:
    """The same tensors with a known first dimension, where all batches have one; ragged ones keep their own."""

    def sized(part: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(part, [size, *part.shape[1:]]) if isinstance(part, tf.Tensor) else part

    return {name: sized(part) for name, part in features.items()}


def decode_carefully(
    pieces: tf.data.Dataset, plan: ReadPlan, table: RecordTable, decoder: Decoder, skipped: Skipped | None
) -> tf.data.Dataset:
    """Pieces of serialized records to pieces of features.

    Args:
      pieces: (numbers int64 [n], serialized string [n]), and draws int64 [n] where the decoder takes them; "" is a
        record that could not be read.
      plan: how many pieces are decoded at once, and by whom.
      table: the records that they came from.
      decoder: how to decode them.
      skipped: notes what is left out; None raises an error that names it.

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
        if plan.is_remote:
            return _note_in_graph(table, number, raises=skipped is None)
        if skipped is not None:
            return tf.numpy_function(skipped.add, [number], tf.bool)
        sentence = tf.numpy_function(lambda n: explain(table, n, decode=decoder.single), [number], tf.string)
        with tf.control_dependencies([fail_unless(tf.constant(False), sentence)]):
            return tf.constant(False)

    return interleave_reads(pieces, decode_piece, plan.calls, deterministic=plan.keeps_order)


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


def _as_ragged(part: tf.TensorSpec) -> tf.TypeSpec:
    """As Dataset.ragged_batch has it."""
    unknown = [axis for axis, size in enumerate(part.shape) if size is None]
    if not unknown:
        return part
    return tf.RaggedTensorSpec(part.shape, part.dtype, ragged_rank=max(unknown), row_splits_dtype=tf.int64)


def _zeros(decoder: Decoder) -> Features:
    return {name: tf.zeros([size or 0 for size in part.shape], part.dtype) for name, part in decoder.dense_spec.items()}


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
