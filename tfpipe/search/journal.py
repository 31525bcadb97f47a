"""The journal of a search: what was tried, kept by optuna in one file that survives kill -9, and shared by processes.

A search's folder holds search.json (what is searched), journal.log (optuna's) and, once it is done, what was found. A
trial has an `index` of its own, which a trial that was cut off hands on to the one that repeats it; all that it draws
follows from the search's seed and this index, and the sampler is seeded anew for each. So a search that was killed and
resumed finds what it would have found. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tfpipe.errors import SetupError, UsageError
from tfpipe.search.space import Dimension, Space, Vector

if TYPE_CHECKING:
    import optuna

SEARCH_NAME, JOURNAL_NAME = "search.json", "journal.log"
TRIALS, RESCORES = "trials", "rescores"
# A name, or a function from a seed to a sampler of optuna's.
Sampler = str | Callable[[int], Any]
SAMPLERS = ("tpe", "random", "forest")
PRUNERS = ("none", "median", "halving")
_FOREST_CANDIDATES, _FOREST_START = 1000, 10


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock of the kernel, which ends with the process that holds it.

    Raises:
      SetupError: another process holds it, and this one is not to wait.
    """
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise SetupError(
                f"Another process searches in {path.parent}; wait for it, or take another folder."
            ) from error
        yield


def open_folder(folder: Path, document: dict[str, Any]) -> None:
    """Makes the folder of a new search, or checks that it holds this one.

    Raises:
      UsageError: it holds another search.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SEARCH_NAME
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(document))
        differing = sorted(name for name in {**found, **wanted} if found.get(name) != wanted.get(name))
        if differing:
            pairs = [f"{name}: {found.get(name)} there, {wanted.get(name)} here" for name in differing]
            raise UsageError(f"{folder} holds another search: {'; '.join(pairs)}.")
        return
    if (folder / JOURNAL_NAME).exists():
        raise UsageError(f"{folder} holds a journal without {SEARCH_NAME}; take another folder.")
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)


def mend(folder: Path) -> None:
    """Cuts off the line that a killed process did not finish, and marks its trials as failed, to be done again.

    Only while no other process works on the journal.
    """
    path = folder / JOURNAL_NAME
    if not path.exists():
        return
    cut_unfinished_line(path)
    states = _states()
    for name in (TRIALS, RESCORES):
        study = open_study(folder, name)
        for trial in study.get_trials(deepcopy=False):
            if trial.state == states.RUNNING:
                give_back(study, trial)


def cut_unfinished_line(path: Path) -> None:
    """Cuts off what follows the last end of a line."""
    written = path.read_bytes()
    kept = written[: written.rfind(b"\n") + 1]
    if len(kept) < len(written):
        with open(path, "r+b") as file:
            file.truncate(len(kept))


def give_back(study: optuna.Study, trial: Any) -> None:
    """Marks a trial that was cut off as failed; one that was in line is put in line again."""
    study.tell(trial.number, state=_states().FAIL)
    fixed = trial.system_attrs.get("fixed_params")
    if fixed is not None:
        study.enqueue_trial(fixed, user_attrs={k: v for k, v in trial.user_attrs.items() if k != "outcome"})


def open_study(folder: Path, name: str, *, pruner: str = "none") -> optuna.Study:
    """The study of a name in a folder's journal.

    Raises:
      ImportError: optuna is missing.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL_NAME), lock_obj=cast(Any, _KernelLock(folder))))
    pruners = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    }
    return optuna.create_study(
        study_name=name, storage=storage, direction="maximize", load_if_exists=True, pruner=pruners[pruner]()
    )


class _KernelLock:
    """A lock as optuna's journal takes it. Optuna's own are files, which a killed process leaves behind."""

    def __init__(self, folder: Path) -> None:
        self._path, self._held = folder / "journal.lock", contextlib.ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(file_lock(self._path))
        return True

    def release(self) -> None:
        self._held.close()


def enqueue(study: optuna.Study, vectors: Sequence[tuple[Vector, dict[str, Any]]], space: Space | None) -> None:
    """Puts trials at the head of a new study, each with what it is; a study that has trials already stays as it is."""
    done = len(study.get_trials(deepcopy=False))
    for index, (vector, attributes) in list(enumerate(vectors))[done:]:
        study.enqueue_trial(_params(space, vector), user_attrs={**attributes, "index": index})


