"""The additional columns of a source: the values of their cells in a record, and the features that hold them.

A column's dtype is "string", "int64", "float32" or "bytes", whose cells are in base64; "int64[]" is an array of any
length, "int64[=7]" one of seven values, "float32[4]" one of rows of four numbers; cells of several texts are JSON.
"mask" names the file of the image's mask, which a record holds as a part of its image. Boxes move with their image,
where it is turned upright or resized before it is stored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beam_jobs.sources.listing import MASK_COLUMN, Ref
from tfpipe.format.schema import Feature
from tfpipe.images.probe import ImageHeader

# The column's name and dtype, as the COCO source gives them: x0, y0, x1, y1 in pixels of the image as its file has it.
BOXES_COLUMN = ("boxes", "float32[4]")
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
            shape: tuple[int | None, ...] = (None, *([int(width)] if width.isdigit() else [])) if bracket else ()
            shape = (int(width[1:]),) if width.startswith("=") else shape
            features.append(Feature(name, "string" if dtype == "bytes" else dtype, shape))
    return tuple(features)


def find_boxes(columns: Sequence[tuple[str, str]]) -> int | None:
    """The index of the column that holds boxes; None where none does."""
    return columns.index(BOXES_COLUMN) if BOXES_COLUMN in columns else None


def move_boxes(ref: Ref, column: int, image: ImageHeader, size: tuple[int, int] | None, resize: str) -> Ref:
    """The reference with its boxes on the upright image, fitted to a size where one is given. Takes TensorFlow.

    Args:
      ref: as listed.
      column: the index of the column of boxes.
      image: the header of the image's file.
      size: (height, width) of the image in the record; None keeps its own.
      resize: "pad", "stretch" or "crop".
    """
    import tensorflow as tf

    from tfpipe.images import boxes

    with tf.device("CPU:0"):
        moved = np.array(ref.extras[column].split(), np.float32).reshape(-1, 4)
        moved = boxes.turn_boxes(moved, (image.height, image.width), image.orientation)
        if size is not None:
            moved = boxes.fit_boxes(moved, image.upright_size, size, resize=resize)
        cell = " ".join(map(repr, moved.numpy().ravel().tolist()))
    return ref._replace(extras=(*ref.extras[:column], cell, *ref.extras[column + 1 :]))
