"""What every row of bench_augment.py shares: turns on the parent's word, and workers that write into shared memory.

A row is a process: `python augment_NAME.py TASK PHOTOS.npy BATCH_SIZE [FLAG]`. It imports, compiles, shows that it
augments, says {"ready": ...} and then stands still. Each line on its input is a number of seconds; it augments for so
long and answers with what it did. So the rows of one comparison take turns without paying their start again.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from cpu import session_cpu_seconds

Stream = Callable[[np.ndarray, int, str], Iterator[Any]]

UNCOUNTED_SECONDS = (0.3, 2.0)
UNCOUNTED_BATCHES = 4  # What may have lain ready before the turn: two slots for each of two workers.


def serve(stream: Stream, *, op_per: str) -> None:
    """Runs a row: `stream(images, batch_size, task)` yields augmented batches without end.

    Args:
      stream: gets uint8 [N, H, W, 3], N a multiple of the batch size; each yield is one array of all images of a batch.
      op_per: "image" or "batch": for what the package draws an operation.
    """
    task, path, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    photos = np.load(path, mmap_mode="r")
    distinct = count_distinct(stream, photos, batch_size, task)
    if op_per == "image" and distinct < batch_size // 8:
        raise SystemExit(f"only {distinct} of {batch_size} copies of one photograph came out different")
    batches = iter(stream(photos, batch_size, task))
    next(batches)
    take_turns(batches, batch_size, {"op_per": op_per, "distinct": distinct})


def count_distinct(stream: Stream, photos: np.ndarray, batch_size: int, task: str) -> int:
    """How many different pictures come of one batch of copies of a photograph; two batches must differ."""
    copies = np.repeat(photos[:1], 2 * batch_size, axis=0)
    batches = stream(copies, batch_size, task)
    first, second = (np.array(next(batches)) for _ in range(2))
    if len(first) != batch_size or first.size != copies.size // 2:
        raise SystemExit(f"a batch of {batch_size} photographs came out with the shape {first.shape}")
    if np.array_equal(first, second):
        raise SystemExit("two batches of the same photographs came out the same")
    return len({picture.tobytes() for picture in first})


def take_turns(batches: Iterator[Any], batch_size: int, facts: dict[str, Any]) -> None:
    """Says that it is ready, then answers each line of input with one turn, until the input ends."""
    print(json.dumps({"ready": True, **facts}), flush=True)
    for line in sys.stdin:
        print(json.dumps(turn(batches, batch_size, float(line))), flush=True)


def turn(batches: Iterator[Any], batch_size: int, seconds: float) -> dict[str, float]:
    """Takes batches for some seconds, counted from when those that lay ready are gone."""
    started, skipped, elapsed = time.perf_counter(), 0, 0.0
    least, most = UNCOUNTED_SECONDS
    while elapsed < least or (skipped < UNCOUNTED_BATCHES and elapsed < most):
        next(batches)
        skipped, elapsed = skipped + 1, time.perf_counter() - started
    cpu, started, count = session_cpu_seconds(os.getsid(0)), time.perf_counter(), 0
    while time.perf_counter() < started + seconds:
        next(batches)
        count += 1
    wall = time.perf_counter() - started
    cpu = session_cpu_seconds(os.getsid(0)) - cpu
    return {"images": count * batch_size, "seconds": wall, "cpu_seconds": cpu}


def from_workers(
    write: Callable[[np.ndarray, np.ndarray], None],
    images: np.ndarray,
    batch_size: int,
    *,
    seed: Callable[[int], Any],
    like: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Batches that two forked workers write straight into memory which this process sees: nothing is sent or copied.

    Args:
      write: write(images, out) augments a batch into `out`; runs in a worker.
      images: what is walked over, again and again; worker w takes the batches w, w + 2, ...
      batch_size: images in a batch.
      seed: called once in each worker, with its number, before the first batch.
      like: an array whose shape after the first and whose dtype the pictures have; None: as the images.
    """
    like = images if like is None else like
    context, slots, workers = multiprocessing.get_context("fork"), 2, 2
    shape = (slots, batch_size, *like.shape[1:])
    num_bytes = int(np.prod(shape)) * like.dtype.itemsize
    rings = [np.frombuffer(mmap.mmap(-1, num_bytes), like.dtype).reshape(shape) for _ in range(workers)]
    free = [context.Semaphore(slots) for _ in range(workers)]
    full = [context.Semaphore(0) for _ in range(workers)]

    def work(worker: int) -> None:
        seed(worker)
        step = worker
        while True:
            first = step * batch_size % len(images)
            free[worker].acquire()
            write(images[first : first + batch_size], rings[worker][step // workers % slots])
            full[worker].release()
            step += workers

    processes = [context.Process(target=work, args=(number,), daemon=True) for number in range(workers)]
    for process in processes:
        process.start()
    try:
        step = 0
        while True:
            if not full[step % workers].acquire(timeout=60):
                raise SystemExit("a worker stands still or died")
            yield rings[step % workers][step // workers % slots]
            free[step % workers].release()
            step += 1
    finally:
        for process in processes:
            process.terminate()
