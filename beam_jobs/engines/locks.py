"""One writer at a time: a lock of the kernel on an output folder, or in a store an object that names the writer.

The kernel frees the lock of a killed process; an object stays. It names its process, so that the next run on the same
machine sees that the process is gone, and takes the lock over. Another machine can't know whether the process is
alive: then the error says whose lock it is and since when, and whether to remove it is the user's decision.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfpipe.errors import SetupError
from tfpipe.format.manifest import STATE_NAME
from tfpipe.storage import AnyPath, StorePath, make_folder, remove_drafts

LOCK_NAME = "_lock.json"
# In the state: the folder that a source may copy its images into first.
SPOOL_NAME = "spool"


@contextlib.contextmanager
def lock_output(output: AnyPath, *, fsync: bool = True) -> Iterator[None]:
    """Holds an output against other writers, and removes the drafts of those that were killed.

    A folder is made where there is none; with `fsync`, as make_folder does.

    Raises:
      SetupError: another conversion holds it.
    """
    with _lock_folder(output, fsync) if isinstance(output, Path) else _lock_store(output):
        yield


@contextlib.contextmanager
def _lock_folder(output: Path, fsync: bool) -> Iterator[None]:
    """Holds a folder; the lock goes with the process, even when that is killed."""
    make_folder(output, fsync=fsync)
    handle = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SetupError(
            f"Another conversion is writing to {output}; wait for it, or choose another --output."
        ) from error
    else:
        for folder in (output, output / STATE_NAME, output / STATE_NAME / SPOOL_NAME):
            remove_drafts(folder)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _lock_store(output: StorePath) -> Iterator[None]:
    lock = output / LOCK_NAME
    _take(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _take(lock: StorePath) -> None:
    mine = json.dumps({**_identity(os.getpid()), "since": datetime.now(UTC).isoformat(timespec="seconds")}).encode()
    try:
        lock.create_bytes(mine)
    except FileExistsError:
        _take_over(lock, mine)


def _take_over(lock: StorePath, mine: bytes) -> None:
    """Replaces a lock whose process is gone."""
    owner = _read(lock)
    if not _is_gone(owner):
        raise SetupError(
            f"Another conversion is writing to {lock.parent}: process {owner.get('process')} on {owner.get('host')}, "
            f"since {owner.get('since')}; wait for it, or choose another --output. If it was killed, remove {lock}, "
            "and go on with --resume."
        )
    # Of several that see the same lock left behind, one creates the next.
    lock.unlink(missing_ok=True)
    try:
        lock.create_bytes(mine)
    except FileExistsError as error:
        raise SetupError(f"Another conversion has just begun to write to {lock.parent}; wait for it.") from error


def _read(lock: StorePath) -> dict[str, Any]:
    try:
        return dict(json.loads(lock.read_text()))
    except (ValueError, TypeError, FileNotFoundError):
        return {}


def _identity(process: int) -> dict[str, Any]:
    """The values that identify a process: its machine, boot, container, number and start."""
    space = os.readlink("/proc/self/ns/pid")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # After the name in brackets, which may hold anything; the 22nd value is the start, in ticks since the boot.
    started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return {"host": socket.gethostname(), "boot": boot, "space": space, "process": process, "started": started}


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether an owner is a process of this machine that ended."""
    here = _identity(os.getpid())
    if any(owner.get(name) != here[name] for name in ("host", "boot", "space")):
        return False
    try:
        return _identity(int(owner["process"]))["started"] != owner.get("started")
    except (OSError, ValueError, TypeError, KeyError):
        return True
