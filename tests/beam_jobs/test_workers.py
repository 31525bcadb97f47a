"""Shards written by several processes: the same files, and problems that come back with their sentence."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from failing import ERRORS, FailingTask, UnknownTask, UnpicklableItem

from beam_jobs.convert import convert
from beam_jobs.engines import workers
from beam_jobs.engines.failures import Failure, WorkerError
from beam_jobs.engines.workers import ListingTask, WritingTask, num_helpers, prestarted_helpers, run_all
from beam_jobs.job import Job
from beam_jobs.plan import RecordSize, list_piece, make_listing_scan, make_plan
from beam_jobs.sources import open_source
from tfpipe.errors import DataError, SetupError, UsageError

TARGET = 8_000


@pytest.fixture
def writing(photos, tmp_path):
    """The photos, indexed and planned."""
    job = Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=TARGET, threads=3)
    (tmp_path / "runs").mkdir()
    source = open_source(str(photos))
    scan = make_listing_scan(job, source, str(tmp_path / "runs"), None)
    for number, piece in enumerate(source.pieces(None)):
        list_piece(scan, number, piece)
    return WritingTask(job, make_plan(job, scan, RecordSize()), source, str(tmp_path))


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def test_processes_write_what_one_process_writes(photos, tmp_path):
    for threads in (1, 3):
        job = Job(input=str(photos), output=str(tmp_path / str(threads)), target_bytes=TARGET, threads=threads)
        assert len(convert(job).plan.shards) > 5
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_helpers_share_the_shards(writing, monkeypatch):
    here = []
    alone = WritingTask.run
    # Slow here, so that the helpers get their run_all on however busy a machine.
    monkeypatch.setattr(
        WritingTask, "run", lambda self, number: (here.append(number), time.sleep(1), alone(self, number))
    )
    count = len(writing.plan.shards)
    run_all(writing, range(count), helpers=2)
    assert len(here) < count
    assert len(list(Path(writing.state).glob("*.tfrecord"))) == count


def test_one_item_starts_no_process(writing, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    run_all(writing, [0], helpers=2)


def test_helpers_that_wait_ahead_serve_every_work_and_end_with_the_block(writing, photos, tmp_path, monkeypatch):
    started, alone = [], subprocess.Popen

    def start(*arguments, **settings):
        started.append(alone(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(workers, "_MOST_PRESTARTED", 1)
    (tmp_path / "again").mkdir()
    scan = make_listing_scan(writing.job, writing.source, str(tmp_path / "again"), None)
    with prestarted_helpers(2):
        run_all(ListingTask(scan), list(enumerate(writing.source.pieces(None))), helpers=1)
        run_all(writing, range(len(writing.plan.shards)), helpers=1)
        assert len(started) == 1
        assert started[0].poll() is None
    assert started[0].returncode == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "runs")
    assert len(list(tmp_path.glob("*.tfrecord"))) == len(writing.plan.shards)


@pytest.mark.parametrize(("options", "helpers"), [({}, 3), ({"verify": "decode"}, 0), ({"payload": "decoded"}, 0)])
def test_only_jobs_without_decoding_have_helpers(options, helpers):
    assert num_helpers(Job(input="a", output="b", threads=4, **options)) == helpers


def test_a_problem_of_a_helper_is_raised_here(writing, monkeypatch):
    """The disk of every shard but the one that this process writes is full."""
    names = [shard.name for shard in writing.plan.shards]
    hold = threading.Event()
    alone = WritingTask.run

    def write(self, number):
        hold.wait(20)
        return alone(self, number)

    monkeypatch.setattr(WritingTask, "run", write)
    for name in names:
        (Path(writing.state) / f"{name}.index").mkdir()  # where the offsets should go
    threading.Timer(2, hold.set).start()
    with pytest.raises(IsADirectoryError, match="index"):
        run_all(writing, range(len(names)), helpers=2)


def test_a_helper_that_is_killed_is_a_problem(writing, monkeypatch):
    alone, started = WritingTask.run, subprocess.Popen
    processes = []

    def start(*arguments, **settings):
        processes.append(started(*arguments, **settings))
        return processes[-1]

    def write(self, number):
        deadline = time.monotonic() + 20
        while not processes and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):  # Killed with an earlier shard.
            os.kill(processes[0].pid, signal.SIGKILL)
        return alone(self, number)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(WritingTask, "run", write)
    with pytest.raises(SetupError, match="A worker process was killed by SIGKILL; the system does so where memory"):
        run_all(writing, range(len(writing.plan.shards)), helpers=2)


RAISED = {
    "two arguments": (WorkerError, r"^TwoArgumentsError: a has 2$"),
    "odd usage": (UsageError, "^a has 2$"),
    "unpicklable": (WorkerError, "^UnpicklableError: text$"),
    "silent": (WorkerError, "^SilentError: an error that can't be shown$"),
    "text class": (WorkerError, "^TextClassError: its own text$"),
    "local class": (WorkerError, "LocalError: of a function$"),
    "usage": (UsageError, "^usage$"),
    "data": (DataError, "^data$"),
    "setup": (SetupError, "^setup$"),
    "number": (WorkerError, "^ValueError: not ours$"),
    "unicode": (WorkerError, "^UnicodeDecodeError: .* invalid start byte$"),
    "full disk": (OSError, r"^\[Errno 28\] No space left on device: 'a.draft'$"),
    "folder": (IsADirectoryError, "'a.index'$"),
    "no number": (OSError, "^no number$"),
    "module": (ModuleNotFoundError, "^No module named 'pyarrow'$"),
    "exit": (WorkerError, "^SystemExit: 4$"),
    "interrupt": (KeyboardInterrupt, "^$"),
    "leaves": (SetupError, "^A worker process ended with exit status 9; --resume goes on.$"),
    "prints": (DataError, "^printed$"),
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that says that a helper has begun; helpers find the tasks of this test."""
    support = Path(__file__).parent.parent / "support"
    monkeypatch.setenv("PYTHONPATH", f"{support}:{os.environ.get('PYTHONPATH', '')}")
    return str(tmp_path / "marker")


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_helper_raises_is_raised_here(marker, error):
    kind, text = RAISED[error]
    with pytest.raises(kind) as raised:
        run_all(FailingTask(error, marker), range(8), helpers=1)
    assert re.search(text, str(raised.value))
    if error != "leaves":
        (note,) = raised.value.__notes__
        assert "failing.py" in note
    if error == "module":
        assert raised.value.name == "pyarrow"


def test_an_error_of_ours_keeps_its_exit_code_and_no_other_class_is_taken_for_one():
    for kind in (UsageError, DataError, SetupError):
        error = Failure.of(kind("text")).to_error()
        assert (type(error), error.exit_code) == (kind, kind.exit_code)
    assert type(Failure.of(ValueError("text")).to_error()) is WorkerError


def test_a_task_that_does_not_load_in_a_helper_is_a_problem(marker):
    with pytest.raises(WorkerError, match="TwoArgumentsError: state has 1"):
        run_all(UnknownTask("data", marker), range(8), helpers=1)


def test_an_item_that_can_not_be_sent_is_a_problem(marker):
    items = [UnpicklableItem(marker) for _ in range(8)]
    with pytest.raises(TypeError, match="this item can't be sent"):
        run_all(FailingTask("data", marker), items, helpers=1)


def test_a_helper_that_can_not_start_is_a_problem(marker, monkeypatch):
    def fail(*_, **__):
        Path(marker).touch()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(SetupError, match="No further worker process can be started: .* try a smaller --threads"):
        run_all(FailingTask("data", marker), range(8), helpers=1)
