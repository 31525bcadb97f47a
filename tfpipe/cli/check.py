"""Compares every shard of a dataset with its manifest: sizes, digests, CRCs, counts, offsets."""

from __future__ import annotations

import argparse
import json
import os

from tfpipe.cli.progress import progress
from tfpipe.format.manifest import load_manifest
from tfpipe.maintenance.check import check_dataset

EXAMPLES = """examples:
  tfpipe check photos_tfrecord
      exit 0 if all shards are undamaged, else 1 with the damaged shards and records named
  tfpipe check photos_tfrecord --quick
      sizes only: milliseconds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument("--quick", action="store_true", help="compare the files' sizes only")
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=cores, metavar="N", help="shards at once (default: the cores)")


def run(arguments: argparse.Namespace) -> int:
    """Prints every problem; returns 1 if there is one."""
    manifest = load_manifest(arguments.dataset)
    num_shards = sum(len(split.shards) for split in manifest.splits.values())
    with progress("checking", total=num_shards, quiet=arguments.json) as update:
        problems = check_dataset(
            manifest, quick=arguments.quick, threads=arguments.threads, on_shard=lambda shard: update(advance=1)
        )
    if arguments.json:
        document = {
            "shards": num_shards,
            "records": manifest.num_records(),
            "problems": [p._asdict() for p in problems],
        }
        print(json.dumps(document))
    else:
        for problem in problems:
            print(problem)
        verdict = f"{len(problems)} problems" if problems else "no problems"
        print(f"{arguments.dataset}: {num_shards} shards, {manifest.num_records():,} records: {verdict}")
    return 1 if problems else 0
