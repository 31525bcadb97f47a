"""Serialized records by their numbers, in chunks, each record's CRC checked.

A chunk of record numbers is one dataset element: its consecutive records are stretches of shards, each read at once,
through its offset. A record that can't be read is "" in the result, and no other record is affected: the stretches of
a chunk are tried first, and only a chunk in which one failed is read again, record by record.

Compressed shards have no offsets; they are read from their beginning, and all records after damage are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.format.manifest import Manifest, Shard
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.order import BUFFER_STREAM, Order, batch_records, keyed_bits, permute_positions, records_of_chunk
from tfpipe.tf_internals import fixed_graph_seed, read_tfrecords_at, upper_bound

# Sequential reads: larger buffers are slower (64 MB) or no faster.
_BUFFER_BYTES = 256 * 1024
_UNREADABLE = ""


@dataclass(frozen=True)
class RecordTable:
    """The shards that a stream reads, and the position of every record in them.

    Attributes:
      sources: (manifest, split) of each source.
      paths: the file of each shard.
      starts: [S + 1] the number of each shard's first record, and of the one after the last.
      begins: [N] the byte offset of each record; None where a shard is compressed.
      ends: [N] the byte after each record.
    """

    sources: tuple[tuple[Manifest, str], ...]
    paths: tuple[str, ...]
    starts: np.ndarray
    begins: np.ndarray | None
    ends: np.ndarray | None

    @cached_property
    def tensors(self) -> dict[str, tf.Tensor]:
        """Paths, starts, begins and ends as tensors: graphs capture them, and hold no copies of their own."""
        columns = {
            "paths": list(self.paths),
            "starts": self.starts,
            "rows": self.starts[None],
            "begins": self.begins,
            "ends": self.ends,
        }
        with tf.init_scope():  # Eager, wherever it is used first.
            return {name: tf.constant(values) for name, values in columns.items() if values is not None}

    def locate(self, number: int) -> tuple[str, int]:
        """The file of a record's shard, and the record's index in it."""
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.paths[shard], number - int(self.starts[shard])


def open_records(sources: Sequence[tuple[Manifest, str]]) -> RecordTable:
    """The table of all records of some sources, in the order of the sources.

    Raises:
      ValueError: a shard does not have the records that its manifest says.
    """
    shards = [(manifest, shard) for manifest, split in sources for shard in _shards(manifest, split)]
    begins = ends = None
    if all(manifest.split(split).is_seekable for manifest, split in sources):
        offsets = [
            part.astype(np.int64) for manifest, split in sources for part in manifest.offsets(split) if len(part)
        ]
        begins = np.concatenate(offsets)
        sizes = [shard.num_bytes for _, shard in shards]
        ends = np.concatenate([np.append(part[1:], size) for part, size in zip(offsets, sizes, strict=True)])
    return RecordTable(
        sources=tuple(sources),
        paths=tuple(str(manifest.shard_path(shard)) for manifest, shard in shards),
        starts=np.cumsum([0, *(shard.num_records for _, shard in shards)]),
        begins=begins,
        ends=ends,
    )


# ---- chunks through offsets


def read_chunks(
    table: RecordTable, order: Order, parts: tf.data.Dataset, size: int, options: ReadOptions, *, marks: bool = True
) -> tf.data.Dataset:
    """The records of chunks, in the order of the epoch.

    Args:
      table: where the records are.
      order: which records a chunk has.
      parts: the chunks, as order.chunks numbers them.
      size: the most records of an element.
      options: how many chunks are read at once.
      marks: give "" for a record that can't be read; otherwise that is an error.

    Returns:
      (numbers int64 [n], serialized string [n]).
    """

    def read_chunk(start: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tf.data.Dataset:
        return _read_chunk(table, order, records_of_chunk(order, *start, chunk), marks=marks)

    def read_window(start: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tf.data.Dataset:
        return _read_window(table, records_of_chunk(order, *start, chunk), options, marks=marks)

    if not (order.shuffled and order.has_windows):
        read = interleave_reads(parts, read_chunk, options.reads_at_once, options)
        if order.window_records <= size:
            return read
        return read.flat_map(lambda numbers, records: _cut(numbers, size, lambda part: records[part]))
    windows = parts.flat_map(read_window)
    # A window is large: only one is read ahead.
    windows = windows if options.reads_at_once == 1 else windows.prefetch(1)
    # Each record is copied once, from its rank in file order.
    return windows.flat_map(
        lambda window, records: _cut(window[0], size, lambda part: tf.gather(records, window[1][part]))
    )


def read_singles(table: RecordTable, order: Order, parts: tf.data.Dataset, options: ReadOptions) -> tf.data.Dataset:
    """The serialized records of chunks, as order.chunks numbers them, read individually; any failure is an error."""

    # Few records are in flight at a time: memory that was just freed is used again, while fresh pages cost as much as
    # reading.
    def locate_chunk(start: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _singles(table, records_of_chunk(order, *start, chunk))

    return interleave_reads(parts.map(locate_chunk).unbatch(), _read_stretch, options.reads_at_once, options)


def read_shards_from(table: RecordTable, first: tf.Tensor | int) -> tf.data.Dataset:
    """The serialized records in file order, from record `first` on; any failure is an error."""
    tensors = table.tensors
    begins = tf.maximum(tensors["starts"][:-1], tf.cast(first, tf.int64))
    counts = tf.maximum(tensors["starts"][1:] - begins, 0)
    shards = tf.range(len(table.paths))
    stretches = _locate(table, shards, tf.minimum(begins, tensors["starts"][-1] - 1), tensors["starts"][1:] - 1)
    return tf.data.Dataset.from_tensor_slices((*stretches, counts)).flat_map(_read_stretch)


def read_numbered(
    table: RecordTable, order: Order, epoch: tf.Tensor, batches: tf.data.Dataset, options: ReadOptions
) -> tf.data.Dataset:
    """The records of some batches of an epoch, given by their numbers: (numbers [B], serialized [B]) of each."""

    def read(batch: tf.Tensor) -> tf.data.Dataset:
        return _read_chunk(table, order, batch_records(order, epoch, batch), marks=True)

    return interleave_reads(batches, read, options.reads_at_once, options)


def _read_chunk(table: RecordTable, order: Order, numbers: tf.Tensor, *, marks: bool) -> tf.data.Dataset:
    """One element: the numbers, and their records; read in stretches where the order is that of the files."""
    stretches = tf.data.Dataset.from_tensor_slices(
        _singles(table, numbers) if order.shuffled else _stretches(table, numbers)
    )
    whole = stretches.flat_map(_read_stretch).batch(tf.size(numbers, out_type=tf.int64), drop_remainder=True)
    whole = _with_marks(table, numbers, whole) if marks else whole
    return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(numbers), whole)


def _read_window(table: RecordTable, numbers: tf.Tensor, options: ReadOptions, *, marks: bool) -> tf.data.Dataset:
    """One element: (the numbers, the rank of each in file order), and the records in file order."""
    by_file = tf.argsort(numbers)
    wanted, count = tf.gather(numbers, by_file), tf.size(numbers, out_type=tf.int64)
    stretches = tf.data.Dataset.from_tensor_slices(_stretches(table, wanted))
    if any("://" in path for path in table.paths):
        # Seeks in a store are slow: several at once, which costs 10 % more CPU.
        read = interleave_reads(stretches, lambda *s: _read_stretch(*s).batch(s[-1]), options.reads_at_once, options)
        whole = read.rebatch(count, drop_remainder=True)
    else:
        whole = stretches.flat_map(_read_stretch).batch(count, drop_remainder=True)
    ranks = tf.data.Dataset.from_tensors((numbers, tf.math.invert_permutation(by_file)))
    return tf.data.Dataset.zip(ranks, _with_marks(table, wanted, whole) if marks else whole)


def _cut(numbers: tf.Tensor, size: int, records_of: Callable[[slice], tf.Tensor]) -> tf.data.Dataset:
    """A chunk in pieces of at most `size` records."""
    starts = tf.data.Dataset.range(0, tf.size(numbers, out_type=tf.int64), size)
    return starts.map(lambda at: (numbers[at : at + size], records_of(slice(at, at + size))))


def _with_marks(table: RecordTable, numbers: tf.Tensor, whole: tf.data.Dataset) -> tf.data.Dataset:
    """One element: the records of a chunk; if that fails, they are read one by one, "" for each that can't be read."""
    singles = tf.data.Dataset.from_tensor_slices(_singles(table, numbers)).flat_map(_read_or_mark)
    one_by_one = singles.batch(tf.size(numbers, out_type=tf.int64), drop_remainder=True)
    return _try_each(whole, 1).concatenate(one_by_one).take(1)


