"""What was found against what costs little: no augmentation, flip and crop, TrivialAugment, RandAugment, random search.

All are trained from the same first weights on the same order of images, seed by seed, and measured on test images that
no search saw. So their differences are paired, and come with an interval: where it covers zero, no gain was shown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.errors import UsageError, require_extra
from tfpipe.policy import Policy, Schedule, is_integer
from tfpipe.search.bayesian_search import OnTrial
from tfpipe.search.result import COMPARISON_KIND, Costs, SearchResult, costs_of, provenance
from tfpipe.search.settings import Builder, Data, Pair, Training, open_data
from tfpipe.search.space import Slots, Walk, fitting, random_vector, slots

if TYPE_CHECKING:
    from tfpipe.augment.transform import OpTransform
    from tfpipe.search.child import Child

BASELINES = ("none", "flip_crop", "trivial_augment", "rand_augment", "random_search")
NO_GAIN = "no gain shown"
_TUNED_N, _TUNED_M = (1, 2), (3, 9, 15, 21)
_TUNING, _RANDOM, _FINAL = 21, 22, 23
_FOLD = 5


@dataclass(frozen=True)
class ComparedRow:
    """One way of augmenting.

    Attributes:
      name: of it.
      accuracies: on the test images, one for each seed.
      trainings: of children that it took to find it, before these.
      chosen: what tuning chose; "" where nothing was tuned.
    """

    name: str
    accuracies: tuple[float, ...]
    trainings: int
    chosen: str = ""

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class Interval:
    """A paired difference: its mean over the seeds, and the ends of its interval."""

    mean: float
    low: float
    high: float

    @property
    def covers_zero(self) -> bool:
        """Whether no difference was shown."""
        return not (self.low > 0 or self.high < 0)

    def to_json(self) -> dict[str, float | None]:
        """The numbers by name; None for an end that one seed does not tell, since JSON has no infinity."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Comparison:
    """A table of ways of augmenting; comparison["none"] is a mean accuracy, str() the table.

    Attributes:
      rows: the baselines first, in order.
      confidence: of the intervals: Student's t over the seeds.
      costs: of all trainings.
      settings: how children were trained.
      provenance: versions and machine.
    """

    rows: tuple[ComparedRow, ...]
    confidence: float
    costs: Costs
    settings: dict[str, Any]
    provenance: dict[str, str]

    def __getitem__(self, name: str) -> float:
        return self.row(name).mean

    def row(self, name: str) -> ComparedRow:
        """The row of a name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"The comparison has no row {name!r}; it has {[row.name for row in self.rows]}.")

    def interval(self, name: str, other: str) -> Interval:
        """How much better one is than another, seed by seed."""
        return paired_interval(self.row(name).accuracies, self.row(other).accuracies, confidence=self.confidence)

    def verdict(self, name: str) -> str:
        """What was shown of a row against no augmentation."""
        if name == "none":
            return ""
        found = self.interval(name, "none")
        if found.low > 0:
            return "gain"
        return "loss" if found.high < 0 else NO_GAIN

    def to_json(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        rows = [
            {
                **asdict(row),
                "mean": row.mean,
                "against_none": self.interval(row.name, "none").to_json(),
                "verdict": self.verdict(row.name),
            }
            for row in self.rows
        ]
        return {
            "kind": COMPARISON_KIND,
            "rows": rows,
            "confidence": self.confidence,
            "costs": asdict(self.costs),
            "settings": self.settings,
            "provenance": self.provenance,
        }

    def __str__(self) -> str:
        header = ["", "accuracy", f"against none ({self.confidence:.0%} interval)", "", "trainings to find it", ""]
        cells = [header]
        for row in self.rows:
            found = self.interval(row.name, "none")
            gain = "" if row.name == "none" else f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
            cells.append([row.name, f"{row.mean:.3f}", gain, self.verdict(row.name), str(row.trainings), row.chosen])
        widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(line.rstrip() for line in lines)


def paired_interval(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean of first - second, with Student's interval; infinitely wide for a single pair."""
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Interval(mean, -math.inf, math.inf)
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, count - 1) * differences.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def compare(
    found: Mapping[str, Policy | Schedule | OpTransform | SearchResult],
    train: Pair,
    test: Pair,
    *,
    seeds: int = 3,
    baselines: Sequence[str] = BASELINES,
    child: Builder = "small",
    training: Training = Training(),  # noqa: B008 (frozen)
    space: Slots | Walk | None = None,
    random_trials: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    on_trial: OnTrial | None = None,
) -> Comparison:
    """What was found and the baselines, trained on `train` and measured on `test`.

    RandAugment is tuned over 1 and 2 ops at 4 strengths, and random search draws policies of a space, both on a fifth
    that is split off `train`; then all are trained on the whole of it.

    Args:
      found: by name: policies, schedules, transforms made of ops, or results of searches, whose trainings are counted.
      train: as for `bayesian`.
      test: images that no search saw.
      seeds: trainings of each.
      baselines: which of BASELINES; "none" always is.
      child, training: as for `bayesian`.
      space: what random search draws from; None: as `bayesian`'s.
      random_trials: policies that it tries; None: as many trainings as the costliest result took, or 10.
      confidence: of the intervals.
      seed: of everything that is drawn.
      image_size: to resize a dataset's images to.
      channels: of a dataset's images: 3, or 1 for gray.
      on_trial: called as (done, all, best accuracy) after each training.

    Raises:
      UsageError: an argument is out of range, or a name is a baseline's.
      SetupError: scipy is missing; it comes with tfpipe[search].
    """
    if not is_integer(seeds, 1):
        raise UsageError(f"seeds is {seeds!r}; it must be an integer of at least 1.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence!r}; it must be between 0 and 1.")
    unknown = sorted(set(baselines) - set(BASELINES))
    if unknown:
        raise UsageError(f"Unknown baselines {unknown}; known: {list(BASELINES)}.")
    taken = sorted(set(found) & set(BASELINES))
    if taken:
        raise UsageError(f"{taken} are names of baselines; give what was found other names.")
    require_extra("search.compare", "scipy")
    begin = time.time()
    data, held_out = open_data(train, test, image_size=image_size, channels=channels)
    known = fitting(space or slots(), data.images.shape[-1])
    costs = [value.costs.trainings for value in found.values() if isinstance(value, SearchResult)]
    trials = random_trials or max(costs, default=10)
    wanted = [name for name in BASELINES if name == "none" or name in baselines]
    tuned = {"rand_augment": len(_TUNED_N) * len(_TUNED_M), "random_search": trials}
    total = sum(tuned.get(name, 0) for name in wanted) + seeds * (len(wanted) + len(found))
    contest = _Contest(data, (child, training, seed), known, found, (total, on_trial))
    made: dict[str, Callable[[], tuple[Any, str]]] = {
        "none": lambda: (None, ""),
        "flip_crop": lambda: (contest.flip_crop(), ""),
        "trivial_augment": lambda: (contest.trivial_augment(), ""),
        "rand_augment": contest.tune_rand_augment,
        "random_search": lambda: (contest.random_search(known, trials), ""),
    }
    entries: dict[str, tuple[Any, int, str]] = {}
    for name in wanted:
        made_of, chosen = made[name]()
        entries[name] = (made_of, tuned.get(name, 0), chosen)
    entries |= {name: _entry(value) for name, value in found.items()}
    accuracies = contest.measure({name: entry[0] for name, entry in entries.items()}, data, held_out, seeds, _FINAL)
    rows = [ComparedRow(name, tuple(accuracies[name]), entry[1], entry[2]) for name, entry in entries.items()]
    settings = {"training": asdict(training), "seeds": seeds, "seed": seed, "space": known.to_json()}
    return Comparison(tuple(rows), confidence, contest.costs(time.time() - begin), settings, provenance())


