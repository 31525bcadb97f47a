"""Published systems beside tfpipe: a table of system, aspect, and whether it is equal, deliberate, or not equal.

    python benchmarks/systems.py            prints the table as Markdown; exits with 1 if a row is not equal

Facts are numbers of the sources, read or run (tests/augment/test_published.py has more of them); no code of theirs.
tests/augment/test_systems.py holds that docs/augmentation.md has what comes out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment import mixing
from tfpipe.augment.augmix import _suite
from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.magnitudes import op_ranges
from tfpipe.policy import load_policy, load_schedule

NOT_EQUAL = "**not**"
Check = Callable[[], bool]
Row = tuple[str, str, "Check | str"]


def values(table: str, method: str, op: str, bins: int, size: int = 224) -> list[float]:
    """Of the sign +, bin by bin."""
    return op_ranges(table, method)[op].values(np.arange(bins) / (bins - 1), size)[:, 0].tolist()


def same(found: Any, fact: Any) -> Check:
    """Whether numbers are the fact's, to six places."""
    return lambda: bool(np.allclose(found(), fact() if callable(fact) else fact, atol=1e-6))


def how(transform: Any) -> Any:
    """How a transform treats pixels."""
    return transform.rendering


SEED = tf.constant([3, 4])


def levels(count: int = 31) -> np.ndarray:
    return np.arange(count) / (count - 1)


def deep(name: str, magnitude: float) -> Any:
    transform = augment.deep_augment([[(name, magnitude)]], original=False)
    return transform, transform.draw((1, 2), 2000, 32, 32).values.numpy()[:, 0]


def mean_box(side: int) -> float:
    """The mean share of an image that cutmix pastes."""
    shape = BatchShape(100_000, side, side)
    weights, placing = mixing.draw_weights(SEED, shape, 1.0, "image"), tf.constant([5, 6])
    top, left, bottom, right = mixing.draw_boxes(placing, shape, weights, "image", "down").numpy().T
    return float(((bottom - top) * (right - left)).mean() / side**2)


