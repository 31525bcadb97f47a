"""Writes one HTML file about a dataset: what it holds, what is wrong with it and what to do, with its images."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.cli.arguments import image_size, output_file
from tfpipe.cli.progress import progress
from tfpipe.cli.tables import print_table
from tfpipe.errors import UsageError
from tfpipe.format.lookup import place_of_index, read_record
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.format.sharding import megabytes
from tfpipe.quiet import load_tensorflow
from tfpipe.storage import write_file

if TYPE_CHECKING:
    from tfpipe.report.dataset import Preview

EXAMPLES = """examples:
  tfpipe report photos_tfrecord -o report.html
      reads every record once; the file needs no network and opens from the disk
  tfpipe report photos_tfrecord -o report.html --policy rand_augment --image_size 224
      with the dataset's own images, before and after
  tfpipe report scans_tfrecord -o report.html --group patient
      says which patients are in several splits
  tfpipe bench photos_tfrecord --json > bench.json; tfpipe report photos_tfrecord -o report.html --bench bench.json
"""
_SIDE, _SHOWN, _DRAWS = 128, 4, 6
_GROUP_OPTION = "group_column"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder")
    parser.add_argument(
        "-o", "--output", default="report.html", metavar="FILE", help="the page to write (default: report.html)"
    )
    parser.add_argument("--policy", metavar="NAME|FILE", help="show the dataset's images augmented by this policy")
    parser.add_argument("--image_size", metavar="H,W|N", help="of the augmented images (default: 128)")
    parser.add_argument("--group", metavar="FEATURE", help="what must not be in two splits, such as patient")
    parser.add_argument("--bench", metavar="FILE", help="show the timing that tfpipe bench --json printed")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, metavar="N", help="images at once (default: the cores)")
    parser.add_argument("--seed", type=int, default=0, help="of the augmentation (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Writes the page, and prints a line for each finding."""
    # These name the missing extra before minutes of reading.
    import PIL.Image  # noqa: F401

    from tfpipe.report.dataset import dataset_page, report_document

    manifest = load_manifest(arguments.dataset)
    output = output_file(arguments.output)
    timing = _load_timing(arguments.bench)
    if arguments.threads < 1:
        raise UsageError(f"--threads is {arguments.threads}; it must be at least 1.")
    from tfpipe.maintenance.health.findings import find_problems
    from tfpipe.maintenance.health.survey import survey_dataset

    preview = None if arguments.policy is None else _preview(arguments, manifest)
    with progress("reading", total=manifest.num_records(), quiet=arguments.json) as update:
        survey = survey_dataset(
            manifest,
            group=_group(arguments.group, manifest),
            threads=arguments.threads,
            on_record=lambda: update(advance=1),
        )
    findings = find_problems(survey)
    html = dataset_page(survey, findings, preview=preview, timing=timing)
    write_file(output, html.encode("utf-8", "replace"))
    document = {"dataset": str(arguments.dataset), "output": str(output), **report_document(survey, findings)}
    if arguments.json:
        print(json.dumps(document))
    else:
        counted = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
        print(f"{output}: {len(survey):,} records, {counted}, {megabytes(output.stat().st_size)} MB")
        rows = [[finding.title, finding.severity] for finding in findings]
        if rows:
            print_table(["finding", "severity"], rows)
    return 0


def _group(given: str | None, manifest: Manifest) -> str | None:
    """The feature that groups records: as given, or the one that the conversion grouped by, where it is stored."""
    if given is not None:
        return given
    used = manifest.made_by.get("options", {}).get(_GROUP_OPTION)
    return used if used in manifest.schema else None


def _load_timing(path: str | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--bench {path!r} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"--bench {path!r} is not JSON: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        raise UsageError(f"--bench {path!r} is not what tfpipe bench --json prints: it has no rows.")
    return document


def _preview(arguments: argparse.Namespace, manifest: Manifest) -> Preview:
    """Some of the dataset's images, as they are and augmented, as a contact sheet."""
    if "image" not in manifest.schema:
        raise UsageError(f"--policy augments images; the records hold {manifest.schema.payload}s.")
    size = image_size(arguments.image_size) or (_SIDE, _SIDE)
    load_tensorflow()
    from tfpipe.reader.lookup import record_preparer
    from tfpipe.report.dataset import Preview
    from tfpipe.report.page import image_url
    from tfpipe.report.preview import load_transform, preview_rows
    from tfpipe.report.sheet import draw_sheet, png_bytes

    transform = load_transform(arguments.policy)
    total = manifest.num_records()
    places = [place_of_index(manifest, at * total // _SHOWN) for at in range(_SHOWN)] if total >= _SHOWN else []
    prepare = record_preparer(manifest, size, "pad")
    records = [("as it is", prepare(read_record(manifest, place))) for place in places]
    if not records:
        raise UsageError(f"--policy shows {_SHOWN} images; the dataset has {total} records.")
    rows = preview_rows(records, transform, draws=_DRAWS, seed=arguments.seed)
    text = f"{_SHOWN} images of the dataset, as they are on the left, then {_DRAWS} draws of {arguments.policy}."
    return Preview(text, image_url(png_bytes(draw_sheet(rows, side=_SIDE)), kind="png"))
