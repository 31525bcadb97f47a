"""Searches on Ray: a population by Ray Tune, Bayesian trials by actors; and what a killed driver leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import searched
from searched import bayesian, population, start

from tfpipe.errors import UsageError
from tfpipe.search import journal
from tfpipe.search.lineage import parse_exploit

pytestmark = pytest.mark.engines
MEMBERS, ROUNDS = 2, 3
# TensorFlow starts anew in a process for each member.
DEADLINE_SECONDS = 600


def on_ray(folder: Path):
    return population(engine="ray", storage=folder, members=MEMBERS, rounds=ROUNDS)


def check(result) -> None:
    assert result.stopped == ""
    # A clone may begin at a later checkpoint of its source, and skip a round.
    assert MEMBERS * (ROUNDS - 1) <= len(result.trials) <= MEMBERS * ROUNDS
    assert result.schedule.num_epochs == ROUNDS
    assert result.score is not None
    # The winner's last policy is that of a member in the last round.
    last = [searched.WALK.vector(trial.policy) for trial in result.trials[-MEMBERS:]]
    assert searched.WALK.vector(result.policy) in last


def test_a_population_on_ray_finds_a_schedule_with_pba_s_log(tmp_path):
    result = on_ray(tmp_path / "s")
    check(result)
    text = (tmp_path / "s" / "ray" / "ray" / "pbt_global.txt").read_text()
    lines = [parse_exploit(line, "log") for line in text.splitlines()]
    assert lines
    assert all(len(line.new) == len(searched.WALK.idle) for line in lines)


def processes_of(session: int) -> list[int]:
    """All processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def killed(call: str, is_far_enough: Callable[[], bool]) -> None:
    """Starts a search in a session of its own, kills its process when it is far enough, and waits for all others."""
    process = start(call, start_new_session=True)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_far_enough():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while processes_of(process.pid):
        assert time.monotonic() < deadline, processes_of(process.pid)
        time.sleep(0.2)


def test_a_population_whose_driver_is_killed_leaves_no_process_and_goes_on(tmp_path):
    folder = tmp_path / "s"

    def done() -> dict[tuple[str, int], float]:
        lines = [line for path in folder.glob("ray/ray/*/result.json") for line in path.read_text().splitlines()]
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return {(row["trial_id"], row["training_iteration"]): row["accuracy"] for row in rows}

    call = f"population(storage={str(folder)!r}, engine='ray', members={MEMBERS}, rounds={ROUNDS})"
    killed(call, lambda: len(done()) > MEMBERS)
    before = done()
    result = on_ray(folder)
    check(result)
    rewards = [trial.reward for trial in result.trials]
    assert all(accuracy in rewards for accuracy in before.values())
    assert os.path.exists(folder / "schedule.json")


def rewards(result) -> list[tuple[int, str, float]]:
    return [(trial.index, trial.kind, trial.reward) for trial in result.trials]


def test_trials_on_actors_give_what_they_give_here(tmp_path):
    """Those of the screen do; what the sampler proposes depends on which of two trials ends first."""
    here, there = bayesian(), bayesian(engine="ray", workers=2, storage=tmp_path / "s")
    assert (there.stopped, rewards(there)[:4]) == ("", rewards(here)[:4])
    assert [(trial.index, trial.kind) for trial in there.trials] == [(t.index, t.kind) for t in here.trials]
    assert [len(row.rewards) for row in there.rescores] == [2, 2]
    import keras

    model = keras.saving.load_model(tmp_path / "s" / "best.keras")
    found = np.argmax(model.predict(searched.VALIDATION[0].astype("float32") / 255, verbose=0), axis=-1)
    # Its reward was measured on half of these images.
    expected = max(there.rescores[0].rewards)
    assert (found == searched.VALIDATION[1]).mean() == pytest.approx(expected, abs=0.12)


def test_what_an_actor_refuses_is_said_in_its_own_words():
    with pytest.raises(UsageError, match=r"^The child has 3 outputs; there are 2 classes"):
        bayesian(engine="ray", child=searched.three_outputs)
    with pytest.raises(UsageError, match="reports at its end"):
        bayesian(engine="ray", pruner="median")


def test_a_search_on_actors_out_of_time_keeps_the_best_so_far():
    result = bayesian(engine="ray", trials=100_000, budget_seconds=60)
    assert result.stopped == "budget"
    assert len(result.trials) < 100_000


def test_trials_whose_driver_is_killed_are_kept_and_no_process_is_left(tmp_path):
    folder = tmp_path / "s"

    def done() -> dict[int, float]:
        try:
            trials = journal.finished(journal.open_study(folder, journal.TRIALS))
        except (OSError, ValueError, KeyError):
            return {}
        return {trial.user_attrs["index"]: trial.value for trial in trials}

    call = f"bayesian(storage={str(folder)!r}, engine='ray', workers=2, trials=40)"
    killed(call, lambda: (folder / journal.JOURNAL_NAME).exists() and len(done()) > 3)
    before = done()
    assert len(before) < 40
    after = {trial.index: trial.reward for trial in bayesian(storage=folder, workers=2, trials=40).trials}
    assert before.items() <= after.items()
    assert sorted(after) == list(range(40))