def claim(
    folder: Path, study: optuna.Study, space: Space | None, *, limit: int, sampler: Sampler, seed: int
) -> optuna.Trial | None:
    """The next trial, which no other process gets; None where `limit` trials are done or under way."""
    states = _states()
    with file_lock(folder / "claim.lock"):
        kept = [trial for trial in study.get_trials(deepcopy=False) if trial.state != states.FAIL]
        if sum(trial.state != states.WAITING for trial in kept) >= limit:
            return None
        used = {trial.user_attrs.get("index") for trial in kept}
        index = next(i for i in range(len(kept) + 1) if i not in used)
        waiting = any(trial.state == states.WAITING for trial in kept)
        if not waiting:
            study.sampler = _sampler(sampler, _seed_of(seed, index))
        if space is not None and sampler == "forest" and not waiting and len(kept) >= _FOREST_START:
            finished = [trial for trial in kept if trial.state == states.COMPLETE]
            vector = _forest_proposal(space, finished, _seed_of(seed, index))
            study.enqueue_trial(_params(space, vector), user_attrs={"kind": "sampled", "index": index})
        trial = study.ask()
        if "index" not in trial.user_attrs:
            trial.set_user_attr("index", index)
            trial.set_user_attr("kind", "sampled")
        if space is not None:
            for dimension in space.dimensions:
                _suggest(trial, dimension)
        return trial


def vector_of(space: Space, params: dict[str, Any]) -> Vector:
    """The vector of a trial's parameters."""
    return tuple(params[dimension.name] for dimension in space.dimensions)


def finished(study: optuna.Study) -> list[Any]:
    """The trials that came to their end or were pruned, by index."""
    states = _states()
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in (states.COMPLETE, states.PRUNED)]
    return sorted(trials, key=lambda trial: trial.user_attrs["index"])


def enqueue_missing(study: optuna.Study, wanted: Sequence[dict[str, Any]], names: tuple[str, ...]) -> int:
    """Puts what has no trial yet, by some of its attributes, in line; returns the number of all trials."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != _states().FAIL]
    known = {tuple(trial.user_attrs[name] for name in names) for trial in trials}
    missing = [attributes for attributes in wanted if tuple(attributes[name] for name in names) not in known]
    for index, attributes in enumerate(missing, len(trials)):
        study.enqueue_trial({}, user_attrs={**attributes, "index": index})
    return len(trials) + len(missing)


def complete_state() -> Any:
    """What a trial that came to its end is told as."""
    return _states().COMPLETE


def pruned_state() -> Any:
    """What a trial that was given up is told as."""
    return _states().PRUNED


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState


def _params(space: Space | None, vector: Vector) -> dict[str, Any]:
    return {} if space is None else {d.name: value for d, value in zip(space.dimensions, vector, strict=True)}


def _suggest(trial: optuna.Trial, dimension: Dimension) -> None:
    if dimension.choices:
        trial.suggest_categorical(dimension.name, dimension.choices)
    elif dimension.whole:
        trial.suggest_int(dimension.name, 0, int(dimension.high))
    else:
        trial.suggest_float(dimension.name, 0.0, dimension.high)


def _seed_of(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _sampler(sampler: Sampler, seed: int) -> Any:
    import optuna

    if callable(sampler):
        return sampler(seed)
    if sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _forest_proposal(space: Space, trials: Sequence[Any], seed: int) -> Vector:
    """The candidate of the largest expected improvement, by a random forest: DeepAugment's optimiser.

    Raises:
      ImportError: scikit-learn is missing.
    """
    from scipy.stats import norm
    from sklearn.ensemble import RandomForestRegressor

    generator = np.random.default_rng(seed)
    scores = np.array([trial.value for trial in trials])
    seen = np.array([_coded(space, vector_of(space, trial.params)) for trial in trials])
    forest = RandomForestRegressor(100, min_samples_leaf=3, random_state=seed).fit(seen, scores)
    vectors = [tuple(d.draw(generator) for d in space.dimensions) for _ in range(_FOREST_CANDIDATES)]
    coded = np.array([_coded(space, vector) for vector in vectors])
    by_tree = np.array([tree.predict(coded) for tree in forest.estimators_])
    mean, deviation = by_tree.mean(axis=0), by_tree.std(axis=0) + 1e-9
    gain = (mean - scores.max()) / deviation
    return vectors[int(np.argmax(deviation * (gain * norm.cdf(gain) + norm.pdf(gain))))]


def _coded(space: Space, vector: Vector) -> list[float]:
    """A vector as numbers: one column for each choice."""
    columns: list[float] = []
    for dimension, value in zip(space.dimensions, vector, strict=True):
        columns += [float(value == choice) for choice in dimension.choices] or [float(value)]
    return columns
