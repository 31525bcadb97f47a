"""Memory and time stay within their bounds, however many references and however heavy the images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pictures import fill_folder
from processes import CLASSES, fill_with_links

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parent.parent.parent
MOST_MB = 300
MOST_BYTES_PER_REFERENCE = 150
MOST_PLAN_SECONDS = 30


class Usage(NamedTuple):
    """The memory of a conversion: that of its largest process."""

    seconds: float
    peak_mb: float
    document: dict[str, Any]


# A process counts as its own what its parent held when it was forked, and the tests may hold a gigabyte: so a small one
# is between. It prints the kilobytes of the largest that it waited for, after what the command prints.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def measure(source: Path, output: Path, *flags: str) -> Usage:
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(source), "--output", str(output), "--json"]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _LAUNCHER, *command, *flags], stdout=subprocess.PIPE, check=True)
    text, _, peak = done.stdout.strip().rpartition(b"\n")
    return Usage(time.perf_counter() - started, int(peak) * 1024 / 1e6, json.loads(text))


def write_million(root: Path) -> Path:
    """A listing of 1,000,000 files: a thousand links to one folder of a thousand."""
    photos = fill_folder(root / "photos", ["all"], 1000) / "all"
    names = sorted(path.name for path in photos.iterdir())
    with open(root / "list.csv", "w") as file:
        file.write("file,label\n")
        for number in range(1000):
            (root / f"{number:04d}").symlink_to(photos)
            file.writelines(f"{number:04d}/{name},class_{number % 100:02d}\n" for name in names)
    return root / "list.csv"


def test_a_listing_of_a_million_lines_is_planned_in_time(tmp_path: Path, figure: Callable[[str], None]) -> None:
    usage = measure(write_million(tmp_path), tmp_path / "out", "--dry_run")
    figure(f"1,000,000 lines planned in {usage.seconds:.1f} s and {usage.peak_mb:.0f} MB")
    assert usage.document["listed"] == 1_000_000
    assert usage.document["rejected"] == {}
    assert usage.seconds <= MOST_PLAN_SECONDS
    assert usage.peak_mb <= MOST_MB


def test_memory_grows_by_few_bytes_a_reference(tmp_path: Path, figure: Callable[[str], None]) -> None:
    peaks = {}
    for times in (1, 2, 4, 8):
        source = fill_with_links(tmp_path / f"in{times}", 100, 80 * times)
        usage = measure(source, tmp_path / f"out{times}", "--threads", "2", "--target_bytes", "4MB")
        assert usage.document["written"] == len(CLASSES) * 100 * 80 * times
        peaks[usage.document["written"]] = usage.peak_mb
    references, megabytes = list(peaks), list(peaks.values())
    growth = (megabytes[-1] - megabytes[0]) * 1e6 / (references[-1] - references[0])
    told = ", ".join(f"{count:,}: {peak:.0f} MB" for count, peak in peaks.items())
    figure(f"{told}: {growth:.0f} B a reference")
    assert growth <= MOST_BYTES_PER_REFERENCE
    assert max(megabytes) <= MOST_MB


def test_memory_does_not_grow_with_the_images(figure: Callable[[str], None]) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from photos import write_photos

    # Where the benchmark of the conversion keeps them too: making them takes minutes.
    folder = Path(tempfile.gettempdir(), "tfpipe_bench_photos", "20000")
    num_bytes = write_photos(folder, 20_000)
    with tempfile.TemporaryDirectory() as scratch:
        usage = measure(folder, Path(scratch, "out"))
    figure(f"20,000 photos of {num_bytes / 1e6:.0f} MB: {usage.peak_mb:.0f} MB, {usage.seconds:.1f} s")
    assert usage.document["written"] == 20_000
    assert usage.peak_mb <= MOST_MB
