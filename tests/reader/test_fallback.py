"""Where the fast path fails, the careful one goes on: with that batch, of that epoch, and only then."""

import pytest
import tensorflow as tf

from tfpipe.reader.fallback import delivered_batches, with_fallback
from tfpipe.reader.order import EpochCounter, epochs, first_batch_of
from tfpipe.reader.positions import Order

BATCHES, SIZE = 6, 2


def an_order(**fields):
    return Order(BATCHES * SIZE, BATCHES * SIZE, SIZE, 0, 1, 0, False, **fields)


def whole_span(number):
    return number * SIZE, number * SIZE + SIZE, SIZE


def failing_at(*numbers):
    """A function from epoch and first batch to features 10 * epoch + 0, 1, 2, ...; those numbers are errors."""
    bad = tf.constant(numbers, tf.int64)

    def feature(epoch, number):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(number != bad), ["bad"])]):
            return tf.stack(whole_span(number)), 10 * epoch + number

    return lambda epoch, first: tf.data.Dataset.range(first, BATCHES).map(lambda number: feature(epoch, number))


def run(order, fast):
    """The dataset, and the (epoch, first batch) of each call of the careful way."""
    asked, delivered = [], delivered_batches()

    def careful(epoch, first):
        asked.append((int(epoch), int(first)))
        return tf.data.Dataset.range(first, BATCHES).map(lambda number: (number, 100 * (epoch + 1) + number))

    def read_epoch(epoch):
        data = fast(epoch, first_batch_of(order, epoch))
        return with_fallback(order, epoch, data, careful, delivered)

    return epochs(EpochCounter(order)).flat_map(read_epoch), asked


def values(dataset):
    return [(int(number), int(value)) for number, value in dataset]


@pytest.mark.parametrize("bad", [(0,), (3,), (5,), (2, 3), (4, 5), tuple(range(BATCHES))])
def test_the_careful_way_goes_on_with_the_first_batch_that_failed(bad):
    dataset, asked = run(an_order(), failing_at(*bad))
    for epoch in range(2):
        expected = [number + (10 * epoch if number < bad[0] else 100 * (epoch + 1)) for number in range(BATCHES)]
        assert values(dataset) == list(enumerate(expected))
    assert asked == [(0, bad[0]), (1, bad[0])]


def test_it_is_not_built_where_nothing_fails():
    dataset, asked = run(an_order(), failing_at(BATCHES))
    for epoch in range(3):
        assert values(dataset) == [(number, 10 * epoch + number) for number in range(BATCHES)]
    assert asked == []


@pytest.mark.parametrize(
    "span",
    [(5, 7, 2), (4, 6, 1), (4, 8, 2), (4, 8, 4), (2, 4, 2)],
    ids=["shifted", "with a gap", "too long", "two", "repeated"],
)
def test_a_batch_that_is_not_the_next_one_counts_as_failed(span):
    def fast(epoch, first):
        spans = [span if number == 2 else whole_span(number) for number in range(BATCHES)]
        return tf.data.Dataset.from_tensor_slices((tf.constant(spans, tf.int64), tf.range(BATCHES, dtype=tf.int64)))

    dataset, asked = run(an_order(), fast)
    assert values(dataset) == [(0, 0), (1, 1), (2, 102), (3, 103), (4, 104), (5, 105)]
    assert asked == [(0, 2)]


def test_iterations_at_the_same_time_go_on_in_their_own_epochs():
    dataset, asked = run(an_order(), failing_at(2))
    pairs = [(int(one[1]), int(other[1])) for one, other in zip(dataset, dataset, strict=True)]
    assert pairs[:2] == [(0, 10), (1, 11)]
    assert pairs[2:] == [(100 + number, 200 + number) for number in range(2, BATCHES)]
    # Each iteration works ahead in a thread of its own: which one fails first is not said.
    assert sorted(asked) == [(0, 2), (1, 2)]


def test_a_resumed_epoch_that_fails_at_once_begins_where_it_stands():
    dataset, asked = run(an_order(start_step=4), failing_at(4))
    assert [number for number, _ in values(dataset)] == [4, 5]
    assert asked == [(0, 4)]