DALI: list[Row] = [
    ("DALI 2.4", "AutoAugment: posterize", same(lambda: values("dali", "auto", "posterize", 11),
                                                [1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4])),
    ("DALI 2.4", "AutoAugment: solarize", same(lambda: values("dali", "auto", "solarize", 11), 25.6 * np.arange(11))),
    ("DALI 2.4", "RandAugment: rotate, shear", same(
        lambda: [values("dali", "rand", op, 31) for op in ("rotate", "shear_y")], np.outer([1, 0.01], np.arange(31)))),
    ("DALI 2.4", "RandAugment: shifts, 100 px at 224", same(
        lambda: values("dali", "rand", "translate_x", 31), 100 * levels())),
    ("DALI 2.4", "TrivialAugment: enhancement", same(
        lambda: values("dali", "trivial", "contrast", 31), 1 + np.linspace(0.01, 0.99, 31))),
    ("DALI 2.4", "policies: 25 sub-policies each", lambda: all(
        len(load_policy(n).sub_policies) == 25 for n in ("image_net", "reduced_image_net", "svhn", "reduced_cifar10"))),
    ("DALI 2.4", "fill 128", lambda: how(augment.rand_augment(2, 9)).fill == 128),
    ("DALI 2.4", "interpolation", "linear there, nearest here by default, as Pillow"),
    ("DALI 2.4", "pixels of equalize, contrast, sharpness", "Pillow's here, bit for bit; DALI's are OpenCV's"),
]  # fmt: skip
TORCHVISION: list[Row] = [
    ("torchvision 0.29", "RandAugment: shifts", same(
        lambda: values("torchvision", "rand", "translate_x", 31)[::5], [0, 16, 33, 50, 67, 84, 101])),
    ("torchvision 0.29", "AutoAugment: shifts", same(
        lambda: values("torchvision", "auto", "translate_y", 10), [0, 11, 22, 33, 45, 56, 67, 78, 90, 101])),
    ("torchvision 0.29", "TrivialAugment: shifts", same(
        lambda: values("torchvision", "trivial", "translate_x", 31)[::5], [0, 5, 10, 15, 21, 26, 32])),
    ("torchvision 0.29", "solarize", same(
        lambda: values("torchvision", "rand", "solarize", 31), np.linspace(255, 0, 31))),
    ("torchvision 0.29", "fill", "black there, 128 here by default: one default for all tables"),
    ("torchvision 0.29", "policy IMAGENET", "is named reduced_image_net here, as in DALI and in the paper"),
]  # fmt: skip
PAPERS: list[Row] = [
    ("AutoAugment, paper", "posterize, 4 to 8", same(lambda: values("paper", "auto", "posterize", 11)[::10], [4, 8])),
    ("AutoAugment, paper", "solarize, 0 to 256", same(lambda: values("paper", "auto", "solarize", 11)[::10], [0, 256])),
    ("AutoAugment, paper", "cutout, 0 to 60 of 331", same(
        lambda: values("paper", "auto", "cutout", 11, 331), 6 * np.arange(11))),
    ("AutoAugment, code for CIFAR", "posterize", same(
        lambda: values("paper_code", "auto", "posterize", 11), [4 - int(0.4 * k) for k in range(11)])),
    ("AutoAugment, code for CIFAR", "solarize", same(
        lambda: values("paper_code", "auto", "solarize", 11), [256 - int(25.6 * k) for k in range(11)])),
    ("AutoAugment, code for CIFAR", "95 sub-policies", lambda: len(load_policy("cifar10_95").sub_policies) == 95),
    ("AutoAugment, code for CIFAR", "uncovered pixels: transparent black, then the mean", lambda: (
        how(augment.auto_augment("cifar10_95")).transparent)),
    ("AutoAugment, code for CIFAR", "cutout's square", "theirs reads one coordinate twice; here as PBA mended it"),
    ("TrivialAugment, code", "posterize", same(
        lambda: values("paper", "trivial", "posterize", 31), [8 - int(6 * k / 30) for k in range(31)])),
    ("TrivialAugment, code", "shifts", same(
        lambda: values("paper", "trivial", "translate_x", 31), [int(32 * k / 30) for k in range(31)])),
    ("TrivialAugment, code", "enhancement", same(
        lambda: values("paper", "trivial", "color", 31), np.linspace(0.01, 2, 31))),
    ("PBA", "epochs of rcifar10 and rsvhn", lambda: (
        [load_schedule(n).num_epochs for n in ("rcifar10", "rsvhn")] == [200, 160])),
    ("PBA", "0, 1 or 2 ops", lambda: load_schedule("rcifar10").policies[0].num_ops == (0.2, 0.3, 0.5)),
    ("PBA", "shifts by int(L) of 32 px", same(lambda: values("pba", "auto", "translate_x", 11, 32), np.arange(11))),
    ("PBA", "uncovered pixels: transparent black, then the mean", lambda: (
        how(augment.pba("rcifar10")).transparent)),
    ("PBA", "fill of rsvhn", lambda: how(augment.pba("rsvhn")).fill == (115, 116, 123)),
    ("PBA", "offsets of its crop", "never the last of nine there; all nine here"),
    ("AugMix, code", "levels", same(
        lambda: _suite(3.0)["rotate"].values(levels(64), 32)[:, 0],
        [int(3 * (0.1 + (k + 0.5) * 2.9 / 64)) for k in range(64)])),
]  # fmt: skip
OTHERS: list[Row] = [
    ("DeepAugment 1.1.2", "fill black, linear interpolation", lambda: (
        (lambda r: (r.fill, r.interpolation) == (0, "bilinear"))(how(augment.deep_augment([[("rotate", 1)]]))))),
    ("DeepAugment 1.1.2", "brighten: channels apart in half", lambda: (
        abs(deep("brighten", 1)[1][:, 3].mean() - 0.5) < 0.05)),
    ("DeepAugment 1.1.2", "coarse dropout: U(.30, log10(3 m))", lambda: bool(np.allclose(
        [f(deep("coarse-dropout", 1)[1][:, 1]) for f in (np.min, np.max)], [0.3, np.log10(3)], atol=0.01))),
    ("DeepAugment 1.1.2", "hue and saturation: one draw of ± 45 m", lambda: (
        np.abs(deep("add-to-hue-and-saturation", 1)[1][:, 0]).max() == 45)),
    ("DeepAugment 1.1.2", "crop", "sides cut by half as much, resized linearly, not by a cubic"),
    ("DeepAugment 1.1.2", "fog, clouds", "left out: they paint pictures of their own"),
    ("DeepAugment 1.1.2", "shear", "as scikit-image shears today; the one of 2019 also made an image lower"),
    ("CutMix, code", "box cut down to whole pixels: 0.3005 of 32 x 32 px in the mean", lambda: (
        abs(mean_box(32) - 0.3005) < 0.005)),
    ("CutMix, code", "labels", "by what is left of the box, for each image; there once a batch (per='batch')"),
    ("mixup, paper", "weight of Beta(alpha, alpha)", lambda: all(abs(
        mixing.beta_weights(SEED, 100_000, a).numpy()[:, 0].var() - 1 / (8 * a + 4)) < 2e-3 for a in (0.2, 1.0, 3.0))),
    ("book", "mixup of a part: weight from 0.5 to 0.8", "drawn for each batch; there once, while the graph is made"),
]  # fmt: skip


def table() -> list[str]:
    """The lines of the table."""
    lines = ["| system | aspect | here |", "|---|---|---|"]
    for system, aspect, check in [*DALI, *TORCHVISION, *PAPERS, *OTHERS]:
        verdict = f"deliberate: {check}" if isinstance(check, str) else "equal" if check() else NOT_EQUAL
        lines.append(f"| {system} | {aspect} | {verdict} |")
    return lines


if __name__ == "__main__":
    made = table()
    print("\n".join(made))
    sys.exit(any(NOT_EQUAL in line for line in made))
