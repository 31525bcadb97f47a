"""The report of a dataset as one HTML page: what it holds, what is wrong with it, and what it looks like.

survey = survey_dataset(load_manifest("photos_tfrecord"))
html = dataset_page(survey, find_problems(survey))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfpipe.format.manifest import REJECTED_NAME, Manifest
from tfpipe.format.sharding import megabytes
from tfpipe.maintenance.health.findings import Finding
from tfpipe.maintenance.health.survey import Survey
from tfpipe.report.charts import Chart, log_histogram, short
from tfpipe.report.page import image_url, render_page
from tfpipe.report.thumbnails import make_thumbnails

# What a page shows at most, so that it stays some MB: rows of a table, images of a finding, groups of images.
_MOST_ROWS, _MOST_IMAGES, _MOST_GROUPS, _MOST_IN_GROUP = 500, 24, 12, 6
_CLASSES_SHOWN, _IMAGES_PER_CLASS = 30, 6
_NOTED = {"transcoded": "Re-encoded as PNG", "sixteen_bit": "16-bit gray, of which 8 bits are kept"}


class Picture(NamedTuple):
    """An image of the page, "" where there is none, its name, and a line below that."""

    url: str
    caption: str
    note: str = ""


class Preview(NamedTuple):
    """The augmentation of the dataset's images: a sentence, and a contact sheet as a URL."""

    text: str
    url: str


def dataset_page(
    survey: Survey,
    findings: Sequence[Finding],
    *,
    preview: Preview | None = None,
    timing: Mapping[str, Any] | None = None,
) -> str:
    """The HTML of the report.

    Args:
      survey: of the dataset.
      findings: what is wrong.
      preview: its images, augmented.
      timing: the document that `tfpipe bench --json` printed.
    """
    manifest = survey.manifest
    samples = _pick_samples(survey)
    shown = _Pictures(survey, [*_shown(findings), *(record for _, records in samples for record in records)])
    rejected, more_rejected = _rejected(manifest)
    values: dict[str, Any] = {
        "title": manifest.directory.name or str(manifest.directory),
        "summary": _summary(survey, findings),
        "facts": _facts(survey),
        "findings": [_finding_values(survey, finding, shown) for finding in findings],
        "splits": _split_rows(manifest),
        "shard_chart": _shard_chart(manifest),
        "class_caption": "Records of each class",
        "class_columns": [("class", "name"), *((name, "number") for name in manifest.splits), ("all", "number")],
        "classes": _class_rows(manifest),
        "more_classes": max(0, len(manifest.class_names) - _MOST_ROWS),
        "charts": _charts(survey),
        "samples": [(name, shown.pictures(records)) for name, records in samples],
        "preview": preview,
        "notes": _notes(manifest),
        "rejected": rejected,
        "more_rejected": more_rejected,
        "timing": None if timing is None else _timing(timing),
        "features": _feature_rows(manifest),
        "made_by": [(name, json.dumps(value, ensure_ascii=False)) for name, value in manifest.made_by.items()],
    }
    return render_page("report.html", values)


