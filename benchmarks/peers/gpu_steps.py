"""What the rows of bench_gpu.py share: their tasks, and how a call is timed on a device. It needs NumPy alone."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# A task's policy, the side of its images, and how many times as many of them there are.
TASKS = {
    "rand_augment_224": ("rand_augment", 224, 1),
    "auto_augment_224": ("auto_augment", 224, 1),
    "trivial_augment_224": ("trivial_augment", 224, 1),
    "rand_augment_32": ("rand_augment", 32, 16),
}

Step = Callable[[], Any]
Wait = Callable[[Any], None]


def time_steps(step: Step, wait: Wait, seconds: float, rounds: int) -> tuple[float, list[float]]:
    """Seconds of the first call, and per call of each round; `wait` returns when the device has finished its result."""
    begin = time.perf_counter()
    wait(step())
    first = time.perf_counter() - begin
    for _ in range(3):
        wait(step())
    begin = time.perf_counter()
    wait(step())
    calls = max(1, int(seconds / max(time.perf_counter() - begin, 1e-6)))
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            made = step()
        wait(made)
        found.append((time.perf_counter() - begin) / calls)
    return first, found


def report(task: str, batch: int, found: list[float], **facts: Any) -> None:
    """Prints a row's result for a task."""
    rates = [batch / one for one in found]
    middle = statistics.median(rates)
    facts["spread"] = (max(rates) - min(rates)) / middle
    print(json.dumps({"task": task, "batch": batch, "images_per_second": middle, **facts}), flush=True)


def peer_main(
    tasks: Callable[[str, np.ndarray, str, str], tuple[Step, Wait, dict]],
) -> None:
    """The main of a script of peers/: times what `tasks` makes of (policy, images, device, flag) for every task.

    Where it raises LookupError, the row has no such task.
    """
    folder, device, flag, seconds, rounds = sys.argv[1:]
    for task, (policy, side, _) in TASKS.items():
        images = np.load(Path(folder) / f"{side}.npy")
        try:
            step, wait, facts = tasks(policy, images, device, flag)
        except LookupError:
            continue
        first, found = time_steps(step, wait, float(seconds), int(rounds))
        report(task, len(images), found, first_seconds=round(first, 2), **facts)
