"""Works on the trials of a journal, in this process or in one of its own (`python -m tfpipe.search.worker`).

Any number of processes share one journal: each claims the next trial, trains the child and tells the journal, until
there are no more. A process of its own never imports the user's main module, and dies with the one that started it.
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
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tfpipe.errors import UsageError
from tfpipe.policy import Policy
from tfpipe.quiet import load_tensorflow
from tfpipe.search import journal
from tfpipe.search.settings import Builder, Data, OutOfTime, Training
from tfpipe.search.space import Space

if TYPE_CHECKING:
    import optuna

    from tfpipe.search.child import Child, Outcome

_PR_SET_PDEATHSIG = 1
_TRIAL_DRAWS, _RESCORE_DRAWS = 1, 2


@dataclass(frozen=True)
class Work:
    """All that a process needs to know to work on a journal.

    Attributes:
      folder: of the search.
      train, validation: the images.
      child: what builds it.
      training: how.
      space: what is searched.
      seed: of the search.
      sampler, pruner: see bayesian.
    """

    folder: Path
    train: Data
    validation: Data
    child: Builder
    training: Training
    space: Space
    seed: int
    sampler: journal.Sampler = "tpe"
    pruner: str = "none"


class Worker:
    """Works on one journal with one child, which is made and compiled once."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._child: Child | None = None

    def run(self, name: str, limit: int, deadline: float, reserved: int, *, on_trial: Callable[[], None]) -> None:
        """Does trials of a study until there are `limit` of them, or no time for one more before the deadline.

        Args:
          name: journal.TRIALS or journal.RESCORES.
          limit: the trials in all.
          deadline: in seconds of time.time().
          reserved: for how many further trainings time is to be left.
          on_trial: called after each.
        """
        work, seconds = self.work, 0.0
        is_first = name == journal.TRIALS
        study = journal.open_study(work.folder, name, pruner=work.pruner if is_first else "none")
        space = work.space if is_first else None
        while time.time() + seconds * (1 + reserved) < deadline:
            trial = journal.claim(work.folder, study, space, limit=limit, sampler=work.sampler, seed=work.seed)
            if trial is None:
                return
            try:
                outcome = self._trial(trial, deadline) if is_first else self._rescore(trial, deadline)
            except OutOfTime:
                journal.give_back(study, study.get_trials(deepcopy=False)[trial.number])
                return
            seconds = outcome.seconds
            trial.set_user_attr("outcome", asdict(outcome))
            if outcome.pruned:
                study.tell(trial, state=journal.pruned_state())
            else:
                study.tell(trial, outcome.reward)
            on_trial()

    def close(self) -> None:
        """Nothing to end."""

    def _trial(self, trial: optuna.Trial, deadline: float) -> Outcome:
        """Every trial begins with the same weights, as DeepAugment's do; its draws are its own."""
        work, index = self.work, trial.user_attrs["index"]
        policy = work.space.policy(journal.vector_of(work.space, trial.params), name=f"trial {index}")
        may_end = trial.user_attrs["kind"] == "sampled"

        def report(epoch: int, accuracy: float) -> bool:
            trial.report(accuracy, epoch)
            return may_end and bool(trial.should_prune())

        on_epoch = None if work.pruner == "none" else report
        return self._train(policy, work.seed, (work.seed, _TRIAL_DRAWS, index), deadline, on_epoch)

    def _rescore(self, trial: optuna.Trial, deadline: float) -> Outcome:
        """A policy again, from other weights, and on other images of the validation set."""
        work, repeat = self.work, trial.user_attrs["repeat"]
        policy = Policy.from_json(trial.user_attrs["policy"])
        outcome = self._train(policy, work.seed + 1 + repeat, (work.seed, _RESCORE_DRAWS, repeat), deadline, None)
        if self._child is not None:
            self._child.save(work.folder / f"child-{trial.user_attrs['index']}.keras")
        return outcome

    def _train(self, policy: Policy, seed: int, draws: tuple[int, ...], deadline: float, on_epoch: Any) -> Outcome:
        from tfpipe.search.child import Child, ops_of, run_child

        work = self.work
        if self._child is None:
            ops, stages = ops_of(work.space)
            self._child = Child(work.child, work.train, ops=ops, num_stages=stages, training=work.training)
            # So that the first trial takes no longer than the others, from which the time left is reckoned.
            self._child.compile()
        return run_child(
            self._child,
            policy,
            work.validation,
            work.training,
            seed=seed,
            draws=draws,
            deadline=deadline,
            on_epoch=on_epoch,
        )


class Processes:
    """Worker processes on one journal. They end with the thread that started them.

    Raises:
      UsageError: the child or the sampler cannot be found by another process.
    """

    def __init__(self, work: Work, count: int) -> None:
        for name, value in (("child", work.child), ("sampler", work.sampler)):
            if getattr(value, "__module__", "") == "__main__" or getattr(value, "__name__", "") == "<lambda>":
                raise UsageError(f"With workers={count}, {name} has to be a function of a module that can be imported.")
        task = pickle.dumps(work)
        command = [sys.executable, "-m", "tfpipe.search.worker", str(os.getpid())]
        # The module of the child is where this process found it.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
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

    def run(self, name: str, limit: int, deadline: float, reserved: int, *, on_trial: Callable[[], None]) -> None:
        """As Worker.run, in all processes at once; on_trial is called a few times a second.

        Raises:
          UsageError, RuntimeError: one of them failed.
        """
        for one in self._started:
            pickle.dump((name, limit, deadline, reserved), _pipe(one.stdin))
            _pipe(one.stdin).flush()
        waiting = {_pipe(one.stdout): one for one in self._started}
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], 0.25)
            for pipe in ready:
                _raise_failure(pipe, waiting.pop(pipe))
            on_trial()

    def close(self) -> None:
        """Ends them, and waits until they have."""
        for one in self._started:
            one.kill()
        for one in self._started:
            with contextlib.suppress(OSError):
                one.communicate()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("a process started with pipes has them")
    return pipe


def _raise_failure(pipe: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    try:
        failure = pickle.load(pipe)
    except EOFError:
        raise RuntimeError(f"A worker process of the search ended with {process.wait()}.") from None
    if failure is not None:
        raise failure


def main() -> None:
    """Serves the process that started this one: takes the work, then (study, limit, deadline) again and again."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.argv[1:] != [str(os.getppid())]:
        return  # It was killed before prctl was called.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles Ctrl-C.
    pipe, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # No library may print between the answers.
    worker = Worker(pickle.load(pipe))
    load_tensorflow()
    while True:
        try:
            call = pickle.load(pipe)
        except EOFError:
            return
        failure: Exception | None = None
        try:
            worker.run(*call, on_trial=lambda: None)
        except UsageError as error:
            failure = error
        except Exception as error:
            traceback.print_exc()
            failure = RuntimeError(f"A worker process of the search failed: {type(error).__name__}: {error}")
        pickle.dump(failure, answers)
        answers.flush()


if __name__ == "__main__":
    main()
