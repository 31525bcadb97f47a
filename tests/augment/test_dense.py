"""The dense form's tables: what is read of images is read of those alone whose op wants it, however many they are."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from cases import hard_images
from oracle import pillow

from tfpipe.augment.forms import apply, tables
from tfpipe.augment.forms.apply import apply_op, lowering_for
from tfpipe.augment.ops.lookup import apply_tables
from tfpipe.augment.ops.table import OPS

DRAWN = ("equalize", "invert", "auto_contrast", "contrast")
IMAGES = np.concatenate([hard_images(12, 19), hard_images(12, 19)[::-1, ::-1]])[:9]


@pytest.mark.parametrize("drawn", [[], [0], [0, 0, 0], [3, 1, 2, 0, 0], [1] * 8, [2] * 9, [3, 0, 3, 3, 3, 3, 3, 3, 2]])
def test_any_number_of_images_may_draw_what_reads_them(drawn):
    images = IMAGES[: len(drawn)]
    picks = [(tf.constant(drawn, tf.int32) == number, OPS[name]) for number, name in enumerate(DRAWN)]
    values = tf.fill([len(drawn), 4], 0.4)
    found = apply_tables(tf.constant(images), tables.drawn_tables(tf.constant(images), picks, values)).numpy()
    for image, number, result in zip(images, drawn, found, strict=True):
        assert np.array_equal(result, pillow(DRAWN[number], image, np.float32(0.4)))


def test_an_image_that_drew_nothing_is_read_by_nobody(monkeypatch):
    read = []
    monkeypatch.setattr(tables, "_block_tables", lambda images, *_: read.append(images.shape[0]) or 1 / 0)
    picks = [(tf.constant([1, 1, 1, 1]) == number, OPS[name]) for number, name in enumerate(DRAWN)]
    tables.drawn_tables(tf.constant(IMAGES[:4]), picks, tf.zeros([4, 4]))
    assert read == []


@pytest.mark.parametrize("side", [1, 12, 80])
def test_counting_in_parts_equals_numpy(side, monkeypatch):
    monkeypatch.setattr(tables, "PIXELS_PER_PART", 100)
    images = np.random.default_rng(side).integers(0, 256, [3, side, side, 2]).astype(np.uint8)
    counts = tables.count_levels(tf.constant(images), tf.constant([True, False, True])).numpy()
    for number in (0, 2):
        for channel in range(2):
            wanted = np.bincount(images[number, ..., channel].ravel(), minlength=256)
            assert np.array_equal(counts[number, channel], wanted)
    assert not counts[1].any()


def test_the_loop_on_an_accelerator_warns_once():
    apply._warn_of_the_loop.cache_clear()
    with lowering_for(accelerator=True):
        assert apply._form("auto") == "dense"
        with pytest.warns(UserWarning, match='form="loop" is for a CPU'):
            apply._form("loop")
        assert apply._form("loop") == "loop"
    with lowering_for(accelerator=False):
        assert apply._form("auto") == "loop"


@pytest.mark.filterwarnings('ignore:form="loop" is for a CPU')
def test_the_loop_of_an_accelerator_gives_the_same_levels():
    values = np.linspace(0.2, 1.7, 5, dtype=np.float32)
    with lowering_for(accelerator=True):
        found = apply_op("sharpness", IMAGES[:5], values, form="loop").numpy()
    assert np.array_equal(found, np.stack([pillow("sharpness", i, v) for i, v in zip(IMAGES, values, strict=False)]))
