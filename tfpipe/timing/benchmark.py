"""Runs variants of one task against each other, with the references beside them: what `bench` and `tune` stand on.

benchmark = Benchmark(Task(load_manifest("photos_tfrecord"), image_size=(224, 224)))
rows = compare_variants(benchmark, {name: partial(benchmark.task.build, options) for name, options in variants.items()})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from tfpipe.reader.options import ReadOptions
from tfpipe.timing.consumers import Fit, ThresholdMean, blank_batches, decode_only, synthetic_ceiling
from tfpipe.timing.passes import Pass, Row, compare, drop_files, time_pass, warm_files
from tfpipe.timing.variants import Task, sample_shards

Build = Callable[[], tf.data.Dataset]
PAGE_CACHES = ("warm", "dropped")

# The probe that sizes a sample: records enough to get past the start-up of a pipeline.
_PROBE_RECORDS = 512


@dataclass(frozen=True)
class Benchmark:
    """How variants are timed.

    Attributes:
      task: what they deliver; a sample, where the dataset is large.
      fit: train on the batches rather than loop over them.
      model: for fit, a compiled Keras model; None takes a linear one.
      repeats: passes of each variant after its first.
      page_cache: "warm": the files are read once beforehand; "dropped": forgotten before every pass.
      seed: of the order in which variants take turns.
    """

    task: Task
    fit: bool = False
    model: Any = None
    repeats: int = 3
    page_cache: str = "warm"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.page_cache not in PAGE_CACHES:
            raise ValueError(f"page_cache is {self.page_cache!r}; it takes one of {list(PAGE_CACHES)}.")
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}; it must be at least 1.")


class _Run(NamedTuple):
    """A pipeline and what runs through it."""

    batches: tf.data.Dataset
    consume: Callable[[tf.data.Dataset], int]


def compare_variants(
    benchmark: Benchmark,
    builds: Mapping[str, Build],
    *,
    references: bool = True,
    on_pass: Callable[[str, Pass], None] = lambda name, one: None,
) -> list[Row]:
    """Times all variants and the two references in one run.

    Args:
      benchmark: the task and how often.
      builds: for each name, a function that makes the batches; the first is what speedups refer to.
      references: add the rows synthetic_ceiling and decode_only.
      on_pass: called with the variant's name after each pass.

    Returns:
      A row for each variant, in the order given, then the references'.
    """
    warm_files(benchmark.task.paths)
    consume = _consumer(benchmark)
    runs = {name: partial(_run, build, consume) for name, build in builds.items()}
    if references:
        runs["synthetic_ceiling"] = partial(
            _run, lambda: synthetic_ceiling(benchmark.task.build(ReadOptions())), consume
        )
        # Its batches hold one value an image: nothing to train on.
        runs["decode_only"] = partial(_run, lambda: decode_only(benchmark.task), ThresholdMean(seed=benchmark.seed))

    def before_pass() -> None:
        if benchmark.page_cache == "dropped":
            drop_files(benchmark.task.paths)

    return compare(
        runs,
        consume=lambda run: run.consume(run.batches),
        repeats=benchmark.repeats,
        seed=benchmark.seed,
        before_pass=before_pass,
        on_pass=on_pass,
    )


def _run(build: Build, consume: Callable[[tf.data.Dataset], int]) -> _Run:
    batches = build()
    # What TensorFlow and Keras compile for a shape falls on no variant's first epoch. Nothing is read for it: a cache
    # that one batch was taken from would not be as new.
    consume(blank_batches(batches.element_spec))
    return _Run(batches, consume)


def _consumer(benchmark: Benchmark) -> Callable[[tf.data.Dataset], int]:
    if not benchmark.fit:
        return ThresholdMean(seed=benchmark.seed)
    return Fit(benchmark.task.build(ReadOptions()), benchmark.task.manifest.schema.label_kind, model=benchmark.model)


def sample_task(task: Task, *, limit: int | None = None, seconds: float = 2.0) -> Task:
    """The task on a sample of the dataset: whole shards, at least two where there are two.

    Args:
      task: of the whole dataset.
      limit: about so many images; None goes by time.
      seconds: so that a pass of the plain variant takes about so long.
    """
    if limit is None:
        probe = replace(task, manifest=sample_shards(task.manifest, task.split, _PROBE_RECORDS))
        batches = probe.build(ReadOptions.plain()).take(max(1, _PROBE_RECORDS // task.batch_size))
        time_pass(batches, ThresholdMean())
        one = time_pass(batches, ThresholdMean())
        limit = int(seconds * one.images / one.wall_seconds)
    return replace(task, manifest=sample_shards(task.manifest, task.split, max(limit, task.batch_size)))
