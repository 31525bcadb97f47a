"""A tiny task to search on: two classes of noisy stripes, of which the test images are inverted half of the time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe import search
from tfpipe.search import Training
from tfpipe.search.space import slots, walk

SHAPE = (12, 12, 1)
# Few ops, and none that takes long to compile.
OPS = ("invert", "flip_left_right", "solarize")
TRAINING = Training(steps=12, batch_size=16, epochs=4, last=2, validation_images=64, fill=0)
SPACE, WALK = slots(ops=OPS, count=2), walk(ops=OPS)


def pair(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of horizontal and of vertical stripes, with noise."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    stripes = np.where(np.arange(12) // 2 % 2, 180, 60)
    images = np.where(labels[:, None, None] == 0, stripes[None, None, :], stripes[None, :, None])
    noisy = images + generator.normal(0, 70, images.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)[..., None], labels


TRAIN, VALIDATION, TEST = pair(96, 1), pair(128, 2), pair(128, 3)


def tiny(shape: tuple[int, int, int], num_classes: int):
    """A child that is made and trained in no time."""
    import keras

    return keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dropout(0.1), keras.layers.Dense(num_classes)]
    )


def three_outputs(shape: tuple[int, int, int], num_classes: int):
    """A child that has too many outputs for two classes."""
    return tiny(shape, 3)


def bayesian(**changes):
    """A small search; a change is an argument of search.bayesian."""
    settings = {
        "trials": 7,
        "space": SPACE,
        "child": tiny,
        "training": TRAINING,
        "seed": 3,
        "rescored": 2,
        "repeats": 2,
    }
    return search.bayesian(TRAIN, VALIDATION, **(settings | changes))


MEMBERS, ROUNDS = 5, 4


def population(**changes):
    """A small population; a change is an argument of search.population."""
    settings = {
        "members": MEMBERS,
        "rounds": ROUNDS,
        "space": WALK,
        "child": tiny,
        "seed": 3,
        "training": TRAINING,
        "repeats": 1,
    }
    return search.population(TRAIN, VALIDATION, **(settings | changes))


def stop_after(count):
    """Ctrl-C after some trainings."""

    def on_trial(done, total, best):
        if done == count:
            raise KeyboardInterrupt

    return on_trial


def start(call: str, **options: Any) -> subprocess.Popen[bytes]:
    """A search in a process of its own: a call of a function of this module."""
    support = Path(__file__).parent
    path = [str(support.parents[1]), str(support), *sys.path]
    code = f"import searched\nif __name__ == '__main__':\n    searched.{call}"
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(path)}, **options
    )
