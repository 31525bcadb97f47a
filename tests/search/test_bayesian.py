"""The search of DeepAugment on a tiny task: its order, its journal, its end."""

import json
import pickle
import signal
import time

import keras
import numpy as np
import pytest
import searched
from processes import _children, _is_alive
from searched import bayesian, start, stop_after

from tfpipe import augment, search
from tfpipe.errors import SetupError, UsageError
from tfpipe.policy import load_policy
from tfpipe.search import journal
from tfpipe.search.space import slots


def rewards(result):
    return [(trial.index, trial.kind, trial.reward) for trial in result.trials], result.rescores


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished search, and where it is kept."""
    folder = tmp_path_factory.mktemp("search") / "found"
    return bayesian(storage=folder), folder


def test_the_baseline_comes_first_then_each_op_alone_then_the_sampler(kept):
    result, _ = kept
    assert [trial.kind for trial in result.trials] == ["none", *["screen"] * 3, *["sampled"] * 3]
    assert [trial.op for trial in result.trials[1:4]] == list(searched.SPACE.screened)
    assert result.trials[0].policy.sub_policies == searched.SPACE.policy(searched.SPACE.idle).sub_policies
    assert result.left_out == ()
    assert [row.reward for row in result.screen] == sorted((row.reward for row in result.screen), reverse=True)


def test_the_screen_takes_at_most_half_of_the_trials_and_names_what_it_left_out():
    result = bayesian(trials=4, rescored=1, repeats=1)
    assert [trial.kind for trial in result.trials] == ["none", "screen", "screen", "sampled"]
    assert result.left_out == ("solarize",)


def test_the_best_are_trained_again_and_the_best_second_score_is_handed_back(kept):
    result, _ = kept
    first = sorted(result.trials, key=lambda trial: (-trial.reward, trial.index))
    assert {row.index for row in result.rescores} == {trial.index for trial in first[:2]}
    assert all(len(row.rewards) == 2 and row.rewards[0] != row.rewards[1] for row in result.rescores)
    best = max(result.rescores, key=lambda row: row.mean)
    assert result.score == best.mean
    assert result.policy.sub_policies == result.trials[best.index].policy.sub_policies
    assert result.baseline == result.trials[0].reward


def test_costs_are_counted(kept):
    costs = kept[0].costs
    assert (costs.trainings, costs.steps) == (7 + 4, 11 * 12)
    assert costs.trials_per_minute == pytest.approx(11 * 60 / costs.wall_seconds)
    assert costs.cpu_hours * 3600 > 0
    assert costs.gpu_hours == 0


def test_a_search_is_a_pure_function_of_its_seed(kept):
    assert rewards(bayesian()) == rewards(kept[0])
    assert rewards(bayesian(seed=4)) != rewards(kept[0])


def test_what_was_found_plugs_into_a_pipeline_and_a_model(kept):
    result, folder = kept
    assert load_policy(folder / "policy.json") == result.policy
    transform = augment.policy(folder / "policy.json", fill=0)
    assert transform({"image": searched.TRAIN[0]}, (1, 2))["image"].shape == searched.TRAIN[0].shape
    from tfpipe.layers import PolicyAugment

    layer = PolicyAugment(folder / "policy.json", fill=0, seed=1)
    assert layer(searched.TRAIN[0], training=True).shape == searched.TRAIN[0].shape
    document = json.loads((folder / "result.json").read_text())
    assert (document["score"], document["policy"]) == (result.score, result.policy.to_json())


def test_the_best_child_is_kept(kept):
    result, folder = kept
    model = keras.saving.load_model(folder / "best.keras")
    found = np.argmax(model.predict(searched.VALIDATION[0].astype("float32") / 255, verbose=0), axis=-1)
    # Its reward was measured on half of these images.
    assert (found == searched.VALIDATION[1]).mean() == pytest.approx(max(result.rescores[0].rewards), abs=0.12)
    assert not list(folder.glob("child-*.keras"))


def test_a_finished_search_is_read_not_repeated(kept):
    result, folder = kept
    told = []
    again = bayesian(storage=folder, on_trial=lambda *state: told.append(state))
    assert rewards(again) == rewards(result)
    assert told == []


def test_another_search_in_the_same_folder_is_refused(kept):
    with pytest.raises(UsageError, match=r"holds another search: seed: 3 there, 9 here"):
        bayesian(storage=kept[1], seed=9)
    with (
        journal.file_lock(kept[1] / "search.lock"),
        pytest.raises(SetupError, match="Another process searches in"),
    ):
        bayesian(storage=kept[1])


def test_ctrl_c_leaves_the_best_so_far_and_a_search_that_goes_on_to_the_same_end(kept, tmp_path):
    stopped = bayesian(storage=tmp_path / "s", on_trial=stop_after(5))
    assert (stopped.stopped, len(stopped.trials), stopped.score) == ("interrupted", 5, None)
    best = max(stopped.trials, key=lambda trial: trial.reward)
    assert stopped.policy.sub_policies == best.policy.sub_policies
    assert load_policy(tmp_path / "s" / "policy.json") == stopped.policy
    assert rewards(bayesian(storage=tmp_path / "s")) == rewards(kept[0])


def test_what_a_killed_process_left_half_written_is_done_again(kept, tmp_path):
    """A trial under way, and a line of the journal without its end."""
    folder = tmp_path / "s"
    bayesian(storage=folder, on_trial=stop_after(2))
    study = journal.open_study(folder, journal.TRIALS)
    cut_off = journal.claim(folder, study, searched.SPACE, limit=7, sampler="tpe", seed=3)
    assert cut_off.user_attrs["kind"] == "screen"
    with open(folder / journal.JOURNAL_NAME, "ab") as file:
        file.write(b'{"op_code": 5, "trial')
    assert rewards(bayesian(storage=folder)) == rewards(kept[0])


def test_a_search_out_of_time_stops_with_the_best_so_far(tmp_path):
    begin = time.monotonic()
    result = bayesian(trials=100_000, storage=tmp_path / "s", budget_seconds=6)
    assert result.stopped == "budget"
    assert time.monotonic() - begin < 30
    assert result.score is None or len(result.rescores) > 0
    # Even where there was no time for one.
    assert bayesian(budget_seconds=1e-3).trials == ()


def test_hopeless_trials_end_early():
    result = bayesian(trials=14, pruner="median", rescored=1, repeats=1)
    pruned = [trial for trial in result.trials if trial.pruned]
    assert pruned
    assert all(trial.steps < 12 and trial.kind == "sampled" for trial in pruned)
    assert result.rescores[0].index not in {trial.index for trial in pruned}


@pytest.mark.parametrize("sampler", ["random", "forest"])
def test_other_samplers_are_reproducible_too(sampler):
    results = [bayesian(trials=12, sampler=sampler, rescored=1, repeats=1) for _ in range(2)]
    assert rewards(results[0]) == rewards(results[1])


def test_a_sampler_of_one_s_own_is_called_with_a_seed_for_each_trial():
    import optuna

    seeds = []

    def sampler(seed):
        seeds.append(seed)
        return optuna.samplers.RandomSampler(seed=seed)

    result = bayesian(trials=6, sampler=sampler, rescored=1, repeats=1)
    assert len(set(seeds)) == len(seeds) == [trial.kind for trial in result.trials].count("sampled") == 2


class Scored:
    """A trial as the forest reads it."""

    def __init__(self, vector, value):
        self.params = {d.name: v for d, v in zip(searched.SPACE.dimensions, vector, strict=True)}
        self.value = value


def test_the_forest_proposes_what_scored_well():
    generator = np.random.default_rng(1)
    vectors = [tuple(d.draw(generator) for d in searched.SPACE.dimensions) for _ in range(60)]
    trials = [Scored(vector, float(vector[0] == "invert") + vector[3]) for vector in vectors]
    found = [journal._forest_proposal(searched.SPACE, trials, seed) for seed in range(3)]
    assert [vector[0] for vector in found] == ["invert"] * 3
    assert np.mean([vector[3] for vector in found]) > 0.7


WRONG = {
    "trials is 0; it must be an integer of at least 1": {"trials": 0},
    "Unknown sampler 'best'; known: ": {"sampler": "best"},
    "Unknown pruner 'x'; known: ": {"pruner": "x"},
    r"screen_magnitude is 2; it must be in \[0, 1\]": {"screen_magnitude": 2},
    "budget_seconds is -1; it must be a positive number, or None": {"budget_seconds": -1},
    "workers=2, child has to be a function of a module": {"workers": 2, "child": lambda shape, n: None},
    r"Unknown engine 'spark'; known: \['local', 'ray'\]": {"engine": "spark"},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_argument_is_refused(sentence):
    with pytest.raises(UsageError, match=sentence):
        bayesian(**WRONG[sentence])


def test_wrong_images_are_refused():
    images, labels = searched.TRAIN
    for train, sentence in (
        ((images.astype("float32"), labels), r"Images are uint8 \[N, H, W, C\]; got float32"),
        ((images, labels[:5]), r"Labels are integers \[96\], at least one; got int64 \[5\]"),
        ((images, labels - 1), "Labels count from 0; the smallest is -1"),
        ((images[:, :8], labels), "The images of one search have one size"),
        ("photos", "Images come as"),
    ):
        with pytest.raises(UsageError, match=sentence):
            search.bayesian(train, searched.VALIDATION, trials=2)
    with pytest.raises(UsageError, match="the labels name a single class"):
        search.bayesian((images, labels * 0), (images, labels * 0), trials=2)


def finished(folder):
    try:
        return journal.finished(journal.open_study(folder, journal.TRIALS))
    except (OSError, ValueError, KeyError):
        return []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_is_killed_loses_no_finished_trial_and_leaves_no_process(workers, kept, tmp_path):
    folder = tmp_path / "s"
    process = start(f"bayesian(storage={str(folder)!r}, workers={workers})")
    deadline = time.monotonic() + 200
    while not (folder / "journal.log").exists() or len(finished(folder)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    helpers = _children(process.pid)
    assert len(helpers) == (workers if workers > 1 else 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {trial.user_attrs["index"]: trial.value for trial in finished(folder)}
    while any(map(_is_alive, helpers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    result = bayesian(storage=folder)
    after = {trial.index: trial.reward for trial in result.trials}
    assert before.items() <= after.items()
    assert sorted(after) == list(range(7))
    if workers == 1:
        assert rewards(result) == rewards(kept[0])


def test_processes_share_one_journal(tmp_path):
    result = bayesian(storage=tmp_path / "s", workers=2, trials=9)
    assert [trial.index for trial in result.trials] == list(range(9))
    assert result.stopped == ""
    assert len(result.rescores) == 2
    pickle.dumps(result)


def test_a_worker_that_fails_ends_the_search_with_its_error(tmp_path):
    with pytest.raises(UsageError, match="The child has 3 outputs; there are 2 classes"):
        bayesian(workers=2, child=searched.three_outputs)


def test_a_space_without_the_identity_has_a_baseline_too():
    one = slots(ops=("invert", "solarize"))
    assert one.ops[0] == "identity"
