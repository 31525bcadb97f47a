"""One table of cases: every op at five magnitudes of its own range, on images that have been trouble somewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from pictures import photo

from tfpipe.augment.forms import dense
from tfpipe.augment.forms.apply import apply_choices
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.table import OPS

# Those that came later have laws of their own, one program each (test_new_ops.py): all in one compiles for minutes.
LATER = (
    "perspective",
    "elastic",
    "grid_distortion",
    "channel_shuffle",
    "channel_dropout",
    "gray_world",
    "grid_mask",
    "random_erasing",
    "motion_blur",
    "median_blur",
    "clahe",
    "jpeg",
)
NAMES = tuple(name for name in OPS if name not in LATER)
# DALI's fifteen, and the identity: bit-exact with Pillow.
FIFTEEN = (
    "identity",
    "auto_contrast",
    "brightness",
    "color",
    "contrast",
    "equalize",
    "invert",
    "posterize",
    "rotate",
    "sharpness",
    "shear_x",
    "shear_y",
    "solarize",
    "solarize_add",
    "translate_x",
    "translate_y",
)
MAGNITUDES = (0.0, 0.3, 0.55, 0.8, 1.0)


@dataclass(frozen=True)
class Case:
    """One op with one set of values."""

    name: str
    values: tuple[float, float, float, float]


def case(op: Op, magnitude: float, sign: int, height: int, width: int) -> Case:
    """The op at a magnitude of its own range; further values from the middle of theirs, or an end, by the sign."""
    size = {"": 1, "height": height, "width": width, "side": min(height, width)}[op.unit]
    value = (op.neutral + (sign if op.mirrored else 1) * (op.low + magnitude * (op.high - op.low))) * size
    further = [low + (high - low) * (0.5 + 0.4 * sign * magnitude) for low, high in op.further]
    return Case(op.name, tuple(float(np.float32(v)) for v in [value, *further, 0, 0, 0][:4]))


def cases(height: int, width: int, names: tuple[str, ...] = NAMES) -> list[Case]:
    return [
        case(OPS[name], magnitude, sign, height, width)
        for name in names
        for magnitude, sign in zip(MAGNITUDES, (1, -1, 1, -1, -1), strict=True)
    ]


def hard_images(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Uint8 [5, H, W, C]: a photograph, noise, one colour, two colours, a narrow range."""
    rng = np.random.default_rng(height * 1000 + width)
    shape = (height, width, 3)
    two = np.where(np.arange(width)[:, None] % 3 == 0, [[10, 200, 90]], [[250, 3, 91]])
    images = [
        photo(7, *shape[:2]),
        rng.integers(0, 256, shape),
        np.full(shape, (77, 0, 255)),
        np.broadcast_to(two, shape),
        rng.integers(90, 110, shape),
    ]
    return np.stack(images).astype(np.uint8)[..., :channels]


def crossed(table: list[Case], images: np.ndarray) -> tuple[np.ndarray, Choices]:
    """Every case on every image: images [cases * images, ...], and one stage of choices over all OPS."""
    count = len(images)
    places = np.repeat([NAMES.index(one.name) for one in table], count)
    values = np.repeat(np.array([one.values for one in table], np.float32), count, axis=0)
    seeds = np.stack([places, np.arange(len(places))], axis=-1)
    choices = Choices(
        tf.constant(places[:, None], tf.int32), tf.constant(values[:, None]), tf.constant(seeds[:, None], tf.int32)
    )
    return np.tile(images, (len(table), 1, 1, 1)), choices


def applied(images: np.ndarray, choices: Choices, names: tuple[str, ...] = NAMES, **options: object) -> np.ndarray:
    """The result over the ops of some names, which choices count among all."""
    places = np.array([names.index(name) if name in names else 0 for name in NAMES], np.int32)
    mine = choices._replace(ops=tf.gather(tf.constant(places), choices.ops))
    return apply_choices(images, mine, [OPS[name] for name in names], **options).numpy()


def eagerly(op: Op, images: np.ndarray, values: tf.Tensor, seeds: tf.Tensor) -> np.ndarray:
    """What the op gives in a stage of the dense form, operation by operation, with TensorFlow's own kernels."""
    chosen, ops = tf.ones([len(images)], tf.int32), (OPS["identity"], op)
    fill = (128.0,) * images.shape[-1]
    return dense.run_stage(ops, fill, "nearest", tf.constant(images), chosen, values, seeds).numpy()
