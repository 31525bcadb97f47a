"""What tfpipe relies on in TensorFlow's private and raw parts, held against pinned vectors: a new TensorFlow that
changes one of them fails here, by name."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tfpipe import tf_internals as internals
from tfpipe.format.framing import frame


def compiled(function, *arguments):
    return tf.function(function, jit_compile=True)(*arguments)


@pytest.mark.parametrize("run", [lambda f, *a: f(*a), compiled], ids=["eager", "XLA"])
def test_philox_takes_key_and_counter_as_they_are(run) -> None:
    bits = run(
        lambda key, counter: internals.philox_bits(key, counter, [4], tf.uint32),
        tf.constant([2**63 + 5], tf.uint64),  # a word that is negative as int64
        tf.constant([0, 3], tf.uint64),
    )
    assert bits.numpy().tolist() == [1916173513, 748225024, 1592024992, 1875478077]


def test_seeded_bits_are_those_of_the_public_function() -> None:
    words = tf.constant([-7, 11], tf.int64)
    found = internals.seeded_bits(words, [4], tf.int64)
    assert found.numpy().tolist() == [
        5965441863721250996,
        -4758718296975312676,
        -6770012007868371722,
        3899033709365070732,
    ]
    public = tf.random.stateless_uniform([4], seed=words, minval=None, maxval=None, dtype=tf.int64, alg="philox")
    assert found.numpy().tolist() == public.numpy().tolist()


def test_the_permutation_of_a_key_is_pinned_and_whole() -> None:
    key = tf.constant([1, 2, 3], tf.uint32)
    found = internals.permute_index(tf.range(10, dtype=tf.int64), key, tf.constant(9, tf.int64))
    assert found.numpy().tolist() == [9, 8, 1, 6, 4, 7, 5, 0, 2, 3]
    keys = tf.constant([[1, 2, 3], [4, 5, 6], [7, 8, 9]], tf.uint32)
    found = internals.permute_index(tf.constant([0, 1, 999_999], tf.int64), keys, tf.constant(10**6, tf.int64))
    assert found.numpy().tolist() == [536844, 204063, 373623]


@pytest.mark.parametrize("run", [lambda f: f(), compiled], ids=["eager", "XLA"])
def test_a_counter_is_read_and_moved_on_in_one_step(run) -> None:
    counter = tf.Variable([5, 0, 0], dtype=tf.int64)
    # One unit of delta is 256 of the counter: layers.py divides by that.
    assert [int(run(lambda: internals.read_and_skip(counter, 1))) for _ in range(3)] == [5, 5 + 256, 5 + 512]


def read_from(path, offset: int) -> list[bytes]:
    def read(offset):
        return internals.read_tfrecords_at(tf.constant(str(path)), offset, tf.constant(64, tf.int64))

    offsets = tf.data.Dataset.from_tensors(tf.constant(offset, tf.int64))
    return list(offsets.flat_map(read).as_numpy_iterator())


def test_records_are_read_from_a_byte_offset_on(tmp_path) -> None:
    frames = [b"".join(frame([b"record %d" % number])) for number in range(3)]
    (tmp_path / "shard").write_bytes(b"".join(frames))
    assert read_from(tmp_path / "shard", len(frames[0])) == [b"record 1", b"record 2"]


def test_a_damaged_record_raises_where_it_is(tmp_path) -> None:
    data = bytearray(b"".join(frame([b"record"])))
    data[13] ^= 1
    (tmp_path / "shard").write_bytes(data)
    with pytest.raises(tf.errors.DataLossError):
        read_from(tmp_path / "shard", 0)


def test_of_each_dataset_comes_the_first_element_and_an_error_is_that_of_one() -> None:
    def first(count: int) -> list:
        def read(at: tf.Tensor) -> tf.data.Dataset:
            some = [tf.data.Dataset.range(number, number + 2) for number in (10, 20)]
            broken = tf.data.Dataset.range(3).map(lambda n: tf.debugging.check_numerics(1 / n, "broken"))
            return internals.first_of_each([*some, broken.map(lambda x: tf.cast(x, tf.int64)), some[0]], at)

        counts = tf.data.Dataset.from_tensors(tf.constant(count, tf.int64))
        return list(counts.flat_map(read).ignore_errors().as_numpy_iterator())

    assert first(2) == [10, 20]
    assert first(4) == [10, 20, 10]


def test_a_dataset_survives_as_a_variant() -> None:
    variant = internals.variant_of(tf.data.Dataset.range(3))
    spec = tf.TensorSpec([], tf.int64)
    assert list(tf.data.experimental.from_variant(variant, spec).as_numpy_iterator()) == [0, 1, 2]


def test_a_counted_dataset_tells_another_cardinality_each_time() -> None:
    counts = [2, 3]
    dataset = internals.CountedDataset(tf.data.Dataset.range(3), lambda: counts[0])
    assert (int(dataset.cardinality()), len(dataset)) == (2, 2)
    counts.pop(0)
    assert len(dataset) == 3 == len(list(dataset))
    assert dataset.element_spec == tf.TensorSpec([], tf.int64)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_shuffle_by_a_tensor_ignores_the_global_seed(seed: int) -> None:
    def order():
        with internals.fixed_graph_seed():
            shuffled = tf.data.Dataset.range(20).shuffle(20, seed=tf.constant(3, tf.int64))
        return list(shuffled.as_numpy_iterator())

    expected = order()
    graph = tf.compat.v1.get_default_graph()
    before, graph.seed = graph.seed, seed
    try:
        assert order() == expected
        assert graph.seed == seed
    finally:
        graph.seed = before


def test_functions_of_datasets_are_recognized_while_they_are_traced() -> None:
    seen = []

    def note(value):
        seen.append(internals.inside_dataset_function())
        return value

    tf.data.Dataset.range(1).map(note)
    tf.data.Dataset.range(1).map(lambda value: tf.function(note)(value))
    tf.function(note)(tf.constant(0))
    note(0)
    assert seen == [True, True, False, False]


def test_a_server_is_stopped_at_once() -> None:
    server = tf.data.experimental.service.DispatchServer()
    address = ("localhost", int(server.target.rpartition(":")[2]))
    socket.create_connection(address, timeout=5).close()
    internals.stop_server(server)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address, timeout=5)


def test_the_upper_bound_is_that_of_numpy() -> None:
    rows, values = np.array([0, 4, 4, 9]), np.array([-1, 0, 3, 4, 5, 9, 10])
    found = internals.upper_bound(tf.constant(rows[None]), tf.constant(values))
    assert found.dtype == tf.int64
    assert found.numpy().tolist() == np.searchsorted(rows, values, side="right").tolist()


def test_uninitialized_bytes_have_their_count() -> None:
    found = internals.uninitialized_bytes(tf.constant(5))
    assert (found.dtype, found.shape) == (tf.uint8, (5,))


def test_a_scale_of_one_s_own_is_tf_image_resize_s_where_it_is_that_of_the_sizes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    sizes = tf.constant([12, 9]), tf.constant([12 / 30, 9 / 41])
    found = internals.scale_with_antialias(tf.constant(image), *sizes, tf.zeros([2]))
    np.testing.assert_array_equal(found, tf.image.resize(image, sizes[0], antialias=True))
    moved = internals.scale_with_antialias(tf.constant(image), *sizes, tf.constant([1.0, 0.0]))
    np.testing.assert_allclose(moved[2:-2], found[1:-3], atol=1e-3)


def test_a_seldom_branch_is_one_operation_of_its_graph() -> None:
    def branch() -> tf.Tensor:
        return tf.constant(1) + 1

    assert internals.seldom(branch) is branch

    @tf.function
    def choose(taken: tf.Tensor) -> tf.Tensor:
        return tf.cond(taken, internals.seldom(branch), lambda: tf.constant(0))

    assert [int(choose(tf.constant(taken))) for taken in (True, False)] == [2, 0]
    functions = choose.get_concrete_function(tf.TensorSpec([], tf.bool)).graph.as_graph_def().library.function
    assert any(function.attr["_noinline"].b for function in functions)


def test_a_false_condition_raises_its_sentence() -> None:
    internals.fail_unless(tf.constant(True), "never said")

    @tf.function
    def fails():
        with tf.control_dependencies([internals.fail_unless(tf.constant(False), "why")]):
            return tf.constant(0)

    with pytest.raises(tf.errors.InvalidArgumentError, match="why"):
        fails()


def test_slices_under_xla_are_those_of_numpy_and_stop_at_the_end() -> None:
    values = np.arange(12).reshape(3, 4)
    start = tf.constant([1, 3])  # one column too far: XLA moves the slice back inside
    found = compiled(lambda v: internals.dynamic_slice(v, start, [2, 2]), tf.constant(values))
    assert found.numpy().tolist() == values[1:, 2:].tolist()
    put = compiled(lambda v: internals.dynamic_update_slice(v, tf.zeros([1, 2], v.dtype), start), tf.constant(values))
    values[1, 2:] = 0
    assert put.numpy().tolist() == values.tolist()


def test_runs_are_gathered_from_their_starts() -> None:
    found = compiled(lambda v: internals.gather_runs(v, tf.constant([4, 0]), 3), tf.range(8))
    assert found.numpy().tolist() == [[4, 5, 6], [0, 1, 2]]


def test_a_dot_product_sums_over_one_axis_of_each_in_full_float32() -> None:
    generator = np.random.default_rng(0)
    left = generator.standard_normal((2, 3, 4)).astype(np.float32)
    right = generator.standard_normal((2, 5, 4)).astype(np.float32)
    found = compiled(
        lambda a, b: internals.dot_general(a, b, batch_axes=1, left_axis=2, right_axis=2), tf.constant(left), right
    )
    np.testing.assert_allclose(found, np.einsum("bij,bkj->bik", left, right), rtol=1e-5, atol=1e-6)


# ---- functions made for one device

NUMBERS = tf.data.Dataset.range(7)


def named(number):
    return {"number": number, "rows": tf.RaggedTensor.from_row_lengths(tf.range(number), [number, 0])}


@pytest.mark.parametrize(
    ("ours", "public"),
    [
        (lambda d: internals.map_on_one_device(d, named), lambda d: d.map(named)),
        (lambda d: internals.map_on_one_device(d, named, calls=3), lambda d: d.map(named)),
        (
            lambda d: internals.flat_map_on_one_device(d, tf.data.Dataset.range),
            lambda d: d.flat_map(tf.data.Dataset.range),
        ),
        (
            lambda d: internals.interleave_on_one_device(d, tf.data.Dataset.range, 3),
            lambda d: d.interleave(tf.data.Dataset.range, cycle_length=3, block_length=1),
        ),
        (
            lambda d: internals.filter_on_one_device(d.map(named), lambda row: row["number"] % 2 == 0),
            lambda d: d.map(named).filter(lambda row: row["number"] % 2 == 0),
        ),
        (
            lambda d: internals.take_while_on_one_device(d, lambda number: number < 4),
            lambda d: d.take_while(lambda number: number < 4),
        ),
    ],
    ids=["map", "parallel map", "flat_map", "interleave", "filter", "take_while"],
)
def test_datasets_of_functions_for_one_device_are_those_of_the_public_ones(ours, public) -> None:
    found, expected = ours(NUMBERS), public(NUMBERS)
    assert found.element_spec == expected.element_spec
    pairs = list(zip(found, expected, strict=True))
    assert pairs
    for one, other in pairs:
        parts = (tf.nest.flatten(element, expand_composites=True) for element in (one, other))
        for part, expected_part in zip(*parts, strict=True):
            np.testing.assert_array_equal(part, expected_part)


@pytest.mark.parametrize(("ahead", "least", "most"), [(0, 2, 3), (2, 4, 5), (-1, 6, 7)])
def test_an_interleave_begins_as_many_ahead_as_it_is_told_to(ahead: int, least: int, most: int) -> None:
    begun: list[int] = []

    def read(number):
        noted = tf.numpy_function(lambda n: begun.append(int(n)) or n, [number], tf.int64)
        return tf.data.Dataset.from_tensors(tf.ensure_shape(noted, []))

    dataset = internals.interleave_on_one_device(NUMBERS.repeat(3), read, 2, ahead=ahead)
    iterator, deadline = iter(dataset), time.monotonic() + 20
    next(iterator)
    while len(begun) < least and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    # One more than at once and ahead takes the place of what was handed out.
    assert least <= len(begun) <= most


def test_such_functions_capture_variables_and_outlive_the_names_of_their_datasets() -> None:
    added = tf.Variable(10, dtype=tf.int64)
    dataset = NUMBERS
    for _ in range(2):
        dataset = internals.flat_map_on_one_device(
            dataset, lambda n: internals.map_on_one_device(tf.data.Dataset.range(n), lambda m: m + added)
        ).take(2)
        gc.collect()
    assert [int(number) for number in dataset] == [10, 11]
    added.assign(20)
    assert [int(number) for number in dataset] == [20, 21]


def test_such_functions_have_the_attribute_and_skip_the_passes() -> None:
    """What saves 4 ms a function: the passes are kept for a function of several devices, by this attribute alone."""
    concrete, _ = internals._one_device_function(lambda number: number + 1, tf.TensorSpec([], tf.int64))
    assert concrete.function_def.attr["experimental_ints_on_device"].b

    def many(number):
        for _ in range(150):
            number = tf.bitwise.bitwise_xor(number + 1, number)
        return number

    def seconds(dataset) -> float:
        times = []
        for _ in range(7):
            begin = time.process_time()
            next(iter(dataset))
            times.append(time.process_time() - begin)
        return min(times)

    public, ours = NUMBERS.map(many), internals.map_on_one_device(NUMBERS, many)
    assert seconds(ours) < 0.6 * seconds(public)


def test_results_in_lists_are_stacked_as_map_fn_does() -> None:
    spec = {
        "n": tf.TensorSpec([2], tf.int64),
        "text": tf.TensorSpec([], tf.string),
        "rows": tf.RaggedTensorSpec([None], tf.int64, 0),
    }

    def row(number):
        return {"n": tf.stack([number, -number]), "text": tf.strings.as_string(number), "rows": tf.range(number)}

    pieces = tf.data.Dataset.range(8).batch(3)
    lists = internals.map_on_one_device(pieces, lambda some: internals.map_to_lists(row, (some,), spec))
    (found,) = lists.batch(3).map(lambda *some: internals.stack_lists(some, spec))
    expected = tf.map_fn(row, tf.range(8, dtype=tf.int64), fn_output_signature=spec)
    assert found["rows"].to_list() == expected["rows"].to_list()
    for name in ("n", "text"):
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("look", ["tf.config.list_physical_devices()", "tf.constant(1)", "tf.data.Dataset.range(1)"])
def test_flags_of_xla_are_read_with_the_first_look_at_devices(look) -> None:
    program = (
        "import tensorflow as tf; from tfpipe import tf_internals as internals; before = internals.has_read_flags(); "
        f"{look}; print(before, internals.has_read_flags())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
