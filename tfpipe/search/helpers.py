"""Processes that each hold an object and call it, for a search on one machine (`python -m tfpipe.search.helpers`).

A process of its own never imports the user's main module, and dies with the one that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any

from tfpipe.errors import UsageError
from tfpipe.quiet import load_tensorflow

_PR_SET_PDEATHSIG = 1


def shared_machine(processes: int) -> dict[str, str]:
    """What the environment of some processes says so that they share the cores and the GPUs of a machine.

    One thread of TensorFlow's takes a quarter less CPU time for a step of the small child than two.
    """
    threads = max((os.cpu_count() or 1) // processes, 1)
    # TensorFlow takes all memory of a GPU otherwise.
    wanted = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


class Processes:
    """Processes that hold one object each. They end with the thread that started them.

    Args:
      held: what is pickled, and then called in each process.
      count: how many.
    """

    def __init__(self, held: Any, count: int) -> None:
        task = pickle.dumps(held)
        command = [sys.executable, "-m", "tfpipe.search.helpers", str(os.getpid())]
        environment = {**os.environ, **shared_machine(count), "PYTHONPATH": module_path()}
        self._started = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(count)
        ]
        try:
            for one in self._started:
                _pipe(one.stdin).write(task)
        except OSError:
            self.close()
            raise

    def call(
        self, method: str, calls: Iterable[tuple[Any, ...]], *, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[Any]:
        """Calls a method of the object with each of some arguments, in whichever process is free.

        Args:
          method: its name.
          calls: the arguments of each call; the next is drawn when a process is free for it.
          on_wait: called a few times a second.

        Yields:
          What the calls return, as they come to their end.

        Raises:
          UsageError, RuntimeError: one of them failed.
        """
        waiting, left = {}, iter(calls)
        free = list(self._started)
        while True:
            while free and (arguments := next(left, None)) is not None:
                one = free.pop(0)
                pickle.dump((method, arguments), _pipe(one.stdin))
                _pipe(one.stdin).flush()
                waiting[_pipe(one.stdout)] = one
            if not waiting:
                return
            ready, _, _ = select.select(list(waiting), [], [], 0.25)
            for pipe in ready:
                one = waiting.pop(pipe)
                free.append(one)
                yield _answer(pipe, one)
            on_wait()

    def close(self) -> None:
        """Ends them, and waits until they have."""
        for one in self._started:
            one.kill()
        for one in self._started:
            with contextlib.suppress(OSError):
                one.communicate()


def module_path() -> str:
    """A PYTHONPATH with which another process finds the modules that this one finds, the child's among them."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def check_importable(why: str, values: Mapping[str, Any]) -> None:
    """Refuses functions that another process cannot find.

    Raises:
      UsageError: one is a lambda or of the main module; the sentence begins with `why`.
    """
    for name, value in values.items():
        if getattr(value, "__module__", "") == "__main__" or getattr(value, "__name__", "") == "<lambda>":
            raise UsageError(f"With {why}, {name} has to be a function of a module that can be imported.")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("a process started with pipes has them")
    return pipe


def _answer(pipe: IO[bytes], process: subprocess.Popen[bytes]) -> Any:
    try:
        failure, result = pickle.load(pipe)
    except EOFError:
        raise RuntimeError(f"A worker process of the search ended with {process.wait()}.") from None
    if failure is not None:
        raise failure
    return result


def main() -> None:
    """Serves the process that started this one: takes an object, then (method, arguments) again and again."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.argv[1:] != [str(os.getppid())]:
        return  # It was killed before prctl was called.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles Ctrl-C.
    pipe, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # No library may print between the answers.
    held = pickle.load(pipe)
    load_tensorflow()
    while True:
        try:
            method, arguments = pickle.load(pipe)
        except EOFError:
            return
        failure: Exception | None = None
        result = None
        try:
            result = getattr(held, method)(*arguments)
        except UsageError as error:
            failure = error
        except Exception as error:
            traceback.print_exc()
            failure = RuntimeError(f"A worker process of the search failed: {type(error).__name__}: {error}")
        pickle.dump((failure, result), answers)
        answers.flush()


if __name__ == "__main__":
    main()
