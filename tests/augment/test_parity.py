"""Photographs against Pillow: 128 crops at 224 x 224, each op at five magnitudes, a different value per image.

The long form takes minutes: `make parity`. The short one is part of every run.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from cases import FIFTEEN, MAGNITUDES, case
from oracle import pillow

from tfpipe.augment.forms.apply import apply_choices
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


@functools.cache
def crops(count, side):
    """Crops of scikit-image's photographs: uint8 [count, side, side, 3]."""
    data = pytest.importorskip("skimage.data")
    rng = np.random.default_rng(side)
    pictures = [getattr(data, name)() for name in PHOTOGRAPHS]
    made = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top, left = (rng.integers(0, size - side + 1) for size in picture.shape[:2])
        made.append(picture[top : top + side, left : left + side, :3])
    return np.stack(made)


def largest_difference(name, images, form):
    """To Pillow, over five magnitudes, each spread a little so that every image has a value of its own."""
    side = images.shape[1]
    ops = tuple(OPS[one] for one in FIFTEEN)
    worst = 0
    for step, magnitude in enumerate(MAGNITUDES):
        spread = np.clip(magnitude + np.linspace(-0.1, 0.1, len(images)), 0, 1)
        signs = np.where((np.arange(len(images)) + step) % 2, -1, 1)
        pairs = zip(spread, signs, strict=True)
        values = np.array([case(OPS[name], float(m), int(sign), side, side).values for m, sign in pairs], np.float32)
        choices = Choices(
            tf.fill([len(images), 1], FIFTEEN.index(name)),
            tf.constant(values[:, None]),
            tf.zeros([len(images), 1, 2], tf.int32),
        )
        result = apply_choices(images, choices, ops, form=form).numpy().astype(int)
        expected = np.stack([pillow(name, image, value) for image, value in zip(images, values[:, 0], strict=True)])
        worst = max(worst, np.abs(result - expected).max())
    return worst


@pytest.mark.parametrize("form", ["loop", "dense"])
@pytest.mark.parametrize("name", FIFTEEN)
def test_a_few_photographs_equal_pillow(name, form):
    assert largest_difference(name, crops(8, 96), form) == 0


@pytest.mark.parity
@pytest.mark.parametrize("form", ["loop", "dense"])
@pytest.mark.parametrize("name", FIFTEEN)
def test_128_photographs_equal_pillow(name, form):
    assert largest_difference(name, crops(128, 224), form) == 0
