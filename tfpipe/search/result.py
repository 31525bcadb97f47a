"""What a search found, and what it cost. No TensorFlow here."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tfpipe
from tfpipe.errors import UsageError
from tfpipe.policy import Policy, Schedule

RESULT_KIND, COMPARISON_KIND = "tfpipe search result 1", "tfpipe search comparison 1"
RESULT_NAME, POLICY_NAME, SCHEDULE_NAME, CHILD_NAME = "result.json", "policy.json", "schedule.json", "best.keras"


@dataclass(frozen=True)
class Trial:
    """One training of the child.

    Attributes:
      index: its number.
      kind: "none" (without augmentation), "screen" (one op alone), "sampled", or "member" of a population.
      policy: under which.
      reward: on the validation images.
      op: of the screen.
      pruned: whether it was given up as hopeless.
      steps, seconds, cpu_seconds: that it took.
    """

    index: int
    kind: str
    policy: Policy
    reward: float
    op: str = ""
    pruned: bool = False
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Rescore:
    """A policy trained again with new seeds.

    Attributes:
      index: of the trial.
      first: the reward that it was chosen for.
      rewards: of the new trainings.
    """

    index: int
    first: float
    rewards: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the new rewards: the one to report."""
        return sum(self.rewards) / len(self.rewards)


@dataclass(frozen=True)
class Costs:
    """What a search cost.

    Attributes:
      trainings: of children, in full or in part.
      steps: of all of them.
      wall_seconds: of this run; a resumed search counts anew.
      child_seconds: that the trainings took, one after another.
      cpu_hours: of the trainings, over all cores; compiling, before the first, is not in it.
      gpu_hours: of the trainings; 0 without a GPU.
      trials_per_minute: of this run, the compilation counted in.
    """

    trainings: int
    steps: int
    wall_seconds: float
    child_seconds: float
    cpu_hours: float
    gpu_hours: float
    trials_per_minute: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      method: "bayesian" or "population".
      policy: the best, by its re-score; of a population the last of the winner's schedule.
      schedule: of a population; None otherwise.
      score: the validation accuracy of the re-score; None where the search was stopped before one was made.
      trials: all, in order.
      rescores: of the best.
      stopped: "" where the search came to its end, else "budget" or "interrupted".
      left_out: ops that the screen had no room for.
      costs: what it cost.
      settings: what was searched, as in search.json.
      provenance: versions and machine.
      pictures: a few images of the training set, uint8, for the report.
    """

    method: str
    policy: Policy
    schedule: Schedule | None
    score: float | None
    trials: tuple[Trial, ...]
    rescores: tuple[Rescore, ...]
    stopped: str
    left_out: tuple[str, ...]
    costs: Costs
    settings: dict[str, Any]
    provenance: dict[str, str] = field(default_factory=lambda: provenance())
    pictures: Any = field(default=None, repr=False, compare=False)

    @property
    def baseline(self) -> float | None:
        """The reward of the trial without augmentation."""
        return next((trial.reward for trial in self.trials if trial.kind == "none"), None)

    @property
    def screen(self) -> tuple[Trial, ...]:
        """The trials of one op each, the best first."""
        return tuple(sorted((t for t in self.trials if t.kind == "screen"), key=lambda t: -t.reward))

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        trials = [{**vars(trial), "policy": trial.policy.to_json()} for trial in self.trials]
        return {
            "kind": RESULT_KIND,
            "method": self.method,
            "score": self.score,
            "baseline": self.baseline,
            "stopped": self.stopped,
            "left_out": list(self.left_out),
            "policy": self.policy.to_json(),
            "schedule": None if self.schedule is None else self.schedule.to_json(),
            "screen": [{"op": trial.op, "reward": trial.reward} for trial in self.screen],
            "trials": trials,
            "rescores": [{**asdict(row), "mean": row.mean} for row in self.rescores],
            "costs": asdict(self.costs),
            "settings": self.settings,
            "provenance": self.provenance,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SearchResult:
        """The result that `to_json` wrote, without its pictures.

        Raises:
          KeyError, TypeError, ValueError: it is no such document.
        """
        if document.get("kind") != RESULT_KIND:
            raise UsageError(f"The document is of kind {document.get('kind')!r}, not {RESULT_KIND!r}.")
        trials = [Trial(**{**trial, "policy": Policy.from_json(trial["policy"])}) for trial in document["trials"]]
        rescores = [Rescore(row["index"], row["first"], tuple(row["rewards"])) for row in document["rescores"]]
        schedule = document["schedule"]
        return cls(
            method=document["method"],
            policy=Policy.from_json(document["policy"]),
            schedule=None if schedule is None else Schedule.from_json(schedule),
            score=document["score"],
            trials=tuple(trials),
            rescores=tuple(rescores),
            stopped=document["stopped"],
            left_out=tuple(document["left_out"]),
            costs=Costs(**document["costs"]),
            settings=document["settings"],
            provenance=document["provenance"],
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes policy.json, schedule.json where there is one, and result.json."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.policy.save(target / POLICY_NAME)
        if self.schedule is not None:
            self.schedule.save(target / SCHEDULE_NAME)
        (target / RESULT_NAME).write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    def report(self, path: str | os.PathLike[str], *, comparison: Any = None) -> None:
        """Writes an HTML page of it, and of a Comparison if one is given; takes the extra tfpipe[report]."""
        from tfpipe.search.page import write_report

        write_report(self, path, comparison=comparison)


def costs_of(trials: Sequence[Any], *, wall_seconds: float, new: int, on_gpu: bool) -> Costs:
    """The costs of trainings, each with steps, seconds and cpu_seconds; `new` of them were of this run."""
    seconds = sum(trial.seconds for trial in trials)
    return Costs(
        trainings=len(trials),
        steps=sum(trial.steps for trial in trials),
        wall_seconds=wall_seconds,
        child_seconds=seconds,
        cpu_hours=sum(trial.cpu_seconds for trial in trials) / 3600,
        gpu_hours=seconds / 3600 * on_gpu,
        trials_per_minute=60 * new / max(wall_seconds, 1e-9),
    )


def provenance() -> dict[str, str]:
    """The versions and the machine."""
    from importlib import metadata

    names = ("tensorflow", "keras", "optuna", "numpy")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {
        "tfpipe": tfpipe.__version__,
        **versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
