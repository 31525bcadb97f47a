"""A dataset in a store is written by the contract of one on disk: the same bytes, resumable, one writer, no mix."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from containers import JPEGS, write_hub
from fsspec.implementations.memory import MemoryFileSystem
from pictures import files_of, write_listing
from stores import LostError, leave_lock_of_a_dead_process, objects_of, upload, watch_changes
from stores import store as store

import tfpipe
from beam_jobs.convert import Outcome, convert
from beam_jobs.engines.locks import LOCK_NAME
from beam_jobs.job import Job
from tfpipe import cli
from tfpipe.errors import DataError, SetupError, UsageError
from tfpipe.format.manifest import MANIFEST_NAME, Manifest, load_manifest
from tfpipe.maintenance.check import check_dataset
from tfpipe.maintenance.repair import repair
from tfpipe.storage import StorePath, to_path

TARGET = 8_000
WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def run(source: Path | str, output: Path | str, **options: Any) -> Outcome:
    return convert(Job(input=str(source), output=str(output), **{"target_bytes": TARGET, **options}))


# ---- the same bytes


@pytest.mark.parametrize(
    "options",
    [{}, {"threads": 3, "verify": "decode"}, {"payload": "decoded", "dtype": "uint8", "target_bytes": 40_000}],
    ids=["raw", "verified", "decoded"],
)
def test_a_store_gets_the_bytes_of_a_folder(photos: Path, tmp_path: Path, store: str, options: dict[str, Any]) -> None:
    here = run(photos, tmp_path / "here", **options)
    there = run(photos, f"{store}/out/", **options)
    assert objects_of(f"{store}/out") == files_of(tmp_path / "here")
    assert there.manifest == here.manifest
    assert there.manifest is not None
    assert there.manifest.directory == StorePath(f"{store}/out")


def test_images_inside_parquet_reach_a_store(tmp_path: Path, store: str) -> None:
    source = write_hub(tmp_path / "hub.parquet", JPEGS)
    run(source, tmp_path / "here")
    run(source, f"{store}/out")
    assert objects_of(f"{store}/out") == files_of(tmp_path / "here")


def test_workers_with_nothing_in_common_but_a_store_give_the_same_bytes(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    # local:// is the disk behind fsspec: a store that other processes see, and that knows no renames here.
    outcome = run(photos, f"local://{tmp_path}/out", beam_args=WORKERS, threads=2)
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)
    assert outcome.resumed == 0


def test_a_file_url_is_a_folder_of_this_machine(photos: Path, raw_dataset: Manifest, tmp_path: Path) -> None:
    outcome = run(photos, f"file://{tmp_path}/out")
    assert files_of(tmp_path / "out") == files_of(raw_dataset.directory)
    assert outcome.manifest is not None
    assert outcome.manifest.directory == tmp_path / "out"


def test_a_dry_run_leaves_a_store_as_it_is(photos: Path, raw_dataset: Manifest, store: str) -> None:
    outcome = run(photos, f"{store}/out", dry_run=True)
    assert objects_of(store) == {}
    assert outcome.plan.listed == 42


# ---- resume and overwrite


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
def test_a_run_cut_off_at_any_change_of_the_store_is_resumed_to_the_same_bytes(
    photos: Path, store: str, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    options = {"target_bytes": 40_000}
    expected = {}
    cut, changes = 0, 1
    while cut < changes:
        out = f"{store}/out{cut}"
        made: list[int] = []

        def stop(number: int, made: list[int] = made, cut: int = cut) -> None:
            made.append(number)
            # From here on the process is dead: nothing that it tidies up reaches the store.
            if number >= cut:
                raise LostError

        with monkeypatch.context() as patch:
            watch_changes(patch, *((lambda _: None, stop) if landed else (stop, lambda _: None)))
            with pytest.raises((SetupError, RuntimeError)):
                run(photos, out, **options)
        if not expected:
            with monkeypatch.context() as patch:
                watch_changes(patch, lambda _: None, made.append)
                run(photos, f"{store}/whole", **options)
            expected, changes = objects_of(f"{store}/whole"), len(set(made))
        leave_lock_of_a_dead_process(out)
        outcome = run(photos, out, resume=True, **options)
        assert objects_of(out) == expected
        assert outcome.manifest is not None
        # The first ones, before anything is stored, then one in eight.
        cut += 1 if cut < 2 else 8
    assert changes > 20


def test_a_resumed_run_writes_only_what_is_missing(photos: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sidecars = MemoryFileSystem.put_file, []

    def put(self: Any, here: str, there: str, **options: Any) -> None:
        if there.endswith(".json") and "-of-" in there:
            if len(sidecars) == 3:
                raise LostError("the network is gone")
            sidecars.append(there)
        real(self, here, there, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", put)
        with pytest.raises(SetupError, match=r"\.json: LostError: the network is gone\.$"):
            run(photos, f"{store}/out")
    with pytest.raises(FileNotFoundError, match="its conversion has not finished: run it again with --resume"):
        load_manifest(f"{store}/out")
    with pytest.raises(UsageError, match="is not empty; --resume goes on with the unfinished conversion there"):
        run(photos, f"{store}/out")
    with pytest.raises(UsageError, match="holds an unfinished conversion of another kind: seed was 0 and is 1"):
        run(photos, f"{store}/out", resume=True, seed=1)
    assert run(photos, f"{store}/out", resume=True).resumed == 3
    again = run(photos, f"{store}/out", resume=True)
    assert again.resumed == len(again.plan.shards)
    with pytest.raises(UsageError, match="holds another dataset: seed was 0 and is 1; --overwrite replaces it"):
        run(photos, f"{store}/out", resume=True, seed=1)


def test_overwriting_in_a_store_shows_the_old_or_the_new_at_every_moment(
    photos: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run(photos, f"{store}/out").manifest
    new = run(photos, f"{store}/new", seed=5).manifest
    seen = []

    def look(_: int) -> None:
        manifest = load_manifest(f"{store}/out")
        # Between two puts the new offsets are beside the old manifest; readers see that by their digest.
        assert {problem.file for problem in check_dataset(manifest, quick=True)} <= {"records.index"}
        seen.append("old" if manifest == old else "new" if manifest == new else "mixed")

    with monkeypatch.context() as patch:
        watch_changes(patch, look, look)
        run(photos, f"{store}/out", overwrite=True, seed=5)
    assert sorted(set(seen)) == ["new", "old"]
    assert seen == sorted(seen, reverse=True)
    assert objects_of(f"{store}/out") == objects_of(f"{store}/new")


SLOWLY = """
import sys, time
from beam_jobs.convert import Job, convert
from tfpipe.storage import StorePath
real = StorePath.upload
StorePath.upload = lambda self, file: (real(self, file), time.sleep(0.05))
convert(Job(input=sys.argv[1], output=sys.argv[2], target_bytes=int(sys.argv[3])))
"""


def test_a_process_that_is_killed_leaves_a_lock_that_the_next_run_takes_over(
    photos: Path, raw_dataset: Manifest, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-c", SLOWLY, str(photos), f"local://{output}", str(TARGET)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(output.glob("_state/*-of-*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(
        SetupError, match=f"Another conversion is writing to local://{output}: process {process.pid} on"
    ):
        run(photos, f"local://{output}", resume=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (output / LOCK_NAME).exists()
    outcome = run(photos, f"local://{output}", resume=True)
    assert outcome.resumed >= 1
    assert files_of(output) == files_of(raw_dataset.directory)


# ---- one writer


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot": "x"}, {"space": "pid:[1]"}])
def test_a_lock_of_another_machine_is_not_touched_and_says_whose_it_is(
    photos: Path, store: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", _fail)
        patch.setattr(MemoryFileSystem, "rm_file", _fail)
        with pytest.raises(SetupError):
            run(photos, f"{store}/out")
    leave_lock_of_a_dead_process(f"{store}/out")
    lock = to_path(f"{store}/out") / LOCK_NAME
    owner = {**json.loads(lock.read_text()), **change}
    lock.write_bytes(json.dumps(owner).encode())
    sentence = f"process {owner['process']} on {owner['host']}, since {owner['since']}; wait for it, or choose another"
    with pytest.raises(SetupError) as caught:
        run(photos, f"{store}/out", resume=True)
    assert sentence in str(caught.value)
    assert f"If it was killed, remove {lock}, and go on with --resume." in str(caught.value)
    assert json.loads(lock.read_text()) == owner
    lock.unlink()
    assert run(photos, f"{store}/out", resume=True).manifest is not None
    assert not lock.exists()


def _fail(*_: Any, **__: Any) -> None:
    raise PermissionError(13, "403 the bucket is read only\nfor you")


# ---- errors


@pytest.mark.parametrize("method", ["pipe_file", "put_file", "cp_file"])
def test_an_error_of_the_store_is_one_line_and_exit_3(
    photos: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tfpipe", "convert", "--input", str(photos), "--output", f"{store}/out"])
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, method, _fail)
        with pytest.raises(SystemExit) as caught:
            cli.main()
    assert caught.value.code == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"tfpipe: error: {store}/out/")
    assert line.endswith(": PermissionError: [Errno 13] 403 the bucket is read only.")


def test_an_output_in_a_store_that_would_harm_something_is_refused(photos: Path, store: str) -> None:
    to_path(f"{store}/out/thesis.tex").write_bytes(b"mine")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is not empty; --resume verifies it, --overwrite replaces a dataset there"):
        run(photos, f"{store}/out")
    with pytest.raises(UsageError, match="is a file; it takes a folder"):
        run(photos, f"{store}/out/thesis.tex")
    upload(photos, f"{store}/in")
    for output in (f"{store}/in", f"{store}/in/", f"{store}/in/deeper"):
        with pytest.raises(UsageError, match="is inside --input"):
            run(f"{store}/in", output, overwrite=True)
    run(photos, f"{store}/out", overwrite=True)
    assert objects_of(f"{store}/out")["thesis.tex"] == b"mine"


def test_a_refusal_at_the_start_leaves_nothing_in_a_store(tmp_path: Path, store: str) -> None:
    write_listing(tmp_path / "list.csv", [("uri", "label")])
    with pytest.raises(UsageError, match="lists no images"):
        run(tmp_path / "list.csv", f"{store}/out")
    assert objects_of(store) == {}


def test_more_refused_than_allowed_leaves_the_list_in_the_store(photos: Path, tmp_path: Path, store: str) -> None:
    for i in range(3):
        (tmp_path / "in/cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/cat/{i}.jpg").write_bytes(JPEGS["a/000.jpg"] if i else b"404")
    with pytest.raises(DataError, match=f"All are in {store}/out/rejected.jsonl"):
        run(tmp_path / "in", f"{store}/out")
    assert b"not_an_image" in objects_of(f"{store}/out")["rejected.jsonl"]
    assert run(tmp_path / "in", f"{store}/out", resume=True, max_rejected="1").manifest is not None


# ---- reading


def test_a_dataset_in_a_store_is_loaded_checked_and_inspected(
    raw_dataset: Manifest, photos: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(photos, f"{store}/out")
    for url in (f"{store}/out", f"{store}/out/", f"{store}/out/{MANIFEST_NAME}"):
        assert tfpipe.load_manifest(url) == raw_dataset
    manifest = load_manifest(f"{store}/out")
    for split in manifest.splits:
        assert [part.tolist() for part in manifest.offsets(split)] == [p.tolist() for p in raw_dataset.offsets(split)]
    for verb, words in (("check", "42 records: no problems"), ("inspect", "42 raw records")):
        monkeypatch.setattr(sys, "argv", ["tfpipe", verb, f"{store}/out"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert not caught.value.code
        assert words in capsys.readouterr().out
    shard = manifest.splits["train"].shards[1]
    place = manifest.shard_path(shard)
    data = bytearray(place.read_bytes())
    data[500] ^= 1
    place.write_bytes(bytes(data))
    (problem,) = check_dataset(manifest)
    assert (problem.file, problem.record) == (shard.path, 0)
    place.unlink()
    assert [str(problem) for problem in check_dataset(manifest)] == [f"{shard.path}: the file is missing."]
    (place.parent / "train-9.tfrecord").write_bytes(b"x")
    assert "no reader opens it" in str(check_dataset(manifest)[-1])
    with pytest.raises(FileNotFoundError, match="tfpipe convert writes one"):
        load_manifest(f"{store}/nothing")
    with pytest.raises(UsageError, match="is in a store; repair reads a dataset on this machine: copy it here first"):
        repair(f"{store}/out", "elsewhere")
    with pytest.raises(UsageError, match="is in a store; index reads files on this machine: copy them here first"):
        tfpipe.index(f"{store}/out")


def test_training_from_a_store_that_tensorflow_does_not_know_is_refused(photos: Path, store: str) -> None:
    run(photos, f"{store}/out")
    with pytest.raises(
        ValueError, match=r"TensorFlow reads records from the stores \['gs'\], not from memory://; copy"
    ):
        tfpipe.make_dataset(f"{store}/out", batch_size=4)
