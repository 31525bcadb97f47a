"""A population on Ray Tune: the same records as the local engine's, and what a killed driver leaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import searched
from searched import population, start

from tfpipe.search.lineage import parse_exploit

pytestmark = pytest.mark.engines
MEMBERS, ROUNDS = 2, 3
# TensorFlow starts anew in a process for each member.
DEADLINE_SECONDS = 600


@pytest.fixture(autouse=True)
def _path_of_workers(monkeypatch):
    """The processes that Ray starts find the child's module."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(searched.__file__).parent), *sys.path]))


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


def test_a_killed_driver_leaves_no_process_and_the_search_goes_on(tmp_path):
    folder = tmp_path / "s"
    process = start(
        f"population(storage={str(folder)!r}, engine='ray', members={MEMBERS}, rounds={ROUNDS})", start_new_session=True
    )
    deadline = time.monotonic() + DEADLINE_SECONDS

    def done() -> dict[tuple[str, int], float]:
        lines = [line for path in folder.glob("ray/ray/*/result.json") for line in path.read_text().splitlines()]
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return {(row["trial_id"], row["training_iteration"]): row["accuracy"] for row in rows}

    while len(done()) < MEMBERS + 1:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = done()
    while processes_of(process.pid):
        assert time.monotonic() < deadline, processes_of(process.pid)
        time.sleep(0.2)
    result = on_ray(folder)
    check(result)
    rewards = [trial.reward for trial in result.trials]
    assert all(accuracy in rewards for accuracy in before.values())
    assert os.path.exists(folder / "schedule.json")
