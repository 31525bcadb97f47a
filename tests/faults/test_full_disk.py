"""A disk that is full: exit 3, one line, nothing that a reader would take; with space again, --resume ends the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Scene, digests_of, finish, killed_in_the_end, run, start

from tfpipe.format.manifest import MANIFEST_NAME, STATE_NAME, load_manifest
from tfpipe.maintenance.check import check_dataset

pytestmark = pytest.mark.faults

# The dataset takes 33 MB, and its state 4 MB more.
AMPLE_BYTES = 120_000_000
BALLAST = "ballast"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={AMPLE_BYTES}", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount is refused here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def resize(disk: Path, num_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={num_bytes}", disk], check=True)


def free_bytes(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def leave(disk: Path, num_bytes: int) -> None:
    """Fills the disk until no more than that is free, while a conversion fills it too."""
    with open(disk / BALLAST, "ab") as file:
        while (taken := free_bytes(disk) - num_bytes) > 0:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, taken)


def assert_refused(code: int, errors: str) -> None:
    *changes, line = errors.splitlines()
    assert (code, line.startswith("tfpipe: error: /")) == (3, True), errors
    # Over another dataset, what changes is told before.
    assert not [other for other in changes if not other.startswith("tfpipe: ") or "error" in other], errors


def assert_no_dataset(output: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_manifest(output)


@pytest.mark.parametrize("size", [100_000, 1_000_000, 20_000_000])
def test_too_small_a_disk_is_refused_before_or_while_planning(
    scene: Scene, disk: Path, figure: Callable[[str], None], size: int
) -> None:
    resize(disk, size)
    code, errors = finish(start(scene.source, disk / "out"))
    assert_refused(code, errors)
    assert_no_dataset(disk / "out")
    resize(disk, AMPLE_BYTES)
    run(scene.source, disk / "out", "--resume")
    assert digests_of(disk / "out") == scene.expected
    figure(f"{size / 1e6:g} MB: exit 3, then resumed byte-identical; {errors.strip().replace(str(disk), 'DISK')}")


def fill_while_writing(scene: Scene, disk: Path, left: int, *flags: str) -> tuple[int, str]:
    """Runs a conversion whose disk fills up, all but `left` bytes, once it has begun to write."""
    with killed_in_the_end(start(scene.source, disk / "out", *flags)) as process:
        while process.poll() is None and not any((disk / "out" / STATE_NAME).glob("*.draft")):
            time.sleep(0.001)
        leave(disk, left)
        return finish(process)


def test_a_disk_that_fills_up_while_writing(scene: Scene, disk: Path, figure: Callable[[str], None]) -> None:
    run(scene.source, disk / "out")
    whole = AMPLE_BYTES - free_bytes(disk)
    shutil.rmtree(disk / "out")
    # From nothing left to all but enough: the last ones let every shard be written, and run out while publishing.
    lefts = [0, 4096, *range(1_000_000, whole, 8_000_000), *range(whole - 200_000, whole + 900_000, 100_000)]
    full, identical, in_publishing = 0, 0, 0
    for left in lefts:
        code, errors = fill_while_writing(scene, disk, left)
        if code:
            assert_refused(code, errors)
            assert_no_dataset(disk / "out")
            full += 1
            in_publishing += any((disk / "out").glob("*.tfrecord"))
        (disk / BALLAST).unlink(missing_ok=True)
        run(scene.source, disk / "out", "--resume")
        identical += digests_of(disk / "out") == scene.expected
        shutil.rmtree(disk / "out")
    figure(f"{full} full disks ({in_publishing} while publishing), {identical} of {len(lefts)} resumed byte-identical")
    assert identical == len(lefts)
    assert full > 10


def test_an_old_dataset_stays_where_its_rewrite_fills_the_disk(
    scene: Scene, disk: Path, figure: Callable[[str], None]
) -> None:
    run(scene.source, disk / "out", "--seed", "1")
    old = digests_of(disk / "out")
    full = 0
    for left in (0, 5_000_000, 20_000_000, 33_000_000):
        code, errors = fill_while_writing(scene, disk, left, "--overwrite")
        assert_refused(code, errors)
        full += 1
        assert {name: digest for name, digest in digests_of(disk / "out").items() if name in old} == old
        assert check_dataset(load_manifest(disk / "out")) == []
        (disk / BALLAST).unlink()
    run(scene.source, disk / "out", "--overwrite")
    assert digests_of(disk / "out") == scene.expected
    assert (disk / "out" / MANIFEST_NAME).exists()
    figure(f"{full} rewrites on a full disk, {full} times the old dataset stayed whole")
