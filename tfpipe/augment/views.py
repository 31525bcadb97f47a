"""Several looks at one image: copies in a batch, and views side by side.

    [repeated(3), rand_augment(2, 9)]                   three copies of each image, each augmented for itself
    views([[random_resized_crop(96), flip_left_right()]] * 2)                       SimCLR's pair
    views([[flip_left_right()], [flip_left_right(), rand_augment(2, 9)]])           weak and strong, as FixMatch

A batch whose images are views holds a tuple of them: ((view, view, ...), labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.conditional import Part, compose
from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import split_seed
from tfpipe.augment.transform import Batch, BatchTransform, record_call
from tfpipe.policy import is_integer
from tfpipe.regions.move import POINTS

# What moves with the pixels, so that each view has its own.
_MOVED = ("image", "mask", "boxes", "box_labels", "box_weights", *POINTS)


@record_call
def repeated(k: int) -> BatchTransform:
    """Each image k times in the batch, its copies behind it: repeated augmentation (Hoffer et al. 2020).

    The batch becomes k times as large, labels and all other features with it; what follows draws for each copy.

    Raises:
      ValueError: k is below 1.
    """
    if not is_integer(k, 1):
        raise ValueError(f"k of repeated is {k!r}; it must be an integer of at least 1.")

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        rows = tf.repeat(tf.range(shape.batch_size), k)
        made = {}
        for name, value in batch.items():
            is_scalar = not isinstance(value, tf.RaggedTensor) and value.shape.rank == 0
            made[name] = value if is_scalar else tf.gather(value, rows)
        return made

    return BatchTransform(change)


@record_call
def views(transforms: Sequence[Sequence[Part | BatchTransform]]) -> BatchTransform:
    """Each image as several views, each by transforms of its own: batch["image"] becomes a tuple of them.

    Masks, boxes with their labels, keypoints and polygons become tuples, too; labels stay. It goes last, since no other
    transform takes a tuple. Each view draws for itself, even where two have the same transforms; an empty list gives
    the images as they are.

    Raises:
      ValueError: there is no view; when applied, a view changes labels, as mixup does.
    """
    if isinstance(transforms, str) or not isinstance(transforms, Sequence) or not len(transforms):
        raise ValueError(f"views takes a list of at least one list of transforms; it got {transforms!r}.")
    for one in transforms:
        if isinstance(one, str) or not isinstance(one, Sequence):
            raise ValueError(f"Each view is a list of transforms; one of them is {one!r}.")
    made = [compose(list(one)) if len(one) else None for one in transforms]

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        seen = []
        for transform, own in zip(made, split_seed(seed, len(made)), strict=True):
            view = batch if transform is None else transform(batch, own)
            changed = sorted(name for name in batch if name not in _MOVED and view[name] is not batch[name])
            changed += sorted(set(view) - set(batch))
            if changed:
                raise ValueError(f"A view changes {changed}; it may change {list(_MOVED)} alone.")
            seen.append(view)
        moved: dict[str, Any] = {name: tuple(view[name] for view in seen) for name in _MOVED if name in batch}
        return {**batch, **moved}

    return BatchTransform(change)
