"""What a GPU is given, lowered on a machine without one: only conversions that are defined on every device.

Another XLA, that of JAX, which is newer, gives the pixels of TensorFlow's loop from it.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from cases import NAMES, applied, case, crossed, hard_images
from hlo import lowered, run_by_jax, undefined_conversions

from tfpipe import augment
from tfpipe.augment.forms import apply, dense
from tfpipe.augment.ops import imgaug
from tfpipe.augment.ops.levels import reading_bits, to_levels
from tfpipe.augment.ops.op import Op
from tfpipe.augment.ops.table import OPS

SHAPE = (5, 24, 32, 3)
HARD = hard_images(*SHAPE[1:3])
TRANSFORMS = {
    "rand_augment": augment.rand_augment(2, 9, form="dense"),
    "auto_augment": augment.auto_augment("image_net", form="dense"),
    "mixup": augment.mixup(0.2),
    "cutmix": augment.cutmix(1.0),
    "random_resized_crop": augment.random_resized_crop((16, 16)),
    "random_crop": augment.random_crop((16, 16)),
    "normalize": augment.normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)),
}


def problems(ops, dtype=tf.uint8, interpolation="nearest", stages=1):
    program = dense.compiled_stages(tuple(ops), (128.0,) * 3, interpolation)
    return undefined_conversions(lowered(program, arguments(dtype, stages)))


def arguments(dtype, stages):
    drawn = [tf.TensorSpec([SHAPE[0], stages, *last], kind) for last, kind in (([], tf.int32), ([4], tf.float32))]
    return [tf.TensorSpec(SHAPE, dtype), *drawn, tf.TensorSpec([SHAPE[0], stages, 2], tf.int32)]


@pytest.mark.parametrize(
    ("dtype", "interpolation"), [(tf.uint8, "nearest"), (tf.float32, "bilinear"), (tf.uint8, "bilinear")]
)
def test_all_ops_together_convert_only_what_fits(dtype, interpolation):
    assert problems(OPS.values(), dtype, interpolation, stages=2) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_op_converts_only_what_fits(name):
    assert problems([OPS["identity"], OPS[name]], tf.float32) == []


def test_the_ops_of_deep_augment_convert_only_what_fits():
    ops = [op for op in vars(imgaug).values() if isinstance(op, Op)]
    assert problems([OPS["identity"], *ops], interpolation="bilinear") == []


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_converts_only_what_fits(name):
    def change(image, label, seed):
        return TRANSFORMS[name]({"image": image, "label": label}, seed)["image"]

    program = tf.function(change, jit_compile=True, autograph=False)
    given = [tf.TensorSpec(SHAPE, tf.uint8), tf.TensorSpec([SHAPE[0], 5]), tf.TensorSpec([2], tf.int32)]
    assert undefined_conversions(lowered(program, given)) == []


def test_the_loop_of_an_accelerator_converts_only_what_fits():
    """The loop of a CPU reads levels out of the bits of floats; what a GPU got wrong by up to 255."""
    given = [*arguments(tf.uint8, 1), tf.TensorSpec([], tf.int32)]
    ops = tuple(OPS[name] for name in ("identity", "brightness", "color"))
    fast, right = (apply._compiled_loop(ops, (0.0,) * 3, "nearest", for_cpu=cpu) for cpu in (True, False))
    assert "the bits of a float" in str(undefined_conversions(lowered(fast, given)))
    assert undefined_conversions(lowered(right, given)) == []


def of_values(function):
    program = tf.function(function, jit_compile=True, autograph=False)
    return undefined_conversions(lowered(program, [tf.TensorSpec([7], tf.float32)]))


def with_bits(values):
    with reading_bits():
        return to_levels(values)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda x: tf.cast(x, tf.uint8), "f32 reshape in [-inf, inf] to u8"),
        (lambda x: tf.cast(tf.minimum(x, 255.0), tf.uint8), "in [-inf, 255.0] to u8"),
        (lambda x: tf.cast(tf.cast(tf.clip_by_value(x, 0, 300), tf.int32), tf.uint8), "s32 convert in [0, 300] to u8"),
        (with_bits, "the bits of a float as s32"),
    ],
)
def test_the_search_finds_what_does_not_fit(function, problem):
    assert problem in str(of_values(function))


@pytest.mark.parametrize(
    "function", [to_levels, lambda x: tf.cast(tf.floor(tf.clip_by_value(x, -0.5, 255.7)), tf.uint8)]
)
def test_the_search_lets_pass_what_fits(function):
    # The second: -0.5 floors to -1, which does not fit.
    assert (of_values(function) == []) == (function is to_levels)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_the_xla_of_jax_gives_an_op_s_bits(name, dtype):
    table = [case(OPS[name], magnitude, sign, *SHAPE[1:3]) for magnitude, sign in ((0.4, 1), (1.0, -1))]
    images, choices = crossed(table, HARD if dtype == "uint8" else (HARD / 255).astype(dtype))
    expected = applied(images, choices, ("identity", name), form="loop")
    mine = choices._replace(ops=tf.ones_like(choices.ops))
    program = dense.compiled_stages((OPS["identity"], OPS[name]), (128.0,) * 3, "nearest")
    assert np.array_equal(run_by_jax(program, [tf.constant(images), *mine]), expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_xla_of_jax_gives_a_transform_s_bits(name):
    def change(image, label, seed):
        return TRANSFORMS[name]({"image": image, "label": label}, seed)["image"]

    given = [tf.constant(HARD), tf.constant(np.eye(5, dtype=np.float32)), tf.constant([3, 4])]
    expected = change(*given).numpy()
    found = run_by_jax(tf.function(change, jit_compile=True, autograph=False), given)
    # XLA multiplies by a rounded reciprocal where normalize divides.
    assert np.abs(found.astype(np.float64) - expected).max() <= (1e-6 if name == "normalize" else 0)
