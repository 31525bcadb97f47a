"""Work in threads with its results in order and its memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_ordered(function: Callable[[_In], _Out], items: Iterable[_In], *, threads: int, ahead: int) -> Iterator[_Out]:
    """Yields the function of each item, in order.

    Args:
      function: called in one of the threads, or in this one where there is only one.
      items: not read until there is room for them among those under way.
      threads: how many calls run at once.
      ahead: how many items are under way or done and not yet yielded, at most.
    """
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
