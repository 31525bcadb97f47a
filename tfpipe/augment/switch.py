"""mixup or cutmix, whichever is drawn, until an epoch; as the recipes of vision transformers have it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import draw_uniforms, split_seed
from tfpipe.augment.mixing import (
    blend_images,
    blend_labels,
    check_batch,
    check_mixing,
    draw_boxes,
    draw_partner,
    draw_weights,
    paste_boxes,
)
from tfpipe.augment.transform import Batch, BatchTransform, record_call
from tfpipe.policy import is_integer, is_number


@record_call
def mixup_or_cutmix(
    p: float = 1.0,
    stop_epoch: int | None = None,
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    cutmix_share: float = 0.5,
    per: str = "batch",
    rounding: str = "down",
    check_values: bool = False,
) -> BatchTransform:
    """With probability p mixup or cutmix, and from an epoch on neither.

    Args:
      p: the probability of mixing at all.
      stop_epoch: from this epoch on, counted from 0, nothing is mixed; it is read from batch["epoch"], which
        make_dataset and layers with steps_per_epoch give. None: never.
      mixup_alpha: of mixup's Beta draw.
      cutmix_alpha: of cutmix's.
      cutmix_share: of what is mixed, how much is cutmix.
      per: "batch" draws which, the weight and the box once a batch, as timm does; "image" for each image.
      rounding: of cutmix's box, as for cutmix.
      check_values: as for mixup.

    Returns:
      A transform of batches with `image` and `label`, the latter float [B, classes].

    Raises:
      ValueError: an argument is out of range; when applied, as for mixup, or there is no epoch to read.
    """
    check_mixing("mixup_or_cutmix", mixup_alpha, per, None, rounding=rounding)
    check_mixing("mixup_or_cutmix", cutmix_alpha, per, None, rounding=rounding)
    for name, value in (("p", p), ("cutmix_share", cutmix_share)):
        if not is_number(value, least=0, most=1):
            raise ValueError(f"{name} of mixup_or_cutmix is {value!r}; it must be in [0, 1].")
    if stop_epoch is not None and not is_integer(stop_epoch, 0):
        raise ValueError(f"stop_epoch is {stop_epoch!r}; it must be an integer of at least 0, or None.")

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        check_batch("mixup_or_cutmix", batch, shape, check_values)
        which, blending, pasting, placing, pairing = split_seed(seed, 5)
        is_cut, is_blended = _drawn(which, shape, p * cutmix_share, p, per)
        if stop_epoch is not None:
            goes_on = _epoch(batch) < stop_epoch
            is_cut, is_blended = is_cut & goes_on, is_blended & goes_on
        partner = draw_partner(pairing, shape.batch_size)
        weights = tf.where(is_blended[:, None], draw_weights(blending, shape, mixup_alpha, per), [[1.0, 0.0]])
        boxes = draw_boxes(placing, shape, draw_weights(pasting, shape, cutmix_alpha, per), per, rounding)
        boxes = tf.where(is_cut[:, None], boxes, 0)
        taken = tf.cast((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), tf.float32)
        share = taken / np.float32(shape.height * shape.width)
        # Of an image that is blended nothing is pasted, and the other way round; so one of the two is (1, 0).
        image = paste_boxes(blend_images(batch["image"], partner, weights), batch["image"], partner, boxes)
        weights = tf.where(is_cut[:, None], tf.stack([1 - share, share], axis=-1), weights)
        return {**batch, "image": image, "label": blend_labels(batch["label"], partner, weights)}

    return BatchTransform(change)


def _drawn(seed: tf.Tensor, shape: BatchShape, cut: float, mixed: float, per: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Bool [B] twice: whether an image gets a box, and whether it is blended."""
    uniforms = draw_uniforms(seed, shape.batch_size, 1).apply[:, 0]
    if per == "batch":
        uniforms = tf.tile(uniforms[:1], [shape.batch_size])
    return uniforms < np.float32(cut), (uniforms >= np.float32(cut)) & (uniforms < np.float32(mixed))


def _epoch(batch: Batch) -> tf.Tensor:
    if "epoch" not in batch:
        raise ValueError("mixup_or_cutmix with stop_epoch needs the epoch: a batch with 'epoch', an integer scalar.")
    return tf.cast(batch["epoch"], tf.int64)
