"""Tiles are the pieces that a plain loop cuts, and stitching them gives the images back."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import photo

from tfpipe.format.manifest import Manifest
from tfpipe.reader.dataset import make_dataset
from tfpipe.tiles import Grid, Tiles, density_tiles


@st.composite
def grids(draw: st.DrawFn, *, whole: bool | None = None) -> Grid:
    image = draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    tile = tuple(draw(st.integers(1, length)) for length in image)
    whole = draw(st.booleans()) if whole is None else whole
    stride = tuple(draw(st.integers(1, length if whole else 25)) for length in tile)
    return Grid(image, tile, stride, whole)


def corners(grid: Grid) -> list[tuple[int, int]]:
    """The corners of the tiles, by the definition: strides from the corner on, and the last that fits."""

    def along(length: int, tile: int, stride: int) -> list[int]:
        starts = [at for at in range(length) if at % stride == 0 and at + tile <= length]
        return sorted({*starts, length - tile}) if grid.whole else starts

    rows, columns = (along(*sizes) for sizes in zip(grid.image, grid.tile, grid.stride, strict=True))
    return [(row, column) for row in rows for column in columns]


def pieces(grid: Grid, images: np.ndarray) -> np.ndarray:
    height, width = grid.tile
    return np.stack([image[y : y + height, x : x + width] for image in images for y, x in corners(grid)])


def scenes(grid: Grid, count: int, channels: int, dtype: str) -> np.ndarray:
    draw = np.random.default_rng(sum(grid.image))
    values = draw.integers(0, 256, (count, *grid.image, channels))
    return values.astype(dtype) if dtype == "uint8" else (values / 7).astype(dtype)


@settings(max_examples=120)
@given(grids(), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["uint8", "float32"]))
def test_tiles_are_the_pieces_of_the_image_in_rows(grid: Grid, count: int, channels: int, dtype: str) -> None:
    images = scenes(grid, count, channels, dtype)
    np.testing.assert_array_equal(grid.cut(tf.constant(images)).numpy(), pieces(grid, images))
    assert grid.num_tiles * count == len(pieces(grid, images))


@settings(max_examples=120)
@given(grids(whole=True), st.integers(1, 3), st.sampled_from(["uint8", "int64", "float16", "float32"]))
def test_stitching_the_tiles_gives_the_images_back_exactly(grid: Grid, count: int, dtype: str) -> None:
    images = scenes(grid, count, 2, dtype)
    found = grid.stitch(grid.cut(tf.constant(images)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.numpy(), images)


@settings(max_examples=60)
@given(grids(), st.integers(0, 2**31))
def test_where_tiles_overlap_their_mean_is_taken_and_where_none_is_zero(grid: Grid, seed: int) -> None:
    tiles = np.random.default_rng(seed).normal(size=(2 * grid.num_tiles, *grid.tile, 1))
    sums, counts = np.zeros((2, *grid.image, 1)), np.zeros(grid.image)
    for n, (y, x) in enumerate(corners(grid)):
        counts[y : y + grid.tile[0], x : x + grid.tile[1]] += 1
        for b in range(2):
            sums[b, y : y + grid.tile[0], x : x + grid.tile[1]] += tiles[b * grid.num_tiles + n]
    expected = sums / np.maximum(counts, 1)[None, :, :, None]
    np.testing.assert_allclose(grid.stitch(tf.constant(tiles)).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_arrays_are_taken_as_tensors_are() -> None:
    grid = Grid((8, 6), (4, 3), (4, 3))
    masks = np.random.default_rng(0).integers(0, 3, (2, 8, 6, 1)).astype(np.uint8)
    tiles = grid.cut(masks).numpy()
    np.testing.assert_array_equal(tiles, grid.cut(tf.constant(masks)))
    np.testing.assert_array_equal(grid.stitch(tiles), masks)
    np.testing.assert_array_equal(grid.label(masks, "majority"), grid.label(tf.constant(masks), "majority"))


def test_the_number_of_tiles_is_the_books_where_no_rest_is_kept() -> None:
    grid = Grid((338, 600), (112, 112), (56, 56), whole=False)
    assert grid.num_tiles == ((338 - 112) // 56 + 1) * ((600 - 112) // 56 + 1)


# ---- labels

MASK = np.zeros((1, 4, 6, 1), np.uint8)
MASK[0, :2, :3, 0] = [[0, 0, 2], [0, 2, 2]]
MASK[0, 3, 5, 0] = 1


@pytest.mark.parametrize(
    ("rule", "labels"),
    [("any", [2, 0, 0, 1]), ("majority", [0, 0, 0, 0]), ("sum", [6.0, 0.0, 0.0, 1.0])],
)
def test_a_tile_is_labelled_by_its_mask(rule: str, labels: list[float]) -> None:
    found = Grid((4, 6), (2, 3), (2, 3)).label(tf.constant(MASK), rule)
    assert found[:, 0].numpy().tolist() == labels
    assert found.dtype == (tf.float32 if rule == "sum" else tf.uint8)


@given(grids(), st.integers(0, 2**31))
@settings(max_examples=40)
def test_the_majority_is_the_most_frequent_value(grid: Grid, seed: int) -> None:
    masks = np.random.default_rng(seed).choice([0, 3, 255], (2, *grid.image, 2)).astype(np.uint8)
    expected = [[np.bincount(tile[..., c].ravel()).argmax() for c in range(2)] for tile in pieces(grid, masks)]
    np.testing.assert_array_equal(grid.label(tf.constant(masks), "majority").numpy(), expected)


# ---- density


@pytest.mark.parametrize(("window", "patch"), [(10, 4), (9, 4), (4, 4), (7, 2)])
def test_density_windows_are_tensorflow_s_same_patches_and_labels_sum_to_the_count(window: int, patch: int) -> None:
    images = np.stack([photo(n, 12, 20) for n in (1, 2)])
    density = np.random.default_rng(0).random((2, 12, 20, 1)).astype(np.float32)
    windows, labels = density_tiles(tf.constant(images), tf.constant(density), window=window, patch=patch)
    same = tf.image.extract_patches(
        tf.constant(images), [1, window, window, 1], [1, patch, patch, 1], [1, 1, 1, 1], padding="SAME"
    )
    np.testing.assert_array_equal(windows.numpy(), tf.reshape(same, [-1, window, window, 3]).numpy())
    blocks = density.reshape(2, 12 // patch, patch, 20 // patch, patch).sum((2, 4)).reshape(-1)
    np.testing.assert_allclose(labels.numpy(), blocks, rtol=1e-5)
    np.testing.assert_allclose(labels.numpy().reshape(2, -1).sum(1), density.sum((1, 2, 3)), rtol=1e-5)


# ---- in a dataset


def test_a_dataset_yields_tiles_with_the_features_of_their_images(raw_dataset: Manifest) -> None:
    cut = Tiles((4, 4))

    def batches(**options):
        return make_dataset(raw_dataset, batch_size=3, image_size=(8, 10), labels=None, **options)

    whole, tiled = (next(iter(batches(transforms=transforms))) for transforms in ((), (cut,)))
    grid = cut.grid((8, 10))
    assert (grid.stride, grid.num_tiles) == ((2, 2), 12)
    np.testing.assert_array_equal(tiled["image"].numpy(), pieces(grid, whole["image"].numpy()))
    assert tiled["key"].numpy().tolist() == [key for key in whole["key"].numpy() for _ in range(12)]
    assert batches(transforms=(cut,)).element_spec["image"].shape == (36, 4, 4, 3)


def test_tiles_are_labelled_inside_a_graph() -> None:
    cut = Tiles((2, 3), (2, 3), label="any")
    images = tf.zeros([1, 4, 6, 3], tf.uint8)
    found = tf.function(cut)({"image": images, "mask": tf.constant(MASK), "label": tf.constant([9])})
    assert found["label"].numpy().tolist() == [[2], [0], [0], [1]]
    assert {name: value.shape[0] for name, value in found.items()} == {"image": 4, "mask": 4, "label": 4}


def test_one_number_is_a_square() -> None:
    assert Tiles(4, 2).grid(8) == Tiles((4, 4), (2, 2)).grid((8, 8)) == Grid(8, 4, 2)


# ---- errors


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Grid((4, 4), (5, 2), (1, 1)), r"The tile \(5, 2\) is larger than the image \(4, 4\)"),
        (lambda: Grid((9, 9), (2, 2), (3, 2)), r"The stride \(3, 2\) is longer than the tile \(2, 2\).*whole=False"),
        (lambda: Grid((9, 9), (0, 2), (1, 1)), r"tile is \(0, 2\); it takes \(height, width\), or one"),
        (lambda: Tiles(2.5), r"tile is 2.5; it takes \(height, width\), or one number for a square"),
        (lambda: Grid((4, 4), (2, 2), (1, 1)).cut(tf.zeros([1, 5, 4, 1])), r"for images \[B, 4, 4, C\], not \(1, 5"),
        (lambda: Grid((4, 6), (2, 2), (1, 1)).label(MASK, "most"), r"Unknown label 'most'; known: \['any'"),
        (lambda: Grid((2, 2), (2, 2), (1, 1)).label(tf.zeros([1, 2, 2, 1]), "majority"), "counts integers.*float32"),
        (lambda: Tiles((2, 2), label="all"), r"Unknown label 'all'; known: \['any', 'majority', 'sum'\] or None"),
        (
            lambda: Tiles((2, 2), label="any")({"image": tf.zeros([1, 4, 4, 3])}),
            r"needs a mask; the batch has \['image'\]",
        ),
        (
            lambda: density_tiles(tf.zeros([1, 9, 8, 3]), tf.zeros([1, 9, 8, 1]), window=8, patch=4),
            "patch is 4, window 8: a patch must divide the image's 9 x 8",
        ),
        (
            lambda: density_tiles(tf.zeros([1, 8, 8, 3]), tf.zeros([1, 8, 8, 2]), window=8, patch=4),
            r"density is \(1, 8, 8, 2\); for these images it must be \[B, 8, 8, 1\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
