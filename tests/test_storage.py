"""Paths on disk and in stores, and files that are replaced whole or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tfpipe.errors import UsageError
from tfpipe.storage import StorePath, replace_file, to_path


def test_a_url_becomes_a_store_path_and_everything_else_a_path_on_disk() -> None:
    assert to_path("gs://bucket/photos/") == StorePath("gs://bucket/photos") == to_path(StorePath("gs://bucket/photos"))
    assert to_path("file:///data/photos") == to_path("/data/photos") == Path("/data/photos")
    with pytest.raises(UsageError, match="knows no store 'ftp'"):
        to_path("ftp://host/photos")


@pytest.mark.parametrize("fsync", [True, False])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    path = tmp_path / "dataset.json"
    replace_file(path, b"old", fsync=fsync)
    replace_file(path, b"new", fsync=fsync)
    assert path.read_bytes() == b"new"

    def fail(*_: Any) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        replace_file(path, b"newer", fsync=fsync)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_file_that_is_to_survive_a_power_cut_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    replace_file(tmp_path / "sidecar.json", b"{}", fsync=False)
    assert len(synced) == 0
    replace_file(tmp_path / "dataset.json", b"{}")
    assert len(synced) == 1


def test_the_draft_of_a_killed_writer_is_overwritten_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            replace_file(tmp_path / "dataset.json", b"half")
    assert len(list(tmp_path.iterdir())) == 1
    replace_file(tmp_path / "dataset.json", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_several_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    contents = [bytes([number]) * 1000 for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: replace_file(path, data, fsync=False, shared=True), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
