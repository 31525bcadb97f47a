"""The order of an epoch: pure functions of (seed, epoch, position); nothing is stored, any position can be computed.

One of three rules gives the record at position p of an epoch, each by keyed permutations:

    single records   permutation(p): uniform over all records
    blocks           blocks of consecutive records in a permutation; several of them form a window, whose records are
                     permuted again: a reader opens a file once per block, and keeps one window in memory
    weighted groups  each group (the records of one source, or of one class) gets its share of the positions; inside
                     it no record is repeated until all have been seen, then they follow in another permutation

Host h of n reads the positions of the global batches k * n + h, whatever the rule.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfpipe.reader.positions import Groups, Order
from tfpipe.tf_internals import (
    filter_on_one_device,
    map_on_one_device,
    permute_index,
    read_and_skip,
    seeded_bits,
)

# Streams of random bits from one seed; transform i of a call takes TRANSFORM_STREAM + i, up to 512 of them.
_ORDER_STREAM, TRANSFORM_STREAM = 0, 1
CROP_STREAM = 1018
_WINDOW_STREAM, _PHASE_STREAM, _SLOT_STREAM, _GROUP_STREAM, BUFFER_STREAM = 1019, 1020, 1021, 1022, 1023


# ---- random bits


def keyed_bits(seed: int, stream: int, number: tf.Tensor, shape: list[int] | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Random bits of an integer dtype: a pure function of (seed, stream, number)."""
    words = tf.stack([tf.constant((seed * 1024 + stream) % 2**63, tf.int64), tf.cast(number, tf.int64)])
    return seeded_bits(words, shape, dtype)


