"""What an op uncovers stays transparent black, as in Pillow's RGBA images of AutoAugment's and PBA's code for CIFAR."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from pictures import photo
from PIL import Image, ImageEnhance, ImageOps

from tfpipe import augment
from tfpipe.augment.forms.transparency import apply_transparent
from tfpipe.augment.ops.op import Choices
from tfpipe.policy import Policy, Step, load_policy

MEAN = (125, 122, 113)
SIDE = 32


def through_rgb(change):
    return lambda image, value: change(image.convert("RGB"), value).convert("RGBA")


def enhanced(kind):
    return lambda image, value: getattr(ImageEnhance, kind)(image).enhance(value)


def moved(coefficients):
    return lambda image, value: image.transform(image.size, Image.Transform.AFFINE, coefficients(value))


def cut(image, value):
    image, half = image.copy(), int(value) // 2
    image.paste((*MEAN, 0), (16 - half, 16 - half, 16 + half, 16 + half))
    return image


# Each op with a value that its table has.
OPS = {
    "rotate": (lambda image, value: image.rotate(value), -21.0),
    "translate_x": (moved(lambda v: (1, 0, v, 0, 1, 0)), 7.0),
    "translate_y": (moved(lambda v: (1, 0, 0, 0, 1, v)), -6.0),
    "shear_x": (moved(lambda v: (1, v, 0, 0, 1, 0)), 0.24),
    "shear_y": (moved(lambda v: (1, 0, 0, v, 1, 0)), -0.18),
    "brightness": (enhanced("Brightness"), 1.36),
    "color": (enhanced("Color"), 0.28),
    "contrast": (enhanced("Contrast"), 0.46),
    "sharpness": (enhanced("Sharpness"), 1.72),
    "posterize": (through_rgb(lambda image, value: ImageOps.posterize(image, int(value))), 2.0),
    "solarize": (through_rgb(ImageOps.solarize), 103.0),
    "invert": (through_rgb(lambda image, value: ImageOps.invert(image)), 0.0),
    "equalize": (through_rgb(lambda image, value: ImageOps.equalize(image)), 0.0),
    "auto_contrast": (through_rgb(lambda image, value: ImageOps.autocontrast(image)), 0.0),
    "cutout": (cut, 14.0),
}
PAIRS = list(itertools.product(OPS, OPS))


def expected(pair, image, fill):
    picture = Image.fromarray(image).convert("RGBA")
    for name in pair:
        change, value = OPS[name]
        picture = change(picture, value)
    levels = np.asarray(picture)
    return np.where(levels[..., 3:] == 0, np.array(fill, np.uint8), levels[..., :3])


def choices_of(pairs):
    names = ["identity", *OPS]
    values = [[[OPS[name][1], 0.5, 0.5, 0] for name in pair] for pair in pairs]
    return Choices(
        tf.constant([[names.index(name) for name in pair] for pair in pairs]),
        tf.constant(values, tf.float32),
        tf.zeros([len(pairs), len(pairs[0]), 2], tf.int32),
    ), [augment.OPS[name] for name in names]


@pytest.mark.parametrize("form", ["loop", "dense"])
def test_all_ordered_pairs_of_ops_equal_pillows_rgba(form):
    images = np.stack([photo(number % 5, SIDE, SIDE) for number in range(len(PAIRS))])
    choices, ops = choices_of(PAIRS)
    fill = (115, 116, 123)
    found = apply_transparent(images, choices, ops, fill=fill, interpolation="nearest", form=form).numpy()
    for pair, image, result in zip(PAIRS, images, found, strict=True):
        np.testing.assert_array_equal(result, expected(pair, image, fill), err_msg=str(pair))


def one(name, *steps, **more):
    return Policy(name, (tuple(steps),), 11, "pba", **more)


def test_a_policy_of_pbas_table_keeps_transparency_and_version_one_does_not():
    image = np.full((1, SIDE, SIDE, 3), 50, np.uint8)
    policy = one("p", Step("translate_x", 1.0, 5), Step("invert"))
    after = augment.policy(policy, fill=9)({"image": image}, (0, 0))["image"].numpy()
    assert sorted(np.unique(after)) == [205, 255]
    old = Policy.from_json({key: value for key, value in policy.to_json().items() if key != "version"})
    before = augment.policy(old, fill=9)({"image": image}, (0, 0))["image"].numpy()
    assert sorted(np.unique(before)) == [205, 246]


def test_what_stays_transparent_becomes_the_mean_of_the_data_set():
    image = np.full((8, SIDE, SIDE, 3), 50, np.uint8)
    shifted = [Step("translate_x", 1.0, 9), Step("contrast", 1.0, 9)]
    for name, mean in (("rcifar10", MEAN), ("rsvhn", (115, 116, 123))):
        rendering = augment.pba(name).rendering
        assert (rendering.fill, rendering.transparent) == (mean, True)
    rendering = augment.auto_augment("cifar10_95").rendering
    assert (rendering.fill, rendering.transparent) == (MEAN, True)
    assert augment.auto_augment("image_net").rendering.fill == 128
    assert not augment.auto_augment("cifar10_95", version=1).rendering.transparent
    found = augment.policy(one("p", *shifted), fill=MEAN)({"image": image}, (0, 0))["image"].numpy()
    assert {tuple(pixel) for pixel in found.reshape(-1, 3)} >= {MEAN}


def test_floats_are_treated_as_their_levels():
    images = np.stack([photo(number % 5, SIDE, SIDE) for number in range(4)])
    choices, ops = choices_of(
        [("rotate", "invert"), ("cutout", "contrast"), ("shear_x", "cutout"), ("cutout", "invert")]
    )
    how = {"fill": MEAN, "interpolation": "nearest", "form": "loop"}
    whole = apply_transparent(images, choices, ops, **how).numpy()
    fractions = apply_transparent((images / np.float32(255)), choices, ops, **how).numpy()
    np.testing.assert_array_equal(np.rint(fractions * 255), whole)


def test_the_recipe_pads_crops_flips_and_cuts_behind_the_policy():
    batch = {"image": np.full((64, SIDE, SIDE, 3), 200, np.uint8)}
    plain = augment.pba("rcifar10", epoch=0)(batch, (5, 6))["image"].numpy()
    assert np.array_equal(plain, batch["image"])  # The first epochs augment nothing.
    made = augment.pba("rcifar10", epoch=0, recipe=True)
    found = made(batch, (5, 6))["image"].numpy()
    mean = (found == MEAN).all(axis=-1)
    assert np.all(mean | (found == 200).all(axis=-1))
    # A cutout of 16 px about a centre inside the image covers 64 to 256 of its 1,024 pixels.
    assert np.all(mean.sum(axis=(1, 2)) >= 64)
    again = augment.from_json(augment.to_json(made))
    np.testing.assert_array_equal(again(batch, (5, 6))["image"], found)
    svhn = augment.pba("rsvhn", epoch=0, recipe=True)(batch, (5, 6))["image"]
    np.testing.assert_array_equal(svhn, batch["image"])


def test_a_document_without_a_version_fills_at_once():
    document = augment.to_json(augment.pba("rcifar10", epoch=100))
    del document["arguments"]["version"]
    assert not augment.from_json(document).rendering.transparent
    assert load_policy("cifar10_95").version == 2
