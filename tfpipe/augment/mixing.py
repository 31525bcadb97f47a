"""mixup and cutmix: each image is mixed with another of its batch, and so are their labels.

    make_dataset(..., transforms=[rand_augment(2, 9), mixup(0.2)])      # one-hot labels, as by default
    make_dataset(..., labels="boxes", transforms=[mosaic(), mixup(8.0)])    # boxes of both, with weights

The weight is a draw from Beta(alpha, alpha). It is looked up among 2 · 16,384 quantiles which are computed once per
alpha: exact in every form, where Marsaglia and Tsang's method goes through logarithms that differ in their last bits
between TensorFlow and XLA. Only the smaller weight is stored, and the other is 1 minus it: below alpha = 0.2 most
weights are so small that 1 - weight would round to 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import draw_uniforms, random_bits, split_seed, to_unit
from tfpipe.augment.objects import blend_objects, check_objects, mask_layers, soft_mask
from tfpipe.augment.ops.erase import inside_boxes
from tfpipe.augment.ops.levels import to_levels
from tfpipe.augment.transform import Batch, BatchTransform, check_version, record_call
from tfpipe.policy import VERSION, is_integer, is_number
from tfpipe.regions.move import POINTS

PER = ("image", "batch")
ROUNDINGS = ("down", "nearest")
# The book's range of weights; see its mixup of part of a batch.
BOOK_WEIGHTS = (0.5, 0.8)
_QUANTILE_BITS = 14
# Weights of uint8 pixels are whole 4096ths: 255 * 4096 and every sum below are exact in float32, fused or not.
_WEIGHT_STEPS = 4096.0
PAIRED = ("boxes", "mask", *POINTS)


@record_call
def mixup(
    alpha: float = 0.2,
    *,
    fraction: float | None = None,
    per: str = "image",
    check_values: bool = False,
    mask_classes: int | None = None,
) -> BatchTransform:
    """Each image becomes weight * image + (1 - weight) * another one, and its label likewise.

    Of batches with boxes each image has those of both, the other one's behind its own, and `box_weights` says for each
    the weight of the image that it comes from; what goes with boxes, keypoints and polygons among them, follows. Zhang
    et al., "Bag of Freebies for Training Object Detection Neural Networks", 2019, weigh each object's loss so; they and
    later detectors take an alpha of 1.5 to 32, under which both images are seen.

    Args:
      alpha: the weight is drawn from Beta(alpha, alpha); the partner is any other image of the batch, all alike.
      fraction: None mixes all. A number mixes only the first rint(fraction * B) images, as the book Practical Machine
        Learning for Computer Vision does: each with the next one, all with one weight, drawn from 0.5 to 0.8 for
        each batch and rounded to hundredths; alpha and per then have no part.
      per: "image" draws a weight for each image, "batch" one for all.
      check_values: assert inside graphs, too, that each row of the labels sums to 1; eagerly that is always checked.
      mask_classes: masks of integers become float32 [B, H, W, mask_classes], the share of each class, before they are
        mixed; a pixel of another value, such as 255, is of no class. None: masks are floats already.

    Returns:
      A transform of batches with `image` and at least one of `label`, float [B, classes], one-hot or soft; `mask`,
      which becomes weight * mask + (1 - weight) * the other one; and `boxes` with `box_labels`, of which there are
      twice as many: those of an image of a weight below 1/510, which changes no pixel, are dropped. Dtypes stay; uint8
      pixels are rounded to the nearest level, with the weight in 4096ths.

    Raises:
      ValueError: an argument is out of range; when applied, the labels are not [B, classes] of floats, masks are
        integers, boxes have no box_labels, points no boxes or no axis of objects, the batch is known to hold fewer
        images than mixing takes, or it is inside of keypoint_pairs.
    """
    check_mixing("mixup", alpha, per, fraction)
    if mask_classes is not None and not is_integer(mask_classes, 2):
        raise ValueError(f"mask_classes of mixup is {mask_classes!r}; it must be an integer of at least 2, or None.")

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        check_batch("mixup", batch, shape, check_values, regions=True)
        if fraction is None:
            own, pairing = split_seed(seed, 2)
            weights, partner = draw_weights(own, shape, alpha, per), draw_partner(pairing, shape.batch_size)
        else:
            weights, partner = _book_mix(seed, shape, fraction)
        mixed = {**batch, "image": blend_images(batch["image"], partner, weights)}
        if "label" in batch:
            mixed["label"] = blend_labels(batch["label"], partner, weights)
        if "mask" in batch:
            layers, restore = mask_layers(soft_mask(batch["mask"], mask_classes))
            mixed["mask"] = restore(blend_images(layers, partner, weights))
        return mixed | blend_objects(batch, partner, weights)

    return BatchTransform(change)


@record_call
def cutmix(
    alpha: float = 1.0,
    *,
    fraction: float | None = None,
    per: str = "image",
    rounding: str = "down",
    check_values: bool = False,
    version: int = VERSION,
) -> BatchTransform:
    """Each image gets a box of another one, and their labels are mixed by area.

    The box has the image's aspect, an area of 1 - weight of it, and a uniformly drawn centre; what is outside the
    image is cut off, and the labels follow what is left.

    Args:
      alpha: the weight is drawn from Beta(alpha, alpha).
      fraction: mixes only the first rint(fraction * B) images, None all.
      per: "image" draws weight and box for each image, "batch" one of each for all.
      rounding: "down" cuts sides down to whole pixels, and half a side too, as the paper's code (arXiv:1905.04899) and
        its followers do; "nearest" rounds the corners: the mean share of a box is 0.3214 at 32 px then, not 0.3005.
      check_values: as for mixup.
      version: 1 draws weights and centres from the same bits, as tfpipe did before.

    Returns:
      A transform of batches with `image` and `label`, the latter float [B, classes].

    Raises:
      ValueError: as for mixup.
    """
    check_mixing("cutmix", alpha, per, fraction, rounding=rounding)
    check_version(version)

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        check_batch("cutmix", batch, shape, check_values)
        weighing, pairing, placing = split_seed(seed, 3)
        weights = draw_weights(weighing, shape, alpha, per)
        boxes = draw_boxes(placing if version > 1 else weighing, shape, weights, per, rounding)
        if fraction is not None:
            boxes *= tf.cast(tf.range(shape.batch_size) < _num_mixed(fraction, shape), tf.int32)[:, None]
        partner = draw_partner(pairing, shape.batch_size)
        taken = tf.cast((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), tf.float32)
        share = taken / np.float32(shape.height * shape.width)
        image = paste_boxes(batch["image"], batch["image"], partner, boxes)
        label = blend_labels(batch["label"], partner, tf.stack([1 - share, share], axis=-1))
        return {**batch, "image": image, "label": label}

    return BatchTransform(change)


def beta_weights(seed: tf.Tensor, count: int | tf.Tensor, alpha: float) -> tf.Tensor:
    """Draws from Beta(alpha, alpha) with what is missing to 1: float32 [count, 2].

    Args:
      seed: int32 [2].
      count: how many.
      alpha: from 0.01 on; below, all weights are 0 or 1.
    """
    bits = random_bits(seed, [count])
    index = tf.bitwise.right_shift(bits, tf.constant(32 - _QUANTILE_BITS, tf.uint32))
    small = tf.gather(tf.constant(_lower_quantiles(float(alpha))), tf.cast(index, tf.int32))
    first = tf.bitwise.bitwise_and(bits, tf.constant(1, tf.uint32)) == 0
    return tf.where(first[:, None], tf.stack([small, 1 - small], axis=-1), tf.stack([1 - small, small], axis=-1))


# ---- arguments and batches


def check_mixing(what: str, alpha: Any, per: str, fraction: Any, *, rounding: Any = "down") -> None:
    """Raises a ValueError where an argument is out of range."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding of {what} is {rounding!r}; it takes one of {list(ROUNDINGS)}.")
    if not is_number(alpha, least=0.01):
        raise ValueError(f"alpha of {what} is {alpha!r}; it must be a number of at least 0.01.")
    if per not in PER:
        raise ValueError(f"per of {what} is {per!r}; it takes one of {list(PER)}.")
    if fraction is not None and not is_number(fraction, least=0, most=1):
        raise ValueError(f"fraction of {what} is {fraction!r}; it must be in [0, 1].")


