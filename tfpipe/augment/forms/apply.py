"""Applying: what was drawn is carried out, deterministically, on images, masks and boxes.

    images = apply_op("rotate", images, [0.0, 15.0, -30.0, 7.5])

Images are uint8 [B, H, W, C], or float32 or float16 in [0, 1]; height, width and channels are static. Warps and
erasing move float values as they are; every other op works on 256 levels, to which it rounds an image that it changes.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.augment.forms.boxes import move_with_choices
from tfpipe.augment.forms.dense import apply_dense
from tfpipe.augment.forms.loop import apply_loop
from tfpipe.augment.ops.levels import reading_bits
from tfpipe.augment.ops.op import MOVING, NUM_VALUES, Choices, Op, no_choices
from tfpipe.augment.ops.table import OPS, find_op
from tfpipe.policy import is_integer
from tfpipe.regions.sampling import FillLevels
from tfpipe.tf_internals import inside_dataset_function

DTYPES = (tf.uint8, tf.float32, tf.float16)
FORMS = ("auto", "loop", "dense")
INTERPOLATIONS = ("nearest", "bilinear")
Fill = int | float | Sequence[float] | None
_lowered_for_accelerator: contextvars.ContextVar[bool | None] = contextvars.ContextVar("accelerator", default=None)


def apply_op(
    name: str | Op,
    images: tf.Tensor,
    values: Any,
    *,
    fill: Fill = 128,
    interpolation: str = "nearest",
    form: str = "auto",
) -> tf.Tensor:
    """Images after one op, with one value per image.

    Args:
      name: of an op in OPS, or an Op.
      images: uint8 [B, H, W, C], or float32 or float16 in [0, 1].
      values: float32 [B], or [B, n] where the op takes n values, in the op's own unit (see the families' modules).
      fill: what comes in from outside: 0 to 255, one value per channel, or None to repeat the edge.
      interpolation: "nearest", equal to Pillow's, or "bilinear"; for warps.
      form: "loop" (fastest on a CPU), "dense" (accelerators), or "auto", which depends on the device.

    Returns:
      Images of the same shape and dtype. Ops that make noise take theirs from seed (0, b) for image b.

    Raises:
      ValueError: an unknown op, or an argument of the wrong rank, dtype or range.
    """
    op = name if isinstance(name, Op) else find_op(name)
    images = tf.convert_to_tensor(images)
    check_images(images)
    batch_size = tf.shape(images)[0]
    values = _value_columns(op, tf.convert_to_tensor(values, tf.float32), images)
    image = tf.range(batch_size)
    choices = no_choices(batch_size, 1)._replace(
        ops=tf.ones([batch_size, 1], tf.int32),
        values=values[:, None],
        seeds=tf.stack([tf.zeros_like(image), image], axis=-1)[:, None],
    )
    return apply_choices(images, choices, (OPS["identity"], op), fill=fill, interpolation=interpolation, form=form)


def apply_choices(
    images: tf.Tensor,
    choices: Choices,
    ops: Sequence[Op],
    *,
    fill: Fill = 128,
    interpolation: str = "nearest",
    form: str = "auto",
) -> tf.Tensor:
    """Images after all stages of their choices; same shape and dtype.

    Args:
      images: as in apply_op.
      choices: one row per image.
      ops: what choices.ops counts in; the first is the identity.
      fill, interpolation, form: as in apply_op.

    Raises:
      ValueError: an argument of the wrong rank, dtype or range, or an op that cannot work on that number of channels.
    """
    images = tf.convert_to_tensor(images)
    check_images(images)
    check_rendering(interpolation, form)
    channels = images.shape[-1]
    _check_ops(ops, channels)
    _check_choices(choices, images)
    return _render(images, choices, tuple(ops), fill_levels(fill, channels), interpolation, _form(form))


def apply_to_batch(
    batch: dict[str, Any],
    choices: Choices,
    ops: Sequence[Op],
    *,
    fill: Fill = 128,
    interpolation: str = "nearest",
    form: str = "auto",
    mask_fill: int = 0,
    render: Callable[..., tf.Tensor] = apply_choices,
) -> dict[str, Any]:
    """The batch with its images after all stages, and its masks and boxes moved with them.

    `boxes` [B, N, 4] or ragged, (x0, y0, x1, y1) in pixels, become the upright boxes around the moved ones, cut off at
    the image's border; one that has left the image has no area. `keypoints` and `polygons` move, too (see
    regions.move.move_regions). `mask` [B, H, W] or [B, H, W, C] is moved with the nearest pixel, and is mask_fill where
    pixels came in from outside, whatever the fill of images. Only warps and fields move anything: what cutout or noise
    covers keeps its mask. `render` changes the images; apply_choices or one like it.
    """
    images = tf.convert_to_tensor(batch["image"])
    changed = render(images, choices, ops, fill=fill, interpolation=interpolation, form=form)
    moved = dict(batch) | {"image": changed}
    warps = tuple(op if op.family in MOVING else OPS["identity"] for op in ops)
    if any(op.family in MOVING for op in warps):
        if "mask" in batch:
            moved["mask"] = _move_mask(batch["mask"], images, choices, warps, _form(form), mask_fill)
        moved |= move_with_choices(batch, choices, warps, *images.shape[1:3])
    return moved


def check_images(images: tf.Tensor, *, check_values: bool = False) -> None:
    """Raises a ValueError if ops cannot take the images.

    Args:
      images: any tensor.
      check_values: whether a graph looks at the values too, each time it runs (it then raises InvalidArgumentError);
        eagerly they always are.
    """
    if images.shape.rank != 4:
        raise ValueError(f"Images are [B, H, W, C]; got the shape {images.shape}.")
    if images.dtype not in DTYPES:
        allowed = [dtype.name for dtype in DTYPES]
        raise ValueError(f"Images are of one of the dtypes {allowed}; got {images.dtype.name}.")
    if None in images.shape[1:] or 0 in images.shape[1:]:
        raise ValueError(f"Images have a static height, width and number of channels; got the shape {images.shape}.")
    if images.dtype.is_floating:
        _check_range(images, check_values)


def _check_range(images: tf.Tensor, check_values: bool) -> None:
    # The negation also catches what is not a number.
    problem = f"Images of dtype {images.dtype.name} are in [0, 1]"
    if tf.executing_eagerly():
        if tf.size(images) and not (tf.reduce_min(images) >= 0 and tf.reduce_max(images) <= 1):
            raise ValueError(f"{problem}; got {float(tf.reduce_min(images))} to {float(tf.reduce_max(images))}.")
    elif check_values:
        tf.debugging.Assert(tf.reduce_all((images >= 0) & (images <= 1)), [problem + "."])


def check_rendering(interpolation: str, form: str) -> None:
    """Raises a ValueError where one of them is unknown."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"Unknown interpolation {interpolation!r}; allowed: {list(INTERPOLATIONS)}.")
    if form not in FORMS:
        raise ValueError(f"Unknown form {form!r}; allowed: {list(FORMS)}.")


