"""Conditional transforms: as often as they say, independently, nested, and pixel for pixel what their parts do."""

import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpipe import augment

NEVER = 1e-4


def drawn(transform, size=20_000, seed=(23, -5)):
    choices = transform.draw(seed, size, 32, 32)
    return np.array([op.name for op in transform.ops])[choices.ops.numpy()]


def images(count=12, side=8):
    return np.random.default_rng(3).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def p_value(counts, chances):
    assert set(counts) == set(chances)
    total = sum(counts.values())
    return stats.chisquare([counts[key] for key in chances], [chance * total for chance in chances.values()]).pvalue


def test_one_of_gives_each_image_one_part_as_likely_as_asked():
    counts = Counter(drawn(augment.one_of(["invert", "equalize", "grayscale"], p=[0.2, 0.3, 0.5]))[:, 0])
    assert p_value(counts, {"invert": 0.2, "equalize": 0.3, "grayscale": 0.5}) > NEVER
    even = Counter(drawn(augment.one_of(["invert", "equalize", "grayscale"]))[:, 0])
    assert p_value(even, dict.fromkeys(("invert", "equalize", "grayscale"), 1 / 3)) > NEVER


def test_sometimes_happens_as_often_as_asked_and_for_all_stages_at_once():
    names = drawn(augment.sometimes(augment.compose(["invert", "equalize"]), 0.3))
    counts = Counter(map(tuple, names))
    assert p_value(counts, {("invert", "equalize"): 0.3, ("identity", "identity"): 0.7}) > NEVER


def test_choose_n_gives_different_parts_in_every_order_equally_often():
    parts = ["invert", "equalize", "grayscale", "edges"]
    counts = Counter(map(tuple, drawn(augment.choose_n(parts, 2))))
    assert p_value(counts, dict.fromkeys(itertools.permutations(parts, 2), 1 / 12)) > NEVER
    assert augment.choose_n(parts, 0).num_stages == 0


def test_nested_conditions_multiply_their_chances():
    inner = augment.one_of(["invert", augment.sometimes("equalize", 0.25)], p=[0.4, 0.6])
    counts = Counter(drawn(augment.sometimes(augment.one_of([inner, "edges"]), 0.8))[:, 0])
    chances = {"invert": 0.8 * 0.5 * 0.4, "equalize": 0.8 * 0.5 * 0.6 * 0.25, "edges": 0.8 * 0.5}
    assert p_value(counts, {**chances, "identity": 1 - sum(chances.values())}) > NEVER


def test_choices_of_neighbouring_conditions_are_independent():
    coin = augment.sometimes("invert", 0.5)
    names = drawn(augment.compose([coin, coin]))
    assert stats.chi2_contingency(np.histogram2d(*(names == "invert").T, bins=2)[0]).pvalue > NEVER


def test_the_parts_of_one_of_keep_their_own_draws():
    part = augment.op("rotate", (-30.0, 30.0))
    values = (
        augment.one_of([part, augment.op("rotate", (100.0, 110.0))]).draw((1, 2), 4000, 32, 32).values.numpy()[:, 0, 0]
    )
    low, high = values[values < 50], values[values > 50]
    assert stats.kstest(low, stats.uniform(-30, 60).cdf).pvalue > NEVER
    assert stats.kstest(high, stats.uniform(100, 10).cdf).pvalue > NEVER


@pytest.mark.parametrize("index", [[0, 1, 2, 1, 7, -1], np.array([0, 1, 2, 1, 7, -1]), "which"])
def test_select_gives_each_image_the_part_of_its_index(index):
    pixels = images(6)
    transform = augment.select(["invert", "flip_left_right", augment.op("solarize", 128)], index)
    found = transform({"image": pixels, "which": tf.constant([0, 1, 2, 1, 7, -1])}, (0, 0))["image"].numpy()
    np.testing.assert_array_equal(found[0], 255 - pixels[0])
    np.testing.assert_array_equal(found[1], pixels[1, :, ::-1])
    np.testing.assert_array_equal(found[2], np.where(pixels[2] < 128, pixels[2], 255 - pixels[2]))
    np.testing.assert_array_equal(found[3], pixels[3, :, ::-1])
    np.testing.assert_array_equal(found[4:], pixels[4:])


