"""Conversions on Dask: a LocalCluster of two worker processes writes what the default runner writes, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pictures import KINDS, fill_folder
from processes import digests_of

pytestmark = pytest.mark.engines
distributed = pytest.importorskip("distributed")

DASK_PATH = "apache_beam.runners.dask.dask_runner.DaskRunner"
PAYLOADS = {
    "raw": ["--payload", "raw"],
    "raw, decoded once": ["--payload", "raw", "--verify", "decode"],
    "decoded": ["--payload", "decoded", "--dtype", "uint8"],
    "decoded to one size": ["--payload", "decoded", "--image_size", "24,24"],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes of one thread each."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local:
        yield local


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, and some that are refused while listing and while reading."""
    folder = fill_folder(tmp_path_factory.mktemp("images") / "in", ("cat", "dog", "emu"), 3 * len(KINDS), KINDS)
    (folder / "cat/zero.jpg").touch()
    (folder / "dog/cut.jpg").write_bytes(KINDS[".jpg"](1)[:-2])
    return folder


def convert(images: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(images), "--output", str(output)]
    command += ["--target_bytes", "8KB", "--max_rejected", "50%", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tasks_of_workers(cluster: Any) -> dict[str, int]:
    """How many tasks each worker process has run."""
    with distributed.Client(cluster) as client:
        return client.run(lambda dask_worker: dask_worker.state.executed_count)


@pytest.mark.parametrize("options", PAYLOADS.values(), ids=PAYLOADS)
def test_two_worker_processes_write_what_the_default_runner_writes(
    cluster: Any, images: Path, tmp_path: Path, options: list[str]
) -> None:
    before = tasks_of_workers(cluster)
    here = convert(images, tmp_path / "here", *options)
    there = convert(
        images,
        tmp_path / "there",
        *options,
        "--",
        "--runner=DaskRunner",
        f"--dask_client_address={cluster.scheduler_address}",
    )
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    after = tasks_of_workers(cluster)
    assert digests_of(tmp_path / "there") == digests_of(tmp_path / "here")
    assert len(after) == 2
    assert all(after[worker] > before[worker] for worker in after), (before, after)


@pytest.mark.parametrize("runner", [DASK_PATH, "daskrunner", "dask"])
def test_a_runner_is_named_by_its_path_or_in_short(images: Path, tmp_path: Path, runner: str) -> None:
    """Without an address Dask starts a LocalCluster of its own for each of the two graphs."""
    done = convert(images, tmp_path / "there", "--limit", "60", "--", f"--runner={runner}")
    assert done.returncode == 0, done.stderr
    convert(images, tmp_path / "here", "--limit", "60")
    assert digests_of(tmp_path / "there") == digests_of(tmp_path / "here")


def test_a_problem_of_a_worker_is_one_line(cluster: Any, images: Path, tmp_path: Path) -> None:
    # A folder occupies the path of the first shard's offsets.
    (tmp_path / "_state" / "train-00000-of-00001.index").mkdir(parents=True)
    address = f"--dask_client_address={cluster.scheduler_address}"
    flags = ["--resume", "--target_bytes", "64MB", "--", "--runner=DaskRunner", address]
    done = convert(images, tmp_path, *flags)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "train-00000-of-00001.index: Is a directory." in done.stderr
