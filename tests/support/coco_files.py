"""A COCO file with its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pictures import fill_folder

CATEGORIES = [{"id": 7, "name": "sea"}, {"id": 3, "name": "zebra"}, {"id": 12, "name": "cat"}]


def mark(number: int, image: Any, category: Any, box: Any = (1, 2, 3, 4.5), **further: Any) -> dict[str, Any]:
    box = list(box) if isinstance(box, tuple) else box
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **further}


# Image -> categories of its boxes.
BOXES = {i: [3, 7, 12, 7][: i % 5] for i in range(1, 21)}


def coco(root: Path, document: dict[str, Any] | None = None) -> Path:
    """annotations/instances_train.json, and the images in train/."""
    if not (root / "train").exists():
        fill_folder(root, ["train"], 21)
    if document is None:
        marks = [mark(100 * i + k, i, c, (k, 2, 3, 4.5)) for i, cs in BOXES.items() for k, c in enumerate(cs)]
        images = [{"id": i, "file_name": f"{i:03d}.jpg"} for i in BOXES]
        document = {"images": images, "annotations": marks, "categories": CATEGORIES}
    path = root / "annotations/instances_train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path
