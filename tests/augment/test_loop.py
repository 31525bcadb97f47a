"""What the loop form's speed rests on, as XLA:CPU's optimized program shows it."""

from __future__ import annotations

import functools
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from cases import FIFTEEN
from PIL import Image, ImageStat

from tfpipe.augment import apply, lookup
from tfpipe.augment.ops import OPS

BATCH, HEIGHT, WIDTH = 4, 24, 32


@functools.cache
def program(height=HEIGHT, width=WIDTH):
    """The compiled program of two stages, as text."""
    loop = apply._compiled_loop(tuple(OPS[name] for name in FIFTEEN), (128.0,) * 3, "nearest")
    specs = [
        tf.TensorSpec([BATCH, height, width, 3], tf.uint8),
        tf.TensorSpec([BATCH, 2], tf.int32),
        tf.TensorSpec([BATCH, 2, 4]),
        tf.TensorSpec([BATCH, 2, 2], tf.int32),
        tf.TensorSpec([], tf.int32),
    ]
    return loop.experimental_get_compiler_ir(*specs)(stage="optimized_hlo")


def test_the_batch_is_changed_in_place():
    batches = (
        rf"u8\[{BATCH},{HEIGHT},{WIDTH},3\]|u8\[{BATCH},{HEIGHT},{WIDTH * 3}\]|u8\[{BATCH},{HEIGHT * WIDTH // 4},4,3\]"
    )
    assert re.search(rf"= (?:{batches})\S* fusion\(", program())
    assert not re.search(rf"= (?:{batches})\S* copy\(", program())


def test_no_op_is_split_over_threads():
    # A split one waits for the pool, where other batches are worked on; only the copy of the whole batch may.
    # One processor splits nothing, so then this says nothing.
    ops, entry = program(224, 224).split("\nENTRY ")
    assert "outer_dimension_partitions" in entry or os.cpu_count() == 1
    assert "outer_dimension_partitions" not in ops


def test_levels_are_counted_by_a_native_loop():
    # Turn by turn through the runtime, one image of 224 pixels a side would take 4 ms.
    assert 'xla_cpu_small_call="true"' in program()


@pytest.mark.parametrize("shape", [(24, 32, 3), (5, 7, 3), (2, 3, 1), (1, 1, 3), (6, 5, 2)])
def test_counting_equals_numpy(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    image[0] = 255
    counted = tf.function(lookup.counted, jit_compile=True)(tf.constant(image), tf.constant(0))
    expected = [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(shape[2])]
    assert np.array_equal(counted, expected)


@pytest.mark.parametrize("shape", [(24, 32, 3), (5, 7, 3), (2, 3, 1), (1, 1, 3), (33, 31, 3)])
def test_the_native_mean_equals_pillow(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    mean = tf.function(lookup.native_luma_mean, jit_compile=True)(tf.constant(image), tf.constant(0))
    gray = Image.fromarray(image.squeeze(-1) if shape[2] == 1 else image).convert("L")
    # As Pillow's Contrast has it.
    assert float(mean) == int(ImageStat.Stat(gray).mean[0] + 0.5)