def report_document(survey: Survey, findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as plain JSON values, with the keys of all records that they name."""

    def keys(records: Iterable[int]) -> list[str]:
        return [survey.keys[record] for record in records]

    return {
        "records": len(survey),
        "measured": int(survey.measured.sum()),
        "findings": [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "title": finding.title,
                "advice": finding.advice,
                "whole_dataset": finding.whole,
                "details": list(finding.details),
                "keys": keys(finding.records),
                "groups": [keys(group) for group in finding.groups],
            }
            for finding in findings
        ],
    }


class _Pictures:
    """The thumbnails of some records, each made once."""

    def __init__(self, survey: Survey, records: Iterable[int]) -> None:
        self.survey = survey
        readable = [record for record in records if survey.measured[record]]
        self.urls = {record: image_url(data) for record, data in make_thumbnails(survey, readable).items()}

    def pictures(self, records: Iterable[int]) -> list[Picture]:
        return [Picture(self.urls.get(record, ""), self.survey.keys[record], self._note(record)) for record in records]

    def _note(self, record: int) -> str:
        height, width = self.survey.sizes[record].tolist()
        split = self.survey.split_names[self.survey.splits[record]]
        return f"{split}, {width} x {height}" if width else split


# ---- health


def _shown(findings: Sequence[Finding]) -> Iterable[int]:
    for finding in findings:
        yield from _images_of(finding)
        for group in _groups_of(finding):
            yield from group


def _images_of(finding: Finding) -> tuple[int, ...]:
    return () if finding.groups else finding.records[:_MOST_IMAGES]


def _groups_of(finding: Finding) -> list[tuple[int, ...]]:
    return [group[:_MOST_IN_GROUP] for group in finding.groups[:_MOST_GROUPS]]


def _finding_values(survey: Survey, finding: Finding, shown: _Pictures) -> dict[str, Any]:
    rows = [
        (survey.keys[record], survey.split_names[survey.splits[record]], survey.label_name(record))
        for record in finding.records[:_MOST_ROWS]
    ]
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "title": finding.title,
        "advice": finding.advice,
        "details": finding.details[:_MOST_ROWS],
        "more_details": max(0, len(finding.details) - _MOST_ROWS),
        "groups": [shown.pictures(group) for group in _groups_of(finding)],
        "images": shown.pictures(_images_of(finding)),
        "summary": "The record" if len(finding.records) == 1 else f"All {len(finding.records):,} records",
        "rows": rows,
        "more_rows": max(0, len(finding.records) - _MOST_ROWS),
    }


def _summary(survey: Survey, findings: Sequence[Finding]) -> str:
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in ("error", "warning")}
    found = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    verdict = f"{' and '.join(found)} below, the gravest first" if found else "nothing is wrong with it"
    # Of vectors no image is seen: what that leaves out is said.
    part = "" if "image" in survey.manifest.schema else " Only duplicates, labels and shards: there are no images."
    return f"{len(survey):,} {survey.manifest.schema.payload} records were looked at: {verdict}.{part}"


# ---- facts


def _facts(survey: Survey) -> list[tuple[str, str]]:
    manifest = survey.manifest
    facts = [
        ("records", f"{manifest.num_records():,}"),
        ("classes", f"{len(manifest.class_names):,}" if manifest.class_names else manifest.schema.label_kind),
        ("size", f"{megabytes(sum(split.num_bytes for split in manifest.splits.values()))} MB"),
        ("shards", f"{sum(len(split.shards) for split in manifest.splits.values()):,}"),
        ("payload", manifest.schema.payload),
        ("rejected", f"{sum(manifest.rejected.values()):,}"),
    ]
    sizes = survey.sizes[survey.measured]
    if len(sizes):
        height, width = np.median(sizes, axis=0)
        facts.insert(3, ("median image", f"{width:.0f} x {height:.0f}"))
    return facts


def _split_rows(manifest: Manifest) -> list[tuple[Any, ...]]:
    rows = []
    for name, split in manifest.splits.items():
        sizes = [shard.num_bytes for shard in split.shards]
        share = split.num_records / max(manifest.num_records(), 1)
        span = f"{megabytes(min(sizes))} to {megabytes(max(sizes))}" if sizes else "none"
        numbers = [_number(split.num_records), (f"{share:.1%}", share), _number(len(sizes))]
        rows.append((name, *numbers, (megabytes(split.num_bytes), split.num_bytes), span))
    return rows


def _number(value: int) -> tuple[str, int]:
    return f"{value:,}", value


def _shard_chart(manifest: Manifest) -> Chart | None:
    sizes = [shard.num_bytes / 1e6 for split in manifest.splits.values() for shard in split.shards if shard.num_bytes]
    title = "Sizes of shards in MB; 10 to 100, which read fastest, are shaded"
    return log_histogram(sizes, title, "shards", unit=" MB", marked=(10, 100)) if sizes else None


def _class_rows(manifest: Manifest) -> list[tuple[Any, ...]]:
    columns = [split.class_counts for split in manifest.splits.values()]
    rows = []
    for number, name in enumerate(manifest.class_names[:_MOST_ROWS]):
        counts = [column[number] for column in columns]
        rows.append((name, *map(_number, counts), _number(sum(counts))))
    return rows


def _charts(survey: Survey) -> list[Chart]:
    sizes = survey.sizes[survey.measured]
    if not len(sizes):
        return []
    height, width = sizes.T
    counts = survey.manifest.class_names and [
        sum(column) for column in zip(*(split.class_counts for split in survey.manifest.splits.values()), strict=True)
    ]
    charts = [
        log_histogram(width, "Widths in pixels", "images", whole=True),
        log_histogram(height, "Heights in pixels", "images", whole=True),
        log_histogram(width / height, "Aspect ratios, width over height", "images"),
    ]
    present = [count for count in counts or () if count]
    return (
        [*charts, log_histogram(present, "Records of a class", "classes", whole=True)] if len(present) > 1 else charts
    )


def _pick_samples(survey: Survey) -> list[tuple[str, list[int]]]:
    """Some records of each class, spread evenly over it; where there are no classes, of all."""
    measured = np.flatnonzero(survey.measured)
    labels = survey.labels[measured]
    if not len(measured):
        return []
    if not (labels >= 0).any():
        return [("", _spread(measured, _MOST_IMAGES))]
    names = survey.manifest.class_names
    present = [number for number in range(min(len(names), _CLASSES_SHOWN)) if (labels == number).any()]
    return [(names[number], _spread(measured[labels == number], _IMAGES_PER_CLASS)) for number in present]


def _spread(records: np.ndarray, count: int) -> list[int]:
    chosen = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    return [int(record) for record in records[chosen]]


def _feature_rows(manifest: Manifest) -> list[tuple[str, ...]]:
    return [
        (
            feature.name,
            feature.dtype,
            " x ".join("any" if size is None else str(size) for size in feature.shape) or "one value",
            feature.codec,
        )
        for feature in manifest.schema.features
    ]


# ---- what came with it


def _notes(manifest: Manifest) -> list[str]:
    notes = []
    if manifest.rejected:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in manifest.rejected.items())
        notes.append(f"Rejected: {counts}.")
    for name, phrase in _NOTED.items():
        kinds = manifest.made_by.get(name)
        if kinds:
            notes.append(f"{phrase}: {', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}.")
    return notes


def _rejected(manifest: Manifest) -> tuple[list[tuple[str, ...]], int]:
    """The first lines of rejected.jsonl, and how many more there are."""
    path = manifest.directory / REJECTED_NAME
    if not manifest.rejected or not path.exists():
        return [], 0
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for line in lines[:_MOST_ROWS]:
        row = json.loads(line)
        rows.append(tuple(str(row.get(name, "")) for name in ("key", "reason", "detail")))
    return rows, max(0, len(lines) - _MOST_ROWS)


def _timing(document: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of `tfpipe bench --json` as a table."""
    names = ("images_per_second", "images_per_cpu_second", "utilisation", "first_epoch_seconds", "speedup")
    rows = document.get("rows", ())
    present = [name for name in names if rows and all(isinstance(row.get(name), int | float) for row in rows)]
    return {
        "text": f"Measured by tfpipe bench: batches of {document.get('batch_size')}, {document.get('mode')}, "
        f"{document.get('cores')} cores, page cache {document.get('page_cache')}.",
        "columns": [("variant", "name"), *((name.replace("_", " "), "number") for name in present)],
        "rows": [(row.get("variant", ""), *((short(row[name]), row[name]) for name in present)) for row in rows],
    }