def check_mask_fill(fill: Any, *, dtype: tf.DType | None = None) -> None:
    """Raises a ValueError where the fill of masks is no integer, or none that a mask of the dtype holds."""
    if not is_integer(fill, -(2**31), most=2**31 - 1):
        raise ValueError(f"mask_fill is {fill!r}; it takes an integer, 0 to 255 for masks of uint8.")
    if dtype is not None and dtype.is_integer and not dtype.min <= fill <= dtype.max:
        raise ValueError(f"mask_fill is {fill}, but the masks are {dtype.name}: {dtype.min} to {dtype.max}.")


def fill_levels(fill: Fill, channels: int) -> FillLevels:
    """A fill as levels, one per channel; None stays None."""
    if fill is None:
        return None
    levels = tuple(float(level) for level in np.ravel(np.asarray(fill, np.float64)))
    if len(levels) not in (1, channels) or not all(0 <= level <= 255 for level in levels):
        raise ValueError(f"The fill is None, one level in 0 to 255, or {channels} of them; got {fill!r}.")
    return levels if len(levels) == channels else levels * channels


def _value_columns(op: Op, values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Float32 [B, 4]."""
    columns = values[:, None] if values.shape.rank == 1 else values
    wanted = max(op.num_values, 1)
    if (
        columns.shape.rank != 2
        or columns.shape[1] != wanted
        or not columns.shape[:1].is_compatible_with(images.shape[:1])
    ):
        shape = "[B]" if wanted == 1 else f"[B, {wanted}]"
        raise ValueError(
            f"The values of {op.name!r} have the shape {shape} for images {images.shape}; got {values.shape}."
        )
    if tf.executing_eagerly() and not tf.reduce_all(tf.math.is_finite(columns)):
        raise ValueError(f"The values of {op.name!r} are finite; got {columns.numpy().tolist()}.")
    return tf.pad(columns, [[0, 0], [0, NUM_VALUES - wanted]])


def _check_ops(ops: Sequence[Op], channels: int) -> None:
    if not ops or ops[0].family != "identity":
        raise ValueError(f"The first op is the identity; got {[op.name for op in ops]}.")
    for op in ops:
        if op.channels and channels not in op.channels:
            raise ValueError(f"Op {op.name!r} works on {list(op.channels)} channels; the images have {channels}.")


def _check_choices(choices: Choices, images: tf.Tensor) -> None:
    shapes = [tf.TensorShape(getattr(part, "shape", None)) for part in choices]
    stages = [shape[1] if shape.rank is not None and shape.rank > 1 else None for shape in shapes]
    wanted = [images.shape[:1].concatenate([stages[0], *last]) for last in ([], [NUM_VALUES], [2])]
    if stages[0] is None or not all(map(tf.TensorShape.is_compatible_with, shapes, wanted)):
        ops, values, seeds = shapes
        raise ValueError(
            f"Choices for {images.shape[0]} images and stages of one number are wanted; got ops {ops}, values {values} "
            f"and seeds {seeds}."
        )


def _form(form: str) -> str:
    """The form of "auto": dense where a GPU or TPU will run the graph, loop on a CPU and in the input pipeline."""
    on_accelerator = _on_accelerator()
    if form == "loop" and on_accelerator:
        _warn_of_the_loop()
    if form != "auto":
        return form
    return "dense" if on_accelerator else "loop"


@contextlib.contextmanager
def lowering_for(*, accelerator: bool) -> Iterator[None]:
    """What is traced inside will be run by another program, on an accelerator or on a CPU."""
    before = _lowered_for_accelerator.set(accelerator)
    try:
        yield
    finally:
        _lowered_for_accelerator.reset(before)


def _on_accelerator() -> bool:
    """Whether a GPU or TPU will run what is traced or run now."""
    known = _lowered_for_accelerator.get()
    if known is not None:
        return known
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU")) and not inside_dataset_function()


@functools.cache
def _warn_of_the_loop() -> None:
    warnings.warn(
        'form="loop" is for a CPU: an accelerator takes it image by image, 3.1 s for 64 images on an H100. '
        'Use form="auto" or "dense" there.',
        stacklevel=5,
    )


def _render(
    images: tf.Tensor, choices: Choices, ops: tuple[Op, ...], fill: FillLevels, interpolation: str, form: str
) -> tf.Tensor:
    if choices.ops.shape[1] == 0 or all(op.family == "identity" for op in ops):
        return images
    if form == "dense":
        return apply_dense(images, choices, ops, fill, interpolation)
    program = _compiled_loop(ops, fill, interpolation, for_cpu=not _on_accelerator())
    if images.shape[0] is not None and not tf.executing_eagerly():
        return program(images, *choices, tf.constant(images.shape[0]))
    return _render_padded(images, choices, program)


def _render_padded(images: tf.Tensor, choices: Choices, program: Any) -> tf.Tensor:
    """A batch of any size, as the next power of two: a program is compiled once for each of those, not for each size.

    A pad of nothing and a slice of everything share the buffer, so a batch of such a size is not copied.
    """
    size = tf.shape(images)[0]
    missing = tf.cast(_power_of_two(size), tf.int32) - size
    padded = [tf.pad(tensor, [[0, missing], *[[0, 0]] * (len(tensor.shape) - 1)]) for tensor in (images, *choices)]
    result = program(*padded, size)[:size]
    return tf.ensure_shape(result, images.shape)


def _power_of_two(size: tf.Tensor) -> tf.Tensor:
    powers = tf.constant([2**power for power in range(31)])
    return tf.reduce_min(tf.where(powers >= size, powers, powers[-1]))


@functools.lru_cache(maxsize=256)
def _compiled_loop(ops: tuple[Op, ...], fill: FillLevels, interpolation: str, *, for_cpu: bool = True) -> Any:
    # A partial has no code of its own, so that TensorFlow counts each program's traces separately, and does not warn.
    program = functools.partial(_run_loop, ops, fill, interpolation, for_cpu)
    return tf.function(program, jit_compile=True, autograph=False)


def _run_loop(
    ops: tuple[Op, ...],
    fill: FillLevels,
    interpolation: str,
    for_cpu: bool,
    images: tf.Tensor,
    chosen: tf.Tensor,
    values: tf.Tensor,
    seeds: tf.Tensor,
    count: tf.Tensor,
) -> tf.Tensor:
    with reading_bits() if for_cpu else contextlib.nullcontext():
        return apply_loop(images, Choices(chosen, values, seeds), ops, fill, interpolation, count)


def _move_mask(
    mask: Any, images: tf.Tensor, choices: Choices, warps: tuple[Op, ...], form: str, fill: int
) -> tf.Tensor:
    mask = tf.convert_to_tensor(mask)
    if mask.shape.rank not in (3, 4) or not mask.shape[:3].is_compatible_with(images.shape[:3]):
        raise ValueError(f"The mask is [B, H, W] or [B, H, W, C] over images {images.shape}; got {mask.shape}.")
    layers = mask[..., None] if mask.shape.rank == 3 else mask
    layers = tf.ensure_shape(layers, [None, *images.shape[1:3], None])
    check_mask_fill(fill, dtype=layers.dtype)
    # Fills are levels, of which float images take the 255th part.
    level = float(fill) * 255 if layers.dtype.is_floating else float(fill)
    moved = _render(layers, choices, warps, (level,) * layers.shape[-1], "nearest", form)
    return moved[..., 0] if mask.shape.rank == 3 else moved
