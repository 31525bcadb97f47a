"""Serialized records in the order of an epoch, many in one element, each record's CRC checked.

    windows    consecutive positions: their records are read in the order of the files, and brought into their own
    singles    batches of records anywhere
    shards     whole files, for compressed ones, which have no offsets

An element has the records of a chunk: consecutive ones are stretches of shards, each read at once, through its offset.
A record that can't be read is "" in the result, and no other record is affected: the stretches of a chunk are tried
first, and only a chunk in which one failed is read again, record by record. Where damage is not to be marked, such a
chunk is an error, once. Of compressed shards all records after damage are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import tensorflow as tf

from tfpipe.format.manifest import Manifest, Shard
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.order import BUFFER_STREAM, chunks, keyed_bits, permute_positions, records_at
from tfpipe.reader.plan import ReadPlan
from tfpipe.reader.positions import Order
from tfpipe.tf_internals import (
    first_of_each,
    fixed_graph_seed,
    flat_map_on_one_device,
    interleave_on_one_device,
    map_on_one_device,
    read_tfrecords_at,
    upper_bound,
)

# Sequential reads: larger buffers are slower (64 MB) or no faster.
_BUFFER_BYTES = 256 * 1024
_UNREADABLE = ""
# Files that one function opens for single records; they stay open until all of them are read.
_MOST_OPENED = 32


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


def read_windows(
    plan: ReadPlan, table: RecordTable, order: Order, epoch: tf.Tensor, first: tf.Tensor, size: int, *, marks: bool
) -> tf.data.Dataset:
    """The records of an epoch from a batch on, by chunks of consecutive positions; see READERS."""

    def read(begin: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
        return _read_window(plan, table, order, epoch, tf.range(begin, end), marks=marks)

    # As many windows are begun ahead as are read at once. TensorFlow begins twice as many, and an epoch's first batch
    # waits for the processor meanwhile: 126 to 144 ms of CPU instead of 102. Rates are 0 to 7 % less.
    windows = interleave_on_one_device(
        chunks(order, first), read, plan.reads_at_once, deterministic=plan.keeps_order, ahead=plan.reads_at_once
    )
    windows = windows.prefetch(1) if plan.reads_at_once == 1 and plan.reads_ahead else windows
    joined = order.window_records % size > 0
    # Slices copy no record, but are not to be taken apart again, by rebatch or on the careful path; see _cut.
    slices = not (order.shuffled or joined or marks)
    cut = flat_map_on_one_device(windows, lambda rows, records: _cut(rows, records, size, slices=slices))
    return cut.rebatch(size) if joined else cut


def read_singles(
    plan: ReadPlan, table: RecordTable, order: Order, epoch: tf.Tensor, first: tf.Tensor, size: int, *, marks: bool
) -> tf.data.Dataset:
    """The records of an epoch from a batch on, each read individually; see READERS."""
    parts = flat_map_on_one_device(
        chunks(replace(order, window_records=size), first), lambda begin, end: _parts_of(begin, end, _MOST_OPENED)
    )
    records = _read_parts(plan, table, order, epoch, parts, min(size, _MOST_OPENED), marks=marks)
    return records if size <= _MOST_OPENED else records.rebatch(size)


def read_batches(
    plan: ReadPlan, table: RecordTable, order: Order, epoch: tf.Tensor, batches: tf.data.Dataset
) -> tf.data.Dataset:
    """The records of some batches of this host, given by their numbers, in parts of a batch; see READERS."""
    most = min(plan.piece_records, _MOST_OPENED)

    def cut(batch: tf.Tensor) -> tf.data.Dataset:
        pieces = _parts_of(batch * order.batch_size, (batch + 1) * order.batch_size, plan.piece_records)
        return flat_map_on_one_device(pieces, lambda begin, end: _parts_of(begin, end, most))

    return _read_parts(plan, table, order, epoch, flat_map_on_one_device(batches, cut), most, marks=True)


def _parts_of(begin: tf.Tensor, end: tf.Tensor, size: int) -> tf.data.Dataset:
    """(begin, end) of the parts of a range of positions, `size` long but for the last one."""
    begins = tf.data.Dataset.range(begin, end, size)
    return map_on_one_device(begins, lambda at: (at, tf.minimum(at + size, end)))


def _read_window(
    plan: ReadPlan, table: RecordTable, order: Order, epoch: tf.Tensor, positions: tf.Tensor, *, marks: bool
) -> tf.data.Dataset:
    """One element: (positions, numbers, ranks), and the records in file order; ranks [n] are the places in it."""
    numbers = wanted = records_at(order, epoch, positions)
    ranks = tf.range(tf.size(positions))
    if order.shuffled:
        by_file = tf.argsort(numbers)
        wanted, ranks = tf.gather(numbers, by_file), tf.math.invert_permutation(by_file)
    stretches = tf.data.Dataset.from_tensor_slices(_stretches(table, wanted))
    if plan.seeks_at_once == 1:
        records = flat_map_on_one_device(stretches, _read_stretch)
    else:
        # Seeks in a store are slow: several at once, which costs 10 % more CPU.
        records = interleave_on_one_device(
            stretches, lambda *stretch: _read_stretch(*stretch).batch(stretch[-1]), plan.seeks_at_once
        ).unbatch()
    return _read_at_once(table, (positions, numbers, ranks), records, wanted, marks=marks)


def _read_parts(
    plan: ReadPlan,
    table: RecordTable,
    order: Order,
    epoch: tf.Tensor,
    parts: tf.data.Dataset,
    most: int,
    *,
    marks: bool,
) -> tf.data.Dataset:
    """An element for each part, a range of at most `most` positions: (positions, numbers), and the records."""

    def read(begin: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
        positions = tf.range(begin, end)
        numbers = records_at(order, epoch, positions)
        # Files are opened one by one in one function: a call of a function for each takes as long as reading them.
        opened = tf.gather(numbers, tf.minimum(tf.range(most, dtype=tf.int64), end - begin - 1))
        places = [tf.unstack(column, num=most) for column in _singles(table, opened)[:3]]
        files = [_open_stretch(*place) for place in zip(*places, strict=True)]
        return _read_at_once(table, (positions, numbers), first_of_each(files, end - begin), numbers, marks=marks)

    return interleave_on_one_device(parts, read, plan.reads_at_once, deterministic=plan.keeps_order)


def _read_at_once(
    table: RecordTable, rows: tuple[tf.Tensor, ...], records: tf.data.Dataset, numbers: tf.Tensor, *, marks: bool
) -> tf.data.Dataset:
    """One element: the rows, and all records [n]; where one can't be read, an error, or "" in its place."""
    count = tf.size(numbers, out_type=tf.int64)
    # The one row also ends the tries: a file that can't be opened fails again at every call.
    row = tf.data.Dataset.from_tensors(rows)
    whole = tf.data.Dataset.zip(row, records.batch(count, drop_remainder=True))
    if not marks:
        return whole
    singles = flat_map_on_one_device(tf.data.Dataset.from_tensor_slices(_singles(table, numbers)), _read_or_mark)
    one_by_one = tf.data.Dataset.zip(row, singles.batch(count, drop_remainder=True))
    return whole.ignore_errors().concatenate(one_by_one).take(1)


