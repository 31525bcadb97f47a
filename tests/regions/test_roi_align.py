"""RoIAlign and its gradient, against the published rule and facts of torchvision; crops on the same grid."""

import json
from pathlib import Path

import numpy as np
import pytest
import region_oracles
import tensorflow as tf

from tfpipe import regions

RNG = np.random.default_rng(5)
FEATURES = RNG.normal(0, 1, (2, 9, 11, 3)).astype(np.float32)
# Inside, over each border, far outside, without area, upside down, and larger than the image.
BOXES = np.float32(
    [
        [8, 8, 60, 50],
        [-30, -20, 20, 25],
        [60, 50, 130, 110],
        [300, 300, 330, 320],
        [20, 20, 20, 20],
        [50, 40, 30, 20],
        [-40, -40, 200, 150],
        [11.3, 7.7, 12.1, 60.2],
    ]
)
INDICES = [0, 1, 1, 0, 1, 0, 1, 0]
SIZE, SCALE = (3, 4), 0.125
FACTS = json.loads((Path(__file__).parent / "data/torchvision.json").read_text())["roi_align"]


def pool(features, ratio=2, aligned=True, boxes=BOXES, indices=INDICES):
    return regions.roi_align(
        features, boxes, indices, output_size=SIZE, spatial_scale=SCALE, sampling_ratio=ratio, aligned=aligned
    )


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_bins_are_the_means_of_their_samples(ratio, aligned):
    pooled = pool(FEATURES, ratio, aligned)
    for i, box in enumerate(BOXES):
        wanted = region_oracles.roi_align(FEATURES[INDICES[i]], box, SIZE, SCALE, ratio, aligned)
        np.testing.assert_allclose(pooled[i], wanted, atol=2e-5, err_msg=str(box))


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact['sampling_ratio']} {fact['aligned']}")
def test_bins_are_torchvisions(fact):
    pooled = regions.roi_align(
        np.reshape(np.float32(fact["features"]), (2, 6, 7, 2)),
        fact["boxes"],
        fact["box_indices"],
        output_size=(2, 3),
        spatial_scale=0.125,
        sampling_ratio=fact["sampling_ratio"],
        aligned=fact["aligned"],
    )
    np.testing.assert_allclose(np.ravel(pooled), fact["pooled"], atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_the_gradient_is_the_transpose_of_pooling(ratio):
    """Pooling is linear: the gradient of sum(pool(x) * up) is the g with sum(g * y) = sum(pool(y) * up) for every y."""
    upstream = RNG.normal(0, 1, (len(BOXES), *SIZE, 3)).astype(np.float32)
    features = tf.constant(FEATURES)
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(pool(features, ratio) * upstream)
    gradient = tape.gradient(total, features).numpy()
    assert gradient.shape == FEATURES.shape
    for _ in range(5):
        other = RNG.normal(0, 1, FEATURES.shape).astype(np.float32)
        np.testing.assert_allclose(
            np.sum(gradient * other), np.sum(pool(other, ratio) * upstream), rtol=1e-4, atol=1e-3
        )


def test_pooling_and_its_gradient_are_the_same_in_a_graph_compiled_and_box_by_box():
    def both(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = pool(features, 0)
            total = tf.reduce_sum(pooled**2)
        return pooled, tape.gradient(total, features)

    eager = both(tf.constant(FEATURES))
    for options in ({}, {"jit_compile": True}):
        for one, other in zip(eager, tf.function(both, **options)(tf.constant(FEATURES)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    for i in (1, 6):
        alone = pool(FEATURES, 0, boxes=BOXES[i : i + 1], indices=INDICES[i : i + 1])
        np.testing.assert_allclose(alone[0], eager[0][i], atol=1e-6)


def test_crops_are_the_same_in_a_graph_compiled_and_box_by_box():
    images = RNG.integers(0, 256, (2, 12, 20, 3)).astype(np.uint8)
    boxes = np.float32([[1, 2, 9, 11], [-3, 0, 30, 5], [4.5, 4, 4.5, 9]])

    def crop(images, boxes, indices):
        return regions.crop_and_resize(images, boxes, indices, output_size=(4, 5), sampling_ratio=2)

    eager = crop(images, boxes, [0, 1, 1]).numpy().astype(int)
    for options in ({}, {"jit_compile": True}):
        found = tf.function(crop, **options)(tf.constant(images), tf.constant(boxes), tf.constant([0, 1, 1]))
        assert np.abs(found.numpy().astype(int) - eager).max() <= 1  # a sum that ends at a half
    for i, image in enumerate((0, 1, 1)):
        alone = crop(images[image : image + 1], boxes[i : i + 1], [0]).numpy().astype(int)
        assert np.abs(alone[0] - eager[i]).max() <= 1


def test_no_boxes_are_no_bins():
    empty = pool(FEATURES, 2, boxes=np.zeros((0, 4), np.float32), indices=np.zeros(0, np.int32))
    assert empty.shape == (0, *SIZE, 3)


def test_a_crop_of_the_whole_image_is_the_image_resized():
    images = RNG.integers(0, 256, (2, 12, 20, 3)).astype(np.uint8)
    crops = regions.crop_and_resize(images, [[0.0, 0, 20, 12], [0, 0, 20, 12]], [0, 1], output_size=(9, 15))
    assert crops.dtype == tf.uint8
    # Rounded to the nearest level, ties either way.
    assert np.abs(tf.image.resize(images, (9, 15)).numpy() - crops.numpy()).max() <= 0.5 + 1e-3
    part = regions.crop_and_resize(images, [[4.0, 2, 10, 7]], [1], output_size=(5, 6))
    np.testing.assert_array_equal(part[0], images[1, 2:7, 4:10])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"features": FEATURES[0]}, r"Features are \[B, H, W, C\]"),
        ({"features": FEATURES.astype(np.int64)}, "got int64"),
        ({"box_indices": [0]}, r"Boxes are \[N, 4\] and box_indices \[N\]; got \(8, 4\) and \(1,\)"),
        ({"sampling_ratio": -1}, "sampling_ratio is -1; it takes 0 or a number of samples"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(given, sentence):
    arguments = {"features": FEATURES, "boxes": BOXES, "box_indices": INDICES, "output_size": 3, **given}
    with pytest.raises(ValueError, match=sentence):
        regions.roi_align(**arguments)
