"""Damaged records: the error names them, or they are left out, counted and reported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfpipe.format.framing import FOOTER_BYTES, HEADER_BYTES, valid_payload
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.reader.records import Shelf

Features = dict[str, Any]

_LOG = logging.getLogger("tfpipe")
_MOST_NAMED = 10


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
