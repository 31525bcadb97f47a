"""A reader of a dataset that is being rewritten sees the old or the new one, never a mix."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Scene, digests_of, finish, killed_in_the_end, run, start

import tfpipe
from tfpipe.format.manifest import Manifest, digest_file, load_manifest

pytestmark = pytest.mark.faults

REWRITES = 8
SIZE = (30, 40)


def look(output: Path, known: set[str]) -> str:
    """Reads every byte that the manifest lists: "whole", or "gone" where a rewrite took a shard away meanwhile."""
    manifest = load_manifest(output)
    assert manifest.fingerprint() in known, "neither the old nor the new manifest"
    for split in manifest.splits.values():
        for shard in split.shards:
            try:
                assert digest_file(manifest.shard_path(shard)) == shard.digest, f"{shard.path} is of another dataset"
            except FileNotFoundError:
                assert_replaced(manifest, output)
                return "gone"
    return "whole"


def assert_replaced(manifest: Manifest, output: Path) -> None:
    """A shard may be gone only once its manifest is."""
    assert load_manifest(output).fingerprint() != manifest.fingerprint(), "a listed shard is missing"


def train(output: Path) -> str:
    """Reads some batches through make_dataset: "whole", or "told" where it says that a shard is missing."""
    manifest = load_manifest(output)
    try:
        for images, _ in tfpipe.make_dataset(manifest, batch_size=64).take(20):
            assert images.shape == (64, *SIZE, 3)
    except Exception as error:
        # Python's while the files are being checked, TensorFlow's own where they go away later.
        if "is missing" not in str(error) and "No such file" not in str(error):
            raise
        assert_replaced(manifest, output)
        return "told"
    return "whole"


class Looks:
    """Looks again and again in a thread, and counts the results."""

    def __init__(self, action: Callable[[], str]) -> None:
        self.outcomes, self.problems = Counter[str](), list[BaseException]()
        self._action, self._stop = action, threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self) -> Looks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not (self._stop.is_set() or self.problems):
            try:
                self.outcomes[self._action()] += 1
            except BaseException as error:
                self.problems.append(error)


# Between the renames of records.index and dataset.json a reader scans the shards, and says so.
@pytest.mark.filterwarnings("ignore:.*records.index is not this manifest's:UserWarning")
def test_readers_during_rewrites(scene: Scene, tmp_path: Path, figure: Callable[[str], None]) -> None:
    known = {}
    for seed in ("0", "1"):
        run(scene.source, tmp_path / seed, "--seed", seed)
        known[load_manifest(tmp_path / seed).fingerprint()] = seed
    output = tmp_path / "0"
    with Looks(lambda: look(output, set(known))) as bytes_read, Looks(lambda: train(output)) as batches_read:
        for number in range(REWRITES):
            seed = str((number + 1) % 2)
            with killed_in_the_end(start(scene.source, output, "--overwrite", "--seed", seed)) as process:
                assert finish(process)[0] == 0
            assert known[load_manifest(output).fingerprint()] == seed
            assert bytes_read.problems + batches_read.problems == []
    assert digests_of(output) == scene.expected
    figure(
        f"{REWRITES} rewrites: all bytes read {dict(bytes_read.outcomes)}, "
        f"batches of make_dataset {dict(batches_read.outcomes)}; 0 mixed"
    )
    assert bytes_read.outcomes["whole"] > REWRITES


def test_a_reader_that_opens_a_deleted_shard_is_told_so(scene: Scene, tmp_path: Path) -> None:
    run(scene.source, tmp_path / "out")
    manifest = load_manifest(tmp_path / "out")
    run(scene.source, tmp_path / "out", "--overwrite", "--seed", "1")
    with pytest.raises(FileNotFoundError, match=r"The shard .* is missing; tfpipe check"):
        tfpipe.make_dataset(manifest, batch_size=64)