def _entry(value: Any) -> tuple[Any, int, str]:
    if isinstance(value, SearchResult):
        return value.schedule or value.policy, value.costs.trainings, ""
    return value, 0, ""


class _Contest:
    """Trainings on the same images with the same seeds."""

    def __init__(
        self,
        data: Data,
        how: tuple[Builder, Training, int],
        space: Slots | Walk,
        found: Mapping[str, Any],
        progress: tuple[int, OnTrial | None],
    ) -> None:
        from tfpipe import augment
        from tfpipe.search.child import ops_of

        (child, training, seed), (total, on_trial) = how, progress
        self._data, self._builder, self._training, self._seed = data, child, training, seed
        self._total, self._on_trial, self._best = total, on_trial, float("nan")
        self._outcomes: list[Any] = []
        order = np.random.default_rng([seed, _TUNING]).permutation(len(data.labels))
        cut = max(len(order) // _FOLD, 1)
        # One program for all, compiled once.
        self._tried = {f"n={n}, m={m}": augment.rand_augment(n, m) for n in _TUNED_N for m in _TUNED_M}
        own = [self.flip_crop(), self.trivial_augment(), *self._tried.values()]
        self._ops = ops_of(*own, space, *(_entry(value)[0] for value in found.values()))
        self._kept, self._split_off = data.part(np.sort(order[cut:])), data.part(np.sort(order[:cut]))

    def flip_crop(self) -> OpTransform:
        """Zero-padding by an eighth of the side, a random window, and a flip: as for CIFAR."""
        from tfpipe import augment

        padding = max(min(self._data.images.shape[1:3]) // 8, 1)
        made = augment.compose([augment.pad_and_crop(padding, fill=0), augment.flip_left_right()])
        if not isinstance(made, augment.OpTransform):
            raise TypeError("ops that choose no size compose to one table of choices")
        return made

    def trivial_augment(self) -> OpTransform:
        """TrivialAugment, which has nothing to tune."""
        from tfpipe import augment

        return augment.trivial_augment_wide()

    def tune_rand_augment(self) -> tuple[OpTransform, str]:
        """RandAugment with the best of some settings, and which."""
        tried = self._tried
        scores = self.measure(tried, self._kept, self._split_off, 1, _TUNING)
        best = max(scores, key=lambda name: scores[name][0])
        return tried[best], best

    def random_search(self, space: Slots | Walk, trials: int) -> Policy:
        """The best of some policies that were drawn."""
        generator = np.random.default_rng([self._seed, _RANDOM])
        tried = {f"{i}": space.policy(random_vector(space, generator), name=f"random {i}") for i in range(trials)}
        scores = self.measure(tried, self._kept, self._split_off, 1, _RANDOM)
        return tried[max(scores, key=lambda name: scores[name][0])]

    def measure(
        self, entries: Mapping[str, Any], train: Data, test: Data, seeds: int, stream: int
    ) -> dict[str, list[float]]:
        """The accuracy of each entry for each seed."""
        from tfpipe.search.child import Child, run_child

        ops, stages = self._ops
        child: Child = Child(self._builder, train, ops=ops, num_stages=stages, training=self._training)
        scores: dict[str, list[float]] = {name: [] for name in entries}
        for repeat in range(seeds):
            for name, entry in entries.items():
                draws = (self._seed, stream, repeat)
                # The reward is not used; a single image costs nothing.
                outcome = run_child(child, entry, test.part(np.arange(1)), self._training, seed=repeat, draws=draws)
                scores[name].append(child.accuracy(test))
                self._outcomes.append(outcome)
                self._best = np.nanmax([self._best, scores[name][-1]])
                if self._on_trial is not None:
                    self._on_trial(len(self._outcomes), self._total, float(self._best))
        return scores

    def costs(self, wall_seconds: float) -> Costs:
        """Of all trainings."""
        outcomes = [SimpleNamespace(**asdict(outcome)) for outcome in self._outcomes]
        on_gpu = any(outcome.on_gpu for outcome in outcomes)
        return costs_of(outcomes, wall_seconds=wall_seconds, new=len(outcomes), on_gpu=on_gpu)
