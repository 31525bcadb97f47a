"""A progress bar for a conversion on any runner: it shows how the state folder grows."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.2


class WatchedProgress:
    """Shows bytes written, rate and time left on stderr while a `with` block runs; silent where that is no terminal."""

    def __init__(self, state: Path, total_bytes: int, total_records: int, *, quiet: bool = False) -> None:
        self._state, self._total, self._records = state, max(total_bytes, 1), total_records
        self._shown = sys.stderr.isatty() and not quiet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> WatchedProgress:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._shown:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[images]} images"),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(
                "writing", total=self._total, completed=self._written(), images=self._images(self._written())
            )
            while not self._stop.wait(_POLL_SECONDS):
                written = min(self._written(), self._total)
                bar.update(task, completed=written, images=self._images(written))
            bar.update(task, completed=self._total, images=self._records)

    def _images(self, written: int) -> int:
        return round(self._records * written / self._total)

    def _written(self) -> int:
        try:
            with os.scandir(self._state) as found:
                return sum(entry.stat().st_size for entry in found if entry.name.endswith((".tfrecord", ".draft")))
        except OSError:
            return 0
