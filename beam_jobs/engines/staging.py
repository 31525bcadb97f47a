"""Conversions into a store: workers write on their own disks, and what they finished lies in the store.

A store has no renames and no locks of a process, and workers of a cluster may have nothing in common but it. So
`_state` lies there too, as a folder's does, and every worker keeps a working folder of its own:

    index   writes the runs of a piece into the working folder, then puts them into OUT/_state/runs
    plan    the driver fetches all runs
    write   fetches the runs once, writes a shard as on any disk, puts it into OUT/_state, and last its sidecar
    publish the driver fetches the sidecars; shards are copied to their final names by the store itself

An object is there whole or not at all, and a sidecar comes after its shard: a run that is resumed counts sidecars, as
on a disk. For a folder on this machine nothing here is used but `staged`, which hands out OUT/_state itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beam_jobs.engines.workers import ShardWriting
from beam_jobs.plan import Indexing, Plan, index_piece
from beam_jobs.shards import ShardFacts
from beam_jobs.sources.files import objects_below
from tfpipe.format.manifest import STATE_NAME
from tfpipe.storage import AnyPath, StorePath, replace_file

# What lies beside each shard once it is written; the sidecar comes last, and makes it count.
_PARTS = (".tfrecord", ".index", ".contents", ".json")
_AT_ONCE = 16


@dataclass(frozen=True)
class Staging:
    """The state of one run in a store, and a working folder of this process.

    Attributes:
      state: OUT/_state.
      run: a name of this run's own: a process that lives longer must not take the files of an earlier one.
    """

    state: StorePath
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def folder(self) -> Path:
        """The working folder, of this process alone; it goes with the process, or with `staged`."""
        return Path(_working_folder(self.run).name)

    def put_runs(self, folder: Path) -> None:
        """Puts the runs of a piece into the store, each one's table before the facts that make it count."""
        for path in sorted(folder.iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
            (self.state / "runs" / path.name).upload(path)

    def clear_runs(self) -> None:
        """Removes the runs of an earlier run of the job: the listing is read anew."""
        (self.state / "runs").remove_tree()

    def fetch_runs(self) -> None:
        """Fetches all runs into the working folder, where they are not there yet."""
        runs = self.folder / "runs"
        if any(runs.glob("*.json")):
            return
        draft = Path(tempfile.mkdtemp(dir=self.folder))
        _fetch(list((self.state / "runs").iterdir()), draft)
        with contextlib.suppress(OSError):  # Another thread was faster.
            os.replace(draft, runs)

    def fetch_written(self, plan: Plan) -> set[str]:
        """The names of the shards of a plan that are finished; what lies beside them is fetched."""
        sizes = dict(objects_below(str(self.state)))
        finished = [shard.name for shard in plan.shards if all(f"{shard.name}{end}" in sizes for end in _PARTS)]
        self._fetch_beside(finished)
        return {name for name in finished if self._is_whole(name, sizes[f"{name}.tfrecord"])}

    def _is_whole(self, name: str, size: int) -> bool:
        try:
            return ShardFacts.load(self.folder / f"{name}.json").num_bytes == size
        except (ValueError, TypeError, KeyError):
            return False

    def fetch_sidecars(self, plan: Plan) -> None:
        """Fetches what lies beside each shard of a plan, where it is not there yet."""
        self._fetch_beside([shard.name for shard in plan.shards])

    def _fetch_beside(self, names: list[str]) -> None:
        wanted = [self.state / f"{name}{end}" for name in names for end in _PARTS[1:]]
        _fetch([place for place in wanted if not (self.folder / place.name).exists()], self.folder)

    def put_shard(self, name: str) -> None:
        """Puts a shard and what lies beside it into the store, and frees the disk of it."""
        for end in _PARTS:
            path = self.folder / f"{name}{end}"
            (self.state / path.name).upload(path)
        (self.folder / f"{name}.tfrecord").unlink()


@functools.cache
def _working_folder(run: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f"tfpipe-{run[:8]}-")  # Removed with the object, when the process ends.


def _fetch(places: list[StorePath], folder: Path) -> None:
    """Copies objects into a folder, several at once; each appears whole."""

    def fetch(place: StorePath) -> None:
        replace_file(folder / place.name, place.read_bytes(), fsync=False, shared=True)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(fetch, places):
            pass


@contextlib.contextmanager
def staged(output: AnyPath) -> Iterator[tuple[Path, Staging | None]]:
    """The folder of this machine that holds a conversion's state, and for a store what moves it to and fro."""
    if isinstance(output, Path):
        state = output / STATE_NAME
        state.mkdir(exist_ok=True)
        yield state, None
        return
    staging = Staging(output / STATE_NAME)
    try:
        yield staging.folder, staging
    finally:
        shutil.rmtree(staging.folder, ignore_errors=True)


# ---- what workers do


@dataclass(frozen=True)
class StagedIndexing:
    """The indexing of pieces into a store; see workers.IndexWork.

    Attributes:
      indexing: of what; its folder of runs is not used.
      staging: where to.
    """

    indexing: Indexing
    staging: Staging

    def do(self, item: tuple[int, Any]) -> None:
        """Indexes the piece of that number."""
        with tempfile.TemporaryDirectory(prefix="tfpipe-runs-") as folder:
            index_piece(replace(self.indexing, runs=folder), *item)
            self.staging.put_runs(Path(folder))


@dataclass
class StagedWriting:
    """The writing of shards into a store; see workers.ShardWriting.

    Attributes:
      writing: of what; its state folder is not used.
      staging: where to.
    """

    writing: ShardWriting
    staging: Staging
    _here: ShardWriting | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_here": None}

    def do(self, item: int) -> None:
        """Writes the shard of that number."""
        if self._here is None:
            self.staging.fetch_runs()
            writing = self.writing
            self._here = ShardWriting(writing.job, writing.plan, writing.source, str(self.staging.folder))
        self._here.do(item)
        self.staging.put_shard(self.writing.plan.shards[item].name)
