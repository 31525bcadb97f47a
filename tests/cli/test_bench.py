"""`tfpipe bench` and `tfpipe tune` as commands: table, document, picture, options file, and rejected arguments."""

import argparse
import json
import sys
from importlib import util

import pytest

import tfpipe
from tfpipe import cli
from tfpipe.cli import bench, tune
from tfpipe.cli.scalings import print_scalings, scaling_sentences
from tfpipe.policy import Policy, Step
from tfpipe.reader.options import ReadOptions
from tfpipe.timing.scaling import Scaling
from tfpipe.timing.training import LAYER

ROW = {
    "variant",
    "images_per_second",
    "spread",
    "images_per_cpu_second",
    "utilisation",
    "first_epoch_seconds",
    "speedup",
    "wall_seconds",
    "cpu_seconds",
}


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tfpipe", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("given", "antialias", "dct", "size"),
    [
        ((), True, "exact", None),
        (("--antialias", "--image_size", "24,32"), True, "exact", (24, 32)),
        (("--no-antialias", "--dct", "fast", "--image_size", "24"), False, "fast", (24, 24)),
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", [bench, tune], ids=lambda verb: verb.__name__)
def test_the_pixels_that_are_timed_are_those_asked_for(raw_dataset, verb, given, antialias, dct, size):
    parser = argparse.ArgumentParser()
    parser.set_defaults(json=False)
    verb.add_arguments(parser)
    task = bench.whole_task(parser.parse_args([str(raw_dataset.directory), *given]))
    assert (task.antialias, task.dct, task.image_size) == (antialias, dct, size)


FEW = ("--batch_size", 8, "--image_size", "24,32", "--repeats", 1, "--limit", 1)


def test_bench_prints_one_document(command, raw_dataset):
    code, out, _ = command("bench", raw_dataset.directory, *FEW, "--json", "--variants", "plain", "--batch_sizes", "2")
    document = json.loads(out)
    assert code == 0
    assert [row["variant"] for row in document["rows"]] == [
        "plain",
        "batch_2",
        "synthetic_ceiling",
        "decode_only",
    ]
    assert all(set(row) == ROW for row in document["rows"])
    assert document["rows"][0]["speedup"] == 1
    assert (document["mode"], document["page_cache"], document["image_size"]) == ("loop", "warm", [24, 32])
    assert (document["antialias"], document["dct"]) == (True, "exact")


def test_bench_prints_a_table_and_draws_it(command, raw_dataset, tmp_path):
    ReadOptions(prefetch=2).save(tmp_path / "mine.json")
    extras = ("--fit", "--page_cache", "dropped", "--options", tmp_path / "mine.json")
    pictures = ("--plot", tmp_path / "bench.svg") if util.find_spec("matplotlib") else ()
    code, out, _ = command("bench", raw_dataset.directory, *FEW, "--variants", "plain", *extras, *pictures)
    lines = out.splitlines()
    assert code == 0
    assert "fit, page cache dropped" in lines[0]
    assert [line.split()[0] for line in lines[1:6]] == [
        "variant",
        "plain",
        "options",
        "synthetic_ceiling",
        "decode_only",
    ]
    assert "Left out: vectorize: image files" in out
    if pictures:
        assert "synthetic_ceiling" in (tmp_path / "bench.svg").read_text()


TRAINED = ("--batch_size", 4, "--image_size", "24,32", "--repeats", 1, "--limit", 1)
PLACES = ["synthetic_ceiling", "no_augmentation", "augment_host", "augment_device", "augment_layer", "cached"]


def one_op(tmp_path):
    """A policy that takes no time to compile."""
    Policy("p", ((Step("invert", 0.5),),)).save(tmp_path / "invert.json")
    return tmp_path / "invert.json"


def test_fit_trains_from_every_place_and_names_one_option(command, raw_dataset, tmp_path):
    pictures = ("--plot", tmp_path / "fit.svg") if util.find_spec("matplotlib") else ()
    policy = one_op(tmp_path)
    code, out, _ = command("bench", raw_dataset.directory, *TRAINED, "--fit", "--policy", policy, *pictures, "--json")
    document = json.loads(out)
    assert code == 0
    assert [row["variant"] for row in document["rows"]] == PLACES
    own = {"share_of_ceiling", "step_seconds", "input_wait_seconds", "input_wait_from", "gpu"}
    assert all(set(row) == ROW | own for row in document["rows"])
    assert document["rows"][0]["share_of_ceiling"] == document["rows"][2]["speedup"] == 1
    assert all(0 <= row["input_wait_seconds"] <= row["step_seconds"] for row in document["rows"])
    assert {row["input_wait_from"] for row in document["rows"]} == {"clock"}
    assert (document["model"], document["policy"], document["mode"]) == ("small", str(policy), "fit")
    assert document["gpu_unknown"] == "GPU utilisation is not known: TensorFlow sees no GPU."
    assert document["bottleneck"] in ("the model", "reading", "augmentation")
    assert (document["option"] is None) == (document["variant"] is None)
    assert document["advice"]
    if pictures:
        assert "augment_layer" in (tmp_path / "fit.svg").read_text()


def test_fit_prints_a_table_for_a_model_of_ones_own(command, raw_dataset, tmp_path):
    import keras

    class Own(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    own = keras.saving.register_keras_serializable("test_bench")(Own)
    model = own([keras.Input((24, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.save(tmp_path / "own.keras")
    more = ("--fit", "--model", tmp_path / "own.keras", "--policy", one_op(tmp_path), "--seconds", "0.001")
    code, out, err = command("bench", raw_dataset.directory, *TRAINED[:-2], *more)
    assert code == 0, err
    lines = out.splitlines()
    assert "model own.keras, augmentation invert.json" in lines[0]
    assert [line.split()[0] for line in lines[1:7]] == ["variant", *(name for name in PLACES if name != LAYER)]
    assert "Left out: augment_layer: the model has a train_step of its own" in out
    assert "\nBottleneck: " in out


SERIAL = (*FEW, "--variants", "plain", "--seconds", "0.1", "--serial")


def test_bench_tells_measured_from_projected(command, raw_dataset):
    code, out, _ = command("bench", raw_dataset.directory, *SERIAL, "--json")
    document = json.loads(out)
    assert code == 0
    assert all(set(row) == ROW for row in document["rows"])
    (row,) = document["serial"]
    assert (row["variant"], row["measured"]["calls"]) == ("plain", 1)
    assert row["measured"]["free_images_per_second"] > 0
    assert list(row["projected"]) == ["8", "16", "32", "64"]
    assert row["projected"]["8"]["limit"] == row["projected"]["64"]["limit"] == "parallel_calls"


def scaling(**changes):
    """700 us an image, 25,000 a second with decoding free; on 2 cores."""
    numbers = {"cpu_microseconds": 700.0, "free_images_per_second": 25_000.0, "free_cpu_microseconds": 50.0}
    rest = {"serial_microseconds": 40.0, "serial_from": "rate", "serial_part": "handing over"}
    return Scaling(
        **{"variant": "default", "cores": 2, "calls": None, "images_per_second": 2_600.0, **numbers, **rest, **changes}
    )


def test_the_table_names_the_limit_and_marks_what_is_estimated(capsys):
    print_scalings([scaling(), scaling(variant="wide", serial_microseconds=5.0, serial_from="thread")])
    first, header, default, wide, last = capsys.readouterr().out.splitlines()
    assert first == "Reading alone: measured on 2 cores, and images/s projected for more:"
    assert "decoding free  CPU us  serial us  projected: 8" in header
    assert default.split() == [
        "default",
        "2,600",
        "25,000",
        "700.0",
        "40.0",
        "11,429",
        "22,857",
        "25,000",
        "25,000",
        "18",
        "handing",
        "over",
    ]
    assert wide.split()[3:] == ["700.0", "~5.0", "11,429", "22,857", "45,714", "91,429", "140", "handing", "over"]
    assert last == "For 2 cores the model projects 1.10 to 1.10 times what was measured."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "It stops scaling at 18 cores, with 25,000 images per second (projected), limited by handing over; "
            "here are 2.",
        ),
        (
            {"cores": 32, "serial_part": "reading"},
            "More cores than 18 gain nothing: 25,000 images per second (projected), limited by reading.",
        ),
    ],
)
def test_tune_says_how_the_chosen_options_scale(changes, sentence):
    measured, projected = scaling_sentences(scaling(**changes))
    assert (
        measured
        == "One at a time: 40.0 us an image (measured), with decoding free 25,000 images per second (measured)."
    )
    assert projected == sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--plot", "bench.pdf"), r"its name must end in one of ['.png', '.svg']"),
        (("--plot", "/nowhere/bench.png"), "there is no folder /nowhere"),
        (("--image_size", "24,"), "--image_size is '24,'; it takes H,W"),
        (("--image_size", "0,0"), "--image_size is '0,0'; it takes H,W"),
        (("--model", "m.keras"), "--model goes with --fit"),
        (("--fit", "small", "--model", "m.keras"), "--fit small and --model m.keras name two models"),
        (
            ("--fit", "--serial"),
            "--serial is about ways to read: with --fit it takes --variants all",
        ),
        (("--policy", "svhn"), "--policy goes with --fit, without --variants"),
        (("--fit", "--policy", "mine"), "--policy 'mine'"),
        (
            ("--fit", "Resnet50", "--image_size", 24),
            "'Resnet50' is no model; it takes one of ['linear', 'small', ",
        ),
        (("--fit", "--image_size", 24, "--batch_size", 8), "it takes two batches of 8, and the sample has"),
        (("--split", "tests"), "No split 'tests'"),
        (("--variants", "fastest"), "No variant ['fastest']; there are ['plain'"),
        (("--repeats", 0), "repeats is 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bench_rejects_wrong_arguments_in_one_line(command, raw_dataset, arguments, sentence):
    code, out, err = command("bench", raw_dataset.directory, "--limit", 1, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_a_dataset_behind_fit_is_told_from_a_model(command, raw_dataset):
    code, out, err = command("bench", "--fit", raw_dataset.directory)
    assert (code, out) == (2, "")
    assert f"'{raw_dataset.directory}' is not the name of a model; DATASET stands before --fit" in err


def test_a_missing_matplotlib_is_named_before_anything_is_timed(command, raw_dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "tfpipe.report.bars", raising=False)
    code, out, err = command("bench", raw_dataset.directory, "--plot", "bench.png")
    assert (code, out) == (3, "")
    assert "pip install 'tfpipe[report]'" in err


def test_tune_writes_options_that_make_dataset_takes(command, raw_dataset, tmp_path, monkeypatch):
    # The default and a cache are candidates enough.
    monkeypatch.setattr("tfpipe.timing.tuning.single_changes", lambda task, cache_dir: {})
    path = tmp_path / "pipeline.json"
    code, out, _ = command("tune", raw_dataset.directory, *FEW, "--seconds", "0.1", "--order", "fresh", "-o", path)
    assert code == 0
    assert "One at a time: " in out
    assert "Bottleneck: " in out
    assert f"Wrote {path}" in out
    dataset = tfpipe.make_dataset(raw_dataset, batch_size=8, image_size=(24, 32), options=path)
    assert int(dataset.cardinality()) == len(list(dataset)) > 0
    measured = json.loads(path.read_text())["measured"]
    assert measured["rows"][0]["variant"] == "default"
    assert (tune.DEFAULTS_SUFFICE in out) == measured["defaults_suffice"]
    assert measured["serial"]["variant"] == measured["chosen"]
    assert measured["bottleneck"] in {cost["stage"] for cost in measured["stages"]}


def test_tune_rejects_a_file_in_a_missing_folder(command, raw_dataset):
    code, _, err = command("tune", raw_dataset.directory, "-o", "/nowhere/pipeline.json")
    assert code == 2
    assert "there is no folder /nowhere" in err
