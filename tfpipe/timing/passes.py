"""Times pipelines against each other: in turn, in random order, by medians.

    rows = compare({"plain": make_plain, "tuned": make_tuned}, consume=read_all, repeats=3)
    for row in rows:
        print(row.variant, row.images_per_second, row.speedup)

Nothing here knows TensorFlow: a variant is a function that builds something to iterate over, and `consume` runs through
it once and returns how many images it saw. One build is timed over several passes: the first pass pays for tracing,
threads and cold caches, and is told apart. What the page cache holds is the caller's to say: `warm_files` reads every
file beforehand, `drop_files` before each pass has the disk read them anew, and `cached_share` tells whether it worked.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# Two runs of one pipeline on a machine of its own differ by about this part.
NOISE = 0.05

_READ_BYTES = 1 << 22


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
      wall_seconds: of a pass, median.
      cpu_seconds: of a pass, median, all threads of this process.
    """

    variant: str
    images_per_second: float
    spread: float
    images_per_cpu_second: float
    utilisation: float
    first_epoch_seconds: float
    speedup: float
    wall_seconds: float
    cpu_seconds: float

    def is_as_fast_as(self, other: Row) -> bool:
        """Whether the rate is at least the other's, within noise: half of both spreads, and 5 % at the least."""
        noise = max(NOISE, (self.spread + other.spread) / 2)
        return self.images_per_second >= other.images_per_second * (1 - noise)


def time_pass(pipeline: Any, consume: Callable[[Any], int]) -> Pass:
    """Runs through a pipeline once."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    images = consume(pipeline)
    return Pass(images, time.perf_counter() - wall, _cpu_seconds() - cpu)


def compare(
    variants: Mapping[str, Callable[[], Any]],
    *,
    consume: Callable[[Any], int],
    repeats: int = 3,
    seed: int = 0,
    before_pass: Callable[[], None] = lambda: None,
    on_pass: Callable[[str, Pass], None] = lambda name, one: None,
) -> list[Row]:
    """Times all variants in one run.

    Args:
      variants: for each name, a function that builds the pipeline; the first is what speedups refer to.
      consume: runs through a pipeline once and returns the number of images.
      repeats: passes of each variant after its first.
      seed: of the order in which variants take turns.
      before_pass: called before each pass, untimed: to drop the page cache, say.
      on_pass: called with the variant's name after each pass: for progress.

    Returns:
      One row for each variant, in the order given.

    Raises:
      ValueError: there is no variant, or repeats is below 1.
    """
    if not variants or repeats < 1:
        raise ValueError(f"compare takes at least one variant and one repeat, not {len(variants)} and {repeats}.")
    pipelines = {name: build() for name, build in variants.items()}
    passes: dict[str, list[Pass]] = {name: [] for name in variants}
    draw = random.Random(seed)
    for _ in range(repeats + 1):
        # Another order each round: what ran before, and the machine's mood, falls on all alike.
        for name in draw.sample(list(variants), len(variants)):
            before_pass()
            passes[name].append(time_pass(pipelines[name], consume))
            on_pass(name, passes[name][-1])
    return summarize(passes)


def summarize(passes: Mapping[str, list[Pass]]) -> list[Row]:
    """One row for each variant: its first pass apart, medians over the others; speedups against the first variant.

    Raises:
      ValueError: a variant has fewer than two passes.
    """
    short = [name for name, some in passes.items() if len(some) < 2]
    if short:
        raise ValueError(f"A first pass and one more are needed of each variant; {short} have fewer.")
    base = _median_rate(next(iter(passes.values()))[1:])
    return [_row(name, some[0], some[1:], base) for name, some in passes.items()]


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
        wall_seconds=statistics.median(one.wall_seconds for one in passes),
        cpu_seconds=statistics.median(one.cpu_seconds for one in passes),
    )


def _median_rate(passes: list[Pass]) -> float:
    return statistics.median(one.images / one.wall_seconds for one in passes)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# ---- the page cache


def warm_files(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Reads every file once, so that the page cache holds it where memory allows; returns the bytes of all."""
    return sum(_read_through(Path(path)) for path in paths)


def _read_through(path: Path) -> int:
    num_bytes = 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            num_bytes += len(chunk)
    return num_bytes


def drop_files(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Has the page cache forget every file: the next reader goes to the disk. A file in memory (tmpfs) stays."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            # Only clean pages are forgotten.
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(paths: Iterable[str | os.PathLike[str]]) -> float | None:
    """The part of the files' pages that the page cache holds, in [0, 1]; None where the system won't tell."""
    found = [_resident_pages(Path(path)) for path in paths]
    known = [pages for pages in found if pages is not None]
    if not found or len(known) < len(found):
        return None
    num_pages = sum(pages for _, pages in known)
    return sum(resident for resident, _ in known) / num_pages if num_pages else 1.0


def _resident_pages(path: Path) -> tuple[int, int] | None:
    """How many of a file's pages are in memory, and how many it has."""
    size = path.stat().st_size
    if size == 0:
        return 0, 0
    # A read with RWF_NOWAIT would tell too, but it starts read-ahead: asking would change the answer.
    mincore = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    flags = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = mincore is None or mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), flags)
        del start  # The map can't be closed while something points into it.
    return None if failed else (sum(flag & 1 for flag in flags), len(flags))
