"""How fast are whole batches augmented? tfpipe and the packages that people use, on the same photographs, in one run.

    python benchmarks/bench_augment.py [--task rand_augment_224] [--rounds 3] [--only NAME] [--peer_python dali=PATH]
    python benchmarks/bench_augment.py --pipeline         what a transform costs in a JPEG pipeline of make_dataset
    python benchmarks/bench_augment.py --replay FILE      the table and the figure of earlier runs

Every row is a process that imports and compiles first, shows that it augments, and then idles but for its turns
of --seconds; each round gives every row one turn, in another order. Each package runs as is fastest for it on two
cores (its script in peers/ says how), from uint8 photographs in memory to batches of one array in memory. `op per` says
for what an operation is drawn: packages that draw one for the whole batch do less. `different` counts the different
pictures that came of a batch of copies of one photograph. A package that is not installed is named and left out;
--peer_python gives the interpreter of all peers, or with NAME= of those whose script or row is so named.
Prints one JSON line for each turn, and tables: medians over the rounds, (max - min) / median as the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))

from cpu import session_cpu_seconds  # noqa: E402
from photos import NAMES, photograph, write_photos  # noqa: E402
from rounds import Results, add_json_argument, rates, read_rows, recorded, turns  # noqa: E402

from tfpipe.timing import Pass  # noqa: E402

NUM_BATCHES = 8  # Different batches of photographs, walked over again and again.


@dataclass(frozen=True)
class Task:
    """What all rows of one table do."""

    policy: str
    side: int
    batch_size: int
    title: str


TASKS = {
    "rand_augment_224": Task("rand_augment", 224, 128, "RandAugment(2, 9), 128 x 224 x 224"),
    "rand_augment_32": Task("rand_augment", 32, 256, "RandAugment(2, 9), 256 x 32 x 32"),
    "auto_augment_224": Task("auto_augment", 224, 128, "AutoAugment, 128 x 224 x 224"),
    "trivial_augment_224": Task("trivial_augment", 224, 128, "TrivialAugment, 128 x 224 x 224"),
}
PIPELINE = Task("", 224, 128, "JPEG files through make_dataset, 128 x 224 x 224")


@dataclass(frozen=True)
class Row:
    """A line of the table: a script of peers/, its flags and environment."""

    script: str
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    rand_augment_only: bool = False


INTRA_1 = {"TF_NUM_INTRAOP_THREADS": "1"}
ROWS = {
    "tfpipe": Row("tfpipe"),
    "tfpipe, intra-op threads 1": Row("tfpipe", environment=INTRA_1),
    "albumentations": Row("albumentations"),
    "torchvision, PIL": Row("torchvision", ("pil",)),
    "torchvision, tensors": Row("torchvision", ("tensor",)),
    "TensorFlow, image by image": Row("tensorflow"),
    "imgaug": Row("imgaug", rand_augment_only=True),
    "DALI on the CPU": Row("dali"),
    "keras_cv": Row("keras_cv", rand_augment_only=True),
    "kornia": Row("kornia"),
    "keras.layers": Row("keras", rand_augment_only=True),
}
TRANSFORMS = ("none", "rand_augment", "mixup", "cutmix", "rand_augment+mixup")
PIPELINE_ROWS = {name: Row("pipeline", (name,)) for name in TRANSFORMS}


class Process:
    """A row's process, ready to take turns."""

    def __init__(self, row: Row, python: str, arguments: list[str]) -> None:
        command = [python, "-W", "ignore", str(HERE / "peers" / f"augment_{row.script}.py"), *arguments, *row.flags]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **row.environment},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout

    def wait_until_ready(self) -> dict[str, Any] | None:
        """What it says about itself; None where its package is not installed."""
        for line in self.output:
            if line.startswith('{"ready"'):
                self.settle()
                return json.loads(line)
        self.errors.seek(0)
        text = self.errors.read()
        if "ModuleNotFoundError" in text or "ImportError" in text:
            return None
        raise SystemExit(f"{self.process.args!r} failed:\n{text[-3000:]}")

    def turn(self, seconds: float) -> dict[str, float]:
        """Lets it work for some seconds and come to rest again."""
        self.input.write(f"{seconds}\n")
        self.input.flush()
        line = self.output.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{self.process.args!r} ended:\n{self.errors.read()[-3000:]}")
        self.settle()
        return json.loads(line)

    def settle(self) -> None:
        """Waits until its session uses no CPU: what runs ahead of the consumer fills its queues first."""
        before, deadline = -1.0, time.monotonic() + 30
        while (now := session_cpu_seconds(self.process.pid)) > before and time.monotonic() < deadline:
            before = now
            time.sleep(0.2)

    def end(self) -> None:
        """Ends it by closing its input."""
        self.input.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def crops(count: int, side: int) -> np.ndarray:
    """uint8 [count, side, side, 3]: square pieces of photographs, the same for a number always."""
    pictures = np.empty((count, side, side, 3), np.uint8)
    for number in range(count):
        draw = np.random.default_rng(number)
        source = photograph(NAMES[int(draw.integers(len(NAMES)))])
        edge = draw.uniform(0.5, 1) * min(source.size)
        left, top = draw.uniform(0, source.width - edge), draw.uniform(0, source.height - edge)
        box = (left, top, left + edge, top + edge)
        pictures[number] = np.asarray(source.resize((side, side), Image.Resampling.BILINEAR, box=box))
    return pictures


