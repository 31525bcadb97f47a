"""How fast is augmentation on one GPU? tfpipe and the packages that have kernels for it, on the same photographs.

    python benchmarks/bench_gpu.py [--peer_python PYTHON] [--only NAME] [--rounds 3] [--json FILE]
    python benchmarks/bench_gpu.py --device cpu --batch 8 --seconds 0.2        tries the file without a GPU

Every row is a process of its own, since frameworks do not share a GPU's memory: it puts a batch on the device, calls
the transform until it is warm, and then times turns of --seconds, each ended by the device's own synchronisation.
`draws` says for what an operation is drawn: packages that draw one for the whole batch do less. A row that cannot run
is printed with its reason. The row `copy` reads and writes the batch once: what the memory allows at most.
Prints one JSON line for each row and task, and a table of medians; (max - min) / median is the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_augment import crops, peer_pythons
from rounds import Results, add_json_argument, recorded

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))

from gpu_steps import TASKS  # noqa: E402

# Of a row: the scripts' names in peers/, with the flag that it gets.
ROWS = {
    "tfpipe, one program": ("gpu_tfpipe", "jit"),
    "tfpipe, outside jit": ("gpu_tfpipe", "plain"),
    "keras.layers": ("gpu_keras", ""),
    "DALI": ("gpu_dali", ""),
    "torchvision, one draw a batch": ("gpu_torch", "torchvision"),
    "torchvision, image by image": ("gpu_torch", "torchvision_each"),
    "kornia, one draw a batch": ("gpu_torch", "kornia"),
    "copy": ("gpu_torch", "copy"),
}


def run_row(name: str, folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What a row's process prints: a dict for each task that it has, or one with the reason why there is none."""
    script, flag = ROWS[name]
    pythons = peer_pythons(arguments.peer_python)
    python = sys.executable if script in ("gpu_tfpipe", "gpu_keras") else pythons.get(name.lower(), pythons[""])
    command = [python, "-W", "ignore", str(HERE / "peers" / f"{script}.py"), str(folder), arguments.device, flag]
    command += [str(arguments.seconds), str(arguments.rounds)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    yield from ({"row": name, **line} for line in lines)
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        yield {"row": name, "skipped": said[-1][:300] if said else f"exit code {done.returncode}"}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints images per second, a line for each row and a column for each task; then what was skipped and why."""
    print(f"\n{'':30}{'draws':>8}" + "".join(f"{task:>22}" for task in TASKS))
    for name in ROWS:
        own = {row["task"]: row for row in rows if row["row"] == name and "task" in row}
        if own:
            draws = next(iter(own.values())).get("draws", "-")
            cells = (
                f"{own[t]['images_per_second']:>15,.0f} ±{own[t]['spread']:4.0%}" if t in own else "-" for t in TASKS
            )
            print(f"{name:30}{draws:>8}" + "".join(f"{cell:>22}" for cell in cells))
    for row in rows:
        if "skipped" in row:
            print(f"{row['row']}: skipped: {row['skipped']}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--batch", type=int, default=256, help="images of 224 pixels; of 32 pixels 16 times as many")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(ROWS), metavar="ROW", help=f"of {list(ROWS)}")
    parser.add_argument("--peer_python", action="append", default=[], metavar="[ROW=]PATH")
    add_json_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Runs every row, one after another."""
    arguments = parse()
    sizes = {side: arguments.batch * times for _, side, times in TASKS.values()}
    with tempfile.TemporaryDirectory() as folder, recorded(arguments.json) as results:
        for side, count in sizes.items():
            # 64 different ones: more would only take longer to make.
            np.save(Path(folder) / f"{side}.npy", np.resize(crops(min(64, count), side), (count, side, side, 3)))
        collect(results, Path(folder), arguments)
    print_table(results.rows)


def collect(results: Results, folder: Path, arguments: argparse.Namespace) -> None:
    """Adds what every row gave."""
    for name in arguments.only or ROWS:
        for row in run_row(name, folder, arguments):
            results.add(row)


if __name__ == "__main__":
    main()
