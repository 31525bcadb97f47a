"""Non-maximum suppression: of boxes that overlap, the one with the best score stays.

    indices, count = nms(boxes, scores, iou_threshold=0.5, max_output=100)         # boxes [N, 4], scores [N]
    kept = tf.gather(boxes, indices[:count])

Each takes one image or a batch, boxes [B, N, 4] and scores [B, N], and boxes that are upright (x0, y0, x1, y1) or
oriented (cx, cy, width, height, degrees). All are XLA programs of static shapes: on a CPU, on a GPU, inside compiled
functions. An N that varies is padded to one of four lengths between powers of two, so that few programs are compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.regions.boxes import as_floats, check_last_axis, pair_iou
from tfpipe.regions.programs import as_constant, axis_length, call, for_length, pad_axis, padded_length, program

METHODS = ("linear", "gaussian")
# Boxes that are decided on together; each tile costs TILE * N overlaps, which are never all in memory.
_TILE = 32


def nms(
    boxes: Any,
    scores: Any,
    *,
    iou_threshold: float,
    max_output: int | None = None,
    min_score: float | None = None,
    num_boxes: Any = None,
    inclusive: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The boxes that no kept box of a better score overlaps by more than the threshold.

    Args:
      boxes: [N, 4] or [B, N, 4]; oriented ones [N, 5] or [B, N, 5].
      scores: [N] or [B, N]; of equal ones the first counts as better.
      iou_threshold: a box is suppressed where the overlap is strictly greater, as torchvision has it.
      max_output: how many indices are returned, the best ones; None: N.
      min_score: boxes with a lower score are left out; None: none is.
      num_boxes: an integer, or [B]: only so many of each image's boxes count, the others are padding.
      inclusive: suppress where the overlap equals the threshold, too.

    Returns:
      int32 indices [max_output] or [B, max_output] by falling score, padded with -1; and int32 counts [] or [B].

    Raises:
      ValueError: an argument is of the wrong shape or out of range.
    """
    return _suppress(boxes, scores, None, iou_threshold, max_output, min_score, num_boxes, inclusive)


