"""A population on Ray Tune: its PopulationBasedTraining, with PBA's exploring, on this machine or a cluster.

Ray keeps the state of the search in the search's folder, which on a cluster all its machines have to see. Its log of
exploits has the form of PBA's published ones. Takes tfpipe[ray].
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe.search.helpers import check_importable
from tfpipe.search.lineage import Exploit, explore, parse_exploit
from tfpipe.search.members import Population, Records
from tfpipe.search.ray_workers import ray_started, share_of_gpus
from tfpipe.search.settings import OutOfTime

_NAME = "ray"
_EXPLORE = 31


def run_on_ray(
    task: Population, records: Records, deadline: float, tell: Callable[[], None], *, workers: int | None = None
) -> None:
    """Runs all rounds, or those that a killed search left, and fills the records.

    Raises:
      ImportError: Ray is missing.
      OutOfTime: the deadline came first.
      KeyboardInterrupt: Ctrl-C came first.
    """
    from ray import tune

    check_importable('engine="ray"', {"child": task.child})
    folder = task.folder.resolve() / _NAME
    with ray_started(), contextlib.suppress(_Done):
        resources = {"cpu": 1, "gpu": share_of_gpus(workers or task.members)}
        trainable = tune.with_resources(tune.with_parameters(_member_class(), task=task), resources)
        if (folder / _NAME).exists() and tune.Tuner.can_restore(str(folder / _NAME)):
            _read(task, folder / _NAME, records)
            if records.rounds == task.rounds:
                raise _Done
            space = _param_space(task)
            tuner = tune.Tuner.restore(str(folder / _NAME), trainable, resume_errored=True, param_space=space)
        else:
            tuner = _tuner(task, trainable, folder, deadline, workers)
        results = tuner.fit()
        if results.errors:
            raise RuntimeError(f"A member of the population failed: {results.errors[0]}")
        _read(task, folder / _NAME, records)
    tell()
    if records.rounds < task.rounds:
        raise OutOfTime if time.time() >= deadline else KeyboardInterrupt


class _Done(Exception):
    """There is nothing left to do."""


def _param_space(task: Population) -> dict[str, Any]:
    from ray import tune

    first = task.first_vectors()
    return {
        "member": tune.grid_search(list(range(task.members))),
        "hp_policy": tune.sample_from(lambda config: list(first[config["member"]])),
    }


def _tuner(task: Population, trainable: Any, folder: Path, deadline: float, workers: int | None) -> Any:
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    generator = np.random.default_rng([task.seed, _EXPLORE])

    def explored(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "hp_policy": list(explore(task.space, config["hp_policy"], generator))}

    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        quantile_fraction=max(0.25, 1 / task.members),
        custom_explore_fn=explored,
        require_attrs=False,
        synch=True,
    )
    limit = None if deadline == float("inf") else max(deadline - time.time(), 1.0)
    return tune.Tuner(
        trainable,
        param_space=_param_space(task),
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            metric="accuracy",
            mode="max",
            reuse_actors=True,
            time_budget_s=limit,
            max_concurrent_trials=workers,
        ),
        run_config=tune.RunConfig(
            name=_NAME,
            storage_path=str(folder),
            stop={"training_iteration": task.rounds},
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=4),
            verbose=0,
        ),
    )


def _member_class() -> Any:
    from ray import tune

    class Member(tune.Trainable):
        """A member of the population, in a process of Ray's."""

        def setup(self, config: dict[str, Any], task: Population) -> None:
            self.task, self.child = task, task.make_child()
            self.child.reset(task.seed + config["member"])

        def step(self) -> dict[str, Any]:
            own = int(self.trial_id.rpartition("_")[2])
            return self.task.train_member(self.child, tuple(self.config["hp_policy"]), self.iteration, own)

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            np.savez(Path(checkpoint_dir, "state.npz"), *self.child.state())

        def load_checkpoint(self, checkpoint: str) -> None:
            with np.load(Path(checkpoint, "state.npz")) as arrays:
                self.child.restore([arrays[f"arr_{i}"] for i in range(len(arrays.files))])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            self.child.reset(self.task.seed + new_config["member"])
            return True

    return Member


def _read(task: Population, folder: Path, records: Records) -> None:
    """Fills the records from what Ray wrote."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for path in sorted(folder.glob("*/result.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # The last line of a process that was killed.
                found = json.loads(line)
                member, turn = int(found["trial_id"].rpartition("_")[2]), found["training_iteration"] - 1
                names = ("accuracy", "steps", "seconds", "cpu_seconds", "on_gpu")
                row = {name: found[name] for name in names}
                rows[turn, member] = {"round": turn, "member": member, "vector": found["config"]["hp_policy"], **row}
    records.rows[:] = [rows[place] for place in sorted(rows)]
    turns = {member: sorted(turn for turn, one in rows if one == member) for member in range(task.members)}
    records.rounds = min(found[-1] + 1 if found else 0 for found in turns.values())
    records.histories.clear()
    records.histories.update({member: [] for member in range(task.members)})
    for exploit in _exploits(folder / "pbt_global.txt"):
        target, source = int(exploit.target), int(exploit.source)
        # A clone takes the checkpoint that its source has when it starts, which may be a later one than Ray logs.
        started = [turn for turn in turns[target] if tuple(rows[turn, target]["vector"]) == exploit.new]
        if started:
            moved = exploit._replace(target_epoch=started[0], source_epoch=started[0])
            records.histories[target] = [*records.histories[source], moved]


def _exploits(path: Path) -> list[Exploit]:
    """Ray's log, each exploit once: a search that was killed may have repeated the last."""
    found: dict[tuple[str, int], Exploit] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else []):
        line = parse_exploit(text, f"{path}:{number + 1}")
        # A trial is named as "3_member=3".
        target, source = (str(int(name.partition("_")[0])) for name in (line.target, line.source))
        found.pop((target, line.target_epoch), None)
        found[target, line.target_epoch] = line._replace(target=target, source=source)
    return list(found.values())
