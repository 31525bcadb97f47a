"""Adopts third-party TFRecords: reads every record once, infers the schema, and writes the manifest.

Reads files of TensorFlow Datasets, of ImageNet's scripts and of the book, GZIP included. The files are not changed.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tfpipe.cli.inspect import print_features
from tfpipe.cli.tables import print_split_table
from tfpipe.format.manifest import Manifest
from tfpipe.maintenance.adopt import index

EXAMPLES = """examples:
  tfpipe index 'imagenet/train-*'
      writes imagenet/dataset.json and imagenet/records.index beside the files
  tfpipe index tensorflow_datasets/mnist/3.0.1
      the files of the folder that have "tfrecord" in their name
  tfpipe index '/data/shards/*.gz' --output shards_tfpipe
      links the files into another folder: hard links, or symbolic links across devices
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("pattern", metavar="PATTERN", help="the files: a quoted glob, or their folder")
    parser.add_argument(
        "--output", metavar="DIR", help="the folder for the manifest and links (default: the folder of the files)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the manifest and prints the inferred schema."""
    manifest = index(arguments.pattern, output=arguments.output)
    if arguments.json:
        print(json.dumps(_document(manifest)))
        return 0
    classes = f"{len(manifest.class_names)} classes"
    print(f"{manifest.directory}: {manifest.num_records():,} {manifest.schema.payload} records of {classes}")
    print_split_table(manifest)
    print_features(manifest)
    for line in notes(manifest):
        print(f"Note: {line}")
    return 0


def notes(manifest: Manifest) -> list[str]:
    """The peculiarities of adopted records that a user should know, a sentence each."""
    facts = manifest.made_by["adopted"]
    totals = [sum(counts) for counts in zip(*(split.class_counts for split in manifest.splits.values()), strict=True)]
    empty = [name for name, total in zip(manifest.class_names, totals, strict=True) if not total]
    sentences = {
        "unreadable_images": "images cannot be decoded, and reading fails at them; the first: "
        f"{facts.get('first_unreadable')}",
        "turns_not_applied": "images have an EXIF orientation, which is not applied: the records do not store it.",
        "unlabelled": "records have a label below 0: they belong to no class, and their one-hot label is all zeros.",
    }
    lines = [f"{facts[name]:,} {sentence}" for name, sentence in sentences.items() if name in facts]
    if "features_left_out" in facts:
        lines.append(f"The reader does not support these features: {', '.join(facts['features_left_out'])}.")
    if empty:
        shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        lines.append(f"{len(empty):,} class ids have no record ({shown}); ids are taken as they are stored.")
    if any(not split.is_seekable for split in manifest.splits.values()):
        lines.append("Compressed shards have no offsets: training shuffles whole shards and a buffer of records.")
    return lines


def _document(manifest: Manifest) -> dict[str, Any]:
    return {
        "directory": str(manifest.directory),
        "records": {name: split.num_records for name, split in manifest.splits.items()},
        "shards": sum(len(split.shards) for split in manifest.splits.values()),
        "bytes": sum(split.num_bytes for split in manifest.splits.values()),
        "class_names": list(manifest.class_names),
        "schema": manifest.schema.to_json(),
        "notes": notes(manifest),
        "fingerprint": manifest.fingerprint(),
    }
