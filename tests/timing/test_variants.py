"""The variants, consumers, benchmarks and stage costs behind `tfpipe bench` and `tfpipe tune`."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.reader import caching
from tfpipe.reader.options import ReadOptions
from tfpipe.timing import Pass, stages, summarize, tuning, variants
from tfpipe.timing.benchmark import Benchmark, compare_variants, sample_task
from tfpipe.timing.consumers import Fit, ThresholdMean, decode_only, synthetic_ceiling
from tfpipe.timing.stages import stage_costs
from tfpipe.timing.variants import Task, all_variants, cache_bytes, fitting_variants, order_of, sample_shards

SIZE = (24, 32)


@pytest.fixture(scope="module")
def datasets(photos, raw_dataset, tmp_path_factory):
    """The photos by payload."""
    folder = tmp_path_factory.mktemp("payloads")
    made = {"raw": raw_dataset}
    for dtype in ("uint8", "float16", "float32"):
        made[dtype] = convert(
            Job(input=str(photos), output=str(folder / dtype), payload="decoded", dtype=dtype, image_size=SIZE)
        ).manifest
    made["embedding"] = embeddings(folder / "vectors")
    return made


def embeddings(folder):
    """32 vectors of 6 floats in two files, adopted."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for shard in range(2):
        with tf.io.TFRecordWriter(str(folder / f"train-{shard}.tfrecord")) as writer:
            for label in range(16):
                feature = {
                    "embedding": tf.train.Feature(float_list=tf.train.FloatList(value=draw.random(6))),
                    "label_int": tf.train.Feature(int64_list=tf.train.Int64List(value=[label % 3])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return tfpipe.index(folder)


def task_of(datasets, payload, **changes):
    size = SIZE if payload == "raw" else None
    return Task(datasets[payload], batch_size=4, image_size=size, **changes)


PAYLOADS = ("raw", "uint8", "float16", "float32", "embedding")


# ---- variants


def test_every_variant_decodes_as_the_task_says(datasets):
    task = task_of(datasets, "raw", dct="fast")
    made = [task.options, *fitting_variants(task)[0].values(), *tuning.single_changes(task).values()]
    assert len(made) > 10
    assert {options.dct for options in made} == {"fast"}
    assert not any("dct" in name for name in tuning.single_changes(task))
    assert {options.dct for options in fitting_variants(task_of(datasets, "raw"))[0].values()} == {"exact"}


@pytest.mark.parametrize("payload", ["raw", "embedding"])
def test_every_variant_gives_the_same_number_of_full_batches(datasets, payload, tmp_path):
    task = task_of(datasets, payload)
    fitting, _ = fitting_variants(task, cache_dir=str(tmp_path))
    consume = ThresholdMean()
    for name, options in fitting.items():
        assert consume(task.build(options)) == task.num_records // 4 * 4, name
        assert math.isfinite(consume.mean)


def test_variants_start_with_plain_and_cache_on_disk_only_in_a_folder(tmp_path):
    without, given = all_variants(), all_variants(cache_dir=str(tmp_path))
    assert next(iter(without)) == "plain"
    assert set(given) - set(without) == {"cache_disk_records", "cache_disk_batches"}
    assert all(without[name] == given[name] for name in without)


@pytest.mark.parametrize(("payload", "parses"), [("raw", False), ("uint8", True), ("embedding", True)])
def test_parsing_whole_batches_is_a_variant_where_shapes_are_known(datasets, payload, parses):
    fitting, left_out = fitting_variants(task_of(datasets, payload))
    assert ("vectorize" in fitting, "vectorize" in left_out) == (parses, not parses)


def test_caches_without_room_are_left_out_with_the_sizes(datasets, monkeypatch, tmp_path):
    monkeypatch.setattr(variants, "free_memory", lambda: 50_000)
    fitting, left_out = fitting_variants(task_of(datasets, "raw"), cache_dir=str(tmp_path / "not_there_yet"))
    assert {name for name in fitting if name.startswith("cache")} == {"cache_disk_records", "cache_disk_batches"}
    assert left_out["cache_memory_batches"].endswith("0.0 GB of memory are free")


def test_caches_and_their_variants_ask_for_the_same_free_memory(datasets, monkeypatch):
    """What tune recommends is not refused by make_dataset: in a container of 4 GB neither sees the machine's 64."""
    assert variants.free_memory is caching.free_memory
    task = task_of(datasets, "raw")
    for module in (variants, caching):
        monkeypatch.setattr(module, "free_memory", lambda: int(cache_bytes(task) / 0.5))
    assert not [name for name in fitting_variants(task)[0] if name.startswith("cache")]
    for module in (variants, caching):
        monkeypatch.setattr(module, "free_memory", lambda: cache_bytes(task) * 3)
    found = [options for name, options in fitting_variants(task)[0].items() if name.startswith("cache")]
    assert len(found) == 2
    for options in found:
        task.build(options)


def test_a_cache_holds_images_as_batches_do(datasets):
    task = task_of(datasets, "raw")
    assert cache_bytes(task) == task.num_records * 24 * 32 * 3
    assert cache_bytes(task_of(datasets, "float32")) == 4 * cache_bytes(task)


def test_every_order_of_an_epoch_has_its_own_words():
    assert order_of(ReadOptions()).startswith("a new order")
    assert order_of(ReadOptions(cache="memory", cache_place="batches")) == "the same batches in every epoch"
    assert order_of(ReadOptions.book()).endswith("a buffer of 200")
    assert order_of(ReadOptions.plain()) == "the order on disk in every epoch"


def test_a_sample_is_as_few_shards_as_hold_the_limit_and_two_at_least(raw_dataset):
    shards = raw_dataset.split("train").shards
    assert len(shards) > 3
    assert sample_shards(raw_dataset, "train", 1).split("train").shards == shards[:2]
    assert sample_shards(raw_dataset, "train", 10**9).split("train").shards == shards
    limit = sum(shard.num_records for shard in shards[:2]) + 1
    assert sample_shards(raw_dataset, "train", limit).split("train").shards == shards[:3]


def test_a_sample_can_be_sized_by_time(datasets):
    task = task_of(datasets, "raw")
    assert sample_task(task, seconds=1e-9).num_records < task.num_records
    assert sample_task(task, seconds=1e9).num_records == task.num_records


# ---- consumers and references


def test_the_consumer_needs_every_pixel_and_draws_each_epoch(datasets):
    task = task_of(datasets, "uint8")
    batches = task.build(ReadOptions.plain())
    consume = ThresholdMean(seed=3)
    pixels = np.concatenate([images.numpy() for images, _ in batches]).astype(np.float64)
    draw = np.random.default_rng(3)
    for _ in range(2):
        consume(batches)
        threshold = draw.uniform(0.3, 0.7) * 255
        assert consume.mean == pytest.approx(np.where(pixels > threshold, pixels, 0).mean(), rel=1e-5)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_linear_model_fits_every_payload(datasets, payload):
    task = task_of(datasets, payload)
    batches = task.build(ReadOptions())
    fit = Fit(batches, "class")
    before = [weight.numpy().copy() for weight in fit.model.weights]
    assert fit(batches) == task.num_records // 4 * 4
    assert any((weight.numpy() != old).any() for weight, old in zip(fit.model.weights, before, strict=True))


def test_records_without_labels_are_rejected_for_training(datasets):
    with pytest.raises(ValueError, match="no label to train on"):
        Fit(tf.data.Dataset.from_tensors({"image": tf.zeros([1, 2, 2, 3])}), "class")


def test_the_synthetic_ceiling_repeats_one_batch(datasets):
    batches = task_of(datasets, "uint8").build(ReadOptions.plain())
    made = [images.numpy() for images, _ in synthetic_ceiling(batches)]
    assert len(made) == int(batches.cardinality())
    assert all((one == made[0]).all() for one in made)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_decode_only_gives_the_first_value_of_every_image(datasets, payload):
    task = task_of(datasets, payload)
    found = np.concatenate([values.numpy() for (values,) in decode_only(task)])
    unsized = dataclasses.replace(task, image_size=None, batch_size=1) if payload == "raw" else task
    count = task.num_records // 4 * 4
    if payload == "raw":
        assert found.shape == (count,)
        return
    images = [variants.images_of(batch).numpy() for batch in unsized.build(ReadOptions.plain())]
    firsts = np.concatenate([batch.reshape(len(batch), -1)[:, 0] for batch in images]).astype(np.float32)
    np.testing.assert_array_equal(np.sort(found), np.sort(firsts))


# ---- benchmarks


def test_comparing_gives_a_row_for_each_variant_and_the_references(datasets):
    task = task_of(datasets, "raw")
    passes = []
    benchmark = Benchmark(task, repeats=2, page_cache="dropped")
    builds = {name: lambda: task.build(ReadOptions.plain()) for name in ("plain", "again")}
    rows = compare_variants(benchmark, builds, on_pass=lambda name, one: passes.append(name))
    assert [row.variant for row in rows] == ["plain", "again", "synthetic_ceiling", "decode_only"]
    assert len(passes) == 4 * 3
    assert all(row.images_per_second > 0 and row.spread >= 0 and row.utilisation > 0 for row in rows)


def test_a_benchmark_can_train(datasets):
    task = task_of(datasets, "embedding")
    rows = compare_variants(Benchmark(task, fit=True, repeats=1), {"plain": lambda: task.build(ReadOptions.plain())})
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"), [({"page_cache": "cold"}, "page_cache is 'cold'"), ({"repeats": 0}, "repeats is 0")]
)
def test_a_benchmark_rejects_unknown_settings(datasets, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Benchmark(task_of(datasets, "raw"), **changes)


# ---- stages and tuning


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        ("raw", ["read", "parse", "decode", "resize", "batch", "transform", "transfer"]),
        ("uint8", ["read", "batch", "parse", "transform", "transfer"]),
        ("embedding", ["read", "batch", "parse", "transform", "transfer"]),
    ],
)
def test_the_stages_that_occur_have_costs_that_add_up(datasets, payload, names):
    costs = stage_costs(task_of(datasets, payload), repeats=2)
    assert [cost.stage for cost in costs] == names
    assert sum(cost.share for cost in costs) == pytest.approx(1)
    assert all(cost.microseconds >= 0 and cost.cpu_microseconds >= 0 for cost in costs)


