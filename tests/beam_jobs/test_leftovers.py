"""What killed runs leave behind is used where it is right, removed where it is not, and never taken from the living."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from containers import JPEGS, hub_table
from conversions import TARGET, KilledError, converted, fail_at
from pictures import files_of

from beam_jobs import convert as convert_module
from beam_jobs import publish as publish_module
from beam_jobs.convert import convert
from beam_jobs.engines import graphs
from beam_jobs.engines.locks import SPOOL_NAME
from beam_jobs.job import Job
from beam_jobs.sources import Listed, open_source
from beam_jobs.sources.options import SourceOptions
from tfpipe.errors import SetupError
from tfpipe.format.manifest import MANIFEST_NAME, STATE_NAME, Manifest, load_manifest
from tfpipe.storage import draft_path


def stop_before_publishing(photos: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """A run that dies when all its shards are written."""
    with monkeypatch.context() as patch:
        patch.setattr(convert_module, "publish", fail_at(0, convert_module.publish))
        with pytest.raises(KilledError):
            converted(photos, output, **options)


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_the_drafts_of_a_killed_run_are_removed_by_the_next(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    output = tmp_path / "out"
    stop_before_publishing(photos, output, monkeypatch)
    (output / STATE_NAME / SPOOL_NAME).mkdir()
    for folder in (output, output / STATE_NAME, output / STATE_NAME / SPOOL_NAME):
        draft_path(folder / "train-00000-of-00005.tfrecord").write_bytes(b"half")
    converted(photos, output, **{option: True})
    assert files_of(output) == files_of(raw_dataset.directory)


def test_the_run_that_verifies_a_finished_dataset_removes_drafts_too(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    output = shutil.copytree(raw_dataset.directory, tmp_path / "out")
    draft_path(output / MANIFEST_NAME).write_bytes(b"half")
    converted(photos, output, resume=True)
    assert files_of(output) == files_of(raw_dataset.directory)


def test_a_run_that_is_refused_takes_no_draft_from_the_one_at_work(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / STATE_NAME).mkdir(parents=True)
    draft = draft_path(output / STATE_NAME / "train-00000-of-00005.tfrecord")
    draft.write_bytes(b"half")
    handle = os.open(output, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(SetupError, match="Another conversion is writing"):
        converted(photos, output, resume=True)
    os.close(handle)
    assert draft.read_bytes() == b"half"


def test_a_half_removed_state_is_not_taken_for_that_of_a_run_with_other_options(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the middle of --overwrite: the plan is gone, shards and sidecars of the same names are there."""
    output = tmp_path / "out"
    stop_before_publishing(photos, output, monkeypatch, seed=1)
    (output / STATE_NAME / "plan.json").unlink()
    outcome = convert(Job(input=str(photos), output=str(output), target_bytes=TARGET, seed=2, resume=True))
    assert outcome.resumed == 0
    converted(photos, tmp_path / "undisturbed", seed=2)
    assert files_of(output) == files_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("ending", ["tfrecord", "index", "contents", "json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "longer"])
def test_a_shard_whose_files_are_not_as_the_sidecar_says_is_written_again(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, damage: str
) -> None:
    """As a power cut may leave them where the run had --no_fsync."""
    output = tmp_path / "out"
    stop_before_publishing(photos, output, monkeypatch, fsync=False)
    path = next((output / STATE_NAME).glob(f"train-00001-of-*.{ending}"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] if damage == "cut" else data + b"x")
    if damage == "missing":
        path.unlink()
    outcome = convert(Job(input=str(photos), output=str(output), target_bytes=TARGET, resume=True))
    assert outcome.resumed == len(outcome.plan.shards) - 1
    assert files_of(output) == files_of(raw_dataset.directory)


def test_a_shard_that_no_worker_wrote_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the engine says: a job whose worker left a shard out ends with a sentence, and can go on."""
    real = graphs.write_shards
    monkeypatch.setattr(graphs, "write_shards", lambda numbers, *others: real(numbers[1:], *others))
    with pytest.raises(
        SetupError, match=r"1 of \d+ shards are not in .*_state .*, the first is train-00000-of-.*--resume"
    ):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    assert converted(photos, tmp_path / "out", resume=True).num_records() == 42


def test_a_piece_that_no_worker_listed_stops_the_job(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = graphs.run_listing
    monkeypatch.setattr(graphs, "run_listing", lambda pieces, *others: real(pieces[:-1], *others))
    with pytest.raises(SetupError, match="The listing is not whole: 1 of its"):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    converted(photos, tmp_path / "out", resume=True)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


def test_no_fsync_changes_no_byte_and_waits_for_no_disk(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    hasty = converted(photos, tmp_path / "deep" / "out", fsync=False)
    assert synced == []
    assert "fsync" not in json.dumps(hasty.to_json())
    assert files_of(hasty.directory) == files_of(raw_dataset.directory)
    converted(photos, tmp_path / "deep" / "out", overwrite=True)
    assert len(synced) > 10


def test_a_run_that_did_not_wait_is_resumed_by_one_that_does(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    stop_before_publishing(photos, output, monkeypatch, fsync=False)
    synced = set[str]()
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.readlink(f"/proc/self/fd/{handle}")), real(handle)))
    outcome = convert(Job(input=str(photos), output=str(output), target_bytes=TARGET, resume=True))
    assert outcome.resumed == len(outcome.plan.shards)
    assert {f"{output / STATE_NAME / shard.name}.tfrecord" for shard in outcome.plan.shards} <= synced
    assert files_of(output) == files_of(raw_dataset.directory)


def test_old_shards_go_when_the_new_manifest_is_on_the_disk(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(raw_dataset.directory, tmp_path / "out")
    old = {path.name for path in output.glob("*.tfrecord")}
    synced = list[tuple[str, bool, bool]]()
    sync, remove = os.fsync, publish_module.remove_stale

    def note(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        present = {file.name for file in output.glob("*.tfrecord")}
        is_new = load_manifest(output).fingerprint() != raw_dataset.fingerprint()
        synced.append((path, is_new, old <= present))
        sync(handle)

    def remove_and_check(*arguments: Any, **options: Any) -> None:
        assert (str(output), True, True) in synced
        assert all(there for _, _, there in synced)
        remove(*arguments, **options)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(publish_module, "remove_stale", remove_and_check)
    converted(photos, output, overwrite=True, seed=3)
    assert old.isdisjoint(path.name for path in output.glob("*.tfrecord"))


def test_two_workers_that_copy_one_parquet_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    pq.write_table(hub_table(JPEGS, ["b", "a"]), tmp_path / "in.parquet", row_group_size=3)
    spool = tmp_path / SPOOL_NAME
    source = open_source(str(tmp_path / "in.parquet"), options=SourceOptions(spool=str(spool)))
    (piece,) = source.pieces(None)
    whole = [entry for entry in source.entries(piece) if isinstance(entry, Listed)]
    copied = files_of(spool)
    second = source.entries(piece)
    for _ in whole[: len(whole) // 2]:
        next(second)
        assert {name: data for name, data in files_of(spool).items() if not name.endswith(".draft")} == copied
    list(second)
    assert files_of(spool) == copied