def batched_nms(
    boxes: Any,
    scores: Any,
    classes: Any,
    *,
    iou_threshold: float,
    max_output: int | None = None,
    min_score: float | None = None,
    num_boxes: Any = None,
    inclusive: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As nms, where only boxes of one class suppress each other.

    Args:
      boxes, scores: as for nms.
      classes: integers [N] or [B, N].
      iou_threshold, max_output, min_score, num_boxes, inclusive: as for nms; max_output counts over all classes.
    """
    return _suppress(boxes, scores, classes, iou_threshold, max_output, min_score, num_boxes, inclusive)


def soft_nms(
    boxes: Any,
    scores: Any,
    *,
    iou_threshold: float = 0.3,
    method: str = "linear",
    sigma: float = 0.5,
    min_score: float = 1e-3,
    max_output: int | None = None,
    num_boxes: Any = None,
    classes: Any = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Boxes by falling score, where each one that is taken lowers the scores of those that it overlaps.

    Bodla et al., "Soft-NMS", 2017: "linear" multiplies a score by 1 - IoU where the IoU is greater than the threshold,
    "gaussian" by exp(-IoU^2 / sigma).

    Args:
      boxes, scores, max_output, num_boxes: as for nms.
      iou_threshold: for "linear".
      method: "linear" or "gaussian".
      sigma: for "gaussian".
      min_score: a box whose score falls below is left out.
      classes: integers [N] or [B, N]: only boxes of one class lower each other's scores; None: all are of one.

    Returns:
      int32 indices, padded with -1; float32 scores after they were lowered, padded with 0; int32 counts.

    Raises:
      ValueError: an argument is of the wrong shape or out of range.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}; allowed: {list(METHODS)}.")
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma!r}; it takes a number above 0.")
    numbers = _threshold(iou_threshold, inclusive=False), np.float32(min_score), np.float32(sigma)
    return _run(_suppress_soft, method, boxes, scores, classes, max_output, num_boxes, numbers)


def _suppress(
    boxes: Any,
    scores: Any,
    classes: Any,
    iou_threshold: float,
    max_output: int | None,
    min_score: float | None,
    num_boxes: Any,
    inclusive: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    least = np.float32(-np.inf if min_score is None else min_score)
    numbers = _threshold(iou_threshold, inclusive=inclusive), least
    return _run(_suppress_hard, inclusive, boxes, scores, classes, max_output, num_boxes, numbers)


# ---- arguments


def _threshold(given: float, *, inclusive: bool) -> np.float32:
    """The float32 that overlaps in float32 compare with as they would with the number itself."""
    if not 0 <= given <= 1:
        raise ValueError(f"iou_threshold is {given!r}; it takes 0 to 1.")
    near = np.float32(given)
    if inclusive and float(near) < given:
        near = np.nextafter(near, np.float32(2))
    elif not inclusive and float(near) > given:
        near = np.nextafter(near, np.float32(-1))
    return near


def _check(
    boxes: Any, scores: Any, classes: Any, max_output: int | None, num_boxes: Any
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
    """Boxes, scores, classes and counts as tensors that fit each other."""
    boxes, scores = as_floats(boxes), as_floats(scores)
    check_last_axis("boxes", boxes, (4, 5))
    flat = boxes.shape[:-1]
    if flat.rank not in (1, 2) or not scores.shape.is_compatible_with(flat):
        raise ValueError(f"Boxes are [N, 4] or [B, N, 4], and scores [N] or [B, N]; got {boxes.shape}, {scores.shape}.")
    if classes is not None:
        classes = tf.cast(classes, tf.int32)
        if not classes.shape.is_compatible_with(flat):
            raise ValueError(f"Classes are integers {scores.shape}, one for each score; got {classes.shape}.")
    if max_output is not None and max_output < 1:
        raise ValueError(f"max_output is {max_output!r}; it takes at least 1, or None for all boxes.")
    return boxes, scores, classes, None if num_boxes is None else tf.cast(num_boxes, tf.int32)


# ---- programs


def _run(
    suppress: Callable[..., tuple[tf.Tensor, ...]],
    option: Any,
    boxes: Any,
    scores: Any,
    classes: Any,
    max_output: int | None,
    num_boxes: Any,
    numbers: Sequence[np.float32],
) -> Any:
    """What a program of suppression finds: parts [n] or [B, n], and the counts."""
    given = _check(boxes, scores, classes, max_output, num_boxes)
    length, static = axis_length(given[1], -1), (given[1].shape.rank, given[0].shape[-1])
    run = for_length(length, _fitted, suppress, max_output, option, static=static)
    return run(*given, *map(as_constant, numbers))


def _fitted(
    suppress: Callable[..., tuple[tf.Tensor, ...]],
    max_output: int | None,
    option: Any,
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor | None,
    num_boxes: tf.Tensor | None,
    *numbers: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """As _in_batches, compiled for few lengths."""
    axis, length = scores.shape.rank - 1, axis_length(scores, -1)
    room = padded_length(length)
    is_padded = not isinstance(room, int) or room != length
    if num_boxes is not None or is_padded:
        num_boxes = tf.minimum(length if num_boxes is None else num_boxes, length)
    given = [part if part is None else pad_axis(part, axis, room) for part in (boxes, scores, classes)]
    compiled = program(_in_batches, suppress, max_output, option, static=(axis, boxes.shape[-1]))
    found = call(compiled, *given, num_boxes, *numbers)
    if is_padded and max_output is None:
        return (*(part[..., :length] for part in found[:-1]), found[-1])
    return found


def _in_batches(
    suppress: Callable[..., tuple[tf.Tensor, ...]],
    max_output: int | None,
    option: Any,
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor | None,
    num_boxes: tf.Tensor | None,
    *numbers: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """suppress(...) of a batch; of one image as of a batch of it."""
    is_batch = scores.shape.rank == 2
    given = [part if part is None or is_batch else part[None] for part in (boxes, scores, classes)]
    batch_size, size = (axis_length(given[1], axis) for axis in range(2))
    counts = tf.broadcast_to(size if num_boxes is None else num_boxes, [batch_size])
    found = suppress(max_output, option, *given, counts, *numbers)
    return found if is_batch else tuple(part[0] for part in found)


def _suppress_hard(
    max_output: int | None,
    inclusive: bool,
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor | None,
    counts: tf.Tensor,
    threshold: tf.Tensor,
    least: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    threshold = tf.cast(threshold, boxes.dtype)
    size = axis_length(scores, 1)
    limit = size if max_output is None else max_output
    order = tf.math.top_k(scores, size).indices  # of equal scores the first one comes first
    position = tf.range(size)
    # As floats, which XLA's top_k takes without sorting all of them; exact up to 2 ** 24 boxes.
    rank = tf.cast(size - position, tf.float32)
    # Padding has no say: it is neither waiting nor ever kept.
    waiting = (order < counts[:, None]) & (tf.gather(scores, order, batch_dims=1) >= tf.cast(least, scores.dtype))
    parts = [tf.gather(part, order, batch_dims=1) for part in _columns(boxes, classes)]
    tile_size = _least(_TILE, size)

    def overlaps(first: list[tf.Tensor], second: list[tf.Tensor]) -> tf.Tensor:
        number = boxes.shape[-1]
        overlap = pair_iou(first[:number], second[:number])
        over = overlap >= threshold if inclusive else overlap > threshold
        return over & (first[number] == second[number]) if classes is not None else over

    def step(waiting: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The best boxes on which nothing is decided yet; all that comes before them is decided.
        found, tile = tf.math.top_k(tf.where(waiting, rank, 0.0), tile_size)
        own = [tf.gather(part, tile, batch_dims=1) for part in parts]
        above = overlaps([part[:, :, None] for part in own], [part[:, None] for part in own])
        above &= (tile[:, :, None] < tile[:, None]) & (found > 0)[:, :, None]
        chosen = _settle(above, found > 0)
        # A box of the tile stays just where no chosen one before it overlaps it: the same test as for all others.
        over = overlaps([part[:, None] for part in own], [part[:, :, None] for part in parts])
        over &= chosen[:, None] & (tile[:, None] < position[:, None])
        free = waiting & (tf.reduce_sum(tf.cast(over, tf.int32), axis=2) == 0)
        in_tile = position <= tf.reduce_max(tf.where(found > 0, tile, -1), axis=1)[:, None]
        return free & ~in_tile, kept | (free & in_tile)

    def unfinished(waiting: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
        short = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1) < limit
        return tf.reduce_any(waiting & short[:, None])

    _, kept = tf.while_loop(unfinished, step, [waiting, tf.zeros_like(waiting)])
    return _compact(order, kept, limit)


def _compact(order: tf.Tensor, kept: tf.Tensor, limit: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first `limit` kept entries of order [B, N], padded with -1: [B, limit]; and their number, [B]."""
    place = tf.cumsum(tf.cast(kept, tf.int32), axis=1) - 1
    place = tf.where(kept & (place < limit), place, limit)
    image = tf.broadcast_to(tf.range(axis_length(order, 0))[:, None], tf.shape(order))
    slots = tf.scatter_nd(tf.stack([image, place], -1), order + 1, [axis_length(order, 0), limit + 1])
    return slots[:, :limit] - 1, tf.reduce_sum(tf.cast(place < limit, tf.int32), axis=1)


def _settle(above: tf.Tensor, alive: tf.Tensor) -> tf.Tensor:
    """Which boxes of a tile stay: the fixed point of "no staying box before it overlaps it".

    Args:
      above: bool [B, T, T], whether box j suppresses box i if it stays; only for j before i.
      alive: bool [B, T].
    """

    def step(stays: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        after = alive & ~tf.reduce_any(above & stays[:, :, None], axis=1)
        return after, tf.reduce_any(after != stays)

    # Each round decides at least the first box that was undecided: it ends, mostly after 2 to 8.
    return tf.while_loop(lambda _, changed: changed, step, [alive, tf.constant(True)])[0]


def _suppress_soft(
    max_output: int | None,
    method: str,
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor | None,
    counts: tf.Tensor,
    threshold: tf.Tensor,
    least: tf.Tensor,
    sigma: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    threshold, least, sigma = (tf.cast(value, scores.dtype) for value in (threshold, least, sigma))
    size = axis_length(scores, 1)
    limit = size if max_output is None else max_output
    steps = _least(limit, size)
    position, turn = tf.range(size), tf.range(steps)
    scores = tf.where(position < counts[:, None], scores, -np.inf)
    parts = _columns(boxes, classes)

    def step(done: tf.Tensor, scores: tf.Tensor, taken: tf.Tensor, final: tf.Tensor) -> tuple[tf.Tensor, ...]:
        best = tf.argmax(scores, axis=1, output_type=tf.int32)[:, None]
        score = tf.gather(scores, best, batch_dims=1)
        now = (turn == done) & (score >= least)
        own = [tf.gather(part, best, batch_dims=1) for part in parts]
        overlap = pair_iou(own[: boxes.shape[-1]], parts[: boxes.shape[-1]])
        if classes is not None:
            overlap = tf.where(own[-1] == parts[-1], overlap, 0.0)
        if method == "linear":
            factor = tf.where(overlap > threshold, 1 - overlap, 1.0)
        else:
            factor = tf.exp(-(overlap**2) / sigma)
        lowered = tf.where(position == best, -np.inf, scores * factor)
        return done + 1, lowered, tf.where(now, best, taken), tf.where(now, score, final)

    def unfinished(done: tf.Tensor, scores: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (done < steps) & tf.reduce_any(scores >= least)

    shape = [axis_length(scores, 0), steps]
    start = [tf.constant(0), scores, tf.fill(shape, -1), tf.zeros(shape, scores.dtype)]
    _, _, taken, final = tf.while_loop(unfinished, step, start)
    count = tf.reduce_sum(tf.cast(taken >= 0, tf.int32), axis=1)
    return pad_axis(taken, 1, limit, value=-1), pad_axis(final, 1, limit), count


def _columns(boxes: tf.Tensor, classes: tf.Tensor | None) -> list[tf.Tensor]:
    """[B, N] for each part of a box, and the classes: so that neighbours in memory are neighbours in a loop."""
    return [*tf.unstack(boxes, axis=-1), *([] if classes is None else [classes])]


def _least(limit: int | tf.Tensor, size: int | tf.Tensor) -> int | tf.Tensor:
    return min(limit, size) if isinstance(limit, int) and isinstance(size, int) else tf.minimum(limit, size)
