"""Objects of several images that come into one: their boxes, and what goes with each box.

A feature has an axis of objects behind that of the batch: boxes [B, N, 4], box_labels [B, N], keypoints [B, N, K, 3],
polygons [B, N, P, 2], dense or ragged. Those of one image follow those of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfpipe.regions.move import PER_BOX, POINTS, box_areas, each_row, is_per_box, keep_boxes

OBJECTS = ("boxes", *PER_BOX, *POINTS)
# Half a level: an image of a lower weight changes no pixel.
_LEAST_WEIGHT = 1 / 510


def check_objects(what: str, batch: Mapping[str, Any], *, with_boxes: bool = False) -> None:
    """Raises a ValueError where a transform cannot put the objects of several images together.

    Args:
      what: the name of the transform.
      batch: what it is given.
      with_boxes: points must have boxes, by which the transform chooses them.
    """
    points = [name for name in POINTS if name in batch]
    if with_boxes and points and "boxes" not in batch:
        raise ValueError(f"{what} chooses {points} by their boxes; the batch has none.")
    if ("boxes" in batch) != ("box_labels" in batch):
        raise ValueError(f"{what} takes boxes together with box_labels; the batch has {sorted(batch)}.")
    if "mirrored" in batch:
        raise ValueError(
            f"{what} takes several images, of which some may be mirrored: it goes before or behind keypoint_pairs, "
            "not into it."
        )
    flat = [name for name in POINTS if name in batch and not is_per_box(name, batch[name])]
    if flat:
        raise ValueError(
            f"{what} puts objects together: {flat} take an axis of objects, [B, N, K, 2] or [B, N, K, 3]; got the "
            f"shape {batch[flat[0]].shape}."
        )


def objects_of(batch: Mapping[str, Any], *, images: tf.Tensor | None = None) -> dict[str, Any]:
    """The features of a batch's objects, of all images or of those whose indices [B] are given."""
    found = {name: batch[name] for name in OBJECTS if name in batch}
    return found if images is None else {name: tf.gather(value, images) for name, value in found.items()}


def join_objects(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The objects of each image in all parts, one part behind the other."""
    return {name: tf.concat([part[name] for part in parts], axis=1) for name in parts[0]}


def mask_layers(mask: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """A mask [B, H, W] or [B, H, W, C] with a channel axis, and what takes it off again."""
    if mask.shape.rank == 3:
        return mask[..., None], lambda moved: moved[..., 0]
    return mask, lambda moved: moved


def soft_mask(mask: tf.Tensor, classes: int | None) -> tf.Tensor:
    """A mask as floats: [B, H, W, classes] of one of integers, [B, H, W] or [B, H, W, 1].

    Raises:
      ValueError: it is one of integers, and of several channels, or the number of classes is not known.
    """
    if mask.dtype.is_floating:
        return mask
    if classes is None or (mask.shape.rank == 4 and mask.shape[-1] != 1):
        raise ValueError(
            f"mixup mixes masks of floats, a share for each class, and this one is {mask.dtype.name} {mask.shape}; "
            "mixup(mask_classes=n) makes them of integers [B, H, W] or [B, H, W, 1]."
        )
    flat = mask[..., 0] if mask.shape.rank == 4 else mask
    return tf.one_hot(tf.cast(flat, tf.int32), classes)


def blend_objects(batch: Mapping[str, Any], partner: tf.Tensor, weights: tf.Tensor) -> dict[str, Any]:
    """The objects of each image and of its partner, `box_weights` among their features."""
    if "boxes" not in batch:
        return {}
    parts = []
    for index, image in enumerate((None, partner)):
        own = objects_of(batch, images=image)
        before = own.get("box_weights", tf.ones_like(box_areas(own["boxes"])))
        parts.append(own | {"box_weights": each_row(_scaled, before, weights[:, index])})
    joined = join_objects(parts)
    return joined | keep_boxes(joined, (joined["box_weights"] >= _LEAST_WEIGHT) & (joined["box_labels"] >= 0))


def _scaled(rows: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Rows [B] or [B, N] times a factor for each of the first axis."""
    return rows * (factors if rows.shape.rank == 1 else factors[:, None])
