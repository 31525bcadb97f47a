"""Boxes of a listing that move with their image, where it is turned or resized before it is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_jobs.sources.listing import Ref
from tfpipe.images.probe import ImageHeader

# The column's name and dtype, as the COCO source gives them: x0, y0, x1, y1 in pixels of the image as its file has it.
BOXES_COLUMN = ("boxes", "float32[4]")


def boxes_place(columns: Sequence[tuple[str, str]]) -> int | None:
    """Which of a plan's columns holds boxes."""
    return columns.index(BOXES_COLUMN) if BOXES_COLUMN in columns else None


def move_boxes(ref: Ref, place: int, image: ImageHeader, size: tuple[int, int] | None, resize: str) -> Ref:
    """The reference with its boxes on the upright image, fitted to a size where one is given. Takes TensorFlow.

    Args:
      ref: as listed.
      place: of the column of boxes.
      image: the header of the image's file.
      size: (height, width) of the image in the record; None keeps its own.
      resize: "pad", "stretch" or "crop".
    """
    import tensorflow as tf

    from tfpipe.images import boxes

    with tf.device("CPU:0"):
        moved = np.array(ref.extras[place].split(), np.float32).reshape(-1, 4)
        moved = boxes.turn_boxes(moved, (image.height, image.width), image.orientation)
        if size is not None:
            moved = boxes.fit_boxes(moved, image.upright_size, size, resize=resize)
        cell = " ".join(map(repr, moved.numpy().ravel().tolist()))
    return ref._replace(extras=(*ref.extras[:place], cell, *ref.extras[place + 1 :]))
