"""Tasks shared by several processes of one machine: pieces of the listing to list, raw shards to write.

Both run in the interpreter, whose lock lets one thread run at a time: with two threads a raw record took 77 us, with
one 58, with two processes 42. So a Beam worker that is to use N threads for raw records has N - 1 helper
processes, and works itself beside them. A helper is a fresh interpreter that loads neither Beam nor TensorFlow, in
0.2 s and 50 MB; it is sent its task, and never imports the user's main module. The first few start while this process
still loads Beam, and serve both stages:

    with prestarted_helpers(job.threads - 1):
        run_all(ListingTask(scan), list(enumerate(pieces)), helpers=1)
        run_all(WritingTask(job, plan, source, state), range(len(plan.shards)), helpers=1)
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from beam_jobs.encode.payloads import Payload, open_payload
from beam_jobs.engines.failures import Failure
from beam_jobs.job import Job
from beam_jobs.plan import ListingScan, Plan, list_piece, refused_keys, shard_refs
from beam_jobs.shards import write_shard
from beam_jobs.sources import Source
from tfpipe.errors import SetupError
from tfpipe.storage import scheme_of

_PR_SET_PDEATHSIG = 1
# A small job on a large machine would start dozens of processes for nothing; the others start with the task.
_MOST_PRESTARTED = 3


class WorkerTask(Protocol):
    """Something that can be done item by item, in any process."""

    def run(self, item: Any) -> None:
        """Does one item."""


@dataclass(frozen=True)
class ListingTask:
    """Lists pieces of a source into sorted runs.

    Attributes:
      scan: the source and the folder of runs.
    """

    scan: ListingScan

    def run(self, item: tuple[int, Any]) -> None:
        """Lists the piece of that number."""
        list_piece(self.scan, *item)


@dataclass
class WritingTask:
    """Writes any shard of a plan; the payload is opened with the first.

    Attributes:
      job: the conversion.
      plan: its plan.
      source: its source.
      state: the state folder.
      digest: the plan's, for the sidecars.
    """

    job: Job
    plan: Plan
    source: Source
    state: str
    digest: str | None = None
    _payload: Payload | None = field(default=None, init=False)
    _refused: Counter[str] | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        # A payload may hold a model, and is opened anew where it is used.
        return {**vars(self), "_payload": None, "_refused": None}

    def run(self, item: int) -> None:
        """Writes the shard of that number."""
        runs = str(Path(self.state, "runs"))
        if self._payload is None or self._refused is None:
            self._payload = open_payload(self.job, self.plan, self.source)
            self._refused = refused_keys(runs)
        shard = self.plan.shards[item]
        refs, repeated = shard_refs(runs, shard, refused=self._refused)
        threads = self.job.threads if self.job.needs_tensorflow else 1
        write_shard(
            Path(self.state),
            shard.name,
            refs,
            self._payload,
            refused=repeated,
            threads=threads,
            plan=self.digest,
            fsync=self.job.fsync,
        )


def num_helpers(job: Job) -> int:
    """How many helper processes each worker of a job has.

    None where images are decoded, which threads share well; nor for memory://, which only one process sees.
    """
    is_alone = any(scheme_of(path or "") == "memory" for path in (job.input, job.output, job.masks))
    return 0 if is_alone or job.needs_tensorflow else job.threads - 1


def run_all(task: WorkerTask, items: Sequence[Any], *, helpers: int) -> None:
    """Runs a task for all items, here and in up to `helpers` processes; raises the first problem that any has."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    problems: list[BaseException] = []
    count = min(helpers, len(items) - 1)
    feeders = [threading.Thread(target=_feed_helper, args=(waiting, task, problems)) for _ in range(count)]
    for thread in feeders:
        thread.start()
    try:
        while not problems:
            task.run(waiting.get_nowait())
    except queue.Empty:
        pass
    except BaseException as error:
        problems.insert(0, error)
    for thread in feeders:
        thread.join()
    if problems:
        raise problems[0]


