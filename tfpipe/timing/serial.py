"""Measures what of a pipeline stays one at a time: each variant as it is, and with decoding made free.

    scalings = measure_scaling({"default": Reading(task, ReadOptions())})
    scalings[0].free_images_per_second, scalings[0].project(16)

tfpipe.timing.scaling says what the numbers mean and how they are projected. A pass takes batches for a second and does
nothing with them. An epoch has the task's shards many times over, so that no pass comes to its end: the start of an
epoch is counted in first_epoch_seconds of the other table. The files are in the page cache.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from tfpipe.reader.free_decoding import free_decoding
from tfpipe.reader.options import AUTOTUNE, ReadOptions
from tfpipe.timing.passes import Pass, warm_files
from tfpipe.timing.read_pass import ReadPass, read_pass
from tfpipe.timing.scaling import Scaling, lacks_cores, summarize_scaling
from tfpipe.timing.variants import Task

# Records of an epoch: those of a second at the rate of the smallest images.
_LONG_RECORDS = 1 << 17
# Calls of a pipeline for many cores.
_MANY_CALLS = 16


class Reading(NamedTuple):
    """A task read under some options."""

    task: Task
    options: ReadOptions

    def build(self) -> tf.data.Dataset:
        """Its batches."""
        return self.task.build(self.options)

    @property
    def calls(self) -> int | None:
        """How many calls decode at once; None: as many as there are cores."""
        return None if self.options.parallel_calls == AUTOTUNE else self.options.parallel_calls

    @property
    def is_cached(self) -> bool:
        """Whether only the first epoch reads the files."""
        return self.options.cache != "none"

    def lengthened(self) -> Reading:
        """The same with the shards so often that an epoch takes long."""
        task = self.task
        part = task.manifest.split(task.split)
        times = -(-_LONG_RECORDS // task.num_records)
        longer = dataclasses.replace(part, shards=part.shards * times)
        manifest = dataclasses.replace(task.manifest, splits={task.split: longer})
        return self._replace(task=dataclasses.replace(task, manifest=manifest))


def measure_scaling(
    readings: Mapping[str, Reading],
    *,
    repeats: int = 3,
    seconds: float = 1.0,
    seed: int = 0,
    on_pass: Callable[[str, Pass], None] = lambda name, one: None,
) -> list[Scaling]:
    """Times each reading with and without decoding, alternating.

    Args:
      readings: by their names.
      repeats: passes of each kind; the fastest counts.
      seconds: the length of a pass, at most.
      seed: seeds the random order.
      on_pass: called after each pass with its name.

    Returns:
      A row for each reading, in the order given.
    """
    cores = len(os.sched_getaffinity(0))
    both = {name: _build_both(one) for name, one in readings.items()}
    made = {(name, is_free): pair[is_free] for name, pair in both.items() for is_free in (False, True)}
    passes: dict[tuple[str, bool], list[ReadPass]] = {key: [] for key in made}

    def take(name: str, batches: tf.data.Dataset, label: str) -> ReadPass:
        one = read_pass(batches, readings[name].task.batch_size, seconds)
        on_pass(label, Pass(one.images, one.wall_seconds, one.cpu_seconds))
        return one

    draw = random.Random(seed)
    for _ in range(repeats):
        for name, is_free in draw.sample(list(made), len(made)):
            label = f"{name}, decoding free" if is_free else f"{name}, reading alone"
            passes[name, is_free].append(take(name, made[name, is_free], label))
    scalings = []
    for name, one in readings.items():
        wide: list[ReadPass] = []
        if one.calls is None and not one.is_cached and lacks_cores(passes[name, True], cores):
            many = dataclasses.replace(one.options, parallel_calls=_MANY_CALLS)
            batches = _build_free(one._replace(options=many))
            wide = [take(name, batches, f"{name}, {_MANY_CALLS} calls") for _ in range(repeats)]
        kinds = {"read": passes[name, False], "free": passes[name, True], "wide": wide}
        scalings.append(summarize_scaling(name, cores=cores, calls=one.calls, **kinds))
    return scalings


def _build_both(reading: Reading) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """The batches of long epochs, decoded and with decoding free."""
    warm_files(reading.task.paths)
    if reading.is_cached:
        # What it holds is decoded, so that no later epoch decodes; it has room for the task's shards once.
        batches = reading.build()
        for _ in batches:
            pass
        return batches, batches
    return reading.lengthened().build(), _build_free(reading)


def _build_free(reading: Reading) -> tf.data.Dataset:
    with free_decoding():
        return reading.lengthened().build()
