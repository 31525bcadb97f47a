"""What each thread of this process has used: CPU time, and the bytes that it read; how long it waited for a core."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_TASKS = Path("/proc/self/task")


class ThreadUse(NamedTuple):
    """CPU time of a thread, the time that it waited for a core, the bytes that it read from files; since it began."""

    cpu_seconds: float
    waiting_seconds: float
    read_bytes: int


def thread_uses() -> dict[int, ThreadUse]:
    """The use of each living thread by its id; empty where the system does not tell (any but Linux)."""
    found = {}
    for thread in os.listdir(_TASKS) if _TASKS.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):  # It ended between the listing and the reading.
            running, waiting, _ = map(int, (_TASKS / thread / "schedstat").read_text().split())
            found[int(thread)] = ThreadUse(running / 1e9, waiting / 1e9, _read_bytes(thread))
    return found


def _read_bytes(thread: str) -> int:
    with contextlib.suppress(OSError):  # A kernel may count no bytes.
        return int((_TASKS / thread / "io").read_text().split()[1])
    return 0


class Threads(NamedTuple):
    """What the threads of a process did between two moments.

    Attributes:
      busiest_seconds: the CPU time of the thread that has most.
      busiest_waiting: the seconds that it waited for a core.
      busiest_share: its share of the bytes that all threads read.
      wanted_seconds: CPU time of all threads and the time that they waited for a core, of this process or another one.
    """

    busiest_seconds: float
    busiest_waiting: float
    busiest_share: float
    wanted_seconds: float


def summarize_threads(before: Mapping[int, ThreadUse], after: Mapping[int, ThreadUse]) -> Threads | None:
    """What those threads did that lived at the second moment; None if the system tells of none."""
    begun = {thread: before.get(thread, ThreadUse(0, 0, 0)) for thread in after}
    used = [
        ThreadUse(
            use.cpu_seconds - begun[thread].cpu_seconds,
            use.waiting_seconds - begun[thread].waiting_seconds,
            use.read_bytes - begun[thread].read_bytes,
        )
        for thread, use in after.items()
    ]
    if not used:
        return None
    most, num_bytes = max(used), sum(use.read_bytes for use in used)
    wanted = sum(use.cpu_seconds + use.waiting_seconds for use in used)
    return Threads(most.cpu_seconds, most.waiting_seconds, most.read_bytes / max(num_bytes, 1), wanted)
