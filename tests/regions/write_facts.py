"""Writes data/torchvision.json: what torchvision 0.29.1 (BSD-3-Clause) computed for inputs drawn here.

    python tests/regions/write_facts.py      # with torch and torchvision installed; written once, on 2026-11-27

Only inputs and results are kept, no code: the indices that torchvision.ops.batched_nms keeps, and the values that
torchvision.ops.roi_align pools. tests/regions/test_torchvision.py compares many more cases where
torchvision is at hand.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from region_oracles import random_boxes

RNG = np.random.default_rng(20261127)


def nms_fact(number, num_classes, threshold):
    boxes = np.round(random_boxes(RNG, number), 1)
    scores, classes = np.round(RNG.uniform(0, 1, number), 2).astype(np.float32), RNG.integers(0, num_classes, number)
    if number > 6:
        boxes[3] = boxes[2]  # equal boxes
        boxes[5, 2:] = boxes[5, :2]  # one without area
    kept = torchvision.ops.batched_nms(*map(torch.tensor, (boxes, scores, classes)), threshold)
    rounded = [[round(float(side), 1) for side in box] for box in boxes]
    return {
        "boxes": rounded,
        "scores": [round(float(score), 2) for score in scores],
        "classes": classes.tolist(),
        "threshold": threshold,
        "kept": kept.tolist(),
    }


def roi_fact(ratio, aligned):
    features = np.round(RNG.normal(0, 1, (2, 6, 7, 2)), 2).astype(np.float32)
    boxes = np.float32([[3, 3, 40, 30], [-20, -9, 25, 20], [30, 30, 80, 70], [12, 12, 12, 12], [10, 10, 13, 60]])
    indices = [0, 1, 1, 0, 1]
    given = torch.tensor(np.c_[indices, boxes].astype(np.float32))
    pooled = torchvision.ops.roi_align(
        torch.tensor(features.transpose(0, 3, 1, 2).copy()), given, (2, 3), 0.125, ratio, aligned
    )
    return {
        "features": [round(float(value), 2) for value in features.ravel()],
        "boxes": boxes.tolist(),
        "box_indices": indices,
        "sampling_ratio": ratio,
        "aligned": aligned,
        "pooled": [round(float(value), 6) for value in pooled.numpy().transpose(0, 2, 3, 1).ravel()],
    }


if __name__ == "__main__":
    cases = [(1, 1, 0.5), (12, 1, 0.3), (24, 1, 0.5), (24, 2, 0.5), (40, 3, 0.2), (40, 1, 0.0), (40, 1, 0.7)]
    facts = {
        "made_with": f"torchvision {torchvision.__version__}, torch {torch.__version__}; see write_facts.py",
        "nms": [nms_fact(*case) for case in cases],
        "roi_align": [roi_fact(ratio, aligned) for ratio in (0, 1, 2) for aligned in (True, False)],
    }
    target = Path(__file__).parent / "data/torchvision.json"
    target.write_text(json.dumps(facts) + "\n")
