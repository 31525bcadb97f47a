"""The order of an epoch: a permutation, the same from any start and for any number of hosts, in blocks or singly."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe.reader.order import EpochCounter, chunks, epochs, first_batch_of, global_batches, records_at
from tfpipe.reader.positions import Groups, Order


def records(order, epoch=0):
    """The record numbers of an epoch, in order."""
    epoch = tf.constant(epoch, tf.int64)
    spans = chunks(order, first_batch_of(order, epoch))
    parts = [records_at(order, epoch, tf.range(begin, end)).numpy() for begin, end in spans]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def an_order(num_records, batch_size=4, *, block=1, window=16, whole=False, host=0, hosts=1, **fields):
    positions = num_records if whole else num_records // batch_size // hosts * batch_size
    return Order(
        num_records, positions, batch_size, host, hosts, 5, True, block_records=block, window_records=window, **fields
    )


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 4), st.integers(0, 3))
def test_every_epoch_is_a_permutation_in_blocks_too(num_records, block, blocks_a_window, epoch):
    block = min(block, num_records)
    order = an_order(num_records, block=block, window=block * blocks_a_window, whole=True)
    assert sorted(records(order, epoch)) == list(range(num_records))


@pytest.mark.parametrize(("block", "window"), [(1, 16), (4, 32), (16, 16), (7, 21)])
@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_hosts_rebuild_the_order_of_one(block, window, hosts):
    num_records, batch_size = 203, 4
    one = records(an_order(num_records, batch_size, block=block, window=window))
    shares = [
        records(an_order(num_records, batch_size, block=block, window=window, host=host, hosts=hosts)).reshape(-1, 4)
        for host in range(hosts)
    ]
    assert len({len(share) for share in shares}) == 1
    merged = np.stack(shares, 1).ravel()
    np.testing.assert_array_equal(merged, one[: len(merged)])
    assert len(one) - len(merged) < hosts * batch_size


@settings(max_examples=15)
@given(st.integers(1, 16), st.integers(1, 4), st.integers(0, 200), st.sampled_from([1, 2, 3]))
def test_a_start_at_any_step_gives_the_rest_of_the_epoch(block, blocks_a_window, step, hosts):
    order = an_order(150, 4, block=block, window=block * blocks_a_window, host=hosts - 1, hosts=hosts)
    resumed = dataclasses.replace(order, start_step=step)
    epoch, batch = divmod(step, order.num_batches)
    np.testing.assert_array_equal(records(resumed, epoch), records(order, epoch)[batch * 4 :])
    np.testing.assert_array_equal(records(resumed, epoch + 1), records(order, epoch + 1))
    assert int(first_batch_of(resumed, tf.constant(epoch, tf.int64))) == batch


def test_a_host_counts_the_global_batches_that_are_its_own():
    order = an_order(100, 4, host=1, hosts=2, start_step=3)
    first = first_batch_of(order, tf.constant(0, tf.int64))
    numbers = [int(number) for number in global_batches(order, first)]
    assert numbers == [7, 9, 11, 13, 15, 17, 19, 21, 23]


def test_blocks_differ_from_epoch_to_epoch_where_they_begin():
    order = an_order(64, 4, block=8, window=8, whole=True)
    begins = {min(records(order, epoch)[:8]) % 8 for epoch in range(6)}
    assert len(begins) > 1


def test_neighbours_of_a_block_lie_in_one_window():
    order = an_order(256, 4, block=8, window=64, whole=True)
    first = set(records(order)[:64])
    assert sum(number + 1 in first for number in first) >= 64 - 64 // 8 - 1


# ---- drawn by weight


def test_groups_get_their_quotas_and_no_record_comes_again_before_all_have_come():
    groups = Groups(np.arange(100), (10, 90), (50, 50))
    drawn = records(an_order(100, whole=True, groups=groups))
    counts = np.bincount(drawn, minlength=100)
    assert (counts[:10] == 5).all()
    assert counts[10:].max() == 1
    assert counts[10:].sum() == 50


def test_members_of_a_group_are_records_of_any_number():
    groups = Groups(np.array([3, 7, 1, 9]), (2, 2), (8, 2))
    drawn = records(an_order(10, whole=True, groups=groups))
    assert sorted(drawn[np.isin(drawn, [3, 7])]) == [3] * 4 + [7] * 4
    assert sorted(drawn[np.isin(drawn, [1, 9])]) == [1, 9]


def test_drawn_orders_are_sought_and_shared_too():
    groups = Groups(np.arange(60), (20, 40), (30, 30))
    one = records(an_order(60, 4, groups=groups))
    np.testing.assert_array_equal(records(an_order(60, 4, groups=groups, start_step=6)), one[24:])
    shares = [records(an_order(60, 4, groups=groups, host=host, hosts=2)).reshape(-1, 4) for host in range(2)]
    merged = np.stack(shares, 1).ravel()
    np.testing.assert_array_equal(merged, one[: len(merged)])


def test_iterations_that_begin_at_once_get_epochs_of_their_own():
    numbers = epochs(EpochCounter(an_order(16, start_step=8)))

    def begin(_):
        return [int(number) for number in numbers]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(begin, range(80)))
    assert sorted(found) == [[number] for number in range(2, 82)]
