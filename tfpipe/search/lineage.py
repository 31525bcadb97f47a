"""How a population's policies follow from each other: exploring, PBA's logs, and the schedule of the winner.

    schedule = read_pba_log("pbt_policy_15.txt", num_epochs=200)
    transforms = [augment.pba(schedule)]

A line of a log is [target, source, epoch of the target, epoch of the source, old configuration, new configuration]:
the target went on from the weights of the source, with the new configuration. A configuration is a list of integers,
or {"hp_policy": [...]}. A trial that is cloned inherits the lines of its source, so the last unbroken chain is the
history of the weights. No TensorFlow here.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfpipe.errors import DataError, UsageError
from tfpipe.policy import Schedule, Segment
from tfpipe.search.space import Vector, Walk, pba

# PBA's published rule: an element is drawn anew, or moved by 0 to 3 either way.
_RESAMPLED, _MOST_CHANGE = 0.2, 3


class Exploit(NamedTuple):
    """One line of a log: a trial went on from another one's weights.

    Attributes:
      target, source: the names of the trials.
      target_epoch, source_epoch: how many epochs each had trained.
      old, new: the source's vector, and the explored one that the target goes on with.
    """

    target: str
    source: str
    target_epoch: int
    source_epoch: int
    old: Vector
    new: Vector


def explore(space: Walk, vector: Sequence[int], generator: np.random.Generator) -> Vector:
    """A vector near another one, as published: each element is drawn anew with 0.2, else moved by 0 to 3 either way."""
    changed = []
    for dimension, value in zip(space.dimensions, vector, strict=True):
        high = int(dimension.high)
        if generator.random() < _RESAMPLED:
            changed.append(int(generator.integers(high + 1)))
        else:
            step = int(generator.integers(_MOST_CHANGE + 1)) * (1 if generator.random() < 0.5 else -1)
            changed.append(min(max(value + step, 0), high))
    return tuple(changed)


def schedule_of(
    lines: Sequence[Exploit], num_epochs: int, *, space: Walk | None = None, name: str = "searched", source: str = ""
) -> Schedule:
    """The schedule that the last trial's weights went through.

    Args:
      lines: of its log, at least one.
      num_epochs: of the whole search.
      space: of the vectors; None: PBA's.
      name, source: of the schedule.

    Raises:
      DataError: the epochs of the lines do not rise up to num_epochs.
    """
    breaks = [i + 1 for i in range(len(lines) - 1) if lines[i].target != lines[i + 1].source]
    chain = list(lines[breaks[-1] if breaks else 0 :])
    if not chain:
        raise DataError("The log holds no line, so that it has no schedule.")
    ends = [line.source_epoch for line in chain] + [num_epochs]
    lengths = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    if min(lengths) < 0:
        raise DataError(f"The epochs {ends[:-1]} of the log do not rise up to {num_epochs}.")
    vectors = [chain[0].old, *(line.new for line in chain)]
    known = space or pba()
    kept = [(length, vector) for length, vector in zip(lengths, vectors, strict=True) if length]
    segments = [Segment(length, known.policy(vector, name=f"{name}/{i}")) for i, (length, vector) in enumerate(kept)]
    return Schedule(name, tuple(segments), source)


def lines_of(schedule: Schedule, *, space: Walk | None = None) -> list[Exploit]:
    """The lines of the log that gives a schedule; the trials are numbered."""
    vectors = [(space or pba()).vector(segment.policy) for segment in schedule.segments]
    ends = np.cumsum([segment.epochs for segment in schedule.segments]).tolist()
    pairs = itertools.pairwise(vectors)
    lines = [Exploit(str(i + 1), str(i), ends[i], ends[i], old, new) for i, (old, new) in enumerate(pairs)]
    # A schedule of one policy is one that goes on with itself.
    return lines or [Exploit("1", "0", ends[0], ends[0], vectors[0], vectors[0])]


def read_pba_log(
    path: str | os.PathLike[str], *, num_epochs: int, space: Walk | None = None, name: str | None = None
) -> Schedule:
    """The schedule of a log in PBA's published form, as Ray Tune writes it too.

    Raises:
      DataError: a line is not of that form.
    """
    lines = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    parsed = [parse_exploit(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    return schedule_of(parsed, num_epochs, space=space, name=name or Path(path).stem, source=Path(path).name)


def write_pba_log(path: str | os.PathLike[str], lines: Sequence[Exploit]) -> None:
    """Writes lines in PBA's published form."""
    rows = [
        [x.target, x.source, x.target_epoch, x.source_epoch, {"hp_policy": list(x.old)}, {"hp_policy": list(x.new)}]
        for x in lines
    ]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def parse_exploit(line: str, place: str) -> Exploit:
    """The line of a log.

    Raises:
      DataError: it is none; the sentence names the place.
    """
    try:
        target, source, target_epoch, source_epoch, old, new = json.loads(line)
        return Exploit(str(target), str(source), int(target_epoch), int(source_epoch), _vector(old), _vector(new))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{place} is not [target, source, target epoch, source epoch, old, new]: {error!r}.") from error


def _vector(configuration: Any) -> Vector:
    """The integers of a configuration: a list, or the "hp_policy" of an object, which may hold them one by one."""
    if isinstance(configuration, dict) and "hp_policy" not in configuration:
        return tuple(int(configuration[name]) for name in sorted(configuration, key=_number_of))
    values = configuration["hp_policy"] if isinstance(configuration, dict) else configuration
    return tuple(int(value) for value in values)


def _number_of(name: str) -> int:
    """The number at the end of a name such as "v12"."""
    return int(name.lstrip("v"))


def check_quarter(members: int) -> int:
    """How many members a quarter of the population is, at least one.

    Raises:
      UsageError: there are too few members to have two quarters.
    """
    if members < 2:
        raise UsageError(f"members is {members}; a population needs at least two.")
    return max(1, members // 4)
