"""A process that ends, or drops an iterator, in the middle of an epoch does so at once: no thread waits for Python."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tfpipe.format.manifest import Manifest

pytestmark = pytest.mark.faults

EXITS, DROPS = 100, 500
# Takes some batches, another number each time, and ends with the iterator alive. In the end of its epoch too.
PROGRAM = """
import sys
from itertools import islice
from tfpipe import ReadOptions, make_dataset
dataset = make_dataset(sys.argv[1], batch_size=2, image_size=(6, 8), options=ReadOptions(on_error=sys.argv[3]))
iterator = iter(dataset)
for batch in islice(iterator, int(sys.argv[2])):
    pass
print("read", flush=True)
"""


def test_a_hundred_processes_end_in_the_middle_of_an_epoch(
    raw_dataset: Manifest, figure: Callable[[str], None]
) -> None:
    batches = raw_dataset.num_records("train") // 2

    def exit_one(number: int) -> str:
        arguments = [str(raw_dataset.directory), str(number % (batches + 1)), ("raise", "skip")[number % 2]]
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(exit_one, range(EXITS))) == ["read\n"] * EXITS
    figure(f"{EXITS} of {EXITS} processes ended in the middle of an epoch")


def test_five_hundred_iterators_are_dropped_in_the_middle_of_an_epoch(
    raw_dataset: Manifest, figure: Callable[[str], None]
) -> None:
    program = f"""
import sys
from itertools import islice
from tfpipe import ReadOptions, make_dataset
for on_error in ("raise", "skip"):
    options = ReadOptions(on_error=on_error)
    dataset = make_dataset(sys.argv[1], batch_size=2, image_size=(6, 8), options=options)
    for number in range({DROPS // 2}):
        for batch in islice(dataset, number % 12):
            pass
print("done")
"""
    command = [sys.executable, "-c", program, str(raw_dataset.directory)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout == "done\n"
    figure(f"{DROPS} iterators dropped in one process")
