"""start_step: a stream that is resumed anywhere equals the one that never stopped."""

import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf

from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions

BATCH, SIZE = 2, (6, 8)


def _dither(batch, seed):
    """A transform that shows its draw in the pixels."""
    noise = tf.random.stateless_uniform(tf.shape(batch["image"]), seed, 0, 9, tf.int32)
    return {**batch, "image": tf.bitwise.bitwise_xor(batch["image"], tf.cast(noise, tf.uint8))}


def a_dataset(manifest, *, repeat=False, **options):
    return make_dataset(
        manifest,
        batch_size=BATCH,
        image_size=SIZE,
        labels=None,
        transforms=[_dither],
        repeat=repeat,
        seed=11,
        options=ReadOptions(**options),
    )


def stream(dataset, iterations=1):
    """The (keys, pixels) of every batch, over several iterations."""
    return [
        (tuple(batch["key"].numpy()), batch["image"].numpy().tobytes()) for _ in range(iterations) for batch in dataset
    ]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_twenty_resumed_streams_equal_the_undisturbed_one(raw_dataset, hosts):
    host = {"host_index": hosts - 1, "host_count": hosts}
    whole = stream(a_dataset(raw_dataset, **host), 3)
    for step in np.random.default_rng(hosts).choice(len(whole) - 1, {1: 10, 2: 6, 4: 4}[hosts], replace=False):
        resumed = a_dataset(raw_dataset, start_step=int(step), **host)
        per_epoch = len(whole) // 3
        assert stream(resumed, 3 - step // per_epoch) == whole[step:]


@pytest.mark.parametrize(
    "options",
    [
        {"block_records": 4, "window_records": 8},
        {"shuffle": "buffer", "shuffle_buffer": 8},
        {"shuffle": "none"},
        {"balance_classes": True},
        {"cache": "memory"},
        {"cache": "memory", "cache_place": "batches"},
    ],
    ids=str,
)
def test_every_way_of_reading_resumes_exactly(raw_dataset, options):
    whole = stream(a_dataset(raw_dataset, **options), 2)
    step = len(whole) // 2 + 5
    assert stream(a_dataset(raw_dataset, start_step=step, **options)) == whole[step:]


def test_cardinality_tells_the_rest_first_and_then_whole_epochs(raw_dataset):
    whole = int(a_dataset(raw_dataset).cardinality())
    resumed = a_dataset(raw_dataset, start_step=whole + 3)
    assert int(resumed.cardinality()) == whole - 3 == len(resumed)
    assert len(list(resumed)) == whole - 3
    assert int(resumed.cardinality()) == whole == len(list(resumed))


def test_a_step_that_ends_an_epoch_resumes_with_the_next(raw_dataset):
    whole = stream(a_dataset(raw_dataset), 2)
    step = len(whole) // 2
    assert stream(a_dataset(raw_dataset, start_step=step)) == whole[step:]


def test_repeat_goes_on_into_the_next_epochs(raw_dataset):
    """Virtual epochs: fit(train, steps_per_epoch=...)."""
    whole = stream(a_dataset(raw_dataset), 3)
    assert stream(a_dataset(raw_dataset, start_step=4).repeat().take(len(whole) - 4)) == whole[4:]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block_records": 4},
        {"cache": "memory"},
        {"cache": "memory", "cache_place": "batches"},
        {"shuffle": "buffer"},
        {"on_error": "skip"},
        {"start_step": 3},
    ],
    ids=str,
)
def test_a_repeated_dataset_has_no_end_and_the_batches_of_all_epochs(raw_dataset, options):
    whole = stream(a_dataset(raw_dataset, **options), 3)
    repeated = a_dataset(raw_dataset, repeat=True, **options)
    assert repeated.cardinality() == tf.data.INFINITE_CARDINALITY
    assert stream(repeated.take(len(whole))) == whole


def test_a_repeated_evaluation_keeps_the_smaller_batch_of_each_epoch(raw_dataset):
    records = raw_dataset.num_records("train")
    repeated = make_dataset(
        raw_dataset, batch_size=records - 1, image_size=SIZE, training=False, repeat=True, labels="int"
    )
    assert [len(labels) for _, labels in repeated.take(4)] == [records - 1, 1, records - 1, 1]


def test_the_first_batch_comes_as_fast_after_a_million_steps(raw_dataset):
    def first_batch_seconds(step):
        batches = iter(a_dataset(raw_dataset, start_step=step))
        begin = time.process_time()
        next(batches)
        return time.process_time() - begin

    early = min(first_batch_seconds(1) for _ in range(2))
    assert min(first_batch_seconds(1_000_003) for _ in range(2)) < 3 * early + 0.3


def test_start_step_counts_in_fit_too(raw_dataset):
    """One epoch of fit over a resumed dataset takes the rest of the epoch."""
    import keras

    dataset = make_dataset(
        raw_dataset, batch_size=BATCH, image_size=SIZE, options=dataclasses.replace(ReadOptions(), start_step=7)
    )
    steps = []
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile(loss="mse")
    model.fit(
        dataset,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: steps.append(batch))],
    )
    assert len(steps) == raw_dataset.num_records("train") // BATCH - 7
