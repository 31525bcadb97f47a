"""Records that can't be read or decoded: the error names them, or they are left out, counted and reported.

A piece of records is decoded as a whole first; only where that fails, record by record. So nothing is paid for sound
data, and damage costs no more than the one record.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfpipe.format.framing import FOOTER_BYTES, HEADER_BYTES, valid_payload
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.reading import Shelf, interleaved
from tfpipe.readoptions import ReadOptions

Features = dict[str, Any]

_LOG = logging.getLogger("tfpipe")
# A TFRecord's frame: 8 bytes of length and 4 of their CRC before the payload, 4 of its CRC behind.
_MOST_NAMED = 10


@dataclass(frozen=True)
class Decoder:
    """How serialized records become features.

    Attributes:
      single: a scalar string, and the number of its draw where it is drawn, to the features of one record.
      batch: [n] string to the features of n records; None decodes them one by one.
      ragged: whether a feature's length differs from record to record.
    """

    single: Callable[..., Features]
    batch: Callable[[tf.Tensor], Features] | None = None
    ragged: bool = False


# ---- the words


def explain(shelf: Shelf, number: int, *, decode: Callable[[tf.Tensor], Any] | None = None) -> str:
    """Says where a record lies, its key as far as it is known, and why it can't be had.

    Args:
      shelf: the shards.
      number: the record's number in the shelf.
      decode: tried on a record whose checksums hold, to say what is wrong with it.
    """
    path, index = shelf.place(number)
    where = f"record {index} of {path}"
    if shelf.begins is None or shelf.ends is None:
        return f"{where} cannot be read or decoded; the shard is compressed, and what follows damage in it is lost"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(int(shelf.begins[number]))
            frame = file.read(int(shelf.ends[number] - shelf.begins[number]))
    except tf.errors.OpError as error:
        return f"{where} cannot be read: {error.message}"
    payload = frame[HEADER_BYTES:-FOOTER_BYTES]
    where = f"{where} (key {_key(payload)}, byte {shelf.begins[number]})"
    if valid_payload(frame) is None:
        return f"{where} is damaged: its checksum does not hold"
    return f"{where} cannot be decoded{_reason(payload, decode)}"


def _key(payload: bytes) -> str:
    try:
        return parse_example(payload)["key"][0].decode()
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
    """The records that were left out since the last report."""

    shelf: Shelf
    decode: Callable[[tf.Tensor], Any]
    numbers: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, number: int) -> bool:
        """Notes one record; True, since a graph wants a value."""
        with self.lock:
            self.numbers.append(int(number))
        return True

    def report(self) -> bool:
        """Logs how many records were left out and which, as a warning; nothing where there are none. False."""
        with self.lock:
            numbers, self.numbers = sorted(set(self.numbers)), []
        if numbers:
            named = "; ".join(explain(self.shelf, number, decode=self.decode) for number in numbers[:_MOST_NAMED])
            more = f"; and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
            total = int(self.shelf.starts[-1])
            _LOG.warning("%d of %d records were skipped in this epoch: %s%s.", len(numbers), total, named, more)
        return False


# ---- the stage


def decoded(
    pieces: tf.data.Dataset, shelf: Shelf, decoder: Decoder, skipped: Skipped | None, options: ReadOptions
) -> tf.data.Dataset:
    """Pieces of serialized records to pieces of features.

    Args:
      pieces: (numbers int64 [n], serialized string [n]), and draws int64 [n] where the decoder takes them; "" is a
        record that could not be read.
      shelf: the shards they came from.
      decoder: how to decode them.
      skipped: notes what is left out; None raises an error that names it.
      options: how many pieces are decoded at once.

    Returns:
      features [n, ...]; where records may be left out, (sound bool [n], features), and what is not sound holds zeros.
    """
    lost = tf.data.Dataset.from_tensors((False, _zeros(decoder)))

    def one(number: tf.Tensor, *record: tf.Tensor) -> tf.data.Dataset:
        sound = tf.data.Dataset.from_tensors(record).map(lambda *r: (True, _single(decoder, *r))).ignore_errors()
        marked = sound.concatenate(lost).take(1).map(lambda sound, features: (noted(number, sound), features))
        return marked if skipped is not None else marked.map(lambda _, features: features)

    def piece(numbers: tf.Tensor, *records: tf.Tensor) -> tf.data.Dataset:
        count = tf.size(numbers, out_type=tf.int64)
        whole = _whole(decoder, *records).ignore_errors()
        if skipped is not None:
            whole = tf.data.Dataset.zip(tf.data.Dataset.from_tensors(tf.fill([count], True)), whole)
        singles = tf.data.Dataset.from_tensor_slices((numbers, *records)).flat_map(one)
        return whole.concatenate(_batched(singles, count, decoder)).take(1)

    def noted(number: tf.Tensor, sound: tf.Tensor) -> tf.Tensor:
        # Only a copy of `sound` that hangs on the note: else the graph would drop it.
        with tf.control_dependencies([tf.cond(sound, lambda: False, lambda: note(number))]):
            return tf.identity(sound)

    def note(number: tf.Tensor) -> tf.Tensor:
        if options.service is not None:
            return _noted_in_graph(shelf, number, raises=skipped is None)
        if skipped is not None:
            return tf.numpy_function(skipped.add, [number], tf.bool)
        sentence = tf.numpy_function(lambda n: explain(shelf, n, decode=decoder.single), [number], tf.string)
        with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[sentence])]):
            return tf.constant(False)

    return interleaved(pieces, piece, options.parallel_calls, options)


def _whole(decoder: Decoder, *records: tf.Tensor) -> tf.data.Dataset:
    """One element: the features of the records; an error where one of them can't be had."""
    if decoder.batch is not None:
        return tf.data.Dataset.from_tensors(records).map(lambda serialized: _batch(serialized, decoder))
    singles = tf.data.Dataset.from_tensor_slices(records).map(lambda *record: _single(decoder, *record))
    return _batched(singles, tf.size(records[0], out_type=tf.int64), decoder)


