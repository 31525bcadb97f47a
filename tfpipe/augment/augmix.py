"""AugMix: an image mixed with some chains of ops on it (Hendrycks et al. 2020, arXiv:1912.02781).

    aug_mix()                       one mixed image for each
    aug_mix(triple=True)            (image, mixed, mixed again), for a loss that asks them to agree

Each of `width` chains applies one to three ops, with levels uniform up to the severity; the chains are weighed by a
Dirichlet draw, and their mixture with the image by one of Beta. Weights are whole 4096ths, so uint8 is mixed exactly,
and rounded once.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.magnitudes import NONE, MagnitudeRange
from tfpipe.augment.draw.selection import from_suite
from tfpipe.augment.draw.streams import draw_uniforms, random_bits, split_seed
from tfpipe.augment.forms.apply import apply_choices, check_rendering
from tfpipe.augment.mixing import PAIRED, beta_weights, inverted
from tfpipe.augment.ops.levels import to_levels
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.transform import Batch, BatchTransform, Fill, record_call
from tfpipe.policy import is_integer, is_number

# Levels of the code are uniform from 0.1 to the severity, of 10; here the middles of so many steps.
_BINS, _LEAST, _MOST = 64, 0.1, 10.0
_STEPS = 4096.0
_QUANTILE_BITS = 14
_DEEPEST = 3


def _suite(severity: float) -> dict[str, MagnitudeRange]:
    """The nine ops of the paper's code, by its formulas for a level."""

    def scaled(full: float, **more: object) -> MagnitudeRange:
        half = (severity - _LEAST) / _BINS / 2
        low, high = _LEAST + half, severity - half
        return MagnitudeRange(full * low / _MOST, full * high / _MOST, **more)  # type: ignore[arg-type]

    return {
        "auto_contrast": NONE,
        "equalize": NONE,
        "posterize": scaled(-4, neutral=4, rounding="down"),
        "rotate": scaled(30, mirrored=True, rounding="down"),
        "solarize": scaled(-256, neutral=256, rounding="down"),
        "shear_x": scaled(0.3, mirrored=True),
        "shear_y": scaled(0.3, mirrored=True),
        "translate_x": scaled(1 / 3, mirrored=True, rounding="down", unit="width"),
        "translate_y": scaled(1 / 3, mirrored=True, rounding="down", unit="height"),
    }


@record_call
def aug_mix(
    *,
    severity: float = 3.0,
    width: int = 3,
    depth: int | None = None,
    alpha: float = 1.0,
    triple: bool = False,
    fill: Fill = 0,
    interpolation: str = "bilinear",
    form: str = "auto",
) -> BatchTransform:
    """Each image is mixed with `width` chains of ops on it; labels stay.

    Args:
      severity: the strongest level of an op, of 10.
      width: chains an image.
      depth: ops a chain, 1 to 3; None draws it for each chain.
      alpha: of the Dirichlet draw among the chains, and of the Beta draw between them and the image.
      triple: batch["image"] becomes (image, mixed, another mixed), as augment.views gives views; it goes last.
      fill: what comes in from outside; black, as in the paper's code.
      interpolation: "bilinear", as there, or "nearest".
      form: as for rand_augment.

    Raises:
      ValueError: an argument is out of range; when applied, the batch has boxes, masks, keypoints or polygons,
        which have no mixture.
    """
    if not is_number(severity, least=0.2, most=10):
        raise ValueError(f"severity is {severity!r}; it must be in [0.2, 10].")
    if not is_integer(width, 1) or (depth is not None and not is_integer(depth, 1, most=_DEEPEST)):
        raise ValueError(f"width is {width!r} and depth {depth!r}; they take at least 1, and 1 to {_DEEPEST} or None.")
    if not is_number(alpha, least=0.01):
        raise ValueError(f"alpha of aug_mix is {alpha!r}; it must be a number of at least 0.01.")
    check_rendering(interpolation, form)
    members = [(OPS[name], values) for name, values in _suite(severity).items()]
    ops, _, choose = from_suite(members, _DEEPEST, np.ones(len(members)), np.ones(_BINS))

    def mixed(images: tf.Tensor, seed: tf.Tensor, shape: BatchShape) -> tf.Tensor:
        own, chains, shares, blend = split_seed(seed, 4)
        rows = BatchShape(shape.batch_size * width, shape.height, shape.width)
        choices = _cut(choose(own, rows), chains, rows, depth)
        repeated = tf.repeat(images, width, axis=0)
        changed = apply_choices(repeated, choices, ops, fill=fill, interpolation=interpolation, form=form)
        weights = dirichlet_weights(shares, shape.batch_size, width, alpha)
        mixture = beta_weights(blend, shape.batch_size, alpha)[:, 1:]
        return _mix(images, changed, tf.round(weights * mixture * _STEPS))

    def change(batch: Batch, seed: tf.Tensor, shape: BatchShape) -> Batch:
        paired = [name for name in PAIRED if name in batch]
        if paired:
            raise ValueError(f"aug_mix mixes moved images and has no meaning for {paired}; leave them out.")
        first, second = split_seed(seed, 2)
        images = batch["image"]
        if not triple:
            return {**batch, "image": mixed(images, first, shape)}
        return {**batch, "image": (images, mixed(images, first, shape), mixed(images, second, shape))}

    return BatchTransform(change)


