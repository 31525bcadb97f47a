"""How fast is `tfpipe check`? It reads every byte, both CRCs of every record, and the digest of every shard.

    python benchmarks/bench_check.py [--megabytes 400] [--repeats 3]

On shards of 64 MB in the page cache, by one thread, for records of several sizes: megabytes for each second of CPU time
and of wall time, medians. Prints one JSON line for each size and a table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rounds import add_json_argument, rates, recorded

from tfpipe.format.framing import frame
from tfpipe.format.manifest import INDEX_NAME, Manifest, Shard, Split, digest_bytes, digest_file
from tfpipe.format.schema import record_schema
from tfpipe.format.wire import bytes_feature, int64_feature, pack_example
from tfpipe.maintenance.check import check_dataset
from tfpipe.timing import time_pass

SHARD_BYTES = 64_000_000
# An embedding, a small picture, a photo, a photo as pixels.
RECORD_BYTES = (2_000, 10_000, 35_000, 150_000)


def write_dataset(folder: Path, num_bytes: int, record_bytes: int) -> Manifest:
    """Writes shards of records whose images are random bytes; returns their manifest."""
    draw = np.random.default_rng(0)
    shards: list[Shard] = []
    offsets: list[int] = []
    for number in range(max(1, num_bytes // SHARD_BYTES)):
        path, position, first = folder / f"train-{number:05d}.tfrecord", 0, len(offsets)
        with open(path, "wb") as file:
            while position < min(SHARD_BYTES, num_bytes):
                image = draw.bytes(record_bytes)
                features = {"image": bytes_feature(image), "label_int": int64_feature([number])}
                offsets.append(position)
                position += file.write(b"".join(frame(pack_example(features))))
        shards.append(Shard(path.name, len(offsets) - first, position, digest_file(path), first))
    index = np.array(offsets, "<u8").tobytes()
    (folder / INDEX_NAME).write_bytes(index)
    splits = {"train": Split(tuple(shards), (len(offsets),))}
    return Manifest(record_schema("raw"), splits, ("all",), digest_bytes(index), directory=folder)


def check(manifest: Manifest) -> int:
    """Checks everything with one thread; the bytes of the shards."""
    problems = check_dataset(manifest)
    if any(problem.file.endswith(".tfrecord") for problem in problems):
        raise SystemExit(f"the shards are damaged: {problems[0]}")
    return manifest.splits["train"].num_bytes


def main() -> None:
    """Prints the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    add_json_argument(parser)
    arguments = parser.parse_args()
    with recorded(arguments.json) as results:
        for record_bytes in RECORD_BYTES:
            with tempfile.TemporaryDirectory() as scratch:
                manifest = write_dataset(Path(scratch), arguments.megabytes * 1_000_000, record_bytes)
                _, *passes = [time_pass(manifest, check) for _ in range(arguments.repeats + 1)]
            wall, cpu = (found.value / 1e6 for found in rates(passes))
            results.add({"record_bytes": record_bytes, "mb_per_cpu_second": cpu, "mb_per_second": wall})
    print(f"{'bytes per record':>16}{'MB per CPU-s':>14}{'MB/s':>8}")
    for row in results.rows:
        print(f"{row['record_bytes']:>16,}{row['mb_per_cpu_second']:>14,.0f}{row['mb_per_second']:>8,.0f}")


if __name__ == "__main__":
    main()
