"""Copy-paste: objects of another image of the batch, laid over each image with their boxes and masks.

    train = [random_resized_crop((320, 320), scale=(0.3, 1)), flip_left_right(), copy_paste()]

Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", 2021: objects keep
their place, and what moves them are the crops and flips that come before; nothing is blended at their edges, and
objects that are covered are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import draw_uniforms, split_seed
from tfpipe.augment.mixing import check_paired, draw_partner
from tfpipe.augment.objects import check_objects, join_objects, mask_layers, objects_of
from tfpipe.augment.ops.noise import draw_bits, happens
from tfpipe.augment.transform import Batch, BatchTransform, record_call
from tfpipe.policy import is_integer, is_number
from tfpipe.regions.move import keep_boxes
from tfpipe.regions.programs import axis_length, pad_axis, padded_length, program

# An object of which this share lies in the boxes of drawn ones comes with them, its box too.
_COMES_ALONG = 0.5


@record_call
def copy_paste(*, p: float = 0.5, background: int | Sequence[int] = 0, min_visible: float = 0.1) -> BatchTransform:
    """Each image gets objects of another one of its batch, at their own places.

    The pixels of an object are those inside of its box; where the batch has masks, those of them alone whose mask is
    not background. Of a batch with masks and no boxes, all that is not background is one object.

    Args:
      p: the probability of each object.
      background: the value of masks, or the values, that no object has.
      min_visible: objects of an image of which pasted ones leave a smaller share of pixels are dropped, with their
        labels, keypoints and polygons.

    Returns:
      A transform of batches with `boxes` and `box_labels`, with `mask` of integers in one channel, or both. Pasted
      boxes come behind the image's own, of which those that are covered in part stay as they are.

    Raises:
      ValueError: an argument is out of range; when applied, there are neither boxes nor masks, boxes have no
        box_labels, points no boxes or no axis of objects, masks are no integers in one channel, the batch is known to
        hold one image, or it is inside of keypoint_pairs.
    """
    values = tuple(background) if isinstance(background, list | tuple) else (background,)
    if not values or not all(is_integer(value, -(2**31)) for value in values):
        raise ValueError(f"background of copy_paste is {background!r}; it takes an integer, or several.")
    for name, share in (("p", p), ("min_visible", min_visible)):
        if not is_number(share, least=0, most=1, kinds=(int, float)):
            raise ValueError(f"{name} of copy_paste is {share!r}; it must be in [0, 1].")

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        _check(batch, shape)
        pairing, choosing = split_seed(seed, 2)
        partner = draw_partner(pairing, shape.batch_size)
        layers, restore = mask_layers(batch["mask"]) if "mask" in batch else (None, None)
        marked = {} if layers is None else {"mask": layers}
        boxes, is_box = _dense_boxes(batch, shape)
        drawn = _drawn(choosing, shape, axis_length(boxes, 1), p)
        static = (tuple(batch["image"].shape[1:]), tuple(marked))
        paste = program(_paste, values, float(min_visible), static=static)
        pixels, kept, came = paste({"image": batch["image"], **marked}, boxes, is_box, drawn, partner)
        pasted: dict[str, Any] = {"image": tf.ensure_shape(pixels["image"], batch["image"].shape)}
        if restore is not None:
            pasted["mask"] = tf.ensure_shape(restore(pixels["mask"]), batch["mask"].shape)
        if "boxes" not in batch:
            return {**batch, **pasted}
        parts = []
        for keep, own in ((kept, objects_of(batch)), (came, objects_of(batch, images=partner))):
            parts.append(own | keep_boxes(own, _as_rows(keep, own["boxes"])))
        return {**batch, **pasted, **join_objects(parts)}

    return BatchTransform(change)


def _check(batch: Batch, shape: BatchShape) -> None:
    check_objects("copy_paste", batch, with_boxes=True)
    check_paired("copy_paste", shape)
    if "boxes" not in batch and "mask" not in batch:
        raise ValueError(f"copy_paste takes boxes with box_labels, masks, or both; the batch has {sorted(batch)}.")
    if "mask" in batch:
        mask = batch["mask"]
        if not mask.dtype.is_integer or mask.shape.rank not in (3, 4) or (mask.shape.rank == 4 and mask.shape[-1] != 1):
            raise ValueError(
                f"copy_paste takes masks of integers, [B, H, W] or [B, H, W, 1]; got {mask.dtype.name} {mask.shape}."
            )


def _dense_boxes(batch: Batch, shape: BatchShape) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes float32 [B, N', 4] and which of them there are, bool [B, N']; the whole image where there are none."""
    if "boxes" not in batch:
        whole = tf.constant([[0.0, 0, shape.width, shape.height]])
        return tf.tile(whole[None], [shape.batch_size, 1, 1]), tf.fill([shape.batch_size, 1], True)
    boxes, labels = batch["boxes"], batch["box_labels"]
    if isinstance(boxes, tf.RaggedTensor):
        boxes, labels = boxes.to_tensor(shape=[None, None, 4]), labels.to_tensor(-1)
    length = padded_length(axis_length(boxes, 1))
    return tf.cast(pad_axis(boxes, 1, length), tf.float32), pad_axis(labels, 1, length, value=-1) >= 0


