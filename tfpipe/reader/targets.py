"""What make_dataset yields of a batch: labels, transforms, views, and the form that was asked for.

features ─▶ with_labels: what transforms take ─▶ transform: for each view ─▶ as_asked: (images, labels) and the like
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfpipe.reader.order import TRANSFORM_STREAM, keyed_bits
from tfpipe.reader.request import Batch, Request, points_of_boxes
from tfpipe.reader.transforms import apply_transform, traced_error
from tfpipe.regions.boxes import pad_boxes
from tfpipe.regions.move import is_per_box

_LOG = logging.getLogger("tfpipe")
# Draws of view v are those of view 0 at numbers that no epoch reaches.
_VIEW_BITS = 44
# What transforms call the parts of a detector's targets that have a row for each box, by their names there.
TARGETS = {
    "boxes": "boxes",
    "labels": "box_labels",
    "weights": "box_weights",
    "keypoints": "keypoints",
    "polygons": "polygons",
}


def view_name(view: int) -> str:
    """The feature that holds the images of a view until the views are put together."""
    return "image" if view == 0 else f"image of view {view}"


def view_draw(draw: tf.Tensor, view: int) -> tf.Tensor:
    """The number of a draw, int64, for a view: another one for each; view 0 has that of a dataset without views."""
    return draw + view * 2**_VIEW_BITS if view else draw


def with_labels(features: Batch, request: Request) -> Batch:
    """The batch that transforms take: all features for dict batches, else the images and what labels names.

    Views beyond the first are in it under their view_name where crops are drawn.
    """
    if request.labels is None:
        return features
    views = {name: features[name] for name in map(view_name, range(1, request.views)) if name in features}
    if request.labels == "mask":
        return {"image": features["image"], "mask": features["mask"], **views}
    if request.labels == "boxes":
        labels = features.get("box_labels")
        if labels is None:
            labels = features["boxes"][..., 0] * 0
        beside = {name: features[name] for name in ("boxes", *points_of_boxes(request.manifest, request.schema))}
        return {"image": features["image"], **beside, "box_labels": labels, **views}
    kind = request.manifest.schema.label_kind
    label = features["label" if kind == "number" else "label_int"]
    if kind == "class" and request.labels == "one_hot":
        label = tf.one_hot(label, len(request.manifest.class_names))
    elif kind == "vector" and request.labels == "one_hot":
        label = tf.cast(label, tf.float32)
    image = features["embedding" if request.schema.payload == "embedding" else "image"]
    return {"image": image, "label": label, **views}


def finish_batch(
    step: tuple[tf.Tensor, tf.Tensor],
    batch: Batch,
    request: Request,
    note: Callable[[tf.Tensor], tf.Operation],
    *,
    run: range | None = None,
) -> Any:
    """The batch that make_dataset yields: transformed in training, in the form that `labels` and `views` ask for.

    Args:
      step: the epoch, and the global number of the batch.
      batch: as with_labels gives it.
      request: what was asked for.
      note: takes the number of boxes that each image has beyond max_boxes, int32 [B].
      run: the transforms to apply, where others came before; None applies all.
    """
    run = range(len(request.transforms)) if run is None else run
    seen = [
        transform_batch(step, _view_of(batch, view, request), request, run, view=view) for view in range(request.views)
    ]
    first = seen[0]
    if request.views > 1:
        changed = [name for name in ("label", "boxes") if any(one.get(name) is not first.get(name) for one in seen)]
        if changed:
            raise traced_error(
                f"Transforms change {changed} in each of {request.views} views, which have one label in common: mix "
                "images after the views, or ask for views=1."
            )
        moved = [name for name in ("image", "mask") if name in first]
        first = {**first, **{name: tuple(one[name] for one in seen) for name in moved}}
    return as_asked(first, request, note)


def as_asked(batch: Batch, request: Request, note: Callable[[tf.Tensor], tf.Operation]) -> Any:
    """(images, labels), (images, boxes), (images, masks), or the dict of all features."""
    if request.labels is None:
        return batch
    if request.labels == "mask":
        return batch["image"], batch["mask"]
    if request.labels != "boxes":
        return batch["image"], batch["label"]
    if isinstance(batch["boxes"], tuple):
        # augment.views: each view has boxes of its own.
        names = [name for name in TARGETS.values() if name in batch]
        seen = zip(*(batch[name] for name in names), strict=True)
        return batch["image"], tuple(_noted(dict(zip(names, one, strict=True)), request, note) for one in seen)
    return batch["image"], _noted(batch, request, note)


def _noted(batch: Batch, request: Request, note: Callable[[tf.Tensor], tf.Operation]) -> Batch:
    targets, lost = pad_targets(batch, request.max_boxes)
    with tf.control_dependencies([note(lost)]):
        return {**targets, "boxes": tf.identity(targets["boxes"])}


def pad_targets(batch: Mapping[str, Any], max_boxes: int) -> tuple[Batch, tf.Tensor]:
    """What detectors take of a batch, so many rows for each image, and how many each lost; see pad_boxes."""
    beside = [name for name, own in TARGETS.items() if own in batch and name not in ("boxes", "labels")]
    beside = [name for name in beside if is_per_box(TARGETS[name], batch[TARGETS[name]])]
    also = [batch[TARGETS[name]] for name in beside]
    boxes, labels, count, lost, *rows = pad_boxes(batch["boxes"], batch["box_labels"], max_boxes=max_boxes, also=also)
    return {"boxes": boxes, "labels": labels, "num_boxes": count, **dict(zip(beside, rows, strict=True))}, lost


def _view_of(batch: Batch, view: int, request: Request) -> Batch:
    """The batch with the images of one view, where crops made one of its own."""
    extra = [view_name(number) for number in range(1, request.views)]
    own = {name: value for name, value in batch.items() if name not in extra}
    return {**own, "image": batch[view_name(view)]} if view and view_name(view) in batch else own


def transform_batch(
    step: tuple[tf.Tensor, tf.Tensor], batch: Batch, request: Request, run: range, *, view: int = 0
) -> Batch:
    """The batch after those of the request's transforms whose indices are in the run; each has a seed of its own."""
    epoch, number = step
    # Schedules, such as augment.pba's, read the epoch; a feature of that name is left alone.
    extra = {} if "epoch" in batch else {"epoch": epoch}
    for i in run if request.training else ():
        draw = view_draw(epoch * request.full_batches + number, view)
        seed = keyed_bits(request.seed, TRANSFORM_STREAM + i, draw, [2], tf.int32)
        batch = apply_transform(i, request.transforms[i], {**batch, **extra}, seed)
    return {name: value for name, value in batch.items() if name not in extra}