def _batch(serialized: tf.Tensor, decoder: Decoder) -> Features:
    with tf.control_dependencies([_read(tf.reduce_all(serialized != ""))]):
        return decoder.batch(tf.identity(serialized)) if decoder.batch is not None else {}


def _single(decoder: Decoder, serialized: tf.Tensor, *draw: tf.Tensor) -> Features:
    with tf.control_dependencies([_read(serialized != "")]):
        return decoder.single(tf.identity(serialized), *draw)


def _read(sound: tf.Tensor) -> tf.Operation:
    """Fails where a record could not be read: an empty one might pass for an Example without features."""
    return tf.raw_ops.Assert(condition=sound, data=["unreadable"])


def _batched(records: tf.data.Dataset, count: tf.Tensor, decoder: Decoder) -> tf.data.Dataset:
    batch = records.ragged_batch if decoder.ragged else records.batch
    return batch(count, drop_remainder=True)


def _zeros(decoder: Decoder) -> Features:
    spec = tf.data.Dataset.from_tensors("").map(decoder.single).element_spec
    return tf.nest.map_structure(lambda part: tf.zeros([size or 0 for size in part.shape], part.dtype), spec)


def _noted_in_graph(shelf: Shelf, number: tf.Tensor, *, raises: bool) -> tf.Tensor:
    """What a worker in another process can do: it has no Python of ours."""
    shard = tf.searchsorted(shelf.table["starts"], number[None], side="right")[0] - 1
    record = tf.strings.as_string(number - tf.gather(shelf.table["starts"], shard))
    where = tf.strings.join(["record ", record, " of ", tf.gather(shelf.table["paths"], shard)])
    if raises:
        text = tf.strings.join([where, " cannot be read or decoded"])
        with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[text])]):
            return tf.constant(False)
    with tf.control_dependencies([tf.print("tfpipe skipped", where)]):
        return tf.constant(True)


# ---- batches with gaps


def without_lost(batches: tf.data.Dataset, *, keep_size: bool) -> tf.data.Dataset:
    """Batches (sound, features) to batches of features, without the records that were lost.

    Args:
      batches: as decoded gives them, batched.
      keep_size: fill the place of a lost record with the sound one before it in the batch, or the first one, so that
        shapes stay fixed and every other record keeps its place, whoever reads it; else leave the place out.

    Returns:
      (whether a record is sound, features).
    """

    def repaired(sound: tf.Tensor, features: Features) -> Features:
        places = tf.range(tf.size(sound, out_type=tf.int64))
        first = tf.argmax(tf.cast(sound, tf.int32))
        before = tf.where(sound[None, :] & (places[None, :] <= places[:, None]), places[None, :], first)
        chosen = tf.reduce_max(before, 1) if keep_size else tf.where(sound)[:, 0]
        if keep_size:
            chosen.set_shape(sound.shape)
        return tf.nest.map_structure(lambda values: tf.gather(values, chosen), features)

    def whole(sound: tf.Tensor, features: Features) -> tuple[tf.Tensor, Features]:
        kept = tf.cond(tf.reduce_all(sound), lambda: features, lambda: repaired(sound, features))
        return tf.reduce_any(sound), kept

    return batches.map(whole)


def numbered(numbers: tf.data.Dataset, batches: tf.data.Dataset, skipped: Skipped | None) -> tf.data.Dataset:
    """(number, features) of each batch; where records may be skipped, a batch without a sound one is left out."""
    pairs = tf.data.Dataset.zip(numbers, batches)
    if skipped is None:
        return pairs
    return pairs.filter(lambda _, batch: batch[0]).map(lambda number, batch: (number, batch[1]))


def reported(batches: tf.data.Dataset, skipped: Skipped) -> tf.data.Dataset:
    """The batches; when they have come to their end, what was left out is reported."""
    end = tf.data.Dataset.range(1).filter(lambda _: tf.numpy_function(skipped.report, [], tf.bool))
    # A dataset of no batches, but of their structure.
    return batches.concatenate(end.flat_map(lambda _: batches.take(0)))
