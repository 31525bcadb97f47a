"""Finds the options that read a dataset fastest, the stage that is the bottleneck, and the setting that matters most.

    tuning = tune(task, Benchmark(task))
    tuning.advice, tuning.options
    tuning.options.save("pipeline.json")

The first round tries every variant of tfpipe.timing.variants and the defaults with one setting changed; the second
round combines the settings that helped. The variants of a round run alternating. Of those within noise of the fastest,
the one that gives up the least is chosen; for that one, tfpipe.timing.serial says how it would scale with the cores.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tfpipe.errors import UsageError
from tfpipe.reader.options import ReadOptions
from tfpipe.timing.benchmark import Benchmark, compare_variants
from tfpipe.timing.passes import NOISE, Pass, Row
from tfpipe.timing.scaling import Scaling
from tfpipe.timing.serial import Reading, measure_scaling
from tfpipe.timing.stages import StageCost, stage_costs
from tfpipe.timing.variants import Task, fitting_variants, order_of

ORDERS = ("any", "fresh")

# Advice for a stage that no reading option makes cheaper.
REMEDIES = {
    "read": "the files come from a slow disk or network: copy them to a local one, or cache on disk (--cache_dir)",
    "parse": "store decoded uint8 instead of floats: a quarter of the bytes",
    "decode": "convert with --payload decoded --dtype uint8 --image_size H,W, or --max_side N: then it happens once",
    "resize": "convert with --payload decoded --dtype uint8 --image_size H,W: then it happens once",
    "batch": "keep images uint8: a quarter of the bytes of float images to copy",
    "transform": "put the transforms on the device (options.device), or into the model (tfpipe.layers.Augment)",
    "transfer": "leave images uint8 and cast on the device; options.device prefetches batches there",
}


@dataclass(frozen=True)
class Tuning:
    """The result of tuning.

    Attributes:
      stages: the cost of each stage.
      rows: the measurements of every candidate, from the last round it ran in; `default` first.
      chosen: the name of the fastest candidate, or of one within noise of it that gives up less.
      options: the settings of the chosen candidate.
      setting: the single change of the defaults that gains most, as name=value; None if none gains beyond noise.
      gain: the rate with that setting alone, as a multiple of the default's.
      gives_up: the order of an epoch in words if it is not a new one in every epoch; None otherwise.
      defaults_suffice: whether the defaults are within noise of the fastest that reads a new order in every epoch.
      scaling: what of the chosen options stays one at a time, and how they would scale with the cores.
    """

    stages: list[StageCost]
    rows: list[Row]
    chosen: str
    options: ReadOptions
    setting: str | None
    gain: float
    gives_up: str | None
    defaults_suffice: bool
    scaling: Scaling

    @property
    def bottleneck(self) -> StageCost:
        """The most expensive stage."""
        return max(self.stages, key=lambda cost: cost.microseconds)

    @property
    def advice(self) -> str:
        """One sentence that names the setting to change, or what to do if no setting helps."""
        if self.setting is None:
            return f"No setting gains more than noise; {REMEDIES[self.bottleneck.stage]}."
        return f"Change {self.setting}: {self.gain:.2f} times the default's images per second."


def tune(
    task: Task,
    benchmark: Benchmark,
    *,
    order: str = "any",
    cache_dir: str | None = None,
    serial_seconds: float = 1.0,
    on_pass: Callable[[str, Pass], None] = lambda name, one: None,
) -> Tuning:
    """Measures stages and candidates, and chooses the options.

    Args:
      task: the task on the whole dataset, which decides which caches have room.
      benchmark: how to time; its task is a sample of the other.
      order: "any": the fastest of all, which may read every epoch in the same order; "fresh": only options that read
        a new order in every epoch.
      cache_dir: the folder of disk caches; None tries none.
      serial_seconds: the length of a pass that shows what stays one at a time.
      on_pass: called with the candidate's name after each pass.

    Raises:
      ValueError: order is unknown.
    """
    if order not in ORDERS:
        raise UsageError(f"order is {order!r}; it takes one of {list(ORDERS)}.")
    candidates = _candidates(task, cache_dir, order)
    first = _time(benchmark, candidates, on_pass)
    changed, gain = _best_change(candidates, first)
    candidates |= _combine(candidates, first)
    finalists = [name for name in candidates if name not in first or name in _fastest(first, candidates)]
    last = _time(benchmark, {name: candidates[name] for name in finalists}, on_pass)
    chosen = _choose(last, candidates)
    fresh = {name: row for name, row in last.items() if is_fresh(candidates[name])}
    return Tuning(
        stages=stage_costs(benchmark.task),
        rows=list({**first, **last}.values()),
        chosen=chosen,
        options=candidates[chosen],
        setting=None if changed is None else _describe(candidates[changed]),
        gain=gain,
        gives_up=None if is_fresh(candidates[chosen]) else order_of(candidates[chosen]),
        defaults_suffice=(changed is None or not is_fresh(candidates[changed])) and _close_to_fastest("default", fresh),
        scaling=_scale(benchmark, chosen, candidates[chosen], serial_seconds, on_pass),
    )


def _candidates(task: Task, cache_dir: str | None, order: str) -> dict[str, ReadOptions]:
    """The candidates of the first round: the default first, then the variants, then the single changes."""
    variants, _ = fitting_variants(task, cache_dir=cache_dir)
    candidates = {"default": task.options, **variants}
    for name, options in single_changes(task, cache_dir=cache_dir).items():
        if options not in candidates.values():
            candidates[name] = options
    if order == "fresh":
        return {name: options for name, options in candidates.items() if is_fresh(options)}
    return candidates


def _best_change(candidates: dict[str, ReadOptions], rows: dict[str, Row]) -> tuple[str | None, float]:
    """The name of the single change that gains most, and its factor; None and 1 if none gains beyond noise."""
    singles = [row for name, row in rows.items() if _num_changes(candidates[name]) == 1]
    best = max(singles, key=lambda row: row.images_per_second, default=rows["default"])
    if rows["default"].is_as_fast_as(best):
        return None, 1.0
    return best.variant, best.images_per_second / rows["default"].images_per_second


def single_changes(task: Task, *, cache_dir: str | None = None) -> dict[str, ReadOptions]:
    """The defaults with one setting changed, by name=value; caches only if the whole split has room."""
    cores = len(os.sched_getaffinity(0))
    values: dict[str, list[Any]] = {
        "parallel_reads": [1, 2, 4, 16],
        "parallel_calls": sorted({1, 2 * cores} - {cores}),
        "prefetch": [0, 8],
        "vectorize": [False],
        "shuffle": ["none"],
    }
    changes: list[dict[str, object]] = [{name: value} for name, some in values.items() for value in some]
    made = {_text(change): dataclasses.replace(task.options, **change) for change in changes}  # type: ignore[arg-type]
    caches = {
        name: options
        for name, options in fitting_variants(task, cache_dir=cache_dir)[0].items()
        if options.cache != "none"
    }
    return {**{name: options for name, options in made.items() if _differences(options)}, **caches}


def _text(change: dict[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in change.items())


def is_fresh(options: ReadOptions) -> bool:
    """Whether every epoch reads the whole split in a new order."""
    return options.shuffle == "global" and not (options.cache != "none" and options.cache_place == "batches")


# Settings that form one decision: a cache, its position in the pipeline and its folder.
_TOGETHER = ({"cache", "cache_place", "cache_dir"},)


def _differences(options: ReadOptions) -> dict[str, object]:
    """The settings that differ from the default's; not dct, which the task says."""
    default = ReadOptions(dct=options.dct)
    fields = [field.name for field in dataclasses.fields(options)]
    return {name: getattr(options, name) for name in fields if getattr(options, name) != getattr(default, name)}


