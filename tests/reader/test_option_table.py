"""The table in docs/options.md, cell by cell: a setting acts on a kind of stream, or is refused by its name."""

import inspect
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from streams import MAKERS, OPTIONS, STREAMS, a_stream, copied

from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.service import Service

PAGE = Path(__file__).parent.parent.parent / "docs/options.md"
ARGUMENTS = inspect.signature(make_dataset).parameters


def marked(batch, seed):
    """A transform that shows."""
    name = "embedding" if "embedding" in batch else "image"
    return {**batch, name: batch[name] + tf.cast(1, batch[name].dtype)}


# The value that is tried of each setting; those of single streams, which have another one already, are below.
VALUES = {
    "parallel_reads": 3,
    "parallel_calls": 1,
    "block_records": 2,
    "window_records": 4,
    "vectorize": False,
    "prefetch": 0,
    "deterministic": False,
    "cache": "memory",
    "cache_place": "batches",
    "cache_dir": "{work}/other",
    "shuffle": "none",
    "shuffle_buffer": 3,
    "dct": "fast",
    "balance_classes": True,
    "host_index": 1,
    "host_count": 2,
    "start_step": 2,
    "on_error": "skip",
    "service": "{service}",
    "device": "/cpu:0",
    "ram_budget": 2_000_000,
    "cpu_budget": 1,
    "source": (1, 3),
    "split": "validation",
    "batch_size": 3,
    "image_size": (5, 7),
    "resize": "stretch",
    "antialias": not ARGUMENTS["antialias"].default,
    "channels": 1,
    "mask_fill": 9,
    "labels": "int",
    "max_boxes": 7,
    "max_points": 7,
    "views": 2,
    "transforms": [marked],
    "training": False,
    "repeat": True,
    "seed": 1,
    "options": {"start_step": 2},
}
OTHERWISE = {
    ("parallel_reads", "gzip"): 1,
    ("cache", "records"): "none",
    ("cache_place", "batches"): "records",
    ("shuffle", "none"): "global",
    ("shuffle_buffer", "buffer"): 3,
    ("balance_classes", "balanced"): False,
    ("host_count", "hosts"): 3,
    ("service", "service"): None,
    ("options", "service"): {"shuffle": "none"},
    ("labels", "boxes"): "one_hot",
    ("labels", "tags"): None,
    ("labels", "numbers"): None,
    ("training", "eval"): True,
}
# Settings without which one could not show: with and without it.
BESIDE = {
    **{("window_records", stream): {"block_records": 2} for stream in STREAMS if stream != "single"},
    ("training", "none"): {"batch_size": 5},
    ("cache", "batches"): {"cache_place": "records", "cache_dir": None},
}
# Settings whose effect needs more than one epoch, or damage.
KEPT, DAMAGED = ("cache", "cache_place", "cache_dir"), ("on_error",)


def read_table():
    """{setting: {stream: cell}}, as the page has it."""
    lines = PAGE.read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    head = next(row[1:] for row in rows if row[0] == "setting")
    return {row[0].strip("`"): dict(zip(head, row[1:], strict=True)) for row in rows if row[0].startswith("`")}


TABLE = read_table()


def test_every_setting_and_every_kind_of_stream_is_in_the_table():
    assert list(TABLE) == [*OPTIONS, *ARGUMENTS]
    assert all(list(cells) == list(STREAMS) for cells in TABLE.values())
    assert {cell for cells in TABLE.values() for cell in cells.values()} == set("AsNR")


