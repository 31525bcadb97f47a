"""What is done about boxes and keypoints after transforms have moved them.

    train = [drop_boxes([random_resized_crop((320, 320)), flip_left_right()], min_visible=0.3, min_area=16)]
    pose = [keypoint_pairs([flip_left_right(), op("rotate", (-20, 20))], pairs=[(1, 2), (3, 4)])]

Boxes, keypoints, polygons and masks move with the pixels in every transform by itself; these two wrap the transforms of
which something has to be known afterwards: how much of a box was cut off by all of them together, and whether an image
is mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import tensorflow as tf

from tfpipe.augment.conditional import Part, compose
from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.transform import Batch, BatchTransform, record_call
from tfpipe.policy import is_integer, is_number
from tfpipe.regions.move import box_areas, keep_boxes, swap_pairs


@record_call
def drop_boxes(
    parts: Sequence[Part | BatchTransform], *, min_visible: float = 0.0, min_area: float = 1.0
) -> BatchTransform:
    """The parts, after which boxes of which too little is left are gone, and what goes with each of them.

    Args:
      parts: as for compose.
      min_visible: the least share of a box's area that the parts together must have left inside of the images.
      min_area: the least area that is left, in square pixels.

    Returns:
      A transform of batches with `boxes` and `box_labels`: ragged ones lose the dropped ones; dense ones, [B, N, 4],
      have blanks in their place, with the label -1. `keypoints` and `polygons` with an axis of objects, [B, N, ...],
      follow their boxes.

    Raises:
      ValueError: an argument is out of range; when applied, the batch has no boxes, or none of their labels.
    """
    if not is_number(min_visible, least=0, most=1, kinds=Real) or not is_number(min_area, least=0, kinds=Real):
        raise ValueError(f"min_visible is {min_visible!r} and min_area {min_area!r}; they take 0 to 1, and at least 0.")
    joint = compose(parts)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        missing = [name for name in ("boxes", "box_labels") if name not in batch]
        if missing:
            raise ValueError(f"drop_boxes takes batches with boxes and box_labels; this one lacks {missing}.")
        whole: Any = tf.ones_like(box_areas(batch["boxes"]))
        moved = dict(joint({**batch, "box_visible": whole}, seed))
        visible, area = moved.pop("box_visible"), box_areas(moved["boxes"])
        keep = (area >= min_area) & (visible >= min_visible) & (area > 0)
        return moved | keep_boxes(moved, keep)

    return BatchTransform(change)


@record_call
def keypoint_pairs(parts: Sequence[Part | BatchTransform], pairs: Sequence[tuple[int, int]]) -> BatchTransform:
    """The parts, after which left and right keypoints are exchanged in the images that were mirrored.

    Args:
      parts: as for compose.
      pairs: of indices into the keypoints, such as those of the left and the right eye.

    Returns:
      A transform of batches with `keypoints` [B, ..., K, 2] or [B, ..., K, 3].

    Raises:
      ValueError: an index is not one, or occurs twice; when applied, the batch has no keypoints, or too few.
    """
    flat = [index for pair in pairs for index in pair]
    if any(len(pair) != 2 for pair in pairs) or not all(is_integer(i, 0) for i in flat) or len(set(flat)) < len(flat):
        raise ValueError(f"pairs is {pairs!r}; it takes pairs of indices of at least 0, each index once.")
    joint = compose(parts)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        number = batch["keypoints"].shape[-2] if "keypoints" in batch else 0
        if max(flat, default=-1) >= number:
            raise ValueError(f"keypoint_pairs exchanges keypoints {pairs}, but the batch has {number} of them.")
        moved = dict(joint({**batch, "mirrored": tf.zeros([shape.batch_size], tf.bool)}, seed))
        mirrored = moved.pop("mirrored")
        return {**moved, "keypoints": swap_pairs(moved["keypoints"], pairs, mirrored)}

    return BatchTransform(change)
