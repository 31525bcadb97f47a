"""Mixtures by weight, balanced classes, and class weights."""

import dataclasses
import gzip

import numpy as np
import pytest
from pictures import fill_folder

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import load_manifest
from tfpipe.format.schema import Feature
from tfpipe.reader import dataset
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.mixtures import class_weights
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.plan import plan_reading
from tfpipe.storage import to_path

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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parallel_reads": 1, "parallel_calls": 1, "prefetch": 0},
        {"vectorize": False, "deterministic": False},
        {"block_records": 4, "window_records": 8},
        {"on_error": "skip"},
        {"cache": "memory", "cache_place": "batches"},
    ],
    ids=str,
)
def test_a_mixture_takes_its_sources_by_weight_over_the_sum_of_sizes(uneven, other, options):
    drawn = [key for key, _ in flat(batches({uneven.directory: 0.8, str(other.directory): 0.2}, **options))]
    from_other = [key for key in drawn if b"other_" in key]
    # By sizes alone it would be 15 and 10; the larger source comes once and a third of it again.
    assert (len(drawn), len(from_other), len(set(from_other))) == (25, 5, 5)
    assert len(set(drawn) - set(from_other)) == 15


UNWEIGHTED = {
    "buffer": ({"shuffle": "buffer"}, "not with shuffle='buffer'; training=False reads every record once"),
    "no shuffle": ({"shuffle": "none"}, "not with shuffle='none'"),
    "records in memory": ({"cache": "memory"}, "not with cache='memory' with cache_place='records'"),
    "records on disk": ({"cache": "disk", "cache_dir": "cache"}, "not with cache='disk' with cache_place='records'"),
    "both": ({"cache": "memory", "shuffle": "none"}, "shuffle='none' and cache='memory'"),
    "batches of a buffer": ({"cache": "memory", "cache_place": "batches", "shuffle": "buffer"}, "shuffle='buffer'"),
    "the book": (dataclasses.asdict(ReadOptions.book()), "shuffle='buffer'"),
}


@pytest.mark.parametrize("case", UNWEIGHTED)
def test_weights_that_a_stream_cannot_keep_are_refused(uneven, other, case, tmp_path, monkeypatch):
    options, sentence = UNWEIGHTED[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"The weights of a mixture .*{sentence}"):
        batches({uneven.directory: 0.8, other.directory: 0.2}, **options)


@pytest.fixture(scope="module")
def compressed(uneven, tmp_path_factory):
    """The records of `uneven` in GZIP files."""
    folder = tmp_path_factory.mktemp("gzip")
    for shard in uneven.split("train").shards:
        data = gzip.compress(uneven.shard_file(shard).read_bytes())
        (folder / shard.path).write_bytes(data)
    manifest = tfpipe.index(folder)
    return dataclasses.replace(manifest, class_names=uneven.class_names)


def test_a_compressed_source_wherever_it_is_in_a_mixture_is_named(uneven, compressed):
    for sources in ([uneven, compressed], [compressed, uneven]):
        with pytest.raises(ValueError, match=rf"weights .* not with compressed shards \({compressed.directory}\)"):
            make_dataset(dict.fromkeys(sources, 1), batch_size=5, image_size=SIZE)


def test_a_mixture_of_one_source_reads_it_as_it_is(uneven):
    for options in ({}, {"shuffle": "buffer"}, {"cache": "memory"}, {"shuffle": "none"}):
        keys = [key for key, _ in flat(batches({uneven.directory: 3}, **options))]
        assert len(set(keys)) == len(keys) == 15


def test_a_weight_too_small_for_one_record_is_refused_with_its_source(uneven, other):
    with pytest.raises(
        ValueError, match=rf"The weight of {other.directory} is 0.01 of 1.01: not one of the 25 records"
    ):
        batches({uneven.directory: 1, other.directory: 0.01})
    with pytest.raises(ValueError, match="1 of 4 would get none of the 25 records"):
        batches({uneven.directory: 1, other.directory: 0.05}, balance_classes=True)


def test_batches_on_disk_are_those_of_their_weights(uneven, other, tmp_path):
    for weight, expected in ((0.2, 5), (0.8, 20)):
        mixture = {uneven.directory: 1 - weight, other.directory: weight}
        drawn = flat(batches(mixture, cache="disk", cache_place="batches", cache_dir=str(tmp_path)))
        assert sum(b"other_" in key for key, _ in drawn) == expected


# ---- every source counts, not the first alone


def test_the_store_of_each_source_is_judged(uneven, other):
    far = dataclasses.replace(other, directory=to_path("memory://far/other"))
    for sources in ([uneven, far], [far, uneven]):
        with pytest.raises(ValueError, match="memory://far/other: TensorFlow reads records from the stores"):
            make_dataset(dict.fromkeys(sources, 1), batch_size=5, image_size=SIZE)


def test_parts_of_a_window_are_read_at_once_where_a_source_is_in_a_store(uneven, other, monkeypatch):
    monkeypatch.setattr(dataset, "_dataset", lambda request: request)
    monkeypatch.setattr(dataset, "check_files", lambda request: None)
    far = dataclasses.replace(other, directory=to_path("memory://far/other"))
    for sources, expected in (([uneven, other], 1), ([uneven, far], 4), ([far, uneven], 4)):
        weights = dict.fromkeys(sources, 1)
        request = make_dataset(weights, batch_size=5, image_size=SIZE, training=False)
        assert plan_reading(request).seeks_at_once == expected


def test_boxes_that_move_and_boxes_that_do_not_are_not_mixed(uneven, other, monkeypatch):
    monkeypatch.setattr(dataset, "_dataset", lambda request: request)
    boxes = Feature("boxes", "float32", (None, 4), "plain")
    boxed = [
        dataclasses.replace(one, schema=dataclasses.replace(one.schema, features=(*one.schema.features, boxes)))
        for one in (uneven, other)
    ]
    adopted = dataclasses.replace(boxed[1], made_by={"adopted": "x"})
    for sources in ([boxed[0], adopted], [adopted, boxed[0]]):
        weights = dict.fromkeys(sources, 1)
        with pytest.raises(ValueError, match=f"The boxes of {other.directory} were adopted"):
            make_dataset(weights, batch_size=5, image_size=SIZE, labels=None)
        assert make_dataset(weights, batch_size=5, image_size=SIZE) is not None


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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (0, "is 0.0; it must be positive"),
        (float("nan"), "is nan"),
        ("1", "is '1'"),
        (None, "is None"),
        (True, "is 1.0"),
    ],
)
def test_weights_are_positive(uneven, other, weight, says, training):
    with pytest.raises(ValueError, match=f"The weight of {other.directory} {says}"):
        make_dataset({uneven.directory: 1, other.directory: weight}, batch_size=5, image_size=SIZE, training=training)


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


def test_classes_of_compressed_shards_are_not_balanced(compressed):
    with pytest.raises(ValueError, match=r"balance_classes samples .* not with compressed shards"):
        make_dataset(compressed, batch_size=5, image_size=SIZE, options=ReadOptions(balance_classes=True))


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
