"""Shards written by several processes of one machine.

Packing raw records is Python's own work, and its lock lets one thread do it at a time: with two threads a record took
77 us, with one 58, with two processes 42. So a Beam worker that is told to use N threads for raw records starts N - 1
processes, and writes shards itself beside them. A process is a fresh interpreter that loads neither Beam nor
TensorFlow, in 0.2 s and 50 MB; it is sent its work, and never imports the user's main module.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from beam_jobs.options import Job
from beam_jobs.payloads import Payload, needs_tensorflow, open_payload
from beam_jobs.plan import Plan, refused_keys, shard_refs
from beam_jobs.shards import write_shard
from beam_jobs.sources import Source

_PR_SET_PDEATHSIG = 1


@dataclass
class ShardWriting:
    """What it takes to write any shard of a plan; the payload is opened with the first.

    Attributes:
      job: the conversion.
      plan: its plan.
      source: its source.
      state: the state folder.
    """

    job: Job
    plan: Plan
    source: Source
    state: str
    _payload: Payload | None = field(default=None, init=False)
    _refused: Counter[str] | None = field(default=None, init=False)

    def write(self, number: int) -> None:
        """Writes one shard."""
        runs = str(Path(self.state, "runs"))
        if self._payload is None or self._refused is None:
            self._payload = open_payload(self.job, self.plan, self.source)
            self._refused = refused_keys(runs)
        shard = self.plan.shards[number]
        refs, repeated = shard_refs(runs, shard, self._refused)
        threads = self.job.threads if needs_tensorflow(self.job) else 1
        write_shard(Path(self.state), shard.name, refs, self._payload, refused=repeated, threads=threads)

    def write_all(self, numbers: Iterable[int]) -> None:
        """Writes several shards, raw ones by up to `threads` processes."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        count = 0
        for number in numbers:
            waiting.put(number)
            count += 1
        helpers = 0 if needs_tensorflow(self.job) else min(self.job.threads, count) - 1
        _drain(waiting, self, max(helpers, 0))


def _drain(waiting: queue.SimpleQueue[int], writing: ShardWriting, helpers: int) -> None:
    """Writes all waiting shards, here and in helper processes; raises the first problem that any of them has."""
    problems: list[BaseException] = []
    threads = [threading.Thread(target=_drive, args=(waiting, writing, problems)) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    try:
        while not problems:
            writing.write(waiting.get_nowait())
    except queue.Empty:
        pass
    except BaseException as error:
        problems.insert(0, error)
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def _drive(waiting: queue.SimpleQueue[int], writing: ShardWriting, problems: list[BaseException]) -> None:
    """Has one helper process write shards until none waits, or somebody has a problem."""
    command = [sys.executable, "-m", "beam_jobs.workers", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process started with pipes has them")
        try:
            _send(process.stdin, writing)
            while not problems:
                _send(process.stdin, waiting.get_nowait())
                answer = pickle.load(process.stdout)
                if isinstance(answer, BaseException):
                    problems.append(answer)
        except queue.Empty:
            pass
        except (EOFError, OSError) as error:
            problems.append(ChildProcessError(f"a worker process ended with {process.wait()}: {error}"))
        finally:
            process.stdin.close()


def _send(pipe: IO[bytes], value: object) -> None:
    pickle.dump(value, pipe)
    pipe.flush()


def main() -> None:
    """Serves the process that started this one: takes a ShardWriting, then numbers, and answers each."""
    # Nobody would wait for the shard of a parent that was killed; and a Ctrl-C is the parent's to answer.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.argv[1:] != [str(os.getppid())]:
        return  # It was killed before this was asked for; its first shard may lie in the pipe all the same.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # Nothing else may be printed between the answers.
    writing: ShardWriting = pickle.load(pipe)
    while True:
        try:
            number = pickle.load(pipe)
        except EOFError:
            return
        try:
            writing.write(number)
            _send(answers, None)
        except Exception as error:
            _send(answers, error)


if __name__ == "__main__":
    # Under its own name, so that what is sent is of the class that the sender knows.
    from beam_jobs import workers

    workers.main()
