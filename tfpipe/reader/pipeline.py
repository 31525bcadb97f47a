"""From shards to numbered batches of features: the stages between the order and what the model takes.

    fast path             see fast_path.py; after an error the random access below goes on, see fallback.py
    random access         order ─▶ chunks of records ─▶ decoded pieces ─▶ batches
    cache, buffer, GZIP   all records in file order ─▶ (decoded, cached) ─▶ (buffer) ─▶ decoded ─▶ batches

With random access an epoch starts at any batch at once. A cache, a shuffle buffer or compressed shards are read from
their beginning, and what a resumed stream has seen already is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import tensorflow as tf

from tfpipe.reader.caching import cache_dataset
from tfpipe.reader.damage import Skipped, with_numbers, without_lost
from tfpipe.reader.decode import Decoder, decode_pieces
from tfpipe.reader.fallback import with_fallback
from tfpipe.reader.fast_path import read_fast, with_size
from tfpipe.reader.order import chunks, draw_numbers, epochs, first_batch_of, global_batches, step_numbers
from tfpipe.reader.records import RecordTable, read_chunks, read_numbered, read_shards, shuffle_by_buffer
from tfpipe.reader.request import Request
from tfpipe.reader.service import take_share


# No function of these stages needs autograph, which makes up most of the time to build them.
@tf.autograph.experimental.do_not_convert
def read_batches(request: Request, table: RecordTable, decoder: Decoder, skipped: Skipped | None) -> tf.data.Dataset:
    """The features of the records, batch by batch; each iteration is the next epoch.

    Args:
      request: what was asked for.
      table: where the records are.
      decoder: how they become features.
      skipped: notes the records that are left out; None raises an error that names them.
    """

    def decode(pieces: tf.data.Dataset) -> tf.data.Dataset:
        return decode_pieces(pieces, table, decoder, skipped, request.options)

    cache_place = request.options.cache_place if request.options.cache != "none" else None
    if cache_place == "records":
        records = cache_dataset(decode(_stored_pieces(request, table)).unbatch(), request)
        # To its end: only then is a cache complete. The batches drop what no whole one takes.
        return _batch(_in_epochs(request, lambda _: records, to_end=True), request, skipped, pieces=False)
    if cache_place is None:
        return _batch(decode(_pieces(request, table)), request, skipped, pieces=True)
    # The batches of epoch 0 are kept for all.
    first = replace(request, options=replace(request.options, start_step=0))
    kept = cache_dataset(_batch(decode(_pieces(first, table)), first, skipped, pieces=True), request)
    if not request.options.start_step:
        return kept
    return epochs(request.order).flat_map(lambda epoch: kept.skip(first_batch_of(request.order, epoch)))


@tf.autograph.experimental.do_not_convert
def read_epochs(
    request: Request, table: RecordTable, decoder: Decoder, skipped: Skipped | None, counter: tf.Variable
) -> tf.data.Dataset:
    """((epoch, global number), features) of each batch; each iteration is the next epoch.

    Args:
      request: what was asked for.
      table: where the records are.
      decoder: how they become features.
      skipped: notes the records that are left out; None raises an error that names them.
      counter: counts the epochs.
    """
    order, counted = request.order, epochs(request.order, counter=counter)
    if not request.takes_fast_path:
        numbers = counted.flat_map(
            lambda epoch: step_numbers(epoch, global_batches(order, first_batch_of(order, epoch)))
        )
        return with_numbers(numbers, read_batches(request, table, decoder, skipped), skipped)

    @tf.autograph.experimental.do_not_convert
    def fallback(epoch: tf.Tensor, first_batch: tf.Tensor) -> tf.data.Dataset:
        pieces = _seek_pieces(request, table, epoch, first_batch)
        features = decode_pieces(pieces, table, decoder, skipped, request.options)
        batches = _batch(features, request, skipped, pieces=True)
        return with_numbers(step_numbers(epoch, global_batches(order, first_batch)), batches, skipped)

    return with_fallback(order, counted, read_fast(request, table, decoder), fallback)


@tf.autograph.experimental.do_not_convert
def read_share(
    request: Request, table: RecordTable, decoder: Decoder, skipped: Skipped | None, epoch: tf.Tensor
) -> tf.data.Dataset:
    """((epoch, number), features) of each batch of an epoch that a worker of a service takes."""
    order, options = request.order, request.options
    numbers = take_share(tf.data.Dataset.range(order.num_batches))
    pieces = read_numbered(table, order, epoch, numbers, options).rebatch(request.decode_batch_records)
    features = decode_pieces(pieces, table, decoder, skipped, options)
    batches = _batch(features, request, skipped, pieces=True)
    return with_numbers(step_numbers(epoch, numbers), batches, skipped)


def _pieces(request: Request, table: RecordTable) -> tf.data.Dataset:
    """(record numbers, serialized records) in the order of the epoch, in pieces that are decoded together."""
    size, order = request.decode_batch_records, request.order
    if request.has_random_access:
        return epochs(order).flat_map(lambda epoch: _seek_pieces(request, table, epoch, first_batch_of(order, epoch)))
    if request.is_seekable:
        return _in_epochs(request, lambda _: _stored_pieces(request, table).unbatch()).batch(size)
    return _in_epochs(request, lambda epoch: read_shards(table, order, epoch, request.options)).batch(size)


def _seek_pieces(request: Request, table: RecordTable, epoch: tf.Tensor, first_batch: tf.Tensor) -> tf.data.Dataset:
    """The pieces of an epoch, with random access, from one of its batches on."""
    size, order = request.decode_batch_records, request.order
    pieces = read_chunks(table, order, chunks(order, epoch, first_batch), size, request.options)
    pieces = pieces if request.batches_align else pieces.rebatch(size)
    if not request.has_random_crop:
        return pieces
    draws = draw_numbers(order, epoch, first_batch).batch(size)
    return tf.data.Dataset.zip(pieces, draws).map(lambda piece, draws: (*piece, draws))


def _stored_pieces(request: Request, table: RecordTable) -> tf.data.Dataset:
    """(record numbers, serialized records), every record once, in file order."""
    order, epoch, size = request.storage_order, tf.constant(0, tf.int64), request.decode_batch_records
    if request.is_seekable:
        return read_chunks(table, order, chunks(order, epoch, epoch), size, request.options)
    return read_shards(table, order, epoch, request.options).batch(size)


def _in_epochs(
    request: Request, stored: Callable[[tf.Tensor], tf.data.Dataset], *, to_end: bool = False
) -> tf.data.Dataset:
    """Single elements from a source in file order, shuffled by a buffer where the request has one, from a step on.

    Args:
      request: what was asked for.
      stored: the elements of an epoch.
      to_end: also those that no batch takes.
    """
    order, buffer = request.order, request.buffer_records

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        records = stored(epoch)
        if buffer is not None:
            records = shuffle_by_buffer(records, order, epoch, buffer)
        records = records if to_end else records.take(order.num_positions)
        return records.skip(first_batch_of(order, epoch) * order.batch_size)

    return epochs(order).flat_map(of_epoch)


def _batch(parts: tf.data.Dataset, request: Request, skipped: Skipped | None, *, pieces: bool) -> tf.data.Dataset:
    """Batches of batch_size, from pieces or from single records; lost records are replaced or left out."""
    size, drop = request.batch_size, not request.has_partial_batch
    if request.ragged:
        batches = (parts.unbatch() if pieces else parts).ragged_batch(size, drop_remainder=drop)
    elif pieces and request.decode_batch_records == size and request.batches_align:
        batches = (
            parts.map(lambda *values: with_size(values if len(values) > 1 else values[0], size)) if drop else parts
        )
    elif pieces:
        batches = parts.rebatch(size, drop_remainder=drop)
    else:
        batches = parts.batch(size, drop_remainder=drop)
    return batches if skipped is None else without_lost(batches, keep_size=request.training)
