"""DeepAugment's search space: its ops under their own names, as transforms of tfpipe's.

    deep_augment([(("rotate", 0.3), ("gamma-contrast", 0.6)), (("crop", 0.2), ("brighten", 0.5))])

Names and ranges are DeepAugment 1.1.2's (MIT licence), over its ops of imgaug 0.2.7; a magnitude m is in [0, 1].
Eighteen of its twenty ops are here: fog and clouds, which paint a picture of their own, are not. As there, what comes
in from outside is black, warps interpolate linearly, and shears are about the centre. On purpose otherwise:

  crop                     sides are cut by up to half of what imgaug cuts, the size is drawn apart, and it is resized
                           linearly, where imgaug takes a cubic
  shear                    of rows alone, as scikit-image shears today (that of 2019 made an image lower as well), and
                           at most 88 degrees
  border                   the edge is repeated within half a pixel, where OpenCV blends it with black
  additive-gaussian-noise  always each channel individually

version=1 is what tfpipe made of them before: fill=128 and "nearest" went with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tfpipe.augment.conditional import Part, compose, one_of, sometimes
from tfpipe.augment.ops import imgaug
from tfpipe.augment.ops.op import Op
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.single import Values, coarse_dropout, flip_left_right, flip_up_down, single_op
from tfpipe.augment.transform import Fill, OpTransform, Rendering, check_version, record_call
from tfpipe.policy import VERSION, Policy, Step

NamedMagnitude = tuple[str, float]
_LEFT_OUT = ("fog", "clouds")
# As imgaug's per_channel of 0.5; the op treats channels apart from 0.5 up.
_HALF = (0.0, 1.0)


# op with its fill and interpolation: (name or Op, *ranges of its values) -> transform.
MakeOp = Callable[..., OpTransform]
Maker = Callable[[float, MakeOp], OpTransform | list[OpTransform]]


def _either_way(most: float) -> tuple[float, float]:
    return -most, most


def _crop(m: float, op: MakeOp) -> OpTransform:
    kept = (max(1 - m, 0.05), max(1 - m / 2, 0.05))
    return op("resized_crop", (0, m / 2), (0, m / 2), kept, kept)


def _shift(made: Op) -> Maker:
    return lambda m, op: op(replace(made, low=-m, high=m))


def _coarse_dropout(m: float, op: MakeOp) -> OpTransform:
    # imgaug draws between the two in whatever order. Below m = 1/3 the logarithm is negative, and 4 cells the least.
    share = sorted((0.3, max(math.log10(max(3 * m, 1e-9)), 0.0)))
    return op(imgaug.COARSE_DROPOUT, (0.03, 0.15), tuple(share), tuple(share), (-0.3, 0.7))


def _brighten(m: float, op: MakeOp) -> OpTransform:
    each = _either_way(int(40 * m))
    return op(imgaug.BRIGHTEN, each, each, each, (0, 1), whole=True)


DEEP_AUGMENT: dict[str, Maker] = {
    "crop": _crop,
    "gaussian-blur": lambda m, op: op("gaussian_blur", (0, 25 * m)),
    "rotate": lambda m, op: op("rotate", _either_way(180 * m)),
    "shear": lambda m, op: op(imgaug.SHEAR, _either_way(90 * m)),
    "translate-x": _shift(imgaug.SHIFT_X),
    "translate-y": _shift(imgaug.SHIFT_Y),
    "horizontal-flip": lambda m, op: flip_left_right(m),
    "vertical-flip": lambda m, op: flip_up_down(m),
    "sharpen": lambda m, op: op("sharpen", (0, 1), (min(0.5, 5 * m), max(0.5, 5 * m))),
    "emboss": lambda m, op: op("emboss", (0, 1), (0, 20 * m)),
    "additive-gaussian-noise": lambda m, op: op("gaussian_noise", (0, 255 * m)),
    "dropout": lambda m, op: op("dropout", (0.01, max(0.011, m)), _HALF),
    "coarse-dropout": _coarse_dropout,
    "gamma-contrast": lambda m, op: op("gamma", 1.75 * m),
    "brighten": _brighten,
    "invert": lambda m, op: op("invert"),
    "add-to-hue-and-saturation": lambda m, op: op(imgaug.HUE_AND_SATURATION, _either_way(int(45 * m)), whole=True),
    "coarse-salt-pepper": lambda m, op: op(imgaug.COARSE_SALT_AND_PEPPER, 0.2, m),
}
_VERSION_1: dict[str, Maker] = {
    "shear": lambda m, op: op("shear_x", _either_way(math.tan(math.radians(min(90 * m, 80))))),
    "translate-x": lambda m, op: op(replace(OPS["translate_x"], low=0.0, high=m)),
    "translate-y": lambda m, op: op(replace(OPS["translate_y"], low=0.0, high=m)),
    "coarse-dropout": lambda m, op: coarse_dropout((0.03, 0.15), cell=(1 / 30, 1 / 10), per_channel=0.2),
    "brighten": lambda m, op: op("add_brightness", _either_way(40 * m)),
    "add-to-hue-and-saturation": lambda m, op: [
        op("hue", _either_way(45 * m / 255 * 360)),
        op("saturation", (1 - 45 * m / 255, 1 + 45 * m / 255)),
    ],
    "coarse-salt-pepper": lambda m, op: op("salt_and_pepper", 0.2, min(0.5, 1 / max(32 * m, 1e-9))),
}


@record_call
def deep_augment(
    sub_policies: Sequence[Sequence[NamedMagnitude]],
    *,
    original: bool = True,
    fill: Fill = 0,
    interpolation: str = "bilinear",
    mask_fill: int = 0,
    version: int = VERSION,
) -> OpTransform:
    """One of DeepAugment's sub-policies for each image, all equally likely.

    Args:
      sub_policies: each some (name, magnitude), applied in order; DeepAugment's policies are five of two.
      original: an image is left as it is as often as it gets any one sub-policy, as in DeepAugment's training sets.
      fill: what comes in from outside; black, as in imgaug.
      interpolation: "bilinear", as in imgaug, or "nearest".
      mask_fill: what comes into masks from outside, such as the value that a loss ignores.
      version: 1 for tfpipe's first reading of seven of the ops; it filled with 128 and took the nearest pixel.

    Raises:
      ValueError: there is no sub-policy, a name is unknown or left out, or a magnitude is not in [0, 1].
    """
    if not sub_policies:
        raise ValueError("deep_augment takes at least one sub-policy of (name, magnitude) pairs; it got none.")
    check_version(version)
    rendering = Rendering(fill, interpolation, mask_fill=mask_fill)
    known = _known_ops(version)
    parts: list[Part] = [_sub_policy(steps, known, rendering) for steps in sub_policies]
    if original:
        # The image as it is. Wrapped once more than it needs, so that a saved transform draws the seeds it always drew.
        parts.append(sometimes(single_op("identity", rendering), 0.0))
    written = [[[name, magnitude] for name, magnitude in steps] for steps in sub_policies]
    made = one_of(parts)
    return replace(made, arguments={"sub_policies": written}, rendering=rendering)


def from_deepaugment(policy: Policy, rendering: Rendering) -> OpTransform:
    """One of a policy's sub-policies for each image, for the table "deepaugment"; the identity may be among its ops.

    Raises:
      ValueError: a name is unknown, a step has no magnitude, or the policy has the rule num_ops.
    """
    if policy.num_ops is not None:
        raise ValueError(f"Policy {policy.name!r} has num_ops and the table 'deepaugment', whose steps have an order.")
    parts = [_with_chances(policy, steps, rendering) for steps in policy.sub_policies]
    return replace(one_of(parts), rendering=rendering)


def _with_chances(policy: Policy, steps: Sequence[Step], rendering: Rendering) -> OpTransform:
    known = _known_ops(policy.version)
    last = 1 if policy.num_magnitude_bins is None else max(policy.num_magnitude_bins - 1, 1)
    parts: list[OpTransform] = []
    for step in steps:
        if step.magnitude is None and step.op != "identity":
            raise ValueError(
                f"Step {step.op!r} of policy {policy.name!r} has no magnitude, but DeepAugment's ops take one."
            )
        if step.op == "identity":
            made = [single_op("identity", rendering)]
        else:
            made = _made(step.op, (step.magnitude or 0) / last, known, rendering)
        parts += made if step.probability == 1 else [sometimes(_in_order(made), step.probability)]
    return _in_order(parts)


def _known_ops(version: int) -> dict[str, Maker]:
    return DEEP_AUGMENT if version > 1 else DEEP_AUGMENT | _VERSION_1


def _sub_policy(steps: Sequence[NamedMagnitude], known: dict[str, Maker], rendering: Rendering) -> OpTransform:
    return _in_order([part for name, magnitude in steps for part in _made(name, magnitude, known, rendering)])


def _in_order(parts: Sequence[OpTransform]) -> OpTransform:
    sequence = compose(parts)
    if not isinstance(sequence, OpTransform):
        raise TypeError("ops that choose no size compose to one table of choices")
    return sequence


def _made(name: str, magnitude: float, known: dict[str, Maker], rendering: Rendering) -> list[OpTransform]:
    def op(name: str | Op, *values: Values, whole: bool = False) -> OpTransform:
        return single_op(name, rendering, *values, whole=whole)

    made = _known(name, known)(_check_magnitude(name, magnitude), op)
    return made if isinstance(made, list) else [made]


def _known(name: str, known: dict[str, Maker]) -> Maker:
    if name in _LEFT_OUT:
        raise ValueError(f"The DeepAugment op {name!r} is left out; known: {sorted(known)}.")
    if name not in known:
        raise ValueError(f"Unknown DeepAugment op {name!r}; known: {sorted(known)}.")
    return known[name]


def _check_magnitude(name: str, magnitude: float) -> float:
    if not isinstance(magnitude, int | float) or not 0 <= magnitude <= 1:
        raise ValueError(f"The magnitude of {name!r} is {magnitude!r}; it must be in [0, 1].")
    return float(magnitude)
