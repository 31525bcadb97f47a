"""Trainings from every place of an augmentation, in one run: which rows there are, and what a pass counts."""

import pytest

from tfpipe.errors import UsageError
from tfpipe.reader.options import ReadOptions
from tfpipe.timing.benchmark import Benchmark
from tfpipe.timing.experiment import Experiment, train_everywhere
from tfpipe.timing.training import CACHED, CEILING, DEVICE, HOST, LAYER, PLAIN
from tfpipe.timing.variants import Task


def darker(batch, seed):
    """A transform that compiles nothing."""
    return {**batch, "image": batch["image"] // 2}


def trained(manifest, batch_size=2, **settings):
    task = Task(manifest, batch_size=batch_size, image_size=(6, 8))
    return train_everywhere(Experiment(Benchmark(task, fit=True, repeats=1), darker, **settings), task)


def test_short_passes_count_the_steps_behind_the_first(raw_dataset):
    rows, left_out = trained(raw_dataset, seconds=1e-9)
    assert [row.variant for row in rows] == [CEILING, PLAIN, HOST, DEVICE, LAYER, CACHED]
    assert left_out == {}
    for row in rows:
        assert row.step_seconds == pytest.approx(row.row.wall_seconds / 7)
        assert row.row.images_per_second == pytest.approx(14 / row.row.wall_seconds)
        assert 0 <= row.input_wait_seconds <= row.step_seconds
        assert (row.input_wait_from, row.gpu) == ("clock", None)


def test_options_that_exclude_a_cache_leave_out_its_row(raw_dataset):
    rows, left_out = trained(raw_dataset, options=ReadOptions(balance_classes=True))
    assert [row.variant for row in rows] == [CEILING, PLAIN, HOST, DEVICE, LAYER]
    assert left_out[CACHED].startswith("the options exclude a cache: balance_classes samples records by seeking")
    batches = raw_dataset.num_records("train") // 2
    assert rows[0].step_seconds == pytest.approx(rows[0].row.wall_seconds / (batches - 1))


def test_one_batch_is_too_few(raw_dataset):
    with pytest.raises(UsageError, match="it takes two batches of 20, and the sample has"):
        trained(raw_dataset, batch_size=20)