def run_rounds(
    task: str, rows: dict[str, Row], start: list[str], arguments: argparse.Namespace, results: Results
) -> None:
    """Starts every row, then gives each its turn in every round: a result for each turn."""
    pythons = peer_pythons(arguments.peer_python)
    processes: dict[str, Process] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        python = pythons.get(name.lower()) or pythons.get(row.script) or pythons[""]
        process = Process(row, sys.executable if row.script in ("tfpipe", "pipeline") else python, start)
        if (ready := process.wait_until_ready()) is None:
            print(f"{name} is not installed", file=sys.stderr)
            continue
        processes[name], facts[name] = process, ready
    waited_for = -1
    for number, name in turns(sorted(processes), arguments.rounds, seed=arguments.seed):
        if arguments.wait and number > waited_for:
            waited_for = number
            input(f"round {number + 1} of {arguments.rounds}: press Enter\n")
        load = os.getloadavg()[0]
        done = processes[name].turn(arguments.seconds)
        results.add({"task": task, "row": name, "round": number, "load": load, **facts[name], **done})
    for process in processes.values():
        process.end()


def peer_pythons(values: list[str]) -> dict[str, str]:
    """Interpreters by the lower-case name of a row or script; "" is everyone's."""
    pythons = {"": sys.executable}
    for value in values:
        name, _, path = value.rpartition("=")
        pythons[name.lower()] = path
    return pythons


def summarize(records: list[dict]) -> dict[str, dict[str, Any]]:
    """By row: medians over the rounds of images a second, and a CPU-second; the fastest first."""
    summary = {}
    for name in dict.fromkeys(record["row"] for record in records):
        own = [record for record in records if record["row"] == name]
        found = rates([Pass(turn["images"], turn["seconds"], turn["cpu_seconds"]) for turn in own])
        summary[name] = {
            "rate": found.per_second.value,
            "spread": found.per_second.spread,
            "cpu_rate": found.per_cpu_second.value,
            "op_per": own[0].get("op_per", "-"),
            "distinct": own[0].get("distinct", "-"),
            "rounds": len(own),
        }
    return dict(sorted(summary.items(), key=lambda item: -item[1]["rate"]))


def is_ours(name: str) -> bool:
    """Whether a row is tfpipe's."""
    return name.startswith("tfpipe")


def print_table(task: str, records: list[dict]) -> None:
    """Prints the medians, and how many times the fastest peer that draws an operation for each image."""
    summary = summarize(records)
    peers = [entry["rate"] for name, entry in summary.items() if not is_ours(name) and entry["op_per"] == "image"]
    loads = [record["load"] for record in records]
    rounds = max(entry["rounds"] for entry in summary.values())
    print(f"\n{TASKS[task].title}: {rounds} rounds, load {min(loads):.1f} to {max(loads):.1f}")
    print(f"{'':28}{'op per':>7}{'different':>11}{'images/s':>10}{'spread':>8}{'/CPU-s':>9}{'to fastest peer':>17}")
    for name, entry in summary.items():
        ratio = f"{entry['rate'] / max(peers):.2f}" if peers else "-"
        print(
            f"{name:28}{entry['op_per']:>7}{entry['distinct']:>11}{entry['rate']:>10,.0f}{entry['spread']:>8.0%}"
            f"{entry['cpu_rate']:>9,.0f}{ratio:>17}"
        )


def print_costs(records: list[dict]) -> None:
    """Prints what each transform takes of the pipeline's rate."""
    summary = summarize(records)
    plain = summary["none"]
    print(f"\n{PIPELINE.title}: {plain['rounds']} rounds")
    print(f"{'transforms':28}{'images/s':>10}{'spread':>8}{'/CPU-s':>9}{'costs':>8}{'of CPU':>8}")
    for name, entry in summary.items():
        costs = [1 - entry[unit] / plain[unit] for unit in ("rate", "cpu_rate")]
        print(
            f"{name:28}{entry['rate']:>10,.0f}{entry['spread']:>8.0%}{entry['cpu_rate']:>9,.0f}"
            f"{costs[0]:>8.1%}{costs[1]:>8.1%}"
        )


