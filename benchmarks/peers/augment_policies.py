"""The policies as data, for the packages that have the operations but no such policy: tables of NVIDIA DALI's auto_aug.

An entry is (name, values): an operation and the equally likely values that it takes, in its own unit: shear as a
slope, translate as a part of the side, rotate in degrees, enhance factors, posterize in bits, the rest in levels.
"""

import numpy as np

Operation = tuple[str, tuple[float, ...]]

BINS, MAGNITUDE = 31, 9

# name -> (weakest, strongest, how the value is made of it): "signed" draws a sign, "factor" is 1 plus or minus it.
RAND = {
    "identity": (0, 0, "plain"),
    "shear_x": (0, 0.3, "signed"),
    "shear_y": (0, 0.3, "signed"),
    "translate_x": (0, 100 / 224, "signed"),
    "translate_y": (0, 100 / 224, "signed"),
    "rotate": (0, 30, "signed"),
    "brightness": (0, 0.9, "factor"),
    "contrast": (0, 0.9, "factor"),
    "color": (0, 0.9, "factor"),
    "sharpness": (0, 0.9, "factor"),
    "posterize": (8, 4, "whole"),
    "solarize": (256, 0, "whole"),
    "equalize": (0, 0, "plain"),
    "auto_contrast": (0, 0, "plain"),
}
WIDE = {
    **RAND,
    **dict.fromkeys(("shear_x", "shear_y"), (0, 0.99, "signed")),
    **dict.fromkeys(("translate_x", "translate_y"), (0, 32 / 224, "signed")),
    "rotate": (0, 135, "signed"),
    **dict.fromkeys(("brightness", "contrast", "color", "sharpness"), (0.01, 0.99, "factor")),
    "posterize": (8, 2, "whole"),
}
AUTO = {
    **RAND,
    **dict.fromkeys(("brightness", "contrast", "color", "sharpness"), (0.1, 1.9, "plain")),
    "posterize": (0, 4, "whole"),
    "solarize": (0, 256, "whole"),
    "solarize_add": (0, 110, "whole"),
    "invert": (0, 0, "plain"),
}

# AutoAugment's policy for ImageNet: 25 pairs of (operation, probability, bin of 11).
IMAGE_NET = """
equalize .8 0, shear_y .8 4; color .4 9, equalize .6 0; color .4 1, rotate .6 8; solarize .8 3, equalize .4 0;
solarize .4 2, solarize .6 2; color .2 0, equalize .8 0; equalize .4 0, solarize_add .8 3; shear_x .2 9, rotate .6 8;
color .6 1, equalize 1 0; invert .4 0, rotate .6 0; equalize 1 0, shear_y .6 3; color .4 7, equalize .6 0;
posterize .4 6, auto_contrast .4 0; solarize .6 8, color .6 9; solarize .2 4, rotate .8 9; rotate 1 7, translate_y .8 9;
solarize .8 4, identity 1 0; shear_y .8 0, color .6 4; color 1 0, rotate .6 2; equalize .8 0, identity 1 0;
equalize 1 0, auto_contrast .6 0; shear_y .4 7, solarize_add .6 7; posterize .8 2, solarize .6 10;
solarize .6 8, equalize .6 0; color .8 6, rotate .4 5
"""


def values(table: dict[str, tuple[float, float, str]], name: str, fractions: np.ndarray) -> tuple[float, ...]:
    """The values of an operation at some fractions of its range, each with either sign where one is drawn."""
    low, high, kind = table[name]
    magnitudes = low + (high - low) * fractions
    if kind == "whole":
        magnitudes = np.round(magnitudes)
    offset = 1 if kind == "factor" else 0
    signs = (1, -1) if kind in ("signed", "factor") else (1,)
    return tuple(float(offset + sign * value) for value in magnitudes for sign in signs)


def rand_augment() -> list[Operation]:
    """The 14 operations of RandAugment at magnitude 9 of 31."""
    return [(name, values(RAND, name, np.array([MAGNITUDE / (BINS - 1)]))) for name in RAND]


def trivial_augment() -> list[Operation]:
    """The 14 operations of TrivialAugment, each at any of 31 magnitudes."""
    return [(name, values(WIDE, name, np.linspace(0, 1, BINS))) for name in WIDE]


def auto_augment() -> list[tuple[tuple[Operation, float], tuple[Operation, float]]]:
    """The 25 pairs of (operation, probability)."""
    pairs = []
    for pair in IMAGE_NET.replace("\n", " ").split(";"):
        steps = [step.split() for step in pair.split(",")]
        pairs.append(tuple(((n, values(AUTO, n, np.array([int(b) / 10]))), float(p)) for n, p, b in steps))
    return pairs
