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

import numpy as np
import tensorflow as tf

from tfpipe.manifest import Manifest, Shard
from tfpipe.order import BUFFER_STREAM, Order, batch_records, chunks, permuted, stream_bits
from tfpipe.readoptions import ReadOptions

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
        columns = {"paths": list(self.paths), "starts": self.starts, "begins": self.begins, "ends": self.ends}
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


def read_chunks(shelf: Shelf, order: Order, epoch: tf.Tensor, size: int, options: ReadOptions) -> tf.data.Dataset:
    """The records of an epoch in its order: (numbers int64 [n], serialized string [n]), n at most `size`."""
    numbers = chunks(order, epoch)
    if not (order.shuffled and order.has_windows):
        read = interleaved(numbers, lambda few: _read_few(shelf, order, few), options.parallel_reads, options)
        return (
            read
            if order.window_records <= size
            else read.flat_map(lambda numbers, records: _cut(numbers, records, size))
        )
    windows = numbers.flat_map(lambda many: _read_window(shelf, many, options))
    # A window is large: one is made ahead, and no more.
    windows = windows if options.parallel_reads == 1 else windows.prefetch(1)
    return windows.flat_map(lambda known, records: _mixed(known[0], known[1], records, size))


def read_numbered(
    shelf: Shelf, order: Order, epoch: tf.Tensor, batches: tf.data.Dataset, options: ReadOptions
) -> tf.data.Dataset:
    """The records of some batches of an epoch, given by their numbers: (numbers [B], serialized [B]) of each."""

    def read(batch: tf.Tensor) -> tf.data.Dataset:
        return _read_few(shelf, order, batch_records(order, epoch, batch))

    return interleaved(batches, read, options.parallel_reads, options)


def _read_few(shelf: Shelf, order: Order, numbers: tf.Tensor) -> tf.data.Dataset:
    """One element: the numbers, and their records; single ones, or neighbours where the order is that of storage."""
    first, length = (numbers, tf.ones_like(numbers)) if order.shuffled else _stretches(shelf, numbers)
    stretches = tf.data.Dataset.from_tensor_slices((*_located(shelf, first, first + length - 1), length))
    whole = stretches.flat_map(_read_stretch).batch(tf.size(numbers, out_type=tf.int64), drop_remainder=True)
    return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(numbers), _with_marks(shelf, numbers, whole))


def _read_window(shelf: Shelf, numbers: tf.Tensor, options: ReadOptions) -> tf.data.Dataset:
    """One element: the numbers and where in storage order each one's record is; the records in storage order."""
    place = tf.argsort(numbers)
    wanted, count = tf.gather(numbers, place), tf.size(numbers, out_type=tf.int64)
    first, length = _stretches(shelf, wanted)
    stretches = tf.data.Dataset.from_tensor_slices((*_located(shelf, first, first + length - 1), length))
    if "://" in shelf.paths[0]:
        # Seeks in a store are dear: several at once, which costs 10 % more CPU.
        parts = interleaved(stretches, _read_stretch_batch, options.parallel_reads, options)
        whole = parts.rebatch(count, drop_remainder=True)
    else:
        whole = stretches.flat_map(_read_stretch).batch(count, drop_remainder=True)
    known = tf.data.Dataset.from_tensors((numbers, tf.math.invert_permutation(place)))
    return tf.data.Dataset.zip(known, _with_marks(shelf, wanted, whole))


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
    singles = tf.data.Dataset.from_tensor_slices(_located(shelf, numbers, numbers)).flat_map(_read_or_mark)
    piecewise = singles.batch(tf.size(numbers, out_type=tf.int64), drop_remainder=True)
    return _attempted(whole, 1).concatenate(piecewise).take(1)


def _stretches(shelf: Shelf, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first number and the length of every run of neighbours in one shard; the numbers are sorted."""
    shard = tf.searchsorted(shelf.table["starts"], numbers, side="right")
    breaks = (numbers[1:] != numbers[:-1] + 1) | (shard[1:] != shard[:-1])
    begins = tf.concat([[0], tf.where(breaks)[:, 0] + 1], 0)
    ends = tf.concat([begins[1:], [tf.size(numbers, out_type=tf.int64)]], 0)
    return tf.gather(numbers, begins), ends - begins


def _located(shelf: Shelf, first: tf.Tensor, last: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The file, the byte offset and the bytes of stretches of records."""
    table = shelf.table
    shard = tf.searchsorted(table["starts"], first, side="right") - 1
    begin = tf.gather(table["begins"], first)
    return tf.gather(table["paths"], shard), begin, tf.gather(table["ends"], last) - begin


def _read_stretch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    # A buffer of the stretch's own length reads no byte too many.
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=file[None],
        compression_type="",
        buffer_size=tf.minimum(num_bytes, _BUFFER_BYTES),
        byte_offsets=begin[None],
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(count)


def _attempted(elements: tf.data.Dataset, attempts: tf.Tensor | int) -> tf.data.Dataset:
    """The elements without those that fail; asked for no more often than that."""
    # ignore_errors alone would ask for ever: a file that can't be opened fails again at every call.
    return tf.data.Dataset.zip(tf.data.Dataset.range(attempts), elements).ignore_errors().map(lambda _, one: one)


def _read_stretch_batch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    return _read_stretch(file, begin, num_bytes, count).batch(count)


def _read_or_mark(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor) -> tf.data.Dataset:
    record = _attempted(_read_stretch(file, begin, num_bytes, tf.constant(1, tf.int64)), 1)
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
    return interleaved(shards, _read_shard, options.parallel_reads, options)


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
    return interleaved(places, _read_file, options.parallel_reads, options)


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


def shuffled_by_buffer(
    records: tf.data.Dataset, order: Order, epoch: tf.Tensor, buffer_records: int
) -> tf.data.Dataset:
    """Elements mixed by a buffer: a pure function of the elements, the seed and the epoch."""
    draw = stream_bits(order.seed, BUFFER_STREAM, 2 * epoch + 1, [2], tf.int64)[1]
    # shuffle joins the seed with the global one, and can't compare a tensor where that is 0: so neither has a part.
    graph = tf.compat.v1.get_default_graph()
    of_others, graph.seed = graph.seed, 1
    try:
        return records.shuffle(buffer_records, seed=draw, reshuffle_each_iteration=False)
    finally:
        graph.seed = of_others
