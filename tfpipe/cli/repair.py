"""Saves the undamaged records of a dataset into a new one, and lists the records that are lost.

The input is never changed. Undamaged shards are linked or copied; of damaged shards every undamaged record is kept.
"""

from __future__ import annotations

import argparse
import json

from tfpipe.cli.progress import step_bar
from tfpipe.cli.tables import print_table
from tfpipe.maintenance.repair import LostRecord, Repair, repair

EXAMPLES = """examples:
  tfpipe repair photos_tfrecord --output photos_repaired
      exit 0 if every record was saved, else 1 with the lost ones named
  tfpipe repair 'old/train-*' --output old_repaired
      TFRecord files without a manifest: they are also adopted, see tfpipe index
"""

_MOST_LOST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder, or a quoted glob of TFRecord files")
    parser.add_argument("--output", metavar="NEW", required=True, help="an empty folder for the new dataset")


def run(arguments: argparse.Namespace) -> int:
    """Prints the numbers of saved and lost records; returns 1 if a record is lost."""
    with step_bar("examining shards", quiet=arguments.json) as on_shard:
        repaired = repair(arguments.dataset, arguments.output, on_shard=on_shard)
    if arguments.json:
        print(json.dumps(_document(repaired)))
    else:
        _print_repair(arguments.output, repaired)
    return 1 if repaired.num_lost else 0


def _document(repaired: Repair) -> dict[str, object]:
    rows = [
        {**vars(shard), "lost": [{"record": lost.record, "key": lost.key} for lost in shard.lost]}
        for shard in repaired.shards
    ]
    manifest = repaired.manifest
    return {
        "records": manifest.num_records(),
        "lost": repaired.num_lost,
        "shards": rows,
        "fingerprint": manifest.fingerprint(),
    }


def _print_repair(output: str, repaired: Repair) -> None:
    verdict = f"{repaired.num_lost:,} lost" if repaired.num_lost else "none lost"
    print(f"{output}: {repaired.manifest.num_records():,} records saved, {verdict}")
    if not repaired.shards:
        print("No shard was damaged.")
        return
    rows = [
        [shard.path, f"{shard.num_saved:,}", f"{len(shard.lost):,}", f"{shard.skipped_bytes:,}"]
        for shard in repaired.shards
    ]
    print_table(["damaged shard", "saved", "lost", "bytes skipped"], rows)
    for shard in repaired.shards:
        print(f"  {shard.problem}")
    for shard in repaired.shards:
        for lost in shard.lost[:_MOST_LOST]:
            print(f"Lost: {shard.path}: {_lost_text(lost)}")
        if len(shard.lost) > _MOST_LOST:
            print(f"  and {len(shard.lost) - _MOST_LOST:,} more of {shard.path}; --json lists all")


def _lost_text(lost: LostRecord) -> str:
    number = "a record" if lost.record is None else f"record {lost.record}"
    return f"{number}, {'its key unknown' if lost.key is None else lost.key}"
