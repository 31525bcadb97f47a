"""Adopts third-party TFRecords: reads every record once, infers the schema, and writes the manifest.

Reads files of TensorFlow Datasets, of ImageNet's scripts and of the book, GZIP included. The files are not changed.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tfpipe.cli.inspect import print_features
from tfpipe.cli.progress import step_bar
from tfpipe.cli.tables import print_notes, print_split_table
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import load_schema
from tfpipe.maintenance.adopt import index

EXAMPLES = """examples:
  tfpipe index 'imagenet/train-*'
      writes imagenet/dataset.json and imagenet/records.index beside the files
  tfpipe index tensorflow_datasets/mnist/3.0.1
      the files of the folder that are named as TFRecords are: x.tfrecord, x.tfrec, x.record, train-00000-of-00010
  tfpipe index 'cifar_*.tfrecords' --schema schema.json
      where nothing tells what the features are, such as the size of pixels: {"payload": "decoded", "features": [
      {"name": "image", "dtype": "uint8", "shape": [32, 32, 3], "codec": "pixels", "stored_as": "img_raw"},
      {"name": "label_int", "dtype": "int64", "stored_as": "label"}]}
  tfpipe index '/data/shards/*.gz' --output shards_tfpipe
      links the files into another folder: hard links, or symbolic links across devices
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("pattern", metavar="PATTERN", help="the files: a quoted glob, or their folder")
    parser.add_argument(
        "--output", metavar="DIR", help="the folder for the manifest and links (default: the folder of the files)"
    )
    parser.add_argument(
        "--schema", metavar="FILE", help="a JSON file that says what the features are (default: inferred)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the manifest and prints the inferred schema."""
    schema = load_schema(arguments.schema) if arguments.schema else None
    with step_bar("reading", quiet=arguments.json) as on_file:
        manifest = index(arguments.pattern, schema, arguments.output, on_file=on_file)
    if arguments.json:
        print(json.dumps(_document(manifest)))
        return 0
    classes = f"{len(manifest.class_names)} classes"
    print(f"{manifest.directory}: {manifest.num_records():,} {manifest.schema.payload} records of {classes}")
    print_split_table(manifest)
    print_features(manifest)
    print_notes(notes(manifest))
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
    if manifest.schema.label_kind != "number" and "label_int" not in manifest.schema:
        texts = "; tfpipe convert numbers their texts" if "label" in manifest.schema else ""
        lines.append(f"The records have no label_int: make_dataset(labels=None) gives dicts of their features{texts}.")
    if "float_range" in facts:
        low, high = facts["float_range"]
        lines.append(f"The images are floats from {low:g} to {high:g}, and are read so; those of tfpipe are in [0, 1].")
    if "boxes_not_moved" in facts:
        lines.append(
            f"The boxes are no fractions of the image, and stay as they are stored: {facts['boxes_not_moved']}."
        )
    if "empty_files" in facts:
        names = facts["empty_files"]
        lines.append(f"{len(names):,} files hold no record: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}.")
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
