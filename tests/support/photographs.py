"""Crops of the photographs that scikit-image ships, from disjoint regions, and datasets of them with planted faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

# Of these no part is black, or without any detail, by nature.
NAMES = ("astronaut", "chelsea", "coffee", "immunohistochemistry", "rocket", "stereo_motorcycle", "hubble_deep_field")


def crops(side: int) -> dict[str, list[Image.Image]]:
    """Disjoint square crops of each photograph."""
    from skimage import data

    found = {}
    for name in NAMES:
        loaded = getattr(data, name)()
        pixels = (loaded[0] if isinstance(loaded, tuple) else loaded)[..., :3]
        height, width = pixels.shape[:2]
        corners = [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
        found[name] = [Image.fromarray(pixels[y : y + side, x : x + side]) for y, x in corners]
    return found


class Planted(NamedTuple):
    """A folder of images with faults: the keys of each kind of fault, and of all images."""

    root: Path
    faults: dict[str, set[str]]
    keys: set[str]


# A fault, and what makes an image have it.
FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurry": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "dark": lambda image: image.point(lambda level: level * 0.15),
    "gray": lambda image: image.convert("L"),
    "light": lambda image: image.point(lambda level: 255 - (255 - level) * 0.12),
}
_OF_EACH, _MOVED = 20, 12


def plant_faults(root: Path, *, side: int = 96, seed: int = 5) -> Planted:
    """Crops as JPEG files, a folder per photograph: 20 of them blurred, 20 dark, 20 gray, 20 light, 20 with a smaller
    and stronger compressed copy, and one folder of another photograph's crops under a wrong class."""
    found = crops(side)
    numbered = [(name, number) for name, images in found.items() for number in range(len(images))]
    np.random.default_rng(seed).shuffle(numbered)
    numbered = [(str(name), int(number)) for name, number in numbered]
    picks = {kind: numbered[_OF_EACH * i : _OF_EACH * (i + 1)] for i, kind in enumerate((*FAULTS, "copied"))}
    rest = numbered[_OF_EACH * len(picks) :]
    moved = [pick for pick in rest if pick[0] == "immunohistochemistry"][:_MOVED]
    faults: dict[str, set[str]] = {kind: set() for kind in (*picks, "moved")}
    keys = set()
    for name, number in numbered:
        image = found[name][number]
        key = f"{name}/{number:03d}.jpg"
        if (name, number) in moved:
            key = f"coffee/batch7/{number:03d}.jpg"
            faults["moved"].add(key)
        for kind, picked in picks.items():
            if (name, number) in picked:
                faults[kind].add(key)
                image = FAULTS[kind](image) if kind in FAULTS else image
        keys.add(key)
        _save(image, root / key, 92)
        if key in faults["copied"]:
            _save(image.resize((side * 3 // 4, side * 3 // 4)), root / key.replace(".jpg", "_copy.jpg"), 60)
    faults["copied"] |= {key.replace(".jpg", "_copy.jpg") for key in faults["copied"]}
    return Planted(root, faults, keys | faults["copied"])


def _save(image: Image.Image, path: Path, quality: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=quality)
