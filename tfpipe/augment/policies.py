"""Published ways of augmenting, as transforms: RandAugment, TrivialAugment, AutoAugment, and policies as data.

    rand_augment(2, 9)              two ops an image, all at bin 9 of 31
    trivial_augment_wide()          one op at a random bin
    auto_augment("image_net")       one of 25 sub-policies, each step with its probability
    policy("mine.json")             what a search wrote

Each name keeps the table of magnitudes that it was published with (see draw/magnitudes.py); `table=` takes another. The
streams of op, magnitude, sign and application are independent. `ops=` takes users' ops (@augmentation) beside names.

A table says what a bin means, and no more. These differ from its source unless they are given (docs/augmentation.md):

  interpolation   "nearest" here and in torchvision and the papers' code; DALI interpolates linearly
  fill            128 here and in DALI; black in torchvision, the data set's mean in the authors' code for CIFAR
  m               counts bins, here 0 to 30 as in DALI and torchvision; the papers count tenths: their m is 3 m here
  names           torchvision's policy IMAGENET is "reduced_image_net"
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from tfpipe.augment.deepaugment import from_deepaugment
from tfpipe.augment.draw.magnitudes import AUTO_BINS, SUITES, MagnitudeRange, op_ranges, range_of_op, with_translation
from tfpipe.augment.draw.selection import Translation, from_policies, from_suite, range_of
from tfpipe.augment.ops.op import Op
from tfpipe.augment.ops.table import OPS, find_op
from tfpipe.augment.transform import Fill, OpTransform, Rendering, check_version, record_call
from tfpipe.policy import VERSION, Policy, is_integer, load_policy, published_policies

# The mean of CIFAR-10, cut down to levels: what the authors' code for CIFAR shows where an op leaves a pixel uncovered.
CIFAR_MEAN = (125, 122, 113)
PUBLISHED: Literal["published"] = "published"
_FILLS: dict[str, Fill] = {"cifar10_95": CIFAR_MEAN}


@record_call
def rand_augment(
    n: int,
    m: int,
    *,
    num_magnitude_bins: int = 31,
    table: str = "dali",
    fill: Fill = 128,
    interpolation: str = "nearest",
    ops: Sequence[str | Op] | None = None,
    excluded: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
    magnitude_noise: float = 0.0,
    max_translate_abs: float | None = None,
    max_translate_rel: float | None = None,
    form: str = "auto",
    check_values: bool = False,
    mask_fill: int = 0,
    version: int = VERSION,
) -> OpTransform:
    """RandAugment: each image gets n ops, drawn with replacement, all at magnitude bin m.

    Args:
      n: ops an image; 0 warns and leaves images as they are.
      m: the bin, 0 to num_magnitude_bins - 1.
      num_magnitude_bins: the bins of the table.
      table: "dali", "dali_non_monotonic", "torchvision", "paper", "paper_code", "timm", "timm_increasing" or "tfpipe":
        what a bin means, op by op (draw/magnitudes.py).
      fill: what comes in from outside: 0 to 255, one value per channel, or None for the edge repeated.
      interpolation: "nearest" or "bilinear".
      ops: names and Ops to draw from; None: the table's 14. A name that the table lacks, and a user's op, keep their
        own range.
      excluded: names to leave out.
      weights: how likely ops are, by name; 1 for those not named.
      magnitude_noise: the standard deviation, in bins, of a normal draw about m for each image and op, clipped.
      max_translate_abs: the largest shift in pixels, instead of the table's.
      max_translate_rel: the largest shift as a fraction of the side, instead of the table's (0.446 of it for "dali",
        which are DALI's 100 px at 224).
      form: "loop", "dense" or "auto".
      check_values: assert inside graphs that float images are in [0, 1].
      mask_fill: what comes into masks from outside, such as the value that a loss ignores.
      version: 1 for what tables meant before (see `op_ranges`).

    Raises:
      ValueError: a number is out of range, or a name unknown.
    """
    _check_count("n", n, 0)
    _check_bin(m, num_magnitude_bins)
    if magnitude_noise < 0:
        raise ValueError(f"magnitude_noise is {magnitude_noise}; it must be at least 0.")
    if n == 0:
        warnings.warn("rand_augment with n = 0 leaves every image as it is.", stacklevel=3)
    suite = _suite(table, "rand", (max_translate_abs, max_translate_rel), version)
    members = _members(suite, ops, excluded)
    bins = _noisy_bins(m, num_magnitude_bins, magnitude_noise)
    return OpTransform(
        *from_suite(members, n, _op_weights(members, weights), bins),
        Rendering(fill, interpolation, form, check_values, mask_fill),
    )


@record_call
def trivial_augment_wide(
    *,
    num_magnitude_bins: int = 31,
    table: str = "dali",
    fill: Fill = 128,
    interpolation: str = "nearest",
    ops: Sequence[str | Op] | None = None,
    excluded: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
    max_translate_abs: float | None = None,
    max_translate_rel: float | None = None,
    form: str = "auto",
    check_values: bool = False,
    mask_fill: int = 0,
    version: int = VERSION,
) -> OpTransform:
    """TrivialAugment (wide): each image gets one op at a bin drawn uniformly.

    The arguments are those of `rand_augment`; all tables shift by up to 32 px, at any size, unless max_translate_rel
    says otherwise.

    Raises:
      ValueError: a number is out of range, or a name unknown.
    """
    _check_count("num_magnitude_bins", num_magnitude_bins, 1)
    suite = _suite(table, "trivial", (max_translate_abs, max_translate_rel), version)
    members = _members(suite, ops, excluded)
    return OpTransform(
        *from_suite(members, 1, _op_weights(members, weights), np.ones(num_magnitude_bins)),
        Rendering(fill, interpolation, form, check_values, mask_fill),
    )


@record_call
def auto_augment(
    policy_name: str = "image_net",
    *,
    table: str | None = None,
    fill: Fill | Literal["published"] = PUBLISHED,
    interpolation: str = "nearest",
    max_translate_abs: float | None = None,
    max_translate_rel: float | None = None,
    form: str = "auto",
    check_values: bool = False,
    mask_fill: int = 0,
    version: int = VERSION,
) -> OpTransform:
    """AutoAugment: each image gets one sub-policy, and each of its steps with the step's probability.

    Args:
      policy_name: "image_net", "reduced_image_net", "svhn" or "reduced_cifar10" (25 sub-policies each, as DALI has
        them), or "cifar10_95" (the 95 of the authors' code; only 20 of the 25 are among them).
      table: None takes the one that the policy was published with: "dali", and "pba" for "cifar10_95". "paper" has the
        ranges that the paper prints, "paper_code" those of the authors' code, "torchvision" its 10 bins. With "pba"
        what an op uncovered stays transparent until the last op (forms/transparency.py).
      fill: as for rand_augment; "published" is 128, as in DALI, and the mean of CIFAR-10 for "cifar10_95".
      interpolation: as for rand_augment.
      max_translate_abs: the largest shift in pixels, instead of the table's (for "dali" the whole side).
      max_translate_rel: the largest shift as a fraction of the side.
      form: as for rand_augment.
      check_values: as for rand_augment.
      mask_fill: as for rand_augment.
      version: 1 for what tables meant before; then an op's uncovered pixels are filled at once, too.

    Raises:
      ValueError: the policy or the table is unknown, a bin is beyond the table's, or max_translate is given for a
        policy that never translates.
    """
    if policy_name not in published_policies():
        raise ValueError(f"Unknown policy {policy_name!r}; known policies: {list(published_policies())}.")
    check_version(version)
    policy = replace(load_policy(policy_name), version=version)
    if table is not None:
        policy = replace(policy, table=table, num_magnitude_bins=AUTO_BINS.get(table, policy.num_magnitude_bins))
    return OpTransform(
        *from_policies([policy], [1], (), (max_translate_abs, max_translate_rel)),
        Rendering(
            published_fill(fill, _FILLS.get(policy_name, 128)),
            interpolation,
            form,
            check_values,
            mask_fill,
            keeps_transparency(policy),
        ),
    )


@record_call
def policy(
    source: Policy | str | os.PathLike[str],
    *,
    ops: Sequence[Op] = (),
    fill: Fill = 128,
    interpolation: str = "nearest",
    max_translate_abs: float | None = None,
    max_translate_rel: float | None = None,
    form: str = "auto",
    check_values: bool = False,
    mask_fill: int = 0,
) -> OpTransform:
    """A policy as a transform.

    Args:
      source: a Policy, a JSON file of one, or the name of a published one. With its table "pba", what an op uncovered
        stays transparent until the last op. With its table "deepaugment", deep_augment's own fill is 0 and its
        interpolation "bilinear".
      ops: users' ops that the policy names.
      fill: as for rand_augment.
      interpolation: as for rand_augment.
      max_translate_abs: the largest shift in pixels, instead of the table's.
      max_translate_rel: the largest shift as a fraction of the side, instead of the table's.
      form: as for rand_augment.
      check_values: as for rand_augment.
      mask_fill: as for rand_augment.

    Raises:
      ValueError: an op is unknown, or a step lacks the magnitude that its op needs.
    """
    loaded = source if isinstance(source, Policy) else load_policy(source)
    _warn_of_idle_steps(loaded, ops)
    rendering = Rendering(fill, interpolation, form, check_values, mask_fill, keeps_transparency(loaded))
    if loaded.table == "deepaugment":
        if ops or max_translate_abs is not None or max_translate_rel is not None:
            raise ValueError(
                f"Policy {loaded.name!r} has the table 'deepaugment', which takes no ops or max_translate."
            )
        return replace(from_deepaugment(loaded, rendering), arguments={"source": loaded})
    return OpTransform(
        *from_policies([loaded], [1], ops, (max_translate_abs, max_translate_rel)),
        rendering,
        arguments={"source": loaded},
    )


# ---- arguments


def published_fill(fill: Fill | Literal["published"], published: Fill) -> Fill:
    """A fill as given, and the published one where that is asked for."""
    if isinstance(fill, str):
        if fill != PUBLISHED:
            raise ValueError(
                f"fill is {fill!r}; it takes 0 to 255, one such value per channel, None, or {PUBLISHED!r}."
            )
        return published
    return fill


def keeps_transparency(policy: Policy) -> bool:
    """Whether uncovered pixels stay transparent, as in the code of AutoAugment and PBA for CIFAR."""
    return policy.table == "pba" and policy.version > 1


def _check_count(name: str, value: Any, least: int) -> None:
    if not is_integer(value, least):
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}.")


def _check_bin(m: Any, num_magnitude_bins: Any) -> None:
    _check_count("num_magnitude_bins", num_magnitude_bins, 1)
    if not is_integer(m, 0, most=num_magnitude_bins - 1):
        raise ValueError(
            f"m is {m!r}; with {num_magnitude_bins} bins it must be an integer from 0 to {num_magnitude_bins - 1}."
        )


def _suite(table: str, method: str, translate: Translation, version: int) -> dict[str, MagnitudeRange]:
    """The ranges of a table; tfpipe's own for the ops that the others have."""
    check_version(version)
    suite = op_ranges(table, method, version=version) or {
        name: range_of_op(OPS[name]) for name in SUITES["dali"][method]
    }
    return with_translation(suite, *translate)


def _members(
    suite: Mapping[str, MagnitudeRange], ops: Sequence[str | Op] | None, excluded: Sequence[str]
) -> list[tuple[Op, MagnitudeRange]]:
    """The ops to draw from, each with its range."""
    wanted = list(suite) if ops is None else list(ops)
    found = [op if isinstance(op, Op) else find_op(op) for op in wanted]
    names = {op.name for op in found}
    unknown = sorted(set(excluded) - names)
    if unknown:
        raise ValueError(f"excluded names {unknown}, which are not drawn from anyway; the ops are {sorted(names)}.")
    members = [(op, range_of(op, suite)) for op in found if op.name not in excluded]
    if not members:
        raise ValueError(f"No op is left to draw from: ops is {wanted}, excluded {list(excluded)}.")
    return members


def _op_weights(members: Sequence[tuple[Op, MagnitudeRange]], weights: Mapping[str, float] | None) -> np.ndarray:
    names = [op.name for op, _ in members]
    given = dict(weights or {})
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"weights names {unknown}, which are not drawn from; the ops are {sorted(set(names))}.")
    array = np.array([float(given.get(name, 1.0)) for name in names])
    if not np.all(np.isfinite(array)) or array.min() < 0 or array.sum() == 0:
        raise ValueError(f"weights is {given}; it needs numbers of at least 0 that are not all 0.")
    return array


