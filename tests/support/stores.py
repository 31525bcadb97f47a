"""Stores behind URLs for the tests: memory:// of this process, and one that fails on demand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from beam_jobs.engines.locks import LOCK_NAME
from tfpipe.storage import to_path


def new_store() -> str:
    """A URL of this process's memory that nothing else uses."""
    return f"memory://box-{uuid4().hex}"


def upload(folder: Path, url: str) -> str:
    """Copies a folder's files below a URL, or a single file to it; returns the URL."""
    fs, top = fsspec.core.url_to_fs(url)
    if folder.is_file():
        fs.pipe_file(top, folder.read_bytes())
        return url
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{top}/{path.relative_to(folder)}", path.read_bytes())
    return url


def objects_of(url: str) -> dict[str, bytes]:
    """Every object below a URL, by its path: what pictures.files_of is for a folder."""
    fs, top = fsspec.core.url_to_fs(url)
    return {path[len(top) + 1 :]: fs.cat_file(path) for path in sorted(fs.find(top))}


@pytest.fixture
def store() -> Iterator[str]:
    """A store of the test's own, emptied afterwards."""
    url = new_store()
    yield url
    fs, top = fsspec.core.url_to_fs(url)
    if fs.exists(top):
        fs.rm(top, recursive=True)


class LostError(Exception):
    """Stands for whatever ends a run or cuts it off from its store."""


# Everything that changes a store of fsspec.
CHANGES = ("pipe_file", "put_file", "cp_file", "rm_file", "rm")


def watch_changes(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None], after: Callable[[int], None]) -> None:
    """Has functions called before and after every change of a store in memory, with its number from 0."""
    numbers = count()
    depth = 0  # Of a driver's methods, some are made of others.

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            if depth:
                return real(*arguments, **options)
            number = next(numbers)
            before(number)
            depth += 1
            try:
                result = real(*arguments, **options)
            finally:
                depth -= 1
            after(number)
            return result

        return change

    for name in CHANGES:
        monkeypatch.setattr(MemoryFileSystem, name, watched(getattr(MemoryFileSystem, name)))


def leave_lock_of_a_dead_process(url: str) -> None:
    """Makes the lock at a place that of a process that ended; nothing where there is no lock."""
    lock = to_path(url) / LOCK_NAME
    if lock.exists():
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            pass
        lock.write_bytes(json.dumps({**json.loads(lock.read_text()), "process": process.pid}).encode())