def _feed_helper(waiting: queue.SimpleQueue[Any], task: WorkerTask, problems: list[BaseException]) -> None:
    """Gives one helper process item after item, until none waits or somebody has a problem."""
    try:
        helper = _take_helper()
    except OSError as error:
        problems.append(SetupError(f"No further worker process can be started: {error}; try a smaller --threads."))
        return
    try:
        helper.send(task)
        while not problems:
            failure = helper.ask(waiting.get_nowait())
            if failure is not None:
                problems.append(failure.to_error())
    except queue.Empty:
        pass
    except (EOFError, OSError):
        problems.append(SetupError(f"A worker process {_end_of(helper.close())}; --resume goes on."))
        return
    except BaseException as error:  # An item was taken: that this thread ends in silence would lose it.
        problems.append(error)
        helper.close()
        return
    if helper.reusable:
        _PRESTARTED.append(helper)
    else:
        helper.close()


def _take_helper() -> _Helper:
    try:
        return _PRESTARTED.pop()
    except IndexError:
        return _Helper()


def _end_of(status: int) -> str:
    """How a process ended, by its exit status."""
    if status >= 0:
        return f"ended with exit status {status}"
    name = signal.Signals(-status).name
    hint = "; the system does so where memory runs out, and a smaller --threads takes less"
    return f"was killed by {name}" + (hint if name == "SIGKILL" else "")


class _Helper:
    """A helper process and the pipes to it."""

    def __init__(self, *, reusable: bool = False) -> None:
        # NumPy's thread pool of each would only take time to start.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "beam_jobs.engines.workers", str(os.getpid())]
        self.reusable = reusable
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def send(self, value: object) -> None:
        """Sends it a task, or an item of the task that it has."""
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("a process started with pipes has them")
        pipe.write(pickle.dumps(value))
        pipe.flush()

    def ask(self, item: object) -> Failure | None:
        """Has it do an item; returns the error that it had.

        Raises:
          EOFError, OSError: it is gone.
        """
        self.send((item,))
        answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        return None if answer is None else Failure(*answer)

    def close(self) -> int:
        """Ends it, and waits until it has; returns its exit status."""
        with contextlib.suppress(OSError):
            self._process.communicate()
        return self._process.returncode


# Started by prestarted_helpers, and idle.
_PRESTARTED: list[_Helper] = []


@contextlib.contextmanager
def prestarted_helpers(count: int) -> Iterator[None]:
    """Holds up to three of `count` helper processes ready for any task that this process shares inside the block.

    To be called by a thread that outlives them: the kernel ends them with the thread that started them.
    """
    _PRESTARTED.extend(_Helper(reusable=True) for _ in range(min(count, _MOST_PRESTARTED)))
    try:
        yield
    finally:
        while _PRESTARTED:
            _PRESTARTED.pop().close()


def main() -> None:
    """Serves the process that started this one: takes a task, then its items one by one, and answers each."""
    # Nobody would wait for the shard of a parent that was killed; and the parent handles Ctrl-C.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.argv[1:] != [str(os.getppid())]:
        return  # It was killed before prctl was called; its first item may be in the pipe all the same.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Nothing else may be printed between the answers, by no library.
    gc.freeze()
    task: Any = None
    while True:
        try:
            message = pickle.load(pipe)
        except EOFError:
            return
        except Exception as error:  # Of a class that this process can't load; what follows in the pipe is lost.
            _answer(answers, Failure.of(error))
            pipe.read()
            return
        if not isinstance(message, tuple):
            task = message
            continue
        try:
            task.run(*message)
            answer: Failure | None = None
        except BaseException as error:  # SystemExit too: it would end the process without a word.
            answer = Failure.of(error)
        _answer(answers, answer)


def _answer(answers: IO[bytes], failure: Failure | None) -> None:
    answers.write(pickle.dumps(failure and tuple(failure)))
    answers.flush()


if __name__ == "__main__":
    # Under its own name, so that what is sent is of the class that the sender knows.
    from beam_jobs.engines import workers

    workers.main()