@pytest.mark.parametrize("payload", ["raw", "uint8", "embedding"])
def test_stages_are_timed_in_functions_for_one_device(datasets, payload):
    """Others take 0.15 s at each beginning, which would count as the stage's."""
    for stage in stages._stages(task_of(datasets, payload), 16):
        graph = tf.compat.v1.GraphDef.FromString(stage.after._as_serialized_graph().numpy())
        called = {node.attr["f"].func.name for node in graph.node if node.op.startswith("Map")}
        made = {one.signature.name: one.attr["experimental_ints_on_device"].b for one in graph.library.function}
        assert stage.name in ("read", "batch") or called, stage.name
        assert all(made[name] for name in called), stage.name


@pytest.mark.slow
def test_decoding_large_images_is_found_to_be_the_bottleneck(tmp_path):
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(16):
        (tmp_path / "in" / "cat").mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (600, 800, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / "cat" / f"{number}.jpg", quality=95)
    job = Job(input=str(tmp_path / "in"), output=str(tmp_path / "out"), split={"train": 1.0})
    task = Task(convert(job).manifest, batch_size=4, image_size=(16, 16))
    costs = {cost.stage: cost.share for cost in stage_costs(task, repeats=3)}
    assert max(costs, key=costs.get) == "decode"


def rows_of(rates):
    """Rows of fixed rates without spread."""
    return {row.variant: row for row in summarize({name: [Pass(rate, 1, 1)] * 3 for name, rate in rates.items()})}


