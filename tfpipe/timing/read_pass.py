"""A pass that only reads: batches are taken for a while and dropped.

Any iterable of batches will do, and nothing here is more than the standard library: benchmarks run it in environments
of other packages, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from tfpipe.timing.threads import Threads, summarize_threads, thread_uses

_CLOCK_SECONDS = 0.1


class ReadPass(NamedTuple):
    """Batches taken for a while, with nothing done to them, from the first one on.

    Attributes:
      images: the number of images after the first batch.
      wall_seconds, cpu_seconds: in which they came; CPU time of the process.
      threads: what the threads did in the first `seen_seconds` of it, for `seen_images` images. None where the system
        does not tell.
    """

    images: int
    wall_seconds: float
    cpu_seconds: float
    threads: Threads | None = None
    seen_images: int = 0
    seen_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.wall_seconds

    @property
    def cpu_microseconds(self) -> float:
        """CPU time per image."""
        return self.cpu_seconds / self.images * 1e6

    @property
    def busiest_microseconds(self) -> float:
        """CPU time per image of the busiest thread; infinite where it is not known."""
        return self.threads.busiest_seconds / self.seen_images * 1e6 if self.threads else math.inf

    @property
    def wall_microseconds(self) -> float:
        """Wall time per image."""
        return 1e6 / self.rate

    @property
    def unhindered_microseconds(self) -> float:
        """Wall time per image, less what the busiest thread waited for a core."""
        if self.threads is None:
            return self.wall_microseconds
        waiting = self.threads.busiest_waiting / self.seen_images * 1e6
        return min(max(self.wall_microseconds - waiting, self.busiest_microseconds), self.wall_microseconds)

    @property
    def cores_wanted(self) -> float:
        """The number of cores that the threads would have kept busy; those that they did, where no more is known."""
        return self.threads.wanted_seconds / self.seen_seconds if self.threads else self.cpu_seconds / self.wall_seconds


def read_pass(batches: Iterable[Any], batch_size: int, seconds: float) -> ReadPass:
    """Takes batches until the time is over, or the epoch; the first one is not timed where there are more."""
    one = _take(batches, batch_size, seconds, skip=1)
    return one if one.images else _take(batches, batch_size, seconds, skip=0)


def _take(batches: Iterable[Any], batch_size: int, seconds: float, *, skip: int) -> ReadPass:
    iterator = iter(batches)
    for _ in range(skip):
        next(iterator, None)
    cpu, wall, before = time.process_time(), time.perf_counter(), thread_uses()
    count, looked, seen = 0, wall, None
    for _ in iterator:
        count += batch_size
        now = time.perf_counter()
        # Looked at in between: at the end of an epoch threads are gone, and what they used with them.
        if now - looked >= min(_CLOCK_SECONDS, seconds):
            threads, looked = summarize_threads(before, thread_uses()), now
            seen = (threads, count, now - wall)
        if now - wall >= seconds:
            break
    return ReadPass(count, time.perf_counter() - wall, time.process_time() - cpu, *seen or ())
