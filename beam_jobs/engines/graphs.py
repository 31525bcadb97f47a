"""The two Beam graphs of a conversion: list the pieces of the input, write the shards of a plan.

Each is one line from source to sink. With branches Dask runs only the last sink, silently, and with a side input it
repeats the main input; a plan that is stored in a file between two linear graphs avoids both. Everything that crosses
a shuffle here is a small number.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from beam_jobs.engines.runners import open_runner
from beam_jobs.engines.staging import State
from beam_jobs.engines.workers import WorkerTask, WritingTask, num_helpers, run_all
from beam_jobs.job import Job
from beam_jobs.plan import ListingScan, Plan
from beam_jobs.sources import Source
from tfpipe.errors import DataError, SetupError, UsageError
from tfpipe.storage import AnyPath, to_path, write_file

_PROBLEM_NAME = "problem.txt"
# Allocated before the work begins: a full disk has no room left for the message that says so.
_PROBLEM_BYTES = 8192
_MOST_TEXT = 2000


class RunTask(beam.DoFn):
    """Runs a task for all items of a bundle together, so that several processes can share them."""

    def __init__(self, task: WorkerTask, state: str, helpers: int) -> None:
        self._task, self._state, self._helpers = task, state, helpers
        self._items: list[Any] = []

    def start_bundle(self) -> None:
        """Begins a bundle."""
        self._items = []

    def process(self, element: Any) -> None:
        self._items.append(element)

    def finish_bundle(self) -> None:
        """Runs the task for the bundle's items."""
        with _note_problems(to_path(self._state)):
            run_all(self._task, self._items, helpers=self._helpers)


@contextlib.contextmanager
def _note_problems(state: AnyPath) -> Iterator[None]:
    """Leaves the message of an expected error in the state folder: runners return a traceback as one long text."""
    try:
        yield
    except (OSError, DataError, SetupError, UsageError, MemoryError) as error:
        text = str(error)
        if isinstance(error, MemoryError):
            text = f"There is not enough memory: {text or 'a smaller --threads takes less'}"
        elif isinstance(error, OSError) and not isinstance(error, DataError | UsageError):
            # NumPy's error has no number where the disk takes only part of an array.
            full = "No space left on device: " if text.endswith(" written") else ""
            text = f"{error.filename or state.parent}: {full}{error.strerror or text}"
        kind = next((kind for kind in (DataError, UsageError) if isinstance(error, kind)), SetupError)
        note = json.dumps({"kind": kind.__name__, "text": text[:_MOST_TEXT]}, ensure_ascii=False)
        _leave_note(state / _PROBLEM_NAME, note.encode("utf-8", "backslashreplace").ljust(_PROBLEM_BYTES))
        raise


def _leave_note(path: AnyPath, note: bytes) -> None:
    """Writes a note of full length, where that is possible.

    It overwrites the blanks that are there in one call: of two workers with problems, one's message comes out whole.
    """
    _NOTES_HERE[str(path)] = note
    if isinstance(path, Path):
        with contextlib.suppress(OSError), open(path, "r+b", buffering=0) as file:
            file.write(note)
    else:
        with contextlib.suppress(SetupError):
            path.write_bytes(note)


# The last note of this process for each path: a store that failed can't take a note either.
_NOTES_HERE: dict[str, bytes] = {}


def run_listing(pieces: Sequence[Any], scan: ListingScan, job: Job, state: State) -> None:
    """Runs the first graph: every piece of the listing to sorted runs of references, in the state's folder."""
    with state.listing(scan) as task:
        shared = RunTask(task, str(state.place), num_helpers(job))
        _run("List", list(enumerate(pieces)), shared, job.beam_args, state.place)


def write_shards(numbers: Sequence[int], job: Job, plan: Plan, source: Source, state: State, digest: str) -> None:
    """Runs the second graph: writes the shards of those numbers, each in one call; their sidecars are in the folder.

    `digest` is the plan's, which the sidecars carry.
    """
    with state.writing(WritingTask(job, plan, source, str(state.folder), digest)) as task:
        shared = RunTask(task, str(state.place), num_helpers(job))
        _run("Write", list(numbers), shared, job.beam_args, state.place)


def _run(name: str, elements: list[Any], task: beam.DoFn, beam_args: Sequence[str], state: AnyPath) -> None:
    runner, options = open_runner(beam_args)
    # Beam logs the traceback of an error and raises it as well.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create(elements) | beam.Reshuffle() | name >> beam.ParDo(task)
    with _raise_noted_problems(state / _PROBLEM_NAME), _freeze_garbage_collection():
        result = pipeline.run()
        try:
            result.wait_until_finish()
        finally:
            # Dask's result holds a client, and with it the cluster that it may have started for this graph.
            if hasattr(result, "client"):
                result.client.close()


@contextlib.contextmanager
def _freeze_garbage_collection() -> Iterator[None]:
    """Keeps existing objects out of garbage collection: scanning Beam's objects takes 65 ms each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _raise_noted_problems(problem: AnyPath) -> Iterator[None]:
    """Raises the error that a worker noted instead of the runner's own."""
    write_file(problem, bytes(_PROBLEM_BYTES))
    _NOTES_HERE.pop(str(problem), None)
    try:
        yield
    except Exception as error:
        noted = (_NOTES_HERE.pop(str(problem), b"") or problem.read_bytes()).strip(b"\0 ")
        if noted:
            raise _noted_problem(noted) from error
        if _was_interrupted(error):
            raise KeyboardInterrupt from None
        raise
    finally:
        with contextlib.suppress(SetupError):
            problem.unlink(missing_ok=True)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error began as Ctrl-C, which Beam turns into a RuntimeError as it does with any error of a step."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _noted_problem(note: bytes) -> Exception:
    noted = json.loads(note)
    kind = {"UsageError": UsageError, "DataError": DataError}.get(noted["kind"], SetupError)
    return kind(f"{noted['text'].rstrip('.')}.")
