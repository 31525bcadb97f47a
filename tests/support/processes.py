"""`tfpipe convert` in a process of its own, that a test can kill; and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from pictures import fill_folder

from tfpipe.format.manifest import STATE_NAME

CLASSES = ("cat", "dog", "emu")
DEADLINE_SECONDS = 120


def fill_with_links(root: Path, distinct: int, copies: int) -> Path:
    """Three classes of distinct x copies files, where every copy is a hard link: a large folder of small means."""
    photos = fill_folder(root / "photos", CLASSES, distinct)
    for name in CLASSES:
        for copy in range(copies):
            folder = root / "links" / name / f"{copy:05d}"
            folder.mkdir(parents=True)
            for photo in (photos / name).iterdir():
                os.link(photo, folder / photo.name)
    return root / "links"


@dataclass(frozen=True)
class Scene:
    """A folder of many small files, and what an undisturbed conversion of it gives."""

    source: Path
    expected: dict[str, str]
    seconds: float


def start(source: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts a raw conversion into shards of 1 MB by two processes."""
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(source), "--output", str(output)]
    command += ["--target_bytes", "1MB", "--threads", "2", "--max_rejected", "0", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process that is left to end, and what it says on stderr."""
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, errors


def run(source: Path, output: Path, *flags: str) -> None:
    """Runs a conversion that has to go well."""
    code, errors = finish(start(source, output, *flags))
    assert code == 0, errors


def wait_for_state(process: subprocess.Popen[str], output: Path) -> bool:
    """Waits until a conversion has begun to work; False where it ended before that was seen."""
    while process.poll() is None:
        if (output / STATE_NAME / "runs").exists():
            return True
        time.sleep(0.002)
    return False


def kill(process: subprocess.Popen[str]) -> bool:
    """kill -9 of the process alone; its helpers have to die of it. False where it had ended already."""
    helpers = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    finish(process)
    deadline = time.monotonic() + 5
    while any(map(_is_alive, helpers)):
        assert time.monotonic() < deadline, f"helpers {helpers} outlive their parent"
        time.sleep(0.005)
    return process.returncode == -signal.SIGKILL


def _children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in lists for child in text.split()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def digests_of(output: Path) -> dict[str, str]:
    """The digest of every file below a folder: the whole folder as a value."""
    return {
        str(path.relative_to(output)): xxhash.xxh3_128_hexdigest(path.read_bytes())
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


@contextmanager
def killed_in_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the test, whatever the test finds."""
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)


def process(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python to its end."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=100, **options
    )
