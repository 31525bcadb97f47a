"""Works on the trials of a journal: here, in processes that share it, or on the machines of a Ray cluster.

Each worker of this machine claims the next trial from the journal, trains the child and tells the journal, until there
are no more. On a cluster (tfpipe.search.ray_workers) one process claims and tells, and the others train.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tfpipe.policy import Policy
from tfpipe.search import journal
from tfpipe.search.helpers import Processes, check_importable
from tfpipe.search.settings import Builder, Data, OutOfTime, Training
from tfpipe.search.space import Space

if TYPE_CHECKING:
    import optuna

    from tfpipe.search.child import Child, Outcome

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


@dataclass(frozen=True)
class Job:
    """One training of the child.

    Attributes:
      policy: under which.
      seed: of the first weights: that of all trials, as DeepAugment's; another for each re-score.
      draws: seeds of all else.
      kept: the name of the file that the child is to be kept in; "" for none.
    """

    policy: Policy
    seed: int
    draws: tuple[int, ...]
    kept: str = ""


def job_of(work: Work, trial: optuna.Trial) -> Job:
    """What a trial of a journal asks for; a re-score is a policy again, on other images of the validation set."""
    index = trial.user_attrs["index"]
    if trial.user_attrs["kind"] == "rescore":
        policy, repeat = Policy.from_json(trial.user_attrs["policy"]), trial.user_attrs["repeat"]
        return Job(policy, work.seed + 1 + repeat, (work.seed, _RESCORE_DRAWS, repeat), f"child-{index}.keras")
    policy = work.space.policy(journal.vector_of(work.space, trial.params), name=f"trial {index}")
    return Job(policy, work.seed, (work.seed, _TRIAL_DRAWS, index))


class Trainer:
    """Trains one child, which is made and compiled once, under one policy after another."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._child: Child | None = None

    def compiled(self) -> Child:
        """The child. It is compiled before the first trial, so that this takes no longer than the others."""
        from tfpipe.search.child import Child, ops_of

        if self._child is None:
            work = self._work
            ops, stages = ops_of(work.space)
            self._child = Child(work.child, work.train, ops=ops, num_stages=stages, training=work.training)
            self._child.compile()
        return self._child

    def train(self, job: Job, deadline: float, *, on_epoch: Callable[[int, float], bool] | None = None) -> Outcome:
        """Trains the child from scratch.

        Raises:
          OutOfTime: the deadline came before the end.
        """
        from tfpipe.search.child import run_child

        return run_child(
            self.compiled(),
            job.policy,
            self._work.validation,
            self._work.training,
            seed=job.seed,
            draws=job.draws,
            deadline=deadline,
            on_epoch=on_epoch,
        )


class Runner(Protocol):
    """What does the trials of a study."""

    def run(self, name: str, limit: int, deadline: float, reserved: int, *, on_trial: Callable[[], None]) -> None:
        """Does trials until there are `limit` of them, or no time for one more before the deadline.

        Args:
          name: journal.TRIALS or journal.RESCORES.
          limit: the trials in all.
          deadline: in seconds of time.time().
          reserved: for how many further trainings time is to be left.
          on_trial: called after each, or a few times a second.

        Raises:
          UsageError, RuntimeError: one of them failed.
        """

    def close(self) -> None:
        """Ends what it started, and waits until that has ended."""


class Worker:
    """Works on one journal in this process."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._trainer = Trainer(work)

    def run(
        self, name: str, limit: int, deadline: float, reserved: int, *, on_trial: Callable[[], None] = lambda: None
    ) -> None:
        """See Runner."""
        work, seconds = self.work, 0.0
        study = open_study(work, name)
        while time.time() + seconds * (1 + reserved) < deadline:
            trial = claim(work, study, name, limit)
            if trial is None:
                return
            job = job_of(work, trial)
            try:
                outcome = self._trainer.train(job, deadline, on_epoch=self._judge(trial))
            except OutOfTime:
                journal.give_back(study, study.get_trials(deepcopy=False)[trial.number])
                return
            if job.kept:
                self._trainer.compiled().save(work.folder / job.kept)
            seconds = outcome.seconds
            tell(study, trial, outcome)
            on_trial()

    def close(self) -> None:
        """Nothing to end."""

    def _judge(self, trial: optuna.Trial) -> Callable[[int, float], bool] | None:
        """What the pruner says after each part of a training; the screen and the re-scores are never cut short."""
        if self.work.pruner == "none" or trial.user_attrs["kind"] == "rescore":
            return None
        may_end = trial.user_attrs["kind"] == "sampled"

        def report(epoch: int, accuracy: float) -> bool:
            trial.report(accuracy, epoch)
            return may_end and bool(trial.should_prune())

        return report


class SharedJournal:
    """Processes that work on one journal, each claiming its trials.

    Raises:
      UsageError: the child or the sampler cannot be found by another process.
    """

    def __init__(self, work: Work, count: int) -> None:
        check_importable(f"workers={count}", {"child": work.child, "sampler": work.sampler})
        self._count, self._processes = count, Processes(Worker(work), count)

    def run(self, name: str, limit: int, deadline: float, reserved: int, *, on_trial: Callable[[], None]) -> None:
        """See Runner."""
        calls = [(name, limit, deadline, reserved)] * self._count
        for _ in self._processes.call("run", calls, on_wait=on_trial):
            on_trial()

    def close(self) -> None:
        """See Runner."""
        self._processes.close()


def open_study(work: Work, name: str) -> optuna.Study:
    """The trials of a search, or its re-scores, which are not pruned."""
    return journal.open_study(work.folder, name, pruner=work.pruner if name == journal.TRIALS else "none")


def claim(work: Work, study: optuna.Study, name: str, limit: int) -> optuna.Trial | None:
    """See journal.claim; the parameters of a re-score are none."""
    space = work.space if name == journal.TRIALS else None
    return journal.claim(work.folder, study, space, limit=limit, sampler=work.sampler, seed=work.seed)


def tell(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    """Writes what a training gave into the journal."""
    trial.set_user_attr("outcome", asdict(outcome))
    if outcome.pruned:
        study.tell(trial, state=journal.pruned_state())
    else:
        study.tell(trial, outcome.reward)
