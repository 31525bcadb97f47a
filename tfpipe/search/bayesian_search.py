"""The search of DeepAugment: a baseline, a screen of single ops, then optuna's sampler; and the best trained again.

The best score of a search is a lucky one: measured again it fell by 0.004 to 0.029 on real digits. So the top few are
trained again with new seeds, and the second score alone is reported. On the same digits the gain came from the screen.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tfpipe.errors import UsageError, require_extra
from tfpipe.policy import Policy, is_integer, is_number
from tfpipe.search import journal
from tfpipe.search.result import CHILD_NAME, Rescore, SearchResult, Trial, costs_of
from tfpipe.search.settings import Builder, Pair, Training, open_data
from tfpipe.search.space import Slots, Walk, fitting, slots
from tfpipe.search.worker import Runner, SharedJournal, Work, Worker

# Told after each training of a child: (how many are done, how many there will be, the best reward so far).
OnTrial = Callable[[int, int, float], None]
ENGINES = ("local", "ray")


def bayesian(
    train: Pair,
    validation: Pair,
    *,
    trials: int,
    space: Slots | Walk | None = None,
    child: Builder = "small",
    training: Training = Training(),  # noqa: B008 (frozen)
    storage: str | os.PathLike[str] | None = None,
    workers: int = 1,
    engine: str = "local",
    seed: int = 0,
    sampler: journal.Sampler = "tpe",
    pruner: str = "none",
    screen_magnitude: float | None = None,
    rescored: int = 4,
    repeats: int = 2,
    budget_seconds: float | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    on_trial: OnTrial | None = None,
) -> SearchResult:
    """The policy under which a small model learns best.

    Trial 0 is without augmentation; then every op comes once alone, in the space's order, up to half of the trials;
    then the sampler's. Each trains the child from scratch, on the same first weights, and scores it on validation
    images drawn afresh. The best are trained again with new seeds; the best of these second scores is handed back.

    Args:
      train, validation: (images uint8 [N, H, W, C], labels int [N]), or (folder of a dataset, split).
      trials: all of them, the baseline and the screen included, the re-scores not.
      space: what to search; None: three slots of one op each. tfpipe.search.space has DeepAugment's and PBA's.
      child: "small", "deepaugment", or a function of (image shape, number of classes) that builds a Keras model; it
        gets images as floats in [0, 1]. A compiled one keeps its optimizer and loss.
      training: how a child is trained and scored.
      storage: a folder, in which a search that was killed is resumed, and which keeps its journal, the policy, the best
        child and the result; None: nothing is kept.
      workers: processes that train. With one, a search is a pure function of its seed.
      engine: "local", where they share the journal on this machine; or "ray", where this process keeps it, and they are
        on the machines of a Ray cluster, or on this one (takes tfpipe[ray]).
      seed: of everything that is drawn.
      sampler: "tpe", "random", "forest" (expected improvement by a random forest; takes scikit-learn), or a function
        from a seed to a sampler of optuna's.
      pruner: "none" (as DeepAugment), "median" or "halving": sampled trials that look hopeless end early.
      screen_magnitude: of the ops that are tried alone; None: 1 where strengths are drawn up to it, else 0.5.
      rescored: how many of the best are trained again.
      repeats: how often each of them is.
      budget_seconds: the search stops in time, with the best so far; None: no limit.
      image_size: to resize a dataset's images to.
      channels: of a dataset's images: 3, or 1 for gray.
      on_trial: called as (done, all, best reward) after each training.

    Returns:
      The result. Ctrl-C ends the search with the best so far, too; its `stopped` says so.

    Raises:
      UsageError: an argument is out of range, or the folder holds another search.
      SetupError: optuna is missing, which comes with tfpipe[search]; or Ray, with tfpipe[ray].
    """
    _check(trials, workers, sampler, pruner, screen_magnitude, rescored, repeats, budget_seconds)
    require_extra("search.bayesian", "optuna")
    if sampler == "forest":
        require_extra('sampler="forest"', "scipy", "sklearn")
    check_engine(engine)
    begin = time.time()
    data, held_out = open_data(train, validation, image_size=image_size, channels=channels)
    known = fitting(space or slots(), data.images.shape[-1])
    if screen_magnitude is None:
        screen_magnitude = 1.0 if known.table == "uniform" else 0.5
    settings = {
        "method": "bayesian",
        "trials": trials,
        "seed": seed,
        "space": known.to_json(),
        "training": {**asdict(training)},
        "child": child if isinstance(child, str) else name_of(child),
        "sampler": sampler if isinstance(sampler, str) else name_of(sampler),
        "pruner": pruner,
        "screen_magnitude": screen_magnitude,
        "rescored": rescored,
        "repeats": repeats,
        "train": data.digest,
        "validation": held_out.digest,
    }
    with contextlib.ExitStack() as stack:
        folder = Path(storage or stack.enter_context(tempfile.TemporaryDirectory()))
        journal.open_folder(folder, settings)
        stack.enter_context(journal.file_lock(folder / "search.lock", wait=False))
        journal.mend(folder)
        work = Work(folder, data, held_out, child, training, known, seed, sampler, pruner)
        search = _Search(work, settings, begin, begin + (budget_seconds or float("inf")), on_trial)
        search.enqueue_screen()
        result = search.run(_runner(work, engine, workers), workers)
        if storage is not None:
            search.keep(result)
    return result


class _Search:
    """A search under way: its journal, and how far it is."""

    def __init__(
        self, work: Work, settings: dict[str, Any], begin: float, deadline: float, on_trial: OnTrial | None
    ) -> None:
        self._work, self._settings, self._begin, self._deadline = work, settings, begin, deadline
        self._on_trial = on_trial
        self._study = journal.open_study(work.folder, journal.TRIALS)
        self._second = journal.open_study(work.folder, journal.RESCORES)
        self._done_before = len(self._done())
        self._told = -1
        screened = work.space.screened
        self._screened = screened[: settings["trials"] // 2]
        self._left_out = screened[len(self._screened) :]

    def enqueue_screen(self) -> None:
        """Puts the baseline and the single ops at the head of a new journal."""
        space, magnitude = self._work.space, self._settings["screen_magnitude"]
        alone: list[tuple[Any, dict[str, Any]]] = [
            (space.alone(op, magnitude), {"kind": "screen", "op": op}) for op in self._screened
        ]
        journal.enqueue(self._study, [(space.idle, {"kind": "none"}), *alone], space)

    def run(self, runner: Runner, workers: int) -> SearchResult:
        """Does what is left to do."""
        stopped, wanted = "", self._settings
        try:
            second = wanted["rescored"] * wanted["repeats"]
            # Time for the second scores is kept back.
            runner.run(journal.TRIALS, wanted["trials"], self._deadline, -(-second // workers), on_trial=self._tell)
            runner.run(journal.RESCORES, self._enqueue_rescores(), self._deadline, 0, on_trial=self._tell)
            stopped = "budget" if self._is_short() else ""
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            runner.close()
        return self._result(stopped)

    def keep(self, result: SearchResult) -> None:
        """Writes what was found into the folder; of the children the best one's best stays, as best.keras."""
        folder = self._work.folder
        result.save(folder)
        best = [trial for trial in journal.finished(self._second) if trial.user_attrs["trial"] == self._best_index()]
        for trial in sorted(best, key=lambda trial: -trial.value)[:1]:
            path = folder / f"child-{trial.user_attrs['index']}.keras"
            if path.exists():
                os.replace(path, folder / CHILD_NAME)
        if not result.stopped:
            for path in folder.glob("child-*.keras"):
                path.unlink()

    def _done(self) -> list[Any]:
        return [*journal.finished(self._study), *journal.finished(self._second)]

    def _tell(self) -> None:
        done = len(self._done())
        if self._on_trial is not None and done != self._told:
            wanted = self._settings
            best = max((trial.value for trial in self._complete()), default=float("nan"))
            self._on_trial(done, wanted["trials"] + min(wanted["rescored"], wanted["trials"]) * wanted["repeats"], best)
            self._told = done

    def _complete(self) -> list[Any]:
        """The trials that were not pruned, the best first."""
        complete = [trial for trial in journal.finished(self._study) if trial.state == journal.complete_state()]
        return sorted(complete, key=lambda trial: (-trial.value, trial.user_attrs["index"]))

    def _enqueue_rescores(self) -> int:
        """Sees to it that the best are in line to be trained again; returns how many trainings that makes in all."""
        wanted = []
        for trial in self._complete()[: self._settings["rescored"]]:
            policy = self._policy(trial).to_json()
            wanted += [
                {"trial": trial.user_attrs["index"], "repeat": repeat, "policy": policy, "kind": "rescore"}
                for repeat in range(self._settings["repeats"])
            ]
        return journal.enqueue_missing(self._second, wanted, ("trial", "repeat"))

    def _policy(self, trial: Any) -> Policy:
        vector = journal.vector_of(self._work.space, trial.params)
        return self._work.space.policy(vector, name=f"trial {trial.user_attrs['index']}")

    def _is_short(self) -> bool:
        second = min(self._settings["rescored"], len(self._complete())) * self._settings["repeats"]
        return len(journal.finished(self._study)) < self._settings["trials"] or len(self._rescored_trials()) < second

    def _rescored_trials(self) -> list[Any]:
        return journal.finished(self._second)

    def _rescores(self) -> list[Rescore]:
        """The second scores, the best first."""
        first = {trial.user_attrs["index"]: trial.value for trial in self._complete()}
        found: dict[int, list[float]] = {}
        for trial in self._rescored_trials():
            found.setdefault(trial.user_attrs["trial"], []).append(trial.value)
        most = max(map(len, found.values()), default=0)
        rows = [Rescore(index, first[index], tuple(rewards)) for index, rewards in found.items()]
        # One that was trained again less often than others, as the time ran out, is not compared with them.
        return sorted([row for row in rows if len(row.rewards) == most], key=lambda row: (-row.mean, row.index))

    def _best_index(self) -> int | None:
        rescores = self._rescores()
        complete = self._complete()
        return rescores[0].index if rescores else complete[0].user_attrs["index"] if complete else None

    def _result(self, stopped: str) -> SearchResult:
        rescores, best, work = self._rescores(), self._best_index(), self._work
        done = journal.finished(self._study)
        chosen = [self._policy(trial) for trial in done if trial.user_attrs["index"] == best]
        policy = chosen[0] if chosen else work.space.policy(work.space.idle)
        outcomes = [SimpleNamespace(**trial.user_attrs["outcome"]) for trial in self._done()]
        return SearchResult(
            method="bayesian",
            policy=replace(policy, name="searched", source=f"tfpipe search bayesian, trial {best}"),
            schedule=None,
            score=rescores[0].mean if rescores else None,
            trials=tuple(self._row(trial) for trial in done),
            rescores=tuple(rescores),
            stopped=stopped,
            left_out=self._left_out,
            costs=costs_of(
                outcomes,
                wall_seconds=time.time() - self._begin,
                new=len(outcomes) - self._done_before,
                on_gpu=any(outcome.on_gpu for outcome in outcomes),
            ),
            settings=self._settings,
            pictures=work.train.images[:8],
        )

    def _row(self, trial: Any) -> Trial:
        outcome, attributes = trial.user_attrs["outcome"], trial.user_attrs
        return Trial(
            index=attributes["index"],
            kind=attributes["kind"],
            policy=self._policy(trial),
            reward=outcome["reward"],
            op=attributes.get("op", ""),
            pruned=outcome["pruned"],
            **{name: outcome[name] for name in ("steps", "seconds", "cpu_seconds")},
        )


