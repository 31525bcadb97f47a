"""Writes one HTML file about a dataset: what it holds, what is wrong with it and what to do, with its images."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpipe.cli.arguments import image_size, output_file
from tfpipe.cli.progress import progress, start_tensorflow, status, step_bar
from tfpipe.cli.tables import print_table
from tfpipe.errors import UsageError, require_extra
from tfpipe.format.lookup import place_of_index, read_record
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.format.sharding import megabytes
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
  tfpipe bench photos_tfrecord --fit --json > fit.json
  tfpipe report photos_tfrecord -o report.html --bench bench.json --bench fit.json --search found
      timing, what the GPU did, and what tfpipe search --storage found has found
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
    parser.add_argument(
        "--bench",
        action="append",
        default=[],
        metavar="FILE",
        help="show the timing that tfpipe bench --json printed, with --fit or without; repeatable",
    )
    parser.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="DIR|FILE",
        help="show what tfpipe search found: its --storage folder, or what --json printed; repeatable",
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, metavar="N", help="images at once (default: the cores)")
    parser.add_argument("--seed", type=int, default=0, help="of the augmentation (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Writes the page, and prints a line for each finding."""
    require_extra("tfpipe report", "jinja2", "PIL")
    from tfpipe.report.dataset import dataset_page, report_document

    manifest = load_manifest(arguments.dataset)
    output = output_file(arguments.output)
    timings = [_load_timing(path) for path in arguments.bench]
    searches = [_load_search(path) for path in arguments.search]
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
    with step_bar("comparing", quiet=arguments.json) as on_step:
        findings = find_problems(survey, on_step=on_step)
    with status("drawing", quiet=arguments.json):
        html = dataset_page(survey, findings, preview=preview, timings=timings, searches=searches)
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


def _load_json(option: str, path: str, file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{option} {path!r} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{option} {path!r} is not JSON: {error}.") from error


def _load_timing(path: str) -> Mapping[str, Any]:
    document = _load_json("--bench", path, Path(path))
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"--bench {path!r} is not what tfpipe bench --json prints: it has no rows.")
    return dict(document)


def _load_search(path: str) -> Mapping[str, Any]:
    """What a search or a comparison found, as search.page.found_values has it."""
    from tfpipe.search.page import found_values
    from tfpipe.search.result import COMPARISON_KIND, RESULT_KIND, RESULT_NAME, SearchResult

    file = Path(path)
    if file.is_dir():
        file = file / RESULT_NAME
        if not file.exists():
            raise UsageError(f"--search {path!r} holds no {RESULT_NAME}, which a search writes when it ends.")
    document = _load_json("--search", path, file)
    kind = document.get("kind") if isinstance(document, dict) else None
    try:
        if kind == RESULT_KIND:
            return found_values(SearchResult.from_json(document), None)
        if kind == COMPARISON_KIND:
            return found_values(None, document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"--search {path!r} is damaged: {type(error).__name__}: {error}.") from error
    raise UsageError(f"--search {path!r} is not what tfpipe search wrote: its kind is {kind!r}.")


def _preview(arguments: argparse.Namespace, manifest: Manifest) -> Preview:
    """Some of the dataset's images, as they are and augmented, as a contact sheet."""
    if "image" not in manifest.schema:
        raise UsageError(f"--policy augments images; the records hold {manifest.schema.payload}s.")
    size = image_size(arguments.image_size) or (_SIDE, _SIDE)
    start_tensorflow(quiet=arguments.json)
    from tfpipe.report.dataset import Preview
    from tfpipe.report.page import image_url
    from tfpipe.report.preview import load_transform, preview_rows
    from tfpipe.report.sheet import draw_sheet, png_bytes
    from tfpipe.serving.lookup import record_preparer

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
