"""The fast path: from shards to batches of features in as few tf.data functions as possible; damage is not handled.

    storage order        shards ─▶ records ─▶ batches
    any other order      chunks of the order ─▶ records ─▶ batches

Each function of a dataset costs every epoch some 4 ms, each operation in it 0.15 ms, and more in nested functions: so
they are few and small, and none is inside the function that begins an epoch. Damage is an error of its batch; then
fallback.py takes over.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfpipe.reader.decode import Decoder
from tfpipe.reader.order import chunks, draw_numbers, epochs, first_batch_of
from tfpipe.reader.records import RecordTable, map_parallel, read_chunks, read_shards_from, read_singles
from tfpipe.reader.request import Request


def read_fast(request: Request, table: RecordTable, decoder: Decoder) -> tf.data.Dataset:
    """The features of each batch; each iteration is the next epoch.

    Args:
      request: what was asked for; its takes_fast_path holds.
      table: where the records are.
      decoder: how they become features.
    """
    order, options = request.order, request.options
    size, drop = request.batch_size, not request.has_partial_batch
    parse = decoder.batch
    if order.has_windows and not request.is_sequential:
        parts = read_chunks(table, order, _chunks(request), request.decode_batch_records, options, marks=False)
        if parse is not None:
            whole = parts if request.batches_align else parts.rebatch(size, drop_remainder=drop)
            return map_parallel(whole, lambda _, some: with_size(parse(some), size) if drop else parse(some), options)
        return _decode_singly(parts.unbatch().map(lambda _, record: record), request, decoder)
    if request.is_sequential:
        records = _read_sequentially(request, table)
    else:
        records = read_singles(table, order, _chunks(request), options)
    if parse is not None:
        return map_parallel(records.batch(size, drop_remainder=drop), parse, options)
    return _decode_singly(records, request, decoder)


def _chunks(request: Request) -> tf.data.Dataset:
    order = request.order
    return epochs(order).flat_map(lambda epoch: chunks(order, epoch, first_batch_of(order, epoch)))


def _read_sequentially(request: Request, table: RecordTable) -> tf.data.Dataset:
    """Serialized records as they are stored, from the epoch's first one on."""
    order = request.order
    count = order.num_positions
    if not order.first_batch:
        return read_shards_from(table, 0).take(count)
    return epochs(order).flat_map(
        lambda epoch: read_shards_from(table, first_batch_of(order, epoch) * order.batch_size)
    )


def _decode_singly(records: tf.data.Dataset, request: Request, decoder: Decoder) -> tf.data.Dataset:
    """Batches of records that are decoded one by one."""
    if request.has_random_crop:
        order = request.order
        draws = epochs(order).flat_map(lambda epoch: draw_numbers(order, epoch, first_batch_of(order, epoch)))
        records = tf.data.Dataset.zip(records, draws)
    features = map_parallel(records, decoder.single, request.options)
    batch = features.ragged_batch if request.ragged else features.batch
    return batch(request.batch_size, drop_remainder=not request.has_partial_batch)


def with_size(values: Any, size: int) -> Any:
    """The same tensors with a known first dimension: all batches are full, and nothing has to be copied."""
    return tf.nest.map_structure(lambda part: tf.ensure_shape(part, [size, *part.shape[1:]]), values)
