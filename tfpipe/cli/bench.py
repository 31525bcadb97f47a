"""Times every way to read a dataset in one run, with the rate of the model alone and of decoding alone as limits."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfpipe.cli.scalings import print_scalings
from tfpipe.cli.timed import (
    add_task_arguments,
    check_plot,
    headline,
    make_benchmark,
    pass_bar,
    print_rows,
    serial_seconds,
    task_facts,
    whole_task,
)
from tfpipe.errors import UsageError
from tfpipe.timing import Pass, Row

if TYPE_CHECKING:
    from tfpipe.timing.benchmark import Benchmark
    from tfpipe.timing.scaling import Scaling
    from tfpipe.timing.serial import Reading
    from tfpipe.timing.variants import Task

EXAMPLES = """examples:
  tfpipe bench photos_tfrecord --batch_size 128 --image_size 224,224
  tfpipe bench photos_tfrecord --image_size 224 --no-antialias --dct fast
      what the faster pixels gain: the four nearest, and a quicker JPEG decoder
  tfpipe bench photos_tfrecord --batch_size 128 --image_size 224 --fit ResNet50 --policy rand_augment
      trains it with the augmentation in every place: names the bottleneck and the one option to change
  tfpipe bench photos_tfrecord --image_size 224 --fit --model classifier.keras --plot fit.svg
      the same with a model of your own, and a picture
  tfpipe bench photos_tfrecord --image_size 224 --fit --variants all
      the ways to read, as without --fit, while a model trains (by default one linear layer)
  tfpipe bench photos_tfrecord --page_cache dropped --seconds 10
      every pass reads from the disk
  tfpipe bench photos_tfrecord --options pipeline.json
      adds the row `options`: those that tfpipe tune wrote, or your own
  tfpipe bench photos_tfrecord --image_size 224 --batch_size 128 --variants default --serial
      adds what stays one at a time, and the rates that are projected for more cores

In each row, images_per_second is the median over the repeats, spread is (largest - smallest) / median, utilisation is
CPU seconds per wall second, first_epoch_seconds is the time of the first pass alone, speedup is relative to plain.
synthetic_ceiling repeats one batch: the rate of the consumer if the pipeline cost nothing. decode_only parses and
decodes records that are kept in memory, and does nothing else.

--fit trains from six places: synthetic_ceiling, no_augmentation, augment_host (make_dataset's transforms),
augment_device (the same with ReadOptions(device="/GPU:0")), augment_layer (tfpipe.layers.Augment in the model) and
cached (augment_host with ReadOptions(cache="memory")). "of ceiling" is the share of synthetic_ceiling's rate; "wait ms"
what a step waits for its batch, measured behind the last stage or, marked ~, what it takes longer than the ceiling's;
"GPU <10%" the share of the time in which the GPU was busy for less than 10 % of the driver's period: it takes
tfpipe[gpu]. The bottleneck is what adds most to the time of an image; the option to change is that of the fastest row.
--options reads every row with them. See docs/timing.md.

--serial adds a second table, of pipelines whose batches are taken and dropped. Measured: their rate here; their rate
with decoding made free (records are read, and handed on as zeros); CPU us an image; serial us an image, which is what
stays one at a time: the wall time with decoding free, or, marked ~, the CPU time of the busiest thread where threads
waited for cores. Projected for 8, 16, 32 and 64 cores: min(cores / CPU us, calls / CPU us of decoding, 1 / serial us).
Up to "useful cores" the cores are the limit, beyond them what stands last: handing over, reading, or parallel_calls
where that is a number. Memory bandwidth and locks are not in it: projections are the most that can be expected.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_task_arguments(parser)
    parser.add_argument(
        "--variants", metavar="NAME,...", help="only these ways to read, and plain; or all (the default without --fit)"
    )
    parser.add_argument("--batch_sizes", metavar="N,...", help="additional rows: the default options at these sizes")
    parser.add_argument("--options", metavar="FILE", help="an additional row, `options`: ReadOptions from a JSON file")
    parser.add_argument(
        "--serial", action="store_true", help="also each variant with decoding made free, projected to more cores"
    )
    parser.add_argument("--policy", metavar="NAME|FILE", help="the augmentation of --fit (default: rand_augment)")
    parser.add_argument("--plot", metavar="FILE", help="draw the table into this .png or .svg file")


def run(arguments: argparse.Namespace) -> int:
    """Prints a row for each variant."""
    if arguments.fit is not None and arguments.variants is None:
        from tfpipe.cli.bench_fit import run_everywhere

        return run_everywhere(arguments)
    check_plot(arguments.plot)
    if arguments.policy:
        raise UsageError("--policy goes with --fit, without --variants.")
    task = whole_task(arguments)
    from tfpipe.reader.damage import naming_damage
    from tfpipe.timing.benchmark import compare_variants

    with contextlib.ExitStack() as stack:
        stack.enter_context(naming_damage(task.manifest, task.split))
        folder = arguments.cache_dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="tfpipe_bench_"))
        benchmark = make_benchmark(arguments, task)
        readings, left_out = _readings(arguments, task, benchmark, folder)
        builds = {name: reading.build for name, reading in readings.items()}
        num_passes = (len(builds) + 2) * (benchmark.repeats + 1)
        if arguments.serial:
            num_passes += 2 * len(builds) * benchmark.repeats
        with pass_bar("timing", total=num_passes) as on_pass:
            rows = compare_variants(benchmark, builds, on_pass=on_pass)
            scalings = _scalings(arguments, benchmark, readings, on_pass) if arguments.serial else None
    document = {
        **task_facts(arguments, benchmark),
        "rows": [dataclasses.asdict(row) for row in rows],
        "left_out": left_out,
    }
    if scalings is not None:
        document["serial"] = [scaling.as_document() for scaling in scalings]
    if arguments.plot:
        from tfpipe.report.bars import draw_rows

        draw_rows(rows, arguments.plot, title=headline(document))
    if arguments.json:
        print(json.dumps(document))
    else:
        _print_document(document, rows)
        if scalings is not None:
            print_scalings(scalings)
    return 0