def _cut(
    rows: tuple[tf.Tensor, tf.Tensor, tf.Tensor], records: tf.Tensor, size: int, *, slices: bool = False
) -> tf.data.Dataset:
    """A window, cut at the positions that are multiples of `size`; each record is copied once, from its rank.

    What a window begins with completes the piece that the one before it left, so that `rebatch` joins whole elements.
    Of slices of a tensor it copies every record, and TensorFlow 2.21 logs an error for each: hence gather, too.

    Args:
      rows: positions, numbers and ranks of its records.
      records: in file order.
      size: of a piece.
      slices: ranks are those of the positions, and pieces stay whole: they are slices, which copy nothing.
    """
    positions, numbers, ranks = rows
    count = tf.size(numbers, out_type=tf.int64)
    head = -positions[0] % size

    def piece(at: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        begin, end = tf.maximum(at, 0), tf.minimum(at + size, count)
        part = tf.range(begin, end)
        found = records[begin:end] if slices else tf.gather(records, tf.gather(ranks, part))
        return (positions[0] + part, tf.gather(numbers, part)), found

    begins = tf.data.Dataset.range(tf.where(head > 0, head - size, 0), count, size)
    return map_on_one_device(begins, piece)


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


def _open_stretch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor) -> tf.data.Dataset:
    # A buffer as long as the stretch reads no byte beyond it.
    return read_tfrecords_at(file, begin, tf.minimum(num_bytes, _BUFFER_BYTES))


