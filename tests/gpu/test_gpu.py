"""The dense form on a GPU against the CPU, bit by bit: `make gpu`. Elsewhere it is skipped, and says why.

TFPIPE_GPU names another device: with /CPU:0 the file itself can be tried on any machine.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf
from cases import MAGNITUDES, NAMES, case, crossed, hard_images

from tfpipe import augment
from tfpipe.augment.forms.apply import apply_choices
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS

DEVICE = os.environ.get("TFPIPE_GPU", "/GPU:0")
HEIGHT, WIDTH = 61, 72
IMAGES = hard_images(HEIGHT, WIDTH)
BATCH = np.concatenate([IMAGES] * 13)[:64]
LABELS = np.eye(10, dtype=np.float32)[np.arange(64) % 10]
DTYPES = ("uint8", "float32", "float16")
POLICIES = {
    "rand_augment": lambda how: augment.rand_augment(2, 9, form="dense", interpolation=how),
    "auto_augment": lambda how: augment.auto_augment("image_net", form="dense", interpolation=how),
    "trivial_augment_wide": lambda how: augment.trivial_augment_wide(form="dense", interpolation=how),
    "every op": lambda how: augment.rand_augment(3, 9, ops=list(NAMES), form="dense", interpolation=how),
}
BATCH_TRANSFORMS = {
    "mixup": augment.mixup(0.2),
    "cutmix": augment.cutmix(1.0),
    "random_resized_crop": augment.random_resized_crop((48, 40)),
    "random_crop": augment.random_crop((48, 40)),
    "center_crop": augment.center_crop((48, 40)),
    "flip_left_right": augment.flip_left_right(),
    "color_jitter": augment.color_jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "cutout": augment.cutout(16),
    "normalize": augment.normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "GPU" in DEVICE and not tf.config.list_physical_devices("GPU"),
        reason="TensorFlow sees no GPU here (tf.config.list_physical_devices('GPU') is empty)",
    ),
]


def both(function, *arguments):
    """What a function gives on the CPU and on the device, as float64."""
    found = []
    for device in ("/CPU:0", DEVICE):
        with tf.device(device):
            given = [tf.identity(tf.constant(one)) for one in arguments]
            found.append(np.asarray(tf.function(function, autograph=False)(*given)).astype(np.float64))
    return found


def as_dtype(images, dtype):
    return images if dtype == "uint8" else (images / 255).astype(dtype)


def one_op(name, interpolation="nearest", form="dense"):
    def run(images, values, seeds):
        ops = (OPS["identity"], OPS[name])
        return apply_choices(images, second_op(values, seeds), ops, interpolation=interpolation, form=form)

    return run


def second_op(values, seeds):
    """Choices of the second of two ops for every image."""
    return Choices(tf.ones(tf.shape(values)[:2], tf.int32), values, seeds)


def every_case(name, dtype):
    table = [
        case(OPS[name], magnitude, sign, HEIGHT, WIDTH)
        for magnitude, sign in zip(MAGNITUDES, (1, -1, 1, -1, -1), strict=True)
    ]
    images, choices = crossed(table, as_dtype(IMAGES, dtype))
    return images, choices.values.numpy(), choices.seeds.numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_an_op_gives_the_bits_of_the_cpu(name, dtype):
    on_cpu, on_device = both(one_op(name), *every_case(name, dtype))
    assert np.array_equal(on_cpu, on_device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in NAMES if OPS[name].family == "warp"])
def test_a_bilinear_warp_is_within_a_level_of_the_cpu(name, dtype):
    on_cpu, on_device = both(one_op(name, "bilinear"), *every_case(name, dtype))
    assert np.abs(on_cpu - on_device).max() <= (1 if dtype == "uint8" else 1 / 255)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_gives_the_bits_of_the_cpu(name, dtype):
    transform = POLICIES[name]("nearest")
    on_cpu, on_device = both(
        lambda images, seed: transform({"image": images}, seed)["image"], as_dtype(BATCH, dtype), [3, 4]
    )
    assert np.array_equal(on_cpu, on_device)


@pytest.mark.parametrize("name", ["rand_augment", "auto_augment", "trivial_augment_wide"])
def test_a_bilinear_policy_is_almost_everywhere_within_a_level(name):
    """A level that is off by one is stretched by later ops: on an H100, 6 values in a million, by at most 5."""
    transform = POLICIES[name]("bilinear")
    on_cpu, on_device = both(lambda images, seed: transform({"image": images}, seed)["image"], BATCH, [3, 4])
    difference = np.abs(on_cpu - on_device)
    assert difference.max() <= 16
    assert np.mean(difference > 1) < 1e-4


@pytest.mark.parametrize("name", BATCH_TRANSFORMS)
@pytest.mark.parametrize("part", ["image", "label"])
def test_a_batch_transform_gives_the_bits_of_the_cpu(name, part):
    transform = BATCH_TRANSFORMS[name]

    def run(images, labels, seed):
        return transform({"image": images, "label": labels}, seed)[part]

    on_cpu, on_device = both(run, BATCH, LABELS, [3, 4])
    assert np.abs(on_cpu - on_device).max() <= (1e-6 if name == "normalize" or part == "label" else 0)


def test_the_loop_gives_the_bits_of_the_cpu_there():
    given = [one[:4] for one in every_case("color", "uint8")]
    on_cpu, on_device = both(one_op("color", form="loop"), *given)
    assert np.array_equal(on_cpu, on_device)
