"""Suppression: greedy, by class, soft and oriented; for one image and for batches."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import region_oracles
import tensorflow as tf

from tfpipe import regions

BATCH, NUMBER = 24, 48
RNG = np.random.default_rng(3)
BOXES = np.stack([region_oracles.random_boxes(RNG, NUMBER) for _ in range(BATCH)])
# Few different scores: ties are frequent.
SCORES = RNG.integers(0, 20, (BATCH, NUMBER)).astype(np.float32) / 20
CLASSES = RNG.integers(0, 3, (BATCH, NUMBER))
COUNTS = np.array([*range(4), *RNG.integers(4, NUMBER + 1, BATCH - 4)])
FACTS = json.loads((Path(__file__).parent / "data/torchvision.json").read_text())

# The examples in the documentation of the C++ extension behind this toolkit.
SEVEN = np.float32(
    [
        [49.1, 32.4, 51.0, 35.9, 0.9],
        [49.3, 32.9, 51.0, 35.3, 0.9],
        [49.2, 31.8, 51.0, 35.4, 0.5],
        [35.1, 11.5, 39.1, 15.7, 0.5],
        [35.6, 11.8, 39.3, 14.2, 0.5],
        [35.3, 11.5, 39.9, 14.5, 0.4],
        [35.2, 11.7, 39.7, 15.7, 0.3],
    ]
)
SIX = np.float32(
    [
        [4, 3, 5, 3, 0.9],
        [4, 3, 5, 4, 0.9],
        [3, 1, 3, 1, 0.5],
        [3, 1, 3, 1, 0.5],
        [3, 1, 3, 1, 0.4],
        [3, 1, 3, 1, 0.0],
    ]
)


def kept(found, image=...):
    """The indices as a list, of one image of a batch; padding is checked and gone."""
    indices, count = (np.asarray(part)[image] for part in found)
    assert (indices[int(count) :] == -1).all()
    return indices[: int(count)].tolist()


def test_seven_boxes_become_three_and_six_become_five():
    assert kept(regions.nms(SEVEN[:, :4], SEVEN[:, 4], iou_threshold=0.6)) == [0, 3, 4]
    indices, scores, count = regions.soft_nms(SIX[:, :4], SIX[:, 4], iou_threshold=0.6, sigma=0.5)
    assert (int(count), indices.numpy().tolist()) == (5, [0, 1, 2, 3, 4, -1])
    np.testing.assert_allclose(scores, [0.9, 0.9, 0.5, 0.5, 0.4, 0])


@pytest.mark.parametrize("fact", FACTS["nms"], ids=lambda fact: f"{len(fact['kept'])} of {len(fact['scores'])}")
def test_the_kept_indices_are_torchvisions(fact):
    number = len(fact["scores"])
    # Padded to one length, so that one program is compiled for all.
    padded = (
        np.resize(np.asarray(fact[name]), (40, *np.shape(fact[name])[1:])) for name in ("boxes", "scores", "classes")
    )
    boxes, scores, classes = padded
    found = regions.batched_nms(
        boxes.astype(np.float32), scores, classes, iou_threshold=fact["threshold"], num_boxes=number
    )
    assert kept(found) == fact["kept"]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_a_batch_keeps_what_greedy_suppression_keeps_in_each_image(threshold):
    found = regions.nms(BOXES, SCORES, iou_threshold=threshold, num_boxes=COUNTS)
    assert found[0].shape == (BATCH, NUMBER)
    for image, count in enumerate(COUNTS):
        wanted = region_oracles.greedy(BOXES[image, :count], SCORES[image, :count], threshold)
        assert kept(found, image) == wanted


def test_only_boxes_of_one_class_suppress_each_other():
    found = regions.batched_nms(BOXES, SCORES, CLASSES, iou_threshold=0.3)
    for image in range(BATCH):
        assert kept(found, image) == region_oracles.greedy(BOXES[image], SCORES[image], 0.3, CLASSES[image])


def test_so_many_as_asked_for_come_out_and_low_scores_do_not():
    found = regions.nms(BOXES, SCORES, iou_threshold=0.3, max_output=5, min_score=0.6)
    assert found[0].shape == (BATCH, 5)
    for image in range(BATCH):
        high = [
            i for i in region_oracles.greedy(BOXES[image], SCORES[image], 0.3) if SCORES[image, i] >= np.float32(0.6)
        ]
        assert kept(found, image) == high[:5]
    more = regions.nms(BOXES[0], SCORES[0], iou_threshold=0.3, max_output=100)
    assert more[0].shape == (100,)
    assert kept(more) == region_oracles.greedy(BOXES[0], SCORES[0], 0.3)


def test_an_overlap_that_equals_the_threshold_suppresses_only_where_that_is_asked_for():
    halves = np.float32([[0, 0, 10, 10], [0, 0, 10, 5]])
    third = np.float32([[0, 0, 3, 1], [0, 0, 1, 1]])
    for boxes, threshold in ((halves, 0.5), (third, 1 / 3), (third, float(np.float32(1) / np.float32(3)))):
        strict, inclusive = (
            kept(regions.nms(boxes, [0.9, 0.8], iou_threshold=threshold, inclusive=inclusive))
            for inclusive in (False, True)
        )
        # A third in float32 is a little more than a third: the number itself decides, as in torchvision.
        above = float(np.float32(1) / np.float32(3)) > threshold and boxes is third
        assert (strict, inclusive) == ([0] if above else [0, 1], [0])


@pytest.mark.parametrize(("method", "threshold"), [("linear", 0.3), ("gaussian", 0.3)])
def test_soft_suppression_follows_the_published_rule(method, threshold):
    scores = RNG.uniform(0, 1, SCORES.shape).astype(np.float32)
    options = {"iou_threshold": threshold, "method": method, "sigma": 0.4, "min_score": 0.05}
    indices, lowered, counts = (np.asarray(p) for p in regions.soft_nms(BOXES, scores, num_boxes=COUNTS, **options))
    for image, number in enumerate(COUNTS):
        wanted = region_oracles.soft(BOXES[image, :number], scores[image, :number], threshold, method, 0.4, 0.05)
        assert indices[image, : counts[image]].tolist() == [index for index, _ in wanted]
        np.testing.assert_allclose(lowered[image, : counts[image]], [score for _, score in wanted], atol=1e-5)
        assert (indices[image, counts[image] :] == -1).all()


def test_oriented_boxes_suppress_by_their_own_overlap():
    boxes = np.float32([[50, 50, 40, 8, 0], [50, 50, 40, 8, 90], [50, 50, 40, 8, 8], [50, 56, 40, 8, 0]])
    assert kept(regions.nms(boxes, [0.9, 0.8, 0.7, 0.6], iou_threshold=0.4)) == [0, 1, 3]


def test_suppression_is_the_same_in_a_graph_compiled_and_image_by_image():
    def suppress(boxes, scores):
        return *regions.nms(boxes, scores, iou_threshold=0.4), *regions.soft_nms(boxes, scores, min_score=0.1)

    eager = suppress(BOXES, SCORES)
    for options in ({}, {"jit_compile": True}):
        for one, other in zip(eager, tf.function(suppress, **options)(BOXES, SCORES), strict=True):
            np.testing.assert_array_equal(one, other)
    for image in range(3):
        for one, other in zip(eager, suppress(BOXES[image], SCORES[image]), strict=True):
            np.testing.assert_array_equal(one[image], other)


def test_any_number_of_boxes_goes_through_in_a_graph_that_does_not_know_it():
    dataset = tf.data.Dataset.from_generator(
        lambda: ((BOXES[i, :n], SCORES[i, :n]) for i, n in enumerate((0, 1, 7, 33, 34))),
        output_signature=(tf.TensorSpec([None, 4]), tf.TensorSpec([None])),
    )
    found = list(dataset.map(lambda boxes, scores: regions.nms(boxes, scores, iou_threshold=0.3)))
    for i, number in enumerate((0, 1, 7, 33, 34)):
        assert found[i][0].shape == (number,)
        assert kept(found[i]) == region_oracles.greedy(BOXES[i, :number], SCORES[i, :number], 0.3)


def test_ten_thousand_boxes_take_less_than_a_hundred_megabytes():
    boxes = tf.constant(region_oracles.random_boxes(RNG, 10_000, extent=2000))
    scores = tf.constant(RNG.uniform(0, 1, 10_000), tf.float32)
    first = regions.nms(boxes, scores, iou_threshold=0.5)  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmHWM")
    again = regions.nms(boxes, scores, iou_threshold=0.5)
    np.testing.assert_array_equal(first[0], again[0])
    assert memory("VmHWM") - before < 100e6


def memory(name):
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"iou_threshold": 1.5}, "iou_threshold is 1.5; it takes 0 to 1"),
        ({"max_output": 0}, "max_output is 0; it takes at least 1"),
        ({"scores": np.zeros(3, np.float32)}, r"scores \[N\] or \[B, N\]; got \(48, 4\), \(3,\)"),
        ({"boxes": np.zeros((48, 3), np.float32)}, r"boxes are \[..., 4\] or \[..., 5\]"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(given, sentence):
    arguments = {"boxes": BOXES[0], "scores": SCORES[0], "iou_threshold": 0.5, **given}
    with pytest.raises(ValueError, match=sentence):
        regions.nms(**arguments)


def test_soft_suppression_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="Unknown method 'cosine'; allowed: \\['linear', 'gaussian'\\]"):
        regions.soft_nms(BOXES[0], SCORES[0], method="cosine")
    with pytest.raises(ValueError, match="sigma is 0; it takes a number above 0"):
        regions.soft_nms(BOXES[0], SCORES[0], sigma=0)
