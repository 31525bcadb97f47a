"""Regions against torchvision.ops, case by case: make parity. Facts of a few cases are in the default suite."""

from importlib.util import find_spec

import numpy as np
import pytest
import region_oracles
import tensorflow as tf

from tfpipe import regions

pytestmark = pytest.mark.parity

NUMBER = 80
SIZE = (7, 6)


@pytest.fixture(scope="module")
def torch():
    if find_spec("triton"):
        pytest.skip("triton crashes when torch loads it after TensorFlow: pip uninstall triton")
    return pytest.importorskip("torch", reason="torch and torchvision are not installed: nothing to compare with")


@pytest.fixture(scope="module")
def ops(torch):
    return pytest.importorskip("torchvision", reason="torchvision is not installed: nothing to compare with").ops


def cases(count, seed):
    """(boxes float32 [N, 4], scores [N], classes [N], threshold); some boxes equal, empty or with equal scores."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        boxes = region_oracles.random_boxes(rng, NUMBER, extent=float(rng.choice([10, 100, 1000])))
        boxes[3], boxes[5, 2:] = boxes[2], boxes[5, :2]
        scores = rng.integers(0, 50, NUMBER).astype(np.float32) / 50
        yield boxes, scores, rng.integers(0, 4, NUMBER), float(np.round(rng.uniform(0, 1), 2))


def kept(found):
    return found[0].numpy()[: int(found[1])].tolist()


def test_five_hundred_cases_keep_the_same_indices(torch, ops):
    for boxes, scores, classes, threshold in cases(500, seed=1):
        tensors = [torch.tensor(part) for part in (boxes, scores, classes)]
        plain = regions.nms(boxes, scores, iou_threshold=threshold)
        assert kept(plain) == ops.nms(*tensors[:2], threshold).tolist()
        # Class by class: torchvision's shift of coordinates rounds overlaps.
        by_class = torch.zeros(NUMBER, dtype=torch.bool)
        for label in range(4):
            own = torch.where(tensors[2] == label)[0]
            by_class[own[ops.nms(tensors[0][own], tensors[1][own], threshold)]] = True
        found = kept(regions.batched_nms(boxes, scores, classes, iou_threshold=threshold))
        assert sorted(found) == torch.where(by_class)[0].tolist()
        assert len(set(found) ^ set(ops.batched_nms(*tensors, threshold).tolist())) <= 2


def test_five_hundred_cases_overlap_alike(torch, ops):
    theirs = {
        "iou": ops.box_iou,
        "giou": ops.generalized_box_iou,
        "diou": ops.distance_box_iou,
        "ciou": ops.complete_box_iou,
    }
    for boxes, *_ in cases(500, seed=2):
        sides = boxes[boxes[:, 2] > boxes[:, 0]]
        first, second = sides[:20], sides[20:50]
        for kind, function in theirs.items():
            wanted = function(torch.tensor(first), torch.tensor(second))
            np.testing.assert_allclose(regions.box_iou(first, second, kind=kind), wanted, atol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_bins_and_their_gradients_are_alike(ratio, aligned, torch, ops):
    """85 times 16 boxes each: inside, over the border, without area, far outside."""
    rng = np.random.default_rng(ratio)
    for _ in range(85):
        features = rng.normal(0, 1, (2, 20, 24, 5)).astype(np.float32)
        middle, half = rng.uniform(-30, 230, (16, 2)), rng.uniform(0, 80, (16, 2))
        boxes = np.concatenate([middle - half, middle + half], 1).astype(np.float32)
        boxes[0, 2:] = boxes[0, :2]
        indices, upstream = rng.integers(0, 2, 16), rng.normal(0, 1, (16, *SIZE, 5)).astype(np.float32)
        planes = torch.tensor(features.transpose(0, 3, 1, 2).copy(), requires_grad=True)
        given = torch.tensor(np.c_[indices, boxes].astype(np.float32))
        theirs = ops.roi_align(planes, given, SIZE, 0.1, ratio, aligned)
        (theirs * torch.tensor(upstream.transpose(0, 3, 1, 2).copy())).sum().backward()
        values = tf.constant(features)
        with tf.GradientTape() as tape:
            tape.watch(values)
            options = {"spatial_scale": 0.1, "sampling_ratio": ratio, "aligned": aligned}
            ours = regions.roi_align(values, boxes, indices, output_size=SIZE, **options)
            total = tf.reduce_sum(ours * upstream)
        gradient = tape.gradient(total, values)
        np.testing.assert_allclose(ours, theirs.detach().numpy().transpose(0, 2, 3, 1), atol=1e-4)
        np.testing.assert_allclose(gradient, planes.grad.numpy().transpose(0, 2, 3, 1), atol=1e-3)
