"""Vectors to policies and back; nothing here loads TensorFlow."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpipe.errors import UsageError
from tfpipe.policy import Policy, load_schedule
from tfpipe.search import space
from tfpipe.search.space import SPACES, space_from_json, strength_of

ALL = [
    *(make() for make in SPACES.values()),
    space.slots(ops=("rotate", "invert"), count=2, steps=3),
    space.walk(copies=2),
]
NAMES = [*SPACES, "slots of three steps", "walk of two copies"]


@pytest.mark.parametrize("one", ALL, ids=NAMES)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_vector_survives_the_way_through_policy_json(one, seed):
    vector = space.random_vector(one, np.random.default_rng(seed))
    policy = Policy.from_json(json.loads(json.dumps(one.policy(vector).to_json())))
    again = one.vector(policy)
    assert one.policy(again) == policy
    # As published, PBA's ops without a strength have no magnitude in a policy.
    if one.table != "pba":
        assert again == vector


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_the_idle_vector_augments_nothing_and_one_alone_holds_that_op(one):
    idle = one.policy(one.idle)
    assert not any(strength_of(idle, op) for op in one.screened)
    for op in one.screened:
        alone = one.policy(one.alone(op, 0.5))
        strong = {step.op for step in alone.steps if step.probability and step.magnitude != 0} - {"identity"}
        assert strong == {op}


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_a_space_survives_json(one):
    assert space_from_json(json.loads(json.dumps(one.to_json()))) == one


def test_deep_augment_is_five_of_two_and_leaves_a_sixth_of_the_images_alone():
    one = space.deep_augment()
    assert len(one.dimensions) == 20
    policy = one.policy(one.alone("crop", 0.3))
    assert len(policy.sub_policies) == 6
    assert [step.op for step in policy.sub_policies[5]] == ["identity"]
    assert [step.op for step in policy.sub_policies[0]] == ["crop", "rotate"]
    assert policy.sub_policies[0][1].magnitude == 0


def test_pba_is_sixty_integers_and_holds_the_published_policies():
    one = space.pba()
    sizes = [int(dimension.high) + 1 for dimension in one.dimensions]
    assert len(sizes) == 60
    assert np.prod([float(size) for size in sizes]) == pytest.approx(1.745e61, rel=1e-3)
    for name in ("rcifar10", "rsvhn"):
        for segment in load_schedule(name).segments:
            assert one.policy(one.vector(segment.policy), name=segment.policy.name) == segment.policy


def test_the_screen_has_every_op_but_the_identity_in_the_space_s_order():
    assert space.slots(ops=("rotate", "invert")).screened == ("rotate", "invert")
    assert space.pba().screened[:3] == ("rotate", "translate_x", "translate_y")


def test_gray_images_are_not_searched_for_colours():
    gray = space.fitting(space.slots(), 1)
    assert not {"color", "hue", "grayscale"} & set(gray.ops)
    assert "rotate" in gray.ops
    assert space.fitting(space.slots(), 3) == space.slots()


def test_strength_is_probability_times_magnitude_over_all_sub_policies():
    one = space.slots(ops=("rotate",), count=3)
    assert strength_of(one.policy(("rotate", 0.6, "rotate", 0.2, "identity", 0.9)), "rotate") == pytest.approx(0.2)


WRONG = {
    "A vector of this space has 6 elements; got 1": ("rotate",),
    "Element '0.0.op' of a vector is 'turn'; allowed": ("turn", 0.1, "rotate", 0.1, "rotate", 0.1),
    "Element '0.0.magnitude' of a vector is 1.5; allowed: 0 to 1": ("rotate", 1.5, "rotate", 0.1, "rotate", 0.1),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_vector_is_refused(sentence):
    with pytest.raises(UsageError, match=sentence):
        space.slots(ops=("rotate",)).policy(WRONG[sentence])


def test_a_policy_of_another_space_is_refused():
    with pytest.raises(UsageError, match="is not one of the space"):
        space.pba().vector(space.walk().policy(space.walk().idle))
    with pytest.raises(UsageError, match=r"Unknown ops \['turn'\]; known: \['auto_contrast'"):
        space.check_ops(("turn",))
