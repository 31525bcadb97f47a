"""Damaged records: an error names them, or they are left out, counted and reported."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfpipe.errors import DataError
from tfpipe.format.example import decode_record
from tfpipe.format.framing import FOOTER_BYTES, HEADER_BYTES, valid_payload
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import Schema
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.records import RecordTable, open_records, read_in_order
from tfpipe.tf_internals import filter_on_one_device

Features = dict[str, Any]

_LOG = logging.getLogger("tfpipe")
_MOST_NAMED = 10


def explain(table: RecordTable, number: int, *, decode: Callable[[tf.Tensor], Any] | None = None) -> str:
    """A sentence on a record that can't be read or decoded: its file and index, its key if known, the reason.

    Args:
      table: where the records are.
      number: the record's number in the table.
      decode: tried on a record whose checksums are right, to say what is wrong with it.
    """
    path, index = table.locate(number)
    where = f"record {index} of {path}"
    if table.begins is None or table.ends is None:
        return f"{where} cannot be read or decoded; the shard is compressed, and its rest after damage is lost"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(int(table.begins[number]))
            frame = file.read(int(table.ends[number] - table.begins[number]))
    except tf.errors.OpError as error:
        return f"{where} cannot be read: {error.message}"
    payload = frame[HEADER_BYTES:-FOOTER_BYTES]
    where = f"{where} (key {_key(payload, table)}, byte {table.begins[number]})"
    if valid_payload(frame) is None:
        return f"{where} is damaged: its checksum is wrong"
    return f"{where} cannot be decoded{_reason(payload, decode)}"


@contextlib.contextmanager
def naming_damage(manifest: Manifest, split: str) -> Iterator[None]:
    """Turns an error of TensorFlow inside the block into a DataError that names the record behind it.

    Raises:
      DataError: an image of the split can't be read or decoded.
      OpError: the images are in order; the error has another reason.
    """
    try:
        yield
    except tf.errors.OpError as error:
        sentence = _first_damage(manifest, split)
        if sentence is None:
            raise
        ways = "tfpipe repair saves the other records of a damaged shard, ReadOptions(on_error='skip') reads on"
        raise DataError(f"{sentence}; {ways}.") from error


def _first_damage(manifest: Manifest, split: str) -> str | None:
    """The sentence on the first record of a split whose image can't be read or decoded; None if all can."""
    schema = manifest.schema
    names = ("embedding",) if schema.payload == "embedding" else ("image", "shape", "orientation")
    parts = Schema(schema.payload, tuple(feature for feature in schema.features if feature.name in names))

    def decode(serialized: tf.Tensor) -> tf.Tensor:
        # A value of it: TensorFlow decodes nothing of which only the shape is wanted.
        return tf.reshape(decode_record(parts, serialized, exact=True)[parts.names[0]], [-1])[:1]

    in_order = read_in_order(manifest, split, ReadOptions(parallel_reads=1))
    number = 0
    try:
        for _ in in_order.map(decode, num_parallel_calls=tf.data.AUTOTUNE):
            number += 1
    except tf.errors.OpError:
        return explain(open_records([(manifest, split)]), number, decode=decode)
    return None


def _key(payload: bytes, table: RecordTable) -> str:
    # All sources of a table have one schema.
    schema = table.sources[0][0].schema
    try:
        return parse_example(payload)[schema["key"].stored_name][0].decode()
    except (NotAnExample, KeyError, IndexError, UnicodeDecodeError, AttributeError):
        return "unknown"


def _reason(payload: bytes, decode: Callable[[tf.Tensor], Any] | None) -> str:
    try:
        if decode is not None:
            decode(tf.constant(payload))
    except (tf.errors.OpError, ValueError) as error:
        text = error.message if isinstance(error, tf.errors.OpError) else str(error)
        return ": " + text.split(" [Op:")[0].removeprefix("{{function_node").split("}} ")[-1].splitlines()[0]
    return ""


@dataclass
class Skipped:
    """Collects the records that are left out, until the next report.

    Attributes:
      table: where the records are.
      decode: tried on a record whose checksums are right, to say what is wrong with it.
      numbers: those that were left out.
      lock: of numbers.
      found: whether there are any, for the graph: without damage no Python runs in it, which a thread that works ahead
        could not enter while the main thread drops the iterator and waits for that thread.
    """

    table: RecordTable
    decode: Callable[[tf.Tensor], Any]
    numbers: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    found: tf.Variable = field(default_factory=lambda: tf.Variable(False, trainable=False))

    def add(self, number: int) -> bool:
        """Notes one record; returns True, since a graph needs a value."""
        with self.lock:
            self.numbers.append(int(number))
            self.found.assign(True)
        return True

    def report(self) -> bool:
        """Logs a warning with the records that were left out, if there are any; returns False, for the graph."""
        with self.lock:
            numbers, self.numbers = sorted(set(self.numbers)), []
            self.found.assign(False)
        if numbers:
            named = "; ".join(explain(self.table, number, decode=self.decode) for number in numbers[:_MOST_NAMED])
            more = f"; and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
            total = int(self.table.starts[-1])
            _LOG.warning("%d of %d records were skipped in this epoch: %s%s.", len(numbers), total, named, more)
        return False


def without_lost(batches: tf.data.Dataset, *, keep_size: bool) -> tf.data.Dataset:
    """Batches without the records that were lost.

    Args:
      batches: (valid bool [B], features), as decode_pieces gives them, batched.
      keep_size: replace a lost record by the valid one before it in the batch, or by the first valid one, so that
        shapes stay fixed and every other record keeps its index, whoever reads it; otherwise leave it out.

    Returns:
      (whether the batch has any valid record, features).
    """

    def repair(valid: tf.Tensor, features: Features) -> Features:
        indices = tf.range(tf.size(valid, out_type=tf.int64))
        first = tf.argmax(tf.cast(valid, tf.int32))
        before = tf.where(valid[None, :] & (indices[None, :] <= indices[:, None]), indices[None, :], first)
        chosen = tf.reduce_max(before, 1) if keep_size else tf.where(valid)[:, 0]
        if keep_size:
            chosen.set_shape(valid.shape)
        return tf.nest.map_structure(lambda values: tf.gather(values, chosen), features)

    def repair_if_needed(valid: tf.Tensor, features: Features) -> tuple[tf.Tensor, Features]:
        kept = tf.cond(tf.reduce_all(valid), lambda: features, lambda: repair(valid, features))
        return tf.reduce_any(valid), kept

    return batches.map(repair_if_needed)


def with_numbers(numbers: tf.data.Dataset, batches: tf.data.Dataset, skipped: Skipped | None) -> tf.data.Dataset:
    """(number, features) of each batch; where records may be skipped, a batch without a valid one is left out."""
    pairs = tf.data.Dataset.zip(numbers, batches)
    if skipped is None:
        return pairs
    return pairs.filter(lambda _, batch: batch[0]).map(lambda number, batch: (number, batch[1]))


def report_skipped(batches: tf.data.Dataset, skipped: Skipped) -> tf.data.Dataset:
    """The batches; at their end, the records that were left out are reported."""
    report = lambda: tf.numpy_function(skipped.report, [], tf.bool)  # noqa: E731
    end = filter_on_one_device(tf.data.Dataset.range(1), lambda _: tf.cond(skipped.found, report, lambda: False))
    # No batches, but of the same structure.
    return batches.concatenate(end.flat_map(lambda _: batches.take(0)))