class Machine:
    """Replaces compare_variants: the rate of options is a fixed function of them."""

    def __init__(self, monkeypatch, rate):
        self.rounds = []

        def timed(benchmark, candidates, on_pass):
            self.rounds.append(list(candidates))
            return rows_of({name: rate(options) for name, options in candidates.items()})

        monkeypatch.setattr(tuning, "_time", timed)
        monkeypatch.setattr(tuning, "_scale", lambda benchmark, name, options, *_: (name, options))


def test_tuning_names_the_one_setting_and_adds_up_those_that_help(datasets, monkeypatch):
    def rate(options):
        return 100 * (2 if options.prefetch == 8 else 1) * (1.5 if options.parallel_reads == 16 else 1)

    machine = Machine(monkeypatch, rate)
    task = task_of(datasets, "raw")
    found = tuning.tune(task, Benchmark(task))
    assert (found.setting, found.gain) == ("prefetch=8", 2)
    assert (found.options.prefetch, found.options.parallel_reads) == (8, 16)
    assert found.gives_up is None
    assert not found.defaults_suffice
    assert found.scaling == (found.chosen, found.options)
    assert len(machine.rounds) == 2


def test_tuning_prefers_what_gives_up_nothing_within_noise(datasets, monkeypatch):
    Machine(monkeypatch, lambda options: 100 if tuning.is_fresh(options) else 103)
    task = task_of(datasets, "raw")
    found = tuning.tune(task, Benchmark(task))
    assert (found.chosen, found.setting, found.gives_up) == ("default", None, None)
    assert found.advice.startswith("No setting gains more than noise; ")
    assert found.defaults_suffice


