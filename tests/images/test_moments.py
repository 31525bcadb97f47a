"""Mean and deviation equal numpy's, to the last exact sum, whatever the grouping."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import photo

from tfpipe.images.moments import Moments, image_moments

IMAGES = st.lists(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))), min_size=1, max_size=6
)


def together(parts: list[Moments]) -> Moments:
    total = Moments()
    for part in parts:
        total = total.plus(part)
    return total


@given(IMAGES)
def test_mean_and_std_are_numpy_s(images: list[np.ndarray]) -> None:
    moments = together([image_moments(image) for image in images])
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64) / 255
    np.testing.assert_allclose(moments.mean, pixels.mean(0), atol=1e-9, rtol=0)
    np.testing.assert_allclose(moments.std, pixels.std(0), atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (224, 224), (129, 256), (1, 40_000), (257, 255)])
@pytest.mark.parametrize("fill", [None, 255])
def test_sums_are_exact_at_the_borders_of_rows_and_blocks(shape: tuple[int, int], fill: int | None) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    if fill is not None:
        image[:] = fill
    pixels = image.reshape(-1, 3).astype(object)
    assert image_moments(image) == Moments(len(pixels), tuple(pixels.sum(0)), tuple((pixels * pixels).sum(0)))


@given(IMAGES, st.randoms(), st.integers(0, 6))
def test_grouping_and_order_change_nothing(images: list[np.ndarray], shuffle: random.Random, cut: int) -> None:
    parts = [image_moments(image) for image in images]
    whole = together(parts)
    shuffle.shuffle(parts)
    assert together([together(parts[:cut]), together(parts[cut:])]) == whole
    assert image_moments(np.concatenate([image.reshape(-1, 1, 3) for image in images])) == whole


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_one_level_has_no_deviation(level: int) -> None:
    moments = image_moments(np.full((50, 40, 3), level, np.uint8))
    assert moments == (2000, (2000 * level,) * 3, (2000 * level**2,) * 3)
    assert moments.std == (0, 0, 0)
    assert moments.mean == pytest.approx((level / 255,) * 3, abs=1e-15)


def test_the_sums_of_a_large_image_are_exact() -> None:
    image = np.tile(photo(1, 50, 50), (40, 40, 1))
    one = image_moments(photo(1, 50, 50))
    assert image_moments(image) == Moments(
        1600 * one.pixels, tuple(1600 * s for s in one.sums), tuple(1600 * q for q in one.squares)
    )


def test_the_moments_of_many_images_survive_beyond_64_bits() -> None:
    moments = Moments(10**12, (10**12 * 100,) * 3, (10**12 * 10_001,) * 3)
    assert moments.std == pytest.approx((1 / 255,) * 3, abs=1e-12)


def test_a_view_that_is_not_contiguous_gives_the_same() -> None:
    image = photo(3)
    assert image_moments(image[::-1, ::2]) == image_moments(np.ascontiguousarray(image[::-1, ::2]))
