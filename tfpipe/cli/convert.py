"""Writes images as 10-100 MB TFRecord shards with a manifest: raw bytes, pixels, or a model's vectors."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from beam_jobs.census import manifest_warnings
from beam_jobs.convert import Outcome, convert
from beam_jobs.replaced import Changes, change_lines
from tfpipe.cli.convert_options import EXAMPLES as EXAMPLES
from tfpipe.cli.convert_options import add_arguments as add_arguments
from tfpipe.cli.convert_options import job_from_arguments
from tfpipe.cli.export import parse_kinds, print_written
from tfpipe.cli.failures import INTERRUPTED
from tfpipe.cli.tables import print_notes, print_split_table, print_table
from tfpipe.format.manifest import Manifest
from tfpipe.maintenance.export import export

_NOTED = {
    "transcoded": "Re-encoded as PNG",
    "sixteen_bit": "16-bit gray, of which 8 bits are kept",
    "complaints": "Complaints of libjpeg, harmless",
}


def run(arguments: argparse.Namespace) -> int:
    """Runs the conversion and prints its result."""
    # Every thread has its own image or batch: kernels that also split their work over all cores would only compete.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stop_at_once)
    job = job_from_arguments(arguments, arguments.beam_args)
    kinds = parse_kinds(arguments.also, "--also") if arguments.also else []
    outcome = convert(job, quiet=arguments.json, announce=lambda changes: _print_changes(job.output, changes))
    written = export(outcome.manifest, kinds) if kinds and outcome.manifest else []
    if arguments.json:
        print(json.dumps(_document(outcome) | ({"also": written} if kinds else {})))
        return 0
    if outcome.manifest is None:
        _print_plan(outcome)
    else:
        _print_written(arguments.output, outcome, outcome.manifest)
        print_written(outcome.manifest, written)
    return 0


def _stop_at_once(*_: object) -> None:
    # An exception would first wait until Beam's threads have finished their shards; --resume needs none of that.
    print("\ntfpipe: interrupted; --resume goes on from here.", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def _document(outcome: Outcome) -> dict[str, Any]:
    plan, manifest = outcome.plan, outcome.manifest
    splits = manifest.splits if manifest else {}
    return {
        "dry_run": manifest is None,
        "listed": plan.listed,
        "written": manifest.num_records() if manifest else 0,
        "rejected": dict(outcome.refused),
        "left_out": dict(plan.left_out),
        "shards": sum(len(split.shards) for split in splits.values()) if manifest else len(plan.shards),
        "resumed_shards": outcome.resumed,
        "bytes": sum(split.num_bytes for split in splits.values()) if manifest else plan.num_bytes,
        "records": {name: split.num_records for name, split in splits.items()}
        or {name: plan.num_refs(i) for i, name in enumerate(plan.splits)},
        **{name: dict(notes) for name, _, notes in _notes(manifest) if notes},
        "gain": outcome.gain._asdict() if outcome.gain else None,
        "replaces": outcome.replaces,
        "notes": list(outcome.notes),
        "warnings": manifest_warnings(manifest) if manifest else [],
        "class_names": list(plan.class_names),
        "fingerprint": manifest.fingerprint() if manifest else None,
    }


def _print_changes(output: str, changes: Changes) -> None:
    print(f"tfpipe: {output} holds a dataset that differs from the one to be written:", file=sys.stderr)
    for line in change_lines(changes):
        print(f"tfpipe:   {line}", file=sys.stderr, flush=True)


def _notes(manifest: Manifest | None) -> list[tuple[str, str, Mapping[str, int]]]:
    """The key in made_by and --json, the phrase and the counts of each category of files that need a word."""
    made_by = manifest.made_by if manifest else {}
    return [(name, phrase, made_by.get(name, {})) for name, phrase in _NOTED.items()]


def _print_plan(outcome: Outcome) -> None:
    plan = outcome.plan
    rows = []
    for number, name in enumerate(plan.splits):
        shards = sum(shard.split == number for shard in plan.shards)
        rows.append([name, f"{plan.num_refs(number):,}", f"{shards:,}"])
    print(f"Would write {plan.num_bytes / 1e6:,.1f} MB of {len(plan.class_names)} classes:")
    print_table(["split", "records", "shards"], rows)
    _print_left_out(plan.left_out)
    _print_refused(outcome.refused, None)
    print_notes(outcome.notes)


def _print_written(output: str, outcome: Outcome, manifest: Manifest) -> None:
    counted = f"{manifest.num_records():,} {manifest.schema.payload} records of {len(manifest.class_names)} classes"
    print(f"{output}: {counted}")
    print_split_table(manifest)
    _print_gain(outcome)
    for _, phrase, notes in _notes(manifest):
        if notes:
            print(f"{phrase}: " + ", ".join(f"{count} {kind}" for kind, count in notes.items()))
    if outcome.resumed:
        print(f"{outcome.resumed} of {len(outcome.plan.shards)} shards were there already.")
    _print_left_out(outcome.plan.left_out)
    _print_refused(outcome.refused, output)
    print_notes(outcome.notes)
    for warning in manifest_warnings(manifest):
        print(f"tfpipe: warning: {warning}", file=sys.stderr)


def _print_gain(outcome: Outcome) -> None:
    if outcome.gain is not None:
        size, speed = outcome.gain
        print(f"Re-encoded: {size:.2f} of the files' bytes, decoded {speed:.1f} times as fast (measured on a sample).")


def _print_left_out(left_out: Mapping[str, int]) -> None:
    if left_out:
        print("Left out: " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in left_out.items()))


def _print_refused(refused: Mapping[str, int], output: str | None) -> None:
    if refused:
        text = ", ".join(f"{count} {reason}" for reason, count in refused.items())
        print(f"Rejected {sum(refused.values())}: {text}" + (f"; see {output}/rejected.jsonl" if output else ""))
