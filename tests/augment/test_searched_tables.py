"""The two tables that searches write: "uniform" and "deepaugment"."""

import numpy as np
import pytest
import tensorflow as tf

from tfpipe import augment
from tfpipe.policy import Policy, Step

SEED, MANY = (3, 4), 8000


def drawn(table, *sub_policies, num_ops=None, bins=None):
    """For each op that occurred, the share of the images that got it and their first values."""
    policy = Policy("mine", sub_policies, bins, table, num_ops)
    transform = augment.policy(policy)
    choices = transform.draw(SEED, MANY, 40, 40)
    ops, values = np.array(choices.ops), np.array(choices.values)[..., 0]
    return {op.name: ((ops == i).mean(), values[ops == i]) for i, op in enumerate(transform.ops) if (ops == i).any()}


def test_a_uniform_strength_lies_anywhere_up_to_the_magnitude_on_both_sides():
    _, degrees = drawn("uniform", (Step("rotate", 1, 0.5),))["rotate"]
    assert np.abs(degrees).max() <= 90
    counts, _ = np.histogram(degrees, bins=9, range=(-90, 90))
    assert np.all(np.abs(counts - MANY / 9) < 5 * np.sqrt(MANY / 9))


def test_a_one_sided_uniform_strength_begins_at_the_weakest_and_bits_stay_whole():
    _, thresholds = drawn("uniform", (Step("solarize", 1, 0.5),))["solarize"]
    assert 128 <= thresholds.min() < 132
    assert 252 < thresholds.max() <= 256
    _, bits = drawn("uniform", (Step("posterize", 1, 1.0),))["posterize"]
    assert set(bits) == set(range(1, 9))


def test_shifts_are_fractions_of_the_side_and_pixels_are_drawn():
    _, pixels = drawn("uniform", (Step("translate_x", 1, 1.0),))["translate_x"]
    assert 17.5 < np.abs(pixels).max() <= 0.45 * 40
    assert 8 < np.abs(pixels).mean() < 10


@pytest.mark.parametrize("magnitude", [0.0, 0.3, 1.0])
def test_an_op_without_a_strength_happens_with_the_magnitude_as_its_probability(magnitude):
    found = drawn("uniform", (Step("flip_left_right", 1, magnitude),)).get("flip_left_right", (0, None))
    assert abs(found[0] - magnitude) < 0.02


def test_a_walk_draws_the_strength_apart_from_sign_and_order():
    steps = (Step("rotate", 1, 10), Step("shear_x", 1, 10), Step("invert", 1, None))
    found = drawn("uniform", steps, num_ops=(0, 1), bins=11)
    shares = [found[step.op][0] for step in steps]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    degrees = found["rotate"][1]
    counts, _ = np.histogram(degrees, bins=6, range=(-180, 180))
    assert np.all(np.abs(counts - len(degrees) / 6) < 5 * np.sqrt(len(degrees) / 6))


def test_the_deepaugment_table_does_what_deep_augment_does():
    steps = (("rotate", 0.5), ("horizontal-flip", 1.0))
    policy = Policy("mine", (tuple(Step(name, 1.0, m) for name, m in steps),), table="deepaugment")
    ours = augment.policy(policy).draw(SEED, 64, 32, 32)
    theirs = augment.deep_augment([steps], original=False).draw(SEED, 64, 32, 32)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_searched_policy_takes_the_fill_of_the_training():
    policy = Policy("mine", ((Step("rotate", 1.0, 0.5), Step("identity")),), table="deepaugment")
    images = tf.fill([16, 20, 20, 1], tf.constant(200, tf.uint8))
    black = augment.policy(policy, fill=0)({"image": images}, SEED)["image"].numpy()
    assert set(np.unique(black)) == {0, 200}


def test_the_deepaugment_table_refuses_what_it_cannot_mean():
    walk = Policy("mine", ((Step("rotate", 1.0, 0.5),),), table="deepaugment", num_ops=(0.5, 0.5))
    with pytest.raises(ValueError, match="has num_ops and the table 'deepaugment'"):
        augment.policy(walk)
    bare = Policy("mine", ((Step("rotate"),),), table="deepaugment")
    with pytest.raises(ValueError, match="'rotate' of policy 'mine' has no magnitude, but DeepAugment's ops take one"):
        augment.policy(bare)
    with pytest.raises(ValueError, match="takes no ops or max_translate"):
        augment.policy(Policy("mine", ((Step("rotate", 1.0, 0.5),),), table="deepaugment"), max_translate_abs=3)