def check_batch(what: str, batch: Batch, shape: BatchShape, check_values: bool, *, regions: bool = False) -> None:
    """Raises a ValueError where the batch cannot be mixed; with regions, boxes and masks may stand for labels."""
    paired = [name for name in PAIRED if name in batch]
    if regions and paired:
        check_objects(what, batch, with_boxes=True)
    elif paired:
        raise ValueError(f"{what} mixes whole images and has no meaning for {paired}; leave them out.")
    elif "label" not in batch:
        raise ValueError(f"{what} mixes labels, but the batch has only {sorted(batch)}.")
    check_paired(what, shape)
    if "label" in batch:
        _check_label(what, tf.convert_to_tensor(batch["label"]), check_values)


def check_paired(what: str, shape: BatchShape) -> None:
    """Raises a ValueError where the batch is known to hold no second image."""
    if isinstance(shape.batch_size, int) and shape.batch_size < 2:
        raise ValueError(f"{what} needs at least 2 images to mix; the batch holds {shape.batch_size}.")


def _check_label(what: str, label: tf.Tensor, check_values: bool) -> None:
    if label.shape.rank != 2 or not label.dtype.is_floating:
        raise ValueError(
            f"{what} takes one-hot labels, floats [B, classes]; it got {label.dtype.name} of shape {label.shape}. "
            'make_dataset gives them with labels="one_hot".'
        )
    _check_sums(what, label, check_values)