@pytest.fixture(scope="module")
def service():
    with Service(workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The manifests of a stream's data, made at their first use."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture
def registered(monkeypatch):
    """The epochs that were given to a service."""
    calls, register = [], tf.data.experimental.service.register_dataset
    monkeypatch.setattr(
        tf.data.experimental.service,
        "register_dataset",
        lambda *arguments: calls.append(arguments) or register(*arguments),
    )
    return calls


@pytest.fixture
def observe(data, service, registered, tmp_path):
    """What a stream gives with some settings."""

    def of(setting, stream, settings, most=None):
        name, own = STREAMS[stream]
        work = tmp_path / str(len(list(tmp_path.iterdir())))
        work.mkdir()
        places = {"work": work, "service": service.address}
        settings = {
            key: value.format(**places) if isinstance(value, str) else value
            for key, value in {**own, **settings}.items()
        }
        manifest = data(name)
        if setting in (*KEPT, *DAMAGED):
            manifest = copied(manifest, work / "data", damaged=setting in DAMAGED)
        dataset = a_stream(manifest, settings, work / "pipeline.json")
        registered.clear()
        served = settings.get("service") is not None
        seen = {"spec": str(dataset.element_spec), "cardinality": int(dataset.cardinality())}
        seen["batches"] = epoch(dataset, None if served else most, in_order=not served)
        if setting in KEPT:
            for shard in manifest.split("train").shards if setting == "cache" else ():
                manifest.shard_file(shard).unlink()
            seen["again"] = epoch(dataset, None, in_order=True)
        seen["folders"] = sorted(path.name for path in work.iterdir() if path.is_dir())
        return {**seen, "served": bool(registered), "tf": tf_settings(dataset)}

    return of


def epoch(dataset, most, *, in_order):
    """The content of every batch, or of the first ones, or "error"."""
    most = 1 if dataset.cardinality() == tf.data.INFINITE_CARDINALITY else most
    try:
        batches = [
            [repr(part.tolist()) for part in map(np.asarray, tf.nest.flatten(batch, expand_composites=True))]
            for batch in islice(dataset, most)
        ]
    except tf.errors.OpError:
        return "error"
    return batches if in_order else sorted(batches)


def tf_settings(dataset):
    """What tf.data was told, by the name of the setting."""
    options = dataset.options()
    return {
        "deterministic": options.deterministic,
        "device": "/cpu:0" if "CopyToDevice" in stages(dataset) else None,
    }


def stages(dataset):
    """The names of a dataset's stages."""
    return type(dataset).__name__ + "".join(map(stages, dataset._inputs()))


# Settings that are tried together: each shows by itself in what tf.data was told, or none of them may show.
TOLD = ("deterministic", "device")
BASES = {}


def base_of(stream, observe):
    if stream not in BASES:
        BASES[stream] = observe(None, stream, {})
    return BASES[stream]


def value_of(setting, stream):
    return OTHERWISE.get((setting, stream), VALUES[setting])


# Cells that read epochs take minutes together: make nightly. Those that are refused are tried in every run.
@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_what_decides_how_fast_is_taken_by_every_stream_and_changes_no_batch(stream, observe):
    names = [name for name, cells in TABLE.items() if cells[stream] == "s"]
    assert {"parallel_calls", "vectorize", "prefetch"} <= set(names)
    base, now = base_of(stream, observe), observe(None, stream, {name: value_of(name, stream) for name in names})
    assert (now["spec"], now["batches"]) == (base["spec"], base["batches"])


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_what_tf_data_is_told_reaches_it_from_every_stream(stream, observe):
    told = {name: value_of(name, stream) for name in TOLD}
    assert {TABLE[name][stream] for name in TOLD} == {"A"}
    assert not set(base_of(stream, observe)["tf"].items()) & set(told.items())
    assert observe(None, stream, told, most=1)["tf"] == told


def cells_of(letters):
    """The (setting, stream) of all cells with one of the letters, but for what tf.data is told."""
    return [
        (setting, stream)
        for stream in STREAMS
        for setting, cells in TABLE.items()
        if cells[stream] in letters and setting not in TOLD
    ]


@pytest.mark.parametrize(("setting", "stream"), cells_of("R"))
def test_each_refused_setting_is_named(setting, stream, observe):
    changed = {**BESIDE.get((setting, stream), {}), setting: value_of(setting, stream)}
    # A mixture is no argument's name.
    with pytest.raises(ValueError, match="mixture" if setting == "source" else setting):
        observe(setting, stream, changed)


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "stream"), cells_of("AN"))
def test_each_setting_acts_or_has_nothing_to_decide(setting, stream, observe):
    cell, beside = TABLE[setting][stream], BESIDE.get((setting, stream), {})
    changed = {**beside, setting: value_of(setting, stream)}
    without, whole = {} if setting == "cache" else beside, setting in (*KEPT, *DAMAGED)
    base = observe(setting, stream, without) if whole or without else base_of(stream, observe)
    now = observe(setting, stream, changed, most=1 if cell == "A" and not whole else None)
    if setting in DAMAGED:
        assert (base["batches"], now["batches"] == "error") == ("error", False)
    elif cell == "N":
        assert (now["spec"], now["batches"]) == (base["spec"], base["batches"])
    elif len(now["batches"]) == 1:
        assert {**now, "batches": 0} != {**base, "batches": 0} or now["batches"] != base["batches"][:1]
    else:
        assert now != base
