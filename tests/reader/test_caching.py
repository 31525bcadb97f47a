"""Caches: keyed by data and settings, safe after a kill and beside another process, refused where they don't fit."""

import fcntl
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tfpipe.format.manifest import load_manifest
from tfpipe.reader import caching
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions

SIZE = (6, 8)


def a_dataset(manifest, image_size=SIZE, **options):
    return make_dataset(manifest, batch_size=4, image_size=image_size, labels=None, options=ReadOptions(**options))


def keys(dataset):
    return sorted(key for batch in dataset for key in batch["key"].numpy())


def folders(path):
    return sorted(path.iterdir())


def test_settings_that_change_what_is_kept_change_the_folder(raw_dataset, tmp_path):
    disk = {"cache": "disk", "cache_dir": str(tmp_path)}
    a_dataset(raw_dataset, **disk)
    a_dataset(raw_dataset, **disk, parallel_calls=1, prefetch=0, shuffle="buffer", shuffle_buffer=7)
    assert len(folders(tmp_path)) == 1
    a_dataset(raw_dataset, (6, 7), **disk)
    a_dataset(raw_dataset, **disk, cache_place="batches")
    a_dataset(raw_dataset, **disk, on_error="skip")
    assert len(folders(tmp_path)) == 4


@pytest.mark.parametrize("place", ["records", "batches"])
@pytest.mark.parametrize("changed", ["tfpipe", "tensorflow"])
def test_a_cache_of_another_version_is_not_read(raw_dataset, tmp_path, monkeypatch, place, changed):
    """What is kept was decoded by that version, whose pixels may be others."""
    options = {"cache": "disk", "cache_dir": str(tmp_path), "cache_place": place}
    list(a_dataset(raw_dataset, **options))
    assert len(folders(tmp_path)) == 1
    if changed == "tfpipe":
        monkeypatch.setattr(caching, "__version__", "0.0.7")
    else:
        monkeypatch.setattr(caching.tf.version, "VERSION", "2.0.0")
    list(a_dataset(raw_dataset, **options))
    assert len(folders(tmp_path)) == 2


def test_a_complete_disk_cache_is_read_by_the_next_run_without_the_shards(raw_dataset, tmp_path, monkeypatch):
    disk = {"cache": "disk", "cache_dir": str(tmp_path)}
    first = keys(a_dataset(raw_dataset, **disk))
    gc.collect()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("data*")}
    assert keys(a_dataset(raw_dataset, **disk)) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("data*")} == before


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"cache": "memory"},
        {"cache": "memory", "cache_place": "batches"},
        {"cache": "memory", "shuffle": "none"},
        {"cache": "disk", "shuffle": "buffer", "shuffle_buffer": 2},
        {"cache": "disk", "shuffle": "none", "cache_place": "batches"},
    ],
    ids=str,
)
def test_every_cache_is_complete_after_one_epoch(raw_dataset, tmp_path, options, training):
    """Whether or not the last batch is full: 35 records in batches of 4, or of 5."""
    for size in (4, 5):
        manifest = load_manifest(shutil.copytree(raw_dataset.directory, tmp_path / f"copy{size}"))
        place = {"cache_dir": tmp_path / f"cache{size}"} if options["cache"] == "disk" else {}
        settings = ReadOptions(**options, **place)
        dataset = make_dataset(manifest, batch_size=size, image_size=SIZE, training=training, options=settings)
        count = len(list(dataset))
        for shard in manifest.split("train").shards:
            manifest.shard_path(shard).unlink()
        assert len(list(dataset)) == count


FILL = """
import sys, time
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
# Unshuffled: a buffer of the whole split would fill the cache with the first batch.
options = ReadOptions(
    cache="disk", cache_dir=sys.argv[2], shuffle="none", prefetch=0, parallel_calls=1, parallel_reads=1
)
dataset = make_dataset(sys.argv[1], batch_size=4, image_size=(6, 8), labels=None, options=options)
batches = iter(dataset)
next(batches)
print("begun", flush=True)
time.sleep(60)
"""


@pytest.fixture
def filling(raw_dataset, tmp_path):
    """Another process, in the middle of filling a cache in tmp_path."""
    command = [sys.executable, "-c", FILL, str(raw_dataset.directory), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def test_a_second_process_reads_without_the_cache_that_a_first_one_fills(raw_dataset, tmp_path, filling, caplog):
    disk = {"cache": "disk", "cache_dir": str(tmp_path)}
    with caplog.at_level(logging.WARNING, "tfpipe"):
        dataset = a_dataset(raw_dataset, **disk)
    assert "Another process is filling the cache" in caplog.text
    assert len(keys(dataset)) == raw_dataset.num_records("train") // 4 * 4
    filling.send_signal(signal.SIGKILL)
    filling.wait()
    # The lock went with the process; what it left is cleared, and the cache filled.
    assert len(keys(a_dataset(raw_dataset, **disk))) == raw_dataset.num_records("train") // 4 * 4
    (folder,) = folders(tmp_path)
    assert (folder / "data.index").exists()


def test_the_lock_is_held_while_the_process_lives(raw_dataset, tmp_path):
    dataset = a_dataset(raw_dataset, cache="disk", cache_dir=str(tmp_path))
    gc.collect()
    (folder,) = folders(tmp_path)
    with open(folder / "lock") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    keys(dataset)


@pytest.mark.parametrize("cache_place", ["records", "batches"])
def test_a_memory_cache_beyond_the_budget_is_refused_with_both_figures(raw_dataset, cache_place):
    records = (
        raw_dataset.num_records("train") // 4 * 4 if cache_place == "batches" else raw_dataset.num_records("train")
    )
    least = records * 6 * 8 * 3
    with pytest.raises(ValueError, match=r"The cache would take \d+ MB, and memory has 0 MB free.*cache='disk'"):
        a_dataset(raw_dataset, cache="memory", cache_place=cache_place, ram_budget=least // 2)
    a_dataset(raw_dataset, cache="memory", cache_place=cache_place, ram_budget=least * 40)


def test_a_memory_cache_beyond_the_free_memory_is_refused_without_a_budget_too(raw_dataset, monkeypatch):
    monkeypatch.setattr(caching, "free_memory", lambda: 1000)
    for budget in (None, 10**12):
        with pytest.raises(ValueError, match=r"The cache would take \d+ MB, and memory has 0 MB free"):
            a_dataset(raw_dataset, cache="memory", ram_budget=budget)


def test_a_disk_cache_beyond_the_disk_is_refused(raw_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda _: caching.shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ValueError, match=r"has 0 MB free, of which it may take 80%: use another cache_dir"):
        a_dataset(raw_dataset, cache="disk", cache_dir=str(tmp_path))
