"""Times pipelines against each other: in turn, in random order, by medians.

    rows = compare({"plain": make_plain, "tuned": make_tuned}, consume=read_all, repeats=3)
    for row in rows:
        print(row.variant, row.images_per_second, row.speedup)

Nothing here knows TensorFlow: a variant is a function that builds something to iterate over, and `consume` runs through
it once and returns how many images it saw. One build is timed over several passes: the first pass pays for tracing,
threads and cold caches, and is told apart.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Pass(NamedTuple):
    """One run through a pipeline: its images, its wall time and this process's CPU time in it."""

    images: int
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Row:
    """What was measured of a variant.

    Attributes:
      variant: its name.
      images_per_second: median over the passes after the first.
      spread: (largest - smallest) / median of these.
      images_per_cpu_second: median; on a shared machine it is steadier than the rate.
      utilisation: CPU seconds per wall second, median: 2.0 is two busy cores.
      first_epoch_seconds: wall time of the first pass.
      speedup: images_per_second against the first variant's.
    """

    variant: str
    images_per_second: float
    spread: float
    images_per_cpu_second: float
    utilisation: float
    first_epoch_seconds: float
    speedup: float


def time_pass(pipeline: Any, consume: Callable[[Any], int]) -> Pass:
    """Runs through a pipeline once."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    images = consume(pipeline)
    return Pass(images, time.perf_counter() - wall, _cpu_seconds() - cpu)


def compare(
    variants: Mapping[str, Callable[[], Any]], *, consume: Callable[[Any], int], repeats: int = 3, seed: int = 0
) -> list[Row]:
    """Times all variants in one run.

    Args:
      variants: for each name, a function that builds the pipeline; the first is what speedups refer to.
      consume: runs through a pipeline once and returns the number of images.
      repeats: passes of each variant after its first.
      seed: of the order in which variants take turns.

    Returns:
      One row for each variant, in the order given.

    Raises:
      ValueError: there is no variant, or repeats is below 1.
    """
    if not variants or repeats < 1:
        raise ValueError(f"compare takes at least one variant and one repeat, not {len(variants)} and {repeats}.")
    pipelines = {name: build() for name, build in variants.items()}
    first = {name: time_pass(pipeline, consume) for name, pipeline in pipelines.items()}
    passes: dict[str, list[Pass]] = {name: [] for name in variants}
    draw = random.Random(seed)
    for _ in range(repeats):
        # Another order each round: what ran before, and the machine's mood, falls on all alike.
        for name in draw.sample(list(variants), len(variants)):
            passes[name].append(time_pass(pipelines[name], consume))
    base = _median_rate(next(iter(passes.values())))
    return [_row(name, first[name], passes[name], base) for name in variants]


def _row(name: str, first: Pass, passes: list[Pass], base: float) -> Row:
    rates = [one.images / one.wall_seconds for one in passes]
    rate = statistics.median(rates)
    return Row(
        variant=name,
        images_per_second=rate,
        spread=(max(rates) - min(rates)) / rate,
        images_per_cpu_second=statistics.median(one.images / max(one.cpu_seconds, 1e-9) for one in passes),
        utilisation=statistics.median(one.cpu_seconds / one.wall_seconds for one in passes),
        first_epoch_seconds=first.wall_seconds,
        speedup=rate / base,
    )


def _median_rate(passes: list[Pass]) -> float:
    return statistics.median(one.images / one.wall_seconds for one in passes)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
