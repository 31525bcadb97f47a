"""The order of an epoch: pure functions of (seed, epoch, position); nothing is stored, any position can be asked for.

Position p of an epoch is a record by one of three rules, each a keyed bijection of the positions:

    single records   permutation(p): uniform over all records
    blocks           blocks of consecutive records in a permutation; some of them make a window, whose records are
                     permuted again: a reader opens a file once a block, and keeps one window
    drawn groups     each group (the records of one source, or of one class) gets its share of the positions; inside
                     it the records come without repetition until all have been seen, then in another permutation

Host h of n reads the positions of the global batches k * n + h, whatever the rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfpipe.tf_internals import permute_index, seeded_bits

# Streams drawn from one seed; the transforms of a call take TRANSFORM_STREAM and the 512 numbers after it.
_ORDER_STREAM, TRANSFORM_STREAM = 0, 1
CROP_STREAM = 1018
_WINDOW_STREAM, _PHASE_STREAM, _SLOT_STREAM, _GROUP_STREAM, BUFFER_STREAM = 1019, 1020, 1021, 1022, 1023


@dataclass(frozen=True)
class Groups:
    """Records in groups that are drawn by weight.

    Attributes:
      members: int64 [M] record numbers, group after group.
      sizes: how many of them each group has; at least one.
      quotas: how many positions of an epoch each group gets.
    """

    members: np.ndarray
    sizes: tuple[int, ...]
    quotas: tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """Which records one iteration reads, and in which order.

    Attributes:
      num_records: of the split, or of all sources of a mixture.
      num_positions: how many of an epoch's positions this host reads.
      batch_size: host h of n takes the positions of the batches k * n + h.
      host_index: this host's number.
      host_count: how many hosts read together.
      seed: of the permutations.
      shuffled: False: the record at position p is record p.
      start_step: the batches of this host that came before its first iteration, counted from epoch 0.
      block_records: consecutive records that are read together.
      window_records: records that are permuted together, a multiple of block_records; with single records only the
        number that is read in one go.
      groups: draw by weight; else every record comes once.
    """

    num_records: int
    num_positions: int
    batch_size: int
    host_index: int
    host_count: int
    seed: int
    shuffled: bool
    start_step: int = 0
    block_records: int = 1
    window_records: int = 1
    groups: Groups | None = None

    @property
    def num_batches(self) -> int:
        """Batches of this host in an epoch, a smaller last one included."""
        return -(-self.num_positions // self.batch_size)

    @property
    def first_epoch(self) -> int:
        """The epoch of the first iteration."""
        return self.start_step // self.num_batches

    @property
    def first_batch(self) -> int:
        """The batch at which the first iteration begins."""
        return self.start_step % self.num_batches

    @property
    def has_windows(self) -> bool:
        """Whether chunks of an epoch are windows: records that lie together are read together."""
        return not self.shuffled or (self.block_records > 1 and self.groups is None)


# ---- draws


def stream_bits(seed: int, stream: int, number: tf.Tensor, shape: list[int] | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Random bits of an integer dtype: a pure function of (seed, stream, number)."""
    words = tf.stack([tf.constant((seed * 1024 + stream) % 2**63, tf.int64), tf.cast(number, tf.int64)])
    return seeded_bits(words, shape, dtype)


def permuted(seed: int, stream: int, number: tf.Tensor, places: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """Where a permutation of [0, size) that (seed, stream, number) picks takes each of the places."""
    return permute_index(places, stream_bits(seed, stream, number, [3], tf.uint32), tf.cast(size, tf.int64) - 1)


# ---- epochs and batches


def epoch_counter(order: Order) -> tf.Variable:
    """The number of the epoch that was begun last; one before the first until there is one."""
    # A variable counts iterations: a Python counter would be frozen into the graph.
    return tf.Variable(order.first_epoch - 1, dtype=tf.int64, trainable=False, name="epochs_begun")


def epochs(order: Order, *, counter: tf.Variable | None = None) -> tf.data.Dataset:
    """The number of the epoch, alone: the first in the first iteration, one more in each later one."""
    begun = epoch_counter(order) if counter is None else counter
    return tf.data.Dataset.from_tensors(0).map(lambda _: begun.assign_add(1))


def first_batch_of(order: Order, epoch: tf.Tensor) -> tf.Tensor:
    """The batch at which this host begins in an epoch: 0, but where the stream is resumed."""
    return tf.where(epoch == order.first_epoch, tf.constant(order.first_batch, tf.int64), 0)


def global_batches(order: Order, first_batch: tf.Tensor) -> tf.data.Dataset:
    """The numbers, among all hosts' batches, of this host's batches of an epoch from one on, int64 scalars."""
    hosts, host = order.host_count, order.host_index
    return tf.data.Dataset.range(first_batch * hosts + host, order.num_batches * hosts + host, hosts)


def steps(epoch: tf.Tensor, numbers: tf.data.Dataset) -> tf.data.Dataset:
    """(epoch, number) of each number, int64 scalars."""
    return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(epoch).repeat(), numbers)


def draw_numbers(order: Order, epoch: tf.Tensor, first_batch: tf.Tensor) -> tf.data.Dataset:
    """One number for each record of an epoch from a batch on, int64 scalars: of all epochs and hosts no two agree."""
    places = tf.data.Dataset.range(first_batch * order.batch_size, order.num_positions)
    return places.map(lambda place: epoch * order.num_records + _global_position(order, place))


# ---- places of this host, in chunks that are read in one go


