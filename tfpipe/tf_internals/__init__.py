"""TensorFlow's private and raw parts that tfpipe relies on, all in this room.

Everything here is outside TensorFlow's promise of compatibility, or below its public functions. Each function is held
by a contract in tests/test_tf_internals.py, so that a change in TensorFlow breaks one clear test of this room. No other
module imports from tensorflow.compiler or tensorflow.python, uses tf.raw_ops, or reads a private attribute of
TensorFlow; tests/test_architecture.py checks that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.python.data.ops import dataset_ops
from tensorflow.python.data.util import structure
from tensorflow.python.eager import context

_PHILOX = 1
_SHUFFLE_ROUNDS = 16


# ---- random bits


def philox_bits(key: tf.Tensor, counter: tf.Tensor, shape: Sequence[int] | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Random bits of an integer dtype from Philox at a key uint64 [1] and a counter uint64 [2], both used as given.

    Equal on a CPU, on a GPU and under XLA.
    """
    return tf.raw_ops.StatelessRandomUniformFullIntV2(shape=shape, key=key, counter=counter, alg=_PHILOX, dtype=dtype)


def seeded_bits(words: tf.Tensor, shape: Sequence[int] | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Random bits of an integer dtype from a seed int64 [2], as of tf.random.stateless_uniform(alg="philox").

    In a third of its operations, each of which costs time in every epoch. Not for XLA: there a negative word gives
    another key.
    """
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=words)
    return philox_bits(key, counter, shape, dtype)


def permute_index(index: tf.Tensor, key: tf.Tensor, max_index: tf.Tensor) -> tf.Tensor:
    """The positions of indices int64 [n] in a keyed permutation of [0, max_index]; key uint32 [3] or [n, 3].

    The public tf.random.experimental.index_shuffle has four rounds and uses few bits of its seed; this has sixteen.
    """
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=key, max_index=max_index, rounds=_SHUFFLE_ROUNDS)


def read_and_skip(counter: tf.Variable, delta: int) -> tf.Tensor:
    """The first word, int64, of a generator's state, which is advanced by `delta` in the same step, also under XLA."""
    return tf.raw_ops.RngReadAndSkip(resource=counter.handle, alg=_PHILOX, delta=tf.constant(delta, tf.uint64))[0]


# ---- the runtime


def has_read_flags() -> bool:
    """Whether TensorFlow has looked for devices, when it also reads the flags of XLA, once and for all."""
    return context.context()._physical_devices is not None


# ---- datasets


def read_tfrecords_at(path: tf.Tensor, offset: tf.Tensor, buffer_bytes: tf.Tensor) -> tf.data.Dataset:
    """The serialized records of an uncompressed TFRecord file from a byte offset on, both CRCs checked.

    Only inside a function of a dataset, such as flat_map: iterated directly, TensorFlow 2.21 loses an input of the op.
    """
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=path[None], compression_type="", buffer_size=buffer_bytes, byte_offsets=offset[None]
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def first_of_each(datasets: Sequence[tf.data.Dataset], count: tf.Tensor) -> tf.data.Dataset:
    """The first element of each of the first `count` datasets, int64; those behind them are not opened.

    As Dataset.choose_from_datasets, which costs 40 us more an element.
    """
    spec = datasets[0].element_spec
    variant = tf.raw_ops.DirectedInterleaveDataset(
        selector_input_dataset=variant_of(tf.data.Dataset.range(count)),
        data_input_datasets=[variant_of(dataset) for dataset in datasets],
        output_types=structure.get_flat_tensor_types(spec),
        output_shapes=structure.get_flat_tensor_shapes(spec),
    )
    return tf.data.experimental.from_variant(variant, spec)


def variant_of(dataset: tf.data.Dataset) -> tf.Tensor:
    """The variant scalar that represents a dataset in a graph; tf.data.experimental.from_variant is the inverse."""
    return dataset._variant_tensor


class CountedDataset(dataset_ops.UnaryUnchangedStructureDataset):
    """A dataset whose cardinality is computed by a Python function at each call: it differs between iterations."""

    def __init__(self, dataset: tf.data.Dataset, count: Callable[[], int]) -> None:
        self._input_dataset, self._count = dataset, count
        super().__init__(dataset, variant_of(dataset))

    def cardinality(self) -> tf.Tensor:
        """The number of elements of the next iteration, int64."""
        return tf.constant(self._count(), tf.int64)


# ---- datasets whose functions are made for one device
#
# At every epoch tf.data instantiates each function of a dataset. By default each passes grappler, the placer and
# oneDNN's layout pass, which looks at every kernel of TensorFlow for every operation: 4 ms a function and 0.15 ms an
# operation. With this attribute they are left out. Two things are lost with them: placement, so that such a function
# must run on the device of its dataset, and the lowering of loops, which then run one iteration at a time.
_ONE_DEVICE = {"experimental_ints_on_device": True}


class _FunctionDataset(dataset_ops.UnaryDataset):
    """A dataset made by a raw operation; it keeps the functions of the operation alive."""

    def __init__(self, source: tf.data.Dataset, variant: tf.Tensor, spec: Any, function: Any) -> None:
        self._spec, self._kept = spec, function
        super().__init__(source, variant)

    @property
    def element_spec(self) -> Any:
        return self._spec


def map_on_one_device(
    dataset: tf.data.Dataset, function: Callable[..., Any], *, calls: int = 1, deterministic: bool = True
) -> tf.data.Dataset:
    """Dataset.map, its function made for one device."""
    if calls == 1:
        settings = {"use_inter_op_parallelism": True, "preserve_cardinality": True}
        return _by_function(tf.raw_ops.MapDataset, dataset, function, **settings)
    return _by_function(
        tf.raw_ops.ParallelMapDatasetV2,
        dataset,
        function,
        num_parallel_calls=tf.constant(calls, tf.int64),
        deterministic="true" if deterministic else "false",
        preserve_cardinality=True,
    )


def flat_map_on_one_device(dataset: tf.data.Dataset, function: Callable[..., tf.data.Dataset]) -> tf.data.Dataset:
    """Dataset.flat_map, its function made for one device."""
    return _by_function(tf.raw_ops.FlatMapDataset, dataset, function)


def interleave_on_one_device(
    dataset: tf.data.Dataset,
    function: Callable[..., tf.data.Dataset],
    at_once: int,
    *,
    deterministic: bool = True,
    ahead: int = -1,
) -> tf.data.Dataset:
    """Dataset.interleave of `at_once` in parallel, block_length 1; `ahead` more are begun, -1: twice as many."""
    if at_once == 1:
        return flat_map_on_one_device(dataset, function)
    return _by_function(
        tf.raw_ops.ParallelInterleaveDatasetV4,
        dataset,
        function,
        cycle_length=tf.constant(at_once, tf.int64),
        block_length=tf.constant(1, tf.int64),
        buffer_output_elements=tf.constant(-1, tf.int64),
        prefetch_input_elements=tf.constant(ahead, tf.int64),
        num_parallel_calls=tf.constant(at_once, tf.int64),
        deterministic="true" if deterministic else "false",
    )


def filter_on_one_device(dataset: tf.data.Dataset, predicate: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    """Dataset.filter, its function made for one device."""
    return _by_predicate(tf.raw_ops.FilterDataset, dataset, predicate)


def take_while_on_one_device(dataset: tf.data.Dataset, predicate: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    """Dataset.take_while, its function made for one device."""
    return _by_predicate(tf.raw_ops.TakeWhileDataset, dataset, predicate)


def _by_function(
    operation: Callable[..., tf.Tensor], dataset: tf.data.Dataset, function: Callable[..., Any], **settings: Any
) -> tf.data.Dataset:
    """The dataset that a raw operation makes of another one and a function of its elements."""
    concrete, spec = _one_device_function(function, dataset.element_spec)
    # A function that returns a dataset returns its variant; the operation is told of the elements in it.
    elements = spec.element_spec if isinstance(spec, tf.data.DatasetSpec) else spec
    variant = operation(
        input_dataset=variant_of(dataset),
        other_arguments=concrete.captured_inputs,
        f=concrete,
        output_types=structure.get_flat_tensor_types(elements),
        output_shapes=structure.get_flat_tensor_shapes(elements),
        **settings,
    )
    return _FunctionDataset(dataset, variant, elements, concrete)


def _by_predicate(
    operation: Callable[..., tf.Tensor], dataset: tf.data.Dataset, predicate: Callable[..., tf.Tensor]
) -> tf.data.Dataset:
    concrete, _ = _one_device_function(predicate, dataset.element_spec)
    spec = dataset.element_spec
    variant = operation(
        input_dataset=variant_of(dataset),
        other_arguments=concrete.captured_inputs,
        predicate=concrete,
        output_types=structure.get_flat_tensor_types(spec),
        output_shapes=structure.get_flat_tensor_shapes(spec),
    )
    return _FunctionDataset(dataset, variant, spec, concrete)


def _one_device_function(function: Callable[..., Any], spec: Any) -> tuple[Any, Any]:
    """The function from the flat tensors of an element to those of its result, and the structure of the result."""
    results = []

    def flat(*tensors: tf.Tensor) -> list[tf.Tensor]:
        element = structure.from_compatible_tensor_list(spec, list(tensors))
        result = function(*element) if isinstance(element, tuple) else function(element)
        results.append(structure.type_spec_from_value(result))
        return structure.to_tensor_list(results[-1], result)

    # Dataset functions are named so, for inside_dataset_function.
    flat.__name__ = "Dataset_function"
    traced = tf.function(flat, autograph=False, experimental_attributes=_ONE_DEVICE)
    specs = map(tf.TensorSpec, structure.get_flat_tensor_shapes(spec), structure.get_flat_tensor_types(spec))
    return traced.get_concrete_function(*specs), results[-1]


def map_to_lists(function: Callable[..., Any], elements: Sequence[tf.Tensor], spec: Any) -> tuple[tf.Tensor, ...]:
    """As tf.map_fn of a function of one row of each tensor [n, ...], in a loop; but its results are not stacked yet.

    Args:
      function: gives a value of the structure.
      elements: tensors of n rows.
      spec: the structure of a result.

    Returns:
      For each tensor of the structure a list of n values, a variant scalar: stack_lists takes them.
    """
    count = tf.shape(elements[0])[0]
    shapes, types = structure.get_flat_tensor_shapes(spec), structure.get_flat_tensor_types(spec)
    empty = [
        tf.raw_ops.TensorListReserve(element_shape=_list_shape(shape), num_elements=count, element_dtype=dtype)
        for shape, dtype in zip(shapes, types, strict=True)
    ]

    def one(i: tf.Tensor, lists: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        values = structure.to_tensor_list(spec, function(*[rows[i] for rows in elements]))
        return i + 1, [
            tf.raw_ops.TensorListSetItem(input_handle=some, index=i, item=value)
            for some, value in zip(lists, values, strict=True)
        ]

    return tuple(tf.while_loop(lambda i, _: i < count, one, [tf.constant(0), empty])[1])


def stack_lists(lists: Sequence[tf.Tensor], spec: Any, *, size: int | None = None) -> Any:
    """The values in lists that follow one another, variant [k] for each tensor of a structure, stacked: [n, ...].

    Args:
      lists: as map_to_lists gives them, batched.
      spec: the structure of one value.
      size: n, if it is known; not checked for ragged tensors.
    """
    batched = tf.nest.map_structure(lambda part: part._batch(size), spec)
    shapes, types = structure.get_flat_tensor_shapes(spec), structure.get_flat_tensor_types(spec)
    return structure.from_compatible_tensor_list(
        batched,
        [
            tf.raw_ops.TensorListStack(
                input_handle=_joined(some, dtype), element_shape=_list_shape(shape), element_dtype=dtype
            )
            for some, shape, dtype in zip(lists, shapes, types, strict=True)
        ],
    )


def _joined(lists: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """One list of all values in lists, variant [k]; no value is copied."""

    def add(i: tf.Tensor, all_of_them: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        joined = tf.raw_ops.TensorListConcatLists(input_a=all_of_them, input_b=lists[i], element_dtype=dtype)
        return i + 1, joined

    return tf.while_loop(lambda i, _: i < tf.shape(lists)[0], add, [tf.constant(1), lists[0]])[1]


def _list_shape(shape: tf.TensorShape) -> tf.Tensor:
    return tf.constant(-1 if shape.rank is None else [-1 if side is None else side for side in shape], tf.int32)


@contextlib.contextmanager
def fixed_graph_seed() -> Iterator[None]:
    """Makes datasets that are built inside independent of the global seed.

    Dataset.shuffle combines its seed with the global one, and can't compare a tensor where that is 0.
    """
    graph = tf.compat.v1.get_default_graph()
    before, graph.seed = graph.seed, 1
    try:
        yield
    finally:
        graph.seed = before


def seldom(branch: Callable[[], tf.Tensor]) -> Callable[[], tf.Tensor]:
    """A branch of tf.cond that is one operation until it is taken: its own cost nothing when an epoch starts."""
    if tf.executing_eagerly():
        return branch
    return tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})


def inside_dataset_function() -> bool:
    """Whether a function of a tf.data.Dataset is being traced; such functions run on the host's CPU."""
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        # tf.data names the function's graph after the method, such as Dataset_map.
        if getattr(graph, "name", "").startswith("Dataset_"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def stop_server(server: Any) -> None:
    """Stops a tf.data service's dispatcher or worker now; the public way, dropping the object, has no fixed time."""
    server._stop()


# ---- tensors


def upper_bound(rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The number of entries of sorted rows [1, N] up to and including each value [n]: int64 [n].

    As tf.searchsorted(side="right"), in a third of its operations, each of which costs 0.15 ms per epoch.
    """
    return tf.squeeze(tf.raw_ops.UpperBound(sorted_inputs=rows, values=values[None], out_type=tf.int64), 0)


def uninitialized_bytes(count: tf.Tensor) -> tf.Tensor:
    """uint8 [count] of arbitrary values: for padding that is never used."""
    return tf.raw_ops.Empty(shape=[count], dtype=tf.uint8)


def scale_with_antialias(image: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """float32 [height, width, C]: what tf.image.resize(antialias=True) does, but with a scale and a shift of one's own.

    Args:
      image: [H, W, C].
      size: int32 [2], of the result.
      scale: float32 [2], pixels of the result for a pixel of the image.
      shift: float32 [2], in pixels of the result.
    """
    ways = {"kernel_type": "triangle", "antialias": True}
    return tf.raw_ops.ScaleAndTranslate(images=image[None], size=size, scale=scale, translation=shift, **ways)[0]


def fail_unless(condition: tf.Tensor, sentence: str | tf.Tensor) -> tf.Operation:
    """An operation that raises InvalidArgumentError with the sentence where the condition is false."""
    return tf.raw_ops.Assert(condition=condition, data=[sentence])


# ---- XLA operations, inside tf.function(jit_compile=True)

dynamic_slice = xla.dynamic_slice
dynamic_update_slice = xla.dynamic_update_slice


def gather_runs(elements: tf.Tensor, starts: tf.Tensor, length: int) -> tf.Tensor:
    """The runs of `length` elements [N] that begin at each start int32 [n]: [n, length]."""
    numbers = xla_data_pb2.GatherDimensionNumbers(offset_dims=[1], start_index_map=[0], index_vector_dim=1)
    return xla.gather(elements, starts[:, None], numbers, [length])


def dot_general(left: tf.Tensor, right: tf.Tensor, *, batch_axes: int, left_axis: int, right_axis: int) -> tf.Tensor:
    """Products summed over an axis of each, for each index of the leading batch axes, in full float32.

    On a GPU the default precision would round the factors to TF32's 11 bits.
    """
    numbers = xla_data_pb2.DotDimensionNumbers(
        lhs_batch_dimensions=range(batch_axes),
        rhs_batch_dimensions=range(batch_axes),
        lhs_contracting_dimensions=[left_axis],
        rhs_contracting_dimensions=[right_axis],
    )
    precision = xla_data_pb2.PrecisionConfig(operand_precision=[xla_data_pb2.PrecisionConfig.HIGHEST] * 2)
    return xla.dot_general(left, right, numbers, precision_config=precision)
