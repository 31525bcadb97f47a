"""The cost of a report beyond decoding: CPU seconds, and the peak of memory.

    python benchmarks/bench_report.py [--count 100000] [--dataset FOLDER]

On JPEG files of 320 x 240 pixels: parts of photographs, two of them blended in each so that no two images are nearly
the same. `decode` reads the records and decodes each image as the report does, and nothing else; `report` is the
command `tfpipe report`. Each runs in a process of its own: CPU and wall seconds, and the peak of its memory. --dataset
names one of your own, or one to write and keep there. Prints a JSON line for each, and their difference.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from photos import NAMES, photograph
from PIL import Image
from rounds import add_json_argument, recorded

from tfpipe.format.example import record_encoder
from tfpipe.format.framing import frame
from tfpipe.format.lookup import list_shards, scan_records
from tfpipe.format.manifest import (
    INDEX_NAME,
    MANIFEST_NAME,
    Manifest,
    Shard,
    Split,
    digest_bytes,
    digest_file,
    load_manifest,
    save_manifest,
)
from tfpipe.format.schema import record_schema
from tfpipe.format.wire import parse_example
from tfpipe.maintenance.health.measures import WORKING_SIDE
from tfpipe.maintenance.health.stored import open_stored

SIZE, CLASSES, PER_SHARD, QUALITY = (320, 240), 20, 4000, 85
SPLITS = ("train", "validation")


def images(count: int) -> Iterator[bytes]:
    """JPEG files, the same for a number always."""
    draw = np.random.default_rng(0)
    sources = [
        source.resize((int(source.width * scale), int(source.height * scale)))
        for source in map(photograph, NAMES)
        for scale in (SIZE[0] / source.width * 1.3, SIZE[0] / source.width * 2.1)
    ]
    ramp = Image.linear_gradient("L")
    masks = [ramp.rotate(turn).resize(SIZE) for turn in (0, 90, 180, 270)] + [Image.new("L", SIZE, 128)]

    def part() -> Image.Image:
        source = sources[int(draw.integers(len(sources)))]
        room = np.array(source.size) - SIZE
        left, top = (int(draw.integers(max(1, side))) for side in room)
        cut = source.crop((left, top, left + SIZE[0], top + SIZE[1]))
        return cut.transpose(Image.Transpose(int(draw.integers(2)))) if draw.random() < 0.7 else cut

    for _ in range(count):
        file = io.BytesIO()
        Image.composite(part(), part(), masks[int(draw.integers(len(masks)))]).save(file, "JPEG", quality=QUALITY)
        yield file.getvalue()


def write_dataset(folder: Path, count: int) -> None:
    """Writes shards of `count` records in two splits, their index and manifest."""
    schema, files = record_schema("raw"), images(count)
    encode = record_encoder(schema)
    offsets: list[int] = []
    splits: dict[str, Split] = {}
    for split, total in zip(SPLITS, (count - count // 10, count // 10), strict=True):
        shards: list[Shard] = []
        for begin in range(0, total, PER_SHARD):
            path, position, first = folder / f"{split}-{len(shards):05d}.tfrecord", 0, len(offsets)
            with path.open("wb") as file:
                for number in range(begin, min(begin + PER_SHARD, total)):
                    name = f"class_{number % CLASSES:02d}"
                    record = {"label": name, "label_int": number % CLASSES, "shape": (*SIZE[::-1], 3)}
                    record |= {"key": f"{name}/{split}_{number:06d}.jpg", "image": next(files)}
                    offsets.append(position)
                    position += file.write(b"".join(frame(encode(record))))
            shards.append(Shard(path.name, len(offsets) - first, position, digest_file(path), first))
        counts = np.bincount(np.arange(total) % CLASSES, minlength=CLASSES)
        splits[split] = Split(tuple(shards), tuple(counts.tolist()))
    index = np.array(offsets, "<u8").tobytes()
    (folder / INDEX_NAME).write_bytes(index)
    names = tuple(f"class_{number:02d}" for number in range(CLASSES))
    save_manifest(Manifest(schema, splits, names, digest_bytes(index)), folder, fsync=False)


def decode_all(folder: Path) -> None:
    """Reads all records and decodes their images, as the report does."""
    manifest = load_manifest(folder)
    for *_, shard in list_shards(manifest):
        for data in scan_records(manifest, shard):
            open_stored(manifest.schema, parse_example(data), least_side=WORKING_SIDE)


def measure(command: list[str]) -> dict[str, float]:
    """Runs a command: its CPU and wall seconds, and its peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    cpu, wall = usage.ru_utime + usage.ru_stime, time.perf_counter() - started
    return {"cpu_seconds": round(cpu, 1), "wall_seconds": round(wall, 1), "peak_mb": round(usage.ru_maxrss / 1e3)}


def main() -> None:
    """Measures both, or is one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="images to write, where there is no dataset")
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="read this one; written where it is missing")
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    add_json_argument(parser)
    arguments = parser.parse_args()
    if arguments.decode:
        decode_all(arguments.dataset)
        return
    with tempfile.TemporaryDirectory() as scratch, recorded(arguments.json) as results:
        folder = arguments.dataset or Path(scratch) / "dataset"
        if not (folder / MANIFEST_NAME).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_dataset(folder, arguments.count)
        count = load_manifest(folder).num_records()
        page = Path(scratch) / "report.html"
        commands = {
            "decode": [sys.executable, __file__, "--decode", "--dataset", str(folder)],
            "report": [sys.executable, "-m", "tfpipe", "report", str(folder), "-o", str(page)],
        }
        for name, command in commands.items():
            results.add({"row": name, "records": count, **measure(command)})
        decode, report = (row["cpu_seconds"] for row in results.rows)
        print(f"beyond decoding: {report - decode:,.0f} CPU seconds for {count:,} records")
        print(f"the page: {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
