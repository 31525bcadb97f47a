"""Short forms of the fault suite (`make faults`), with fixed seeds: kills, two writers, no space, damage, memory."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from damage import survey_cuts, survey_flips, survey_manifest_flips, survey_records, survey_shards
from kill_points import TARGET_BYTES, Killer, resume_under_fire, rewrite_under_fire
from pictures import files_of
from power_cut import cut_conversion
from processes import digests_of, fill_with_links, finish, kill, killed_in_the_end, run, start, wait_for_state

from beam_jobs import convert as convert_module
from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.errors import SetupError
from tfpipe.format.manifest import MANIFEST_NAME, Manifest, load_manifest
from tfpipe.maintenance.check import check_dataset


@pytest.fixture
def dataset(raw_dataset: Manifest, tmp_path: Path) -> Manifest:
    """A dataset of several shards, yours to damage."""
    return load_manifest(shutil.copytree(raw_dataset.directory, tmp_path / "copy"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 small files."""
    return fill_with_links(tmp_path_factory.mktemp("many"), 20, 100)


def test_a_run_killed_again_and_again_as_it_resumes_ends_with_the_same_bytes(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    with Killer() as killer:
        assert resume_under_fire(killer, photos, tmp_path / "out", step=5) > 5
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


def test_a_rewrite_killed_anywhere_leaves_the_old_or_the_new(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    convert(Job(input=str(photos), output=str(tmp_path / "old"), target_bytes=TARGET_BYTES, seed=1))
    with Killer() as killer:
        left = rewrite_under_fire(killer, photos, tmp_path / "old", raw_dataset.directory, step=5)
    assert left["old"] > 2
    assert left["new"] >= 1


@pytest.mark.parametrize("is_rewrite", [False, True], ids=["conversion", "rewrite"])
def test_a_power_cut_leaves_no_manifest_the_old_or_the_new_whole(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, is_rewrite: bool
) -> None:
    old = tmp_path / "old" if is_rewrite else None
    if old is not None:
        convert(Job(input=str(photos), output=str(old), target_bytes=TARGET_BYTES, seed=1))
    with Killer() as killer:
        survey = cut_conversion(killer, photos, raw_dataset.directory, tmp_path / "root", step=7, every=12, old=old)
    assert survey.unsound == []
    assert survey.left["old" if is_rewrite else "none"] > 20
    assert survey.left["new"] >= 1


def test_without_fsync_a_power_cut_is_seen_by_the_same_test(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    with Killer() as killer:
        survey = cut_conversion(
            killer, photos, raw_dataset.directory, tmp_path / "root", "--no_fsync", step=50, every=1000
        )
    assert survey.unsound != []


def test_a_killed_process_takes_its_helpers_along_and_locks_nothing(many: Path, tmp_path: Path) -> None:
    run(many, tmp_path / "undisturbed")
    output = tmp_path / "out"
    with killed_in_the_end(start(many, output)) as process:
        assert wait_for_state(process, output)
        kill(process)
    assert not (output / "dataset.json").exists()
    run(many, output, "--resume")
    assert digests_of(output) == digests_of(tmp_path / "undisturbed")


def test_a_disk_without_room_is_refused_in_one_line_and_resumes_with_room(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=TARGET_BYTES, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(convert_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(SetupError, match=r"has 1,000 bytes free; about [\d,]+ are needed\."):
            convert(job)
    with pytest.raises(FileNotFoundError, match="has not finished: run it again with --resume"):
        load_manifest(tmp_path / "out")
    convert(job)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_second_writer_is_refused_with_exit_3(photos: Path, tmp_path: Path, flag: str) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    code, errors = finish(start(photos, tmp_path, flag))
    os.close(handle)
    assert (code, errors.count("\n")) == (3, 1)
    assert f"Another conversion is writing to {tmp_path}; wait for it" in errors


def test_damage_anywhere_is_found_and_named(dataset: Manifest) -> None:
    surveys = {
        "flips": survey_flips(dataset, 150),
        "cuts": survey_cuts(dataset, 80),
        "shards": survey_shards(dataset),
        "records": survey_records(dataset, 24),
        "manifest": survey_manifest_flips(dataset, 150)[0],
    }
    assert [line for survey in surveys.values() for line in survey.missed] == []
    assert min(survey.tried for survey in surveys.values()) >= 24
    assert check_dataset(dataset) == []


def test_many_good_shards_raise_no_alarm(many: Path, tmp_path: Path) -> None:
    manifest = convert(Job(input=str(many), output=str(tmp_path / "out"), limit=1000, target_bytes=10_000)).manifest
    assert manifest is not None
    assert check_dataset(manifest) == []
    assert sum(len(split.shards) for split in manifest.splits.values()) > 80


def test_an_edited_manifest_is_read_but_reported(dataset: Manifest) -> None:
    path = dataset.directory / MANIFEST_NAME
    path.write_text(path.read_text().replace('"cat"', '"cow"'))
    edited = load_manifest(dataset.directory)
    assert edited.class_names == ("cow", "dog", "emu")
    (problem,) = check_dataset(edited)
    assert str(problem) == f"{MANIFEST_NAME}: it was changed after it was written: its digest is not that of its text."