def _stretches(table: RecordTable, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The stretches of consecutive records in one shard, from sorted numbers: file, byte offset, bytes, records."""
    # Number + shard - index is constant within such a stretch, and larger in the next one.
    shard = _shards_of(table, numbers)
    run = numbers + shard - tf.range(tf.size(numbers, out_type=tf.int64))
    counts = tf.unique_with_counts(run, out_idx=tf.int64).count
    begins = tf.cumsum(counts, exclusive=True)
    first = tf.gather(numbers, begins)
    return *_locate(table, tf.gather(shard, begins), first, first + counts - 1), counts


def _singles(table: RecordTable, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same for single records."""
    return *_locate(table, _shards_of(table, numbers), numbers, numbers), tf.ones_like(numbers)


def _shards_of(table: RecordTable, numbers: tf.Tensor) -> tf.Tensor:
    """The shard of each record."""
    return upper_bound(table.tensors["rows"], numbers) - 1


def _locate(
    table: RecordTable, shard: tf.Tensor, first: tf.Tensor, last: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The file, the byte offset and the bytes of stretches of records."""
    tensors = table.tensors
    begin = tf.gather(tensors["begins"], first)
    return tf.gather(tensors["paths"], shard), begin, tf.gather(tensors["ends"], last) - begin


def _read_stretch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    # A buffer as long as the stretch reads no byte beyond it.
    return read_tfrecords_at(file, begin, tf.minimum(num_bytes, _BUFFER_BYTES)).take(count)


def _try_each(elements: tf.data.Dataset, attempts: tf.Tensor | int) -> tf.data.Dataset:
    """The elements without those that fail, in at most `attempts` tries."""
    # ignore_errors alone would try forever: a file that can't be opened fails again at every call.
    return tf.data.Dataset.zip(tf.data.Dataset.range(attempts), elements).ignore_errors().map(lambda _, one: one)


def _read_or_mark(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    record = _try_each(_read_stretch(file, begin, num_bytes, count), 1)
    return record.concatenate(tf.data.Dataset.from_tensors(_UNREADABLE)).take(1)


# ---- whole shards


def read_shards(table: RecordTable, order: Order, epoch: tf.Tensor, options: ReadOptions) -> tf.data.Dataset:
    """(number, serialized) of every record, the shards permuted in each epoch where the order is shuffled.

    For compressed shards, which have no offsets.
    """
    numbers = tf.range(len(table.paths), dtype=tf.int64)
    if order.shuffled:
        numbers = permute_positions(order.seed, BUFFER_STREAM, 2 * epoch, numbers, len(table.paths))
    compressions = [shard.compression or "" for manifest, split in table.sources for shard in _shards(manifest, split)]
    starts = tf.gather(table.starts, numbers)
    shards = tf.data.Dataset.from_tensor_slices(
        (
            tf.gather(table.paths, numbers),
            tf.gather(compressions, numbers),
            starts,
            tf.gather(table.starts, numbers + 1),
        )
    )
    return interleave_reads(shards, _read_shard, options.reads_at_once, options)


def _read_shard(file: tf.Tensor, compression: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
    """(number, serialized) of each record of a shard."""
    valid = _try_each(_read_file(file, compression), end - start)
    lost = tf.data.Dataset.from_tensors(_UNREADABLE).repeat(end - start)
    return tf.data.Dataset.zip(tf.data.Dataset.range(start, end), valid.concatenate(lost))


def read_in_order(manifest: Manifest, split: str, options: ReadOptions) -> tf.data.Dataset:
    """Serialized records shard by shard, or round-robin from several shards at a time."""
    shards = _shards(manifest, split)
    files = [str(manifest.shard_path(shard)) for shard in shards]
    compressions = [shard.compression or "" for shard in shards]
    shard_files = tf.data.Dataset.from_tensor_slices((files, compressions))
    return interleave_reads(shard_files, _read_file, options.reads_at_once, options)


def _read_file(file: tf.Tensor, compression: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, compression_type=compression, buffer_size=_BUFFER_BYTES)


def _shards(manifest: Manifest, split: str) -> list[Shard]:
    return [shard for shard in manifest.split(split).shards if shard.num_records]


# ---- shared by all stages


def interleave_reads(
    parts: tf.data.Dataset, read: Callable[..., tf.data.Dataset], at_once: int, options: ReadOptions
) -> tf.data.Dataset:
    """The elements of each read(part), round-robin from `at_once` parts in parallel; -1 lets tf.data choose."""
    if at_once == 1:
        return parts.flat_map(read)
    return parts.interleave(
        read, cycle_length=at_once, block_length=1, num_parallel_calls=at_once, deterministic=options.deterministic
    )


def map_parallel(dataset: tf.data.Dataset, function: Callable[..., Any], options: ReadOptions) -> tf.data.Dataset:
    """The dataset with a function applied, as many elements at once as the options say."""
    if options.parallel_calls == 1:
        return dataset.map(function)
    return dataset.map(function, num_parallel_calls=options.parallel_calls, deterministic=options.deterministic)


def shuffle_by_buffer(records: tf.data.Dataset, order: Order, epoch: tf.Tensor, buffer_records: int) -> tf.data.Dataset:
    """Elements shuffled through a buffer: a pure function of the elements, the seed and the epoch."""
    draw = keyed_bits(order.seed, BUFFER_STREAM, 2 * epoch + 1, [2], tf.int64)[1]
    with fixed_graph_seed():
        return records.shuffle(buffer_records, seed=draw, reshuffle_each_iteration=False)
