"""Laws of whole streams: the same bytes at any parallelism and on any hosts, every key once, nothing that grows."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.plan import plan_reading

SIZE = (6, 8)


def stream(manifest, batch_size=2, iterations=1, **options):
    """(key, pixels) of every record, batch by batch."""
    dataset = make_dataset(
        manifest, batch_size=batch_size, image_size=SIZE, labels=None, seed=2, options=ReadOptions(**options)
    )
    return [
        list(zip(batch["key"].numpy(), [image.tobytes() for image in batch["image"].numpy()], strict=True))
        for _ in range(iterations)
        for batch in dataset
    ]


def digest(batches):
    return hashlib.sha256(repr(batches).encode()).hexdigest()


@pytest.mark.parametrize("block", [1, 4])
def test_the_stream_is_the_same_at_any_parallelism_and_on_any_hosts(raw_dataset, block):
    blocks = {"block_records": block, "window_records": 12}
    whole = stream(raw_dataset, **blocks)
    expected = digest(whole)
    for parallel in (1, 2, 8):
        assert digest(stream(raw_dataset, parallel_reads=parallel, parallel_calls=parallel, **blocks)) == expected
    for hosts in (2, 4):
        shares = [stream(raw_dataset, host_index=host, host_count=hosts, **blocks) for host in range(hosts)]
        merged = [batch for together in zip(*shares, strict=True) for batch in together]
        assert digest(merged) == digest(whole[: len(merged)])
        assert len(whole) - len(merged) < hosts


def test_windows_are_the_same_where_a_store_is_asked_for_several_parts_at_once(raw_dataset, monkeypatch):
    blocks = {"block_records": 2, "window_records": 12}
    expected = stream(raw_dataset, **blocks)
    monkeypatch.setattr(
        "tfpipe.reader.dataset.plan_reading", lambda request: replace(plan_reading(request), seeks_at_once=3)
    )
    assert stream(raw_dataset, **blocks) == expected


@pytest.mark.parametrize("block", [1, 4])
def test_batches_are_the_same_from_pieces_of_any_size(raw_dataset, block, monkeypatch):
    options = {"batch_size": 6, "block_records": block, "window_records": 12}
    expected = stream(raw_dataset, **options)
    for bytes_a_piece, records in ((1, 1), (4 * _bytes_a_record(raw_dataset), 3)):
        monkeypatch.setattr("tfpipe.reader.plan._PIECE_FILE_BYTES", bytes_a_piece)
        found = []
        monkeypatch.setattr(
            "tfpipe.reader.dataset.plan_reading",
            lambda request, found=found: found.append(plan_reading(request)) or found[0],
        )
        assert stream(raw_dataset, **options) == expected
        assert found[0].piece_records == records


def _bytes_a_record(manifest):
    split = manifest.split("train")
    return sum(shard.num_bytes for shard in split.shards) // split.num_records


def test_threads_on_one_dataset_read_epochs_of_their_own(raw_dataset):
    def made():
        return make_dataset(raw_dataset, batch_size=4, image_size=SIZE, labels=None, transforms=[with_seed], seed=2)

    def read(dataset):
        batches = list(dataset)
        (epoch,) = {int(batch["epoch_of"]) for batch in batches}
        return epoch, digest([(batch["key"].numpy().tolist(), batch["seed"].numpy().tolist()) for batch in batches])

    alone, shared = made(), made()
    expected = [read(alone) for _ in range(24)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: read(shared), range(24)))
    assert sorted(found) == expected


def with_seed(batch, seed):
    return {**batch, "seed": seed, "epoch_of": batch["epoch"]}


@settings(max_examples=6)
@given(st.integers(1, 12), st.sampled_from([1, 2, 5]), st.booleans())
def test_every_key_comes_once_an_epoch(raw_dataset, batch_size, block, training):
    dataset = make_dataset(
        raw_dataset,
        batch_size=batch_size,
        image_size=SIZE,
        labels=None,
        training=training,
        options=ReadOptions(block_records=block, window_records=10),
    )
    keys = [key for batch in dataset for key in batch["key"].numpy()]
    assert len(keys) == len(set(keys))
    records = raw_dataset.num_records("train")
    assert len(keys) == (records // batch_size * batch_size if training else records)


def test_opening_and_dropping_datasets_leaves_no_file_open(raw_dataset):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    def open_one():
        next(iter(make_dataset(raw_dataset, batch_size=2, image_size=SIZE)))

    open_one()
    before = open_files()
    for _ in range(5):
        open_one()
    assert open_files() <= before + 2


@pytest.mark.faults
def test_two_hundred_datasets_leave_no_file_open_and_twenty_epochs_no_memory(raw_dataset):
    """Minutes: make faults."""
    for _ in range(2):
        next(iter(make_dataset(raw_dataset, batch_size=2, image_size=SIZE)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        next(iter(make_dataset(raw_dataset, batch_size=2, image_size=SIZE)))
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    dataset = make_dataset(raw_dataset, batch_size=2, image_size=SIZE)
    sizes = []
    for _ in range(25):
        for _ in dataset:
            pass
        sizes.append(_resident_bytes())
    slope = np.polyfit(range(20), sizes[5:], 1)[0]
    assert slope < 1e6, f"{slope / 1e6:.2f} MB an epoch"


def _resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
