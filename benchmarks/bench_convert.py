"""How fast is the conversion of photo-sized JPEG files? tfpipe, the hand-written loop, TFDS and img2dataset in one run.

    python benchmarks/bench_convert.py [--count 20000] [--repeats 3] [--peers loop,tfds] [--peer_python PYTHON]
    python benchmarks/bench_convert.py --scaling [--repeats 3]

All read the same files from a warm page cache and write to the same disk, in another order each round;
medians. The loop's TensorFlow import is not counted. tfpipe's start-up (the same command with --limit 1) is taken off
and reported separately. tfpipe waits until everything is on the disk, which no peer does; the row with --no_fsync does
not either. A peer that is not installed is named and left out; --peer_python names an environment that has
tensorflow-datasets and img2dataset, which do not install together with the newest of everything.
--scaling compares one thread with two instead, where images are decoded or go through a model (a MobileNetV2 of 160
pixels with random weights), start-up taken off.
Prints one JSON line for each run and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from photos import write_photos
from rounds import Results, add_json_argument, median, recorded, turns

PEERS = Path(__file__).parent / "peers"
# The flags of each row of tfpipe's own.
OURS = {"tfpipe": (), "tfpipe --no_fsync": ("--no_fsync",), "start-up": ("--limit", "1", "--no_fsync")}
SCRIPTS = {
    "loop": ["convert_loop.py"],
    "tfds": ["convert_tfds.py"],
    "tfds_beam": ["convert_tfds.py", "--beam"],
    "img2dataset": ["convert_img2dataset.py"],
}


def run_tfpipe(folder: Path, output: Path, extra: tuple[str, ...] = ()) -> dict[str, float]:
    """Runs `tfpipe convert` in its own process: wall seconds of all of it, and its peak memory."""
    command = [
        sys.executable,
        "-m",
        "tfpipe",
        "convert",
        "--input",
        str(folder),
        "--output",
        str(output),
        "--json",
        *extra,
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    text = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    wall = time.perf_counter() - started
    return {"seconds": wall, "images": json.loads(text)["written"], "peak_mb": usage.ru_maxrss / 1e3}


def run_peer(name: str, folder: Path, output: Path, python: str) -> dict[str, float] | None:
    """Runs a peer's script; None where it is not installed."""
    script, *flags = SCRIPTS[name]
    command = [python, str(PEERS / script), str(folder), str(output), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# How many images a run of --scaling takes, and the flags that make it decode them or feed them to the model.
SCALED = {
    "decoded uint8 224": (6400, ("--payload", "decoded", "--dtype", "uint8", "--image_size", "224,224")),
    "decoded float32 224": (2400, ("--payload", "decoded", "--image_size", "224,224")),
    "raw max_side 256": (4800, ("--max_side", "256")),
    "embedding": (1600, ("--payload", "embedding", "--model", "MODEL")),
}
_MAKE_MODEL = """
import sys, keras
keras.utils.set_random_seed(1)
model = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(160, 160, 3))
model.save(sys.argv[1])
"""


# What a run writes at most.
SCALED_BYTES = 1_500_000_000


def scaling_seconds(name: str, folder: Path, scratch: Path, threads: int) -> float:
    """Seconds that tfpipe takes for a row of SCALED with this number of threads, beyond those for a single image."""
    count, flags = SCALED[name]
    model = scratch / "mobilenet.keras"
    if "MODEL" in flags and not model.exists():
        subprocess.run([sys.executable, "-c", _MAKE_MODEL, str(model)], check=True, capture_output=True)
    given = [str(model) if flag == "MODEL" else flag for flag in flags]
    seconds = []
    for limit in (1, count):
        output = scratch / "scaled"
        make_ready(folder, scratch, 2 * SCALED_BYTES)
        seconds.append(
            run_tfpipe(folder, output, (*given, "--threads", str(threads), "--limit", str(limit)))["seconds"]
        )
        shutil.rmtree(output)
    return seconds[1] - seconds[0]


def compare_threads(folder: Path, scratch: Path, names: list[str], repeats: int, results: Results) -> None:
    """Prints what two threads gain over one, in medians."""
    print(f"{'':22}{'1 thread':>12}{'2 threads':>12}{'gain':>8}   images/s")
    for name in names:
        runs: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(repeats):
            for threads, seconds in runs.items():
                seconds.append(scaling_seconds(name, folder, scratch, threads))
                results.add({"name": name, "threads": threads, "seconds": seconds[-1]}, file=sys.stderr)
        one, two = (median(seconds).value for seconds in runs.values())
        count = SCALED[name][0]
        print(f"{name:22}{count / one:>12,.0f}{count / two:>12,.0f}{one / two:>8.2f}", flush=True)


def warm(folder: Path) -> int:
    """Reads every file once; returns their bytes."""
    return sum(len(path.read_bytes()) for path in folder.glob("*/*.jpg"))


def make_ready(folder: Path, scratch: Path, num_bytes: int) -> None:
    """The same state for every run: images in the page cache, memory at hand for `num_bytes`, nothing left to write.

    A machine may take back what was not touched for half a minute, and what a run has not written yet would be written
    in the next one's time.
    """
    touch_memory(scratch / "touched", num_bytes)
    warm(folder)
    os.sync()


def touch_memory(path: Path, num_bytes: int) -> None:
    """Writes a file and removes it, so that the page cache has memory at hand.

    A virtual machine's host takes back free memory; whoever writes next pays for getting it again: 100 us per image.
    """
    block = bytes(1 << 24)
    with open(path, "wb", buffering=0) as file:
        for _ in range(num_bytes // len(block)):
            file.write(block)
    path.unlink()


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "tfpipe_bench_photos"))
    parser.add_argument("--peers", default=",".join(SCRIPTS))
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter whose environment has the peers")
    parser.add_argument("--scaling", nargs="?", const=",".join(SCALED), help="compare threads; names of rows, or all")
    add_json_argument(parser)
    arguments = parser.parse_args()
    folder = arguments.folder / str(arguments.count)
    write_photos(folder, arguments.count)
    num_bytes = warm(folder)
    if arguments.scaling:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch, recorded(arguments.json) as results:
            compare_threads(folder, Path(scratch), arguments.scaling.split(","), arguments.repeats, results)
        return
    runs: dict[str, list[dict[str, float]]] = {}
    names = [*OURS, *filter(None, arguments.peers.split(","))]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch, recorded(arguments.json) as results:
        for number, name in turns(names, arguments.repeats):
            result = run_once(name, folder, Path(scratch, f"{name}-{number}"), 2 * num_bytes, arguments.peer_python)
            if result is None:
                print(f"{name} is not installed", file=sys.stderr)
                names.remove(name)
                continue
            runs.setdefault(name, []).append(result)
            results.add({"name": name, "load": os.getloadavg()[0], **result})
    print_table(runs, num_bytes)


