"""Times pipelines against each other: alternating, in random order, by medians.

    rows = compare({"plain": make_plain, "tuned": make_tuned}, consume=read_all, repeats=3)
    for row in rows:
        print(row.variant, row.images_per_second, row.speedup)

Nothing here knows TensorFlow: a variant is a function that builds something to iterate over, and `consume` runs through
it once and returns how many images it saw. One build is timed over several passes: the first pass pays for tracing,
threads and cold caches, and is reported separately. The caller decides what the page cache holds: `warm_files` reads
every file into it, `drop_files` empties it so that the next pass reads from the disk, and `cached_share` measures it.
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

from tfpipe.errors import UsageError

# Two runs of one pipeline on an otherwise idle machine differ by about this fraction.
NOISE = 0.05

_READ_BYTES = 1 << 22


class Pass(NamedTuple):
    """One run through a pipeline: its number of images, its wall time and the CPU time of this process in it."""

    images: int
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Row:
    """The measurements of one variant.

    Attributes:
      variant: its name.
      images_per_second: median over the passes after the first.
      spread: (largest - smallest) / median of those passes' rates.
      images_per_cpu_second: median; on a shared machine it varies less than images_per_second.
      utilisation: CPU seconds per wall second, median: 2.0 means two busy cores.
      first_epoch_seconds: wall time of the first pass.
      speedup: images_per_second against the first variant's.
      wall_seconds: wall time of a pass, median.
      cpu_seconds: CPU time of a pass over all threads of this process, median.
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
        """Whether the rate is at least the other's within noise: the mean of both spreads, and at least 5 %."""
        noise = max(NOISE, (self.spread + other.spread) / 2)
        return self.images_per_second >= other.images_per_second * (1 - noise)


def time_pass(pipeline: Any, consume: Callable[[Any], int | Pass]) -> Pass:
    """Runs through a pipeline once; where `consume` returns a Pass, it has timed a part of it itself."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    images = consume(pipeline)
    if isinstance(images, Pass):
        return images
    return Pass(images, time.perf_counter() - wall, _cpu_seconds() - cpu)


def compare(
    variants: Mapping[str, Callable[[], Any]],
    *,
    consume: Callable[[Any], int | Pass],
    repeats: int = 3,
    seed: int = 0,
    before_pass: Callable[[], None] = lambda: None,
    on_pass: Callable[[str, Pass], None] = lambda name, one: None,
) -> list[Row]:
    """Times all variants in one run.

    Args:
      variants: for each name, a function that builds the pipeline; speedups are relative to the first.
      consume: runs through a pipeline once and returns the number of images, or the Pass of what is to count.
      repeats: passes of each variant after its first.
      seed: seeds the random order in which variants run.
      before_pass: called before each pass and not timed, for example to drop the page cache.
      on_pass: called with the variant's name after each pass, for progress.

    Returns:
      One row for each variant, in the order given.

    Raises:
      ValueError: there is no variant, or repeats is below 1.
    """
    if not variants or repeats < 1:
        raise UsageError(f"compare takes at least one variant and one repeat, not {len(variants)} and {repeats}.")
    pipelines = {name: build() for name, build in variants.items()}
    passes: dict[str, list[Pass]] = {name: [] for name in variants}
    draw = random.Random(seed)
    for _ in range(repeats + 1):
        # Another order in each round, so that what ran before and the load of the machine affect all variants alike.
        for name in draw.sample(list(variants), len(variants)):
            before_pass()
            passes[name].append(time_pass(pipelines[name], consume))
            on_pass(name, passes[name][-1])
    return summarize(passes)


def summarize(passes: Mapping[str, list[Pass]]) -> list[Row]:
    """One row for each variant: medians over all passes but the first; speedups relative to the first variant.

    Raises:
      ValueError: a variant has fewer than two passes.
    """
    short = [name for name, some in passes.items() if len(some) < 2]
    if short:
        raise UsageError(f"Each variant needs a first pass and at least one more; {short} have fewer.")
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
    """Reads every file once, so that the page cache holds it if memory allows; returns the number of bytes read."""
    return sum(_read_through(Path(path)) for path in paths)


def _read_through(path: Path) -> int:
    num_bytes = 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            num_bytes += len(chunk)
    return num_bytes


def drop_files(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Removes every file from the page cache, so that the next reader goes to the disk. Files on a tmpfs stay."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            # Only clean pages are dropped.
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(paths: Iterable[str | os.PathLike[str]]) -> float | None:
    """The fraction of the files' pages that is in the page cache, in [0, 1]; None if the system does not report it."""
    found = [_resident_pages(Path(path)) for path in paths]
    known = [pages for pages in found if pages is not None]
    if not found or len(known) < len(found):
        return None
    num_pages = sum(pages for _, pages in known)
    return sum(resident for resident, _ in known) / num_pages if num_pages else 1.0


def _resident_pages(path: Path) -> tuple[int, int] | None:
    """The number of pages of a file that are in memory, and the number of all its pages."""
    size = path.stat().st_size
    if size == 0:
        return 0, 0
    # A read with RWF_NOWAIT would report it too, but starts read-ahead: measuring would change the result.
    mincore = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    flags = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = mincore is None or mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), flags)
        del start  # The mapping can't be closed while something points into it.
    return None if failed else (sum(flag & 1 for flag in flags), len(flags))
