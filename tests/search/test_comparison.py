"""Baselines, pairs and intervals."""

import dataclasses
import json

import numpy as np
import pytest
import searched
from scipy.stats import t as student

from tfpipe import augment, search
from tfpipe.errors import UsageError
from tfpipe.search.comparison import BASELINES, NO_GAIN, ComparedRow, Comparison, paired_interval
from tfpipe.search.result import Costs


def table(**accuracies):
    rows = tuple(ComparedRow(name, tuple(values), 0) for name, values in accuracies.items())
    return Comparison(rows, 0.95, Costs(0, 0, 1.0, 0.0, 0.0, 0.0, 0.0), {}, {})


def test_the_interval_is_student_s_over_the_paired_differences():
    first, second = [0.8, 0.85, 0.9], [0.7, 0.8, 0.82]
    found = paired_interval(first, second)
    differences = np.subtract(first, second)
    low, high = student.interval(0.95, 2, differences.mean(), differences.std(ddof=1) / np.sqrt(3))
    assert (found.mean, found.low, found.high) == pytest.approx((differences.mean(), low, high))
    assert paired_interval([0.8], [0.5]).covers_zero


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((0.82, 0.81, 0.83), "gain"), ((0.62, 0.61, 0.63), "loss"), ((0.82, 0.61, 0.7), NO_GAIN)],
)
def test_a_gain_is_shown_where_the_interval_leaves_zero_out(values, verdict):
    found = table(none=(0.72, 0.71, 0.72), mine=values)
    assert found.verdict("mine") == verdict
    assert verdict in str(found).splitlines()[-1]
    assert found.verdict("none") == ""


def test_pairs_show_what_means_alone_would_not():
    """Seeds differ by more than the two ways do."""
    seeds = np.array([0.5, 0.6, 0.7, 0.8])
    found = table(none=seeds, mine=seeds + np.array([0.02, 0.021, 0.019, 0.02]))
    assert found.verdict("mine") == "gain"


@pytest.fixture(scope="module")
def compared():
    policy = searched.SPACE.policy(searched.SPACE.alone("invert", 0.5))
    told = []
    found = search.compare(
        {"mine": policy, "flip": augment.flip_left_right()},
        (np.repeat(searched.TRAIN[0], 3, axis=-1)[:40], searched.TRAIN[1][:40]),
        (np.repeat(searched.TEST[0], 3, axis=-1)[:40], searched.TEST[1][:40]),
        seeds=2,
        child=searched.tiny,
        training=searched.TRAINING,
        space=searched.SPACE,
        random_trials=2,
        on_trial=lambda *state: told.append(state),
    )
    return found, told


def test_every_baseline_is_there_with_the_trainings_that_it_took(compared):
    found, told = compared
    assert [row.name for row in found.rows] == [*BASELINES, "mine", "flip"]
    assert {row.name: row.trainings for row in found.rows if row.trainings} == {"rand_augment": 8, "random_search": 2}
    assert all(len(row.accuracies) == 2 for row in found.rows)
    assert found.row("rand_augment").chosen.startswith("n=")
    assert found["mine"] == np.mean(found.row("mine").accuracies)
    assert found.costs.trainings == 8 + 2 + 2 * 7 == told[-1][0] == told[-1][1]
    document = json.loads(json.dumps(found.to_json()))
    assert [row["name"] for row in document["rows"]] == [row.name for row in found.rows]
    assert len(str(found).splitlines()) == 8


def test_wrong_arguments_are_refused(compared):
    with pytest.raises(UsageError, match=r"\['none'\] are names of baselines"):
        search.compare({"none": None}, searched.TRAIN, searched.TEST)
    with pytest.raises(UsageError, match=r"Unknown baselines \['x'\]; known: "):
        search.compare({}, searched.TRAIN, searched.TEST, baselines=("x",))
    with pytest.raises(UsageError, match="seeds is 0"):
        search.compare({}, searched.TRAIN, searched.TEST, seeds=0)
    with pytest.raises(UsageError, match="confidence is 1"):
        search.compare({}, searched.TRAIN, searched.TEST, confidence=1)
    with pytest.raises(UsageError, match="has no row 'x'; it has"):
        compared[0]["x"]


def test_what_one_seed_does_not_tell_is_null_in_json(compared):
    one = dataclasses.replace(
        compared[0],
        rows=tuple(dataclasses.replace(row, accuracies=row.accuracies[:1]) for row in compared[0].rows),
    )
    text = json.dumps(one.to_json(), allow_nan=False)
    assert json.loads(text)["rows"][1]["against_none"]["low"] is None
