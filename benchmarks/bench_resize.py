"""What does antialiasing cost, and how near is it to Pillow? make_dataset against stock TensorFlow, reading included.

python benchmarks/bench_resize.py --count 1500 --size 224            # photos of 1 to 2.2 times the target
python benchmarks/bench_resize.py --count 1500 --size 112            # of 2 to 4.5 times
python benchmarks/bench_resize.py --count 40 --large                 # photographs of 4,000 x 3,000
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from photos import write_photos
from PIL import Image
from rounds import Results, add_json_argument, recorded

import tfpipe
from tfpipe import timing
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.images.decode import resize_image

BATCH, LARGE_BATCH = 128, 8
WAYS = [(1, "exact"), (1, "fast"), (0, "exact"), (0, "fast")]  # The first is the default, the last the quickest.
STOCK = {"image": tf.io.FixedLenFeature([], tf.string), "label_int": tf.io.FixedLenFeature([], tf.int64)}


def stock(manifest: Manifest, size: int, batch: int, resize: Callable[[tf.Tensor], tf.Tensor]) -> tf.data.Dataset:
    """The pipeline of the TensorFlow guides: records parsed, decoded and resized in one parallel map."""
    paths = [str(manifest.shard_path(shard)) for shard in manifest.split("train").shards]

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_single_example(record, STOCK)
        pixels = resize(tf.io.decode_jpeg(features["image"], channels=3))
        levels = tf.cast(tf.clip_by_value(pixels + 0.5, 0, 255), tf.uint8)
        return tf.ensure_shape(levels, [size, size, 3]), tf.one_hot(features["label_int"], 20)

    records = tf.data.TFRecordDataset(paths, num_parallel_reads=4).shuffle(512)
    return records.map(parse, tf.data.AUTOTUNE).batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def variants(manifest: Manifest, size: int, resize: str, batch: int) -> dict[str, Callable[[], tf.data.Dataset]]:
    def ours(antialias: bool, dct: str) -> Callable[[], tf.data.Dataset]:
        return lambda: tfpipe.make_dataset(
            manifest,
            batch_size=batch,
            image_size=size,
            resize=resize,
            antialias=antialias,
            options=tfpipe.ReadOptions(dct=dct),
        )

    def stock_with(antialias: bool) -> Callable[[], tf.data.Dataset]:
        if resize == "pad":
            return lambda: stock(
                manifest,
                size,
                batch,
                lambda x: tf.image.resize_with_pad(tf.cast(x, tf.float32), size, size, antialias=antialias),
            )
        return lambda: stock(manifest, size, batch, lambda x: tf.image.resize(x, [size, size], antialias=antialias))

    return {
        f"stock {resize} antialias": stock_with(True),
        f"stock {resize}": stock_with(False),
        **{f"tfpipe {resize}{' antialias' * a} {dct}": ours(bool(a), dct) for a, dct in WAYS},
    }


def consume(dataset: tf.data.Dataset) -> int:
    return sum(int(images.shape[0]) for images, _ in dataset)


def quality(files: list[Path], size: int) -> dict[str, dict[str, float]]:
    """PSNR to Pillow's antialiased bilinear reduction of the fully decoded image: mean over images, worst, of all."""
    from tfpipe.images.fit import Resize

    fits = {f"tfpipe stretch{' antialias' * a} {dct}": Resize((size, size), "stretch", bool(a), dct) for a, dct in WAYS}
    ways = {name: lambda data, fit=fit: fit.decode(data, jpeg_only=True) for name, fit in fits.items()}
    for a in (0, 1):
        ways[f"stock stretch{' antialias' * a}"] = lambda data, a=a: resize_image(
            tf.io.decode_jpeg(data, channels=3), (size, size), resize="stretch", antialias=bool(a)
        )
    errors: dict[str, list[float]] = {name: [] for name in ways}
    for file in files:
        data = file.read_bytes()
        pillow = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        for name, way in ways.items():
            errors[name].append(float(np.square(way(tf.constant(data)).numpy() - np.asarray(pillow, float)).mean()))
    return {name: _decibels(np.array(values)) for name, values in errors.items()}


def _decibels(squares: np.ndarray) -> dict[str, float]:
    each = 10 * np.log10(255**2 / np.maximum(squares, 1e-9))
    together = 10 * np.log10(255**2 / max(squares.mean(), 1e-9))
    return {
        "mean_db": round(float(each.mean()), 2),
        "worst_db": round(float(each.min()), 2),
        "pooled_db": round(together, 2),
    }


def main() -> None:
    """Prints a row for each way to resize: rate and PSNR."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photos; made, where it is not given")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--large", action="store_true", help="photographs of 4,000 x 3,000, in batches of 8")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--resize", choices=("stretch", "pad"), default="stretch")
    parser.add_argument("--repeats", type=int, default=3)
    add_json_argument(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = arguments.photos or Path(folder, "photos")
        if arguments.photos is None:
            write_photos(photos, arguments.count, large=arguments.large)
        with recorded(arguments.json) as results:
            measure(photos, Path(folder), arguments, results)


def measure(photos: Path, folder: Path, arguments: argparse.Namespace, results: Results) -> None:
    """Converts, times and compares."""
    from beam_jobs.convert import convert
    from beam_jobs.job import Job

    files = sorted(photos.glob("*/*.jpg"))
    files = files[:: max(1, len(files) // arguments.count)][: arguments.count]
    listing = folder / "photos.csv"
    listing.write_text("".join(f"{file},{file.parent.name}\n" for file in files))
    job = Job(input=str(listing), output=str(folder / "records"), split={"train": 1.0})
    convert(job)
    manifest = load_manifest(folder / "records")
    decibels = quality(files[:: max(1, len(files) // 100)], arguments.size) if arguments.resize == "stretch" else {}
    batch = LARGE_BATCH if arguments.large else BATCH
    ways = variants(manifest, arguments.size, arguments.resize, batch)
    for row in timing.compare(ways, consume=consume, repeats=arguments.repeats):
        cells = {
            "variant": row.variant,
            "cpu_ms_per_image": round(1000 / row.images_per_cpu_second, 2),
            "images_per_cpu_second": round(row.images_per_cpu_second, 1),
            "images_per_second": round(row.images_per_second, 1),
            "first_epoch_seconds": round(row.first_epoch_seconds, 2),
        }
        results.add({**cells, **decibels.get(row.variant, {})})


if __name__ == "__main__":
    main()
