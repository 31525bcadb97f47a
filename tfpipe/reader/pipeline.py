"""From shards to batches of features: the stages between the order and what the model takes.

    direct     see direct.py; where it fails, what is sought goes on
    sought     order ─▶ chunks of records ─▶ decoded pieces ─▶ batches
    stored     every record as it lies ─▶ (decoded, cached) ─▶ buffer ─▶ ... ─▶ batches

What is sought starts anywhere at once. What comes from a cache, through a buffer or out of compressed shards is read
from its beginning, and what a resumed stream has seen is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import tensorflow as tf

from tfpipe.reader.caching import cached
from tfpipe.reader.damage import Skipped, numbered, without_lost
from tfpipe.reader.decode import Decoder, decoded
from tfpipe.reader.direct import read_direct, with_size
from tfpipe.reader.fallback import handed_over
from tfpipe.reader.order import draw_numbers, epochs, first_batch_of, global_batches, steps
from tfpipe.reader.records import Shelf, read_chunks, read_numbered, read_shards, shuffled_by_buffer
from tfpipe.reader.request import Request
from tfpipe.reader.service import shared


# No function of these stages needs autograph, which makes up most of the time to build them.
@tf.autograph.experimental.do_not_convert
def read_batches(request: Request, shelf: Shelf, decoder: Decoder, skipped: Skipped | None) -> tf.data.Dataset:
    """The features of the records, batch by batch; each iteration is the next epoch.

    Args:
      request: what was asked for.
      shelf: where the records lie.
      decoder: how they become features.
      skipped: notes the records that are left out; None raises an error that names them.
    """

    def decode(pieces: tf.data.Dataset) -> tf.data.Dataset:
        return decoded(pieces, shelf, decoder, skipped, request.options)

    place = request.options.cache_place if request.options.cache != "none" else None
    if place == "records":
        records = cached(decode(_stored_pieces(request, shelf)).unbatch(), request)
        return _batched(_in_epochs(request, lambda _: records), request, skipped, pieces=False)
    if place is None:
        return _batched(decode(_pieces(request, shelf)), request, skipped, pieces=True)
    # The batches of epoch 0 are kept for all.
    first = replace(request, options=replace(request.options, start_step=0))
    kept = cached(_batched(decode(_pieces(first, shelf)), first, skipped, pieces=True), request)
    if not request.options.start_step:
        return kept
    return epochs(request.order).flat_map(lambda epoch: kept.skip(first_batch_of(request.order, epoch)))


@tf.autograph.experimental.do_not_convert
def read_epochs(
    request: Request, shelf: Shelf, decoder: Decoder, skipped: Skipped | None, begun: tf.Variable
) -> tf.data.Dataset:
    """((epoch, global number), features) of each batch; each iteration is the next epoch.

    Args:
      request: what was asked for.
      shelf: where the records lie.
      decoder: how they become features.
      skipped: notes the records that are left out; None raises an error that names them.
      begun: counts the epochs.
    """
    order, counted = request.order, epochs(request.order, counter=begun)
    if not request.is_direct:
        numbers = counted.flat_map(lambda epoch: steps(epoch, global_batches(order, first_batch_of(order, epoch))))
        return numbered(numbers, read_batches(request, shelf, decoder, skipped), skipped)

    @tf.autograph.experimental.do_not_convert
    def careful(epoch: tf.Tensor, first_batch: tf.Tensor) -> tf.data.Dataset:
        features = decoded(_sought(request, shelf, epoch, first_batch), shelf, decoder, skipped, request.options)
        batches = _batched(features, request, skipped, pieces=True)
        return numbered(steps(epoch, global_batches(order, first_batch)), batches, skipped)

    return handed_over(order, counted, read_direct(request, shelf, decoder), careful)


@tf.autograph.experimental.do_not_convert
def read_share(
    request: Request, shelf: Shelf, decoder: Decoder, skipped: Skipped | None, epoch: tf.Tensor
) -> tf.data.Dataset:
    """((epoch, number), features) of each batch of an epoch that a worker of a service takes."""
    order, options = request.order, request.options
    numbers = shared(tf.data.Dataset.range(order.num_batches))
    pieces = read_numbered(shelf, order, epoch, numbers, options).rebatch(request.piece_records)
    features = decoded(pieces, shelf, decoder, skipped, options)
    batches = _batched(features, request, skipped, pieces=True)
    return numbered(steps(epoch, numbers), batches, skipped)


def _pieces(request: Request, shelf: Shelf) -> tf.data.Dataset:
    """(record numbers, serialized records) in the order of the epoch, as many at a time as are decoded together."""
    size = request.piece_records
    if request.is_sought:
        order = request.order
        return epochs(order).flat_map(lambda epoch: _sought(request, shelf, epoch, first_batch_of(order, epoch)))
    if request.is_seekable:
        return _in_epochs(request, lambda _: _stored_pieces(request, shelf).unbatch()).batch(size)
    return _in_epochs(request, lambda epoch: read_shards(shelf, request.order, epoch, request.options)).batch(size)


def _sought(request: Request, shelf: Shelf, epoch: tf.Tensor, first_batch: tf.Tensor) -> tf.data.Dataset:
    """The pieces of an epoch from one of its batches on."""
    size = request.piece_records
    pieces = read_chunks(shelf, request.order, epoch, first_batch, size, request.options)
    pieces = pieces if request.pieces_fit else pieces.rebatch(size)
    if not request.is_drawn:
        return pieces
    draws = draw_numbers(request.order, epoch, first_batch).batch(size)
    return tf.data.Dataset.zip(pieces, draws).map(lambda piece, draws: (*piece, draws))


def _stored_pieces(request: Request, shelf: Shelf) -> tf.data.Dataset:
    """(record numbers, serialized records), every record once, as they are stored."""
    order, epoch, size = request.stored_order, tf.constant(0, tf.int64), request.piece_records
    if request.is_seekable:
        return read_chunks(shelf, order, epoch, epoch, size, request.options)
    return read_shards(shelf, order, epoch, request.options).batch(size)


def _in_epochs(request: Request, stored: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
    """Single elements of what is stored, mixed by a buffer where that is asked for, from the first step on."""
    order, buffer = request.order, request.buffer_records

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        records = stored(epoch)
        if buffer is not None:
            records = shuffled_by_buffer(records, order, epoch, buffer)
        return records.take(order.num_positions).skip(first_batch_of(order, epoch) * order.batch_size)

    return epochs(order).flat_map(of_epoch)


def _batched(parts: tf.data.Dataset, request: Request, skipped: Skipped | None, *, pieces: bool) -> tf.data.Dataset:
    """Batches of the asked size, from pieces or from single records; lost records replaced or left out."""
    size, drop = request.batch_size, not request.has_partial_batch
    if request.ragged:
        batches = (parts.unbatch() if pieces else parts).ragged_batch(size, drop_remainder=drop)
    elif pieces and request.piece_records == size and request.pieces_fit:
        batches = (
            parts.map(lambda *values: with_size(values if len(values) > 1 else values[0], size)) if drop else parts
        )
    elif pieces:
        batches = parts.rebatch(size, drop_remainder=drop)
    else:
        batches = parts.batch(size, drop_remainder=drop)
    return batches if skipped is None else without_lost(batches, keep_size=request.training)
