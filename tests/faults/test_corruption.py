"""check finds every damage, names shard and record, and reports nothing that is intact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from damage import (
    Survey,
    shards_of,
    survey_cuts,
    survey_flips,
    survey_manifest_flips,
    survey_records,
    survey_shards,
)
from processes import Scene

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import Manifest
from tfpipe.maintenance.check import check_dataset

pytestmark = pytest.mark.faults

FLIPS, MANIFEST_FLIPS, CUTS, RECORDS = 4000, 4000, 600, 400


@pytest.fixture(scope="module")
def dataset(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """300 records in some 25 shards."""
    output = tmp_path_factory.mktemp("dataset") / "out"
    job = Job(input=str(scene.source), output=str(output), limit=300, target_bytes=10_000)
    manifest = convert(job).manifest
    assert manifest is not None
    return manifest


def told(survey: Survey, text: str) -> str:
    return f"{survey.tried} {text}: {survey.tried - len(survey.missed)} found and named"


@pytest.mark.parametrize(
    ("text", "look"),
    [
        ("bits flipped in shards and records.index", lambda m: survey_flips(m, FLIPS)),
        ("cuts, at every record's boundary and anywhere", lambda m: survey_cuts(m, CUTS)),
        ("shards removed, emptied, repeated, zeroed, swapped or added", survey_shards),
        ("records swapped, left out, repeated or replaced", lambda m: survey_records(m, RECORDS)),
    ],
    ids=["flips", "cuts", "shards", "records"],
)
def test_every_damage_is_found(
    dataset: Manifest, figure: Callable[[str], None], text: str, look: Callable[[Manifest], Survey]
) -> None:
    survey = look(dataset)
    figure(told(survey, text))
    assert survey.missed == []
    assert check_dataset(dataset) == []


def test_a_flipped_manifest_is_refused_or_reported(dataset: Manifest, figure: Callable[[str], None]) -> None:
    survey, outcomes = survey_manifest_flips(dataset, MANIFEST_FLIPS)
    figure(f"{survey.tried} bits flipped in dataset.json: {dict(outcomes)}")
    assert survey.missed == []


def test_a_thousand_good_shards_raise_no_alarm(scene: Scene, tmp_path: Path, figure: Callable[[str], None]) -> None:
    job = Job(input=str(scene.source), output=str(tmp_path / "out"), limit=12_000, target_bytes=10_000, threads=2)
    manifest = convert(job).manifest
    assert manifest is not None
    problems = check_dataset(manifest, threads=2)
    figure(f"{len(shards_of(manifest))} good shards, {len(problems)} alarms")
    assert problems == []
    assert len(shards_of(manifest)) >= 1000