def _num_changes(options: ReadOptions) -> int:
    """The number of decisions that differ from the default's."""
    names = set(_differences(options))
    decisions = sum(bool(names & together) for together in _TOGETHER)
    return decisions + len(names - set().union(*_TOGETHER))


def _describe(options: ReadOptions) -> str:
    return _text(_differences(options))


# ---- rounds


def _time(
    benchmark: Benchmark, candidates: dict[str, ReadOptions], on_pass: Callable[[str, Pass], None]
) -> dict[str, Row]:
    builds = {name: partial(benchmark.task.build, options) for name, options in candidates.items()}
    return {row.variant: row for row in compare_variants(benchmark, builds, references=False, on_pass=on_pass)}


def _scale(
    benchmark: Benchmark,
    name: str,
    options: ReadOptions,
    seconds: float,
    on_pass: Callable[[str, Pass], None],
) -> Scaling:
    reading = {name: Reading(benchmark.task, options)}
    return measure_scaling(reading, repeats=benchmark.repeats, seconds=seconds, seed=benchmark.seed, on_pass=on_pass)[0]


def _fastest(rows: dict[str, Row], candidates: dict[str, ReadOptions], *, most: int = 4) -> set[str]:
    """The candidates that run again, since the best of many measurements is partly luck.

    The default, the fastest ones, and the fastest with a new order in every epoch.
    """
    ranked = sorted(rows, key=lambda name: -rows[name].images_per_second)
    fresh = [name for name in ranked if is_fresh(candidates[name])]
    return {"default", *ranked[:most], *fresh[:1]}


def _combine(candidates: dict[str, ReadOptions], rows: dict[str, Row]) -> dict[str, ReadOptions]:
    """The fastest candidate with each change that alone helped the default, unless they change the same setting."""
    fastest = candidates[max(rows.values(), key=lambda row: row.images_per_second).variant]
    made = {}
    for name, options in candidates.items():
        changes = _differences(options)
        helped = not rows["default"].is_as_fast_as(rows[name])
        if _num_changes(options) == 1 and helped and not set(changes) & set(_differences(fastest)):
            together = dataclasses.replace(fastest, **changes)  # type: ignore[arg-type]
            if together not in candidates.values():
                made[f"{_describe(fastest)},{_text(changes)}"] = together
    return made


def _choose(rows: dict[str, Row], candidates: dict[str, ReadOptions]) -> str:
    """The fastest candidate, or the one within noise of it that gives up and changes the least."""
    close = [name for name in rows if _close_to_fastest(name, rows)]

    def price(name: str) -> tuple[bool, bool, int, float]:
        options = candidates[name]
        return not is_fresh(options), options.cache != "none", _num_changes(options), -rows[name].images_per_second

    return min(close, key=price)


def _close_to_fastest(name: str, rows: dict[str, Row]) -> bool:
    """Whether a row is within noise of the fastest."""
    # Not is_as_fast_as: with widely spread passes it would count much slower ones as equal.
    fastest = max(row.images_per_second for row in rows.values())
    return rows[name].images_per_second >= fastest * (1 - NOISE)
