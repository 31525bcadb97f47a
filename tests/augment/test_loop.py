"""What the loop form's speed rests on, as XLA:CPU's optimized program shows it."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from cases import FIFTEEN, case, hard_images
from oracle import pillow
from PIL import Image, ImageStat

from tfpipe.augment.forms import apply, loop
from tfpipe.augment.ops import lookup
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS

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


@pytest.mark.xla
def test_the_batch_is_changed_in_place():
    batches = (
        rf"u8\[{BATCH},{HEIGHT},{WIDTH},3\]|u8\[{BATCH},{HEIGHT},{WIDTH * 3}\]|u8\[{BATCH},{HEIGHT * WIDTH // 4},4,3\]"
    )
    assert re.search(rf"= (?:{batches})\S* fusion\(", program())
    assert not re.search(rf"= (?:{batches})\S* copy\(", program())


@pytest.mark.xla
def test_no_op_is_split_over_threads():
    # A split one waits for the pool, where other batches are worked on; only the copy of the whole batch may.
    # One processor splits nothing, so then this says nothing.
    ops, entry = program(224, 224).split("\nENTRY ")
    assert "outer_dimension_partitions" in entry or os.cpu_count() == 1
    assert "outer_dimension_partitions" not in ops


@pytest.mark.xla
def test_levels_are_counted_by_a_native_loop():
    # Turn by turn through the runtime, one image of 224 pixels a side would take 4 ms.
    assert 'xla_cpu_small_call="true"' in program()


COUNTS = """
import numpy as np
from tfpipe.augment import apply_choices
from tfpipe.augment.ops.op import no_choices
from tfpipe.augment.ops.table import OPS

ops = [OPS[name] for name in ("identity", "equalize", "rotate")]
for size in (5, 6, 7, 8):
    images = np.zeros([size, 8, 8, 3], np.uint8)
    apply_choices(images, no_choices(size, 2), ops, form="loop")
"""


@pytest.mark.xla
def test_one_program_serves_every_count(tmp_path):
    # XLA compiles anew for every value of a number that it needs while compiling, silently, and that takes seconds.
    environment = os.environ | {"XLA_FLAGS": f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"}
    subprocess.run([sys.executable, "-c", COUNTS], check=True, env=environment, capture_output=True)
    made = [path.name for path in tmp_path.glob("*cpu_after_optimizations.txt")]
    assert len(made) == 1, made


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("shape", [(24, 32, 3), (5, 7, 3), (2, 3, 1), (1, 1, 3), (6, 5, 2), (4, 3, 5)])
def test_counting_equals_numpy(shape, margin):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    image[0] = 255
    framed = np.pad(image, [[margin, margin], [0, 0], [0, 0]], constant_values=7)
    program = tf.function(lookup.loop_histogram, jit_compile=True)
    found = program(tf.constant(framed), tf.constant(0), margin=margin)
    expected = [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(shape[2])]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("shape", [(24, 32, 3), (5, 7, 3), (2, 3, 1), (1, 1, 3), (33, 31, 3)])
def test_the_native_mean_equals_pillow(shape, margin):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    framed = np.pad(image, [[margin, margin], [0, 0], [0, 0]], constant_values=7)
    mean = tf.function(lookup.loop_luma_mean, jit_compile=True)(tf.constant(framed), tf.constant(0), margin=margin)
    gray = Image.fromarray(image.squeeze(-1) if shape[2] == 1 else image).convert("L")
    # As Pillow's Contrast has it.
    assert float(mean) == int(ImageStat.Stat(gray).mean[0] + 0.5)


LOOK_UPS = tuple(name for name, op in OPS.items() if op.family == "lookup")


def look_ups_in_a_row(num_stages, images):
    """Every row of so many look-ups at one magnitude, on all images: the repeated images, choices and names.

    Images of fewer than 255 pixels equalize leaves as they are.
    """
    rows = np.array(list(itertools.product(LOOK_UPS, repeat=num_stages)))
    size = len(rows) * len(images)
    values = np.zeros([*rows.shape, 4], np.float32)
    for place, name in np.ndenumerate(rows):
        values[place] = case(OPS[name], 0.6, 1 - 2 * (sum(place) % 2), *images.shape[1:3]).values
    places = np.repeat(np.vectorize(LOOK_UPS.index)(rows) + 1, len(images), axis=0)
    choices = Choices(
        tf.constant(places, tf.int32),
        tf.constant(np.repeat(values, len(images), axis=0)),
        tf.zeros([size, num_stages, 2], tf.int32),
    )
    return np.tile(images, (len(rows), 1, 1, 1)), choices, np.repeat(rows, len(images), axis=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_two_look_ups_in_a_row_equal_one_after_the_other(dtype):
    images, choices, _ = look_ups_in_a_row(2, hard_images(HEIGHT, WIDTH))
    images = images if dtype == np.uint8 else (images / np.float32(255)).astype(dtype)
    ops = [OPS[name] for name in ("identity", *LOOK_UPS)]
    loop, dense = (apply.apply_choices(images, choices, ops, form=form).numpy() for form in ("loop", "dense"))
    assert np.array_equal(loop, dense)


def test_three_look_ups_in_a_row_equal_pillow():
    names = ("equalize", "auto_contrast", "solarize")
    images, choices, rows = look_ups_in_a_row(3, hard_images(HEIGHT, WIDTH)[:2])
    kept = np.isin(rows, names).all(axis=1)
    images, choices = images[kept], Choices(*(part[kept] for part in choices))
    ops = [OPS[name] for name in ("identity", *LOOK_UPS)]
    result = apply.apply_choices(images, choices, ops, form="loop").numpy()
    for number, (image, row) in enumerate(zip(images, rows[kept], strict=True)):
        for name, value in zip(row, choices.values[number, :, 0].numpy(), strict=True):
            image = pillow(name, image, value)
        assert np.array_equal(result[number], image), row


def test_what_counts_takes_its_neighbour_along():
    names = ("identity", "posterize", "equalize", "contrast")
    none, curve, counts, luma = range(4)
    rows = [[curve, counts], [counts, counts], [counts, luma], [curve, curve], [none, counts], [counts, none]]
    ops = [OPS[name] for name in names]
    ranks = np.arange(4, dtype=np.int32)
    sort = tf.function(lambda *drawn: loop._sort_by_op(drawn[0], ops, ranks, *drawn[1:]), jit_compile=True)
    order, then, starts = (part.numpy() for part in sort(tf.constant(rows), tf.constant(6), tf.constant(0)))
    assert sorted(order[0]) == list(range(6))
    # Of the first stage one curve and four that count are left; of the second the luma, a curve and one that counts.
    assert np.diff(starts).tolist() == [[1, 4, 0], [1, 1, 1]]
    assert then.tolist() == [[counts, counts, 0, 0, 0, 0], [0] * 6]
