"""Single records in parts: each through its offset, in the order of the positions."""

import subprocess
import sys
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tfpipe.format.framing import frame
from tfpipe.reader.order import records_at
from tfpipe.reader.positions import Order
from tfpipe.reader.records import RecordTable, _cut, read_batches, read_singles
from tfpipe.tf_internals import flat_map_on_one_device

RECORDS, BATCH = 100, 40
ORDER = Order(
    num_records=RECORDS,
    num_positions=RECORDS,
    batch_size=BATCH,
    host_index=0,
    host_count=1,
    seed=3,
    shuffled=True,
)
PLAN = SimpleNamespace(reads_at_once=4, keeps_order=True, piece_records=BATCH)  # What is read of a plan.


@pytest.fixture
def table(tmp_path):
    """100 records in two shards."""
    frames = [b"".join(frame([b"record %d" % number])) for number in range(RECORDS)]
    ends = np.cumsum([len(one) for one in frames])
    paths = tuple(str(tmp_path / name) for name in "ab")
    for path, part in zip(paths, (frames[:30], frames[30:]), strict=True):
        with open(path, "wb") as file:
            file.write(b"".join(part))
    begins = ends - [len(one) for one in frames]
    starts = np.array([0, 30, RECORDS])
    own = np.where(np.arange(RECORDS) < 30, 0, ends[29])
    return RecordTable((), paths, starts, begins - own, ends - own)


def read(table, size, first=0, *, marks=False, order=ORDER):
    """The elements of read_singles, (positions, numbers, records), without those that are errors."""
    epochs = tf.data.Dataset.from_tensors(tf.constant(5, tf.int64))
    found = flat_map_on_one_device(
        epochs, lambda epoch: read_singles(PLAN, table, order, epoch, tf.constant(first, tf.int64), size, marks=marks)
    )
    return [(p.tolist(), n.tolist(), r.tolist()) for (p, n), r in found.ignore_errors().as_numpy_iterator()]


def joined(lists):
    return list(chain.from_iterable(lists))


# Smaller than what is opened at once, equal to the batch and larger than that, and the whole epoch.
@pytest.mark.parametrize(("size", "sizes"), [(8, [8] * 12 + [4]), (40, [40, 40, 20]), (100, [100])])
def test_records_come_in_the_order_of_their_positions(table, size, sizes):
    elements = read(table, size)
    assert [len(records) for _, _, records in elements] == sizes
    assert joined(positions for positions, _, _ in elements) == list(range(RECORDS))
    numbers = joined(numbers for _, numbers, _ in elements)
    assert numbers == records_at(ORDER, tf.constant(5, tf.int64), tf.range(RECORDS, dtype=tf.int64)).numpy().tolist()
    assert sorted(numbers) == list(range(RECORDS))
    assert joined(records for _, _, records in elements) == [b"record %d" % number for number in numbers]


def test_reading_begins_with_any_batch(table):
    assert read(table, 40, first=1) == read(table, 40)[1:]


def test_a_damaged_record_is_an_error_of_its_part_or_an_empty_one(table):
    whole = read(table, 8)
    with open(table.paths[1], "r+b") as file:
        file.seek(int(table.ends[70]) - 6)
        file.write(b"?")
    part = next(at for at, (_, numbers, _) in enumerate(whole) if 70 in numbers)
    assert read(table, 8) == whole[:part] + whole[part + 1 :]
    _, numbers, records = whole[part]
    records[numbers.index(70)] = b""
    assert read(table, 8, marks=True) == whole


def test_batches_are_read_by_their_numbers(table):
    found = flat_map_on_one_device(
        tf.data.Dataset.from_tensors(tf.constant(5, tf.int64)),
        lambda epoch: read_batches(
            PLAN, table, replace(ORDER, num_positions=80), epoch, tf.data.Dataset.from_tensors(tf.constant(1, tf.int64))
        ),
    )
    whole = read(table, 40)[1]
    parts = [(p.tolist(), r.tolist()) for (p, _), r in found.as_numpy_iterator()]
    assert [len(records) for _, records in parts] == [32, 8]
    assert joined(records for _, records in parts) == whole[2]
    assert joined(positions for positions, _ in parts) == whole[0]


@pytest.mark.parametrize("first", [0, 7, 9, 10])
def test_in_file_order_pieces_are_slices_of_the_same_records(first):
    positions = np.arange(first, first + 9)
    rows = tuple(map(tf.constant, (positions, 100 + positions, np.arange(9))))
    found = [list(_cut(rows, tf.as_string(100 + positions), 5, slices=one)) for one in (False, True)]
    assert len(found[0]) > 1
    tf.nest.map_structure(lambda *some: np.testing.assert_array_equal(*some), *found)


@pytest.mark.parametrize("first", [0, 7, 9, 10])
def test_a_window_is_cut_where_positions_are_multiples_of_a_piece(first):
    """So that pieces of neighbouring windows are joined whole."""
    positions, ranks = np.arange(first, first + 9), np.arange(9)[::-1]
    rows = tuple(map(tf.constant, (positions, 100 + positions, ranks)))
    parts = list(_cut(rows, tf.as_string(100 + positions[::-1]), 5))
    cut = [part.numpy().tolist() for (part, _), _ in parts]
    assert list(chain(*cut)) == positions.tolist()
    assert [part[0] for part in cut[1:]] == [at for at in positions[1:].tolist() if at % 5 == 0]
    for (part, numbers), records in parts:
        assert numbers.numpy().tolist() == (100 + part).numpy().tolist() == [int(one) for one in records.numpy()]


READ = """
import sys
import tfpipe
windows = {"block_records": 3, "window_records": 9}
for batch_size, options in ((5, windows), (8, windows), (5, {"block_records": 1}), (8, {"shuffle": "none"})):
    options = tfpipe.ReadOptions(**options)
    for batch in tfpipe.make_dataset(sys.argv[1], batch_size=batch_size, image_size=16, options=options):
        pass
"""


def test_reading_logs_no_error_of_tensorflow(raw_dataset, monkeypatch):
    # rebatch logs one for each record of a slice, which no other test shows: they silence TensorFlow.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    done = subprocess.run([sys.executable, "-c", READ, str(raw_dataset.directory)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("E0") and "cuda" not in line.lower()] == []
