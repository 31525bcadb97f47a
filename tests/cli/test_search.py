"""`tfpipe search`: what it prints, writes and refuses; and its page."""

import json
import re

import numpy as np
import pytest
import searched
from processes import process

import tfpipe
from tfpipe import search
from tfpipe.policy import load_policy
from tfpipe.search.comparison import ComparedRow, Comparison
from tfpipe.search.page import write_report
from tfpipe.search.result import Costs


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset of the tiny task, of three splits."""
    folder = tmp_path_factory.mktemp("searched") / "stripes"
    images, labels = searched.pair(300, 5)
    tfpipe.from_arrays(images, labels, folder, split={"train": 0.4, "validation": 0.3, "test": 0.3})
    return folder


FEW = ["--steps", 8, "--batch_size", 16, "--fill", 0]


def run(*arguments):
    return process("-m", "tfpipe", "search", *arguments)


def test_a_search_writes_what_make_dataset_takes_and_a_page(dataset, tmp_path):
    storage, page = tmp_path / "found", tmp_path / "found.html"
    options = ["--trials", 4, "--ops", "invert,solarize", *FEW, "--storage", storage, "--report", page]
    done = run("bayesian", dataset, *options)
    assert done.returncode == 0, done.stderr
    assert "Each op alone, validation accuracy:" in done.stdout
    assert re.search(r"12 trainings, 96 child steps, [0-9.]+ trials per minute, 0.0\d+ CPU hours", done.stdout)
    assert "augment.policy(" in done.stdout
    policy = load_policy(storage / "policy.json")
    assert policy.table == "uniform"
    text = page.read_text()
    assert "<h2>Screen</h2>" in text
    assert "<h2>History</h2>" in text
    again = run("bayesian", dataset, *options, "--json")
    document = json.loads(again.stdout)
    assert document["policy"] == policy.to_json()
    assert len(document["trials"]) == 4


WRONG = {
    "--members is an option of population, not of bayesian": ["bayesian", "d", "--members", 4],
    "--policy is an option of compare, not of bayesian": ["bayesian", "d", "--policy", "x.json"],
    "Unknown --space 'x'; known: ": ["bayesian", "d", "--space", "x"],
    r"Unknown ops \['turn'\]; known: ": ["bayesian", "d", "--ops", "turn"],
    "--ops goes with the spaces slots and walk": ["bayesian", "d", "--space", "pba", "--ops", "invert"],
    "steps is 0; it must be an integer of at least 1": ["bayesian", "d", "--steps", 0],
    "Unknown policy 'nowhere.json'": ["compare", "d", "--policy", "nowhere.json"],
    "--report is '/nowhere/x.html', but there is no folder /nowhere.": ["bayesian", "d", "--report", "/nowhere/x.html"],
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_option_is_refused_before_tensorflow_is_loaded(sentence):
    done = run(*WRONG[sentence])
    assert done.returncode == 2
    assert re.search(sentence, done.stderr)


def test_a_folder_that_is_no_dataset_is_a_usage_error(tmp_path):
    done = run("bayesian", tmp_path / "nothing", "--trials", 2)
    assert done.returncode == 2
    assert "nothing" in done.stderr


@pytest.fixture(scope="module")
def comparison():
    rows = [ComparedRow("none", (0.5, 0.6), 0), ComparedRow("<b>mine</b>", (0.7, 0.75), 12)]
    costs = Costs(16, 160, 10.0, 9.0, 0.01, 0.0, 96.0)
    return Comparison(tuple(rows), 0.95, costs, {"steps": 8}, {"tfpipe": "x"})


def test_the_page_holds_everything_and_escapes_what_it_is_given(comparison, tmp_path):
    result = search.population(
        (np.repeat(searched.TRAIN[0], 3, axis=-1), searched.TRAIN[1]),
        (np.repeat(searched.VALIDATION[0], 3, axis=-1), searched.VALIDATION[1]),
        members=2,
        rounds=2,
        space=searched.WALK,
        child=searched.tiny,
        training=searched.TRAINING,
        repeats=1,
    )
    result.report(tmp_path / "page.html", comparison=comparison)
    text = (tmp_path / "page.html").read_text()
    for heading in ("History", "What was found", "Pictures", "Against the baselines", "How it was made"):
        assert f"<h2>{heading}</h2>" in text
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert "<b>mine" not in text
    assert text.count("data:image/png;base64,") == 5
    # A cell of the heat map for each op and epoch, and a point for each member's round.
    assert text.count(", epoch ") == len(searched.WALK.ops) * 2
    assert text.count("<circle") == 4
    for word in ("trials per minute", "CPU hours", "trainings to find it", "no gain shown"):
        assert word in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_comparison_alone_makes_a_page(comparison, tmp_path):
    write_report(None, tmp_path / "page.html", comparison=comparison)
    text = (tmp_path / "page.html").read_text()
    assert "Against the baselines" in text
    assert "<h2>Screen</h2>" not in text
