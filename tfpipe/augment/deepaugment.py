"""DeepAugment's search space: its ops under their own names, as transforms of tfpipe's.

    deep_augment([(("rotate", 0.3), ("gamma-contrast", 0.6)), (("crop", 0.2), ("brighten", 0.5))])

Names and ranges are DeepAugment 1.1's (MIT licence), over its imgaug ops; a magnitude m is in [0, 1]. Eighteen of its
twenty ops are here: fog and clouds, which paint a picture of their own, are not. Where an op can't mean quite the same:

  crop                     sides are cut by up to half of what imgaug cuts, and the size is drawn apart
  shear                    uniform in the tangent, not in degrees, and at most 80 degrees
  additive-gaussian-noise  always each channel individually
  coarse-dropout           cells of a tenth to a thirtieth of the side: imgaug's masks of 0.3 and more of 32 px
  coarse-salt-pepper       cells of 1 / (32 m) of the side, at most half of it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tfpipe.augment.conditional import Part, compose, one_of, sometimes
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.single import coarse_dropout, flip_left_right, flip_up_down, op
from tfpipe.augment.transform import OpTransform, Rendering, record_call
from tfpipe.policy import Policy, Step

NamedMagnitude = tuple[str, float]
_LEFT_OUT = ("fog", "clouds")
# As imgaug's per_channel of 0.5; the op treats channels apart from 0.5 up.
_HALF = (0.0, 1.0)


def _either_way(most: float) -> tuple[float, float]:
    return -most, most


def _crop(m: float) -> OpTransform:
    kept = (max(1 - m, 0.05), max(1 - m / 2, 0.05))
    return op("resized_crop", (0, m / 2), (0, m / 2), kept, kept)


def _shear(m: float) -> OpTransform:
    return op("shear_x", _either_way(math.tan(math.radians(min(90 * m, 80)))))


def _translate(name: str) -> Callable[[float], OpTransform]:
    return lambda m: op(replace(OPS[name], low=0.0, high=m))


def _hue_and_saturation(m: float) -> list[OpTransform]:
    # imgaug adds to both on a scale of 255; a whole circle of hues is 255 there.
    return [op("hue", _either_way(45 * m / 255 * 360)), op("saturation", (1 - 45 * m / 255, 1 + 45 * m / 255))]


DEEP_AUGMENT: dict[str, Callable[[float], OpTransform | list[OpTransform]]] = {
    "crop": _crop,
    "gaussian-blur": lambda m: op("gaussian_blur", (0, 25 * m)),
    "rotate": lambda m: op("rotate", _either_way(180 * m)),
    "shear": _shear,
    "translate-x": _translate("translate_x"),
    "translate-y": _translate("translate_y"),
    "horizontal-flip": lambda m: flip_left_right(m),
    "vertical-flip": lambda m: flip_up_down(m),
    "sharpen": lambda m: op("sharpen", (0, 1), (min(0.5, 5 * m), max(0.5, 5 * m))),
    "emboss": lambda m: op("emboss", (0, 1), (0, 20 * m)),
    "additive-gaussian-noise": lambda m: op("gaussian_noise", (0, 255 * m)),
    "dropout": lambda m: op("dropout", (0.01, max(0.011, m)), _HALF),
    "coarse-dropout": lambda m: coarse_dropout((0.03, 0.15), cell=(1 / 30, 1 / 10), per_channel=0.2),
    "gamma-contrast": lambda m: op("gamma", 1.75 * m),
    "brighten": lambda m: op("add_brightness", _either_way(40 * m)),
    "invert": lambda m: op("invert"),
    "add-to-hue-and-saturation": _hue_and_saturation,
    "coarse-salt-pepper": lambda m: op("salt_and_pepper", 0.2, min(0.5, 1 / max(32 * m, 1e-9))),
}


@record_call
def deep_augment(
    sub_policies: Sequence[Sequence[NamedMagnitude]], *, original: bool = True, mask_fill: int = 0
) -> OpTransform:
    """One of DeepAugment's sub-policies for each image, all equally likely.

    Args:
      sub_policies: each some (name, magnitude), applied in order; DeepAugment's policies are five of two.
      original: an image is left as it is as often as it gets any one sub-policy, as in DeepAugment's training sets.
      mask_fill: what comes into masks from outside, such as the value that a loss ignores.

    Raises:
      ValueError: there is no sub-policy, a name is unknown or left out, or a magnitude is not in [0, 1].
    """
    if not sub_policies:
        raise ValueError("deep_augment takes at least one sub-policy of (name, magnitude) pairs; it got none.")
    parts: list[Part] = [_sub_policy(steps) for steps in sub_policies]
    if original:
        # The image as it is. Wrapped once more than it needs, so that a saved transform draws the seeds it always drew.
        parts.append(sometimes(op("identity"), 0.0))
    written = [[[name, magnitude] for name, magnitude in steps] for steps in sub_policies]
    made = replace(one_of(parts), arguments={"sub_policies": written})
    if mask_fill == 0:
        return made
    return replace(made, rendering=replace(made.rendering or Rendering(), mask_fill=mask_fill))


def from_deepaugment(policy: Policy) -> OpTransform:
    """One of a policy's sub-policies for each image, for the table "deepaugment"; the identity may be among its ops.

    Raises:
      ValueError: a name is unknown, a step has no magnitude, or the policy has the rule num_ops.
    """
    if policy.num_ops is not None:
        raise ValueError(f"Policy {policy.name!r} has num_ops and the table 'deepaugment', whose steps have an order.")
    last = 1 if policy.num_magnitude_bins is None else max(policy.num_magnitude_bins - 1, 1)
    return one_of([_with_chances(policy, steps, last) for steps in policy.sub_policies])


def _with_chances(policy: Policy, steps: Sequence[Step], last: int) -> OpTransform:
    parts: list[OpTransform] = []
    for step in steps:
        if step.magnitude is None and step.op != "identity":
            raise ValueError(
                f"Step {step.op!r} of policy {policy.name!r} has no magnitude, but DeepAugment's ops take one."
            )
        made = [op("identity")] if step.op == "identity" else _made(step.op, (step.magnitude or 0) / last)
        parts += made if step.probability == 1 else [sometimes(_in_order(made), step.probability)]
    return _in_order(parts)


def _sub_policy(steps: Sequence[NamedMagnitude]) -> OpTransform:
    return _in_order([part for name, magnitude in steps for part in _made(name, magnitude)])


def _in_order(parts: Sequence[OpTransform]) -> OpTransform:
    sequence = compose(parts)
    if not isinstance(sequence, OpTransform):
        raise TypeError("ops that choose no size compose to one table of choices")
    return sequence


def _made(name: str, magnitude: float) -> list[OpTransform]:
    made = _known(name)(_check_magnitude(name, magnitude))
    return made if isinstance(made, list) else [made]


def _known(name: str) -> Callable[[float], OpTransform | list[OpTransform]]:
    if name in _LEFT_OUT:
        raise ValueError(f"The DeepAugment op {name!r} is left out; known: {sorted(DEEP_AUGMENT)}.")
    if name not in DEEP_AUGMENT:
        raise ValueError(f"Unknown DeepAugment op {name!r}; known: {sorted(DEEP_AUGMENT)}.")
    return DEEP_AUGMENT[name]


def _check_magnitude(name: str, magnitude: float) -> float:
    if not isinstance(magnitude, int | float) or not 0 <= magnitude <= 1:
        raise ValueError(f"The magnitude of {name!r} is {magnitude!r}; it must be in [0, 1].")
    return float(magnitude)
