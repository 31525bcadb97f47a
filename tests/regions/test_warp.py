"""Warps with a matrix per image against float64 and Pillow, and matrices from points."""

import numpy as np
import pytest
import region_oracles
import tensorflow as tf
from PIL import Image

from tfpipe import regions
from tfpipe.regions.warp import BORDERS, INTERPOLATIONS

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (3, 14, 17, 2)).astype(np.uint8)
# A turn that looks past each border, an enlargement with negative coordinates, and a shear far to the right.
MATRICES = np.array(
    [[[0.8, -0.6, 3.2], [0.6, 0.8, -6.7]], [[0.4, 0, -1.3], [0, 0.4, -0.9]], [[1, 0.9, 4.5], [0.1, 1, 2]]]
)
PERSPECTIVE = np.array(
    [
        [[1.1, 0.2, -3], [0.1, 0.9, 1], [0.01, 0.004, 1]],
        [[0.7, 0, 2], [-0.2, 1, 3], [0, -0.02, 1.2]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]
)
SIZE = (12, 15)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
def test_each_image_goes_through_its_own_matrix(interpolation, border):
    options = {"interpolation": interpolation, "border": border}
    found = regions.warp_affine(IMAGES.astype(np.float32), MATRICES, SIZE, fill=9, **options).numpy()
    levels = regions.warp_affine(IMAGES, MATRICES, SIZE, fill=9, **options).numpy()
    for i in range(3):
        wanted = region_oracles.warp(IMAGES[i], MATRICES[i], SIZE, 9, interpolation, border)
        np.testing.assert_allclose(found[i], wanted, atol=1e-3 * 255 / 10)
        # Rounded to the nearest level, ties either way.
        most = 0 if interpolation == "nearest" else 0.5 + 1e-3
        assert np.abs(levels[i] - np.clip(wanted, 0, 255)).max() <= most


def test_fractions_and_half_precision_keep_their_range_and_dtype():
    images = (IMAGES / 255).astype(np.float16)
    found = regions.warp_affine(images, MATRICES, SIZE, fill=0.5)
    assert found.dtype == tf.float16
    wanted = regions.warp_affine(images.astype(np.float32), MATRICES, SIZE, fill=[0.5, 0.5])
    np.testing.assert_allclose(np.float32(found), wanted, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_a_perspective_map_is_pillows_away_from_the_border(interpolation):
    kind = Image.Resampling[interpolation.upper()]
    images = IMAGES[..., :1].repeat(3, axis=3)
    options = {"interpolation": interpolation, "border": "edge", "pixel_center": 0.5}
    found = regions.warp_perspective(images, PERSPECTIVE, SIZE, **options).numpy().astype(int)
    points = np.stack(np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5), -1)
    for i, matrix in enumerate(PERSPECTIVE):
        data = (matrix / matrix[2, 2]).ravel()[:8]
        theirs = Image.fromarray(images[i]).transform(SIZE[::-1], Image.Transform.PERSPECTIVE, data, kind)
        mapped = np.concatenate([points, np.ones((*SIZE, 1))], -1) @ matrix.T
        x, y = mapped[..., 0] / mapped[..., 2], mapped[..., 1] / mapped[..., 2]
        inner = (x > 1) & (x < 16) & (y > 1) & (y < 13)
        # Between two pixels, the nearest is a matter of the last bit.
        inner &= (np.abs(x - np.round(x)) > 1e-9) & (np.abs(y - np.round(y)) > 1e-9)
        assert inner.sum() > 30
        # Pillow rounds a bilinear value down in places.
        assert np.abs(found[i] - np.asarray(theirs, int))[inner].max() <= (0 if interpolation == "nearest" else 1)


def test_a_perspective_map_is_that_of_float64_too():
    found = regions.warp_perspective(IMAGES.astype(np.float32), PERSPECTIVE, SIZE, border="reflect").numpy()
    for i in range(3):
        wanted = region_oracles.warp(IMAGES[i], PERSPECTIVE[i], SIZE, 0, "bilinear", "reflect")
        np.testing.assert_allclose(found[i], wanted, atol=1e-2)


def test_the_unit_map_changes_nothing_and_one_matrix_serves_all():
    unit = np.eye(2, 3)
    for interpolation in INTERPOLATIONS:
        np.testing.assert_array_equal(regions.warp_affine(IMAGES, unit, interpolation=interpolation), IMAGES)
    flipped = regions.warp_affine(IMAGES, [[-1, 0, 17], [0, 1, 0]], pixel_center=0.5)
    np.testing.assert_array_equal(flipped, IMAGES[:, :, ::-1])


def test_warps_are_the_same_in_a_graph_compiled_and_image_by_image():
    def warp(images, matrices):
        return regions.warp_affine(images, matrices, SIZE, interpolation="bicubic", fill=[3, 200])

    eager = warp(IMAGES, MATRICES)
    for options in ({}, {"jit_compile": True}):
        np.testing.assert_array_equal(tf.function(warp, **options)(tf.constant(IMAGES), tf.constant(MATRICES)), eager)
    for i in range(3):
        np.testing.assert_array_equal(warp(IMAGES[i : i + 1], MATRICES[i : i + 1])[0], eager[i])


# ---- matrices from points


def test_the_point_fit_of_the_source_system_is_reproduced():
    """Landmarks of a face in a photograph, and where a 112 x 112 network wants them."""
    src = np.array([[262, 324], [325, 323], [295, 349]], np.float64)
    dst = np.array([[38.29, 51.69], [73.53, 51.69], [56.02, 71.73]])
    homogeneous = np.c_[dst, np.ones(3)]
    wanted = (np.linalg.inv(homogeneous.T @ homogeneous) @ homogeneous.T @ src).T
    found = regions.affine_from_points(src, dst)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(homogeneous @ found.numpy().T, src, atol=1e-3)
    # A photograph with a white square at each landmark: they are where they were asked for.
    image = np.zeros((1, 400, 400, 1), np.float32)
    for x, y in src.astype(int):
        image[0, y - 1 : y + 2, x - 1 : x + 2] = 1
    face = regions.warp_affine(image, found, 112).numpy()[0, ..., 0]
    for x, y in dst:
        assert face[round(y), round(x)] > 0.5
    assert face.sum() < 30


def test_more_points_are_fitted_by_least_squares_each_image_for_itself():
    src, dst = RNG.uniform(0, 100, (2, 4, 7, 2))
    found = regions.affine_from_points(src, dst)
    for i in range(4):
        wanted = np.linalg.lstsq(np.c_[dst[i], np.ones(7)], src[i], rcond=None)[0].T
        np.testing.assert_allclose(found[i], wanted, atol=1e-4)


def test_four_points_give_their_perspective_and_more_points_of_one_give_it_too():
    points = RNG.uniform(0, 100, (3, 9, 2))
    mapped = np.concatenate([points, np.ones((3, 9, 1))], -1) @ PERSPECTIVE.transpose(0, 2, 1)
    mapped = mapped[..., :2] / mapped[..., 2:]
    wanted = PERSPECTIVE / PERSPECTIVE[:, 2:, 2:]
    for number in (4, 9):
        found = regions.perspective_from_points(mapped[:, :number], points[:, :number])
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    compiled = tf.function(regions.perspective_from_points, jit_compile=True)(tf.constant(mapped), tf.constant(points))
    np.testing.assert_allclose(compiled, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: regions.affine_from_points(np.zeros((2, 2)), np.zeros((2, 2))), "K at least 3; got"),
        (lambda: regions.affine_from_points(np.zeros((4, 2)), np.ones((4, 2))), "dst are on one line"),
        (lambda: regions.perspective_from_points(np.zeros((3, 2)), np.zeros((3, 2))), "K at least 4; got"),
        (lambda: regions.warp_affine(IMAGES, np.eye(3)), r"Matrices are \[B, 2, 3\] .* got \(3, 3\)"),
        (lambda: regions.warp_affine(IMAGES[0], np.eye(2, 3)), r"Images are \[B, H, W, C\]"),
        (lambda: regions.warp_affine(IMAGES, np.eye(2, 3), border="wrap"), "Unknown border 'wrap'; allowed: \\['const"),
        (lambda: regions.warp_affine(IMAGES, np.eye(2, 3), fill=[1, 2, 3]), "one value, or 2 of them"),
        (lambda: regions.warp_affine(IMAGES, np.eye(2, 3), pixel_center=1), "pixel_center is 1; it takes 0 or 0.5"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
