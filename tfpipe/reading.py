"""Serialized records in the order of an epoch: a seekable global shuffle, without a buffer.

Position p of an epoch is record permutation(seed, epoch)(p); the permutation is a keyed bijection, so nothing is
stored, and each record is read by itself through its offset in records.index. The order is a pure function of (seed,
epoch), uniform over the whole split, the same at any parallelism and for any number of hosts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfpipe.manifest import Manifest, Shard
from tfpipe.readoptions import ReadOptions

# Sequential reads: larger buffers are slower (64 MB) or no faster.
_BUFFER_BYTES = 256 * 1024
# Positions are turned into places this many at a time: one gather instead of many.
_LOCATE_AT_ONCE = 256
# Streams drawn from one seed; the transforms of a call take TRANSFORM_STREAM and the numbers after it.
_ORDER_STREAM, TRANSFORM_STREAM = 0, 1


@dataclass(frozen=True)
class Order:
    """Which records one iteration reads, and in which order.

    Attributes:
      num_records: in the split.
      num_positions: how many of an epoch's positions this host reads.
      batch_size: host h of n takes the positions of the batches k * n + h.
      host_index: this host's number.
      host_count: how many hosts read together.
      seed: of the permutation.
      shuffled: False: the record at position p is record p.
    """

    num_records: int
    num_positions: int
    batch_size: int
    host_index: int
    host_count: int
    seed: int
    shuffled: bool


def steps(order: Order) -> tf.data.Dataset:
    """The (epoch, global number of the batch) of each batch that this host reads, int64 scalars."""
    batches = -(-order.num_positions // order.batch_size)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(batches).map(lambda k: (epoch, k * order.host_count + order.host_index))

    return _epochs().flat_map(of_epoch)


def _epochs() -> tf.data.Dataset:
    """The number of the epoch, alone: 0 in the first iteration, 1 in the second, ..."""
    # A variable counts iterations: a Python counter would be frozen into the graph.
    begun = tf.Variable(-1, dtype=tf.int64, trainable=False, name="epochs_begun")
    return tf.data.Dataset.from_tensors(0).map(lambda _: begun.assign_add(1))


def _positions(order: Order) -> tf.data.Dataset:
    size, hosts, host = order.batch_size, order.host_count, order.host_index
    places = tf.data.Dataset.range(order.num_positions)
    return places if hosts == 1 else places.map(lambda i: (i // size * hosts + host) * size + i % size)


def stream_bits(seed: int, stream: int, number: tf.Tensor, shape: list[int], dtype: tf.DType) -> tf.Tensor:
    """Random bits of an integer dtype: a pure function of (seed, stream, number)."""
    key = tf.stack([tf.constant((seed * 1024 + stream) % 2**63, tf.int64), tf.cast(number, tf.int64)])
    return tf.random.stateless_uniform(shape, key, minval=None, maxval=None, dtype=dtype, alg="philox")


def _permuted(order: Order, epoch: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    # The public index_shuffle has four rounds and takes few bits of its seed.
    return tf.raw_ops.RandomIndexShuffle(
        index=places,
        seed=stream_bits(order.seed, _ORDER_STREAM, epoch, [3], tf.uint32),
        max_index=tf.constant(order.num_records - 1, tf.int64),
        rounds=16,
    )


def read_by_position(manifest: Manifest, split: str, order: Order, options: ReadOptions) -> tf.data.Dataset:
    """The serialized records of an epoch in its order, each read by itself, its CRC checked.

    Each iteration is the next epoch.
    """
    shards = _shards(manifest, split)
    offsets = [part.astype(np.int64) for part in manifest.offsets(split) if len(part)]
    starts = tf.constant(np.cumsum([0, *map(len, offsets)]), tf.int64)
    begins = tf.constant(np.concatenate(offsets))
    ends = [np.append(part[1:], shard.num_bytes) for part, shard in zip(offsets, shards, strict=True)]
    lengths = tf.constant(np.concatenate(ends)) - begins
    files = tf.constant([str(manifest.shard_path(shard)) for shard in shards])

    def locate(epoch: tf.Tensor, places: tf.Tensor) -> tuple[tf.Tensor, ...]:
        records = _permuted(order, epoch, places) if order.shuffled else places
        shard = tf.searchsorted(starts, records, side="right") - 1
        return tf.gather(files, shard), tf.gather(begins, records), tf.gather(lengths, records)

    def read(file: tf.Tensor, begin: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
        # The buffer is the record's own length: one exact read.
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=file[None], compression_type="", buffer_size=length, byte_offsets=begin[None]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        located = _positions(order).batch(_LOCATE_AT_ONCE).map(lambda places: locate(epoch, places)).unbatch()
        return _interleaved(located, read, options)

    return _epochs().flat_map(of_epoch)


def read_in_order(manifest: Manifest, split: str, options: ReadOptions) -> tf.data.Dataset:
    """Serialized records shard by shard, or in turn from several shards at a time."""
    return _interleaved(tf.data.Dataset.from_tensor_slices(_files(manifest, split)), _read_file, options)


def read_mixed(manifest: Manifest, split: str, seed: int, options: ReadOptions) -> tf.data.Dataset:
    """Serialized records of compressed shards, which can't be sought: shards in a permutation, then a buffer.

    The order is a pure function of (seed, epoch), as far as one buffer mixes. Each iteration is the next epoch.
    """
    files, compressions = _files(manifest, split)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = Order(len(files), len(files), 1, 0, 1, seed, shuffled=True)
        places = _permuted(order, epoch, tf.range(len(files), dtype=tf.int64))
        chosen = tf.gather(files, places), tf.gather(compressions, places)
        draw = stream_bits(seed, _ORDER_STREAM, epoch, [2], tf.int64)[1]
        records = _interleaved(tf.data.Dataset.from_tensor_slices(chosen), _read_file, options)
        return records.shuffle(options.shuffle_buffer, seed=draw, reshuffle_each_iteration=False)

    return _epochs().flat_map(of_epoch)


def _files(manifest: Manifest, split: str) -> tuple[list[str], list[str]]:
    """The paths of a split's shards, and how TensorFlow calls their compression."""
    shards = _shards(manifest, split)
    return [str(manifest.shard_path(shard)) for shard in shards], [shard.compression or "" for shard in shards]


def _read_file(file: tf.Tensor, compression: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, compression_type=compression, buffer_size=_BUFFER_BYTES)


def _shards(manifest: Manifest, split: str) -> list[Shard]:
    return [shard for shard in manifest.split(split).shards if shard.num_records]


def _interleaved(
    places: tf.data.Dataset, read: Callable[..., tf.data.Dataset], options: ReadOptions
) -> tf.data.Dataset:
    if options.parallel_reads == 1:
        return places.flat_map(read)
    return places.interleave(
        read,
        cycle_length=options.parallel_reads,
        block_length=1,
        num_parallel_calls=options.parallel_reads,
        deterministic=options.deterministic,
    )
