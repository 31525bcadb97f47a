"""Searches for the augmentation under which a small model learns a dataset best, or compares what was found.

bayesian: no augmentation, each op alone, then optuna's sampler; the best are trained again. population: members train
side by side, and the weak go on from the strong; finds a schedule. compare: what was found against no augmentation,
flip and crop, TrivialAugment, RandAugment and random search, on the test split.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.cli.arguments import image_size, output_file
from tfpipe.cli.failures import INTERRUPTED
from tfpipe.cli.progress import progress, start_tensorflow
from tfpipe.cli.tables import print_table
from tfpipe.errors import UsageError, require_extra

if TYPE_CHECKING:
    from tfpipe.search.bayesian_search import OnTrial
    from tfpipe.search.comparison import Comparison
    from tfpipe.search.result import SearchResult

EXAMPLES = """examples:
  tfpipe search bayesian photos_tfrecord --image_size 64 --trials 60 --storage found --report found.html
      killed or stopped, the same command goes on where it was; found/policy.json is the policy:
      tfpipe.make_dataset(..., transforms=[augment.policy("found/policy.json")])
  tfpipe search bayesian photos_tfrecord --image_size 32 --trials 300 --space deep_augment --child deepaugment
      DeepAugment's space and child
  tfpipe search population photos_tfrecord --image_size 64 --members 16 --rounds 20 --storage found
  tfpipe search compare photos_tfrecord --image_size 64 --policy found/policy.json --seeds 5
"""
METHODS = ("bayesian", "population", "compare")
# Options that only some methods take: name, methods, default, type, metavar and help.
_OPTIONS: tuple[tuple[str, tuple[str, ...], Any, Any, str, str], ...] = (
    ("trials", ("bayesian",), 60, int, "N", "trainings, the baseline and the screen included"),
    ("workers", ("bayesian", "population"), None, int, "N", "processes that train; default: 1, population on Ray: all"),
    ("sampler", ("bayesian",), "tpe", str, "NAME", "tpe, random or forest"),
    ("pruner", ("bayesian",), "none", str, "NAME", "none, median or halving: ends hopeless trials early"),
    ("members", ("population",), 16, int, "N", "members of the population"),
    ("rounds", ("population",), 10, int, "N", "rounds, after each of which the weak go on from the strong"),
    ("engine", ("bayesian", "population"), "local", str, "NAME", "local or ray (takes tfpipe[ray])"),
    ("start", ("population",), "spread", str, "NAME", "spread or zero"),
    ("storage", ("bayesian", "population"), None, str, "DIR", "where the search is kept and resumed"),
    ("budget_seconds", ("bayesian", "population"), None, float, "S", "stop in time, with the best so far"),
    ("validation_split", ("bayesian", "population"), "validation", str, "NAME", "the split that scores"),
    ("test_split", ("compare",), "test", str, "NAME", "the split that measures"),
    ("seeds", ("compare",), 3, int, "N", "trainings of each row"),
    ("random_trials", ("compare",), None, int, "N", "policies that random search tries; default: 10"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("method", choices=METHODS, help="bayesian, population or compare")
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument(
        "--image_size", metavar="H,W|N", help="resize to this; N is a square (default: the stored size)"
    )
    parser.add_argument("--channels", type=int, default=3, choices=[1, 3], help="of the images (default: 3)")
    parser.add_argument("--train_split", default="train", metavar="NAME", help="the split to train on (default: train)")
    parser.add_argument(
        "--space", metavar="NAME", help="slots, deep_augment, walk or pba (default: slots; population: walk)"
    )
    parser.add_argument("--ops", metavar="NAME,...", help="the ops of slots and walk (default: all that make sense)")
    parser.add_argument("--child", default="small", metavar="NAME", help="small or deepaugment (default: small)")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="of each child (default: 400)")
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="images in a step (default: 64)")
    parser.add_argument(
        "--fill", type=int, default=128, metavar="LEVEL", help="what comes in from outside (default: 128)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.add_argument("--report", metavar="FILE", help="write an HTML page; takes tfpipe[report]")
    for name, methods, default, kind, metavar, text in _OPTIONS:
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=f"{', '.join(methods)}: {text}{shown}")
    parser.add_argument("--policy", action="append", metavar="FILE", help="compare: a policy or schedule; repeatable")


def run(arguments: argparse.Namespace) -> int:
    """Searches or compares, and prints what was found."""
    given = _given(arguments)
    if arguments.report:
        output_file(arguments.report, option="--report")
    # What is missing is said before the search, not after it.
    require_extra(f"tfpipe search {arguments.method}", "optuna", "scipy")
    if arguments.report:
        require_extra("--report", "jinja2")
    found = _policies(arguments.policy or []) if arguments.method == "compare" else {}
    shared = _shared(arguments)
    start_tensorflow(quiet=arguments.json)
    if arguments.method == "compare":
        return _compare(arguments, found, given, shared)
    return _search(arguments, given, shared)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of the options that the method has.

    Raises:
      UsageError: an option of another method is given.
    """
    values = {}
    for name, methods, default, *_ in _OPTIONS:
        value = getattr(arguments, name)
        if arguments.method in methods:
            if (given := default if value is None else value) is not None:
                values[name] = given
        elif value is not None:
            raise UsageError(f"--{name} is an option of {' and '.join(methods)}, not of {arguments.method}.")
    if arguments.policy and arguments.method != "compare":
        raise UsageError(f"--policy is an option of compare, not of {arguments.method}.")
    return values


