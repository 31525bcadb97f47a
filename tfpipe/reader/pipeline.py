"""The pipeline: from the order of an epoch to numbered batches of features. The choices were made in plan.py.

    epoch ─▶ READERS: (positions, numbers, serialized) ─▶ decode ─▶ batches ─▶ (step, features)

Any error ends the fast path; the careful one names or leaves out what is damaged. They are the same stages but for the
decoding. With random access an epoch begins at any batch at once. A cache, a shuffle buffer or compressed shards are
read from their beginning, by the careful path alone, and what a resumed stream has seen already is skipped.

The number of an epoch is counted once, at its beginning, and handed to every stage: iterations that run at the same
time have epochs of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from tfpipe.reader.damage import Skipped, report_skipped, with_numbers, without_lost
from tfpipe.reader.decode import Decoder, decode_carefully, decode_fast
from tfpipe.reader.fallback import delivered_batches, with_fallback
from tfpipe.reader.order import EpochCounter, draw_numbers, epochs, first_batch_of, global_batches
from tfpipe.reader.plan import ReadPlan
from tfpipe.reader.positions import Order
from tfpipe.reader.records import READERS, RecordTable, read_batches, shuffle_by_buffer
from tfpipe.reader.service import take_share
from tfpipe.tf_internals import flat_map_on_one_device, map_on_one_device

Cache = Callable[[tf.data.Dataset], tf.data.Dataset]


@dataclass(frozen=True)
class Stream:
    """What all stages of a stream share.

    Attributes:
      plan: how the records become batches.
      table: where the records are.
      decoder: how they become features.
      skipped: notes the records that are left out; None raises an error that names them.
    """

    plan: ReadPlan
    table: RecordTable
    decoder: Decoder
    skipped: Skipped | None


# No function of these stages needs autograph, which makes up most of the time to build them.
@tf.autograph.experimental.do_not_convert
def read_epochs(stream: Stream, counter: EpochCounter, cache: Cache, *, endless: bool = False) -> tf.data.Dataset:
    """((epoch, global number), features) of each batch; each iteration is the next epoch.

    Args:
      stream: what is read.
      counter: counts the epochs.
      cache: keeps the elements of a dataset for later epochs.
      endless: an iteration goes on into the epochs after it.
    """
    plan, delivered = stream.plan, delivered_batches()
    careful = tf.autograph.experimental.do_not_convert(partial(_careful_batches, stream))
    kept = None if plan.cache_place is None else cache(_to_keep(stream))

    def read_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        first = first_batch_of(plan.order, epoch)
        if plan.is_fast:
            fast = _fast_batches(stream, epoch, first)
            batches = with_fallback(plan.order, epoch, fast, careful, delivered)
        else:
            batches = _careful_batches(stream, epoch, first, kept)
        steps = map_on_one_device(batches, lambda number, features: ((epoch, number), features))
        return steps if stream.skipped is None else report_skipped(steps, stream.skipped)

    return flat_map_on_one_device(epochs(counter, endless=endless), read_epoch)


@tf.autograph.experimental.do_not_convert
def read_share(stream: Stream, epoch: tf.Tensor) -> tf.data.Dataset:
    """((epoch, global number), features) of each batch of an epoch that a worker of a service takes."""
    plan, order = stream.plan, stream.plan.order
    numbers = take_share(tf.data.Dataset.range(order.num_batches))
    records = read_batches(plan, stream.table, order, epoch, numbers).rebatch(plan.piece_records)
    batches = _batch(_decode(stream, records, epoch), stream)
    steps = tf.data.Dataset.zip(tf.data.Dataset.from_tensors(epoch).repeat(), numbers)
    return with_numbers(steps, batches, stream.skipped)


def _fast_batches(stream: Stream, epoch: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
    """(positions, features) of each batch of an epoch from `first` on; damage is an error."""
    plan = stream.plan
    records = READERS[plan.reader](plan, stream.table, plan.order, epoch, first, plan.piece_records, marks=False)
    return decode_fast(records, plan, stream.decoder, epoch)


def _careful_batches(
    stream: Stream, epoch: tf.Tensor, first: tf.Tensor, kept: tf.data.Dataset | None = None
) -> tf.data.Dataset:
    """(number, features) of each batch of an epoch from `first` on; damage is named, or left out."""
    plan, order = stream.plan, stream.plan.order
    if kept is not None and plan.cache_place == "batches":
        batches = kept.skip(first)
    elif kept is not None:
        # To its end: only then is a cache complete. The batches drop what no whole one takes.
        batches = _batch(_mix(kept, plan, epoch).skip(first * plan.order.batch_size), stream, single=True)
    else:
        batches = _read_carefully(stream, epoch, first)
    return with_numbers(global_batches(order, first), batches, stream.skipped)


def _read_carefully(stream: Stream, epoch: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
    """The batches of an epoch from `first` on."""
    plan = stream.plan
    if plan.has_random_access:
        pieces = _pieces(stream, plan.order, epoch, first)
    else:
        # Single records, since a buffer mixes them; and what a resumed stream has seen is skipped before it is decoded.
        order = plan.order if plan.reader == "shards" else plan.stored_order
        stored = _pieces(stream, order, epoch, tf.zeros_like(first))
        mixed = _mix(stored.unbatch(), plan, epoch).take(plan.order.num_positions)
        pieces = mixed.skip(first * plan.order.batch_size).batch(plan.piece_records)
    return _batch(_decode(stream, pieces, epoch), stream)


def _to_keep(stream: Stream) -> tf.data.Dataset:
    """What a cache keeps: all records, decoded, in file order; or the batches of epoch 0, from its first one on."""
    zero = tf.constant(0, tf.int64)
    if stream.plan.cache_place == "batches":
        return _read_carefully(stream, zero, zero)
    return _decode(stream, _pieces(stream, stream.plan.stored_order, zero, zero), zero).unbatch()


def _pieces(stream: Stream, order: Order, epoch: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
    """The records of an epoch from `first` on, in pieces that are decoded together; "" is one that can't be read."""
    plan = stream.plan
    return READERS[plan.reader](plan, stream.table, order, epoch, first, plan.piece_records, marks=True)


def _decode(stream: Stream, pieces: tf.data.Dataset, epoch: tf.Tensor) -> tf.data.Dataset:
    """Pieces of records to pieces of features, each damaged record named or marked."""
    plan = stream.plan

    def piece(rows: tuple[tf.Tensor, tf.Tensor], serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        positions, numbers = rows
        draws = (draw_numbers(plan.order, epoch, positions),) if plan.draws else ()
        return numbers, serialized, *draws

    return decode_carefully(map_on_one_device(pieces, piece), plan, stream.table, stream.decoder, stream.skipped)


def _mix(records: tf.data.Dataset, plan: ReadPlan, epoch: tf.Tensor) -> tf.data.Dataset:
    """Single records through the shuffle buffer, where there is one."""
    if plan.buffer_records is None:
        return records
    return shuffle_by_buffer(records, plan.order, epoch, plan.buffer_records)


def _batch(parts: tf.data.Dataset, stream: Stream, *, single: bool = False) -> tf.data.Dataset:
    """Batches of batch_size, from pieces or from single records; lost records are replaced or left out."""
    plan = stream.plan
    size, drop = plan.order.batch_size, not plan.has_partial_batch
    if plan.is_ragged:
        batches = (parts if single else parts.unbatch()).ragged_batch(size, drop_remainder=drop)
    else:
        batches = parts.batch(size, drop_remainder=drop) if single else parts.rebatch(size, drop_remainder=drop)
    return batches if stream.skipped is None else without_lost(batches, keep_size=drop)
