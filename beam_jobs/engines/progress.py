"""A progress bar for a conversion on any runner: it shows how the state folder grows."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from tfpipe.cli.progress import progress

_POLL_SECONDS = 0.2


class WatchedProgress:
    """Shows bytes written, rate and time left on stderr while a `with` block runs; silent where that is no terminal."""

    def __init__(self, state: Path, total_bytes: int, total_records: int, *, quiet: bool = False) -> None:
        self._state, self._total, self._records = state, max(total_bytes, 1), total_records
        self._counts: dict[str, int] = {}
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
        with progress("writing", total=self._total, completed=self._written(), in_bytes=True) as update:
            while not self._stop.wait(_POLL_SECONDS):
                written = min(self._written(), self._total)
                images = round(self._records * written / self._total)
                update(completed=written, description=f"writing {images:,} images{self._refused()}")
            update(completed=self._total, description=f"writing {self._records:,} images{self._refused()}")

    def _refused(self) -> str:
        """How many inputs were refused in the shards that are done, as the sidecars tell; "" where none was."""
        with contextlib.suppress(OSError, ValueError):
            for path in self._state.glob("*.json"):
                if path.name not in self._counts:
                    self._counts[path.name] = len(json.loads(path.read_bytes()).get("refused", ()))
        count = sum(self._counts.values())
        return f", {count:,} refused" if count else ""

    def _written(self) -> int:
        try:
            with os.scandir(self._state) as found:
                return sum(entry.stat().st_size for entry in found if entry.name.endswith((".tfrecord", ".draft")))
        except OSError:
            return 0
