"""A conversion in a store through a real driver: s3fs against a server of this machine that speaks S3 (moto).

Run with `make engines`; it takes s3fs and moto[server].
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

import s3fs
from conversions import KilledError, fail_at
from pictures import files_of, fill_folder

from beam_jobs import publish as publish_module
from beam_jobs.convert import Outcome, convert
from beam_jobs.engines.locks import LOCK_NAME
from beam_jobs.job import Job
from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import load_manifest
from tfpipe.maintenance.check import check_dataset
from tfpipe.storage import to_path

pytestmark = pytest.mark.engines

BUCKET = "tfpipe-test"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket; the driver finds its server through the environment, as a user would say it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        names = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1"}.items():
                patch.setenv(name, value)
            _wait_for(endpoint)
            s3fs.S3FileSystem().mkdir(BUCKET)
            yield f"s3://{BUCKET}"
        server.terminate()


def _wait_for(endpoint: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(endpoint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_folder(tmp_path_factory.mktemp("s3"), ("cat", "dog"), 15)


def run(source: Any, output: Any, **options: Any) -> Outcome:
    return convert(Job(input=str(source), output=str(output), **{"target_bytes": 8_000, **options}))


def objects(url: str) -> dict[str, bytes]:
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    top = url.removeprefix("s3://")
    return {path[len(top) + 1 :]: fs.cat_file(path) for path in fs.find(top)}


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"payload": "decoded", "dtype": "uint8"}])
def test_a_bucket_gives_and_gets_the_bytes_of_a_folder(
    bucket: str, folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    s3fs.S3FileSystem().put(f"{folder}/", f"{BUCKET}/in", recursive=True)
    out = f"{bucket}/{tmp_path.name}"
    run(folder, tmp_path / "here", **options)
    run(f"{bucket}/in", out, **options)
    assert objects(out) == files_of(tmp_path / "here")
    assert check_dataset(load_manifest(out)) == []
    again = run(f"{bucket}/in", out, resume=True, **options)
    assert again.resumed == len(again.plan.shards)


def test_a_run_that_dies_is_resumed_and_an_old_dataset_replaced(bucket: str, folder: Path, tmp_path: Path) -> None:
    out = f"{bucket}/resumed"
    run(folder, out, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish_module, "save_manifest", fail_at(0, publish_module.save_manifest))
        with pytest.raises(KilledError):
            run(folder, out, overwrite=True)
    assert load_manifest(out).made_by["options"]["seed"] == 4
    outcome = run(folder, out, resume=True)
    assert outcome.resumed == len(outcome.plan.shards)
    run(folder, tmp_path / "here")
    assert objects(out) == files_of(tmp_path / "here")


def test_of_two_writers_the_second_is_refused(bucket: str, folder: Path) -> None:
    lock = to_path(f"{bucket}/locked") / LOCK_NAME
    lock.create_bytes(json.dumps({"host": "elsewhere", "process": 7, "since": "then"}).encode())
    with pytest.raises(FileExistsError):
        lock.create_bytes(b"second")
    with pytest.raises(SetupError, match="process 7 on elsewhere, since then"):
        run(folder, f"{bucket}/locked")
    lock.unlink()
    run(folder, f"{bucket}/locked")


def test_a_killed_process_leaves_nothing_that_a_reader_would_take(bucket: str, folder: Path, tmp_path: Path) -> None:
    out = f"{bucket}/killed"
    code = (
        "import sys, time; from beam_jobs.convert import Job, convert; from tfpipe.storage import StorePath\n"
        "real = StorePath.upload; StorePath.upload = lambda self, file: (real(self, file), time.sleep(0.1))\n"
        f"convert(Job(input={str(folder)!r}, output={out!r}, target_bytes=8_000))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    while sum("-of-" in name and name.endswith(".json") for name in fs.find(out)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(FileNotFoundError, match="run it again with --resume"):
        load_manifest(out)
    assert run(folder, out, resume=True).resumed >= 1
    run(folder, tmp_path / "here")
    assert objects(out) == files_of(tmp_path / "here")


def test_a_bucket_that_is_not_there_is_one_sentence(bucket: str, folder: Path) -> None:
    with pytest.raises(SetupError, match="^s3://no-such-bucket-here/out/_lock.json can't be written: The specified"):
        run(folder, "s3://no-such-bucket-here/out")
    with pytest.raises(UsageError, match="No input at 's3://no-such-bucket-here/in'"):
        run("s3://no-such-bucket-here/in", folder)
