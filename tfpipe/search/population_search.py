"""Population Based Augmentation: members train side by side, and the weak go on from the strong.

After each round the bottom quarter takes over the weights and the vector of a member of the top quarter, and explores
from there by PBA's published rule; so what is found is a schedule, that of the winner's weights. The members start
spread over the space, one of them unaugmented: on real digits a small population that started at zero, as PBA does,
found nothing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tfpipe.errors import UsageError
from tfpipe.policy import Schedule, Segment, is_integer, is_number
from tfpipe.search.bayesian_search import OnTrial, check_engine, name_of
from tfpipe.search.journal import file_lock, open_folder
from tfpipe.search.lineage import check_quarter
from tfpipe.search.members import MEMBERS_NAME, MemberLog, Population, Records, run_local, winner_of
from tfpipe.search.result import CHILD_NAME, Rescore, SearchResult, Trial, costs_of
from tfpipe.search.settings import Builder, OutOfTime, Pair, Training, open_data
from tfpipe.search.space import UNIFORM_OPS, Walk, fitting, walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tfpipe.search.child import Child

STARTS = ("spread", "zero")
_RESCORE = 14


def population(
    train: Pair,
    validation: Pair,
    *,
    members: int = 16,
    rounds: int = 10,
    space: Walk | None = None,
    child: Builder = "small",
    training: Training = Training(),  # noqa: B008 (frozen)
    storage: str | os.PathLike[str] | None = None,
    engine: str = "local",
    workers: int | None = None,
    start: str = "spread",
    seed: int = 0,
    repeats: int = 2,
    budget_seconds: float | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    on_trial: OnTrial | None = None,
) -> SearchResult:
    """The schedule of policies under which a small model learns best.

    Args:
      train, validation: as for `bayesian`.
      members: of the population.
      rounds: after each of which the bottom quarter goes on from the top quarter; they share training.steps.
      space: None: one copy of tfpipe's ops, with strengths drawn up to the magnitude; space.pba() is the published one.
      child, training: as for `bayesian`.
      storage: a folder in which a search that was killed is resumed; None: nothing is kept.
      engine: "local", a pure function of the seed; or "ray", Ray Tune's PopulationBasedTraining on this machine or a
        cluster (takes tfpipe[ray]).
      workers: processes that train members at the same time; None: one, and on Ray as many as it has room for.
      start: "spread" over the space with one unaugmented member, or "zero" as published.
      seed: of everything that is drawn.
      repeats: how often a child is trained from scratch under the schedule that was found; the mean is the score.
      budget_seconds: the search stops in time, with the best so far.
      image_size: to resize a dataset's images to.
      channels: of a dataset's images: 3, or 1 for gray.
      on_trial: called as (done, all, best accuracy) after each member's round.

    Raises:
      UsageError: an argument is out of range, or the folder holds another search.
      SetupError: Ray is missing; it comes with tfpipe[ray].
    """
    _check(members, rounds, repeats, start, training, budget_seconds)
    check_engine(engine)
    if workers is not None and not is_integer(workers, 1):
        raise UsageError(f"workers is {workers!r}; it must be an integer of at least 1, or None.")
    begin = time.time()
    deadline = begin + (budget_seconds or float("inf"))
    data, held_out = open_data(train, validation, image_size=image_size, channels=channels)
    known = fitting(space or walk(ops=UNIFORM_OPS), data.images.shape[-1])
    if not isinstance(known, Walk):
        raise UsageError("A population searches a space with a probability for every op: space.walk() or space.pba().")
    settings = {
        "method": "population",
        "members": members,
        "rounds": rounds,
        "seed": seed,
        "engine": engine,
        "start": start,
        "space": known.to_json(),
        "training": asdict(training),
        "child": child if isinstance(child, str) else name_of(child),
        "repeats": repeats,
        "train": data.digest,
        "validation": held_out.digest,
    }
    with contextlib.ExitStack() as stack:
        folder = Path(storage or stack.enter_context(tempfile.TemporaryDirectory()))
        open_folder(folder, settings)
        stack.enter_context(file_lock(folder / "search.lock", wait=False))
        task = Population(folder, data, held_out, child, training, known, seed, members, rounds, start)
        done, stopped = _run(task, (engine, workers), repeats, deadline, on_trial)
        result = _result(task, done, stopped, settings, time.time() - begin)
        if storage is not None:
            result.save(folder)
    return result


@dataclass
class _Done:
    records: Records
    rescores: list[dict[str, Any]]
    before: int


def _run(
    task: Population, where: tuple[str, int | None], repeats: int, deadline: float, on_trial: OnTrial | None
) -> tuple[_Done, str]:
    engine, workers = where
    log = MemberLog(task.folder / MEMBERS_NAME)
    done = _Done(Records(), [], len(log.lines))
    total = task.members * task.rounds + repeats

    def tell() -> None:
        if on_trial is not None:
            best = max((row["accuracy"] for row in done.records.rows), default=float("nan"))
            on_trial(len(done.records.rows) + len(done.rescores), total, best)

    try:
        if engine == "ray":
            from tfpipe.search.ray_engine import run_on_ray

            run_on_ray(task, done.records, deadline, tell, workers=workers)
        else:
            run_local(task, log, done.records, deadline, tell, workers=workers or 1)
        if done.records.rounds:
            _rescore(task, log, done, repeats, deadline, tell)
        is_short = done.records.rounds < task.rounds or len(done.rescores) < repeats
        return done, "budget" if is_short else ""
    except OutOfTime:
        return done, "budget"
    except KeyboardInterrupt:
        return done, "interrupted"


def _rescore(
    task: Population, log: MemberLog, done: _Done, repeats: int, deadline: float, tell: Callable[[], None]
) -> None:
    """Trains from scratch under the winner's schedule, with new seeds."""
    from tfpipe.search.child import run_child

    schedule, _ = winner_of(task, done.records)
    child: Child | None = None
    for repeat in range(repeats):
        line = log.find(rescore=repeat, rounds=done.records.rounds)
        if line is None:
            child = child or task.make_child()
            seed, draws = task.seed + 1000 + repeat, (task.seed, _RESCORE, repeat)
            outcome = run_child(
                child, schedule, task.validation, task.training, seed=seed, draws=draws, deadline=deadline
            )
            best = max((row["reward"] for row in done.rescores), default=-1.0)
            if outcome.reward > best:
                child.save(task.folder / CHILD_NAME)
            line = {"rescore": repeat, "rounds": done.records.rounds, **asdict(outcome)}
            log.add(line)
        done.rescores.append(line)
        tell()