def chunks(order: Order, epoch: tf.Tensor, first_batch: tf.Tensor) -> tf.data.Dataset:
    """((epoch, first batch), number of the chunk), int64 scalars: each chunk of an epoch from one of its batches on.

    A chunk is a window, or as many single records as a window has; chunk_records tells which.
    """
    first, size = first_batch * order.batch_size, order.window_records
    if order.has_windows:
        last = _global_position(order, tf.constant(order.num_positions - 1, tf.int64))
        numbers = tf.data.Dataset.range(_global_position(order, first) // size, last // size + 1)
        if order.host_count > 1:
            # A window may hold no batch of this host.
            numbers = numbers.filter(lambda window: tf.less(*_window(order, window, first)))
    else:
        numbers = tf.data.Dataset.range(-((first - order.num_positions) // size))
    return tf.data.Dataset.zip(tf.data.Dataset.from_tensors((epoch, first_batch)).repeat(), numbers)


def chunk_records(order: Order, epoch: tf.Tensor, first_batch: tf.Tensor, chunk: tf.Tensor) -> tf.Tensor:
    """The record numbers of a chunk, int64 [n]."""
    first, size = first_batch * order.batch_size, order.window_records
    if order.has_windows:
        return _window_records(order, epoch, chunk, _run(order, *_window(order, chunk, first)))
    start = first + chunk * size
    return _records(order, epoch, _run(order, start, start + size))


def batch_records(order: Order, epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """The record numbers of one batch of this host, int64 [B]; of orders without blocks."""
    positions = _run(order, batch * order.batch_size, (batch + 1) * order.batch_size)
    return _records(order, epoch, positions) if order.shuffled else positions


def _run(order: Order, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """The global positions of this host's places [begin, end), as far as it has them."""
    places = tf.range(begin, tf.minimum(end, tf.cast(order.num_positions, tf.int64)), dtype=tf.int64)
    return _global_position(order, places)


def _global_position(order: Order, place: tf.Tensor) -> tf.Tensor:
    size, hosts = order.batch_size, order.host_count
    if hosts == 1:
        return place
    return (place // size * hosts + order.host_index) * size + place % size


def _places_before(order: Order, position: tf.Tensor) -> tf.Tensor:
    """How many of this host's places come before a global position."""
    size, hosts = order.batch_size, order.host_count
    if hosts == 1:
        return position
    whole, rest = position // (size * hosts), position % (size * hosts)
    return whole * size + tf.clip_by_value(rest - order.host_index * size, 0, size)


def _window(order: Order, window: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Places of this host in one window, from place `first` on: the first of them, and the one after the last."""
    begin = window * order.window_records
    low = tf.maximum(_places_before(order, begin), first)
    high = tf.minimum(_places_before(order, begin + order.window_records), order.num_positions)
    return low, high


# ---- positions to records


def _window_records(order: Order, epoch: tf.Tensor, window: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    if not order.shuffled:
        return positions
    return _mixed(order, epoch, window, positions - window * order.window_records)


def _records(order: Order, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    if order.groups is not None:
        return _drawn(order, order.groups, epoch, positions)
    return permuted(order.seed, _ORDER_STREAM, epoch, positions, order.num_records)


def _mixed(order: Order, epoch: tf.Tensor, window: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The records at places of one window, when blocks are permuted and then the records of a window."""
    block, whole = order.block_records, order.num_records // order.block_records
    begin = window * order.window_records
    held = tf.minimum(begin + order.window_records, order.num_records) - begin
    draw = epoch * (order.num_records // order.window_records + 1) + window
    # Sorted by random bits: a keyed bijection costs 3 us a record, this 0.1.
    mixed = tf.argsort(stream_bits(order.seed, _WINDOW_STREAM, draw, held[None], tf.int64))
    source = tf.cast(tf.gather(mixed, places), tf.int64)
    # What is left over of whole blocks is a block of its own, the last; the phase makes it other records every epoch.
    slot = begin // block + tf.range(-(-order.window_records // block), dtype=tf.int64)
    place = permuted(order.seed, _ORDER_STREAM, epoch, tf.minimum(slot, whole - 1), whole)
    start = tf.where(slot < whole, place, whole) * block
    phase = tf.math.floormod(stream_bits(order.seed, _PHASE_STREAM, epoch, [], tf.int64), order.num_records)
    return (tf.gather(start, source // block) + source % block + phase) % order.num_records


def _drawn(order: Order, groups: Groups, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """The records at positions, when groups are drawn by weight.

    A permutation of the epoch's slots gives every position a slot; the slots of a group are consecutive, and its
    quotas are exact. Slot c of a group is member c mod size in the permutation number c // size.
    """
    sizes = np.array(groups.sizes, np.int64)
    cycles = -(-np.array(groups.quotas, np.int64) // sizes)
    ends = np.cumsum(groups.quotas)
    slot = permuted(order.seed, _SLOT_STREAM, epoch, positions, int(ends[-1]))
    group = tf.searchsorted(tf.constant(ends), slot, side="right", out_type=tf.int64)
    count, size = slot - tf.gather(ends - groups.quotas, group), tf.gather(sizes, group)
    # One key for each permutation of each group: all of an epoch are drawn, some of them are used.
    keys = stream_bits(order.seed, _GROUP_STREAM, epoch, [int(cycles.sum()), 3], tf.uint32)
    key = tf.gather(keys, tf.gather(np.cumsum(cycles) - cycles, group) + count // size)
    member = permute_index(count % size, key, size - 1)
    return tf.gather(groups.members, tf.gather(np.cumsum(sizes) - sizes, group) + member)
