"""Times variants of one task against each other and against two references, for `tfpipe bench` and `tfpipe tune`.

    task = Task(load_manifest("photos_tfrecord"), image_size=(224, 224))
    builds = {name: partial(task.build, options) for name, options in variants.items()}
    rows = compare_variants(Benchmark(task), builds)

The variants are those of tfpipe.timing.variants; sample_task reduces a large dataset to a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.reader.options import ReadOptions
from tfpipe.timing.consumers import Fit, ThresholdMean, blank_batches, decode_only, synthetic_ceiling
from tfpipe.timing.passes import Pass, Row, compare, drop_files, time_pass, warm_files
from tfpipe.timing.variants import Task, sample_shards

Build = Callable[[], tf.data.Dataset]
PAGE_CACHES = ("warm", "dropped")

# Records that are read to size a sample: enough to outweigh the start-up of a pipeline.
_PROBE_RECORDS = 512


@dataclass(frozen=True)
class Benchmark:
    """The settings of a comparison: what is read, and how it is timed.

    Attributes:
      task: what every variant reads; a sample if the dataset is large.
      fit: train on the batches instead of looping over them.
      model: the compiled Keras model to train; None trains a linear one.
      repeats: passes of each variant after its first.
      page_cache: "warm": the files are read once before the first pass; "dropped": they are removed from the page cache
        before every pass.
      seed: seeds the random order in which variants run.
    """

    task: Task
    fit: bool = False
    model: Any = None
    repeats: int = 3
    page_cache: str = "warm"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.page_cache not in PAGE_CACHES:
            raise UsageError(f"page_cache is {self.page_cache!r}; it takes one of {list(PAGE_CACHES)}.")
        if self.repeats < 1:
            raise UsageError(f"repeats is {self.repeats}; it must be at least 1.")


class _RunningVariant(NamedTuple):
    """A pipeline and the function that runs through it."""

    batches: tf.data.Dataset
    consume: Callable[[tf.data.Dataset], int]


def compare_variants(
    benchmark: Benchmark,
    builds: Mapping[str, Build],
    *,
    references: bool = True,
    on_pass: Callable[[str, Pass], None] = lambda name, one: None,
) -> list[Row]:
    """Times all variants and the two references, alternating, in one run.

    Args:
      benchmark: the task, and how it is timed.
      builds: for each name, a function that builds the batches; speedups are relative to the first.
      references: add the rows synthetic_ceiling and decode_only.
      on_pass: called with the variant's name after each pass.

    Returns:
      A row for each variant in the order given, then the rows of the references.
    """
    warm_files(benchmark.task.paths)
    consume = _consumer(benchmark)
    runs = {name: partial(_run, build, consume) for name, build in builds.items()}
    if references:
        runs["synthetic_ceiling"] = partial(
            _run, lambda: synthetic_ceiling(benchmark.task.build(benchmark.task.options)), consume
        )
        # Its batches hold one value per image, so that there is nothing to train on.
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


def _run(build: Build, consume: Callable[[tf.data.Dataset], int]) -> _RunningVariant:
    batches = build()
    # TensorFlow and Keras compile for a shape here rather than in the first epoch of whichever variant runs first. The
    # batch is made of zeros, because taking one from the pipeline would begin to fill its cache.
    consume(blank_batches(batches.element_spec))
    return _RunningVariant(batches, consume)


def _consumer(benchmark: Benchmark) -> Callable[[tf.data.Dataset], int]:
    if not benchmark.fit:
        return ThresholdMean(seed=benchmark.seed)
    task = benchmark.task
    return Fit(task.build(task.options), task.manifest.schema.label_kind, model=benchmark.model)


def sample_task(task: Task, *, limit: int | None = None, seconds: float = 2.0) -> Task:
    """The task on a sample of the dataset: whole shards, at least two if there are two.

    Args:
      task: the task on the whole dataset.
      limit: the approximate number of images; None derives it from `seconds`.
      seconds: the approximate duration of a pass of the plain variant.
    """
    if limit is None:
        probe = replace(task, manifest=sample_shards(task.manifest, task.split, _PROBE_RECORDS))
        batches = probe.build(replace(ReadOptions.plain(), dct=task.dct)).take(
            max(1, _PROBE_RECORDS // task.batch_size)
        )
        time_pass(batches, ThresholdMean())
        one = time_pass(batches, ThresholdMean())
        limit = int(seconds * one.images / one.wall_seconds)
    return replace(task, manifest=sample_shards(task.manifest, task.split, max(limit, task.batch_size)))
