"""Shows the contents of a dataset: splits, shards, classes, features, and how it was written."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from tfpipe.cli.progress import progress, start_tensorflow
from tfpipe.cli.tables import print_split_table, print_table
from tfpipe.format.manifest import Manifest, load_manifest, save_manifest

EXAMPLES = """examples:
  tfpipe inspect photos_tfrecord
  tfpipe inspect photos_tfrecord --statistics
      decodes every image of a raw dataset, and writes mean and std into the manifest
"""

_MOST_CLASSES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument(
        "--statistics", action="store_true", help="decode all images for mean and std, if they are not known"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the contents of the manifest."""
    manifest = load_manifest(arguments.dataset)
    if arguments.statistics and manifest.mean is None:
        manifest = _with_statistics(manifest, quiet=arguments.json)
    if arguments.json:
        print(json.dumps({**manifest.to_json(), "fingerprint": manifest.fingerprint()}))
        return 0
    print(f"{arguments.dataset}: {manifest.num_records():,} {manifest.schema.payload} records")
    print_split_table(manifest)
    print_features(manifest)
    _print_classes(manifest)
    _print_facts(manifest)
    return 0


def print_features(manifest: Manifest) -> None:
    """Prints a line for each feature of the schema."""
    print("Features:")
    header, rows = ["name", "dtype", "shape", "codec"], []
    for f in manifest.schema.features:
        rows.append([f.name, f.dtype, str(list(f.shape)).replace("None", "any"), f.codec])
    if any(f.stored_as for f in manifest.schema.features):
        header.append("stored as")
        rows = [[*row, f.stored_name] for row, f in zip(rows, manifest.schema.features, strict=True)]
    print_table(header, rows)


def _print_classes(manifest: Manifest) -> None:
    print(f"Classes: {len(manifest.class_names)}")
    counts = [split.class_counts for split in manifest.splits.values()]
    rows = [
        [f"{number} {name}", *(f"{count[number]:,}" for count in counts)]
        for number, name in enumerate(manifest.class_names[:_MOST_CLASSES])
    ]
    print_table(["class", *manifest.splits], rows)
    if len(manifest.class_names) > _MOST_CLASSES:
        print(f"  and {len(manifest.class_names) - _MOST_CLASSES} more; --json lists all")


def _print_facts(manifest: Manifest) -> None:
    compressed = [name for name, split in manifest.splits.items() if not split.is_seekable]
    if compressed:
        print(f"Compressed: {', '.join(compressed)}; without offsets, training shuffles shards and a buffer of records")
    for name, values in (("Mean", manifest.mean), ("Std", manifest.std)):
        known = (
            "not known; --statistics decodes the images for it" if manifest.schema.payload == "raw" else "of no pixels"
        )
        print(f"{name}: {', '.join(f'{value:.4f}' for value in values) if values else known}")
    if manifest.rejected:
        print(f"Rejected: {', '.join(f'{count} {reason}' for reason, count in manifest.rejected.items())}")
    print(f"Made by: {json.dumps(manifest.made_by)}")


def _with_statistics(manifest: Manifest, *, quiet: bool) -> Manifest:
    if manifest.schema.payload != "raw":
        print(f"tfpipe: warning: no statistics of {manifest.schema.payload} records.", file=sys.stderr)
        return manifest
    start_tensorflow(quiet=quiet)
    from tfpipe.maintenance.statistics import dataset_moments

    with progress("decoding", total=manifest.num_records(), quiet=quiet) as update:
        moments = dataset_moments(manifest, on_image=lambda: update(advance=1))
    manifest = dataclasses.replace(manifest, mean=moments.mean, std=moments.std)
    save_manifest(manifest, manifest.directory)
    return manifest
