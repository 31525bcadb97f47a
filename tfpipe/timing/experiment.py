"""Trains one model from every place of its augmentation, beside the ceiling, for `tfpipe bench --fit`.

    rows, left_out = train_everywhere(Experiment(benchmark, augment.rand_augment(2, 9)), task)
    diagnose(rows, on_gpu=has_gpu()).advice

tfpipe.timing.training has the rows and what they say.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfpipe.callbacks import InputWait
from tfpipe.errors import UsageError
from tfpipe.layers import Augment
from tfpipe.reader.options import ReadOptions
from tfpipe.timing.benchmark import Benchmark
from tfpipe.timing.consumers import Fit, blank_batches, synthetic_ceiling
from tfpipe.timing.gpu import Gpu, Sample, sampling
from tfpipe.timing.passes import Pass, compare, drop_files, time_pass, warm_files
from tfpipe.timing.training import CACHED, CEILING, DEVICE, HOST, LAYER, PLAIN, FitRow, PassNote, fit_rows
from tfpipe.timing.variants import Task, fitting_variants, images_of

# Steps of the first look at a model's rate, and the fewest of a pass.
_LOOK_STEPS, _LEAST_STEPS = 4, 8


@dataclass(frozen=True)
class Experiment:
    """The settings of a comparison of trainings.

    Attributes:
      benchmark: what is read, and the model; its task is a sample.
      transform: the augmentation, of tfpipe.augment.
      options: how every row reads; None: the defaults, with the task's dct.
      seconds: the length of a pass at the model's own rate, where the sample would take longer; None: whole samples.
      gpu: whose utilisation to note; None: of none.
    """

    benchmark: Benchmark
    transform: Any
    options: ReadOptions | None = None
    seconds: float | None = None
    gpu: Gpu | None = None


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


class _Way(NamedTuple):
    """One way to feed a training.

    Attributes:
      batches: builds its batches.
      fit: trains its model.
      has_clock: whether a clock is set: it has not been tried on a GPU's batches.
      has_cache: whether the first whole iteration fills a cache.
    """

    batches: Callable[[], tf.data.Dataset]
    fit: Fit
    has_clock: bool = True
    has_cache: bool = False


def train_everywhere(
    experiment: Experiment, task: Task, *, on_pass: Callable[[str, Pass], None] = lambda name, one: None
) -> tuple[list[FitRow], dict[str, str]]:
    """Times all rows, alternating, in one run.

    Args:
      experiment: its settings.
      task: on the whole dataset, which decides whether the cache has room.
      on_pass: called with the row's name after each pass.

    Returns:
      The rows, synthetic_ceiling first, and for each one left out its reason.

    Raises:
      UsageError: the records have no label to train on.
    """
    benchmark = experiment.benchmark
    warm_files(benchmark.task.paths)
    if benchmark.task.num_records < 2 * benchmark.task.batch_size:
        raise UsageError(
            f"--fit times steps after the first: it takes two batches of {benchmark.task.batch_size}, and the sample "
            f"has {benchmark.task.num_records:,} records. Take a smaller --batch_size, or a larger --limit."
        )
    ways, left_out = _ways(experiment, task)
    steps = _steps(experiment, ways[CEILING])
    runs: dict[str, _Run] = {}

    def start(name: str) -> _Run:
        runs[name] = _Run(ways[name], steps, experiment.gpu)
        return runs[name]

    def before_pass() -> None:
        if benchmark.page_cache == "dropped":
            drop_files(benchmark.task.paths)

    rows = compare(
        {name: partial(start, name) for name in ways},
        consume=lambda run: run.train(),
        repeats=benchmark.repeats,
        seed=benchmark.seed,
        before_pass=before_pass,
        on_pass=on_pass,
    )
    return fit_rows(rows, {name: run.notes[1:] for name, run in runs.items()}), left_out


def _ways(experiment: Experiment, whole: Task) -> tuple[dict[str, _Way], dict[str, str]]:
    """The rows, and the reason for each that is left out."""
    task, transforms = experiment.benchmark.task, [experiment.transform]
    options = dataclasses.replace(experiment.options or task.options, device=None)
    batches, kind = task.build(options), task.manifest.schema.label_kind
    way = partial(_Way, fit=Fit(batches, kind, model=experiment.benchmark.model), has_cache=options.cache != "none")
    ways = {CEILING: way(lambda: synthetic_ceiling(batches)), PLAIN: way(lambda: batches)}
    left_out = {}
    if task.manifest.schema.payload == "embedding":
        left_out = dict.fromkeys((HOST, DEVICE, LAYER), "embeddings are not augmented")
        transforms = []
    else:
        placed = dataclasses.replace(options, device="/GPU:0" if has_gpu() else "/CPU:0")
        ways[HOST] = way(lambda: task.build(options, transforms=transforms))
        ways[DEVICE] = way(lambda: task.build(placed, transforms=transforms), has_clock=not has_gpu())
        layered = _with_layer(ways[PLAIN].fit, batches, kind, transforms)
        if isinstance(layered, str):
            left_out[LAYER] = layered
        else:
            ways[LAYER] = way(lambda: batches, fit=layered)
    reason = fitting_variants(whole)[1].get("cache_memory_records")
    try:
        kept = dataclasses.replace(options, cache="memory", cache_place="records", cache_dir=None)
    except UsageError as error:
        reason = reason or f"the options exclude a cache: {error}"
    if reason:
        left_out[CACHED] = reason
    else:
        ways[CACHED] = way(lambda: task.build(kept, transforms=transforms), has_cache=True)
    return ways, left_out


def _with_layer(fit: Fit, batches: tf.data.Dataset, label_kind: str, transforms: list[Any]) -> Fit | str:
    """The training of the same model behind a layer that augments, or why there is none."""
    model, images = fit.model, batches.element_spec[0]
    if type(model).train_step is not keras.Model.train_step:
        return "the model has a train_step of its own, which a model around it would not run"
    # A model runs code of its user, and Keras raises anything: which class says nothing.
    try:
        outer = keras.Sequential([keras.Input(images.shape[1:], dtype=images.dtype.name), Augment(transforms), model])
        outer.compile_from_config(model.get_compile_config())
    except Exception as error:
        return f"no layer can be put before the model: {type(error).__name__}: {error}".splitlines()[0]
    if not outer.compiled:
        return "the model can't be compiled again: its loss or its optimizer has no config"
    return Fit(batches, label_kind, model=outer)


def _steps(experiment: Experiment, ceiling: _Way) -> int | None:
    """The steps of a pass; None: whole epochs of the sample."""
    batches = ceiling.batches()
    whole = int(batches.cardinality())
    if experiment.seconds is None or whole <= _LEAST_STEPS:
        return None
    ceiling.fit(blank_batches(batches.element_spec))
    look = time_pass(batches, partial(ceiling.fit, steps=min(_LOOK_STEPS, whole)))
    steps = max(_LEAST_STEPS, math.ceil(experiment.seconds / look.wall_seconds * min(_LOOK_STEPS, whole)))
    return steps if steps < whole else None


class _Moment(NamedTuple):
    """The end of a step: which, when, the CPU time of this process, and the wait for input since the pass began."""

    batch: int
    wall_seconds: float
    cpu_seconds: float
    waited_seconds: float


class _Clock(keras.callbacks.Callback):
    """Notes when the first and the last step end; it stands behind InputWait, whose figure it notes, too."""

    def __init__(self, wait: InputWait | None) -> None:
        super().__init__()
        self._wait = wait
        self.first: _Moment | None = None
        self.last = _Moment(0, 0.0, 0.0, 0.0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        waited = 0.0 if self._wait is None else self._wait.waited_seconds
        self.last = _Moment(batch, time.perf_counter(), time.process_time(), waited)
        self.first = self.first or self.last


class _Run:
    """A way, ready to be timed; `notes` has what was noted of each pass."""

    def __init__(self, way: _Way, steps: int | None, gpu: Gpu | None) -> None:
        self._fit, self._steps, self._gpu = way.fit, steps, gpu
        batches = way.batches()
        self._batch_size = int(images_of(batches.element_spec).shape[0])
        # TensorFlow and Keras compile here rather than in a timed pass.
        self._fit(blank_batches(batches.element_spec))
        if way.has_cache and steps is not None:
            # A pass that ends early would never fill it.
            for _ in batches:
                pass
        self._wait = InputWait(verbose=False) if way.has_clock else None
        self._batches = batches if self._wait is None else self._wait.over(batches)
        self.notes: list[PassNote] = []

    def train(self) -> Pass:
        """Trains for one pass, which counts from the end of its first step: until then the pipeline starts."""
        clock = _Clock(self._wait)
        callbacks = [clock] if self._wait is None else [self._wait, clock]
        train = partial(self._fit, self._batches, steps=self._steps, callbacks=callbacks)
        samples: list[Sample] = []
        if self._gpu is None:
            train()
        else:
            with sampling(self._gpu.read) as samples:
                train()
        first, last = clock.first or clock.last, clock.last
        steps = last.batch - first.batch
        waited = None if self._wait is None else last.waited_seconds - first.waited_seconds
        timed = [one for one in samples if first.wall_seconds <= one.seconds <= last.wall_seconds]
        self.notes.append(PassNote(steps, waited, timed))
        return Pass(
            steps * self._batch_size, last.wall_seconds - first.wall_seconds, last.cpu_seconds - first.cpu_seconds
        )
