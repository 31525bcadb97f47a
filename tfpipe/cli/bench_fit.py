"""`tfpipe bench --fit`: a training from every place of its augmentation, what limits it, and the option to change."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.cli.tables import print_table
from tfpipe.cli.timed import check_plot, headline, make_benchmark, pass_bar, task_facts, whole_task
from tfpipe.errors import SetupError, UsageError
from tfpipe.timing.gpu import Gpu, open_gpu
from tfpipe.timing.training import FitRow, diagnose

if TYPE_CHECKING:
    from tfpipe.reader.options import ReadOptions

POLICY = "rand_augment"
# The columns of the table: header and format of a FitRow.
_COLUMNS = {
    "variant": "{0.variant}",
    "images/s": "{0.row.images_per_second:,.0f}",
    "spread": "{0.row.spread:.0%}",
    "of ceiling": "{0.share_of_ceiling:.0%}",
    "step ms": "{0.step_milliseconds:,.1f}",
    "wait ms": "{0.wait_text}",
    "cores busy": "{0.row.utilisation:.2f}",
}
_GPU_COLUMNS = {
    "GPU <10%": "{0.below_10:.0%}",
    "GPU <50%": "{0.below_50:.0%}",
    "GPU <90%": "{0.below_90:.0%}",
    "GPU mean": "{0.mean:.0%}",
}


def run_everywhere(arguments: argparse.Namespace) -> int:
    """Prints a row for each place of the augmentation, the bottleneck, and the option to change."""
    for name in ("serial", "batch_sizes"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} is about ways to read: with --fit it takes --variants all, or names of them.")
    check_plot(arguments.plot)
    task = whole_task(arguments)
    from tfpipe.reader.damage import naming_damage
    from tfpipe.report.preview import load_transform
    from tfpipe.timing.experiment import Experiment, has_gpu, train_everywhere

    options, policy = _options(arguments.options), arguments.policy or POLICY
    transform = load_transform(policy)
    gpu, unknown = _gpu() if has_gpu() else (None, "GPU utilisation is not known: TensorFlow sees no GPU.")
    default = "linear" if task.manifest.schema.payload == "embedding" else "small"
    with naming_damage(task.manifest, task.split):
        benchmark = make_benchmark(arguments, task, default_model=default)
        seconds = None if arguments.limit else arguments.seconds
        experiment = Experiment(benchmark, transform, options, seconds, gpu)
        with pass_bar("training", total=6 * (benchmark.repeats + 1)) as on_pass:
            rows, left_out = train_everywhere(experiment, task, on_pass=on_pass)
    found = diagnose(rows, on_gpu=has_gpu())
    document = {
        **task_facts(arguments, benchmark),
        "model": arguments.model or arguments.fit or default,
        "policy": policy,
        "gpu_name": None if gpu is None else gpu.name,
        "gpu_unknown": unknown or None,
        **vars(found),
        "rows": [row.as_document() for row in rows],
        "left_out": left_out,
    }
    if arguments.plot:
        from tfpipe.report.bars import draw_trainings

        draw_trainings(rows, arguments.plot, title=f"{headline(document)}\n{_model(document)}")
    if arguments.json:
        print(json.dumps(document))
    else:
        _print(document, rows)
    return 0


def _options(path: str | None) -> ReadOptions | None:
    from tfpipe.reader.options import ReadOptions

    return None if path is None else ReadOptions.load(path)


def _gpu() -> tuple[Gpu | None, str]:
    """The GPU whose utilisation can be sampled, or the reason why there is none."""
    try:
        return open_gpu(), ""
    except SetupError as error:
        return None, str(error)


def _model(document: dict[str, Any]) -> str:
    return f"model {Path(document['model']).name}, augmentation {Path(document['policy']).name}"


def _print(document: dict[str, Any], rows: list[FitRow]) -> None:
    print(f"{headline(document)}, {_model(document)}, {document['cores']} cores, load {document['load']:.1f}")
    with_gpu = any(row.gpu for row in rows)
    print_table([*_COLUMNS, *(_GPU_COLUMNS if with_gpu else ())], [_cells(row, with_gpu=with_gpu) for row in rows])
    for name, reason in document["left_out"].items():
        print(f"Left out: {name}: {reason}")
    print(document["gpu_unknown"] or f"GPU: {document['gpu_name']}")
    print(f"Bottleneck: {document['bottleneck']}.")
    print(document["advice"])


def _cells(row: FitRow, *, with_gpu: bool) -> list[str]:
    cells = [cell.format(row) for cell in _COLUMNS.values()]
    if with_gpu:
        cells += [cell.format(row.gpu) if row.gpu else "-" for cell in _GPU_COLUMNS.values()]
    return cells
