"""Mixtures by weight, balanced classes, and class weights."""

import numpy as np
import pytest
from pictures import fill_folder

from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import load_manifest
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.mixtures import class_weights
from tfpipe.reader.options import ReadOptions

SIZE = (6, 8)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Twelve cats and three dogs, all in train."""
    root = tmp_path_factory.mktemp("uneven")
    fill_folder(root / "in", ("cat", "dog"), 12)
    for path in sorted((root / "in" / "dog").iterdir())[3:]:
        path.unlink()
    return convert(Job(input=str(root / "in"), output=str(root / "out"), split={"train": 1})).manifest


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Five cats and five dogs, PNG among them."""
    root = tmp_path_factory.mktemp("other")
    fill_folder(root / "in", ("cat", "dog"), 5, (".jpg", ".png"))
    for path in (root / "in").rglob("*.*"):
        path.rename(path.with_name(f"other_{path.name}"))
    return convert(Job(input=str(root / "in"), output=str(root / "out"), split={"train": 1})).manifest


def batches(source, **options):
    dataset = make_dataset(source, batch_size=5, image_size=SIZE, labels=None, seed=3, options=ReadOptions(**options))
    return [
        list(zip(batch["key"].numpy().tolist(), batch["label_int"].numpy().tolist(), strict=True)) for batch in dataset
    ]


def flat(nested):
    return [one for batch in nested for one in batch]


DROPPED = pytest.mark.xfail(
    strict=True, reason="weights count only in a computed order; a buffer, no shuffle and a cache drop them in silence"
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parallel_reads": 1, "parallel_calls": 1, "prefetch": 0},
        {"vectorize": False, "deterministic": False},
        {"block_records": 4, "window_records": 8},
        {"on_error": "skip"},
        pytest.param({"shuffle": "buffer"}, marks=DROPPED),
        pytest.param({"shuffle": "none"}, marks=DROPPED),
        pytest.param({"cache": "memory"}, marks=DROPPED),
    ],
    ids=str,
)
def test_a_mixture_takes_its_sources_by_weight_over_the_sum_of_sizes(uneven, other, options):
    drawn = [key for key, _ in flat(batches({uneven.directory: 0.8, str(other.directory): 0.2}, **options))]
    from_other = [key for key in drawn if b"other_" in key]
    # By sizes alone it would be 15 and 10; the larger source comes once and a third of it again.
    assert (len(drawn), len(from_other), len(set(from_other))) == (25, 5, 5)
    assert len(set(drawn) - set(from_other)) == 15


def test_a_small_source_with_a_large_weight_comes_again_in_turn(uneven, other):
    drawn = [key for key, _ in flat(batches({uneven.directory: 1, other.directory: 4}))]
    counts = {key: drawn.count(key) for key in drawn if b"other_" in key}
    assert sum(counts.values()) == 20
    assert set(counts.values()) == {2}


def test_mixtures_resume_and_are_shared(uneven, other):
    mixture = {uneven.directory: 0.5, other.directory: 0.5}
    whole = batches(mixture)
    assert batches(mixture, start_step=2) == whole[2:]
    shares = [batches(mixture, host_index=host, host_count=2) for host in range(2)]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole[:4]


def test_a_mixture_is_evaluated_record_by_record(uneven, other):
    dataset = make_dataset(
        {uneven.directory: 1, other.directory: 9}, batch_size=5, image_size=SIZE, labels=None, training=False
    )
    drawn = [key for batch in dataset for key in batch["key"].numpy()]
    assert len(drawn) == len(set(drawn)) == 25


@pytest.mark.parametrize(("weight", "says"), [(0, "is 0.0; it must be positive"), (float("nan"), "is nan")])
def test_weights_are_positive(uneven, other, weight, says):
    with pytest.raises(ValueError, match=says):
        batches({uneven.directory: 1, other.directory: weight})


def test_an_empty_mixture_is_refused():
    with pytest.raises(ValueError, match="takes at least one source"):
        batches({})


def test_sources_of_other_classes_are_refused(uneven, raw_dataset):
    with pytest.raises(ValueError, match=r"The classes of .* are not those of"):
        batches({uneven.directory: 1, raw_dataset.directory: 1})


# ---- classes


def test_balanced_classes_come_equally_often_and_the_rare_again_and_again(uneven):
    drawn = flat(batches(uneven, balance_classes=True))
    labels = [label for _, label in drawn]
    assert sorted(np.bincount(labels)) == [7, 8]
    cats = [key for key, label in drawn if label == 0]
    dogs = [key for key, label in drawn if label == 1]
    assert len(set(cats)) == len(cats)
    assert set(map(dogs.count, dogs)) <= {2, 3}


def test_balanced_epochs_take_other_records_of_the_large_class(uneven):
    dataset = make_dataset(
        uneven, batch_size=5, image_size=SIZE, labels=None, options=ReadOptions(balance_classes=True)
    )
    epochs = [{key for batch in dataset for key in batch["key"].numpy() if b"cat" in key} for _ in range(4)]
    assert len(set.union(*epochs)) == 12


def test_evaluation_is_not_balanced(uneven):
    dataset = make_dataset(
        uneven, batch_size=5, image_size=SIZE, training=False, options=ReadOptions(balance_classes=True), labels="int"
    )
    assert np.bincount(np.concatenate([labels for _, labels in dataset])).tolist() == [12, 3]


def test_class_weights_weigh_every_class_the_same(uneven):
    weights = class_weights(uneven)
    assert weights == {0: 15 / 24, 1: 15 / 6}
    assert weights[0] * 12 == weights[1] * 3


def test_a_class_without_records_weighs_nothing(raw_dataset, uneven):
    import dataclasses

    splits = {"train": dataclasses.replace(uneven.split("train"), class_counts=(15, 0))}
    assert class_weights(dataclasses.replace(uneven, splits=splits)) == {0: 1.0, 1: 0.0}


def test_fit_takes_class_weights(uneven):
    import keras

    dataset = make_dataset(load_manifest(uneven.directory), batch_size=5, image_size=SIZE)
    # It takes every image for a cat with a probability of 0.9, and learns nothing.
    bias = keras.initializers.Constant(np.log([0.9, 0.1]))
    last = keras.layers.Dense(2, activation="softmax", kernel_initializer="zeros", bias_initializer=bias)
    model = keras.Sequential([keras.layers.Flatten(), last])
    model.compile(keras.optimizers.SGD(0.0), loss="categorical_crossentropy")
    loss = model.fit(dataset, class_weight=class_weights(uneven), shuffle=False, verbose=0).history["loss"][0]
    # Twelve cats and three dogs count the same.
    assert loss == pytest.approx((-np.log(0.9) - np.log(0.1)) / 2, rel=1e-5)
