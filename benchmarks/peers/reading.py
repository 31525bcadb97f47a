"""What the reading benchmarks of all packages share: one warm-up pass, timed passes, CPU seconds of all processes.

A peer's script defines its pipelines and calls `main({task: make})`; `make(files)` builds something to iterate over,
once, which yields (images [B, 224, 224, 3], labels [B, 20]) in any kind of array. Every image is touched: one row of
each batch is summed.

    python read_X.py TASK FOLDER [PASSES] [--prepare] [--seconds S]

FOLDER/photos/CLASS/NUMBER.jpg are the images; what a package has to have written first is in FOLDER/NAME. The last
line of the output is JSON: images, wall_seconds and cpu_seconds of each pass. With --seconds a pass has that length,
begins with the first batch, and touches nothing; an epoch then has every record `copies` times. Tasks that end in _free
give constants in place of decoded records.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from cpu import tree_cpu_seconds

SIDE, BATCH, CLASSES = 224, 128, 20
MANY = 128
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


# How often an epoch has each record; see --seconds.
copies = 1


def main(pipelines, prepare=lambda folder: None):
    """Does what the command line says."""
    global copies
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("passes", nargs="?", type=int, default=1)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(arguments.folder)
        return
    copies = 1 if arguments.seconds is None else MANY
    batches = pipelines[arguments.task](arguments.folder)
    if arguments.seconds is None:
        found = time_passes(batches, arguments.passes)
    else:
        # Of tfpipe only what needs nothing but the standard library: other packages' environments have no more.
        sys.path.append(str(Path(__file__).parents[2]))
        from tfpipe.timing.read_pass import read_pass

        found = [read_pass(batches, BATCH, arguments.seconds)._asdict() for _ in range(arguments.passes)]
    print(json.dumps(found), flush=True)
    # Grain's threads and PyTorch's workers can keep the interpreter from ending.
    os._exit(0)
