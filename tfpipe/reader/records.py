"""Serialized records by their numbers, in chunks, each record's CRC checked.

A chunk of record numbers is one dataset element: the records that lie side by side are one stretch of one shard, read
through its offset, in one go. A record that can't be read comes as "" in its place, and costs no other: the stretches
of a chunk are tried first, and only a chunk in which something failed is read again, record by record.

Shards that are compressed have no offsets; they are read from their beginning, and what lies behind damage is lost.
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
from tfpipe.reader.order import BUFFER_STREAM, Order, batch_records, chunk_records, chunks, permuted, stream_bits
from tfpipe.tf_internals import fixed_graph_seed, read_tfrecords_at, upper_bound

# Sequential reads: larger buffers are slower (64 MB) or no faster.
_BUFFER_BYTES = 256 * 1024
_UNREADABLE = ""


@dataclass(frozen=True)
class Shelf:
    """The shards that a stream reads, and where every record lies in them.

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
    def table(self) -> dict[str, tf.Tensor]:
        """Paths, starts, begins and ends as tensors: captured by the graphs, not copied into each as a constant."""
        columns = {
            "paths": list(self.paths),
            "starts": self.starts,
            "rows": self.starts[None],
            "begins": self.begins,
            "ends": self.ends,
        }
        with tf.init_scope():  # Eager, wherever it is first asked for.
            return {name: tf.constant(values) for name, values in columns.items() if values is not None}

    def place(self, number: int) -> tuple[str, int]:
        """The shard's file, and the record's number in it."""
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.paths[shard], number - int(self.starts[shard])


def open_shelf(sources: Sequence[tuple[Manifest, str]]) -> Shelf:
    """The shelf of all records of some sources, one source after the other.

    Raises:
      ValueError: a shard has not the records that its manifest says.
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
    return Shelf(
        sources=tuple(sources),
        paths=tuple(str(manifest.shard_path(shard)) for manifest, shard in shards),
        starts=np.cumsum([0, *(shard.num_records for _, shard in shards)]),
        begins=begins,
        ends=ends,
    )


# ---- chunks through offsets


def read_chunks(
    shelf: Shelf,
    order: Order,
    epoch: tf.Tensor,
    first_batch: tf.Tensor,
    size: int,
    options: ReadOptions,
    *,
    marks: bool = True,
) -> tf.data.Dataset:
    """The records of an epoch in its order, from one of its batches on.

    Args:
      shelf: where they lie.
      order: which come, and when.
      epoch: int64 scalar.
      first_batch: the number of this host's batch to begin with, int64 scalar.
      size: the most records of an element.
      options: how many chunks are read at once.
      marks: "" stands for a record that can't be read; otherwise it is an error.

    Returns:
      (numbers int64 [n], serialized string [n]).
    """
    return read_parts(shelf, order, chunks(order, epoch, first_batch), size, options, marks=marks)


def read_parts(
    shelf: Shelf, order: Order, parts: tf.data.Dataset, size: int, options: ReadOptions, *, marks: bool
) -> tf.data.Dataset:
    """What read_chunks gives, of the chunks that order.chunks numbers."""

    def few(known: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tf.data.Dataset:
        return _read_few(shelf, order, chunk_records(order, *known, chunk), marks=marks)

    def window(known: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tf.data.Dataset:
        return _read_window(shelf, chunk_records(order, *known, chunk), options, marks=marks)

    if not (order.shuffled and order.has_windows):
        read = interleaved(parts, few, options.reads_at_once, options)
        return (
            read
            if order.window_records <= size
            else read.flat_map(lambda numbers, records: _cut(numbers, records, size))
        )
    windows = parts.flat_map(window)
    # A window is large: one is made ahead, and no more.
    windows = windows if options.reads_at_once == 1 else windows.prefetch(1)
    return windows.flat_map(lambda known, records: _mixed(known[0], known[1], records, size))


def read_singles(shelf: Shelf, order: Order, parts: tf.data.Dataset, options: ReadOptions) -> tf.data.Dataset:
    """The serialized records of the chunks that order.chunks numbers, each read by itself; any failure is an error."""

    # Few records are in flight at a time: memory that was just freed is taken again, where fresh pages cost as much
    # as reading.
    def places(known: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _singles(shelf, chunk_records(order, *known, chunk))

    return interleaved(parts.map(places).unbatch(), _read_stretch, options.reads_at_once, options)


def read_shards_from(shelf: Shelf, first: tf.Tensor | int) -> tf.data.Dataset:
    """The serialized records as they are stored, from one of them on; any failure is an error."""
    table = shelf.table
    begins = tf.maximum(table["starts"][:-1], tf.cast(first, tf.int64))
    counts = tf.maximum(table["starts"][1:] - begins, 0)
    shards = tf.range(len(shelf.paths))
    places = _located(shelf, shards, tf.minimum(begins, table["starts"][-1] - 1), table["starts"][1:] - 1)
    return tf.data.Dataset.from_tensor_slices((*places, counts)).flat_map(_read_stretch)


def read_numbered(
    shelf: Shelf, order: Order, epoch: tf.Tensor, batches: tf.data.Dataset, options: ReadOptions
) -> tf.data.Dataset:
    """The records of some batches of an epoch, given by their numbers: (numbers [B], serialized [B]) of each."""

    def read(batch: tf.Tensor) -> tf.data.Dataset:
        return _read_few(shelf, order, batch_records(order, epoch, batch), marks=True)

    return interleaved(batches, read, options.reads_at_once, options)


def _read_few(shelf: Shelf, order: Order, numbers: tf.Tensor, *, marks: bool) -> tf.data.Dataset:
    """One element: the numbers, and their records; single ones, or neighbours where the order is that of storage."""
    stretches = tf.data.Dataset.from_tensor_slices(
        _singles(shelf, numbers) if order.shuffled else _stretches(shelf, numbers)
    )
    whole = stretches.flat_map(_read_stretch).batch(tf.size(numbers, out_type=tf.int64), drop_remainder=True)
    whole = _with_marks(shelf, numbers, whole) if marks else whole
    return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(numbers), whole)


def _read_window(shelf: Shelf, numbers: tf.Tensor, options: ReadOptions, *, marks: bool) -> tf.data.Dataset:
    """One element: the numbers and where in storage order each one's record is; the records in storage order."""
    place = tf.argsort(numbers)
    wanted, count = tf.gather(numbers, place), tf.size(numbers, out_type=tf.int64)
    stretches = tf.data.Dataset.from_tensor_slices(_stretches(shelf, wanted))
    if "://" in shelf.paths[0]:
        # Seeks in a store are dear: several at once, which costs 10 % more CPU.
        parts = interleaved(stretches, _read_stretch_batch, options.reads_at_once, options)
        whole = parts.rebatch(count, drop_remainder=True)
    else:
        whole = stretches.flat_map(_read_stretch).batch(count, drop_remainder=True)
    known = tf.data.Dataset.from_tensors((numbers, tf.math.invert_permutation(place)))
    return tf.data.Dataset.zip(known, _with_marks(shelf, wanted, whole) if marks else whole)


