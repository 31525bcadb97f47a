"""How fast are photos read? tfpipe, tf.data, the book's structure, Grain, WebDataset, MosaicML, torchvision, DALI.

    python benchmarks/bench_read.py [--count 2560] [--rounds 3] [--only jpeg] [--peer_python PYTHON]

JPEG files of 224-500 px become uint8 batches [128, 224, 224, 3] with one-hot labels. Every reader runs in a process of
its own, one warm-up pass and one timed pass a round, in another order each round; medians, with (largest - smallest) /
median beside them. CPU seconds are those of the process and of all that it started. --peer_python names an environment
that has the other packages; one that is missing or fails is named and left out. Further rows: embeddings of 1280
floats against the book's parse, decoded uint8 against plain, the difference to Pillow's antialiased resize, and the
bytes that it takes to resume. The question `serial` runs tfpipe, stock tf.data and Grain with decoding made free as
well, and projects their rates for more cores, as `tfpipe bench --serial` does. Prints one JSON line for each run and a
table for each question.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from photos import write_photos
from rounds import Results, add_json_argument, rates, recorded, turns

from tfpipe.cli.scalings import print_scalings
from tfpipe.timing import Pass
from tfpipe.timing.read_pass import ReadPass
from tfpipe.timing.scaling import Scaling, summarize_scaling
from tfpipe.timing.threads import Threads

PEERS = Path(__file__).parent / "peers"
# Question: row name, script, task. The first row is what the others are divided by.
QUESTIONS = {
    "jpeg": {
        "stock, parallel": ("tfdata", "jpeg"),
        "tfpipe": ("tfpipe", "jpeg"),
        "tfpipe, in sequence": ("tfpipe", "jpeg_in_sequence"),
        "stock, plain": ("tfdata", "jpeg_plain"),
        "the book's structure": ("tfdata", "jpeg_book"),
        "Grain, OpenCV": ("grain", "jpeg"),
        "WebDataset, OpenCV": ("webdataset", "jpeg"),
        "MosaicML, OpenCV": ("mosaic", "jpeg"),
        "torchvision.io": ("torchvision", "jpeg"),
        "DALI CPU": ("dali", "jpeg"),
    },
    "antialias": {
        "stock": ("tfdata", "antialias"),
        "tfpipe": ("tfpipe", "antialias"),
        "torchvision.io": ("torchvision", "antialias"),
        "torchvision, Pillow": ("torchvision", "antialias_pillow"),
        "DALI CPU": ("dali", "antialias"),
    },
    "vectors": {
        "the book's parse": ("tfdata", "vectors"),
        "the book's parse, plain": ("tfdata", "vectors_plain"),
        "tfpipe, in sequence": ("tfpipe", "vectors"),
    },
    "vectors_shuffled": {
        "the book's parse, shuffle(200)": ("tfdata", "vectors_shuffled"),
        "tfpipe, global shuffle": ("tfpipe", "vectors_shuffled"),
    },
    "uint8": {
        "stock, plain": ("tfdata", "uint8_plain"),
        "stock, parallel": ("tfdata", "uint8"),
        "tfpipe": ("tfpipe", "uint8"),
        "tfpipe, in sequence": ("tfpipe", "uint8_in_sequence"),
    },
}
# The question `serial`: rows of readers that keep to one process; each has the task NAME_free, too.
SERIAL = {
    "stock, parallel": ("tfdata", "jpeg"),
    "tfpipe": ("tfpipe", "jpeg"),
    "tfpipe, in sequence": ("tfpipe", "jpeg_in_sequence"),
    "tfpipe, single records": ("tfpipe", "jpeg_single_records"),
    "Grain, OpenCV": ("grain", "jpeg"),
}
SERIAL_SECONDS = 2
# Every photo becomes this number of vectors.
COPIES, VECTOR_SIZE = 8, 1280
OURS = ("tfpipe", "tfdata")
PREPARED = ("grain", "webdataset", "mosaic")
# What a broken or missing installation says.
_ABSENT = ("ModuleNotFoundError", "ImportError", "operator torchvision")


def python_of(script: str, arguments: argparse.Namespace) -> str:
    """Whose interpreter runs a script."""
    return sys.executable if script in OURS else arguments.peer_python


def run_script(script: str, task: str, folder: Path, arguments: argparse.Namespace, *flags: str) -> list | None:
    """Runs a reader in its own process; its passes, or None where its package is not there."""
    command = [python_of(script, arguments), str(PEERS / f"read_{script}.py"), task, str(folder), *flags]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    except subprocess.TimeoutExpired:
        print(f"{script} {task} did not end within 300 s", file=sys.stderr)
        return None
    if done.returncode:
        kind = "is not installed, or not whole" if any(word in done.stderr for word in _ABSENT) else "failed"
        print(f"{script} {task} {kind}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else []


# ---- what is read


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """Writes the photos, tfpipe's three datasets of them, and what the peers read."""
    write_photos(folder / "photos", arguments.count)
    # The book interleaves two halves of the files, so there are at least two.
    num_bytes = sum(path.stat().st_size for path in (folder / "photos").glob("*/*.jpg"))
    convert(folder / "photos", folder / "raw", "--target_bytes", str(min(16_000_000, num_bytes // 2)))
    convert(folder / "photos", folder / "uint8", "--payload", "decoded", "--dtype", "uint8", "--image_size", "224,224")
    if not (folder / "vectors/dataset.json").exists():
        flags = ["--payload", "embedding", "--model", str(tiny_model(folder))]
        num_bytes = arguments.count * COPIES * VECTOR_SIZE * 4
        convert(link_copies(folder), folder / "vectors", *flags, "--target_bytes", str(min(64_000_000, num_bytes // 2)))
    for script in PREPARED:
        if not (folder / script).exists():
            run_script(script, "jpeg", folder, arguments, "--prepare")


def convert(source: Path, output: Path, *options: str) -> None:
    """Runs `tfpipe convert` of all images into one split."""
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(source), "--output", str(output)]
    subprocess.run([*command, "--split", "train=1", "--resume", *options], check=True, stdout=subprocess.DEVNULL)


def link_copies(folder: Path) -> Path:
    """Every photo under eight names: a pass over vectors takes milliseconds otherwise."""
    many = folder / "many"
    for path in (folder / "photos").glob("*/*.jpg"):
        (many / path.parent.name).mkdir(parents=True, exist_ok=True)
        for copy in range(COPIES):
            link = many / path.parent.name / f"{copy}-{path.name}"
            if not link.exists():
                os.link(path, link)
    return many


def tiny_model(folder: Path) -> Path:
    """A model that makes 1280 floats of an image; what they say does not matter here."""
    path = folder / "tiny.keras"
    if not path.exists():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import keras

        keras.utils.set_random_seed(0)
        keras.Sequential(
            [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(VECTOR_SIZE, activation="relu")]
        ).save(path)
    return path


# ---- quality, state


def similarity(folder: Path, *, count: int = 128) -> dict[str, float]:
    """PSNR in dB of the antialiased resize to Pillow's: tfpipe's and tf.image.resize's, mean over images."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    import tfpipe

    files = {f"{path.parent.name}/{path.name}": path for path in (folder / "photos").glob("*/*.jpg")}
    batches = tfpipe.make_dataset(
        folder / "raw", batch_size=32, image_size=(224, 224), resize="stretch", antialias=True, labels=None
    )
    found: dict[str, list[float]] = {"tfpipe": [], "stock": []}
    for batch in batches.take(count // 32):
        for key, image in zip(batch["key"].numpy(), batch["image"].numpy(), strict=True):
            path = files[key.decode()]
            oracle = np.asarray(Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
            stock = tf.image.resize(tf.io.decode_jpeg(path.read_bytes(), 3), (224, 224), antialias=True)
            for name, pixels in (("tfpipe", image), ("stock", np.round(stock.numpy()))):
                error = np.mean((pixels.astype(np.float64) - oracle) ** 2)
                found[name].append(10 * np.log10(255**2 / max(error, 1e-9)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def state_bytes(folder: Path) -> dict[str, int]:
    """What it takes to go on in mid-epoch: tfpipe's seed and step, and checkpoints of a stock iterator."""
    import tensorflow as tf

    sizes = {"tfpipe: seed and start_step as JSON": len(json.dumps({"seed": 0, "start_step": 12}))}
    names = sorted(str(path) for path in (folder / "raw").glob("*.tfrecord"))
    for buffer in (1000, 2000, 10_000):
        # Repeated, so that a buffer larger than the set is full, too.
        iterator = iter(tf.data.TFRecordDataset(names).repeat().shuffle(buffer).batch(128))
        next(iterator)
        with tempfile.TemporaryDirectory() as scratch:
            tf.train.Checkpoint(iterator=iterator).write(f"{scratch}/state")
            size = sum(path.stat().st_size for path in Path(scratch).iterdir())
        sizes[f"stock: checkpoint of an iterator, shuffle({buffer})"] = size
    return sizes


# ---- rounds


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2560, help="photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=1, help="timed passes of each process")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "tfpipe_bench_read"))
    parser.add_argument("--only", default=",".join([*QUESTIONS, "serial", "similarity", "state"]), help="questions")
    parser.add_argument("--rows", help="only rows whose name holds one of these")
    parser.add_argument("--prepare_only", action="store_true", help="write the data, time nothing")
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter whose environment has the peers")
    add_json_argument(parser)
    arguments = parser.parse_args()
    folder = arguments.folder / str(arguments.count)
    prepare(folder, arguments)
    if arguments.prepare_only:
        return
    with recorded(arguments.json) as results:
        for question in arguments.only.split(","):
            if question in QUESTIONS:
                print_table(question, run_rounds(question, folder, arguments, results))
        if "serial" in arguments.only.split(","):
            scalings = measure_serial(folder, arguments, results)
            if scalings:
                print_scalings(scalings)
        for question, measure in (("similarity", similarity), ("state", state_bytes)):
            if question in arguments.only.split(","):
                results.add({"question": question, **measure(folder)})


def wanted_rows(rows: dict[str, tuple[str, str]], arguments: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """The rows that --rows names, or all."""
    wanted = arguments.rows.split(",") if arguments.rows else [""]
    return {name: row for name, row in rows.items() if any(word in name for word in wanted)}


def run_rounds(question: str, folder: Path, arguments: argparse.Namespace, results: Results) -> dict[str, list[Pass]]:
    """All passes of each row, in the order of QUESTIONS."""
    rows = wanted_rows(QUESTIONS[question], arguments)
    passes: dict[str, list[Pass]] = {name: [] for name in rows}
    for _, name in turns(rows, arguments.rounds):
        script, task = rows[name]
        found = run_script(script, task, folder, arguments, str(arguments.passes))
        if found is None:
            del rows[name]
            continue
        passes[name] += [Pass(**one) for one in found]
        results.add({"question": question, "name": name, "load": os.getloadavg()[0], "passes": found})
    return {name: some for name, some in passes.items() if some}


def measure_serial(folder: Path, arguments: argparse.Namespace, results: Results) -> list[Scaling]:
    """The rows of SERIAL, each decoded and with decoding free in turns."""
    rows = wanted_rows(SERIAL, arguments)
    kinds = rows | {f"{name}, decoding free": (script, f"{task}_free") for name, (script, task) in rows.items()}
    passes: dict[str, list[ReadPass]] = {name: [] for name in kinds}
    flags = (str(arguments.passes), "--seconds", str(SERIAL_SECONDS))
    for _, name in turns(kinds, arguments.rounds):
        found = run_script(*kinds[name], folder, arguments, *flags)
        if found is None:
            del kinds[name]
            continue
        passes[name] += [as_read_pass(one) for one in found]
        results.add({"question": "serial", "name": name, "load": os.getloadavg()[0], "passes": found})
    cores = len(os.sched_getaffinity(0))
    scalings = [
        summarize_scaling(name, cores=cores, calls=None, read=passes[name], free=passes[f"{name}, decoding free"])
        for name in rows
        if passes[name] and passes[f"{name}, decoding free"]
    ]
    for scaling in scalings:
        results.add({"question": "serial", **scaling.as_document()})
    return scalings


def as_read_pass(found: dict) -> ReadPass:
    """A pass from its JSON."""
    threads = found["threads"]
    return ReadPass(**{**found, "threads": None if threads is None else Threads(*threads)})


def print_table(question: str, passes: dict[str, list[Pass]]) -> None:
    """Prints medians, spreads, and ratios to the first row."""
    if not passes:
        return
    found = {name: rates(some) for name, some in passes.items()}
    base = next(iter(found.values()))
    print(f"\n{question:32}{'per CPU-s':>10}{'spread':>8}{'ratio':>7}{'per second':>12}{'spread':>8}{'ratio':>7}")
    for name, row in sorted(found.items(), key=lambda item: -item[1].per_cpu_second.value):
        cells = ""
        for (value, spread), (first, _), width in (
            (row.per_cpu_second, base.per_cpu_second, 10),
            (row.per_second, base.per_second, 12),
        ):
            cells += f"{value:>{width},.0f}{spread:>8.0%}{value / first:>7.2f}"
        print(f"{name:32}{cells}")
    print(flush=True)


if __name__ == "__main__":
    main()
