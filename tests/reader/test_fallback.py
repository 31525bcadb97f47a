"""Where the fast path fails, the fallback goes on: with that batch, of that epoch, and only then."""

import pytest
import tensorflow as tf

from tfpipe.reader.fallback import with_fallback
from tfpipe.reader.order import Order, epoch_counter, epochs

BATCHES = 6


def an_order(**fields):
    return Order(BATCHES * 2, BATCHES * 2, 2, 0, 1, 0, False, **fields)


def failing_at(order, *numbers, first=0):
    """Features 10 * epoch + 0, 1, 2, ... from the first on; those numbers are errors.

    It counts epochs itself, as the reader does.
    """
    bad = tf.constant(numbers, tf.int64)

    def feature(epoch, number):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(number != bad), ["bad"])]):
            return 10 * epoch + number

    return epochs(order, counter=epoch_counter(order)).flat_map(
        lambda epoch: tf.data.Dataset.range(first, BATCHES).map(lambda number: feature(epoch, number))
    )


def run(order, fast):
    """The dataset, and the (epoch, first batch) of each call of the fallback."""
    asked = []

    def fallback(epoch, first):
        asked.append((int(epoch), int(first)))
        numbers = tf.data.Dataset.range(first, BATCHES)
        return numbers.map(lambda number: ((epoch, number), 100 * (epoch + 1) + number))

    return with_fallback(order, epochs(order, counter=epoch_counter(order)), fast, fallback), asked


@pytest.mark.parametrize("bad", [(0,), (3,), (5,), (2, 3), (4, 5), tuple(range(BATCHES))])
def test_the_fallback_goes_on_with_the_first_batch_that_failed(bad):
    order = an_order()
    dataset, asked = run(order, failing_at(order, *bad))
    for epoch in range(2):
        expected = [number + (10 * epoch if number < bad[0] else 100 * (epoch + 1)) for number in range(BATCHES)]
        found = [(int(step[0]), int(step[1]), int(value)) for step, value in dataset]
        assert found == [(epoch, number, value) for number, value in enumerate(expected)]
    assert asked == [(0, bad[0]), (1, bad[0])]


def test_it_is_not_built_where_nothing_fails():
    order = an_order()
    dataset, asked = run(order, failing_at(order, BATCHES))
    for epoch in range(3):
        assert [int(value) for _, value in dataset] == [10 * epoch + number for number in range(BATCHES)]
    assert asked == []


def test_what_cannot_be_opened_at_all_is_asked_for_once_a_batch():
    missing = tf.data.TFRecordDataset("/nowhere/at/all.tfrecord").map(
        lambda record: tf.strings.to_number(record, tf.int64)
    )
    dataset, asked = run(an_order(), missing)
    assert [int(value) for _, value in dataset] == [100 + number for number in range(BATCHES)]
    assert asked == [(0, 0)]


def test_iterations_at_the_same_time_go_on_in_their_own_epochs():
    order = an_order()
    dataset, asked = run(order, failing_at(order, 2))
    pairs = [(int(one[1]), int(other[1])) for one, other in zip(dataset, dataset, strict=True)]
    assert pairs[:2] == [(0, 10), (1, 11)]
    assert pairs[2:] == [(100 + number, 200 + number) for number in range(2, BATCHES)]
    # Each iteration works ahead in a thread of its own: which one fails first is not said.
    assert sorted(asked) == [(0, 2), (1, 2)]


def test_a_resumed_epoch_that_fails_at_once_begins_where_it_stands():
    order = an_order(start_step=4)
    dataset, asked = run(order, failing_at(order, 4, first=4))
    assert [int(step[1]) for step, _ in dataset] == [4, 5]
    assert asked == [(0, 4)]
