"""The orientation of an image in TensorFlow operations, as tfpipe.images.probe.exif finds it in Python.

A SavedModel holds no Python. What is rare and long to say in operations is not guessed: UNKNOWN.
"""

from __future__ import annotations

import tensorflow as tf

# What find_orientation returns where the number is there and not understood.
UNKNOWN = -1
_NONE = -2
_ROOM = 16  # zero bytes behind the end, so that a number read there is 0 and not an error
_TAG = 0x0112
_BYTES, _SHORT, _SBYTE, _SSHORT = (1, 2, 7), 3, 6, 8
_LONGS = (4, 9)
# Numbers that do not fit into an entry: rationals, floats, offsets, 64 bits.
_ELSEWHERE = (5, 10, 11, 12, 13, 16)
# \C is any byte: the text around may be of any encoding.
_XMP = r'tiff:Orientation(?:="|>)'


class FileBytes:
    """The bytes of a file as numbers.

    Attributes:
      data: scalar string.
      size: int64, the number of bytes.
      values: uint8 [size + 16], zeros at the end.
    """

    def __init__(self, data: tf.Tensor) -> None:
        self.data = data
        self.size = tf.cast(tf.strings.length(data), tf.int64)
        self.values = tf.io.decode_raw(tf.strings.join([data, b"\0" * _ROOM]), tf.uint8)

    def number(self, at: tf.Tensor | int, count: int, *, little: tf.Tensor | bool = False) -> tf.Tensor:
        """The unsigned integer, int64, in up to 4 bytes; 0 beyond the end."""
        start = tf.clip_by_value(tf.cast(at, tf.int64), 0, self.size)
        part = tf.cast(self.values[start : start + count], tf.int64)
        up = [256**i for i in range(count)]
        weights = tf.where(little, tf.constant(up, tf.int64), tf.constant(up[::-1], tf.int64))
        return tf.reduce_sum(part * weights)

    def text(self, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
        """Up to `count` bytes as a scalar string; none beyond the end."""
        start = tf.clip_by_value(tf.cast(at, tf.int64), 0, self.size)
        return tf.strings.substr(self.data, start, tf.maximum(tf.cast(count, tf.int64), 0))


def find_orientation(exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """The orientation 1 to 8, int64; 1 where there is none, UNKNOWN where it is written in a way not read here.

    Args:
      exif: the EXIF block, scalar string, "" where there is none.
      xmp: the XMP packet, scalar string, "" where there is none.
    """
    value = tf.cond(tf.equal(exif, ""), lambda: tf.constant(_NONE, tf.int64), lambda: _exif_value(exif))
    value = tf.cond(tf.equal(value, _NONE) & (xmp != ""), lambda: _xmp_value(xmp), lambda: value)
    upright = (value != UNKNOWN) & ((value < 1) | (value > 8))
    return tf.where(upright, tf.constant(1, tf.int64), value)


def _xmp_value(xmp: tf.Tensor) -> tf.Tensor:
    def digit() -> tf.Tensor:
        found = tf.strings.regex_replace(xmp, rf"\C*?{_XMP}([0-9])\C*", r"\1", replace_global=False)
        return tf.strings.to_number(found, tf.int64)

    says = tf.strings.regex_full_match(xmp, rf"\C*{_XMP}[0-9]\C*")
    return tf.cond(says, digit, lambda: tf.constant(_NONE, tf.int64))


def _exif_value(exif: tf.Tensor) -> tf.Tensor:
    """The value of the tag; _NONE where there is none, 0 where it or the block is broken."""
    block = FileBytes(tf.strings.regex_replace(exif, r"^(?:Exif\x00\x00)+", "", replace_global=False))
    mark = block.text(0, 4)
    little = tf.reduce_any(tf.equal(mark, [b"II*\0", b"II\0*"]))
    known = little | tf.reduce_any(tf.equal(mark, [b"MM\0*", b"MM*\0"]))
    first = block.number(4, 4, little=little)
    room = tf.maximum(block.size - first - 2, 0) // 12
    count = tf.minimum(block.number(first, 2, little=little), room)
    values = block.values[first + 2 : first + 2 + 12 * count]
    entries = tf.reshape(tf.cast(values, tf.int64), [count, 12])
    value = _last_value(entries, little)
    return tf.where(block.size == 0, tf.constant(_NONE, tf.int64), tf.where(known, value, 0))


def _last_value(entries: tf.Tensor, little: tf.Tensor) -> tf.Tensor:
    """The value of the last of the entries [n, 12] that has the tag and a value; of several numbers the first."""
    tags, kinds = _field(entries, 0, 2, little), _field(entries, 2, 2, little)
    counts, short = _field(entries, 4, 4, little), _field(entries, 8, 2, little)
    signed_byte = (entries[:, 8] + 128) % 256 - 128
    signed_short, long = (short + 2**15) % 2**16 - 2**15, _field(entries, 8, 4, little)

    def of_kind(*numbers: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(kinds[:, None], tf.constant(numbers, tf.int64)), 1)

    found = tf.fill(tf.shape(tags), tf.constant(_NONE, tf.int64))
    for chosen, most, value in (
        (of_kind(*_BYTES), 2**32, tf.zeros_like(short)),
        (of_kind(_SHORT), 2, short),
        (of_kind(_SSHORT), 2, signed_short),
        (of_kind(_SBYTE), 4, signed_byte),
        (of_kind(*_LONGS), 1, long),
        (of_kind(*_ELSEWHERE), 0, short),
    ):
        within = tf.where(counts <= most, value, UNKNOWN)
        found = tf.where(chosen & (counts > 0), within, found)
    found = tf.boolean_mask(found, tf.equal(tags, _TAG) & (found != _NONE))
    return tf.concat([tf.constant([_NONE], tf.int64), found], 0)[-1]


def _field(entries: tf.Tensor, at: int, count: int, little: tf.Tensor) -> tf.Tensor:
    up = [256**i for i in range(count)]
    weights = tf.where(little, tf.constant(up, tf.int64), tf.constant(up[::-1], tf.int64))
    return tf.reduce_sum(entries[:, at : at + count] * weights, 1)
