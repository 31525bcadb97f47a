"""Decoding made free, for measuring: what a pipeline still costs where records become constants.

    with free_decoding():
        batches = make_dataset(...)  # of the same shapes and dtypes; records are read, handed on and batched as ever

The rate of such a pipeline is that of everything but decoding: reading, and what hands records and batches on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.reader.damage import Features
from tfpipe.reader.decode import Decoder
from tfpipe.reader.options import ReadOptions

_IS_FREE = ContextVar("is_free", default=False)


@contextlib.contextmanager
def free_decoding() -> Iterator[None]:
    """Datasets that are made inside decode nothing: each of their records is zeros."""
    token = _IS_FREE.set(True)
    try:
        yield
    finally:
        _IS_FREE.reset(token)


def as_measured(decoder: Decoder, options: ReadOptions) -> Decoder:
    """The decoder; inside free_decoding, one that gives zeros of the same shapes, 0 for lengths that differ.

    Raises:
      ValueError: a disk cache would keep the zeros for whoever reads the dataset next.
    """
    if not _IS_FREE.get():
        return decoder
    if options.cache == "disk":
        raise UsageError("cache is 'disk', which would keep the zeros of free decoding; it takes 'none' or 'memory'.")
    specs = decoder.dense_spec
    # Made once and captured: a record costs what handing it on costs, and not the writing of zeros.
    with tf.init_scope():
        one = tf.nest.map_structure(lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), specs)

    def single(serialized: tf.Tensor, *draw: tf.Tensor) -> Features:
        with tf.control_dependencies([tf.strings.length(serialized), *draw]):
            return tf.nest.map_structure(lambda zeros, spec: _with_shape(zeros, spec, serialized), one, specs)

    def batch(serialized: tf.Tensor) -> Features:
        count = tf.shape(serialized)[:1]
        return tf.nest.map_structure(lambda zeros: tf.zeros(tf.concat([count, zeros.shape], 0), zeros.dtype), one)

    return replace(decoder, single=single, parse=None, row=None, batch=None if decoder.batch is None else batch)


def _with_shape(zeros: tf.Tensor, spec: tf.TensorSpec, serialized: tf.Tensor) -> tf.Tensor:
    """The zeros with the static shape of the spec: a length that differs from record to record stays unknown."""
    if spec.shape.is_fully_defined():
        return tf.identity(zeros)
    none = 0 * tf.strings.length(serialized)
    some = tf.slice(zeros, [0] * spec.shape.rank, [none if size is None else size for size in spec.shape])
    some.set_shape(spec.shape)
    return some
