"""A Bayesian search on a Ray cluster: this process keeps the journal, and Ray's actors train. Takes tfpipe[ray].

No file is shared: an actor gets the images once, from Ray's store, then one training after another, and sends back what
came of it, the child included where it is to be kept. An actor whose machine is lost is started again elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.errors import UsageError
from tfpipe.search import journal
from tfpipe.search.helpers import check_importable, module_path, shared_machine
from tfpipe.search.settings import OutOfTime
from tfpipe.search.worker import Job, Trainer, Work, claim, job_of, open_study, tell

if TYPE_CHECKING:
    from tfpipe.search.child import Outcome

_RESTARTS = 3


@contextlib.contextmanager
def ray_started() -> Iterator[None]:
    """Ray, as the user started it; else the cluster that Ray finds, or a new one here, for the time of a search.

    Raises:
      ImportError: Ray is missing.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        configure_logging=False,
        # A process has one CPU of Ray's.
        runtime_env={"env_vars": {"PYTHONPATH": module_path(), **shared_machine(os.cpu_count() or 1)}},
    )
    try:
        yield
    finally:
        ray.shutdown()


def share_of_gpus(processes: int) -> float:
    """How much of a GPU each of some processes gets, as all of them together have those of the cluster."""
    import ray

    return float(min(ray.cluster_resources().get("GPU", 0) / processes, 1))


class _Actor:
    """A process of Ray's that trains."""

    def __init__(self, work: Work) -> None:
        self._trainer = Trainer(work)

    def ready(self) -> None:
        """Returns when the child is compiled."""
        self._trainer.compiled()

    def train(self, job: Job, seconds: float) -> tuple[Outcome, bytes] | None:
        """What a training gave, and the .keras of its child where that is to be kept; None if the time ran out."""
        try:
            outcome = self._trainer.train(job, time.time() + seconds)
        except OutOfTime:
            return None
        if not job.kept:
            return outcome, b""
        with tempfile.TemporaryDirectory() as folder:
            self._trainer.compiled().save(Path(folder, job.kept))
            return outcome, Path(folder, job.kept).read_bytes()


def _got(reference: Any) -> Any:
    """What a call returned; of an error the cause, where it is the user's."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, UsageError) else error from None


class RayWorkers:
    """Actors of Ray's that train what a journal asks for.

    Raises:
      UsageError: the child or the sampler cannot be found by another process, or trials are to be pruned.
      ImportError: Ray is missing.
    """

    def __init__(self, work: Work, count: int) -> None:
        import ray

        check_importable('engine="ray"', {"child": work.child})
        if work.pruner != "none":
            raise UsageError('With engine="ray", pruner has to be "none": a training there reports at its end.')
        self._work, self._ending = work, contextlib.ExitStack()
        self._ending.enter_context(ray_started())
        options = {"num_cpus": 1, "num_gpus": share_of_gpus(count)}
        actor = ray.remote(max_restarts=_RESTARTS, max_task_retries=_RESTARTS, **options)(_Actor)
        shared = ray.put(work)
        # Nothing is claimed for one that Ray has not started yet.
        self._actors = [actor.remote(shared) for _ in range(count)]
        self._starting = {one.ready.remote(): one for one in self._actors}
        self._free: list[Any] = []

    def run(self, name: str, limit: int, deadline: float, reserved: int, *, on_trial: Callable[[], None]) -> None:
        """See Runner."""
        import ray

        study, seconds, is_over = open_study(self._work, name), 0.0, False
        busy: dict[Any, tuple[Any, Any, Job]] = {}
        while True:
            is_over = is_over or time.time() + seconds * (1 + reserved) >= deadline
            while self._free and not is_over:
                trial = claim(self._work, study, name, limit)
                if trial is None:
                    is_over = True
                    break
                one, job = self._free.pop(), job_of(self._work, trial)
                busy[one.train.remote(job, deadline - time.time())] = one, trial, job
            if is_over and not busy:
                return
            ready, _ = ray.wait([*busy, *self._starting], timeout=0.25)
            for done in ready:
                answer = _got(done)
                if done in self._starting:
                    self._free.append(self._starting.pop(done))
                    continue
                one, trial, job = busy.pop(done)
                self._free.append(one)
                if answer is None:
                    journal.give_back(study, study.get_trials(deepcopy=False)[trial.number])
                    is_over = True
                    continue
                outcome, child = answer
                if job.kept:
                    (self._work.folder / job.kept).write_bytes(child)
                seconds = outcome.seconds
                tell(study, trial, outcome)
            on_trial()

    def close(self) -> None:
        """See Runner."""
        import ray

        for one in self._actors:
            ray.kill(one)
        self._ending.close()