def _mixed(numbers: tf.Tensor, back: tf.Tensor, records: tf.Tensor, size: int) -> tf.data.Dataset:
    """A window in pieces: each record is copied once, to where it belongs."""
    starts = tf.data.Dataset.range(0, tf.size(numbers, out_type=tf.int64), size)
    return starts.map(lambda at: (numbers[at : at + size], tf.gather(records, back[at : at + size])))


def _cut(numbers: tf.Tensor, records: tf.Tensor, size: int) -> tf.data.Dataset:
    """A chunk in pieces."""
    starts = tf.data.Dataset.range(0, tf.size(numbers, out_type=tf.int64), size)
    return starts.map(lambda at: (numbers[at : at + size], records[at : at + size]))


def _with_marks(shelf: Shelf, numbers: tf.Tensor, whole: tf.data.Dataset) -> tf.data.Dataset:
    """One element: the records of a chunk; read again one by one if that fails, "" for those that can't be read."""
    singles = tf.data.Dataset.from_tensor_slices(_singles(shelf, numbers)).flat_map(_read_or_mark)
    piecewise = singles.batch(tf.size(numbers, out_type=tf.int64), drop_remainder=True)
    return _attempted(whole, 1).concatenate(piecewise).take(1)


def _stretches(shelf: Shelf, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Every run of neighbours in one shard, of sorted numbers: the file, the byte offset, the bytes, the records."""
    # Number + shard - place is the same all along such a run, and larger in the next one.
    shard = _shards_of(shelf, numbers)
    run = numbers + shard - tf.range(tf.size(numbers, out_type=tf.int64))
    counts = tf.unique_with_counts(run, out_idx=tf.int64).count
    begins = tf.cumsum(counts, exclusive=True)
    first = tf.gather(numbers, begins)
    return *_located(shelf, tf.gather(shard, begins), first, first + counts - 1), counts


def _singles(shelf: Shelf, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same of single records."""
    return *_located(shelf, _shards_of(shelf, numbers), numbers, numbers), tf.ones_like(numbers)


def _shards_of(shelf: Shelf, numbers: tf.Tensor) -> tf.Tensor:
    """The shard of each record."""
    return upper_bound(shelf.table["rows"], numbers) - 1


def _located(
    shelf: Shelf, shard: tf.Tensor, first: tf.Tensor, last: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The file, the byte offset and the bytes of stretches of records."""
    table = shelf.table
    begin = tf.gather(table["begins"], first)
    return tf.gather(table["paths"], shard), begin, tf.gather(table["ends"], last) - begin


def _read_stretch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    # A buffer of the stretch's own length reads no byte too many.
    return read_tfrecords_at(file, begin, tf.minimum(num_bytes, _BUFFER_BYTES)).take(count)


def _attempted(elements: tf.data.Dataset, attempts: tf.Tensor | int) -> tf.data.Dataset:
    """The elements without those that fail; asked for no more often than that."""
    # ignore_errors alone would ask for ever: a file that can't be opened fails again at every call.
    return tf.data.Dataset.zip(tf.data.Dataset.range(attempts), elements).ignore_errors().map(lambda _, one: one)


def _read_stretch_batch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    return _read_stretch(file, begin, num_bytes, count).batch(count)


def _read_or_mark(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    record = _attempted(_read_stretch(file, begin, num_bytes, count), 1)
    return record.concatenate(tf.data.Dataset.from_tensors(_UNREADABLE)).take(1)


# ---- whole shards


def read_shards(shelf: Shelf, order: Order, epoch: tf.Tensor, options: ReadOptions) -> tf.data.Dataset:
    """The (number, serialized) of every record, shards in a permutation of the epoch where the order is shuffled.

    For compressed shards, which have no offsets.
    """
    numbers = tf.range(len(shelf.paths), dtype=tf.int64)
    if order.shuffled:
        numbers = permuted(order.seed, BUFFER_STREAM, 2 * epoch, numbers, len(shelf.paths))
    compressions = [shard.compression or "" for manifest, split in shelf.sources for shard in _shards(manifest, split)]
    starts = tf.gather(shelf.starts, numbers)
    shards = tf.data.Dataset.from_tensor_slices(
        (
            tf.gather(shelf.paths, numbers),
            tf.gather(compressions, numbers),
            starts,
            tf.gather(shelf.starts, numbers + 1),
        )
    )
    return interleaved(shards, _read_shard, options.reads_at_once, options)


def _read_shard(file: tf.Tensor, compression: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
    """(number, serialized) of each record of a shard."""
    sound = _attempted(_read_file(file, compression), end - start)
    lost = tf.data.Dataset.from_tensors(_UNREADABLE).repeat(end - start)
    return tf.data.Dataset.zip(tf.data.Dataset.range(start, end), sound.concatenate(lost))


def read_in_order(manifest: Manifest, split: str, options: ReadOptions) -> tf.data.Dataset:
    """Serialized records shard by shard, or in turn from several shards at a time."""
    shards = _shards(manifest, split)
    files = [str(manifest.shard_path(shard)) for shard in shards]
    compressions = [shard.compression or "" for shard in shards]
    places = tf.data.Dataset.from_tensor_slices((files, compressions))
    return interleaved(places, _read_file, options.reads_at_once, options)


def _read_file(file: tf.Tensor, compression: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, compression_type=compression, buffer_size=_BUFFER_BYTES)


def _shards(manifest: Manifest, split: str) -> list[Shard]:
    return [shard for shard in manifest.split(split).shards if shard.num_records]


# ---- shared by all stages


def interleaved(
    places: tf.data.Dataset, read: Callable[..., tf.data.Dataset], at_once: int, options: ReadOptions
) -> tf.data.Dataset:
    """The datasets that `read` makes of the places, `at_once` of them in turn and ahead; -1 lets tf.data choose."""
    if at_once == 1:
        return places.flat_map(read)
    return places.interleave(
        read,
        cycle_length=at_once,
        block_length=1,
        num_parallel_calls=at_once,
        deterministic=options.deterministic,
    )


def mapped(dataset: tf.data.Dataset, function: Callable[..., Any], options: ReadOptions) -> tf.data.Dataset:
    """The dataset with a function applied, as many elements at once as the options say."""
    if options.parallel_calls == 1:
        return dataset.map(function)
    return dataset.map(function, num_parallel_calls=options.parallel_calls, deterministic=options.deterministic)


def shuffled_by_buffer(
    records: tf.data.Dataset, order: Order, epoch: tf.Tensor, buffer_records: int
) -> tf.data.Dataset:
    """Elements mixed by a buffer: a pure function of the elements, the seed and the epoch."""
    draw = stream_bits(order.seed, BUFFER_STREAM, 2 * epoch + 1, [2], tf.int64)[1]
    with fixed_graph_seed():
        return records.shuffle(buffer_records, seed=draw, reshuffle_each_iteration=False)
