"""Beam's runners by name, and their options. A name or an option that Beam does not know is an error."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tfpipe.errors import SetupError, UsageError

_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_PARTITIONS = ("--dask_npartitions", "--dask_partition_size")
# The values of --runner, by short name: all that Beam lists itself, and Dask, which it leaves out.
RUNNERS = {path.rpartition(".")[2]: path for path in (*StandardOptions.ALL_KNOWN_RUNNERS, _DASK)}


def open_runner(beam_args: Sequence[str]) -> tuple[Any, PipelineOptions]:
    """The runner that Beam's options name, and the options. Its module is loaded first: it may define options."""
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
