"""The state of a conversion, OUT/_state: in a folder of this machine, or in a store that workers share.

In a folder every worker writes into it directly. A store has no renames and no locks of a process, and workers of a
cluster may have nothing in common but it. So every worker has a working folder of its own:

    list    writes the runs of a piece into the working folder, then puts them into OUT/_state/runs
    plan    the driver fetches all runs
    write   fetches the runs once, writes a shard as on any disk, puts it into OUT/_state, and its sidecar last
    publish the driver fetches the sidecars; shards are copied to their final names by the store itself

An object is there whole or not at all, and a sidecar comes after its shard: a resumed run counts sidecars, as on a
disk.
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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from beam_jobs.engines.workers import ListingTask, WorkerTask, WritingTask
from beam_jobs.plan import ListingScan, Plan, list_piece
from beam_jobs.publish import shard_is_written
from beam_jobs.shards import find_stats
from beam_jobs.sources.files import objects_below
from tfpipe.format.manifest import STATE_NAME
from tfpipe.storage import AnyPath, StorePath, make_folder, replace_file

# The files of a shard once it is written; the sidecar comes last, and makes the shard count.
_ENDINGS = (".tfrecord", ".index", ".contents", ".json")
_REQUESTS = 16


class State(Protocol):
    """Where a conversion keeps sorted runs, shards and sidecars until it publishes them."""

    @property
    def place(self) -> AnyPath:
        """OUT/_state, as every worker sees it."""

    @property
    def folder(self) -> Path:
        """The folder of this machine that holds the runs and the sidecars."""

    def listing(self, scan: ListingScan) -> AbstractContextManager[WorkerTask]:
        """The task that lists pieces into this state, cleared of earlier runs; `folder` holds the runs after it."""

    def writing(self, task: WritingTask) -> AbstractContextManager[WorkerTask]:
        """The task that writes shards into this state; `folder` holds the sidecars of all shards after it."""

    def written_shards(self, plan: Plan, recorded: dict[str, Any]) -> set[str]:
        """The names of the shards of a plan that an earlier run finished; their sidecars are fetched."""


@contextlib.contextmanager
def open_state(output: AnyPath, *, fsync: bool = True) -> Iterator[State]:
    """The state of the conversion into an output; a new folder for it survives a power cut, where `fsync` is set."""
    if isinstance(output, Path):
        local = LocalState(output / STATE_NAME)
        make_folder(local.folder, fsync=fsync)
        yield local
        return
    state = StoreState(output / STATE_NAME)
    try:
        yield state
    finally:
        shutil.rmtree(state.folder, ignore_errors=True)


@dataclass(frozen=True)
class LocalState:
    """A state in a folder of this machine: nothing has to be fetched."""

    folder: Path

    @property
    def place(self) -> AnyPath:  # see State, as all below
        return self.folder

    @contextlib.contextmanager
    def listing(self, scan: ListingScan) -> Iterator[WorkerTask]:
        shutil.rmtree(scan.sorted_runs, ignore_errors=True)
        Path(scan.sorted_runs).mkdir(parents=True)
        yield ListingTask(scan)

    def writing(self, task: WritingTask) -> AbstractContextManager[WorkerTask]:
        return contextlib.nullcontext(task)

    def written_shards(self, plan: Plan, recorded: dict[str, Any]) -> set[str]:
        return {shard.name for shard in plan.shards if shard_is_written(self.folder, plan, shard.name, recorded)}


@dataclass(frozen=True)
class StoreState:
    """A state in a store, and a working folder of this process.

    Attributes:
      place: OUT/_state.
      run: a name of this run's own: a process that lives longer must not take the files of an earlier one.
    """

    place: StorePath
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def folder(self) -> Path:
        """The working folder, of this process alone; it goes with the process, or with `open_state`."""
        return Path(_working_folder(self.run).name)

    @contextlib.contextmanager
    def listing(self, scan: ListingScan) -> Iterator[WorkerTask]:  # see State, as the next two
        shutil.rmtree(scan.sorted_runs, ignore_errors=True)
        (self.place / "runs").remove_tree()
        yield StoreListingTask(scan, self)
        self.fetch_runs()

    @contextlib.contextmanager
    def writing(self, task: WritingTask) -> Iterator[WorkerTask]:
        yield StoreWritingTask(task, self)
        self._fetch_sidecars([shard.name for shard in task.plan.shards])

    def written_shards(self, plan: Plan, recorded: dict[str, Any]) -> set[str]:
        sizes = dict(objects_below(str(self.place)))
        finished = [shard.name for shard in plan.shards if all(f"{shard.name}{end}" in sizes for end in _ENDINGS)]
        self._fetch_sidecars(finished)
        stats = {name: find_stats(self.folder / f"{name}.json", recorded["plan"]) for name in finished}
        return {name for name, one in stats.items() if one and one.num_bytes == sizes[f"{name}.tfrecord"]}

    def fetch_runs(self) -> None:
        """Fetches all runs into the working folder, where they are not there yet."""
        runs = self.folder / "runs"
        if any(runs.glob("*.json")):
            return
        draft = Path(tempfile.mkdtemp(dir=self.folder))
        _fetch(list((self.place / "runs").iterdir()), draft)
        with contextlib.suppress(OSError):  # Another thread was faster.
            os.replace(draft, runs)

    def _fetch_sidecars(self, names: list[str]) -> None:
        """Fetches the sidecar, offsets and digests of shards, where they are not there yet."""
        wanted = [self.place / f"{name}{end}" for name in names for end in _ENDINGS[1:]]
        _fetch([path for path in wanted if not (self.folder / path.name).exists()], self.folder)

    def put_runs(self, folder: Path) -> None:
        """Puts the runs of a piece into the store, the table of each before the facts that make it count."""
        for path in sorted(folder.iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
            (self.place / "runs" / path.name).upload(path)

    def put_shard(self, name: str) -> None:
        """Puts a shard and its sidecar into the store, and removes the shard from this disk."""
        for end in _ENDINGS:
            path = self.folder / f"{name}{end}"
            (self.place / path.name).upload(path)
        (self.folder / f"{name}.tfrecord").unlink()


@functools.cache
def _working_folder(run: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f"tfpipe-{run[:8]}-")  # Removed with the object, when the process ends.


def _fetch(paths: list[StorePath], folder: Path) -> None:
    """Copies objects into a folder, several at once; each appears whole."""

    def fetch(path: StorePath) -> None:
        replace_file(folder / path.name, path.read_bytes(), fsync=False)

    with ThreadPoolExecutor(_REQUESTS) as pool:
        for _ in pool.map(fetch, paths):
            pass


# ---- the tasks of workers


@dataclass(frozen=True)
class StoreListingTask:
    """Lists pieces into a store; see workers.ListingTask.

    Attributes:
      scan: the source and the splits; its folder of runs is not used.
      state: where the runs go.
    """

    scan: ListingScan
    state: StoreState

    def run(self, item: tuple[int, Any]) -> None:
        """Lists the piece of that number."""
        with tempfile.TemporaryDirectory(prefix="tfpipe-runs-") as folder:
            list_piece(replace(self.scan, sorted_runs=folder), *item)
            self.state.put_runs(Path(folder))


@dataclass
class StoreWritingTask:
    """Writes shards into a store; see workers.WritingTask.

    Attributes:
      task: the job, its plan and source; its state folder is not used.
      state: where the shards go.
    """

    task: WritingTask
    state: StoreState
    _here: WritingTask | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_here": None}

    def run(self, item: int) -> None:
        """Writes the shard of that number."""
        if self._here is None:
            self.state.fetch_runs()
            # Only the store has to outlive a power cut, not this folder.
            job = replace(self.task.job, fsync=False)
            self._here = replace(self.task, job=job, state=str(self.state.folder))
        self._here.run(item)
        self.state.put_shard(self.task.plan.shards[item].name)
