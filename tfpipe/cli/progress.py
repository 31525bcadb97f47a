"""The progress bar of all verbs, on stderr: shown on a terminal, silent elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO

from tfpipe.quiet import load_tensorflow


@contextlib.contextmanager
def progress(
    description: str, *, total: int | None = None, completed: int = 0, in_bytes: bool = False, quiet: bool = False
) -> Iterator[Callable[..., Any]]:
    """Shows a bar while a `with` block runs.

    Args:
      description: the text in front of the bar.
      total: the number of steps; None if it is not known.
      completed: the steps that were done before: they do not count for the rate.
      in_bytes: steps are bytes: sizes, the rate and the time left are shown.
      quiet: show nothing on a terminal either.

    Yields:
      A function that moves the bar: (advance=1), or (completed=, description=).
    """
    if quiet or not sys.stderr.isatty():
        yield lambda **changes: None
        return
    # Loading rich takes 0.1 s, and most runs have no terminal.
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    class Rate(bars.ProgressColumn):
        """Steps a second, so far."""

        def render(self, task: bars.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.{1 if speed < 10 else 0}f}/s")

    counts = (bars.MofNCompleteColumn(), Rate())
    numbers = (bars.DownloadColumn(), bars.TransferSpeedColumn()) if in_bytes else counts
    columns = (*bars.Progress.get_default_columns()[:-1], *numbers, bars.TimeRemainingColumn())
    with _own_stderr() as stderr, bars.Progress(*columns, console=Console(file=stderr)) as bar:
        yield partial(bar.update, bar.add_task(description, total=total, completed=completed))


@contextlib.contextmanager
def step_bar(description: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that moves a bar to (done, of all); see progress."""
    with progress(description, quiet=quiet) as update:
        yield lambda done, total: update(completed=done, total=total)


@contextlib.contextmanager
def status(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Says on a terminal what takes its time, while a `with` block runs that has no steps; then the line is gone."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with _own_stderr() as stderr, Console(file=stderr).status(text):
        yield


def start_tensorflow(*, quiet: bool = False) -> None:
    """Imports TensorFlow without its messages; a terminal says so, for that takes some seconds."""
    with status("starting TensorFlow", quiet=quiet):
        load_tensorflow()


@contextlib.contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """Stderr on a descriptor of its own: a conversion holds back what comes to the common one while it decodes."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # Something that stands for stderr.
        yield sys.stderr
    else:
        with os.fdopen(descriptor, "w") as own:
            yield own
