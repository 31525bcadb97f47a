"""Layers over regions: inside a model, saved and loaded, and equal to their functions."""

import keras
import numpy as np
import pytest
import region_oracles

from tfpipe import layers, regions

RNG = np.random.default_rng(4)
BOXES = np.stack([region_oracles.random_boxes(RNG, 20) for _ in range(3)])
SCORES = RNG.uniform(0, 1, (3, 20, 4)).astype(np.float32)
FEATURES = RNG.normal(0, 1, (3, 12, 13, 2)).astype(np.float32)


def test_a_detectors_head_is_a_model_that_is_saved_and_loaded(tmp_path):
    given = [keras.Input(shape) for shape in ((20, 4), (20, 4), (12, 13, 2))]
    found = layers.NonMaxSuppression(iou_threshold=0.3, max_output=6, min_score=0.5)(given[:2])
    pooled = layers.RoIAlign((2, 3), spatial_scale=0.1, sampling_ratio=2)((given[2], found["boxes"]))
    assert pooled.shape == (None, 6, 2, 3, 2)
    model = keras.Model(given, {**found, "pooled": pooled})
    model.save(tmp_path / "head.keras")
    results = [
        one.predict([BOXES, SCORES, FEATURES], verbose=0)
        for one in (model, keras.models.load_model(tmp_path / "head.keras"))
    ]
    for name, value in results[0].items():
        np.testing.assert_array_equal(results[1][name], value)
    best, labels = SCORES.max(-1), SCORES.argmax(-1)
    for image in range(3):
        wanted = region_oracles.greedy(BOXES[image], best[image], 0.3, labels[image])
        wanted = [index for index in wanted if best[image, index] >= 0.5][:6]
        count = results[0]["num_boxes"][image]
        assert count == len(wanted)
        np.testing.assert_array_equal(results[0]["boxes"][image, :count], BOXES[image, wanted])
        np.testing.assert_array_equal(results[0]["labels"][image, :count], labels[image, wanted])
        assert (results[0]["labels"][image, count:] == -1).all()
        alone = region_oracles.roi_align(FEATURES[image], results[0]["boxes"][image, 0], (2, 3), 0.1, 2, True)
        np.testing.assert_allclose(results[0]["pooled"][image, 0], alone, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 3])
def test_a_warp_takes_affine_and_perspective_maps(rows):
    matrices = np.tile(np.eye(3)[:rows], (3, 1, 1)) + RNG.normal(0, 0.02, (3, rows, 3))
    layer = layers.Warp(9, border="edge")
    again = layers.Warp.from_config(layer.get_config())
    warp = regions.warp_affine if rows == 2 else regions.warp_perspective
    np.testing.assert_array_equal(again((FEATURES, matrices)), warp(FEATURES, matrices, 9, border="edge"))


LAYERS = {
    "soft": (
        layers.SoftNonMaxSuppression(max_output=6, method="gaussian", sigma=0.3, min_score=0.2),
        (BOXES, SCORES),
        lambda: regions.soft_nms(
            *(BOXES, SCORES.max(-1)),
            classes=SCORES.argmax(-1),
            max_output=6,
            method="gaussian",
            sigma=0.3,
            min_score=0.2,
        )[1],
    ),
    "overlaps": (
        layers.BoxIoU(kind="giou"),
        (BOXES, BOXES[:, :3]),
        lambda: regions.box_iou(BOXES, BOXES[:, :3], kind="giou"),
    ),
    "crops": (
        layers.CropAndResize(4, sampling_ratio=2),
        (FEATURES, BOXES),
        lambda: np.reshape(
            regions.crop_and_resize(
                FEATURES, BOXES.reshape(-1, 4), np.repeat([0, 1, 2], 20), output_size=4, sampling_ratio=2
            ),
            (3, 20, 4, 4, 2),
        ),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_function_and_survives_its_config(name):
    layer, given, wanted = LAYERS[name]
    again = type(layer).from_config(layer.get_config())
    found = again(given)
    np.testing.assert_array_equal(found["scores"] if name == "soft" else found, wanted())


def test_soft_suppression_lowers_scores_of_a_class_by_boxes_of_it():
    found = layers.SoftNonMaxSuppression(max_output=20, min_score=0.1)((BOXES, SCORES))
    best, labels = SCORES.max(-1), SCORES.argmax(-1)
    for image in range(3):
        wanted = {}
        for label in range(4):
            own = np.flatnonzero(labels[image] == label)
            taken = region_oracles.soft(BOXES[image, own], best[image, own], 0.3, "linear", 0.5, 0.1)
            wanted |= {int(own[index]): score for index, score in taken}
        count = int(found["num_boxes"][image])
        assert count == len(wanted)
        order = sorted(wanted, key=lambda index: -wanted[index])
        np.testing.assert_allclose(found["scores"][image, :count], [wanted[index] for index in order], atol=1e-5)
        np.testing.assert_array_equal(found["labels"][image, :count], labels[image, order])