def dirichlet_weights(seed: tf.Tensor, count: int | tf.Tensor, width: int, alpha: float) -> tf.Tensor:
    """Draws from Dirichlet(alpha, ..., alpha): float32 [count, width], whose rows sum to 1.

    Gamma draws over their sum, looked up among 16,384 quantiles: exact in every form.
    """
    bits = random_bits(seed, [count, width])
    index = tf.cast(tf.bitwise.right_shift(bits, tf.constant(32 - _QUANTILE_BITS, tf.uint32)), tf.int32)
    draws = tf.gather(tf.constant(_gamma_quantiles(float(alpha))), index)
    return tf.cast(draws / tf.maximum(tf.reduce_sum(draws, axis=-1, keepdims=True), 1e-300), tf.float32)


@functools.cache
def _gamma_quantiles(alpha: float) -> np.ndarray:
    """The quantiles of Gamma(alpha) in the middle of 16,384 equally likely steps, float64."""
    return inverted(lambda points: tf.math.igamma(tf.constant(alpha, tf.float64), points), alpha + 60.0, _QUANTILE_BITS)


def _cut(choices: Choices, seed: tf.Tensor, rows: BatchShape, depth: int | None) -> Choices:
    """The choices up to the depth of each chain; beyond it, images stay."""
    if depth is None:
        deep = tf.floor(draw_uniforms(seed, rows.batch_size, 1).op * _DEEPEST) + 1
    else:
        deep = tf.fill([rows.batch_size, 1], float(depth))
    kept = tf.range(_DEEPEST, dtype=tf.float32) < deep
    values = tf.where(kept[..., None], choices.values, 0.0)
    return choices._replace(ops=tf.where(kept, choices.ops, 0), values=values)


@functools.partial(tf.function, jit_compile=True, autograph=False)
def _mix(images: tf.Tensor, changed: tf.Tensor, parts: tf.Tensor) -> tf.Tensor:
    """Images [B, ...] with their chains [B * width, ...], which weigh parts [B, width] in 4096ths."""
    width = parts.shape[1]
    chains = tf.cast(tf.reshape(changed, tf.concat([[-1, width], tf.shape(images)[1:]], 0)), tf.float32)
    own = _STEPS - tf.reduce_sum(parts, axis=-1)
    total = tf.cast(images, tf.float32) * own[:, None, None, None]
    total += tf.reduce_sum(chains * parts[:, :, None, None, None], axis=1)
    if images.dtype == tf.uint8:
        return to_levels(total / _STEPS + 0.5)
    return tf.cast(total / _STEPS, images.dtype)
