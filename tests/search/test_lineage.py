"""Exploring, PBA's logs and the schedule of a winner; nothing here loads TensorFlow."""

import json

import numpy as np
import pytest
from scipy.stats import chisquare

from tfpipe.errors import DataError
from tfpipe.policy import load_schedule
from tfpipe.search.lineage import Exploit, explore, lines_of, read_pba_log, schedule_of, write_pba_log
from tfpipe.search.space import pba

MANY = 4000


def expected(value, high):
    """How likely each value is after exploring, by PBA's published rule."""
    shares = np.full(high + 1, 0.2 / (high + 1))
    for amount in range(4):
        for sign in (1, -1):
            shares[min(max(value + sign * amount, 0), high)] += 0.8 / 8
    return shares


@pytest.mark.parametrize(("value", "index"), [(0, 0), (4, 0), (10, 0), (0, 1), (5, 1), (9, 1)])
def test_exploring_is_distributed_as_published(value, index):
    """Probabilities are 0 to 10, magnitudes 0 to 9: their ends differ."""
    space, generator = pba(), np.random.default_rng(5)
    vector = [min(value, int(dimension.high)) for dimension in space.dimensions]
    drawn = np.array([explore(space, vector, generator)[index::2] for _ in range(MANY // 30)]).ravel()
    high = int(space.dimensions[index].high)
    counts = np.bincount(drawn, minlength=high + 1)
    assert chisquare(counts, expected(value, high) * len(drawn)).pvalue > 1e-3


@pytest.mark.parametrize(("name", "epochs"), [("rcifar10", 200), ("rsvhn", 160)])
def test_a_published_schedule_survives_the_published_log_format(name, epochs, tmp_path):
    schedule = load_schedule(name)
    write_pba_log(tmp_path / "log.txt", lines_of(schedule))
    again = read_pba_log(tmp_path / "log.txt", num_epochs=epochs, name=name)
    assert again.num_epochs == epochs
    assert [(s.epochs, s.policy) for s in again.segments] == [(s.epochs, s.policy) for s in schedule.segments]


def test_a_bare_list_is_a_configuration_as_in_the_legacy_files(tmp_path):
    line = ["1", "0", 3, 3, [0] * 60, [1] * 60]
    (tmp_path / "log.txt").write_text(json.dumps(line) + "\n")
    schedule = read_pba_log(tmp_path / "log.txt", num_epochs=10)
    assert [segment.epochs for segment in schedule.segments] == [3, 7]
    assert {step.probability for step in schedule.segments[1].policy.steps} == {0.1}


def line(target, source, epoch, old, new):
    return Exploit(target, source, epoch, epoch, (old,) * 60, (new,) * 60)


def test_lines_before_the_last_break_of_the_chain_are_not_its_history():
    lines = [line("a", "b", 2, 1, 2), line("c", "d", 4, 3, 4), line("e", "c", 6, 4, 5)]
    schedule = schedule_of(lines, 9)
    shares = [(s.epochs, s.policy.steps[0].probability) for s in schedule.segments]
    assert shares == [(4, 0.3), (2, 0.4), (3, 0.5)]


def test_two_exploits_in_one_epoch_leave_no_empty_segment():
    schedule = schedule_of([line("b", "a", 4, 1, 2), line("c", "b", 4, 2, 3)], 6)
    assert [(s.epochs, s.policy.steps[0].probability) for s in schedule.segments] == [(4, 0.1), (2, 0.3)]


def test_what_is_no_log_is_refused_with_its_place(tmp_path):
    (tmp_path / "log.txt").write_text("[1, 2]\n")
    with pytest.raises(DataError, match=r"log.txt:1 is not \[target, source, target epoch, source epoch, old, new\]"):
        read_pba_log(tmp_path / "log.txt", num_epochs=10)
    with pytest.raises(DataError, match=r"The epochs \[20\] of the log do not rise up to 10"):
        schedule_of([line("b", "a", 20, 1, 2)], 10)
    with pytest.raises(DataError, match="The log holds no line"):
        schedule_of([], 10)
