"""Results of threads come in the order of the items, and few items are under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from beam_jobs.engines.threads import map_ordered


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.01 * (3 - number % 4))
        return 10 * number

    assert list(map_ordered(slow_first, range(12), threads=4, ahead=6)) == [10 * number for number in range(12)]


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_read_no_further_ahead_than_allowed(threads: int) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            read.append(number)
            yield number

    most = 1 if threads == 1 else 5
    for yielded, _ in enumerate(map_ordered(str, items(), threads=threads, ahead=5)):
        assert len(read) - yielded <= most


def test_one_thread_is_the_caller_s_own() -> None:
    assert list(map_ordered(lambda _: threading.current_thread(), [0], threads=1, ahead=2)) == [threading.main_thread()]


def test_an_error_is_raised_where_its_result_would_come() -> None:
    results = map_ordered(lambda number: 6 // number, [3, 2, 0, 1], threads=2, ahead=4)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
