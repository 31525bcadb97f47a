"""What of a pipeline stays one at a time, measured on a small dataset."""

import dataclasses

import numpy as np
import pytest

from tfpipe.reader.free_decoding import free_decoding
from tfpipe.reader.options import ReadOptions
from tfpipe.timing import serial
from tfpipe.timing.read_pass import read_pass
from tfpipe.timing.serial import Reading, measure_scaling
from tfpipe.timing.variants import Task


@pytest.fixture(scope="module")
def task(raw_dataset):
    return Task(raw_dataset, batch_size=8, image_size=(96, 128))


def test_a_long_epoch_holds_every_record_equally_often(task, monkeypatch):
    monkeypatch.setattr(serial, "_LONG_RECORDS", 3 * task.num_records - 5)
    longer = Reading(dataclasses.replace(task, batch_size=1), ReadOptions(shuffle="none")).lengthened()
    assert longer.task.num_records == 3 * task.num_records
    sums = [int(np.asarray(images, np.int64).sum()) for images, _ in longer.build()]
    third = len(sums) // 3
    assert third == task.num_records
    assert sums[:third] == sums[third : 2 * third] == sums[2 * third :]
    assert len(set(sums)) > third // 2


def test_decoding_that_is_free_leaves_less_to_do(task):
    readings = {
        "default": Reading(task, task.options),
        "one call": Reading(task, ReadOptions(parallel_calls=1)),
    }
    labels = []
    found = measure_scaling(readings, repeats=1, seconds=0.2, on_pass=lambda name, one: labels.append(name))
    assert [one.variant for one in found] == ["default", "one call"]
    assert [one.calls for one in found] == [None, 1]
    for one in found:
        assert one.free_cpu_microseconds < one.cpu_microseconds
        assert 0 < one.serial_microseconds <= 1e6 / one.free_images_per_second * 1.001
        assert labels.count(f"{one.variant}, reading alone") == labels.count(f"{one.variant}, decoding free") == 1


def test_a_cache_decodes_nothing_and_holds_images(task, tmp_path):
    options = ReadOptions(cache="disk", cache_dir=str(tmp_path))
    (one,) = measure_scaling({"cache": Reading(task, options)}, repeats=1, seconds=0.2)
    assert one.images_per_second > 0
    images, _ = next(iter(task.build(options)))
    assert np.asarray(images).any()


@pytest.mark.slow
def test_the_busiest_thread_is_one_that_decodes(task):
    """By CPU time, whatever the machine's load: 140 us an image, and 25 with decoding free."""
    reading = Reading(dataclasses.replace(task, batch_size=32), ReadOptions.plain()).lengthened()
    with free_decoding():
        free = reading.build()
    batches, least = reading.build(), {}
    for name, made in {"decoded": batches, "free": free}.items():
        passes = [read_pass(made, 32, 0.5) for _ in range(3)]
        assert all(0 < one.busiest_microseconds < one.cpu_microseconds for one in passes)
        least[name] = min(one.busiest_microseconds for one in passes)
    assert least["decoded"] > 2 * least["free"]