def _check_sums(what: str, label: tf.Tensor, in_graphs: bool) -> None:
    if not in_graphs and not tf.executing_eagerly():
        return
    wide = tf.cast(label, tf.float32)
    # 1e-2: float16 rows of many soft classes are no closer to 1.
    valid = tf.reduce_all((tf.abs(tf.reduce_sum(wide, axis=-1) - 1) < 1e-2) & (tf.reduce_min(wide, axis=-1) >= 0))
    if not tf.executing_eagerly():
        tf.debugging.Assert(valid, [f"{what} takes labels whose rows sum to 1; the sums are", tf.reduce_sum(wide, -1)])
    elif not bool(valid):
        sums = tf.reduce_sum(wide, axis=-1)
        low, high = float(tf.reduce_min(sums)), float(tf.reduce_max(sums))
        raise ValueError(
            f"{what} takes labels of at least 0 whose rows sum to 1; the sums run from {low:g} to {high:g}."
        )


# ---- draws


def draw_weights(seed: tf.Tensor, shape: BatchShape, alpha: float, per: str) -> tf.Tensor:
    """float32 [B, 2]: of the image and of its partner."""
    if per == "batch":
        return tf.tile(beta_weights(seed, 1, alpha), [shape.batch_size, 1])
    return beta_weights(seed, shape.batch_size, alpha)


def draw_partner(seed: tf.Tensor, batch_size: int | tf.Tensor) -> tf.Tensor:
    """int32 [B]: another image for each, all alike."""
    others = tf.cast(batch_size - 1, tf.float32)
    uniforms = draw_uniforms(seed, batch_size, 1).op[:, 0]
    ahead = tf.cast(tf.minimum(tf.floor(uniforms * others), others - 1), tf.int32)
    return (tf.range(batch_size) + 1 + ahead) % batch_size


def _num_mixed(fraction: float, shape: BatchShape) -> int | tf.Tensor:
    if isinstance(shape.batch_size, int):
        return int(np.rint(fraction * shape.batch_size))
    return tf.cast(tf.round(fraction * tf.cast(shape.batch_size, tf.float64)), tf.int32)


