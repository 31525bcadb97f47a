"""DeepAugment's ops under their own names."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpipe import augment
from tfpipe.augment.deepaugment import DEEP_AUGMENT
from tfpipe.augment.ops import imgaug

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
    shares = [(inverted == 2).mean(), (inverted == 1).mean(), (names == "brighten").any(axis=1).mean()]
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


# ---- as imgaug 0.2.7 has them


def after(name, magnitude, images, seed=SEED, **more):
    transform = augment.deep_augment([[(name, magnitude)]], original=False, **more)
    return transform({"image": tf.constant(images)}, seed)["image"].numpy()


WHITE = np.full([64, 32, 32, 3], 255, np.uint8)


def test_what_comes_in_is_black_and_warps_interpolate_linearly():
    for name in ("rotate", "translate-x"):
        assert set(np.unique(after(name, 0.5, WHITE))) == {0, 255}, name
    transform = augment.deep_augment([[("shear", 0.5)]], fill=9, interpolation="nearest")
    assert (transform.rendering.fill, transform.rendering.interpolation) == (9, "nearest")
    steps = np.zeros_like(WHITE)
    steps[:, ::2] = 200
    assert len(np.unique(after("rotate", 0.1, steps))) > 20


def test_a_shear_is_about_the_centre_and_a_shift_of_whole_pixels():
    images = np.zeros_like(WHITE)
    images[:, :, 15:17] = 255
    columns = np.arange(32) + 0.5
    sheared = after("shear", 0.3, images)[..., 0].astype(float)
    for row in (0, 15, 16, 31):
        place = (sheared[:, row] * columns).sum(axis=1) / sheared[:, row].sum(axis=1)
        # tan(27 degrees) is 0.51 a row: 8 px at the outermost rows, a quarter of one in the middle.
        most = abs(row - 15.5) * np.tan(np.radians(27))
        assert np.abs(place - 16).max() <= most + 0.05
        assert np.abs(place - 16).max() > 0.8 * most
    assert set(np.unique(after("translate-x", 0.5, images))) == {0, 255}


def test_half_of_the_images_are_brightened_channel_by_channel():
    transform = augment.deep_augment([[("brighten", 0.6)]], original=False)
    values = transform.draw(SEED, 4000, 2, 2).values[:, 0]
    images = tf.fill([4000, 2, 2, 3], tf.constant(100, tf.uint8))
    added = imgaug.brighten(images, values).numpy()[:, 0, 0].astype(int) - 100
    together = (added[:, 0] == added[:, 1]) & (added[:, 0] == added[:, 2])
    assert abs(together.mean() - 0.5) < 0.03
    assert (added.min(), added.max()) == (-24, 24)
    counts = np.bincount(added[~together].ravel() + 24, minlength=49)
    assert stats.chisquare(counts).pvalue > 1e-4


def coarse(name, magnitude, count=400):
    """The images of one level after a coarse op, and the cells that it drew."""
    transform = augment.deep_augment([[(name, magnitude)]], original=False)
    choices = transform.draw(SEED, count, 32, 32)
    images = tf.fill([count, 32, 32, 3], tf.constant(100, tf.uint8))
    done = transform.ops[1].build(images, choices.values[:, 0], choices.seeds[:, 0]).numpy()
    return done, choices.values.numpy()[:, 0]


def num_cells(done):
    """The steps between neighbours that some image has, and one: cells a side, down and across."""
    black = (done == 0).all(axis=-1)
    down, across = black[:, 1:] != black[:, :-1], black[:, :, 1:] != black[:, :, :-1]
    return int(down.any(axis=(0, 2)).sum()) + 1, int(across.any(axis=(0, 1)).sum()) + 1


def test_coarse_salt_and_pepper_is_noise_in_cells_of_which_there_are_four_a_side_or_more():
    for magnitude, cells in ((0.02, 4), (0.5, 16), (1.0, 32)):
        done, values = coarse("coarse-salt-pepper", magnitude)
        np.testing.assert_allclose(values[:, :2], [[0.2, magnitude]] * len(values), rtol=1e-6)
        chosen = (done != 100).any(axis=-1)
        assert abs(chosen.mean() - 0.2) < 0.02
        # A cell is chosen as a whole: but for pixels that happen to be drawn as they were, it is all noise or none.
        shares = chosen.reshape(400, cells, 32 // cells, cells, 32 // cells).mean(axis=(2, 4))
        assert ((shares == 0) | (shares > 0.7)).mean() > 0.999
    levels = coarse("coarse-salt-pepper", 0.02)[0]
    levels = levels[(levels != 100).any(axis=-1)]
    assert np.all(levels[:, 0] == levels[:, 1])
    shares = np.cumsum(np.bincount(levels[:, 0], minlength=256)) / len(levels)
    # A level is what is left of it without the fraction.
    law = stats.beta(0.5, 0.5).cdf(np.minimum((np.arange(256) + 1) / 255, 1))
    assert np.abs(shares - law).max() < 0.01


def test_coarse_dropout_has_the_cells_of_its_law():
    done, values = coarse("coarse-dropout", 0.9)
    # Between 0.30 and log10(2.7) = 0.431, down and across apart.
    assert abs(values[:, 1:3].min() - 0.3) < 0.01
    assert abs(values[:, 1:3].max() - 0.4314) < 0.01
    assert abs(np.corrcoef(values[:, 1], values[:, 2])[0, 1]) < 0.2
    for image, value in zip(done, values, strict=True):
        assert np.all(np.array(num_cells(image[None])) <= np.maximum(4, (value[1:3] * 32).astype(int)))
    assert abs((done == 0).mean() - 0.09) < 0.01
    few, values = coarse("coarse-dropout", 0.05)
    assert values[:, 1].min() < 0.01  # log10(0.15) is below 0: four cells.
    assert 4 <= max(num_cells(image[None])[0] for image in few) <= 9


# Pixels and what OpenCV 5's HSV of 8 bits makes of them with -45, 7 and 45 added to hue and saturation, as imgaug adds.
HSV = {
    (0, 0, 0): [(0, 0, 0), (0, 0, 0), (0, 0, 0)],
    (255, 0, 0): [(241, 45, 255), (255, 34, 0), (246, 255, 0)],
    (10, 200, 30): [(195, 200, 45), (5, 200, 50), (0, 173, 200)],
    (90, 90, 91): [(91, 91, 91), (88, 87, 91), (91, 74, 90)],
    (3, 2, 200): [(38, 200, 189), (27, 0, 200), (200, 0, 193)],
    (8, 29, 115): [(28, 115, 92), (5, 12, 115), (96, 0, 115)],
    (107, 110, 170): [(137, 170, 167), (109, 102, 170), (170, 77, 170)],
    (150, 44, 188): [(77, 114, 188), (168, 39, 188), (188, 11, 52)],
}


def test_hue_and_saturation_are_those_of_opencv():
    pixels = np.array(list(HSV), np.uint8)[None]
    for place, added in enumerate((-45.0, 7.0, 45.0)):
        found = imgaug.hue_and_saturation(tf.constant(pixels), tf.constant([added, 0, 0, 0])).numpy()[0].astype(int)
        expected = np.array([row[place] for row in HSV.values()])
        assert np.abs(found - expected).max() <= 1
        assert (found == expected).mean() > 0.75  # Of random pixels 97.7 %.


def test_both_forms_agree_on_its_own_ops():
    names = ["shear", "brighten", "coarse-salt-pepper", "coarse-dropout", "add-to-hue-and-saturation", "translate-y"]
    transform = augment.deep_augment([[(name, 0.7)] for name in names], original=False)
    choices = transform.draw(SEED, 16, 32, 32)
    results = [
        augment.apply_choices(IMAGES, choices, transform.ops, fill=0, interpolation="nearest", form=form).numpy()
        for form in ("loop", "dense")
    ]
    np.testing.assert_array_equal(*results)


def test_version_one_fills_with_gray_and_keeps_its_ops():
    steps = [[("shear", 0.5), ("brighten", 0.5)]]
    document = augment.to_json(augment.deep_augment(steps))
    assert (document["arguments"]["version"], document["arguments"]["fill"]) == (2, 0)
    old = augment.deep_augment(steps, version=1, fill=128, interpolation="nearest")
    written = augment.to_json(old)["arguments"]
    assert set(written) == {"sub_policies", "original"}
    read = augment.from_json(augment.to_json(old))
    assert (read.rendering.fill, read.rendering.interpolation) == (128, "nearest")
    assert {op.name for op in read.ops} == {"identity", "shear_x", "add_brightness"}
