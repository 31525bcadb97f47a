"""How well does each order mix records that are stored sorted by class? With the cost of reading each.

    python benchmarks/bench_shuffle.py                      # mixing: no data is read
    python benchmarks/bench_shuffle.py --dataset DATASET    # and records per CPU-second of each way to read DATASET

Mixing: classes in a batch, and the entropy of its class counts over that of a uniform draw, for the orders here and
for tf.data's shuffle with a buffer of the same number of records. Costs: serialized records in batches, and in sequence
and by the structure of the book (parse one by one, VarLen) where DATASET holds embeddings.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from rounds import add_json_argument, rates, recorded, turns

from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.order import chunks, records_at
from tfpipe.reader.positions import Order
from tfpipe.timing import Pass, time_pass

BATCH = 128
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--take", type=int, default=300, help="batches of a pass")
    add_json_argument(parser)
    arguments = parser.parse_args()
    with recorded(arguments.json) as results:
        for row in mixing(arguments.records, arguments.classes):
            results.add(row)
        if arguments.dataset:
            for row in costs(load_manifest(arguments.dataset), arguments.repeats, arguments.take):
                results.add(row)


# ---- mixing


def mixing(records: int, classes: int) -> Iterator[Row]:
    for block, window in ((1, 64), (8, 1024), (16, 2048), (64, 8192)):
        order = Order(records, records, BATCH, 0, 1, 0, True, block_records=block, window_records=window)
        start = tf.constant(0, tf.int64)
        parts = chunks(order, start).map(functools.partial(numbers_of, order))
        numbers = np.concatenate(list(parts.as_numpy_iterator()))
        # One window is delivered while the next is read.
        held = 0 if block == 1 else 2 * window
        yield row_of(f"blocks of {block}, window {window}", held, numbers, records, classes)
    for buffer in (2048, 4096, 16384):
        shuffled = tf.data.Dataset.range(records).shuffle(buffer, seed=0)
        numbers = np.concatenate(list(shuffled.batch(BATCH).as_numpy_iterator()))
        yield row_of(f"shuffle({buffer})", buffer, numbers, records, classes)


def numbers_of(order: Order, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    return records_at(order, tf.constant(0, tf.int64), tf.range(begin, end))


def row_of(name: str, held: int, numbers: np.ndarray, records: int, classes: int) -> Row:
    batches = numbers[: len(numbers) // BATCH * BATCH].reshape(-1, BATCH) * classes // records
    uniform = np.random.default_rng(0).integers(0, classes, batches.shape)
    return {
        "order": name,
        "records_held": held,
        "classes_a_batch": round(float(np.mean([len(set(batch)) for batch in batches])), 1),
        "of_uniform": round(float(np.mean([len(set(batch)) for batch in uniform])), 1),
        "entropy_share": round(entropy(batches, classes) / entropy(uniform, classes), 3),
    }


def entropy(batches: np.ndarray, classes: int) -> float:
    """The mean entropy of the classes of a batch, in bits."""
    total = 0.0
    for batch in batches:
        shares = np.bincount(batch, minlength=classes) / len(batch)
        total -= sum(share * math.log2(share) for share in shares if share)
    return total / len(batches)


# ---- costs


def costs(manifest: Manifest, repeats: int, take: int) -> Iterator[Row]:
    image_size = None if manifest.schema.payload == "embedding" else (224, 224)

    def ours(**options: Any) -> tf.data.Dataset:
        return make_dataset(
            manifest, batch_size=BATCH, image_size=image_size, antialias=False, options=ReadOptions(**options)
        )

    variants = {
        "sequence": ours(shuffle="none"),
        "default": ours(),
        "single records": ours(block_records=1),
        "blocks of 8": ours(block_records=8),
        "blocks of 16": ours(block_records=16),
        "blocks of 64": ours(block_records=64),
        "buffer": ours(shuffle="buffer"),
    }
    if manifest.schema.payload == "embedding":
        variants["book"] = book(manifest)
    passes: dict[str, list[Pass]] = {name: [] for name in variants}
    for _, name in turns(variants, repeats + 1):
        passes[name].append(time_pass(variants[name].take(take), lambda batches: sum(BATCH for _ in batches)))
    for name, (_, *timed) in passes.items():
        wall, cpu = (round(found.value) for found in rates(timed))
        yield {"read": name, "records_per_second": wall, "records_per_cpu_second": cpu}


def book(manifest: Manifest) -> tf.data.Dataset:
    """Practical Machine Learning for Computer Vision: each record parsed individually, embeddings as sparse values."""
    files = [str(manifest.shard_path(shard)) for shard in manifest.split("train").shards]
    (size,) = manifest.schema["embedding"].shape
    spec = {"embedding": tf.io.VarLenFeature(tf.float32), "label_int": tf.io.FixedLenFeature([], tf.int64)}

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_single_example(serialized, spec)
        return tf.reshape(tf.sparse.to_dense(features["embedding"]), [size]), features["label_int"]

    records = tf.data.TFRecordDataset(files).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return records.shuffle(2048).batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


if __name__ == "__main__":
    main()
