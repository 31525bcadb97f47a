"""How regions are computed: programs by their options, and axes of any length padded to few lengths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# 1 to 4, then 5, 6, 7, 8, 10, 12, 14, 16, 20, ...; and the numbers of proposals that detectors commonly keep.
_COMMON = {100, 300, 500, 1000, 2000, 5000, 10_000}
_LENGTHS = np.array(sorted({1, 2, 3, *_COMMON, *(step << n for n in range(28) for step in range(4, 8))}), np.int32)
_NEVER_PADDED = frozenset(_LENGTHS.tolist())


@functools.lru_cache(maxsize=512)
def program(function: Callable[..., Any], *options: Any, static: Any = (), compiled: bool = True) -> Any:
    """A graph of function(*options, *tensors), compiled by XLA or run by TensorFlow's kernels.

    Args:
      function, options: what is computed.
      static: of the tensors' shapes what the function reads: where it differs, programs do; else TensorFlow would trace
        one for any length.
      compiled: by XLA.
    """
    # A partial has no code of its own, so that TensorFlow counts each program's traces separately, and does not warn.
    partial = functools.partial(function, *options)
    return tf.function(partial, jit_compile=compiled or None, autograph=False, reduce_retracing=True)


def for_length(length: int | tf.Tensor, function: Callable[..., Any], *options: Any, static: Any = ()) -> Any:
    """function(*options, *tensors), which pads an axis of a length to padded_length and calls a compiled program.

    Outside of graphs it becomes a graph, in which lengths that differ from call to call are not known, but for lengths
    that are never padded: then the graph would cost more than what it holds.
    """
    if tf.executing_eagerly() and length not in _NEVER_PADDED:
        return functools.partial(call, program(function, *options, static=static, compiled=False))
    return functools.partial(function, *options)


def call(run: Any, *tensors: Any) -> Any:
    """What a program gives; outside of graphs by a look-up of our own, since tf.function's takes a third of a call."""
    if tf.executing_eagerly() and all(part is None or isinstance(part, tf.Tensor) for part in tensors):
        run = _traced(run, *(None if part is None else (part.shape, part.dtype) for part in tensors))
    return run(*tensors)


@functools.lru_cache(maxsize=512)
def _traced(run: Any, *types: Any) -> Any:
    """The graph of a program for tensors of some (shape, dtype), for any device."""
    with tf.device(None):
        return run.get_concrete_function(*(None if part is None else tf.TensorSpec(*part) for part in types))


def as_constant(value: np.float32) -> tf.Tensor:
    """A constant; outside of graphs the same one each time, since making it takes as long as a look-up."""
    return _eager_constant(value) if tf.executing_eagerly() else tf.constant(value)


@functools.lru_cache(maxsize=512)
def _eager_constant(value: np.float32) -> tf.Tensor:
    return tf.constant(value)


def axis_length(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """The length of an axis: a Python integer where it is static."""
    return tf.shape(tensor)[axis] if tensor.shape[axis] is None else int(tensor.shape[axis])


def padded_length(length: int | tf.Tensor) -> int | tf.Tensor:
    """The length to which an axis is padded before it comes to a compiled program.

    A known one stays, but for 0, of which comes 1. One that varies becomes the next of four lengths between powers of
    two, so that few programs are compiled, and at most a fifth of what they compute is padding.
    """
    if isinstance(length, int):
        return max(length, 1)
    return tf.reduce_min(tf.where(length <= _LENGTHS, _LENGTHS, _LENGTHS[-1]))


def pad_axis(tensor: tf.Tensor, axis: int, length: int | tf.Tensor, *, value: float = 0) -> tf.Tensor:
    """The tensor with an axis filled up at its end to a length."""
    missing = length - axis_length(tensor, axis)
    if isinstance(missing, int) and missing == 0:
        return tensor
    return tf.pad(tensor, [[0, missing if i == axis else 0] for i in range(len(tensor.shape))], constant_values=value)
