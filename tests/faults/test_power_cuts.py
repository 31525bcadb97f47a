"""Power cuts: on a disk that loses whatever was not synced, and on a real one whose journal stops."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kill_points import TARGET_BYTES, Killer
from pictures import files_of
from power_cut import check_left, cut_conversion, record, survey_moments
from processes import Scene, digests_of, finish, killed_in_the_end, run, start, wait_for_state

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import INDEX_NAME, MANIFEST_NAME, REJECTED_NAME, Manifest, load_manifest

pytestmark = pytest.mark.faults

# ---- the double, at every moment


@pytest.fixture
def killer() -> Iterator[Killer]:
    with Killer() as server:
        yield server


@pytest.fixture
def old(photos: Path, tmp_path: Path) -> Path:
    """A dataset of the same images in another order."""
    output = tmp_path / "old"
    convert(Job(input=str(photos), output=str(output), target_bytes=TARGET_BYTES, seed=1))
    return output


def test_a_conversion(
    killer: Killer, photos: Path, raw_dataset: Manifest, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    survey = cut_conversion(killer, photos, raw_dataset.directory, tmp_path / "root", step=1, every=5)
    figure(
        f"{survey.left.total()} cuts of a conversion: left {dict(survey.left)}; one in five finished: byte-identical"
    )
    assert survey.unsound == []
    assert survey.left["none"] > 100
    assert survey.left["new"] > 5


def test_a_rewrite(
    killer: Killer, photos: Path, raw_dataset: Manifest, old: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    survey = cut_conversion(killer, photos, raw_dataset.directory, tmp_path / "root", step=1, every=5, old=old)
    figure(f"{survey.left.total()} cuts of a rewrite: left {dict(survey.left)}; one in five finished: byte-identical")
    assert survey.unsound == []
    assert survey.left["old"] > 100
    assert survey.left["new"] > 5


def test_a_rewrite_by_the_same_dataset(
    killer: Killer, photos: Path, raw_dataset: Manifest, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """New shards replace old ones of the same names, which the old manifest lists."""
    new = raw_dataset.directory
    survey = cut_conversion(killer, photos, new, tmp_path / "root", step=3, every=3, old=new)
    figure(f"{survey.left.total()} cuts of a rewrite by the same: left {dict(survey.left)}; then byte-identical")
    assert survey.unsound == []
    assert survey.left["new"] > 50


def test_the_double_loses_what_is_not_synced(
    killer: Killer, photos: Path, raw_dataset: Manifest, old: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    root = tmp_path / "root"
    survey = cut_conversion(killer, photos, raw_dataset.directory, root, "--no_fsync", step=3, every=3, old=old)
    figure(f"with --no_fsync, {len(survey.unsound)} of the cuts leave something unsound, such as {survey.unsound[-1]}")
    assert len(survey.unsound) > 10


@pytest.mark.parametrize("kill_at", [20, 40, 60])
def test_what_a_killed_run_did_not_sync_is_synced_by_the_run_that_resumes_it(
    killer: Killer, photos: Path, raw_dataset: Manifest, tmp_path: Path, kill_at: int
) -> None:
    root = tmp_path / "root"
    output = root / "out"
    job = Job(input=str(photos), output=str(output), target_bytes=TARGET_BYTES, fsync=False)
    assert killer.convert(job, kill_at=kill_at)
    command = ["convert", "--input", photos, "--output", output, "--target_bytes", TARGET_BYTES, "--threads", 1]
    moments = record([*command, "--resume"], root, is_synced=False)
    shutil.rmtree(root)

    def check(_: bool) -> str:
        assert files_of(output) == files_of(raw_dataset.directory)
        return "new"

    survey = survey_moments(moments[-1:], root, check, draws=20)
    assert survey.unsound == []
    assert survey.left["new"] >= 1


@pytest.mark.parametrize("verb", ["repair", "index", "inspect"])
def test_other_writers_of_manifests(
    raw_dataset: Manifest, tmp_path: Path, figure: Callable[[str], None], verb: str
) -> None:
    """What they name was not synced before: third-party shards, or a dataset that has just been copied."""
    root = tmp_path / "root"
    given = root / "given"
    shutil.copytree(raw_dataset.directory, given)
    output, left_before = given, "none"
    if verb == "repair":
        shard = next(iter(raw_dataset.splits.values())).shards[0]
        with open(given / shard.path, "r+b") as file:
            file.seek(shard.num_bytes // 2)
            file.write(b"damage")
        output = root / "out"
        command = ["repair", given, "--output", output]
    elif verb == "index":
        for name in (MANIFEST_NAME, INDEX_NAME, REJECTED_NAME):
            (given / name).unlink()
        command = ["index", given]
    else:
        command, left_before = ["inspect", given, "--statistics"], "old"
    names = {raw_dataset.fingerprint(): "old"} if verb == "inspect" else {}
    moments = record(command, root, is_synced=verb == "inspect", exit_code=int(verb == "repair"))
    names[load_manifest(output).fingerprint()] = "new"
    shutil.rmtree(root)

    def check(ended: bool) -> str:
        left = check_left(output, names, offsets=False)
        assert left == "new" or not ended
        return left

    survey = survey_moments(moments, root, check, draws=10)
    figure(f"{survey.left.total()} cuts of {verb}: left {dict(survey.left)}")
    assert survey.unsound == []
    assert set(survey.left) == {left_before, "new"}


# ---- a real disk

IMAGE_BYTES = 300_000_000
# FS_IOC_SHUTDOWN without a flush of the journal: from now on nothing reaches the disk.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
CUTS, REWRITES = 8, 4


class Disk:
    """An ext4 file system in a file, with a switch that cuts its power."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "mounted"
        self.folder.mkdir()
        self._image = root / "image"
        with open(self._image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        self._run("mkfs.ext4", "-q", "-F", self._image)

    def mount(self, seconds: int) -> None:
        """Mounts it, replaying its journal; it will commit its journal by itself after so many seconds."""
        # Without ext4's own care for files that are written and renamed without fsync.
        self._run("mount", "-o", f"loop,noauto_da_alloc,commit={seconds}", self._image, self.folder)

    def cut(self) -> None:
        """Nothing that is not on the disk reaches it any more."""
        handle = os.open(self.folder, os.O_RDONLY)
        fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        os.close(handle)

    def unmount(self) -> None:
        self._run("umount", self.folder)

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        made = Disk(tmp_path)
        made.mount(5)
        made.cut()
        made.unmount()
    except (AssertionError, OSError) as error:
        pytest.skip(f"a file system that can be cut can't be mounted here: {error}")
    yield made
    subprocess.run(["umount", "--lazy", made.folder], check=False, capture_output=True)


def cut_at_random(scene: Scene, disk: Disk, draw: random.Random, *flags: str) -> int:
    """Cuts the power at a random moment of a conversion; returns its exit code."""
    output = disk.folder / "out"
    with killed_in_the_end(start(scene.source, output, *flags)) as process:
        if wait_for_state(process, output):
            time.sleep(draw.uniform(0, scene.seconds))
        disk.cut()
        return finish(process)[0]


def test_a_conversion_on_a_disk_whose_power_is_cut(
    scene: Scene, disk: Disk, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    draw, left = random.Random(0), Counter[str]()
    run(scene.source, tmp_path / "undisturbed")
    names = {load_manifest(tmp_path / "undisturbed").fingerprint(): "new"}
    for _ in range(CUTS):
        disk.mount(draw.choice((1, 5, 300)))
        code = cut_at_random(scene, disk, draw)
        disk.unmount()
        disk.mount(5)
        found = check_left(disk.folder / "out", names)
        assert found == "new" or code != 0
        left[found] += 1
        run(scene.source, disk.folder / "out", "--resume")
        assert digests_of(disk.folder / "out") == scene.expected
        shutil.rmtree(disk.folder / "out")
        disk.unmount()
    figure(f"{CUTS} cuts of ext4 under a conversion: left {dict(left)}; then byte-identical")


def test_a_rewrite_on_a_disk_whose_power_is_cut(
    scene: Scene, disk: Disk, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    draw, left = random.Random(1), Counter[str]()
    run(scene.source, tmp_path / "old", "--seed", "1")
    run(scene.source, tmp_path / "new")
    names = {load_manifest(tmp_path / name).fingerprint(): name for name in ("old", "new")}
    for _ in range(REWRITES):
        disk.mount(5)
        shutil.copytree(tmp_path / "old", disk.folder / "out")
        disk.unmount()
        disk.mount(draw.choice((1, 5, 300)))
        code = cut_at_random(scene, disk, draw, "--overwrite")
        disk.unmount()
        disk.mount(5)
        found = check_left(disk.folder / "out", names)
        assert found == "new" or code != 0
        left[found] += 1
        run(scene.source, disk.folder / "out", "--overwrite")
        assert digests_of(disk.folder / "out") == scene.expected
        shutil.rmtree(disk.folder / "out")
        disk.unmount()
    figure(f"{REWRITES} cuts of ext4 under a rewrite: left {dict(left)}; then byte-identical")


def test_a_conversion_that_ended_is_on_the_disk_unless_it_did_not_wait(
    scene: Scene, disk: Disk, figure: Callable[[str], None]
) -> None:
    left = {}
    for flag in ("--threads=2", "--no_fsync"):
        disk.mount(300)
        run(scene.source, disk.folder / "out", flag)
        disk.cut()
        disk.unmount()
        disk.mount(5)
        left[flag] = digests_of(disk.folder / "out") == scene.expected
        shutil.rmtree(disk.folder / "out", ignore_errors=True)
        disk.unmount()
    figure(f"cut right after the end: whole {left}")
    assert left == {"--threads=2": True, "--no_fsync": False}
