"""The two Beam graphs of a conversion: index the pieces of a listing, write the shards of a plan.

Each is one line from source to sink. With branches Dask runs only the last sink, silently, and with a side input it
repeats the main input; a plan that lies in a file between two linear graphs avoids both. Everything that crosses a
shuffle here is a small number.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.options import Job
from beam_jobs.plan import Indexing, Plan, index_piece
from beam_jobs.sources import Source
from beam_jobs.workers import ShardWriting
from tfpipe.errors import SetupError, UsageError

PROBLEM_NAME = "problem.json"


class IndexPieces(beam.DoFn):
    """Writes the runs of each piece of the listing."""

    def __init__(self, indexing: Indexing) -> None:
        self._indexing = indexing

    def process(self, element: tuple[int, Any]) -> Iterator[int]:
        number, piece = element
        with _noting_problems(Path(self._indexing.runs).parent):
            index_piece(self._indexing, number, piece)
        yield number


class WriteShards(beam.DoFn):
    """Writes shards of the plan: each reads, encodes and writes the images of one."""

    def __init__(self, writing: ShardWriting) -> None:
        self._writing = writing
        self._numbers: list[int] = []

    def start_bundle(self) -> None:
        """Begins a bundle: the shards of one are written together, so that several processes can share them."""
        self._numbers = []

    def process(self, element: int) -> None:
        self._numbers.append(element)

    def finish_bundle(self) -> None:
        """Writes the bundle's shards."""
        with _noting_problems(Path(self._writing.state)):
            self._writing.write_all(self._numbers)


class _noting_problems:  # noqa: N801 (used as a function)
    """Leaves the sentence of an expected error in the state folder: runners hand back a traceback as one long text."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | SetupError | UsageError):
            text = str(error)
            if isinstance(error, OSError):
                text = f"{error.filename or self._state.parent}: {error.strerror or error}"
            (self._state / PROBLEM_NAME).write_text(json.dumps({"kind": type(error).__name__, "text": text}))


def index_listing(pieces: Sequence[Any], indexing: Indexing, beam_args: Sequence[str]) -> None:
    """Runs the first graph: every piece of the listing to sorted runs of references."""
    _run("Index", list(enumerate(pieces)), IndexPieces(indexing), beam_args, Path(indexing.runs).parent)


def write_shards(numbers: Sequence[int], job: Job, plan: Plan, source: Source, state: Path) -> None:
    """Runs the second graph: the shards of those numbers, each by one call."""
    _run("Write", list(numbers), WriteShards(ShardWriting(job, plan, source, str(state))), job.beam_args, state)


def _run(name: str, elements: list[Any], work: beam.DoFn, beam_args: Sequence[str], state: Path) -> None:
    problem = state / PROBLEM_NAME
    problem.unlink(missing_ok=True)
    options = _pipeline_options(beam_args)
    # FnApiRunner in memory: "DirectRunner" first tries to download a Go binary.
    runner = None if _names_runner(beam_args) else FnApiRunner()
    # Beam logs the traceback of an error and raises it as well.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create(elements) | beam.Reshuffle() | name >> beam.ParDo(work)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        if problem.exists():
            raise _noted_problem(problem) from error
        if _was_interrupted(error):
            raise KeyboardInterrupt from None
        raise


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error began as Ctrl-C: Beam turns what stops a step, even that, into a RuntimeError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _noted_problem(path: Path) -> Exception:
    noted = json.loads(path.read_text())
    path.unlink()
    kind = UsageError if noted["kind"] == "UsageError" else SetupError
    return kind(f"{noted['text'].rstrip('.')}.")


def _names_runner(beam_args: Sequence[str]) -> bool:
    return any(argument.split("=")[0] == "--runner" for argument in beam_args)


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
