"""Times every way to read a dataset in one run, with the rate of the model alone and of decoding alone as limits."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.cli.arguments import image_size, output_file
from tfpipe.cli.failures import first_line
from tfpipe.cli.progress import progress
from tfpipe.cli.scalings import print_scalings
from tfpipe.cli.tables import print_table
from tfpipe.errors import UsageError
from tfpipe.format.manifest import load_manifest
from tfpipe.quiet import load_tensorflow
from tfpipe.timing import Pass, Row, cached_share

if TYPE_CHECKING:
    from tfpipe.timing.benchmark import Benchmark
    from tfpipe.timing.scaling import Scaling
    from tfpipe.timing.serial import Reading
    from tfpipe.timing.variants import Task

EXAMPLES = """examples:
  tfpipe bench photos_tfrecord --batch_size 128 --image_size 224,224
  tfpipe bench photos_tfrecord --image_size 224 --no-antialias --dct fast
      what the faster pixels gain: the four nearest, and a quicker JPEG decoder
  tfpipe bench photos_tfrecord --image_size 224,224 --fit
      trains on the batches: the gain of each pipeline while a model works, too
  tfpipe bench photos_tfrecord --fit --model classifier.keras --plot bench.svg
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

--serial adds a second table, of pipelines whose batches are taken and dropped. Measured: their rate here; their rate
with decoding made free (records are read, and handed on as zeros); CPU us an image; serial us an image, which is what
stays one at a time: the wall time with decoding free, or, marked ~, the CPU time of the busiest thread where threads
waited for cores. Projected for 8, 16, 32 and 64 cores: min(cores / CPU us, calls / CPU us of decoding, 1 / serial us).
Up to "useful cores" the cores are the limit, beyond them what stands last: handing over, reading, or parallel_calls
where that is a number. Memory bandwidth and locks are not in it: projections are the most that can be expected.
"""
PLOT_SUFFIXES = (".png", ".svg")
_DEFAULT_SIZE = (224, 224)
# The columns of the table: header and format of a Row.
_COLUMNS = {
    "variant": "{0.variant}",
    "images/s": "{0.images_per_second:,.0f}",
    "spread": "{0.spread:.0%}",
    "images/CPU-s": "{0.images_per_cpu_second:,.0f}",
    "cores busy": "{0.utilisation:.2f}",
    "first epoch s": "{0.first_epoch_seconds:.2f}",
    "wall s": "{0.wall_seconds:.2f}",
    "CPU s": "{0.cpu_seconds:.2f}",
    "x plain": "{0.speedup:.2f}",
}
# The longest pass of --serial: what it adds takes some 8 s a variant.
_SERIAL_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_task_arguments(parser)
    parser.add_argument("--variants", metavar="NAME,...", help="only these, and plain (default: all)")
    parser.add_argument("--batch_sizes", metavar="N,...", help="additional rows: the default options at these sizes")
    parser.add_argument("--options", metavar="FILE", help="an additional row, `options`: ReadOptions from a JSON file")
    parser.add_argument(
        "--serial", action="store_true", help="also each variant with decoding made free, projected to more cores"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the table into this .png or .svg file")


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of both bench and tune: which records are read, and how they are timed."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument("--split", default="train", help="the split to read (default: train)")
    parser.add_argument("--batch_size", type=int, default=32, metavar="N", help="records in a batch (default: 32)")
    parser.add_argument(
        "--image_size",
        metavar="H,W|N",
        help="resize to this; N is a square (default: the stored size, or 224 if sizes differ)",
    )
    parser.add_argument(
        "--resize", default="pad", choices=["pad", "stretch", "crop"], help="pad, stretch or crop (default: pad)"
    )
    parser.add_argument(
        "--antialias",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average over source pixels when shrinking (default: yes)",
    )
    parser.add_argument(
        "--dct", default="exact", choices=["exact", "fast"], help="how JPEG files are decoded (default: exact)"
    )
    parser.add_argument("--fit", action="store_true", help="train a Keras model instead of only reading")
    parser.add_argument("--model", metavar="FILE", help="a compiled model for --fit (default: one linear layer)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="passes after the first (default: 3)")
    parser.add_argument("--limit", type=int, metavar="N", help="about N images per pass, in whole shards")
    parser.add_argument(
        "--seconds", type=float, default=2.0, metavar="S", help="else S seconds per pass of plain (default: 2)"
    )
    parser.add_argument(
        "--page_cache", default="warm", choices=["warm", "dropped"], help="state before each pass (default: warm)"
    )
    parser.add_argument(
        "--cache_dir", metavar="DIR", help="for the disk caches (default: bench takes a temporary folder, tune none)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seeds the random order in which variants run")


def run(arguments: argparse.Namespace) -> int:
    """Prints a row for each variant."""
    _check_plot(arguments.plot)
    task = whole_task(arguments)
    load_tensorflow()
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
    document = _document(arguments, benchmark, rows, left_out)
    if scalings is not None:
        document["serial"] = [scaling.as_document() for scaling in scalings]
    if arguments.plot:
        from tfpipe.report.bars import draw_rows

        draw_rows(rows, arguments.plot, title=_headline(document))
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


def serial_seconds(arguments: argparse.Namespace) -> float:
    """The length of a pass that shows the serial part."""
    return min(float(arguments.seconds), _SERIAL_SECONDS)


def whole_task(arguments: argparse.Namespace) -> Task:
    """The task that the command line describes, on the whole dataset."""
    manifest = load_manifest(arguments.dataset)
    size = image_size(arguments.image_size)
    if size is None and manifest.schema.payload != "embedding" and None in manifest.schema["image"].shape[:2]:
        size = _DEFAULT_SIZE
    load_tensorflow()
    from tfpipe.timing.variants import Task

    return Task(
        manifest, arguments.split, arguments.batch_size, size, arguments.resize, arguments.antialias, arguments.dct
    )


def _parse_batch_sizes(text: str | None) -> list[int]:
    sizes = text.split(",") if text else []
    if not all(size.strip().isdecimal() and int(size) for size in sizes):
        raise UsageError(f"--batch_sizes is {text!r}; it takes N,N,..., such as 32,128.")
    return [int(size) for size in sizes]


def make_benchmark(arguments: argparse.Namespace, task: Task) -> Benchmark:
    """The benchmark that the command line describes, on a sample of the task."""
    from tfpipe.timing.benchmark import Benchmark, sample_task

    if arguments.model and not arguments.fit:
        raise UsageError("--model goes with --fit.")
    if not 0 < arguments.seconds < float("inf"):
        raise UsageError(f"--seconds is {arguments.seconds}; it must be a number above 0.")
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit is {arguments.limit}; it must be at least 1.")
    sample = sample_task(task, limit=arguments.limit, seconds=arguments.seconds)
    return Benchmark(
        sample,
        fit=arguments.fit,
        model=_load_model(arguments.model, sample),
        repeats=arguments.repeats,
        page_cache=arguments.page_cache,
        seed=arguments.seed,
    )


def _load_model(path: str | None, task: Task) -> Any:
    """The model in a file, once it has taken one batch of the task.

    Raises:
      UsageError: it can't be loaded, is not compiled, or takes other batches.
    """
    if path is None:
        return None
    import keras

    from tfpipe.reader.options import ReadOptions
    from tfpipe.timing.consumers import Fit, blank_batches

    # A model runs code of its user, and Keras raises anything: which class says nothing.
    try:
        model = keras.saving.load_model(path)
    except Exception as error:
        raise UsageError(f"--model {path} can't be loaded: {first_line(error)}") from error
    if not model.compiled:
        raise UsageError(f"The model in {path} is not compiled: save it after model.compile(...).")
    batches = task.build(ReadOptions())
    try:
        Fit(batches, task.manifest.schema.label_kind, model=model)(blank_batches(batches.element_spec))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"--model {path} does not take these batches: {first_line(error)}") from error
    return model


def _readings(
    arguments: argparse.Namespace, task: Task, benchmark: Benchmark, folder: str
) -> tuple[dict[str, Reading], dict[str, str]]:
    """What each row reads, and the reason for each variant left out, by name."""
    from tfpipe.reader.options import ReadOptions
    from tfpipe.timing.serial import Reading
    from tfpipe.timing.variants import fitting_variants

    variants, left_out = fitting_variants(task, cache_dir=folder)
    if arguments.variants:
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


@contextlib.contextmanager
def pass_bar(verb: str, *, total: int | None = None) -> Iterator[Callable[[str, Pass], None]]:
    """Yields a function to call after each pass: on a terminal, a bar on stderr shows it."""
    with progress(verb, total=total) as update:
        yield lambda name, one: update(advance=1, description=f"{verb} {name} {one.wall_seconds:.2f} s")


def _document(
    arguments: argparse.Namespace, benchmark: Benchmark, rows: list[Row], left_out: dict[str, str]
) -> dict[str, Any]:
    import tensorflow as tf

    task = benchmark.task
    return {
        "dataset": str(arguments.dataset),
        "payload": task.manifest.schema.payload,
        "split": task.split,
        "images": task.num_records // task.batch_size * task.batch_size,
        "batch_size": task.batch_size,
        "image_size": task.image_size,
        "antialias": task.antialias,
        "dct": task.dct,
        "mode": "fit" if benchmark.fit else "loop",
        "repeats": benchmark.repeats,
        "page_cache": benchmark.page_cache,
        "cached_share": cached_share(task.paths),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "tensorflow": tf.__version__,
        "rows": [dataclasses.asdict(row) for row in rows],
        "left_out": left_out,
    }


def _headline(document: dict[str, Any]) -> str:
    size = "x".join(str(side) for side in document["image_size"] or ()) or "stored size"
    return (
        f"{Path(document['dataset']).name}: {document['images']:,} {document['payload']} images per pass, "
        f"batch {document['batch_size']}, {size}, {document['mode']}, page cache {document['page_cache']}"
    )


def _print_document(document: dict[str, Any], rows: list[Row]) -> None:
    print(f"{_headline(document)}, {document['cores']} cores, load {document['load']:.1f}")
    print_rows(rows)
    for name, reason in document["left_out"].items():
        print(f"Left out: {name}: {reason}")


def print_rows(rows: list[Row]) -> None:
    """Prints the table."""
    print_table(list(_COLUMNS), [[cell.format(row) for cell in _COLUMNS.values()] for row in rows])


def _check_plot(path: str | None) -> None:
    """Rejects, before minutes of timing, a picture that could not be drawn afterwards."""
    if path is None:
        return
    output_file(path, option="--plot", endings=PLOT_SUFFIXES)
    import tfpipe.report.bars  # noqa: F401 (names the missing extra)
