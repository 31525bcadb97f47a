"""Measures the cost of each stage of reading, names the bottleneck and the setting to change, writes pipeline.json."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from tfpipe.cli.arguments import output_file
from tfpipe.cli.scalings import scaling_sentences
from tfpipe.cli.tables import print_table
from tfpipe.cli.timed import add_task_arguments, make_benchmark, pass_bar, print_rows, serial_seconds, whole_task

if TYPE_CHECKING:
    from tfpipe.timing.benchmark import Benchmark
    from tfpipe.timing.tuning import Tuning

EXAMPLES = """examples:
  tfpipe tune photos_tfrecord --batch_size 128 --image_size 224,224 -o pipeline.json
      tfpipe.make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), options="pipeline.json")
  tfpipe tune photos_tfrecord --order fresh
      only options that read the split in a new order in every epoch
  tfpipe tune photos_tfrecord --cache_dir /scratch
      also tries caches on disk
  tfpipe tune photos_tfrecord --fit --model classifier.keras
      while your model trains: options that gain nothing then are not chosen

The last lines say what of the chosen options stays one at a time, and at how many cores they would stop scaling; see
tfpipe bench --serial.
"""
DEFAULTS_SUFFICE = "Of all that reads a new order in every epoch, the defaults are already the fastest choice here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_task_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the file for the options (default: none is written)")
    parser.add_argument(
        "--order", default="any", choices=["any", "fresh"], help="any, or a new order in every epoch (default: any)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints costs, candidates and the chosen options; writes the options."""
    if arguments.output is not None:
        output_file(arguments.output)
    task = whole_task(arguments)
    from tfpipe.reader.damage import naming_damage
    from tfpipe.timing.tuning import tune

    with naming_damage(task.manifest, task.split), pass_bar("tuning") as on_pass:
        benchmark = make_benchmark(arguments, task)
        tuning = tune(
            task,
            benchmark,
            order=arguments.order,
            cache_dir=arguments.cache_dir,
            serial_seconds=serial_seconds(arguments),
            on_pass=on_pass,
        )
    document = _document(arguments, benchmark, tuning)
    if arguments.output:
        tuning.options.save(arguments.output, measured=document)
    if arguments.json:
        print(json.dumps({**document, "options": dataclasses.asdict(tuning.options), "output": arguments.output}))
    else:
        _print_tuning(tuning, arguments.output)
    return 0


def _document(arguments: argparse.Namespace, benchmark: Benchmark, tuning: Tuning) -> dict[str, Any]:
    return {
        "dataset": str(arguments.dataset),
        "split": benchmark.task.split,
        "images": benchmark.task.num_records,
        "batch_size": benchmark.task.batch_size,
        "image_size": benchmark.task.image_size,
        "antialias": benchmark.task.antialias,
        "mode": "fit" if benchmark.fit else "loop",
        "page_cache": benchmark.page_cache,
        "cores": len(os.sched_getaffinity(0)),
        "stages": [dataclasses.asdict(cost) for cost in tuning.stages],
        "bottleneck": tuning.bottleneck.stage,
        "setting": tuning.setting,
        "gain": tuning.gain,
        "advice": tuning.advice,
        "chosen": tuning.chosen,
        "gives_up": tuning.gives_up,
        "defaults_suffice": tuning.defaults_suffice,
        "serial": tuning.scaling.as_document(),
        "rows": [dataclasses.asdict(row) for row in tuning.rows],
    }


def _print_tuning(tuning: Tuning, output: str | None) -> None:
    print("Cost of each stage, images processed sequentially:")
    cells = [
        [cost.stage, f"{cost.microseconds:,.1f}", f"{cost.cpu_microseconds:,.1f}", f"{cost.share:.0%}"]
        for cost in tuning.stages
    ]
    print_table(["stage", "us per image", "CPU us per image", "share"], cells)
    print("Candidates:")
    print_rows(tuning.rows)
    print(f"Bottleneck: {tuning.bottleneck.stage}, {tuning.bottleneck.share:.0%} of the cost of an image.")
    print(tuning.advice)
    if tuning.defaults_suffice:
        print(DEFAULTS_SUFFICE)
    print(f"Chosen: {tuning.chosen}")
    if tuning.gives_up:
        print(f"It gives up a new order in every epoch: it has {tuning.gives_up}. --order fresh keeps it.")
    for sentence in scaling_sentences(tuning.scaling):
        print(sentence)
    if output:
        print(f"Wrote {output}: tfpipe.make_dataset(..., options={output!r})")