def _drawn(seed: tf.Tensor, shape: BatchShape, number: int | tf.Tensor, p: float) -> tf.Tensor:
    """Bool [B, number]: each true at a rate p, and the same for any number behind it."""
    seeds = draw_uniforms(seed, shape.batch_size, 1).noise[:, 0]
    bits = draw_bits(seeds, tf.range(number)[:, None, None])
    return happens(bits, tf.fill([shape.batch_size], float(p)))[..., 0, 0]


def _as_rows(keep: tf.Tensor, boxes: Any) -> Any:
    """Flags [B, N'] for the boxes that there are, [B, N] or ragged."""
    if isinstance(boxes, tf.RaggedTensor):
        return tf.RaggedTensor.from_tensor(keep, lengths=boxes.row_lengths())
    return keep[:, : tf.shape(boxes)[1]]


def _paste(
    background: tuple[int, ...],
    min_visible: float,
    pixels: dict[str, tf.Tensor],
    boxes: tf.Tensor,
    is_box: tf.Tensor,
    drawn: tf.Tensor,
    partner: tf.Tensor,
) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    """The pixels after, which of the boxes stay, and which of the partner's come: bool [B, N']."""
    height, width = pixels["image"].shape[1:3]
    own = _inside(boxes, is_box, height, width)
    chosen = tf.gather(is_box & drawn, partner)
    theirs = tuple(tf.gather(part, partner) for part in own)
    objects = tf.ones_like(pixels["image"][..., 0], tf.float32)
    if "mask" in pixels:
        objects = tf.cast(_foreground(pixels["mask"], background), tf.float32)
    others = tf.gather(objects, partner)
    covered = tf.matmul(theirs[0] * tf.cast(chosen, tf.float32)[..., None], theirs[1], transpose_a=True)
    pasted = (covered > 0) & (others > 0)
    found = {name: tf.where(pasted[..., None], tf.gather(part, partner), part) for name, part in pixels.items()}
    flag = tf.cast(pasted, tf.float32)
    lost, whole = _count(own, objects * flag), _count(own, objects)
    came, of_them = _count(theirs, others * flag), _count(theirs, others)
    kept = is_box & ((whole == 0) | (whole - lost >= min_visible * whole))
    return found, kept, tf.gather(is_box, partner) & (came > 0) & (came >= _COMES_ALONG * of_them)


def _foreground(mask: tf.Tensor, background: tuple[int, ...]) -> tf.Tensor:
    """Bool [B, H, W]: whose value in a mask [B, H, W, 1] is none of the background's."""
    found = tf.ones_like(mask[..., 0], tf.bool)
    for value in background:
        # A value that the dtype does not hold is that of no pixel.
        if mask.dtype.min <= value <= mask.dtype.max:
            found &= mask[..., 0] != tf.cast(value, mask.dtype)
    return found


def _inside(boxes: tf.Tensor, is_box: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows and the columns of pixels whose middles boxes hold, 0 or 1: float32 [B, N, H] and [B, N, W].

    A pixel is inside where its row and its column are; so sums over boxes and over pixels are products of matrices,
    exact in float32 and in what GPUs make of it, and nothing of N * H * W is ever in memory.
    """
    x0, y0, x1, y1 = (side[..., None] for side in tf.unstack(boxes, axis=-1))
    y, x = (tf.range(side, dtype=tf.float32) + 0.5 for side in (height, width))
    return tf.cast((y >= y0) & (y < y1) & is_box[..., None], tf.float32), tf.cast((x >= x0) & (x < x1), tf.float32)


def _count(inside: tuple[tf.Tensor, tf.Tensor], flags: tf.Tensor) -> tf.Tensor:
    """How many flags [B, H, W], 0 or 1, each box holds: float32 [B, N]."""
    return tf.reduce_sum(tf.matmul(inside[0], flags) * inside[1], axis=-1)
