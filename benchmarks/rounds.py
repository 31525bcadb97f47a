"""What the benchmarks share: rounds in turns, medians with their spread, and results as JSON.

    for number, name in turns(rows, rounds=3):     # each round in another order, so that no row profits from its place
        results.add({"row": name, "round": number, ...})

A rate without the load of its machine says little: every result file names the command, the commit, the cores, the load
and the versions. Ratios within one file are what counts.
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
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

_VERSIONS = ("tfpipe", "tensorflow", "keras", "numpy", "apache-beam")


def turns(names: Collection[str], rounds: int, *, seed: int = 0) -> Iterator[tuple[int, str]]:
    """Yields (round, name): every name once a round, each round in another order; names may be removed meanwhile."""
    draw = random.Random(seed)
    for number in range(rounds):
        for name in draw.sample(list(names), len(names)):
            yield number, name


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The median, and (largest - smallest) / median."""
    median = statistics.median(values)
    return median, (max(values) - min(values)) / median


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