@pytest.mark.parametrize(("order", "fresh"), [("any", False), ("fresh", True)])
def test_tuning_takes_frozen_batches_only_where_any_order_will_do(datasets, monkeypatch, order, fresh):
    Machine(monkeypatch, lambda options: 100 if tuning.is_fresh(options) else 1000)
    task = task_of(datasets, "raw")
    found = tuning.tune(task, Benchmark(task), order=order)
    assert tuning.is_fresh(found.options) == fresh
    assert (found.gives_up is None) == fresh
    # The four fastest are not among those that read a new order; the fastest of these runs again all the same.
    assert found.defaults_suffice


@pytest.mark.parametrize(("gain", "suffice"), [(1.04, True), (1.06, False)])
def test_the_defaults_suffice_where_nothing_that_keeps_the_order_new_gains_beyond_noise(
    datasets, monkeypatch, gain, suffice
):
    Machine(
        monkeypatch,
        lambda options: 1000 if not tuning.is_fresh(options) else 100 * (gain if options.parallel_reads == 16 else 1),
    )
    task = task_of(datasets, "raw")
    assert tuning.tune(task, Benchmark(task)).defaults_suffice == suffice


def test_an_unknown_order_is_rejected(datasets):
    task = task_of(datasets, "raw")
    with pytest.raises(ValueError, match=r"order is 'none'; it takes one of \['any', 'fresh'\]"):
        tuning.tune(task, Benchmark(task), order="none")


# ---- options as a file


def test_options_go_through_a_file_into_make_dataset(raw_dataset, tmp_path):
    options = ReadOptions(shuffle="none", parallel_calls=2, prefetch=2, cache="disk", cache_dir=str(tmp_path / "cache"))
    options.save(tmp_path / "pipeline.json", measured={"gain": 2})
    assert ReadOptions.load(tmp_path / "pipeline.json") == options
    settings = {"batch_size": 8, "image_size": SIZE}
    by_path = tfpipe.make_dataset(raw_dataset, options=tmp_path / "pipeline.json", **settings)
    by_value = tfpipe.make_dataset(raw_dataset, options=options, **settings)
    # One after the other: the first fills the cache, which the second reads.
    found = [[images.numpy() for images, _ in dataset] for dataset in (by_path, by_value)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "no file of read options"),
        ("{}", "no file of read options"),
        ("[]", "no file of read options"),
        ('{"options": {"parallel_call": 2}}', r"unknown settings \['parallel_call'\]; known: \['parallel_reads'"),
        ('{"options": {"prefetch": -2}}', "prefetch is -2"),
    ],
)
def test_a_file_without_valid_options_is_rejected(tmp_path, text, sentence):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        ReadOptions.load(tmp_path / "p.json")
