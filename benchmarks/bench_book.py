"""Do the timing tables of Practical Machine Learning for Computer Vision hold here? Measured beside the published ones.

    python benchmarks/bench_book.py [--tables loop,fit,vectorise] [--repeats 3] [--folder FOLDER]

As in the book: 359 photos of 5 classes as decoded float32 records of their own size in two files, padded to 448x448,
two epochs, the pipeline built anew each time, its graphs as the book has them, in stock tf.data; and last in the first
two tables, make_dataset. Not as in the book: the files are not GZIP and are on a warm local disk; sequential
rows have TensorFlow's own optimizations switched off, or it would parallelise them; rows take turns in random order
and are repeated. Prints JSON lines and the tables: seconds of CPU and wall, and speedups against the first row.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from photos import write_photos
from rounds import add_json_argument, recorded

import tfpipe
from tfpipe.timing import Row, compare, warm_files
from tfpipe.timing.consumers import Fit, ThresholdMean

COUNT, CLASSES, SIZE, EPOCHS = 359, 5, (448, 448), 2
AUTO = tf.data.AUTOTUNE
# Published: row, CPU seconds, wall seconds (TensorFlow 2.3.1, files in a cloud store, GZIP, two GPUs beside it).
PUBLISHED = {
    "loop": {
        "plain": (7.53, 7.99),
        "parallel map": (8.30, 5.94),
        "interleave": (8.60, 5.47),
        "interleave + parallel map": (8.44, 5.23),
    },
    "fit": {
        "plain": (9.91, 9.39),
        "parallel map": (10.7, 8.17),
        "interleave": (10.5, 7.54),
        "interleave + parallel map": (10.3, 7.17),
        "+ prefetch": (11.4, 8.09),
        "+ batch 8": (9.56, 6.90),
        "+ batch 16": (9.90, 6.70),
        "+ batch 32": (9.68, 6.37),
        "batch 32 + cache": (6.16, 4.36),
        "batch 32 + prefetch + cache": (5.76, 4.04),
        "batch 32 + cache + prefetch": (5.65, 4.19),
    },
    "vectorise": {
        "python loop over pixels": (39.6, 41.1),
        "py_function": (39.7, 41.1),
        "slicing + tf.where": (4.44, 3.07),
        "matmul + tf.where": (1.22, 2.29),
        "batched Keras layer": (1.11, 2.13),
    },
}


# ---- the book's pipelines


@dataclasses.dataclass(frozen=True)
class Graph:
    """One row: which steps run in parallel, the batch size (0: none), and what stands around the batching."""

    parallel: bool = False
    interleave: bool = False
    batch: int = 0
    around: str = ""

    def build(self, files: list[str]) -> tf.data.Dataset:
        """The book's graph: files, parse, pad, then what `around` says: p(refetch), c(ache), b(atch)."""
        calls = AUTO if self.parallel else None
        dataset = self._records(files).map(parse, calls).map(pad, calls)
        for step in self.around:
            if step == "p":
                dataset = dataset.prefetch(AUTO)
            elif step == "c":
                dataset = dataset.cache()
            else:
                dataset = dataset.batch(self.batch)
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = self.parallel
        options.autotune.enabled = self.parallel or self.interleave
        return dataset.with_options(options)

    def _records(self, files: list[str]) -> tf.data.Dataset:
        if not self.interleave:
            return tf.data.TFRecordDataset(files)
        halves = tf.constant(files[: len(files) // 2 * 2], shape=[2, len(files) // 2])
        return tf.data.Dataset.range(2).interleave(
            lambda i: tf.data.TFRecordDataset(halves[i]), num_parallel_calls=AUTO
        )


def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """An image of any size: float32 [H, W, 3], and its class; through sparse tensors, as the book does."""
    features = tf.io.parse_single_example(
        record,
        {
            "image": tf.io.VarLenFeature(tf.float32),
            "shape": tf.io.VarLenFeature(tf.int64),
            "label_int": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        },
    )
    shape = tf.sparse.to_dense(features["shape"])
    image = tf.reshape(tf.sparse.to_dense(features["image"]), shape)
    return tf.reshape(image, [shape[0], shape[1], 3]), features["label_int"]


def pad(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The image in 448x448."""
    return tf.image.resize_with_pad(image, *SIZE), tf.one_hot(label, CLASSES)


BOTH = Graph(parallel=True, interleave=True)
LOOP = {
    "plain": Graph(),
    "parallel map": Graph(parallel=True),
    "interleave": Graph(interleave=True),
    "interleave + parallel map": BOTH,
}
FIT = {name: dataclasses.replace(graph, batch=1, around="b") for name, graph in LOOP.items()} | {
    "+ prefetch": dataclasses.replace(BOTH, batch=1, around="pb"),
    "+ batch 8": dataclasses.replace(BOTH, batch=8, around="pb"),
    "+ batch 16": dataclasses.replace(BOTH, batch=16, around="pb"),
    "+ batch 32": dataclasses.replace(BOTH, batch=32, around="pb"),
    "batch 32 + cache": dataclasses.replace(BOTH, batch=32, around="cb"),
    "batch 32 + prefetch + cache": dataclasses.replace(BOTH, batch=32, around="pcb"),
    "batch 32 + cache + prefetch": dataclasses.replace(BOTH, batch=32, around="cpb"),
}
Run = Callable[[], int]


def loop_rows(folder: Path) -> dict[str, Run]:
    """Table 1: the mean of what lies above a random threshold, image by image."""

    def run(graph: Graph) -> int:
        dataset, count = graph.build(shards(folder)), 0
        for _ in range(EPOCHS):
            threshold, total = np.random.default_rng().uniform(0.3, 0.7), 0.0
            for image, _ in dataset:
                total += float(tf.reduce_mean(tf.where(image > threshold, image, tf.zeros_like(image))))
                count += 1
            if not np.isfinite(total):
                raise ValueError(f"The mean is {total}.")
        return count

    def ours() -> int:
        batches = tfpipe.make_dataset(folder, batch_size=32, image_size=SIZE, antialias=False, training=False)
        consume = ThresholdMean()
        return sum(consume(batches) for _ in range(EPOCHS))

    return {**{name: partial(run, graph) for name, graph in LOOP.items()}, "tfpipe, batch 32": ours}


def fit_rows(folder: Path) -> dict[str, Run]:
    """Table 2: a linear softmax model, two epochs of fit."""
    models: dict[Any, Fit] = {}

    def train(dataset: tf.data.Dataset) -> int:
        # One model for all, compiled once for each shape of batch.
        if not models:
            models["linear"] = Fit(dataset, "class")
        models["linear"].model.fit(dataset, epochs=EPOCHS, shuffle=False, verbose=0)
        return COUNT * EPOCHS

    def ours(options: tfpipe.ReadOptions) -> int:
        return train(
            tfpipe.make_dataset(
                folder, batch_size=32, image_size=SIZE, antialias=False, training=False, options=options
            )
        )

    rows: dict[str, Run] = {
        name: partial(lambda g: train(g.build(shards(folder))), graph) for name, graph in FIT.items()
    }
    rows["tfpipe, batch 32"] = partial(ours, tfpipe.ReadOptions())
    rows["tfpipe, batch 32, cache"] = partial(ours, tfpipe.ReadOptions(cache="memory"))
    return rows


# ---- table 3: gray with the sRGB gamma, five ways


WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)


def gray_loop(pixels: np.ndarray) -> np.ndarray:
    """Pixel by pixel, in Python."""
    result = np.zeros(pixels.shape[:2], np.float32)
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            red, green, blue = pixels[row, column]
            linear = 0.2126 * red + 0.7152 * green + 0.0722 * blue
            result[row, column] = 1.055 * linear ** (1 / 2.4) - 0.055 if linear > 0.0031308 else 12.92 * linear
    return result


def gamma(linear: tf.Tensor) -> tf.Tensor:
    return tf.where(linear > 0.0031308, 1.055 * tf.pow(linear, 1 / 2.4) - 0.055, 12.92 * linear)


def gray_slices(image: tf.Tensor) -> tf.Tensor:
    return gamma(0.2126 * image[..., 0] + 0.7152 * image[..., 1] + 0.0722 * image[..., 2])


def gray_matmul(images: tf.Tensor) -> tf.Tensor:
    return gamma(tf.linalg.matvec(images, WEIGHTS))


def vectorise_rows(folder: Path) -> dict[str, Run]:
    """Two images of 338x600, ten times; each row's mean over all must agree."""
    import keras
    from photos import photograph

    images = [np.asarray(photograph(name).resize((600, 338)), np.float32) / 255 for name in ("coffee", "rocket")]
    source = tf.data.Dataset.from_tensor_slices(np.stack(images)).repeat(10)
    means: list[float] = []

    def run(dataset: tf.data.Dataset) -> int:
        values = [gray.numpy() for gray in dataset]
        means.append(float(np.mean([value.mean() for value in values])))
        if abs(means[-1] - means[0]) > 1e-5:
            raise ValueError(f"The rows disagree: {means[-1]} and {means[0]}.")
        return sum(value.size for value in values) // (338 * 600)

    def python_loop() -> int:
        grays = [gray_loop(image.numpy()) for image in source]
        means.append(float(np.mean([gray.mean() for gray in grays])))
        return len(grays)

    class Gray(keras.layers.Layer):
        """The matmul form as a layer."""

        def call(self, batch: tf.Tensor) -> tf.Tensor:
            return gray_matmul(batch)

    def by_py_function(image: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda pixels: gray_loop(pixels.numpy()), [image], tf.float32)

    layer = Gray()
    return {
        "python loop over pixels": python_loop,
        "py_function": lambda: run(source.map(by_py_function)),
        "slicing + tf.where": lambda: run(source.map(gray_slices)),
        "matmul + tf.where": lambda: run(source.map(gray_matmul)),
        "batched Keras layer": lambda: run(source.batch(5).map(layer)),
    }


# ---- running


ROWS = {"loop": loop_rows, "fit": fit_rows, "vectorise": vectorise_rows}


def shards(folder: Path) -> list[str]:
    """The two files."""
    return sorted(str(path) for path in folder.glob("*.tfrecord"))


def write_records(folder: Path) -> Path:
    """359 photos as decoded float32 of their own size, in two shards."""
    write_photos(folder / "photos", COUNT)
    paths = sorted((folder / "photos").glob("*/*.jpg"), key=lambda path: path.name)
    with open(folder / "photos.csv", "w", newline="") as file:
        csv.writer(file).writerows([path, f"class_{number % CLASSES}"] for number, path in enumerate(paths))
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(folder / "photos.csv")]
    command += ["--output", str(folder / "records"), "--payload", "decoded", "--dtype", "float32"]
    subprocess.run([*command, "--target_bytes", "300MB", "--split", "train=1", "--resume"], check=True, stdout=2)
    return folder / "records"


def print_table(table: str, rows: list[Row]) -> None:
    """Prints measured and published seconds side by side."""
    published = PUBLISHED[table]
    base = next(iter(published.values()))[1]
    print(
        f"\n{table:32}{'CPU s':>8}{'wall s':>8}{'spread':>8}{'speedup':>9}   {'book: CPU':>10}{'wall':>7}{'speedup':>9}"
    )
    for row in rows:
        cpu, wall = published.get(row.variant, (0.0, 0.0))
        theirs = f"   {cpu:>10.2f}{wall:>7.2f}{base / wall:>9.2f}" if wall else ""
        print(
            f"{row.variant:32}{row.cpu_seconds:>8.2f}{row.wall_seconds:>8.2f}{row.spread:>8.0%}{row.speedup:>9.2f}{theirs}"
        )
    print(flush=True)


def main() -> None:
    """Runs the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "tfpipe_bench_book"))
    parser.add_argument("--prepare_only", action="store_true", help="write the data, time nothing")
    add_json_argument(parser)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    records = write_records(arguments.folder)
    if arguments.prepare_only:
        return
    warm_files(shards(records))
    with recorded(arguments.json) as results:
        for table in arguments.tables.split(","):
            rows = time_table(table, records, arguments.repeats)
            for row in rows:
                results.add({"table": table, **dataclasses.asdict(row)})
            print_table(table, rows)


def time_table(table: str, records: Path, repeats: int) -> list[Row]:
    """Times the rows of a table; every pass is a line on stderr."""
    return compare(
        {name: partial(lambda run: run, run) for name, run in ROWS[table](records).items()},
        consume=lambda run: run(),
        repeats=repeats,
        on_pass=lambda name, one: print(json.dumps({"name": name, **one._asdict()}), file=sys.stderr, flush=True),
    )


if __name__ == "__main__":
    main()
