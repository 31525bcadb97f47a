"""Population Based Augmentation on a tiny task: who goes on from whom, and what a killed search leaves."""

import json
import signal
import time

import numpy as np
import pytest
import searched
from processes import _children, _is_alive
from searched import MEMBERS, ROUNDS, population, start, stop_after

from tfpipe import augment
from tfpipe.errors import UsageError
from tfpipe.policy import load_schedule
from tfpipe.search import members
from tfpipe.search.lineage import read_pba_log, schedule_of, write_pba_log
from tfpipe.search.space import slots


def rows(result):
    return [(trial.index, trial.policy.steps, trial.reward) for trial in result.trials], result.score, result.schedule


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population") / "found"
    return population(storage=folder), folder


def vectors_and_scores(result):
    """By round: the vectors, and the accuracies."""
    trials = [result.trials[turn * MEMBERS : (turn + 1) * MEMBERS] for turn in range(ROUNDS)]
    return [
        ([searched.WALK.vector(trial.policy) for trial in turn], [trial.reward for trial in turn]) for turn in trials
    ]


def test_a_search_is_a_pure_function_of_its_seed(kept):
    assert rows(population()) == rows(kept[0])
    assert rows(population(seed=4)) != rows(kept[0])


def test_members_in_processes_of_their_own_come_to_the_same(kept):
    assert rows(population(workers=2)) == rows(kept[0])


def test_members_start_spread_and_one_of_them_unaugmented(kept):
    vectors, _ = vectors_and_scores(kept[0])[0]
    assert vectors[0] == searched.WALK.idle
    assert len(set(vectors)) > 2


def test_the_zero_start_is_there_as_published():
    task = members.Population(None, None, None, "", searched.TRAINING, searched.WALK, 1, 4, 2, "zero")
    assert task.first_vectors() == [searched.WALK.idle] * 4


def test_the_weakest_member_alone_changes_after_a_round_and_it_was_the_weakest(kept):
    """A quarter of five is one."""
    for (before, scores), (after, _) in zip(*[vectors_and_scores(kept[0])[i:] for i in (0, 1)], strict=False):
        changed = [member for member in range(MEMBERS) if before[member] != after[member]]
        assert len(changed) <= 1
        assert all(scores[member] == min(scores) for member in changed)


def test_the_schedule_is_the_lineage_of_the_winner(kept):
    result, folder = kept
    assert result.schedule.num_epochs == ROUNDS
    last, scores = vectors_and_scores(result)[-1]
    assert searched.WALK.vector(result.policy) == last[int(np.argmax(scores))]
    assert result.policy == result.schedule.segments[-1].policy
    assert load_schedule(folder / "schedule.json") == result.schedule
    transform = augment.pba(folder / "schedule.json", epoch=1, fill=0)
    assert transform({"image": searched.TRAIN[0]}, (1, 2))["image"].shape == searched.TRAIN[0].shape


def test_a_clone_inherits_the_history_of_its_source():
    task = members.Population(None, None, None, "", searched.TRAINING, searched.WALK, 1, 4, 3)
    first = [(value,) * 6 for value in (1, 2, 3, 4)]
    histories = {member: [] for member in range(4)}
    second, sources = members.next_round(task, 0, [0.9, 0.5, 0.6, 0.1], first, histories)
    assert (sources, second[:3]) == ([0, 1, 2, 0], first[:3])
    _, sources = members.next_round(task, 1, [0.1, 0.5, 0.6, 0.9], second, histories)
    assert sources == [3, 1, 2, 3]
    epochs = [
        (segment.epochs, searched.WALK.vector(segment.policy))
        for segment in schedule_of(histories[0], 3, space=searched.WALK).segments
    ]
    assert [length for length, _ in epochs] == [1, 1, 1]
    assert [vector for _, vector in epochs][:2] == [first[0], second[3]]


def test_the_lineage_can_be_written_and_read_in_pba_s_log_format(kept, tmp_path):
    from tfpipe.search.lineage import lines_of

    schedule = kept[0].schedule
    write_pba_log(tmp_path / "log.txt", lines_of(schedule, space=searched.WALK))
    again = read_pba_log(tmp_path / "log.txt", num_epochs=ROUNDS, space=searched.WALK)
    assert [(s.epochs, s.policy.steps) for s in again.segments] == [
        (s.epochs, s.policy.steps) for s in schedule.segments
    ]


def test_ctrl_c_leaves_the_best_so_far_and_a_search_that_goes_on_to_the_same_end(kept, tmp_path):
    stopped = population(storage=tmp_path / "s", on_trial=stop_after(12))
    assert (stopped.stopped, len(stopped.trials), stopped.score) == ("interrupted", 12, None)
    assert stopped.schedule.num_epochs == 2
    assert rows(population(storage=tmp_path / "s")) == rows(kept[0])


def test_a_search_out_of_time_stops(tmp_path):
    result = population(rounds=12, training=searched.TRAINING, budget_seconds=1e-3)
    assert (result.stopped, result.trials, result.score) == ("budget", (), None)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_is_killed_loses_no_finished_round(workers, kept, tmp_path):
    folder = tmp_path / "s"
    process = start(f"population(storage={str(folder)!r}, workers={workers})")
    deadline = time.monotonic() + 200
    log = folder / members.MEMBERS_NAME
    while not log.exists() or log.read_bytes().count(b"\n") < 7:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    helpers = _children(process.pid)
    assert len(helpers) == (workers if workers > 1 else 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(_is_alive, helpers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    with open(log, "ab") as file:
        file.write(b'{"round": 3, "mem')
    assert rows(population(storage=folder)) == rows(kept[0])
    after = [json.loads(line) for line in log.read_text().splitlines()]
    assert after[: len(before)] == before


WRONG = {
    "members is 1; a population needs at least two": {"members": 1},
    "rounds is 13, but a child has only 12 steps": {"rounds": 13},
    r"Unknown engine 'spark'; known: \['local', 'ray'\]": {"engine": "spark"},
    "workers is 0; it must be an integer of at least 1, or None": {"workers": 0},
    "With workers=2, child has to be a function of a module": {"workers": 2, "child": lambda shape, n: None},
    "Unknown start 'one'; known: ": {"start": "one"},
    "A population searches a space with a probability for every op": {"space": slots(ops=searched.OPS)},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_argument_is_refused(sentence):
    with pytest.raises(UsageError, match=sentence):
        population(**WRONG[sentence])
