"""The two Beam graphs of a conversion: index the pieces of a listing, write the shards of a plan.

Each is one line from source to sink. With branches Dask runs only the last sink, silently, and with a side input it
repeats the main input; a plan that lies in a file between two linear graphs avoids both. Everything that crosses a
shuffle here is a small number.
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
from beam_jobs.engines.staging import StagedIndexing, StagedWriting, Staging
from beam_jobs.engines.workers import IndexWork, ShardWriting, Work, num_helpers, share
from beam_jobs.job import Job
from beam_jobs.plan import Indexing, Plan
from beam_jobs.sources import Source
from tfpipe.errors import SetupError, UsageError
from tfpipe.storage import AnyPath, to_path

_PROBLEM_NAME = "problem.txt"
# Taken before the work begins: a disk that fills up has no room left for the sentence that says so.
_PROBLEM_BYTES = 8192
_MOST_TEXT = 2000


class ShareWork(beam.DoFn):
    """Does the items of a bundle together, so that several processes can share them."""

    def __init__(self, work: Work, state: str, helpers: int) -> None:
        self._work, self._state, self._helpers = work, state, helpers
        self._items: list[Any] = []

    def start_bundle(self) -> None:
        """Begins a bundle."""
        self._items = []

    def process(self, element: Any) -> None:
        self._items.append(element)

    def finish_bundle(self) -> None:
        """Does the bundle's items."""
        with _noting_problems(to_path(self._state)):
            share(self._work, self._items, helpers=self._helpers)


@contextlib.contextmanager
def _noting_problems(state: AnyPath) -> Iterator[None]:
    """Leaves the sentence of an expected error in the state folder: runners hand back a traceback as one long text."""
    try:
        yield
    except (OSError, SetupError, UsageError) as error:
        text = str(error)
        if isinstance(error, OSError):
            # NumPy's error has no number where the disk takes only part of an array.
            text = f"{error.filename or state.parent}: {error.strerror or f'No space left on device ({error})'}"
        note = json.dumps({"kind": type(error).__name__, "text": text[:_MOST_TEXT]}, ensure_ascii=False)
        _leave_note(state / _PROBLEM_NAME, note.encode("utf-8", "backslashreplace").ljust(_PROBLEM_BYTES))
        raise


def _leave_note(place: AnyPath, note: bytes) -> None:
    """Writes a note of full length, as far as that can be done.

    Over the blanks that are there, in one call: of two workers with problems, either's sentence comes out whole.
    """
    _NOTES_HERE[str(place)] = note
    if isinstance(place, Path):
        with contextlib.suppress(OSError), open(place, "r+b", buffering=0) as file:
            file.write(note)
    else:
        with contextlib.suppress(SetupError):
            place.write_bytes(note)


# The last note of this process for each place: a store that failed can't take a note either.
_NOTES_HERE: dict[str, bytes] = {}


def index_listing(pieces: Sequence[Any], indexing: Indexing, job: Job, staging: Staging | None = None) -> None:
    """Runs the first graph: every piece of the listing to sorted runs of references, in the folder indexing.runs."""
    Path(indexing.runs).mkdir(parents=True)
    state: AnyPath = Path(indexing.runs).parent
    work: Work = IndexWork(indexing)
    if staging is not None:
        state, work = staging.state, StagedIndexing(indexing, staging)
        staging.clear_runs()
    _run("Index", list(enumerate(pieces)), ShareWork(work, str(state), num_helpers(job)), job.beam_args, state)
    if staging is not None:
        staging.fetch_runs()


def write_shards(
    numbers: Sequence[int], job: Job, plan: Plan, source: Source, folder: Path, staging: Staging | None = None
) -> None:
    """Runs the second graph: the shards of those numbers, each by one call; the sidecars come into the folder."""
    state: AnyPath = folder
    work: Work = ShardWriting(job, plan, source, str(folder))
    if staging is not None:
        state, work = staging.state, StagedWriting(ShardWriting(job, plan, source, str(folder)), staging)
    _run("Write", list(numbers), ShareWork(work, str(state), num_helpers(job)), job.beam_args, state)
    if staging is not None:
        staging.fetch_sidecars(plan)


def _run(name: str, elements: list[Any], work: beam.DoFn, beam_args: Sequence[str], state: AnyPath) -> None:
    runner, options = open_runner(beam_args)
    # Beam logs the traceback of an error and raises it as well.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create(elements) | beam.Reshuffle() | name >> beam.ParDo(work)
    with _raising_problems(state / _PROBLEM_NAME), _collecting_little():
        result = pipeline.run()
        try:
            result.wait_until_finish()
        finally:
            # Dask's result holds a client, and with it the cluster that it may have started for this graph.
            if hasattr(result, "client"):
                result.client.close()


@contextlib.contextmanager
def _collecting_little() -> Iterator[None]:
    """Keeps what is there out of garbage collection: looking through Beam's objects takes 65 ms each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _raising_problems(problem: AnyPath) -> Iterator[None]:
    """Raises what a worker noted in place of what the runner made of it."""
    problem.write_bytes(bytes(_PROBLEM_BYTES))
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
    """Whether an error began as Ctrl-C: Beam turns what stops a step, even that, into a RuntimeError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _noted_problem(note: bytes) -> Exception:
    noted = json.loads(note)
    kind = UsageError if noted["kind"] == "UsageError" else SetupError
    return kind(f"{noted['text'].rstrip('.')}.")
