"""What the reading benchmarks of all packages share: one warm-up pass, timed passes, CPU seconds of all processes.

A peer's script defines its pipelines and calls `main({task: make})`; `make(files)` builds something to iterate over,
once, which yields (images [B, 224, 224, 3], labels [B, 20]) in any kind of array. Every image is touched: one row of
each batch is summed.

    python read_X.py TASK FOLDER [--prepare]

FOLDER/photos/CLASS/NUMBER.jpg are the images; what a package has to have written first is in FOLDER/NAME. The last
line of the output is JSON: images, wall_seconds and cpu_seconds of each pass.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from cpu import tree_cpu_seconds

SIDE, BATCH, CLASSES = 224, 128, 20
WORKERS = len(os.sched_getaffinity(0))


def photos(folder):
    """The files, and the number of each one's class."""
    paths = sorted(Path(folder, "photos").glob("*/*.jpg"))
    names = sorted({path.parent.name for path in paths})
    return [(str(path), names.index(path.parent.name)) for path in paths]


def time_passes(batches, passes):
    """Runs through the batches once unrecorded, then `passes` times."""
    results, total = [], 0.0
    for number in range(passes + 1):
        cpu, wall, count = tree_cpu_seconds(os.getpid()), time.perf_counter(), 0
        for images, labels in batches:
            total += float(np.asarray(images[0, 0]).sum())
            count += len(labels)
        wall, cpu = time.perf_counter() - wall, tree_cpu_seconds(os.getpid()) - cpu
        if number:
            results.append({"images": count, "wall_seconds": wall, "cpu_seconds": cpu})
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
