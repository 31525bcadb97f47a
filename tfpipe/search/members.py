"""The members of a population: what they train under, round by round, and where they go on from."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.policy import Schedule, Segment
from tfpipe.search.helpers import Processes, check_importable
from tfpipe.search.journal import cut_unfinished_line
from tfpipe.search.lineage import Exploit, check_quarter, explore, schedule_of
from tfpipe.search.settings import Builder, Data, OutOfTime, Training
from tfpipe.search.space import Vector, Walk, random_vector

if TYPE_CHECKING:
    from tfpipe.search.child import Child

MEMBERS_NAME = "members.jsonl"
_START, _ROUND, _EXPLORE = 11, 12, 13
# Of the entries of a member that starts spread, the share that happens at all: so members differ in what they hold.
_SPREAD = 0.25


@dataclass(frozen=True)
class Population:
    """What every engine needs to know.

    Attributes:
      folder: of the search.
      train, validation: the images.
      child, training: what is trained, and how.
      space: of the vectors.
      seed: of everything.
      members, rounds: how many.
      start: "spread" or "zero".
    """

    folder: Path
    train: Data
    validation: Data
    child: Builder
    training: Training
    space: Walk
    seed: int
    members: int
    rounds: int
    start: str = "spread"

    def first_vectors(self) -> list[Vector]:
        """The vector that each member starts with; the first member's is zero."""
        vectors = [self.space.idle] * self.members
        if self.start == "zero":
            return vectors
        for member in range(1, self.members):
            generator = np.random.default_rng([self.seed, _START, member])
            drawn = np.array(random_vector(self.space, generator))
            drawn[::2] *= generator.random(len(drawn) // 2) < _SPREAD
            vectors[member] = tuple(drawn.tolist())
        return vectors

    def steps_of(self, turn: int) -> int:
        """The steps of a round."""
        return self.training.steps * (turn + 1) // self.rounds - self.training.steps * turn // self.rounds

    def make_child(self) -> Child:
        """The child that all members of a process share."""
        from tfpipe.search.child import Child, ops_of

        ops, stages = ops_of(self.space)
        child = Child(self.child, self.train, ops=ops, num_stages=stages, training=self.training)
        child.compile()
        return child

    def train_member(self, child: Child, vector: Vector, turn: int, draw: int) -> dict[str, Any]:
        """Trains the child, as it stands, for a round under a vector's policy; returns what came of it."""
        from tfpipe.search.child import has_accelerator, transform_of

        begin = time.perf_counter(), time.process_time()
        child.train(
            transform_of(self.space.policy(vector)),
            self.steps_of(turn),
            np.random.default_rng([self.seed, _ROUND, turn, draw]),
        )
        # The same images for all members of a round, and others in the next.
        generator = np.random.default_rng([self.seed, _ROUND, turn])
        count = min(self.training.validation_images, len(self.validation.labels))
        picked = np.sort(generator.choice(len(self.validation.labels), count, replace=False))
        return {
            "accuracy": child.accuracy(self.validation.part(picked)),
            "steps": self.steps_of(turn),
            "seconds": time.perf_counter() - begin[0],
            "cpu_seconds": time.process_time() - begin[1],
            "on_gpu": has_accelerator(),
        }


@dataclass
class Records:
    """What an engine has done.

    Attributes:
      rows: of each member and round: round, member, vector, and what train_member returns.
      histories: of each member, the exploits that its weights went through.
      rounds: that all members have finished.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    histories: dict[Any, list[Exploit]] = field(default_factory=dict)
    rounds: int = 0


class MemberLog:
    """The lines of a population's journal, each on the disk before the next training begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists():
            cut_unfinished_line(path)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """The line with these values."""
        return next((x for x in self.lines if all(x.get(name) == value for name, value in wanted.items())), None)

    def add(self, line: dict[str, Any]) -> dict[str, Any]:
        """Writes a line, and returns it."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)
        return line


class Rounds:
    """Trains members for a round each, with one child; their weights lie in the folder in between."""

    def __init__(self, task: Population) -> None:
        self._task = task
        self._child: Child | None = None

    def train(self, turn: int, member: int, vector: Vector, source: int) -> dict[str, Any]:
        """A member's round, from the weights that a source had after the one before; returns its line."""
        task = self._task
        child = self._child = self._child or task.make_child()
        if turn == 0:
            child.reset(task.seed + member)
        else:
            child.restore(_load_state(task.folder, turn - 1, source))
        outcome = task.train_member(child, vector, turn, member)
        _save_state(task.folder, turn, member, child.state())
        return {"round": turn, "member": member, "vector": list(vector), **outcome}

    def call(self, method: str, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """As Processes.call, in this process."""
        return (getattr(self, method)(*arguments) for arguments in calls)

    def close(self) -> None:
        """Nothing to end."""


def run_local(
    task: Population, log: MemberLog, records: Records, deadline: float, tell: Callable[[], None], *, workers: int = 1
) -> None:
    """Round after round, the members of each in some processes; the weights differ by rounding alone.

    What a log holds is not done again: the rest follows from it.
    """
    if workers > 1:
        check_importable(f"workers={workers}", {"child": task.child})
    vectors, sources = task.first_vectors(), list(range(task.members))
    records.histories.update({member: [] for member in range(task.members)})
    with contextlib.closing(Processes(Rounds(task), workers) if workers > 1 else Rounds(task)) as hands:
        for turn in range(task.rounds):
            lines = [line for line in log.lines if line.get("round") == turn]
            missing = sorted(set(range(task.members)) - {line["member"] for line in lines})
            in_time = itertools.takewhile(lambda _: time.time() <= deadline, missing)
            calls = ((turn, member, vectors[member], sources[member]) for member in in_time)
            for line in itertools.chain(lines, map(log.add, hands.call("train", calls))):
                records.rows.append(line)
                tell()
            records.rows.sort(key=lambda row: (row["round"], row["member"]))
            if len(records.rows) < (turn + 1) * task.members:
                raise OutOfTime
            records.rounds = turn + 1
            _forget_states(task.folder, turn - 1)
            if turn + 1 < task.rounds:
                scores = [row["accuracy"] for row in records.rows[-task.members :]]
                vectors, sources = next_round(task, turn, scores, vectors, records.histories)


def next_round(
    task: Population, turn: int, scores: Sequence[float], vectors: Sequence[Vector], histories: dict[Any, list[Exploit]]
) -> tuple[list[Vector], list[int]]:
    """The vectors of the next round, and whose weights each member goes on from."""
    generator = np.random.default_rng([task.seed, _EXPLORE, turn])
    quarter = check_quarter(task.members)
    ranked = sorted(range(task.members), key=lambda member: (-scores[member], member))
    changed, sources = list(vectors), list(range(task.members))
    before = {member: list(lines) for member, lines in histories.items()}
    for loser in ranked[-quarter:]:
        winner = ranked[int(generator.integers(quarter))]
        changed[loser], sources[loser] = explore(task.space, vectors[winner], generator), winner
        line = Exploit(str(loser), str(winner), turn + 1, turn + 1, vectors[winner], changed[loser])
        histories[loser] = [*before[winner], line]
    return changed, sources


def winner_of(task: Population, records: Records) -> tuple[Schedule, float]:
    """The schedule of the member that is best after the last round that all finished, and its accuracy."""
    last = [row for row in records.rows if row["round"] == records.rounds - 1]
    best = max(last, key=lambda row: row["accuracy"])
    lines = [line for line in records.histories[best["member"]] if line.target_epoch < records.rounds]
    source = f"tfpipe search population, member {best['member']}"
    if lines:
        return schedule_of(lines, records.rounds, space=task.space, source=source), best["accuracy"]
    policy = task.space.policy(best["vector"], name="searched/0")
    return Schedule("searched", (Segment(records.rounds, policy),), source), best["accuracy"]


def _state_path(folder: Path, turn: int, member: int) -> Path:
    return folder / "states" / f"{turn:04d}-{member:04d}.npz"


def _save_state(folder: Path, turn: int, member: int, state: Sequence[np.ndarray]) -> None:
    path = _state_path(folder, turn, member)
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".draft.npz")
    np.savez(draft, *state)
    os.replace(draft, path)


def _load_state(folder: Path, turn: int, member: int) -> list[np.ndarray]:
    with np.load(_state_path(folder, turn, member)) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


def _forget_states(folder: Path, turn: int) -> None:
    for path in _matching(folder, turn):
        path.unlink(missing_ok=True)


def _matching(folder: Path, turn: int) -> Iterator[Path]:
    return (folder / "states").glob(f"{turn:04d}-*.npz")