def _result(task: Population, done: _Done, stopped: str, settings: dict[str, Any], wall_seconds: float) -> SearchResult:
    rows = done.records.rows
    if done.records.rounds:
        schedule, first = winner_of(task, done.records)
    else:
        schedule, first = Schedule("searched", (Segment(1, task.space.policy(task.space.idle)),)), 0.0
    rewards = tuple(row["reward"] for row in done.rescores)
    trials = [
        Trial(
            index=row["round"] * task.members + (row["member"] if isinstance(row["member"], int) else i % task.members),
            kind="member",
            policy=task.space.policy(row["vector"], name=f"round {row['round']}, member {row['member']}"),
            reward=row["accuracy"],
            **{name: row[name] for name in ("steps", "seconds", "cpu_seconds")},
        )
        for i, row in enumerate(rows)
    ]
    trainings = [SimpleNamespace(**row) for row in (*rows, *done.rescores)]
    return SearchResult(
        method="population",
        policy=schedule.segments[-1].policy,
        schedule=schedule,
        score=sum(rewards) / len(rewards) if rewards else None,
        trials=tuple(trials),
        rescores=(Rescore(-1, first, rewards),) if rewards else (),
        stopped=stopped,
        left_out=(),
        costs=costs_of(
            trainings,
            wall_seconds=wall_seconds,
            new=len(trainings) - done.before,
            on_gpu=any(row.on_gpu for row in trainings),
        ),
        settings=settings,
        pictures=task.train.images[:8],
    )


def _check(members: int, rounds: int, repeats: int, start: str, training: Training, budget: Any) -> None:
    for name, value in {"members": members, "rounds": rounds, "repeats": repeats}.items():
        if not is_integer(value, 1):
            raise UsageError(f"{name} is {value!r}; it must be an integer of at least 1.")
    check_quarter(members)
    if rounds > training.steps:
        raise UsageError(f"rounds is {rounds}, but a child has only {training.steps} steps.")
    if start not in STARTS:
        raise UsageError(f"Unknown start {start!r}; known: {list(STARTS)}.")
    if budget is not None and not (is_number(budget) and budget > 0):
        raise UsageError(f"budget_seconds is {budget!r}; it must be a positive number, or None.")
