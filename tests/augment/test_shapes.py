"""Images of any shape: Pillow's result, and both forms alike."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from cases import FIFTEEN, applied, case, cases, crossed, eagerly, hard_images
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import pillow

from tfpipe.augment.ops.table import OPS


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(FIFTEEN)),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 3))),
    st.floats(0, 1, width=32),
    st.sampled_from((-1, 1)),
    st.integers(0, 2**32 - 1),
)
def test_any_shape_equals_pillow(name, shape, magnitude, sign, seed):
    # Operation by operation, which compiled equals: nothing is compiled for a shape.
    image = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    op, one = OPS[name], case(OPS[name], magnitude, sign, *shape[:2])
    result = image if name == "identity" else eagerly(op, image[None], tf.constant([one.values]), tf.zeros([1, 2]))[0]
    expected = image if name == "color" and shape[2] == 1 else pillow(name, image, one.values[0])
    assert np.array_equal(result, expected)


@settings(max_examples=4)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 3)))
def test_the_loop_equals_the_dense_form_on_any_shape(height, width, channels):
    images, choices = crossed(cases(height, width, FIFTEEN), hard_images(height, width, channels))
    assert np.array_equal(*(applied(images, choices, FIFTEEN, form=form) for form in ("loop", "dense")))
