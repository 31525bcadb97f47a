"""Conversions as the tests run them, and ways for one to die."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beam_jobs.convert import Outcome, convert
from beam_jobs.job import Job
from tfpipe.format.manifest import Manifest
from tfpipe.maintenance.check import check_dataset

TARGET = 8_000
REJECTED = "rejected.jsonl"


def converted(source: Path, output: Path, **options: Any) -> Manifest:
    manifest = convert(Job(input=str(source), output=str(output), **{"target_bytes": TARGET, **options})).manifest
    assert manifest is not None
    return manifest


def run(source: Path, output: Path, **options: Any) -> Outcome:
    return convert(
        Job(input=str(source), output=str(output), **{"max_rejected": "99%", "target_bytes": 8_000, **options})
    )


def reasons_in(output: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (output / REJECTED).read_text(encoding="utf-8").splitlines()]
    assert all(row["detail"].endswith(".") for row in rows)
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row["reason"] for row in rows}


def assert_accounted(outcome: Outcome, output: Path) -> None:
    """Every input is written or refused; the manifest and rejected.jsonl agree."""
    manifest = outcome.manifest
    assert manifest is not None
    rejected = len((output / REJECTED).read_bytes().splitlines())
    assert manifest.num_records() + rejected == outcome.plan.listed
    assert sum(manifest.rejected.values()) == rejected
    assert manifest.rejected == outcome.refused
    assert check_dataset(manifest) == []


class KilledError(Exception):
    """Stands for whatever ends a run."""


def fail_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but its call of that number (from 0) dies before it does anything."""
    calls = iter(range(10**6))

    def function(*args: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise KilledError
        return real(*args, **options)

    return function
