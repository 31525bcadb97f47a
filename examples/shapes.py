"""Generated images of squares and discs, with a COCO file of their boxes and a mask for each.

python examples/shapes.py shapes --count 300        # shapes/shapes.json, shapes/images, shapes/masks
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("square", "disc")
SIZE = 96
_SIDES = (12, 24)
_MOST = 3


def write_shapes(folder: Path, *, count: int, seed: int = 0) -> Path:
    """Writes images of one to three shapes that do not overlap; returns the COCO file.

    A mask is 0 for the background, 1 for a square and 2 for a disc.
    """
    rng = np.random.default_rng(seed)
    images, marks = [], []
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, mask, boxes = _draw(rng)
        file = f"{number:05d}.png"
        Image.fromarray(image).save(folder / "images" / file)
        Image.fromarray(mask).save(folder / "masks" / file)
        images.append({"id": number, "file_name": file, "height": SIZE, "width": SIZE})
        for x, y, side, kind in boxes:
            mark = {"id": len(marks), "image_id": number, "category_id": kind + 1, "bbox": [x, y, side, side]}
            marks.append(mark)
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    path = folder / "shapes.json"
    path.write_text(json.dumps({"images": images, "annotations": marks, "categories": categories}))
    return path


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int, int]]]:
    """An image uint8 [H, W, 3], its mask [H, W], and (x, y, side, class) of each shape."""
    image = rng.integers(0, 70, (SIZE, SIZE, 3)).astype(np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(rng.integers(1, _MOST + 1)):
        side, kind = int(rng.integers(*_SIDES)), int(rng.integers(len(CLASSES)))
        x, y = (int(place) for place in rng.integers(1, SIZE - side - 1, 2))
        # One pixel around it stays free, so that shapes can be told apart.
        if mask[y - 1 : y + side + 1, x - 1 : x + side + 1].any():
            continue
        rows, columns = np.mgrid[0:side, 0:side] - (side - 1) / 2
        inside = np.ones((side, side), bool) if kind == 0 else rows**2 + columns**2 <= (side / 2) ** 2
        image[y : y + side, x : x + side][inside] = rng.integers(130, 256, 3)
        mask[y : y + side, x : x + side][inside] = kind + 1
        boxes.append((x, y, side, kind))
    return image, mask, boxes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    print(write_shapes(arguments.folder, count=arguments.count))