def test_select_takes_one_index_for_all():
    pixels = images(3)
    found = augment.select(["invert", "flip_up_down"], 1)({"image": pixels}, (0, 0))["image"]
    np.testing.assert_array_equal(found, pixels[:, ::-1])


def test_compose_applies_its_parts_in_order():
    pixels = images(4)
    parts = [augment.op("solarize", 100), augment.op("posterize", 3), "invert"]
    at_once = augment.compose(parts)({"image": pixels}, (4, 4))["image"]
    one_by_one = {"image": pixels}
    for part in parts:
        one_by_one = augment.compose([part])(one_by_one, (9, 9))
    np.testing.assert_array_equal(at_once, one_by_one["image"])


def test_compose_joins_what_is_made_of_ops_and_keeps_the_rest_in_its_place():
    made = augment.compose(["invert", augment.flip_left_right(1.0)])
    assert made.num_stages == 2
    pixels = images(4)
    mixed = augment.compose(
        ["invert", augment.center_crop((4, 6)), augment.flip_left_right(1.0), augment.normalize(0, 1)]
    )
    found = mixed({"image": pixels}, (1, 1))["image"].numpy()
    expected = (255 - pixels)[:, 2:6, 1:7][:, :, ::-1].astype(np.float32) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_parts_that_fill_differently_are_applied_apart_by_compose():
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    parts = [augment.op("translate_x", 4, fill=10), augment.op("translate_y", 4, fill=20)]
    found = augment.compose(parts)({"image": pixels}, (0, 0))["image"].numpy()
    assert sorted(np.unique(found)) == [0, 10, 20]


def test_boxes_and_masks_move_with_the_images_that_were_chosen():
    pixels = images(2)
    boxes = np.tile(np.array([[[1.0, 2, 4, 6]]], np.float32), (2, 1, 1))
    batch = {"image": pixels, "boxes": boxes, "mask": pixels[..., 0], "key": tf.constant(["a", "b"])}
    found = augment.select(["flip_left_right", "invert"], [0, 1])(batch, (0, 0))
    np.testing.assert_array_equal(found["boxes"], [[[4, 2, 7, 6]], [[1, 2, 4, 6]]])
    np.testing.assert_array_equal(found["mask"], [pixels[0, :, ::-1, 0], pixels[1, ..., 0]])
    assert found["key"].numpy().tolist() == [b"a", b"b"]


REFUSED = {
    r"one_of takes a list of at least one part; it got \[\]": lambda: augment.one_of([]),
    "compose takes a list of at least one part; it got 'invert'": lambda: augment.compose("invert"),
    r"p is \[0.5\]; it needs 2 probabilities": lambda: augment.one_of(["invert", "equalize"], p=[0.5]),
    r"p is \[0.5, 0.6\]; it needs 2 probabilities, one a part, that sum to 1": lambda: augment.one_of(
        ["invert", "equalize"], p=[0.5, 0.6]
    ),
    r"p is 1.2; it must be in \[0, 1\]": lambda: augment.sometimes("invert", 1.2),
    "n is 3; with 2 parts it must be an integer from 0 to 2": lambda: augment.choose_n(["invert", "equalize"], 3),
    "n is -1": lambda: augment.choose_n(["invert"], -1),
    "Unknown op 'inverse'; known ops": lambda: augment.one_of(["inverse"]),
    "A part of sometimes is 3; it takes transforms": lambda: augment.sometimes(3, 0.5),
    "random_crop changes sizes or mixes images and cannot be a part of one_of": lambda: augment.one_of(
        [augment.random_crop((4, 4))]
    ),
    "mixup changes sizes or mixes images and cannot be a part of sometimes": lambda: augment.sometimes(
        augment.mixup(), 0.5
    ),
    "The parts of one_of differ in fill": lambda: augment.one_of(
        [augment.op("rotate", fill=0), augment.op("rotate", fill=9)]
    ),
    r"select reads 'which', but the batch has \['image'\]": lambda: augment.select(["invert"], "which")(
        {"image": images(2)}, (0, 0)
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_combined_is_refused_in_one_sentence(sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        REFUSED[sentence]()
    assert "\n" not in str(error.value)
