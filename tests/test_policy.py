"""Policies and schedules as data: what is published, the way to JSON and back, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpipe.policy import (
    TABLES,
    Policy,
    Schedule,
    Segment,
    Step,
    load_policy,
    load_schedule,
    published_policies,
    published_schedules,
)

AUTO = {"image_net": 25, "reduced_image_net": 25, "svhn": 25, "reduced_cifar10": 25, "cifar10_95": 95}
names = st.text(min_size=1, max_size=8)
chances = st.floats(0, 1)


@st.composite
def policies(draw):
    bins = draw(st.none() | st.integers(1, 31))
    magnitude = st.floats(0, 1) if bins is None else st.integers(0, bins - 1)
    steps = st.lists(st.builds(Step, names, chances, st.none() | magnitude), min_size=1, max_size=3)
    subs = draw(st.lists(steps, min_size=1, max_size=3))
    num_ops = (0.25, 0.75) if len(subs) == 1 and draw(st.booleans()) else None
    return Policy(draw(names), tuple(map(tuple, subs)), bins, draw(st.sampled_from(TABLES)), num_ops, draw(names))


@given(policies())
def test_a_policy_survives_the_way_through_json(policy):
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


@given(policies(), st.integers(1, 9))
def test_a_schedule_survives_the_way_through_json(policy, epochs):
    schedule = Schedule("s", (Segment(epochs, policy), Segment(2, policy)))
    assert Schedule.from_json(json.loads(json.dumps(schedule.to_json()))) == schedule


def test_a_saved_policy_is_loaded_by_its_path(tmp_path):
    policy = Policy("mine", ((Step("rotate", 0.5, 0.3),),))
    policy.save(tmp_path / "mine.json")
    assert load_policy(tmp_path / "mine.json") == policy
    schedule = Schedule("growing", (Segment(3, policy),))
    schedule.save(tmp_path / "schedule.json")
    assert load_schedule(tmp_path / "schedule.json") == schedule


def test_five_policies_are_published_with_their_sources():
    assert {name: len(load_policy(name).sub_policies) for name in published_policies()} == AUTO
    assert all("arXiv" in load_policy(name).source for name in published_policies())


def test_the_first_sub_policy_of_image_net_is_the_papers():
    first = load_policy("image_net").sub_policies[0]
    assert first == (Step("equalize", 0.8), Step("shear_y", 0.8, 4))


def test_twenty_of_the_25_for_cifar_are_among_the_95():
    def form(policy):
        # Steps of probability 0 change nothing.
        return {
            tuple((s.op, s.probability, s.magnitude) for s in steps if s.probability) for steps in policy.sub_policies
        }

    long = form(load_policy("cifar10_95"))
    assert len(long) == 91
    assert len(form(load_policy("reduced_cifar10")) & long) == 20


@pytest.mark.parametrize(
    ("name", "epochs", "lengths", "masses"),
    [
        (
            "rcifar10",
            200,
            [12, 22, 20, 20, 1, 6, 3, 27, 6, 21, 6, 9, 7, 17, 6, 12, 5],
            [0, 3.3, 5.5, 6.3, 7.9, 9.8, 12.5, 13.1],
        ),
        ("rsvhn", 160, [9, 15, 6, 8, 7, 24, 6, 25, 4, 4, 39, 6, 6, 1], [0, 2.9, 6.3, 9.2]),
    ],
)
def test_the_published_schedules_have_the_lengths_and_weights_of_the_logs(name, epochs, lengths, masses):
    schedule = load_schedule(name)
    assert schedule.num_epochs == epochs
    assert [segment.epochs for segment in schedule.segments] == lengths
    sums = [sum(step.probability for step in segment.policy.steps) for segment in schedule.segments]
    assert sums[: len(masses)] == pytest.approx(masses)
    assert published_schedules() == ("rcifar10", "rsvhn")


def test_a_schedule_gives_each_epoch_its_policy_and_the_last_one_holds_on():
    schedule = load_schedule("rcifar10")
    assert schedule.policy_at(11) == schedule.segments[0].policy
    assert schedule.policy_at(12) == schedule.segments[1].policy
    assert schedule.policy_at(10_000) == schedule.segments[-1].policy
    with pytest.raises(ValueError, match="The epoch is -1; epochs count from 0"):
        schedule.policy_at(-1)


@given(st.sampled_from(["rcifar10", "rsvhn"]), st.integers(1, 2000))
def test_a_stretched_schedule_has_the_epochs_asked_for_and_keeps_its_order(name, epochs):
    schedule = load_schedule(name)
    stretched = schedule.stretched(epochs)
    assert stretched.num_epochs == epochs
    order = [segment.policy for segment in schedule.segments]
    places = [order.index(segment.policy) for segment in stretched.segments]
    assert places == sorted(places)
    if epochs == schedule.num_epochs:
        assert stretched == schedule


def test_stretching_cuts_every_segment_short_and_gives_the_rest_to_the_last():
    lengths = [segment.epochs for segment in load_schedule("rsvhn").stretched(80).segments]
    # Halves of 9, 15, 6, 8, 7, 24, 6, 25, 4, 4, 39, 6, 6, 1 rounded down leave 3 epochs over, for the last one.
    assert lengths == [4, 7, 3, 4, 3, 12, 3, 12, 2, 2, 19, 3, 3, 3]
    assert [segment.epochs for segment in load_schedule("rcifar10").stretched(400).segments][:2] == [24, 44]


ONE = ((Step("invert"),),)
REFUSED = {
    "has no sub-policies": lambda: Policy("p", ()),
    "Sub-policy 1 of policy 'p' is empty": lambda: Policy("p", (*ONE, ())),
    r"Unknown table 'dalí' in policy 'p'; known tables: \['tfpipe'": lambda: Policy("p", ONE, table="dalí"),
    "num_magnitude_bins of policy 'p' is 0": lambda: Policy("p", ONE, 0),
    r"The probability of 'invert' is 1.5; it must be in \[0, 1\]": lambda: Step("invert", 1.5),
    "The probability of 'invert' is nan": lambda: Step("invert", float("nan")),
    "The magnitude of 'invert' is 'high'": lambda: Step("invert", 1.0, "high"),
    "The op of a step is ''": lambda: Step(""),
    r"magnitude of 'rotate' in policy 'p' is 11; with 11 bins it must be an integer from 0 to 10": lambda: Policy(
        "p", ((Step("rotate", 1, 11),),), 11
    ),
    "is 2.5; with 11 bins it must be an integer": lambda: Policy("p", ((Step("rotate", 1, 2.5),),), 11),
    r"is 2; without bins it must be in \[0, 1\]": lambda: Policy("p", ((Step("rotate", 1, 2),),)),
    r"num_ops of policy 'p' is \[0.5, 0.4\]; it needs probabilities that sum to 1": lambda: Policy(
        "p", ONE, num_ops=(0.5, 0.4)
    ),
    "asks for up to 2 ops, but it has 1 steps": lambda: Policy("p", ONE, num_ops=(0, 0, 1)),
    "has num_ops and 2 sub-policies": lambda: Policy("p", ONE * 2, num_ops=(0, 1)),
    "A segment has 0 epochs": lambda: Segment(0, Policy("p", ONE)),
    "Schedule 's' has no segments": lambda: Schedule("s", ()),
    "differ in table, bins or rule": lambda: Schedule(
        "s", (Segment(1, Policy("p", ONE)), Segment(1, Policy("q", ONE, table="dali")))
    ),
    "num_epochs is 0": lambda: load_schedule("rsvhn").stretched(0),
    r"Unknown policy 'imagenet': no such file, and the published ones are \['cifar10_95', 'image_net'": lambda: (
        load_policy("imagenet")
    ),
    r"Unknown schedule 'cifar': no such file, and the published ones are \['rcifar10', 'rsvhn'\]": lambda: (
        load_schedule("cifar")
    ),
    "Not a document of kind 'tfpipe policy 1': 'list'": lambda: Policy.from_json([]),
    r"lacks \['sub_policies'\] or has unknown fields \['steps'\]": lambda: Policy.from_json(
        {"kind": "tfpipe policy 1", "name": "p", "steps": []}
    ),
    r"is not \[\[\[op, probability, magnitude\], ...\], ...\]": lambda: Policy.from_json(
        {"kind": "tfpipe policy 1", "name": "p", "sub_policies": [[3]]}
    ),
    r"\[\] is no \[op, probability, magnitude\]": lambda: Policy.from_json(
        {"kind": "tfpipe policy 1", "name": "p", "sub_policies": [[[]]]}
    ),
    r"{'op': 'rotate'} is no \[op, probability, magnitude\]": lambda: Policy.from_json(
        {"kind": "tfpipe policy 1", "name": "p", "sub_policies": [[{"op": "rotate"}]]}
    ),
    "'abc' is no": lambda: Policy.from_json({"kind": "tfpipe policy 1", "name": "p", "sub_policies": [["abc"]]}),
    "The op of a step is None": lambda: Policy.from_json(
        {"kind": "tfpipe policy 1", "name": "p", "sub_policies": [[[None, 0.5, 0.5]]]}
    ),
    "need epochs and policy each": lambda: Schedule.from_json(
        {"kind": "tfpipe schedule 1", "name": "s", "segments": [{"epochs": 3}]}
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_out_of_range_is_refused_in_one_sentence(sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        REFUSED[sentence]()
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(ValueError, match="p.json is not JSON"):
        load_policy(tmp_path / "p.json")
