"""DeepAugment's ops under their own names."""

import numpy as np
import pytest
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.deepaugment import DEEP_AUGMENT

IMAGES = np.random.default_rng(0).integers(0, 256, [16, 32, 32, 3], np.uint8)
SEED = tf.constant([3, 4])


def test_all_its_ops_but_fog_and_clouds_are_there():
    assert len(DEEP_AUGMENT) == 18
    for name in ("fog", "clouds"):
        with pytest.raises(ValueError, match="left out; known"):
            augment.deep_augment([[(name, 0.5)]])


@pytest.mark.parametrize("name", sorted(DEEP_AUGMENT))
def test_each_op_is_made_of_tfpipes_at_every_magnitude(name):
    for magnitude in (0, 0.3, 1):
        transform = augment.deep_augment([[(name, magnitude)]], original=False)
        choices = transform.draw(SEED, 64, 32, 32)
        used = {transform.ops[int(place)].name for place in np.unique(choices.ops)}
        assert used - {"identity"} or name.endswith("flip"), used
        assert np.isfinite(choices.values).all()


def test_a_policy_leaves_an_image_as_often_as_it_takes_any_sub_policy():
    steps = [[("invert", 0.1), ("invert", 0.5)], [("invert", 0.2)], [("brighten", 1.0)]]
    transform = augment.deep_augment(steps)
    choices = transform.draw(SEED, 20000, 32, 32)
    names = np.array([op.name for op in transform.ops])[np.asarray(choices.ops)]
    inverted = (names == "invert").sum(axis=1)
    shares = [(inverted == 2).mean(), (inverted == 1).mean(), (names == "add_brightness").any(axis=1).mean()]
    np.testing.assert_allclose(shares, 0.25, atol=0.015)


def test_a_policy_changes_pixels_and_is_written_down_and_read_again():
    steps = [(("rotate", 0.3), ("gamma-contrast", 0.6)), (("crop", 0.2), ("add-to-hue-and-saturation", 0.5))]
    transform = augment.deep_augment(steps)
    changed = transform({"image": tf.constant(IMAGES)}, SEED)["image"].numpy()
    different = (changed != IMAGES).any(axis=(1, 2, 3))
    assert 0 < different.sum() < len(IMAGES)
    again = augment.from_json(augment.to_json(transform))
    np.testing.assert_array_equal(again({"image": tf.constant(IMAGES)}, SEED)["image"], changed)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([], "at least one sub-policy"),
        ([[("spin", 0.5)]], "Unknown DeepAugment op 'spin'; known: "),
        ([[("rotate", 1.5)]], r"magnitude of 'rotate' is 1.5; it must be in \[0, 1\]"),
    ],
)
def test_what_it_does_not_take_is_refused_in_a_sentence(steps, sentence):
    with pytest.raises(ValueError, match=sentence):
        augment.deep_augment(steps)