def run_once(name: str, folder: Path, output: Path, num_bytes: int, peer_python: str) -> dict[str, float] | None:
    """One timed run of tfpipe, of its start-up alone, or of a peer; None where that is not installed."""
    if name in OURS:
        # Its libraries into the page cache, too; the loop's are loaded before its clock starts.
        run_tfpipe(folder, output, ("--limit", "1"))
        shutil.rmtree(output)
    make_ready(folder, output.parent, num_bytes)
    result = run_tfpipe(folder, output, OURS[name]) if name in OURS else run_peer(name, folder, output, peer_python)
    shutil.rmtree(output, ignore_errors=True)
    return result


def print_table(runs: dict[str, list[dict[str, float]]], num_bytes: int) -> None:
    """Prints medians, and ratios to the loop."""
    seconds = {name: median(run["seconds"] for run in some).value for name, some in runs.items()}
    startup = seconds.pop("start-up")
    images = runs["tfpipe"][0]["images"]
    rates = {name: images / (value - (startup if name in OURS else 0)) for name, value in seconds.items()}
    print(f"{images:.0f} files, {num_bytes / 1e6:.0f} MB; start-up of tfpipe {startup:.2f} s, not counted")
    print(f"{'':20}{'images/s':>10}{'MB/s':>8}{'to the loop':>13}")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        ratio = f"{rate / rates['loop']:.2f}" if "loop" in rates else "-"
        print(f"{name:20}{rate:>10,.0f}{rate * num_bytes / images / 1e6:>8,.0f}{ratio:>13}")
    print(f"peak memory of tfpipe {max(run['peak_mb'] for run in runs['tfpipe']):.0f} MB")


if __name__ == "__main__":
    main()