def _scalings(
    arguments: argparse.Namespace,
    benchmark: Benchmark,
    readings: dict[str, Reading],
    on_pass: Callable[[str, Pass], None],
) -> list[Scaling]:
    """What --serial adds."""
    from tfpipe.timing.serial import measure_scaling

    seconds = serial_seconds(arguments)
    return measure_scaling(readings, repeats=benchmark.repeats, seconds=seconds, seed=benchmark.seed, on_pass=on_pass)


def _parse_batch_sizes(text: str | None) -> list[int]:
    sizes = text.split(",") if text else []
    if not all(size.strip().isdecimal() and int(size) for size in sizes):
        raise UsageError(f"--batch_sizes is {text!r}; it takes N,N,..., such as 32,128.")
    return [int(size) for size in sizes]


def _readings(
    arguments: argparse.Namespace, task: Task, benchmark: Benchmark, folder: str
) -> tuple[dict[str, Reading], dict[str, str]]:
    """What each row reads, and the reason for each variant left out, by name."""
    from tfpipe.reader.options import ReadOptions
    from tfpipe.timing.serial import Reading
    from tfpipe.timing.variants import fitting_variants

    variants, left_out = fitting_variants(task, cache_dir=folder)
    if arguments.variants and arguments.variants != "all":
        variants = _select(variants, left_out, arguments.variants.split(","))
    readings = {name: Reading(benchmark.task, options) for name, options in variants.items()}
    for size in _parse_batch_sizes(arguments.batch_sizes):
        readings[f"batch_{size}"] = Reading(dataclasses.replace(benchmark.task, batch_size=size), task.options)
    if arguments.options:
        readings["options"] = Reading(benchmark.task, ReadOptions.load(arguments.options))
    return readings, left_out


def _select(variants: dict[str, Any], left_out: dict[str, str], names: list[str]) -> dict[str, Any]:
    unknown = set(names) - set(variants)
    if unknown:
        reasons = [f"{name}: {left_out[name]}" for name in sorted(unknown & set(left_out))]
        raise UsageError(f"No variant {sorted(unknown)}; there are {list(variants)}. {' '.join(reasons)}".strip())
    return {name: options for name, options in variants.items() if name == "plain" or name in names}


def _print_document(document: dict[str, Any], rows: list[Row]) -> None:
    print(f"{headline(document)}, {document['cores']} cores, load {document['load']:.1f}")
    print_rows(rows)
    for name, reason in document["left_out"].items():
        print(f"Left out: {name}: {reason}")
