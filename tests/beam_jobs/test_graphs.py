"""Runners by name, Beam's options, and the sentence of an error on its way back from a worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest

from beam_jobs.engines import graphs
from beam_jobs.engines.graphs import RunTask
from beam_jobs.engines.runners import RUNNERS, open_runner
from tfpipe.errors import DataError, SetupError, UsageError


@pytest.mark.parametrize("name", [None, "FnApiRunner", "fnapirunner", "FnApi", RUNNERS["FnApiRunner"]])
def test_a_runner_is_named_in_short_by_its_path_or_not_at_all(name: str | None) -> None:
    arguments = [] if name is None else [f"--runner={name}"]
    runner, options = open_runner([*arguments, "--direct_num_workers=2"])
    assert type(runner).__name__ == "FnApiRunner"
    assert options.get_all_options()["direct_num_workers"] == 2


def test_every_runner_that_beam_knows_has_a_short_name_and_dask_too() -> None:
    assert set(RUNNERS) >= {"DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner", "PortableRunner"}
    assert RUNNERS["DaskRunner"] == "apache_beam.runners.dask.dask_runner.DaskRunner"


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        (["--runner=Spork"], UsageError, r"Beam has no runner 'Spork'; --runner takes one of \[.*'DaskRunner'.*\], or"),
        (["--runner", "Spork"], UsageError, "Beam has no runner 'Spork'"),
        (["--runner=json.Runner"], UsageError, "--runner 'json.Runner': the module json has no Runner."),
        (
            ["--runner=nowhere.Runner"],
            SetupError,
            "'nowhere.Runner' can't be loaded: No module named 'nowhere'",
        ),
        (["--runer=DaskRunner"], UsageError, "Beam has no option '--runer=DaskRunner'; what follows -- goes to Beam."),
    ],
)
def test_what_beam_does_not_know_is_refused_in_a_sentence(
    arguments: list[str], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        open_runner(arguments)


def test_dask_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SetupError, match=r"pip install 'tfpipe\[dask\]'"):
        open_runner(["--runner=DaskRunner"])


class Raising(beam.DoFn):
    """Raises, as a worker with a problem does."""

    def __init__(self, state: Path, error: Exception) -> None:
        self._state, self._error = state, error

    def process(self, element: int) -> None:
        with graphs._note_problems(self._state):
            raise self._error


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (UsageError("The listing is odd."), UsageError, "The listing is odd."),
        (SetupError("größe " * 2000), SetupError, "größe größe"),
        (OSError(28, os.strerror(28), "a.blob"), SetupError, "a.blob: No space left on device."),
        (OSError("12000 requested and 7201 written"), SetupError, "12000 requested and 7201 written."),
        (DataError("The records are odd."), DataError, "The records are odd."),
    ],
)
def test_an_error_of_a_worker_comes_back_with_its_sentence(
    tmp_path: Path, error: Exception, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind) as raised:
        graphs._run("Raise", [1, 2], Raising(tmp_path, error), [], tmp_path)
    assert sentence in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_nobody_expects_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"):
        graphs._run("Raise", [1], Raising(tmp_path, ZeroDivisionError("by zero")), [], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_takes_the_sentence_that_says_so(tmp_path: Path) -> None:
    """The room is taken before: the note is written over blanks, and the file does not grow."""
    note = tmp_path / "problem.txt"
    sizes = []

    def fail() -> None:
        sizes.append(note.stat().st_size)
        with contextlib.suppress(SetupError), graphs._note_problems(tmp_path):
            raise SetupError("\U0001f4be" * 5000)
        sizes.append(note.stat().st_size)
        raise ValueError("what the runner makes of it")

    with pytest.raises(SetupError, match="\U0001f4be"), graphs._raise_noted_problems(note):
        fail()
    assert sizes[0] == sizes[1] > 0


def test_the_items_of_a_bundle_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[tuple[str, list[int], int]] = []
    monkeypatch.setattr(graphs, "run_all", lambda work, items, *, helpers: shared.append((work, list(items), helpers)))
    work = RunTask("the work", "nowhere", 3)  # type: ignore[arg-type]
    for bundle in ([1, 2], [3]):
        work.start_bundle()
        for item in bundle:
            work.process(item)
        work.finish_bundle()
    assert shared == [("the work", [1, 2], 3), ("the work", [3], 3)]


def test_a_worker_that_is_older_than_its_parent_s_death_writes_nothing() -> None:
    """A helper whose parent was killed before the helper called prctl leaves the items in its pipe."""
    done = subprocess.run(
        [sys.executable, "-m", "beam_jobs.engines.workers", "1"],
        input=b"not even read",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
