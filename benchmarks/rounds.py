"""What the benchmarks share: rounds in a random order, medians with their spread, and results as JSON.

    passes = {name: [] for name in rows}
    for number, name in turns(rows, rounds=3):  # another order each round, so that no row profits from its position
        passes[name].append(time_pass(rows[name], consume))  # of tfpipe.timing: images, wall and CPU seconds
    print(rates(passes["tfpipe"]).per_cpu_second)

A rate without the load of its machine says little: every result file names the command, the commit, the cores, the load
and the versions. Ratios within one file are what counts.

Nothing here imports tfpipe, so that a benchmark may choose which checkout it measures (bench_ops.py --path).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from tfpipe.timing import Pass

_VERSIONS = ("tfpipe", "tensorflow", "keras", "numpy", "apache-beam")
# The clocks of other processes count in steps of 10 ms.
_LEAST_SECONDS = 0.01

Name = TypeVar("Name")


# ---- rounds


def turns(names: Collection[Name], rounds: int, *, seed: int = 0) -> Iterator[tuple[int, Name]]:
    """Yields (round, name): every name once a round, each round in another order; names may be removed meanwhile."""
    draw = random.Random(seed)
    for number in range(rounds):
        for name in draw.sample(list(names), len(names)):
            yield number, name


class Median(NamedTuple):
    """A median with the spread of its values, (largest - smallest) / median."""

    value: float
    spread: float


def median(values: Iterable[float]) -> Median:
    """The median of some values and their spread; a spread is 0 where the median is."""
    found = list(values)
    middle = statistics.median(found)
    return Median(middle, (max(found) - min(found)) / middle if middle else 0.0)


class Rates(NamedTuple):
    """Images per second and per CPU-second of a row, over its passes."""

    per_second: Median
    per_cpu_second: Median


def rates(passes: Sequence[Pass]) -> Rates:
    """The medians over passes; a pass's images may be megabytes or records as well."""
    return Rates(
        median(one.images / max(one.wall_seconds, 1e-9) for one in passes),
        median(one.images / max(one.cpu_seconds, _LEAST_SECONDS) for one in passes),
    )


# ---- results


class Results:
    """The rows of one benchmark: each is printed as a line of JSON when it comes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any], file: Any = None) -> None:
        """Keeps and prints a row."""
        self.rows.append(row)
        print(json.dumps(row), flush=True, file=file)

    def save(self, path: Path) -> None:
        """Writes all rows, and what they were measured on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**_circumstances(), "rows": self.rows}, indent=1) + "\n")


@contextlib.contextmanager
def recorded(path: Path | None) -> Iterator[Results]:
    """Results that are saved at the end where a path is given; what came before an error is saved, too."""
    results = Results()
    try:
        yield results
    finally:
        if path is not None:
            results.save(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of --json, or of a benchmark's output, whose other lines are skipped."""
    text = path.read_text()
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)["rows"]
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --json FILE."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row, and what it was measured on")


def _circumstances() -> dict[str, Any]:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": found.stdout.strip() or None,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _VERSIONS if _is_installed(name)},
    }


def _is_installed(name: str) -> bool:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(name))
    return False
