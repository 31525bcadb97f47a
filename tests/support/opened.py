"""The files that some code opens, whoever opens them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HEARERS: list[list[str]] = []
_HOOKS: list[Any] = []  # An audit hook stays for as long as the process.


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        for paths in _HEARERS:
            paths.append(str(arguments[0]))


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths that this process opens within the block, in order."""
    if not _HOOKS:
        _HOOKS.append(_note)
        sys.addaudithook(_note)
    paths: list[str] = []
    _HEARERS.append(paths)
    try:
        yield paths
    finally:
        _HEARERS.pop()