def permute_positions(seed: int, stream: int, number: tf.Tensor, values: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """The images of values under a permutation of [0, size), which (seed, stream, number) picks."""
    return permute_index(values, keyed_bits(seed, stream, number, [3], tf.uint32), tf.cast(size, tf.int64) - 1)


# ---- epochs and batches


class EpochCounter:
    """Counts the iterations of a dataset: each gets the next epoch, also where several threads begin one at once.

    A variable, since a Python counter would be frozen into the graph; moved on in the step that reads it, since two
    threads could otherwise both add before they read.
    """

    # What one unit of read_and_skip adds.
    _STEP = 256

    def __init__(self, order: Order) -> None:
        self._state = tf.Variable([order.first_epoch * self._STEP, 0, 0], dtype=tf.int64, trainable=False)

    def begin(self) -> tf.Tensor:
        """The number of the epoch that begins now, int64 scalar."""
        return read_and_skip(self._state, 1) // self._STEP

    @property
    def next_epoch(self) -> int:
        """The number of the epoch that the next iteration will begin."""
        return int(self._state[0]) // self._STEP


def epochs(counter: EpochCounter, *, endless: bool = False) -> tf.data.Dataset:
    """A dataset of one element, the number of an epoch that begins now; endless: of one such number after another."""
    one = tf.data.Dataset.from_tensors(0)
    return map_on_one_device(one.repeat() if endless else one, lambda _: counter.begin())


def first_batch_of(order: Order, epoch: tf.Tensor) -> tf.Tensor:
    """The batch at which this host begins in an epoch: 0, except in the epoch that a resumed stream begins in."""
    return tf.where(epoch == order.first_epoch, tf.constant(order.first_batch, tf.int64), 0)


def global_batches(order: Order, first_batch: tf.Tensor) -> tf.data.Dataset:
    """The numbers, among the batches of all hosts, of this host's batches from `first_batch` on, int64 scalars."""
    hosts, host = order.host_count, order.host_index
    return tf.data.Dataset.range(first_batch * hosts + host, order.num_batches * hosts + host, hosts)


def draw_numbers(order: Order, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """A number for each of this host's positions, int64 [n]: different for all records, epochs and hosts."""
    return epoch * order.num_records + _global_position(order, positions)


# ---- chunks of this host's positions, each read at once


def chunks(order: Order, first_batch: tf.Tensor) -> tf.data.Dataset:
    """(begin, end) of each chunk of this host's positions in an epoch, from `first_batch` on, int64 scalars.

    A chunk is a window, or window_records single records; records_at gives its records.
    """
    first, size = first_batch * order.batch_size, order.window_records
    if not order.has_windows:
        begins = tf.data.Dataset.range(first, order.num_positions, size)
        return map_on_one_device(begins, lambda begin: (begin, tf.minimum(begin + size, order.num_positions)))
    last = _global_position(order, tf.constant(order.num_positions - 1, tf.int64))
    numbers = tf.data.Dataset.range(_global_position(order, first) // size, last // size + 1)
    parts = map_on_one_device(numbers, lambda window: _window(order, window, first))
    # A window may contain no batch of this host.
    return parts if order.host_count == 1 else filter_on_one_device(parts, lambda begin, end: begin < end)


def records_at(order: Order, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """The record numbers at this host's positions, int64 [n]: those of one chunk, or of a part of it."""
    places = _global_position(order, positions)
    if not order.shuffled:
        return places
    if order.has_windows:
        window = places[0] // order.window_records
        return _shuffle_window(order, epoch, window, places - window * order.window_records)
    if order.groups is not None:
        return _sample_groups(order, order.groups, epoch, places)
    return permute_positions(order.seed, _ORDER_STREAM, epoch, places, order.num_records)


def _global_position(order: Order, own: tf.Tensor) -> tf.Tensor:
    """The position in the whole epoch of a position of this host's own."""
    size, hosts = order.batch_size, order.host_count
    if hosts == 1:
        return own
    return (own // size * hosts + order.host_index) * size + own % size


def _own_before(order: Order, position: tf.Tensor) -> tf.Tensor:
    """The number of this host's own positions before a global position."""
    size, hosts = order.batch_size, order.host_count
    if hosts == 1:
        return position
    whole, rest = position // (size * hosts), position % (size * hosts)
    return whole * size + tf.clip_by_value(rest - order.host_index * size, 0, size)


def _window(order: Order, window: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The range of this host's own positions in one window, from `first` on: its begin and end."""
    begin = window * order.window_records
    low = tf.maximum(_own_before(order, begin), first)
    high = tf.minimum(_own_before(order, begin + order.window_records), order.num_positions)
    return low, high


# ---- positions to records


def _shuffle_window(order: Order, epoch: tf.Tensor, window: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """The records at offsets in one window, when blocks are permuted and then the records of a window."""
    block, whole = order.block_records, order.num_records // order.block_records
    begin = window * order.window_records
    held = tf.minimum(begin + order.window_records, order.num_records) - begin
    draw = epoch * (order.num_records // order.window_records + 1) + window
    # Sorted by random bits: a keyed bijection costs 3 us a record, this 0.1.
    shuffled = tf.argsort(keyed_bits(order.seed, _WINDOW_STREAM, draw, held[None], tf.int64))
    source = tf.cast(tf.gather(shuffled, offsets), tf.int64)
    # The records after the last whole block are the last block; the phase makes them other records in every epoch.
    slot = begin // block + tf.range(-(-order.window_records // block), dtype=tf.int64)
    moved = permute_positions(order.seed, _ORDER_STREAM, epoch, tf.minimum(slot, whole - 1), whole)
    start = tf.where(slot < whole, moved, whole) * block
    phase = tf.math.floormod(keyed_bits(order.seed, _PHASE_STREAM, epoch, [], tf.int64), order.num_records)
    return (tf.gather(start, source // block) + source % block + phase) % order.num_records


def _sample_groups(order: Order, groups: Groups, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """The records at positions, when groups are sampled by weight.

    A permutation of the epoch's slots gives every position a slot. The slots of a group are consecutive, as many as its
    quota, which is therefore exact. Slot c of a group is member c mod size of permutation number c // size.
    """
    sizes = np.array(groups.sizes, np.int64)
    cycles = -(-np.array(groups.quotas, np.int64) // sizes)
    ends = np.cumsum(groups.quotas)
    slot = permute_positions(order.seed, _SLOT_STREAM, epoch, positions, int(ends[-1]))
    group = tf.searchsorted(tf.constant(ends), slot, side="right", out_type=tf.int64)
    count, size = slot - tf.gather(ends - groups.quotas, group), tf.gather(sizes, group)
    # One key for each permutation of each group: all keys of an epoch are drawn, some of them are used.
    keys = keyed_bits(order.seed, _GROUP_STREAM, epoch, [int(cycles.sum()), 3], tf.uint32)
    key = tf.gather(keys, tf.gather(np.cumsum(cycles) - cycles, group) + count // size)
    member = permute_index(count % size, key, size - 1)
    return tf.gather(groups.members, tf.gather(np.cumsum(sizes) - sizes, group) + member)
