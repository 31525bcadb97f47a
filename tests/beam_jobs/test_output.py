"""Nothing in the output folder is lost: third-party files, the earlier dataset, a second writer's work."""

from __future__ import annotations

import fcntl
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conversions import TARGET, converted
from pictures import files_of, write_listing

from beam_jobs import publish as publish_module
from beam_jobs.convert import Outcome, convert
from beam_jobs.engines import workers
from beam_jobs.job import Job
from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.maintenance.check import check_dataset

# ---- the output folder


def dry(job: Job) -> Outcome:
    return convert(replace(job, dry_run=True))


def test_a_dry_run_writes_nothing(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    job = Job(input=str(photos), output=str(tmp_path / "out"), target_bytes=TARGET)
    outcome = dry(job)
    assert os.listdir(tmp_path) == []
    assert (outcome.manifest, outcome.plan.listed) == (None, 42)
    names = [shard.path for split in raw_dataset.splits.values() for shard in split.shards]
    assert [shard.name for shard in outcome.plan.shards] == [name.rpartition("-")[0] for name in names]
    before = files_of(raw_dataset.directory)
    dry(replace(job, output=str(raw_dataset.directory)))
    assert files_of(raw_dataset.directory) == before


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty; --resume verifies it, --overwrite replaces a dataset there"):
        converted(photos, output)
    assert files_of(output) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_files_of_others_are_kept(photos: Path, raw_dataset: Manifest, tmp_path: Path, option: str) -> None:
    output = tmp_path / "out"
    (output / "papers").mkdir(parents=True)
    (output / "papers/thesis.tex").write_text("mine")
    (output / "train-00000-of-00099-deadbeef.tfrecord").write_text("not ours")
    converted(photos, output, **{option: True})
    expected = {**files_of(raw_dataset.directory), "papers/thesis.tex": b"mine"}
    assert files_of(output) == {**expected, "train-00000-of-00099-deadbeef.tfrecord": b"not ours"}


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("photos", "is inside --input"),
        ("photos/cat/out", "is inside --input"),
        ("link", "is inside --input"),
        ("file", "is a file; it takes a folder"),
    ],
)
def test_an_output_that_would_harm_something_is_refused(
    own_photos: Path, tmp_path: Path, place: str, sentence: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("photos/dog")
    before = files_of(tmp_path)
    for option in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=sentence):
            converted(own_photos, tmp_path / place, **option)
    assert files_of(tmp_path) == before


def test_a_second_writer_is_refused_while_the_first_holds_the_folder(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    handle = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for option in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(SetupError, match=r"Another conversion is writing to .*out; wait for it"):
                converted(photos, output, **option)
    finally:
        os.close(handle)
    assert os.listdir(output) == []
    assert converted(photos, output).num_records() == 42


def test_a_refusal_at_the_start_leaves_no_folder_behind(photos: Path, tmp_path: Path) -> None:
    write_listing(tmp_path / "list.csv", [("uri", "label")])
    with pytest.raises(UsageError, match="lists no images"):
        converted(tmp_path / "list.csv", tmp_path / "out")
    with pytest.raises(UsageError, match="Beam has no option '--nonsense=1'; what follows -- goes to Beam"):
        converted(photos, tmp_path / "out", beam_args=("--nonsense=1",))
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_said_before_writing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1234))
    with pytest.raises(SetupError, match=r"has 1,234 bytes free; about \d\d,\d{3} are needed"):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    assert converted(photos, tmp_path / "out", resume=True).num_records() == 42


def test_a_disk_that_fills_up_is_one_sentence_and_can_be_resumed(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "x.draft")

    monkeypatch.setattr(workers, "write_shard", full)
    with pytest.raises(SetupError, match=r"^x\.draft: No space left on device\.$"):
        converted(photos, tmp_path / "out")
    monkeypatch.undo()
    converted(photos, tmp_path / "out", resume=True)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


# ---- overwrite


def all_offsets(manifest: Manifest) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [part.tolist() for split in manifest.splits for part in manifest.offsets(split)]


def shard_paths(manifest: Manifest) -> set[str]:
    return {shard.path for split in manifest.splits.values() for shard in split.shards}


@pytest.mark.parametrize("options", [{}, {"seed": 9}], ids=["changed images", "another order"])
def test_overwriting_shows_a_reader_the_old_or_the_new_and_never_a_mix(
    own_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    output = tmp_path / "out"
    old = converted(own_photos, output)
    old_offsets = all_offsets(old)
    for file in own_photos.rglob("*.jpg") if not options else ():
        # Of equal size, so that names, counts and plan stay: only the content differs.
        data = bytearray(file.read_bytes())
        data[-30] ^= 1
        file.write_bytes(data)
    real = publish_module.save_manifest
    checked: list[str] = []

    def save(manifest: Manifest, directory: Path, **options: Any) -> None:
        for name, expected in (("old", old), ("new", manifest)):
            seen = load_manifest(output)
            problems = {problem.file for problem in check_dataset(seen)}
            assert (seen, problems - {"records.index"}) == (expected, set())
            assert name == "new" or all_offsets(seen) == old_offsets
            checked.append(name)
            real(manifest, directory, **options)

    monkeypatch.setattr(publish_module, "save_manifest", save)
    new = converted(own_photos, output, overwrite=True, **options)
    assert checked == ["old", "new"]
    assert shard_paths(old).isdisjoint(shard_paths(new))
    assert {path.name for path in output.glob("*.tfrecord")} == shard_paths(new)
    assert (new.made_by["plan"] == old.made_by["plan"]) is (not options)
    assert check_dataset(new) == []


def test_overwriting_with_the_same_gives_the_same(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    converted(photos, tmp_path / "out")
    converted(photos, tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)


def test_overwriting_removes_what_the_old_dataset_had_more(photos: Path, tmp_path: Path) -> None:
    converted(photos, tmp_path / "out", target_bytes=2_000)
    converted(photos, tmp_path / "out", target_bytes=10**6, overwrite=True)
    converted(photos, tmp_path / "fresh", target_bytes=10**6)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_the_version_of_a_nightly_package_is_recorded_under_the_package_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_nightly(name: str) -> str:
        if name == "keras":
            raise publish_module.PackageNotFoundError
        return f"version of {name}"

    monkeypatch.setattr(publish_module, "version", only_nightly)
    found = publish_module.versions(Job(input="in", output="out", payload="embedding", model="m"))
    assert found["keras"] == "version of keras-nightly"
    assert found["tensorflow"] == "version of tensorflow"
