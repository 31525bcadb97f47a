"""The plan of a stream: every choice of the pipeline, made without TensorFlow."""

import dataclasses
from pathlib import Path

import pytest

from tfpipe.format.manifest import Manifest, Shard, Split
from tfpipe.format.schema import ImageSpec, record_schema
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.plan import plan_reading
from tfpipe.reader.request import Request

PHOTOGRAPH, PIXELS = 20_000, 224 * 224 * 3


def a_request(records=10_000, record_bytes=PHOTOGRAPH, *, compression=None, made_by=None, folder="photos", **changes):
    """128 photographs a batch, 224 x 224, in two shards that tfpipe wrote."""
    shards = tuple(
        Shard(
            f"train-{n}",
            records // 2,
            records // 2 * record_bytes,
            "",
            None if compression else n * records,
            compression,
        )
        for n in range(2)
    )
    schema = record_schema("raw", image=ImageSpec(jpeg_only=True))
    manifest = Manifest(
        schema=schema,
        splits={"train": Split(shards, (records,))},
        class_names=("cat", "dog"),
        made_by={"plan": 1} if made_by is None else made_by,
        directory=Path(folder),
    )
    settings = {
        "manifest": manifest,
        "sources": (manifest,),
        "groups": None,
        "split": "train",
        "schema": schema,
        "batch_size": 128,
        "image_size": (224, 224),
        "resize": "pad",
        "antialias": True,
        "channels": 3,
        "mask_fill": 0,
        "labels": "one_hot",
        "max_boxes": 100,
        "max_points": 128,
        "views": 1,
        "transforms": (),
        "training": True,
        "repeat": False,
        "seed": 0,
        "options": ReadOptions(),
    }
    return Request(**{**settings, **changes})


def plan(cores=16, **changes):
    options = ReadOptions(**{key: changes.pop(key) for key in list(changes) if key in OPTIONS})
    return plan_reading(a_request(options=options, **changes), cores=cores)


OPTIONS = {field.name for field in dataclasses.fields(ReadOptions)}


def test_converted_photographs_are_read_in_windows_of_whole_batches():
    found = plan()
    assert (found.reader, found.is_fast, found.has_random_access) == ("windows", True, True)
    assert found.order.block_records == 12
    assert found.order.window_records % 128 == 0
    assert 8_000_000 <= found.order.window_records * PHOTOGRAPH <= 2 * 8_000_000


def test_single_records_are_read_where_neighbours_may_be_alike():
    assert plan(made_by={"adopted": True}).reader == "singles"
    assert plan(block_records=1).reader == "singles"
    assert plan(made_by={"adopted": True}, record_bytes=500).reader == "windows"


def test_compressed_shards_pass_a_buffer_and_the_careful_way():
    found = plan(compression="GZIP")
    assert (found.reader, found.is_fast, found.buffer_records) == ("shards", False, 2048)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, None, None)),
        ({"shuffle": "none"}, (True, None, None)),
        ({"shuffle": "buffer"}, (False, None, 2048)),
        ({"cache": "memory"}, (False, "records", 10_000)),
        ({"cache": "memory", "shuffle": "none"}, (False, "records", None)),
        ({"cache": "memory", "cache_place": "batches"}, (False, "batches", None)),
        ({"deterministic": False}, (False, None, None)),
        ({"service": "grpc://x:1"}, (False, None, None)),
    ],
    ids=str,
)
def test_what_excludes_the_fast_path(options, expected):
    found = plan(**options)
    assert (found.is_fast, found.cache_place, found.buffer_records) == expected


def test_a_piece_is_a_part_of_a_batch_that_stays_in_a_cores_cache():
    assert plan().piece_records == 32
    assert plan(batch_size=100).piece_records == 25
    assert plan(batch_size=37).piece_records == 37
    assert plan(image_size=(28, 28), batch_size=512).piece_records == 512
    for size in range(1, 300):
        assert size % plan(batch_size=size).piece_records == 0


def test_large_files_are_decoded_in_small_pieces_so_that_all_cores_work_on_a_batch():
    assert plan(record_bytes=100_000).piece_records == 32
    assert plan(record_bytes=500_000).piece_records == 8
    assert plan(record_bytes=2_000_000, batch_size=8).piece_records == 2
    assert plan(record_bytes=2_000_000, batch_size=37).piece_records == 1
    assert plan(record_bytes=9_000_000).piece_records == 1


def test_cores_share_batches_and_budgets_bound_what_is_in_flight():
    found = plan(cores=64)
    assert (found.calls, found.batches_at_once, found.reads_at_once) == (64, 2, 4)
    assert plan(cores=2).reads_at_once == 2
    assert (plan(cores=1).calls, plan(cores=1).reads_at_once) == (1, 1)
    assert plan(cpu_budget=3).calls == 3
    assert plan(parallel_calls=5).calls == 5
    assert plan(ram_budget=1).batches_at_once == 1
    transformed = plan(transforms=(lambda batch, seed: batch,))
    assert transformed.transforms_at_once == 8
    assert plan(transforms=(lambda batch, seed: batch,), ram_budget=400_000_000).transforms_at_once < 8
    assert plan().transforms_at_once == 1
    assert plan(cores=2, transforms=(lambda batch, seed: batch,)).transforms_at_once == 8
    assert plan(parallel_calls=1, transforms=(lambda batch, seed: batch,)).transforms_at_once == 1


def test_the_plan_is_printed_one_setting_a_line():
    lines = str(plan()).splitlines()
    assert "reader: windows" in lines
    assert "piece_records: 32" in lines
