"""What bench and tune have in common: what is read and how it is timed, the model, and the table."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.cli.arguments import image_size, output_file
from tfpipe.cli.failures import first_line
from tfpipe.cli.progress import progress, start_tensorflow
from tfpipe.cli.tables import print_table
from tfpipe.errors import UsageError, require_extra
from tfpipe.format.manifest import load_manifest
from tfpipe.timing import Pass, Row, cached_share

if TYPE_CHECKING:
    from tfpipe.timing.benchmark import Benchmark
    from tfpipe.timing.variants import Task

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
    parser.add_argument(
        "--fit",
        nargs="?",
        const="",
        type=_model_name,
        metavar="NAME",
        help="train a Keras model: linear, small, or a name of keras.applications, with random weights",
    )
    parser.add_argument("--model", metavar="FILE", help="a compiled model for --fit")
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


def _model_name(text: str) -> str:
    """The value of --fit, as argparse reads it; "" where it has none."""
    if text and not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a model; DATASET stands before --fit")
    return text


def serial_seconds(arguments: argparse.Namespace) -> float:
    """The length of a pass that shows the serial part."""
    return min(float(arguments.seconds), _SERIAL_SECONDS)


def whole_task(arguments: argparse.Namespace) -> Task:
    """The task that the command line describes, on the whole dataset."""
    manifest = load_manifest(arguments.dataset)
    size = image_size(arguments.image_size)
    if size is None and manifest.schema.payload != "embedding" and None in manifest.schema["image"].shape[:2]:
        size = _DEFAULT_SIZE
    start_tensorflow(quiet=arguments.json)
    from tfpipe.timing.variants import Task

    return Task(
        manifest, arguments.split, arguments.batch_size, size, arguments.resize, arguments.antialias, arguments.dct
    )


def make_benchmark(arguments: argparse.Namespace, task: Task, *, default_model: str = "linear") -> Benchmark:
    """The benchmark that the command line describes, on a sample of the task.

    Args:
      arguments: with those of add_task_arguments.
      task: on the whole dataset.
      default_model: the model of --fit without a name.
    """
    from tfpipe.timing.benchmark import Benchmark, sample_task

    if arguments.model and arguments.fit is None:
        raise UsageError("--model goes with --fit.")
    if arguments.model and arguments.fit:
        raise UsageError(f"--fit {arguments.fit} and --model {arguments.model} name two models; give one of them.")
    if not 0 < arguments.seconds < float("inf"):
        raise UsageError(f"--seconds is {arguments.seconds}; it must be a number above 0.")
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit is {arguments.limit}; it must be at least 1.")
    sample = sample_task(task, limit=arguments.limit, seconds=arguments.seconds)
    return Benchmark(
        sample,
        fit=arguments.fit is not None,
        model=_make_model(arguments, sample, default_model),
        repeats=arguments.repeats,
        page_cache=arguments.page_cache,
        seed=arguments.seed,
    )


def _make_model(arguments: argparse.Namespace, task: Task, default: str) -> Any:
    """The model to train; None without --fit."""
    if arguments.fit is None:
        return None
    if arguments.model:
        return _load_model(arguments.model, task)
    from tfpipe.reader.options import ReadOptions
    from tfpipe.timing.consumers import Fit
    from tfpipe.timing.models import build_model

    batches, kind = task.build(ReadOptions()), task.manifest.schema.label_kind
    Fit.check(batches)
    return build_model(arguments.fit or default, batches, kind)


def _load_model(path: str, task: Task) -> Any:
    """The model in a file, once it has taken one batch of the task.

    Raises:
      UsageError: it can't be loaded, is not compiled, or takes other batches.
    """
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


@contextlib.contextmanager
def pass_bar(verb: str, *, total: int | None = None) -> Iterator[Callable[[str, Pass], None]]:
    """Yields a function to call after each pass: on a terminal, a bar on stderr shows it."""
    with progress(verb, total=total) as update:
        yield lambda name, one: update(advance=1, description=f"{verb} {name} {one.wall_seconds:.2f} s")


def task_facts(arguments: argparse.Namespace, benchmark: Benchmark) -> dict[str, Any]:
    """What was timed, on what, as plain JSON values."""
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
    }


def headline(document: dict[str, Any]) -> str:
    """One line on task_facts."""
    size = "x".join(str(side) for side in document["image_size"] or ()) or "stored size"
    return (
        f"{Path(document['dataset']).name}: {document['images']:,} {document['payload']} images per pass, "
        f"batch {document['batch_size']}, {size}, {document['mode']}, page cache {document['page_cache']}"
    )


def print_rows(rows: list[Row]) -> None:
    """Prints the table."""
    print_table(list(_COLUMNS), [[cell.format(row) for cell in _COLUMNS.values()] for row in rows])


def check_plot(path: str | None) -> None:
    """Rejects, before minutes of timing, a picture that could not be drawn afterwards."""
    if path is None:
        return
    output_file(path, option="--plot", endings=PLOT_SUFFIXES)
    require_extra("--plot", "matplotlib")
