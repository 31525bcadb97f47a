"""CPU seconds of running processes, read from /proc, to 10 ms. Peers use it in environments without tfpipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    own_ticks: int
    children_ticks: int  # Of children that ended and were waited for.


def tree_cpu_seconds(root: int) -> float:
    """CPU seconds of a process and of all that it started, ended ones included."""
    processes = list(_processes())
    tree = {root}
    while grown := {one.pid for one in processes if one.parent in tree} - tree:
        tree |= grown
    return sum(one.own_ticks + one.children_ticks for one in processes if one.pid in tree) / _TICKS_PER_SECOND


def session_cpu_seconds(session: int) -> float:
    """CPU seconds of all living processes of a session: a row and its workers."""
    return sum(one.own_ticks for one in _processes() if one.session == session) / _TICKS_PER_SECOND


def _processes() -> Iterator[_Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # It ended between the listing and the reading.
            own, children = (sum(map(int, fields[at : at + 2])) for at in (11, 13))
            yield _Process(int(entry.name), int(fields[1]), int(fields[3]), own, children)
