"""What each thread of this process has used: CPU time, and the bytes that it read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_TASKS = Path("/proc/self/task")


class ThreadUse(NamedTuple):
    """CPU time of a thread and the bytes that it read from files, both since it began."""

    cpu_seconds: float
    read_bytes: int


def thread_uses() -> dict[int, ThreadUse]:
    """The use of each living thread by its id; empty where the system does not tell (any but Linux)."""
    found = {}
    for thread in os.listdir(_TASKS) if _TASKS.is_dir() else ():
        with contextlib.suppress(OSError, ValueError):  # It ended between the listing and the reading.
            nanoseconds = int((_TASKS / thread / "schedstat").read_text().split()[0])
            found[int(thread)] = ThreadUse(nanoseconds / 1e9, _read_bytes(thread))
    return found


def _read_bytes(thread: str) -> int:
    with contextlib.suppress(OSError):  # A kernel may count no bytes.
        return int((_TASKS / thread / "io").read_text().split()[1])
    return 0


class Busiest(NamedTuple):
    """The thread with the most CPU time between two moments, and its share of the bytes that all threads read."""

    cpu_seconds: float
    share_of_bytes: float


def busiest_thread(before: Mapping[int, ThreadUse], after: Mapping[int, ThreadUse]) -> Busiest | None:
    """The busiest thread of those that lived at the second moment; None if the system tells of none."""
    begun = {thread: before.get(thread, ThreadUse(0, 0)) for thread in after}
    used = [
        ThreadUse(use.cpu_seconds - begun[thread].cpu_seconds, use.read_bytes - begun[thread].read_bytes)
        for thread, use in after.items()
    ]
    if not used:
        return None
    most = max(used)
    return Busiest(most.cpu_seconds, most.read_bytes / max(sum(use.read_bytes for use in used), 1))
