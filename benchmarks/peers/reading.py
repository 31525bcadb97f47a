"""What the reading benchmarks of all packages share: one warm-up pass, timed passes, CPU seconds of all processes.

A peer's script defines its pipelines and calls `main({task: make})`; `make(files)` builds something to iterate over,
once, which yields (images [B, 224, 224, 3], labels [B, 20]) in any kind of array. Every image is touched: one row of
each batch is summed.

    python read_X.py TASK FOLDER [--prepare]

FOLDER/photos/CLASS/NUMBER.jpg are the images; what a package wants written beforehand lies in FOLDER/NAME. The last
line of the output is JSON: images, wall_seconds and cpu_seconds of each pass.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

SIDE, BATCH, CLASSES = 224, 128, 20
WORKERS = len(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")


def photos(folder):
    """The files, and the number of each one's class."""
    paths = sorted(Path(folder, "photos").glob("*/*.jpg"))
    names = sorted({path.parent.name for path in paths})
    return [(str(path), names.index(path.parent.name)) for path in paths]


def cpu_seconds():
    """CPU time of this process and of all that it started, ended ones included."""
    tree, parents = {os.getpid()}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry)] = int(fields[1]), sum(map(int, fields[11:15])) / _TICKS
    grown = True
    while grown:
        found = {pid for pid, (parent, _) in parents.items() if parent in tree} - tree
        tree |= found
        grown = bool(found)
    return sum(parents[pid][1] for pid in tree if pid in parents)


def time_passes(batches, passes):
    """Runs through the batches once unrecorded, then `passes` times."""
    results, total = [], 0.0
    for number in range(passes + 1):
        cpu, wall, count = cpu_seconds(), time.perf_counter(), 0
        for images, labels in batches:
            total += float(np.asarray(images[0, 0]).sum())
            count += len(labels)
        seconds = time.perf_counter() - wall
        if number:
            results.append({"images": count, "wall_seconds": seconds, "cpu_seconds": cpu_seconds() - cpu})
    return results


def main(pipelines, prepare=lambda folder: None):
    """Does what the command line says."""
    task, folder, *flags = sys.argv[1:]
    if "--prepare" in flags:
        prepare(folder)
        return
    print(json.dumps(time_passes(pipelines[task](folder), int(flags[0]) if flags else 1)), flush=True)
    # Grain's threads and PyTorch's workers can keep the interpreter from ending.
    os._exit(0)
