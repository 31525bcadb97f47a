"""The two Beam graphs of a conversion: index the pieces of a listing, write the shards of a plan.

Each is one line from source to sink. With branches Dask runs only the last sink, silently, and with a side input it
repeats the main input; a plan that lies in a file between two linear graphs avoids both. Everything that crosses a
shuffle here is a small number.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.options import Job
from beam_jobs.plan import Indexing, Plan
from beam_jobs.sources import Source
from beam_jobs.staging import StagedIndexing, StagedWriting, Staging
from beam_jobs.workers import IndexWork, ShardWriting, Work, num_helpers, share
from tfpipe.errors import SetupError, UsageError
from tfpipe.storage import Place, as_place

_PROBLEM_NAME = "problem.txt"
# Taken before the work begins: a disk that fills up has no room left for the sentence that says so.
_PROBLEM_BYTES = 8192
_MOST_TEXT = 2000

_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_PARTITIONS = ("--dask_npartitions", "--dask_partition_size")
# What --runner takes, by short name: all that Beam lists itself, and Dask, which it leaves out.
RUNNERS = {path.rpartition(".")[2]: path for path in (*StandardOptions.ALL_KNOWN_RUNNERS, _DASK)}


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
        with _noting_problems(as_place(self._state)):
            share(self._work, self._items, helpers=self._helpers)


@contextlib.contextmanager
def _noting_problems(state: Place) -> Iterator[None]:
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


def _leave_note(place: Place, note: bytes) -> None:
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
    state: Place = Path(indexing.runs).parent
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
    state: Place = folder
    work: Work = ShardWriting(job, plan, source, str(folder))
    if staging is not None:
        state, work = staging.state, StagedWriting(ShardWriting(job, plan, source, str(folder)), staging)
    _run("Write", list(numbers), ShareWork(work, str(state), num_helpers(job)), job.beam_args, state)
    if staging is not None:
        staging.fetch_sidecars(plan)


def _run(name: str, elements: list[Any], work: beam.DoFn, beam_args: Sequence[str], state: Place) -> None:
    runner, options = _open_runner(beam_args)
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
def _raising_problems(problem: Place) -> Iterator[None]:
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


# ---- runners and their options


def _open_runner(beam_args: Sequence[str]) -> tuple[Any, PipelineOptions]:
    """The runner that Beam's options name, and the options. Its module is loaded first: it may bring options along."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    named, rest = parser.parse_known_args(list(beam_args))
    # FnApiRunner in memory: "DirectRunner" first tries to download a Go binary.
    runner = FnApiRunner() if named.runner is None else _runner_class(named.runner)()
    if "Dask" in type(runner).__name__ and not any(argument.startswith(_DASK_PARTITIONS) for argument in rest):
        # One element a partition: by default Dask takes 128 at a time, which for shards is all of them on one worker.
        rest.append("--dask_partition_size=1")
    return runner, _pipeline_options(rest if named.runner is None else [*rest, f"--runner={named.runner}"])


def _runner_class(name: str) -> Any:
    by_short_name = {short.lower(): path for short, path in RUNNERS.items()}
    short = name.lower()
    path = by_short_name.get(short) or by_short_name.get(f"{short}runner") or name
    module, dot, attribute = path.rpartition(".")
    if not dot:
        known = sorted(RUNNERS)
        raise UsageError(f"Beam has no runner {name!r}; --runner takes one of {known}, or a class by its full path.")
    try:
        if path == _DASK:
            importlib.import_module("distributed")  # Beam's own module loads without it, and fails later.
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        hint = "pip install 'tfpipe[dask]'" if path == _DASK else "it takes an extra of apache-beam"
        raise SetupError(f"--runner {name!r} can't be loaded: {error}; {hint}.") from error
    except AttributeError as error:
        raise UsageError(f"--runner {name!r}: the module {module} has no {attribute}.") from error


def _pipeline_options(beam_args: Sequence[str]) -> PipelineOptions:
    """Beam's options, all of them known: Beam itself drops one that is misspelt."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in _all_subclasses(PipelineOptions):
        try:
            kind._add_argparse_args(parser)
        except argparse.ArgumentError:
            continue  # Two option classes of Beam define one flag; the first has added it.
    _, unknown = parser.parse_known_args(list(beam_args))
    if unknown:
        raise UsageError(f"Beam has no option {unknown[0]!r}; what follows -- goes to Beam.")
    return PipelineOptions(list(beam_args))


def _all_subclasses(kind: Any) -> Iterator[Any]:
    for child in kind.__subclasses__():
        if "_add_argparse_args" in vars(child):
            yield child
        yield from _all_subclasses(child)
