"""The loop that people write today: read, tf.train.Example, tf.io.TFRecordWriter; a new file every 64 MB.

python convert_loop.py FOLDER OUTPUT       prints {"seconds": ..., "images": ...}, TensorFlow's import not counted
"""

import json
import os
import sys
import time

import tensorflow as tf

SHARD_BYTES = 64_000_000


def convert(folder: str, output: str) -> int:
    """Writes every FOLDER/CLASS/file to OUTPUT; returns how many."""
    os.makedirs(output)
    classes = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    writer, shard, size, count = None, 0, 0, 0
    for label, name in enumerate(classes):
        for file in sorted(os.listdir(f"{folder}/{name}")):
            if writer is None or size > SHARD_BYTES:
                if writer is not None:
                    writer.close()
                writer, shard, size = tf.io.TFRecordWriter(f"{output}/{shard:05d}.tfrecord"), shard + 1, 0
            with open(f"{folder}/{name}/{file}", "rb") as handle:
                data = handle.read()
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
                "key": tf.train.Feature(bytes_list=tf.train.BytesList(value=[f"{name}/{file}".encode()])),
                "label": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
                "label_int": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            record = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
            writer.write(record)
            size += len(record)
            count += 1
    if writer is not None:
        writer.close()
    return count


if __name__ == "__main__":
    tf.io.TFRecordWriter(os.devnull).close()  # What TensorFlow loads on first use is not counted either.
    started = time.perf_counter()
    images = convert(*sys.argv[1:])
    print(json.dumps({"seconds": time.perf_counter() - started, "images": images}))
