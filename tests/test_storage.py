"""Paths on disk and in stores, and files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tfpipe.errors import UsageError
from tfpipe.storage import (
    StorePath,
    draft_path,
    make_folder,
    remove_drafts,
    rename_drafts,
    replace_file,
    sync_path,
    to_path,
)


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
        raise OSError(errno.EIO, "power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        replace_file(path, b"newer", fsync=fsync)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are synced, in order."""
    paths = list[str]()
    monkeypatch.setattr(os, "fsync", lambda handle: paths.append(os.readlink(f"/proc/self/fd/{handle}")))
    return paths


def test_the_error_of_a_name_that_is_taken_by_a_folder_names_it(tmp_path: Path) -> None:
    (tmp_path / "dataset.json" / "sub").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        replace_file(tmp_path / "dataset.json", b"{}")
    assert caught.value.filename == str(tmp_path / "dataset.json")
    assert os.listdir(tmp_path) == ["dataset.json"]


def test_only_a_file_that_is_to_survive_a_power_cut_waits_for_the_disk(tmp_path: Path, synced: list[str]) -> None:
    replace_file(tmp_path / "sidecar.json", b"{}", fsync=False)
    assert synced == []
    replace_file(tmp_path / "dataset.json", b"{}")
    draft, folder = synced
    assert draft.startswith(f"{tmp_path}/.dataset.json.")
    assert folder == str(tmp_path)


def test_drafts_get_their_names_between_their_bytes_and_the_folder(tmp_path: Path, synced: list[str]) -> None:
    drafts = {draft_path(tmp_path / name): tmp_path / name for name in ("a", "b")}
    for draft in drafts:
        draft.write_bytes(b"1")
    rename_drafts(drafts)
    assert sorted(synced[:2]) == sorted(map(str, drafts))
    assert synced[2:] == [str(tmp_path)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_new_folder_is_named_on_the_disk_in_each_folder_above(tmp_path: Path, synced: list[str]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert synced == [f"{tmp_path}/a", f"{tmp_path}"]
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "c", fsync=False)
    assert len(synced) == 2
    assert (tmp_path / "c").is_dir()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO])
def test_a_folder_that_the_file_system_can_not_sync_is_no_error_but_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        sync_path(tmp_path / "file")
    assert raised.value.filename == str(tmp_path / "file")
    with pytest.raises(OSError, match="error") if number == errno.EIO else contextlib.nullcontext():
        sync_path(tmp_path)


class Killed(BaseException):
    """Stands for kill -9."""


def leave_draft(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The draft of a writer that is killed before the rename."""

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    before = set(path.parent.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            replace_file(path, b"half")
    (left,) = set(path.parent.iterdir()) - before
    return left


def test_every_draft_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)  # as in two containers
    left = {leave_draft(tmp_path / "dataset.json", monkeypatch) for _ in range(20)}
    assert len(left) == 20
    assert not (tmp_path / "dataset.json").exists()


def test_drafts_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = ["a.draft", ".a.draft", ".a.0123456789abcdef", "a.0123456789abcdef.draft", ".a.0123456789ABCDEF.draft"]
    for name in others:
        (tmp_path / name).touch()
    old, new = leave_draft(tmp_path / "a", monkeypatch), leave_draft(tmp_path / "a", monkeypatch)
    os.utime(old, (time.time() - 5000,) * 2)
    remove_drafts(tmp_path, older_than=4000)
    assert (old.exists(), new.exists()) == (False, True)
    remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    remove_drafts(tmp_path / "missing")


def test_several_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    contents = [bytes([number]) * 1000 for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: replace_file(path, data, fsync=False), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