def _shared(arguments: argparse.Namespace) -> dict[str, Any]:
    from tfpipe.search.settings import Training

    training = Training(
        steps=arguments.steps,
        epochs=min(10, arguments.steps),
        last=min(3, arguments.steps),
        batch_size=arguments.batch_size,
        fill=arguments.fill,
    )
    return {
        "image_size": image_size(arguments.image_size),
        "channels": arguments.channels,
        "space": _space(arguments),
        "child": arguments.child,
        "training": training,
        "seed": arguments.seed,
    }


def _space(arguments: argparse.Namespace) -> Any:
    from tfpipe.search.space import SPACES

    name = arguments.space or ("walk" if arguments.method == "population" else "slots")
    if name not in SPACES:
        raise UsageError(f"Unknown --space {name!r}; known: {sorted(SPACES)}.")
    if not arguments.ops:
        return SPACES[name]()
    if name not in ("slots", "walk"):
        raise UsageError(f"--ops goes with the spaces slots and walk; {name} has ops of its own.")
    from tfpipe.search.space import check_ops

    return SPACES[name](ops=check_ops(arguments.ops.split(",")))


def _policies(paths: list[str]) -> dict[str, Any]:
    """Policies and schedules by the names of their files."""
    from tfpipe.policy import load_policy, load_schedule, published_schedules

    found: dict[str, Any] = {}
    for path in paths:
        name = Path(path).stem
        if name in found:
            raise UsageError(f"Two policies are named {name!r}; rename a file.")
        try:
            text = Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""
            is_schedule = path in published_schedules() or "tfpipe schedule" in text[:100]
            found[name] = load_schedule(path) if is_schedule else load_policy(path)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return found


def _search(arguments: argparse.Namespace, given: dict[str, Any], shared: dict[str, Any]) -> int:
    from tfpipe import search

    method: Callable[..., SearchResult] = getattr(search, arguments.method)
    pairs = [(arguments.dataset, arguments.train_split), (arguments.dataset, given.pop("validation_split"))]
    with _bar(f"search {arguments.method}") as on_trial:
        result = method(*pairs, **given, **shared, on_trial=on_trial)
    if arguments.report:
        result.report(arguments.report)
    if arguments.json:
        print(json.dumps(result.to_json()))
    else:
        _print_result(result, arguments)
    return INTERRUPTED if result.stopped == "interrupted" else 0


def _compare(
    arguments: argparse.Namespace, found: dict[str, Any], given: dict[str, Any], shared: dict[str, Any]
) -> int:
    from tfpipe import search
    from tfpipe.search.page import write_report

    train, test = (arguments.dataset, arguments.train_split), (arguments.dataset, given.pop("test_split"))
    with _bar("search compare") as on_trial:
        comparison: Comparison = search.compare(found, train, test, **given, **shared, on_trial=on_trial)
    if arguments.report:
        write_report(None, arguments.report, comparison=comparison)
    print(json.dumps(comparison.to_json()) if arguments.json else comparison)
    return 0


@contextlib.contextmanager
def _bar(name: str) -> Iterator[OnTrial]:
    """A bar of trainings, with the best accuracy so far."""
    with progress(name) as move:

        def on_trial(done: int, total: int, best: float) -> None:
            text = "" if math.isnan(best) else f", best {best:.3f}"
            move(completed=done, total=total, description=f"{name}{text}")

        yield on_trial


def _print_result(result: SearchResult, arguments: argparse.Namespace) -> None:
    if result.screen:
        print("Each op alone, validation accuracy:")
        rows = [[trial.op, f"{trial.reward:.3f}"] for trial in result.screen]
        print_table(["op", "accuracy"], [["(none)", f"{result.baseline or 0:.3f}"], *rows])
    if result.left_out:
        print(f"Not tried alone, as half of the trials were used up: {', '.join(result.left_out)}.")
    print("Found:")
    for steps in result.policy.sub_policies:
        parts = [f"{s.op} {s.magnitude:.2g}" if s.magnitude is not None else s.op for s in steps if s.probability]
        print(f"  {', '.join(parts) or 'nothing'}")
    if result.score is None:
        print("It was not trained again, so that it has no score to report.")
    else:
        print(f"Validation accuracy, trained again with new seeds: {result.score:.3f}")
    costs = result.costs
    print(
        f"{costs.trainings} trainings, {costs.steps:,} child steps, {costs.trials_per_minute:.1f} trials per minute, "
        f"{costs.cpu_hours:.3f} CPU hours, {costs.gpu_hours:.3f} GPU hours"
    )
    if result.stopped:
        resume = "the same command goes on from here" if arguments.storage else "--storage DIR would keep it"
        print(f"Stopped: {result.stopped}; {resume}.")
    if arguments.storage:
        name = "schedule.json" if result.schedule is not None else "policy.json"
        call = f"augment.{'pba' if result.schedule is not None else 'policy'}({str(Path(arguments.storage, name))!r})"
        print(f"Wrote {Path(arguments.storage, name)}: tfpipe.make_dataset(..., transforms=[{call}])")
