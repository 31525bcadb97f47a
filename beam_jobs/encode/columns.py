"""The additional columns of a source: the values of their cells in a record, and the features that hold them.

A column's dtype is "string", "int64", "float32" or "bytes", whose cells are in base64; "int64[]" is an array of any
length, "int64[=7]" one of seven values, "float32[4]" one of rows of four numbers, "float32[17,3]" one of 17 rows of
three; cells of several texts are JSON. "mask" names the file of the image's mask, which a record holds as a part of its
image. Boxes, keypoints and polygons move with their image, where it is turned upright or resized before it is stored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_jobs.sources.listing import MASK_COLUMN, Ref
from tfpipe.format.schema import Feature
from tfpipe.images.probe import ImageHeader

# The column's name and dtype, as the COCO source gives them: x0, y0, x1, y1 in pixels of the image as its file has it.
BOXES_COLUMN = ("boxes", "float32[4]")
# All points of all polygons.
POLYGONS_COLUMN = ("polygons", "float32[2]")
KEYPOINTS = "keypoints"
_SCALARS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "int64": int,
    "bytes": base64.b64decode,
    "float32": lambda cell: float(cell) if cell else float("nan"),
}


def cell_value(cell: str, dtype: str) -> Any:
    """The value of a cell: a text or a number, or those of an array in one flat list; numbers stand between blanks."""
    if dtype in _SCALARS:
        return _SCALARS[dtype](cell)
    if dtype.startswith(("string", "bytes")):
        texts = json.loads(cell)
        return texts if dtype.startswith("string") else [base64.b64decode(text) for text in texts]
    return [*map(int if dtype.startswith("int64") else float, cell.split())]


def extra_features(columns: Sequence[tuple[str, str]]) -> tuple[Feature, ...]:
    """The features of the source's additional columns, by their names and dtypes; none for masks."""
    features = []
    for name, text in columns:
        if text != MASK_COLUMN:
            dtype, bracket, width = text.rstrip("]").partition("[")
            if width.startswith("="):
                shape: tuple[int | None, ...] = (int(width[1:]),)
            else:
                shape = (None, *map(int, filter(None, width.split(",")))) if bracket else ()
            features.append(Feature(name, "string" if dtype == "bytes" else dtype, shape))
    return tuple(features)


@dataclass(frozen=True)
class RegionColumn:
    """A column that marks regions of the image, and moves with it.

    Attributes:
      index: of the column.
      name: "boxes", "keypoints" or "polygons".
      row: the shape of a row: (4,) of a box, (K, 3) of an object's keypoints with their visibility, (2,) of a point.
    """

    index: int
    name: str
    row: tuple[int, ...]


def find_regions(columns: Sequence[tuple[str, str]]) -> tuple[RegionColumn, ...]:
    """The columns of boxes, of keypoints and of polygons."""
    shapes = {feature.name: feature.shape[1:] for feature in extra_features(columns)}
    return tuple(
        RegionColumn(i, name, tuple(map(int, filter(None, shapes[name]))))
        for i, (name, dtype) in enumerate(columns)
        if (name, dtype) in (BOXES_COLUMN, POLYGONS_COLUMN) or (name == KEYPOINTS and dtype.endswith(",3]"))
    )


def move_regions(
    ref: Ref, columns: Sequence[RegionColumn], image: ImageHeader, size: tuple[int, int] | None, resize: str
) -> Ref:
    """The reference with its regions on the upright image, fitted to a size where one is given. Takes TensorFlow.

    Args:
      ref: as listed.
      columns: of regions.
      image: the header of the image's file.
      size: (height, width) of the image in the record; None keeps its own.
      resize: "pad", "stretch" or "crop".
    """
    import tensorflow as tf

    from tfpipe.images.boxes import place_regions
    from tfpipe.images.fit import Resize

    extras = list(ref.extras)
    with tf.device("CPU:0"):
        given = {
            c.name: tf.constant(np.array(extras[c.index].split(), np.float32).reshape(-1, *c.row)) for c in columns
        }
        stored = {"shape": tf.constant([image.height, image.width]), "orientation": tf.constant(image.orientation)}
        moved = place_regions(given | stored, tuple(given), None if size is None else Resize(size, resize))
        for column in columns:
            extras[column.index] = " ".join(map(repr, moved[column.name].numpy().ravel().tolist()))
    return ref._replace(extras=tuple(extras))