def _read_stretch(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    return _open_stretch(file, begin, num_bytes).take(count)


def _try_each(elements: tf.data.Dataset, attempts: tf.Tensor | int) -> tf.data.Dataset:
    """The elements without those that fail, in at most `attempts` tries."""
    # ignore_errors alone would try forever: a file that can't be opened fails again at every call.
    return tf.data.Dataset.zip(tf.data.Dataset.range(attempts), elements).ignore_errors().map(lambda _, one: one)


def _read_or_mark(file: tf.Tensor, begin: tf.Tensor, num_bytes: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
    record = _try_each(_read_stretch(file, begin, num_bytes, count), 1)
    return record.concatenate(tf.data.Dataset.from_tensors(_UNREADABLE)).take(1)


# ---- whole shards


def read_shards(
    plan: ReadPlan, table: RecordTable, order: Order, epoch: tf.Tensor, first: tf.Tensor, size: int, *, marks: bool
) -> tf.data.Dataset:
    """All records of an epoch, shard by shard, in another order of the shards each time where the order is shuffled.

    See READERS; positions are those in this order, and it begins with the first batch whatever `first` is.
    """
    del first, marks
    numbers = tf.range(len(table.paths), dtype=tf.int64)
    if order.shuffled:
        numbers = permute_positions(order.seed, BUFFER_STREAM, 2 * epoch, numbers, len(table.paths))
    compressions = [shard.compression or "" for manifest, split in table.sources for shard in _shards(manifest, split)]
    shards = tf.data.Dataset.from_tensor_slices(
        (
            tf.gather(table.paths, numbers),
            tf.gather(compressions, numbers),
            tf.gather(table.starts, numbers),
            tf.gather(table.starts, numbers + 1),
        )
    )
    read = interleave_on_one_device(shards, _read_shard, plan.reads_at_once, deterministic=plan.keeps_order)
    counted = tf.data.Dataset.zip(tf.data.Dataset.counter(), read)
    return map_on_one_device(counted, lambda at, one: ((at, one[0]), one[1])).batch(size)


# From (plan, table, order, epoch, first batch, the most records of an element) to ((positions int64 [n], numbers int64
# [n]), serialized string [n]), in the order of the positions, from that batch of this host on. marks: "" for a record
# that can't be read; otherwise its element is an error, once.
READERS = {"windows": read_windows, "singles": read_singles, "shards": read_shards}


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
    return interleave_reads(shard_files, _read_file, options.reads_at_once)


def _read_file(file: tf.Tensor, compression: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, compression_type=compression, buffer_size=_BUFFER_BYTES)


def _shards(manifest: Manifest, split: str) -> list[Shard]:
    return [shard for shard in manifest.split(split).shards if shard.num_records]


# ---- shared by all stages


def interleave_reads(
    parts: tf.data.Dataset, read: Callable[..., tf.data.Dataset], at_once: int, *, deterministic: bool = True
) -> tf.data.Dataset:
    """The elements of each read(part), round-robin from `at_once` parts in parallel; -1 lets tf.data choose."""
    if at_once == 1:
        return parts.flat_map(read)
    return parts.interleave(
        read, cycle_length=at_once, block_length=1, num_parallel_calls=at_once, deterministic=deterministic
    )


def shuffle_by_buffer(records: tf.data.Dataset, order: Order, epoch: tf.Tensor, buffer_records: int) -> tf.data.Dataset:
    """Elements shuffled through a buffer: a pure function of the elements, the seed and the epoch."""
    draw = keyed_bits(order.seed, BUFFER_STREAM, 2 * epoch + 1, [2], tf.int64)[1]
    with fixed_graph_seed():
        return records.shuffle(buffer_records, seed=draw, reshuffle_each_iteration=False)
