"""kill -9 at any moment, then --resume: byte-identical to a run that nothing disturbed."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_points import TARGET_BYTES, Killer, resume_under_fire, rewrite_under_fire
from processes import Scene, digests_of, finish, kill, killed_in_the_end, run, start, wait_for_state

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import INDEX_NAME, MANIFEST_NAME, Manifest, load_manifest
from tfpipe.maintenance.check import check_dataset

pytestmark = pytest.mark.faults

KILLS = 50
OVERWRITES = 12


def kill_at_random(scene: Scene, output: Path, draw: random.Random, *flags: str) -> bool:
    """Kills a conversion at a random moment of its work; False where it was done before that moment."""
    with killed_in_the_end(start(scene.source, output, *flags)) as process:
        if not wait_for_state(process, output):
            return False
        time.sleep(draw.uniform(0, scene.seconds - 1))
        return kill(process)


@pytest.mark.parametrize("kills_before_the_end", [1, 3], ids=["killed once", "its resumed runs killed too"])
def test_a_killed_conversion_resumes_to_the_same_bytes(
    scene: Scene, tmp_path: Path, figure: Callable[[str], None], kills_before_the_end: int
) -> None:
    draw = random.Random(kills_before_the_end)
    kills = identical = published = resumed = 0
    while kills < KILLS:
        output = tmp_path / f"{resumed}"
        struck = sum(kill_at_random(scene, output, draw, "--resume") for _ in range(kills_before_the_end))
        if not struck:
            shutil.rmtree(output)
            continue
        kills += struck
        resumed += 1
        published += (output / MANIFEST_NAME).exists()
        run(scene.source, output, "--resume")
        identical += digests_of(output) == scene.expected
        shutil.rmtree(output)
    figure(f"{kills} kills, {resumed} resumed, {identical} byte-identical ({published} had a manifest already)")
    assert identical == resumed


class Reader:
    """Loads the manifest of a folder again and again in a thread, and notes what is not valid."""

    def __init__(self, output: Path, allowed: set[str]) -> None:
        self._output, self._allowed = output, allowed
        self.loads, self.problems = 0, list[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                self._look(load_manifest(self._output))
            except (OSError, ValueError) as error:
                self.problems.append(str(error))
            self.loads += 1

    def _look(self, manifest: Manifest) -> None:
        if manifest.fingerprint() not in self._allowed:
            self.problems.append("neither the old nor the new")
        # Shards may go at any moment, but then the manifest that listed them has gone before.
        whole = not [p for p in check_dataset(manifest, quick=True) if p.file.endswith(".tfrecord")]
        if not whole and load_manifest(self._output).fingerprint() == manifest.fingerprint():
            self.problems.append("a shard of the dataset that is there is missing")


def test_a_killed_overwrite_leaves_the_old_or_the_new(
    scene: Scene, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    draw = random.Random(0)
    run(scene.source, tmp_path / "old", "--seed", "1")
    run(scene.source, tmp_path / "new")
    old, new = (load_manifest(tmp_path / name).fingerprint() for name in ("old", "new"))
    kills, loads, left_old = 0, 0, 0
    while kills < OVERWRITES:
        output = tmp_path / "out"
        shutil.copytree(tmp_path / "old", output)
        with Reader(output, {old, new}) as reader:
            kills += kill_at_random(scene, output, draw, "--overwrite")
            manifest = load_manifest(output)
            # Between two renames the old manifest is beside the new offsets; readers then compute the offsets.
            assert {problem.file for problem in check_dataset(manifest)} <= {INDEX_NAME}
            left_old += manifest.fingerprint() == old
            run(scene.source, output, "--overwrite" if kills % 2 else "--resume")
        assert reader.problems == []
        assert digests_of(output) == scene.expected
        loads += reader.loads
        shutil.rmtree(output)
    figure(f"{kills} killed overwrites: {left_old} left the old dataset, {kills - left_old} the new; {loads} looks")
    assert loads > OVERWRITES


def test_a_second_writer_is_refused(scene: Scene, tmp_path: Path, figure: Callable[[str], None]) -> None:
    refused = 0
    for flag in ("--resume", "--overwrite"):
        output = tmp_path / flag
        with killed_in_the_end(start(scene.source, output)) as first:
            assert wait_for_state(first, output)
            code, errors = finish(start(scene.source, output, flag))
            assert (code, errors.count("\n")) == (3, 1)
            assert "Another conversion is writing" in errors
            refused += 1
            assert finish(first)[0] == 0
        assert digests_of(output) == scene.expected
    figure(f"{refused} second writers, {refused} refused with exit 3")


def test_a_run_killed_before_every_change_as_it_resumes(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with Killer() as killer:
        kills = resume_under_fire(killer, photos, tmp_path / "out", step=1)
    figure(f"{kills} kills, before each change of the folder, and each time resumed: byte-identical in the end")
    assert digests_of(tmp_path / "out") == digests_of(raw_dataset.directory)


def test_a_rewrite_killed_before_every_change(
    photos: Path, raw_dataset: Manifest, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    convert(Job(input=str(photos), output=str(tmp_path / "old"), target_bytes=TARGET_BYTES, seed=1))
    with Killer() as killer:
        left = rewrite_under_fire(killer, photos, tmp_path / "old", raw_dataset.directory, step=1)
    figure(f"{left.total() - 1} rewrites killed, one before each change: left {dict(left)}; then byte-identical")
    assert left["old"] > 20
