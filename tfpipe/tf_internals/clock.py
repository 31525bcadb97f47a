"""Iterators that measure how long they are waited for; of TensorFlow they use what is private, as the room does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import iterator_ops

from tfpipe.tf_internals import CountedDataset

_CLOCK_DEVICE = "CPU:0"


class ClockedDataset(CountedDataset):
    """A dataset whose iterators add to a variable what each batch is waited for, in seconds.

    The clock is read around the iterator's own operation, in a training's graph too. So no stage is added: most stages
    have no kernel for another device than the CPU, and would bring the batches back to it.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        super().__init__(dataset, lambda: int(dataset.cardinality()))
        with tf.device(_CLOCK_DEVICE):
            self.waited = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="input_wait_seconds")

    def __iter__(self) -> _ClockedIterator:
        iterator = super().__iter__()
        return _ClockedIterator(iterator._iterator_resource, self.waited.handle, self.element_spec, self)


class _ClockedIterator(iterator_ops.OwnedIterator):
    """Goes through functions as two resources: the iterator's, and that of the variable with its seconds."""

    def __init__(
        self, iterator: tf.Tensor, waited: tf.Tensor, spec: Any, dataset: ClockedDataset | None = None
    ) -> None:
        super().__init__(components=(iterator,), element_spec=spec)
        # It keeps the dataset alive, with the Python functions in it.
        self._waited, self._dataset = waited, dataset

    @property
    def _type_spec(self) -> _ClockedIteratorSpec:
        return _ClockedIteratorSpec(self.element_spec)

    def _next_internal(self) -> Any:
        return self._clocked(super()._next_internal)

    def get_next_as_optional(self) -> Any:
        """The next batch, if there is one."""
        return self._clocked(super().get_next_as_optional)

    def _clocked(self, get: Callable[[], Any]) -> Any:
        with tf.device(_CLOCK_DEVICE):
            asked = tf.timestamp()
        with tf.control_dependencies([asked]):
            got = get()
        with tf.control_dependencies(tf.nest.flatten(got, expand_composites=True)), tf.device(_CLOCK_DEVICE):
            tf.raw_ops.AssignAddVariableOp(resource=self._waited, value=tf.timestamp() - asked)
        return got


class _ClockedIteratorSpec(iterator_ops.IteratorSpec):
    """The type of such an iterator."""

    @property
    def value_type(self) -> type[_ClockedIterator]:
        return _ClockedIterator

    @property
    def _component_specs(self) -> tuple[tf.TensorSpec, tf.TensorSpec]:
        return (*super()._component_specs, tf.TensorSpec([], tf.resource))

    def _to_components(self, value: _ClockedIterator) -> tuple[tf.Tensor, tf.Tensor]:
        return (*super()._to_components(value), value._waited)

    def _from_components(self, components: tuple[tf.Tensor, tf.Tensor]) -> _ClockedIterator:
        return _ClockedIterator(*components, self._element_spec)
