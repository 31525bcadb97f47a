"""Writes what other libraries need to read a dataset, beside its dataset.json: TFDS, Croissant, DALI."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from tfpipe.cli.progress import step_bar
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.maintenance.export import DALI_FOLDER, KINDS, export

EXAMPLES = f"""examples:
  tfpipe export photos_tfrecord
      all of them: features.json and dataset_info.json, croissant.json, {DALI_FOLDER}/
  tfpipe export photos_tfrecord --to tfds
      then: tfds.builder_from_directory("photos_tfrecord").as_dataset(split="train")
  tfpipe export photos_tfrecord --to dali
      then: fn.readers.tfrecord(path=[...], index_path=["photos_tfrecord/{DALI_FOLDER}/SHARD.idx", ...], ...)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument(
        "--to", default=",".join(KINDS), metavar="KIND,...", help=f"some of {', '.join(KINDS)} (default: all)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the files, and prints their names."""
    manifest = load_manifest(arguments.dataset)
    with step_bar("digesting shards", quiet=arguments.json) as on_shard:
        written = export(manifest, parse_kinds(arguments.to, "--to"), on_shard=on_shard)
    if arguments.json:
        print(json.dumps({"dataset": str(arguments.dataset), "written": written}))
    else:
        print_written(manifest, written)
    return 0


def parse_kinds(text: str, option: str) -> list[str]:
    """The kinds that a text such as "tfds,dali" names.

    Raises:
      UsageError: one of them is unknown.
    """
    kinds = [kind.strip() for kind in text.split(",")]
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise UsageError(f"{option} is {text!r}; it takes some of {list(KINDS)}, with commas between them.")
    return kinds


def print_written(manifest: Manifest, written: Sequence[str]) -> None:
    """Prints a line for each file, and one for all files of DALI."""
    plain = [name for name in written if not name.startswith(DALI_FOLDER)]
    for name in plain:
        print(manifest.directory / name)
    if len(plain) < len(written):
        print(f"{manifest.directory / DALI_FOLDER}: {len(written) - len(plain)} index files")