def _book_mix(seed: tf.Tensor, shape: BatchShape, fraction: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The book's weights and partners: each of the first images with the next one, by one weight a batch.

    Its code draws the weight in NumPy while the graph is made, so every batch has the same; here each draws its own.
    """
    mixed = _num_mixed(fraction, shape)
    if isinstance(mixed, int) and mixed >= shape.batch_size:
        raise ValueError(
            f"fraction is {fraction}: the last of {mixed} mixed images has no next one in a batch of "
            f"{shape.batch_size}."
        )
    low, high = BOOK_WEIGHTS
    # The 31 hundredths from 0.50 to 0.80 as rounding a uniform draw gives them: the two ends half as often.
    hundredths = tf.round(tf.cast(to_unit(random_bits(seed, [1])), tf.float64) * (100 * (high - low))) + 100 * low
    weight = tf.cast(hundredths / 100, tf.float32)
    own = tf.where(tf.range(shape.batch_size) < mixed, weight, 1.0)
    partner = tf.minimum(tf.range(shape.batch_size) + 1, shape.batch_size - 1)
    return tf.stack([own, 1 - own], axis=-1), partner


def draw_boxes(seed: tf.Tensor, shape: BatchShape, weights: tf.Tensor, per: str, rounding: str) -> tf.Tensor:
    """int32 [B, 4]: top, left, bottom, right of the box that the partner fills."""
    centre = draw_uniforms(seed, shape.batch_size, 1).extra[:, 0, :2]
    if per == "batch":
        centre = tf.tile(centre[:1], [shape.batch_size, 1])
    sizes = np.array([shape.height, shape.width], np.float64)
    # Halves in float64: a square root and integers, alike in every form.
    half = tf.sqrt(tf.cast(weights[:, 1:], tf.float64)) * sizes / 2
    middle = tf.floor(tf.cast(centre, tf.float64) * sizes)
    if rounding == "down":
        half = tf.floor(half)
    corners = tf.concat([tf.round(middle - half), tf.round(middle + half)], axis=-1)
    return tf.cast(tf.clip_by_value(corners, 0, np.tile(sizes, 2)), tf.int32)


@functools.cache
def _lower_quantiles(alpha: float) -> np.ndarray:
    """The lower half of Beta(alpha, alpha): the quantiles in the middle of 16,384 equally likely steps, float32."""

    def below(points: tf.Tensor) -> tf.Tensor:
        # Twice, so that the lower half of the draws is all of them.
        half = tf.constant(alpha, tf.float64)
        return 2 * tf.math.betainc(half, half, points)

    return inverted(below, 0.5, _QUANTILE_BITS).astype(np.float32)


def inverted(below: Callable[[tf.Tensor], tf.Tensor], most: float, bits: int) -> np.ndarray:
    """The quantiles in the middle of 2 ** bits equally likely steps of a distribution on (0, most]: float64.

    Args:
      below: its distribution function, of float64.
      most: where that is 1, or so little less that it does not matter.
      bits: of the number of steps.
    """
    # So dense on the logarithm that interpolating adds less than float32's own error; below 1e-38 a value is 0.
    points = np.exp(np.linspace(np.log(1e-38), np.log(most), 100_001))
    with tf.init_scope():
        reached = below(tf.constant(points)).numpy()
    steps = (np.arange(2**bits) + 0.5) / 2**bits
    return np.exp(np.interp(steps, reached, np.log(points), left=-np.inf))


# ---- pixels and labels


def _compile(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """One XLA program: a single pass over the images, where plain kernels would make eight."""
    return tf.function(function, jit_compile=True, autograph=False)


@_compile
def blend_images(images: tf.Tensor, partner: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C] mixed with those of their partners, in their own dtype."""
    others = tf.gather(images, partner)
    if images.dtype != tf.uint8:
        first, second = (tf.cast(weights[:, i, None, None, None], tf.float32) for i in range(2))
        return tf.cast(tf.cast(images, tf.float32) * first + tf.cast(others, tf.float32) * second, images.dtype)
    steps = tf.round(weights[:, 1] * _WEIGHT_STEPS)[:, None, None, None]
    total = tf.cast(images, tf.float32) * (_WEIGHT_STEPS - steps) + tf.cast(others, tf.float32) * steps
    return to_levels(total / _WEIGHT_STEPS + 0.5)


@_compile
def paste_boxes(images: tf.Tensor, others: tf.Tensor, partner: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Images with the pixels of their partners, of others, inside the boxes."""
    return tf.where(inside_boxes(boxes, *images.shape[1:3]), tf.gather(others, partner), images)


def blend_labels(label: tf.Tensor, partner: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Labels [B, classes] mixed as the images are; the weights of a row sum to 1, and so does what it becomes."""
    wide = tf.cast(label, tf.float32)
    mixed = wide * weights[:, :1] + tf.gather(wide, partner) * weights[:, 1:]
    return tf.cast(mixed, label.dtype)