def _runner(work: Work, engine: str, workers: int) -> Runner:
    if engine == "ray":
        from tfpipe.search.ray_workers import RayWorkers

        return RayWorkers(work, workers)
    return SharedJournal(work, workers) if workers > 1 else Worker(work)


def check_engine(engine: str) -> None:
    """Refuses an engine that is not one of ENGINES.

    Raises:
      UsageError: as said.
      SetupError: Ray is asked for and missing.
    """
    if engine not in ENGINES:
        raise UsageError(f"Unknown engine {engine!r}; known: {list(ENGINES)}.")
    if engine == "ray":
        require_extra('engine="ray"', "ray")


def name_of(function: Callable[..., Any]) -> str:
    """How search.json writes a function."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def _check(
    trials: int, workers: int, sampler: Any, pruner: str, magnitude: Any, rescored: int, repeats: int, budget: Any
) -> None:
    counts = {"trials": trials, "workers": workers, "rescored": rescored, "repeats": repeats}
    for name, value in counts.items():
        if not is_integer(value, 1):
            raise UsageError(f"{name} is {value!r}; it must be an integer of at least 1.")
    if not callable(sampler) and sampler not in journal.SAMPLERS:
        raise UsageError(f"Unknown sampler {sampler!r}; known: {list(journal.SAMPLERS)}, or a function of a seed.")
    if pruner not in journal.PRUNERS:
        raise UsageError(f"Unknown pruner {pruner!r}; known: {list(journal.PRUNERS)}.")
    if magnitude is not None and not is_number(magnitude, least=0, most=1):
        raise UsageError(f"screen_magnitude is {magnitude!r}; it must be in [0, 1].")
    if budget is not None and not (is_number(budget) and budget > 0):
        raise UsageError(f"budget_seconds is {budget!r}; it must be a positive number, or None.")