@dataclass
class LostBoxes:
    """Counts the boxes that images have beyond max_boxes, and warns of them: at the first, and at each doubling."""

    max_boxes: int
    images: int = 0
    boxes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, lost: tf.Tensor) -> tf.Operation:
        """In the graph: counts the boxes lost of each image, int32 [B]; no Python runs where there are none."""

        def add() -> tf.Tensor:
            return tf.numpy_function(self._add, [lost], tf.bool)

        return tf.cond(tf.reduce_any(lost > 0), add, lambda: False).op

    def _add(self, lost: Any) -> bool:
        with self.lock:
            before = self.images
            self.images += int((lost > 0).sum())
            self.boxes += int(lost.sum())
            if self.images.bit_length() > before.bit_length():
                _LOG.warning(
                    "%d boxes of %d images so far are beyond max_boxes=%d and were left out; a larger max_boxes keeps "
                    "them.",
                    self.boxes,
                    self.images,
                    self.max_boxes,
                )
        return True


def print_lost(lost: tf.Tensor) -> tf.Operation:
    """The same in a service's worker, which is another process and can't call our Python functions."""
    say = lambda: tf.print("tfpipe:", tf.reduce_sum(lost), "boxes of a batch are beyond max_boxes")  # noqa: E731
    return tf.cond(tf.reduce_any(lost > 0), lambda: _true_after(say()), lambda: False).op


def _true_after(operation: tf.Operation) -> tf.Tensor:
    with tf.control_dependencies([operation]):
        return tf.constant(True)
