"""`tfpipe bench` and `tfpipe tune` as commands: table, document, picture, options file, and rejected arguments."""

import argparse
import json
import sys
from importlib import util

import pytest

import tfpipe
from tfpipe import cli
from tfpipe.cli import bench, tune
from tfpipe.reader.options import ReadOptions

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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--plot", "bench.pdf"), r"its name must end in one of ['.png', '.svg']"),
        (("--plot", "/nowhere/bench.png"), "there is no folder /nowhere"),
        (("--image_size", "24,"), "--image_size is '24,'; it takes H,W"),
        (("--image_size", "0,0"), "--image_size is '0,0'; it takes H,W"),
        (("--model", "m.keras"), "--model goes with --fit"),
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
    code, out, _ = command("tune", raw_dataset.directory, *FEW, "--order", "fresh", "-o", path)
    assert code == 0
    assert "Bottleneck: " in out
    assert f"Wrote {path}" in out
    dataset = tfpipe.make_dataset(raw_dataset, batch_size=8, image_size=(24, 32), options=path)
    assert int(dataset.cardinality()) == len(list(dataset)) > 0
    measured = json.loads(path.read_text())["measured"]
    assert measured["rows"][0]["variant"] == "default"
    assert measured["bottleneck"] in {cost["stage"] for cost in measured["stages"]}


def test_tune_rejects_a_file_in_a_missing_folder(command, raw_dataset):
    code, _, err = command("tune", raw_dataset.directory, "-o", "/nowhere/pipeline.json")
    assert code == 2
    assert "there is no folder /nowhere" in err
