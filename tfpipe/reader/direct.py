"""Batches the direct way: from shards to features in as few steps as there can be, nothing said about damage.

    in the order of storage   shards ─▶ records ─▶ batches
    sought                    chunks of the order ─▶ records ─▶ batches

Each function of a dataset costs every epoch some 4 ms, each operation in it 0.15 ms, and more in nested functions: so
they are few and small, and none lies in a function of the epoch. What fails is an error of its batch; see handover.py.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfpipe.reader.decode import Decoder
from tfpipe.reader.order import chunks, draw_numbers, epochs, first_batch_of
from tfpipe.reader.records import Shelf, mapped, read_parts, read_shards_from, read_singles
from tfpipe.reader.request import Request


def read_direct(request: Request, shelf: Shelf, decoder: Decoder) -> tf.data.Dataset:
    """The features of each batch; each iteration is the next epoch.

    Args:
      request: what was asked for, for which is_direct holds.
      shelf: where the records lie.
      decoder: how they become features.
    """
    order, options = request.order, request.options
    size, drop = request.batch_size, not request.has_partial_batch
    parse = decoder.batch
    if order.has_windows and not request.is_run_through:
        parts = read_parts(shelf, order, _chunks(request), request.piece_records, options, marks=False)
        if parse is not None:
            whole = parts if request.pieces_fit else parts.rebatch(size, drop_remainder=drop)
            return mapped(whole, lambda _, some: with_size(parse(some), size) if drop else parse(some), options)
        return _images(parts.unbatch().map(lambda _, record: record), request, decoder)
    if request.is_run_through:
        records = _run_through(request, shelf)
    else:
        records = read_singles(shelf, order, _chunks(request), options)
    if parse is not None:
        return mapped(records.batch(size, drop_remainder=drop), parse, options)
    return _images(records, request, decoder)


def _chunks(request: Request) -> tf.data.Dataset:
    order = request.order
    return epochs(order).flat_map(lambda epoch: chunks(order, epoch, first_batch_of(order, epoch)))


def _run_through(request: Request, shelf: Shelf) -> tf.data.Dataset:
    """Serialized records as they are stored, from the epoch's first one on."""
    order = request.order
    count = order.num_positions
    if not order.first_batch:
        return read_shards_from(shelf, 0).take(count)
    return epochs(order).flat_map(
        lambda epoch: read_shards_from(shelf, first_batch_of(order, epoch) * order.batch_size)
    )


def _images(records: tf.data.Dataset, request: Request, decoder: Decoder) -> tf.data.Dataset:
    """Batches of records that are decoded one by one."""
    if request.is_drawn:
        order = request.order
        draws = epochs(order).flat_map(lambda epoch: draw_numbers(order, epoch, first_batch_of(order, epoch)))
        records = tf.data.Dataset.zip(records, draws)
    decoded = mapped(records, decoder.single, request.options)
    batch = decoded.ragged_batch if request.ragged else decoded.batch
    return batch(request.batch_size, drop_remainder=not request.has_partial_batch)


def with_size(values: Any, size: int) -> Any:
    """The same tensors, their first dimension known: all pieces are whole, and nothing has to be copied."""
    return tf.nest.map_structure(lambda part: tf.ensure_shape(part, [size, *part.shape[1:]]), values)