def _noisy_bins(m: int, num_bins: int, noise: float) -> np.ndarray:
    """The probabilities of the bins: a normal draw about m, rounded and clipped."""
    if noise == 0:
        return np.eye(num_bins)[m]
    edges = [(k + 0.5 - m) / (noise * math.sqrt(2)) for k in range(num_bins - 1)]
    below = np.array([0.0, *[(1 + math.erf(edge)) / 2 for edge in edges], 1.0])
    return np.diff(below)


def _warn_of_idle_steps(policy: Policy, ops: Sequence[Op]) -> None:
    """Warns of what a user's policy says in vain; schedules and published policies hold such steps on purpose."""
    if policy.source or policy.num_ops is not None or policy.table in ("uniform", "deepaugment"):
        return
    known = {**OPS, **{op.name: op for op in ops}}
    idle = sorted({step.op for step in policy.steps if step.probability == 0})
    if idle:
        warnings.warn(f"Policy {policy.name!r} has steps of probability 0: {idle}.", stacklevel=4)
    vain = sorted(
        {s.op for s in policy.steps if s.magnitude is not None and s.op in known and not _has_strength(known[s.op])}
    )
    if vain:
        warnings.warn(f"Policy {policy.name!r} gives magnitudes to ops that have none: {vain}.", stacklevel=4)


def _has_strength(op: Op) -> bool:
    return op.num_values > 0 and op.low != op.high