def draw_figure(records: list[dict], path: Path) -> None:
    """Draws images per second of every row, a panel for each task, on logarithmic axes."""
    from matplotlib.figure import Figure

    tasks = [task for task in TASKS if any(record["task"] == task for record in records)]
    figure = Figure(figsize=(11, 1.2 + 2.9 * ((len(tasks) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(tasks) + 1) // 2, min(len(tasks), 2), squeeze=False).ravel()
    for panel in panels[len(tasks) :]:
        panel.remove()
    for panel, task in zip(panels, tasks, strict=False):
        draw_panel(panel, TASKS[task].title, summarize([record for record in records if record["task"] == task]))
    figure.supxlabel("images per second on two cores, logarithmic; * draws one operation for the whole batch", size=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def draw_panel(panel: Any, title: str, summary: dict[str, dict[str, Any]]) -> None:
    """Draws one task's bars, the fastest on top, each with its rate."""
    names = list(reversed(summary))
    values = [summary[name]["rate"] for name in names]
    labels = [name + (" *" if summary[name]["op_per"] == "batch" else "") for name in names]
    bars = panel.barh(labels, values, color=["#1f6fb2" if is_ours(name) else "#b8bfc6" for name in names])
    panel.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, size=8)
    panel.set_xscale("log")
    panel.set_xlim(min(values) / 2, max(values) * 4)
    panel.set_title(title, size=10, loc="left")
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def run_tasks(arguments: argparse.Namespace, results: Results) -> None:
    """Runs the chosen tasks in sequence."""
    for task in arguments.task.split(","):
        settings, rows = TASKS[task], chosen(ROWS, arguments.only)
        rows = {name: row for name, row in rows.items() if "rand" in task or not row.rand_augment_only}
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "photographs.npy")
            np.save(path, crops(NUM_BATCHES * settings.batch_size, settings.side))
            start = [settings.policy, str(path), str(settings.batch_size)]
            run_rounds(task, rows, start, arguments, results)


def run_pipeline(arguments: argparse.Namespace, results: Results) -> None:
    """Converts photographs once, then reads them with and without transforms."""
    with tempfile.TemporaryDirectory() as scratch:
        photographs, dataset = Path(scratch, "photographs"), Path(scratch, "dataset")
        write_photos(photographs, arguments.count)
        command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(photographs), "--output", str(dataset)]
        subprocess.run([*command, "--split", "train=1"], check=True, stdout=subprocess.DEVNULL)
        rows = chosen(PIPELINE_ROWS, arguments.only)
        start = [str(dataset), str(PIPELINE.batch_size), str(PIPELINE.side)]
        run_rounds("pipeline", rows, start, arguments, results)


def chosen(rows: dict[str, Row], only: str) -> dict[str, Row]:
    """The rows whose names or scripts are listed; all where none is."""
    names = {name.strip().lower() for name in only.split(",") if name.strip()}
    return {name: row for name, row in rows.items() if not names or {name.lower(), row.script} & names}


def main() -> None:
    """Runs the comparison, or reads an earlier one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=",".join(TASKS), help=f"some of {', '.join(TASKS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5, help="a turn's length")
    parser.add_argument("--only", default="", help="rows or scripts, comma-separated")
    parser.add_argument("--peer_python", action="append", default=[], metavar="[NAME=]PATH")
    parser.add_argument("--seed", type=int, default=0, help="of the order of turns")
    parser.add_argument("--wait", action="store_true", help="wait for Enter before each round")
    parser.add_argument("--pipeline", action="store_true")
    parser.add_argument("--count", type=int, default=1_500, help="photographs of the pipeline")
    parser.add_argument(
        "--replay", nargs="+", type=Path, help="files of --json, or saved output, to read in place of a run"
    )
    parser.add_argument("--figure", type=Path, help="where to draw the tasks, as .svg or .png")
    add_json_argument(parser)
    arguments = parser.parse_args()
    if arguments.replay:
        records = [row for path in arguments.replay for row in read_rows(path)]
    else:
        with recorded(arguments.json) as results:
            run_pipeline(arguments, results) if arguments.pipeline else run_tasks(arguments, results)
        records = results.rows
    for task in dict.fromkeys(record["task"] for record in records):
        some = [record for record in records if record["task"] == task]
        print_costs(some) if task == "pipeline" else print_table(task, some)
    if arguments.figure:
        draw_figure(records, arguments.figure)


if __name__ == "__main__":
    main()
