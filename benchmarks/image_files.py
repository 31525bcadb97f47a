"""Are public image files taken with Pillow's pixels, or refused with a reason? Wrong pixels must be 0.

    python benchmarks/image_files.py FOLDER [FOLDER ...] [--json FILE] [--list]

Every file of the folders, whatever its name, is converted (raw, --verify decode), read as the reader reads it (exact
DCT, turned upright) and compared with Pillow: exif_transpose of the first frame, convert("RGB"); of 16 bits of gray the
high 8. Public collections are Pillow's Tests/images, PngSuite and bmpsuite. The table has a row for each format that
Pillow sees: taken as they are, re-encoded, refused (and of those, refused by Pillow too), wrong. CMYK JPEG files may
differ by one level, which is TensorFlow's rounding; they are counted apart. Exit code 1 where pixels are wrong.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import Manifest
from tfpipe.images.decode import decode_file, turn_upright

COLUMNS = ("as they are", "re-encoded", "refused", "refused by Pillow too", "within a level", "wrong")
MAX_PIXELS = 2**26


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--list", action="store_true", help="name each file that is refused or wrong")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    files = [path.resolve() for folder in arguments.folders for path in sorted(folder.rglob("*")) if path.is_file()]
    table: dict[str, Counter[str]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as scratch:
        records, refused = convert_all(files, Path(scratch))
        for path in files:
            data = path.read_bytes()
            kind, expected = pillow_pixels(data)
            found, note = judge(data, expected, records.get(str(path)), is_cmyk=kind == "JPEG CMYK")
            table[kind].update(found)
            if arguments.list and (note or str(path) in refused):
                print(f"{kind}\t{path}\t{note or refused[str(path)]}")
    print_table(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({kind: dict(row) for kind, row in table.items()}, indent=1))
    return int(any(row["wrong"] for row in table.values()))


def convert_all(files: list[Path], scratch: Path) -> tuple[dict[str, dict], dict[str, str]]:
    """The records, and the refusals as "reason: sentence", by path."""
    with open(scratch / "list.csv", "w", newline="") as listing:
        csv.writer(listing).writerows([("file", "label"), *((path, "all") for path in files)])
    job = Job(
        str(scratch / "list.csv"), str(scratch / "out"), verify="decode", max_rejected="100%", max_pixels=MAX_PIXELS
    )
    manifest = convert(job).manifest
    assert isinstance(manifest, Manifest)
    rows = [json.loads(line) for line in (scratch / "out/rejected.jsonl").read_text().splitlines()]
    spec = {
        "key": tf.io.FixedLenFeature([], tf.string),
        "image": tf.io.FixedLenFeature([], tf.string),
        "orientation": tf.io.FixedLenFeature([], tf.int64, 1),
    }
    paths = [str(manifest.shard_path(shard)) for split in manifest.splits.values() for shard in split.shards]
    records = tf.data.TFRecordDataset(paths).map(lambda record: tf.io.parse_single_example(record, spec))
    return (
        {record["key"].decode(): record for record in records.as_numpy_iterator()},
        {row["key"]: f"{row['reason']}: {row['detail']}" for row in rows},
    )


def pillow_pixels(data: bytes) -> tuple[str, np.ndarray | None]:
    """The format, and the pixels; None where Pillow refuses the file."""
    kind = "none"
    try:
        image = Image.open(io.BytesIO(data))
        kind = image.format or kind
        upright = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
            high = (np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8)
            return kind, np.repeat(high[..., None], 3, 2)
        return f"{kind} {image.mode}" if image.mode == "CMYK" else kind, np.asarray(upright.convert("RGB"))
    except Exception:
        return kind, None


def judge(data: bytes, expected: np.ndarray | None, record: dict | None, *, is_cmyk: bool) -> tuple[list[str], str]:
    """The columns that a file counts in, and what is wrong with it."""
    if record is None:
        return ["refused", *(["refused by Pillow too"] if expected is None else [])], ""
    columns = ["as they are" if record["image"] == data else "re-encoded"]
    try:
        pixels = turn_upright(
            decode_file(record["image"], jpeg_only=False, exact=True), tf.constant(record["orientation"])
        )
    except tf.errors.OpError as error:
        return [*columns, "wrong"], f"can't be read: {error.message[:80]}"
    if expected is None:
        return columns, ""
    if pixels.shape != expected.shape:
        return [*columns, "wrong"], f"{pixels.shape} instead of {expected.shape}"
    difference = int(np.abs(pixels.numpy().astype(int) - expected).max())
    if difference <= 1 and is_cmyk:
        return [*columns, *(["within a level"] if difference else [])], ""
    return [*columns, *(["wrong"] if difference else [])], f"off by up to {difference}" if difference else ""


def print_table(table: dict[str, Counter[str]]) -> None:
    print("| Pillow's format | files | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 2) + "|")
    total: Counter[str] = Counter()
    for kind, row in [*sorted(table.items()), ("all", total)]:
        files = row["as they are"] + row["re-encoded"] + row["refused"]
        print(f"| {kind} | {files} | " + " | ".join(str(row[name]) for name in COLUMNS) + " |")
        total.update(row)


if __name__ == "__main__":
    sys.exit(main())
