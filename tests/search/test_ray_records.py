"""What Ray Tune writes, read as the records of a population: files as Ray 2.60 left them, without Ray."""

import json

import pytest
import searched

from tfpipe.search import members
from tfpipe.search.members import Records, winner_of
from tfpipe.search.ray_engine import _read

ZERO, FIRST, SECOND = [0] * 6, [0, 0, 0, 0, 2, 0], [0, 0, 0, 1, 0, 3]
# Member 1 was to clone member 0 after its first round, and started from the second.
ROWS = {0: [(1, 0.59, ZERO), (2, 0.69, ZERO), (3, 0.64, SECOND)], 1: [(1, 0.45, [0, 2, 0, 9, 0, 0]), (3, 0.65, FIRST)]}
LOG = [
    ["1_member=1", "0_member=0", 1, 0, {"member": 0, "hp_policy": ZERO}, {"member": 0, "hp_policy": FIRST}],
    ["0_member=0", "1_member=1", 2, 1, {"member": 0, "hp_policy": FIRST}, {"member": 0, "hp_policy": SECOND}],
]


@pytest.fixture
def read(tmp_path):
    """The records of a folder of Ray's; a line of a log that was repeated, and one that was cut off, among them."""
    for member, rows in ROWS.items():
        folder = tmp_path / f"Member_ab_0000{member}_{member}_member={member}"
        folder.mkdir()
        lines = [
            {"trial_id": f"ab_0000{member}", "training_iteration": turn, "accuracy": accuracy, "steps": 4}
            | {"seconds": 1.0, "cpu_seconds": 1.0, "on_gpu": False, "config": {"member": 0, "hp_policy": vector}}
            for turn, accuracy, vector in rows
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"trial_id": "ab'
        (folder / "result.json").write_text(text)
    (tmp_path / "pbt_global.txt").write_text("".join(json.dumps(line) + "\n" for line in [LOG[0], *LOG]))
    task = members.Population(None, None, None, "", searched.TRAINING, searched.WALK, 1, 2, 3)
    records = Records()
    _read(task, tmp_path, records)
    return task, records


def test_rows_come_by_round_and_the_last_round_that_all_reached_counts(read):
    _, records = read
    assert [(row["round"], row["member"]) for row in records.rows] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert records.rounds == 3


def test_a_clone_s_history_begins_with_its_source_s_up_to_the_checkpoint_that_it_took(read):
    task, records = read
    schedule, accuracy = winner_of(task, records)
    assert accuracy == 0.65
    segments = [(segment.epochs, list(searched.WALK.vector(segment.policy))) for segment in schedule.segments]
    assert segments == [(2, ZERO), (1, FIRST)]
