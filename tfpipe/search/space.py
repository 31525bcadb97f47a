"""What a search looks through: policies as vectors, and back.

    space = slots(ops=("rotate", "translate_x", "invert"), count=3)
    space.policy(("rotate", 0.8, "invert", 0.3, "identity", 0.0))     a Policy, of the table "uniform"
    space.vector(policy)                                              the vector again

Two kinds: `Slots`, sub-policies of some steps with a type and a magnitude each, one of which an image gets
(DeepAugment's space is five of two); and `Walk`, a probability and a magnitude for every op, of which an image gets up
to two (Population Based Augmentation's is two copies of 15 ops). No TensorFlow here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from tfpipe.errors import UsageError
from tfpipe.policy import Policy, Step

Vector = tuple[Any, ...]
# Ops that have no strength, so that Policy JSON has None for it.
_WITHOUT_STRENGTH = {
    *("identity", "invert", "equalize", "auto_contrast"),
    *("flip_left_right", "flip_up_down", "grayscale", "edges"),
}
# In the order of the screen: what photographs differ by most often comes first.
UNIFORM_OPS = (
    *("identity", "rotate", "flip_left_right", "translate_x", "translate_y", "brightness", "contrast", "zoom", "color"),
    *("cutout", "shear_x", "flip_up_down", "gaussian_noise", "gaussian_blur", "sharpness", "gamma", "shear_y", "hue"),
    *("invert", "grayscale", "solarize", "posterize", "auto_contrast", "equalize", "dropout", "coarse_dropout"),
)
# Those of them that work on images of one channel, too, and do something there.
GRAY_OPS = tuple(op for op in UNIFORM_OPS if op not in ("color", "hue", "grayscale"))
# DeepAugment's twenty but fog and clouds; see augment.deep_augment.
DEEPAUGMENT_OPS = (
    *("crop", "gaussian-blur", "rotate", "shear", "translate-x", "translate-y", "sharpen", "emboss"),
    *("additive-gaussian-noise", "dropout", "coarse-dropout", "gamma-contrast", "brighten", "invert"),
    *("add-to-hue-and-saturation", "coarse-salt-pepper", "horizontal-flip", "vertical-flip"),
)
PBA_OPS = (
    *("rotate", "translate_x", "translate_y", "brightness", "color", "invert", "sharpness", "posterize"),
    *("shear_x", "solarize", "shear_y", "equalize", "auto_contrast", "cutout", "contrast"),
)
_NUM_BINS, _MOST_PROBABILITY, _MOST_MAGNITUDE = 11, 10, 9


@dataclass(frozen=True)
class Dimension:
    """One element of a vector.

    Attributes:
      name: of the element.
      choices: the names it chooses among; empty for a number.
      high: the largest number; the smallest is 0.
      whole: whether the number is an integer.
    """

    name: str
    choices: tuple[str, ...] = ()
    high: float = 1.0
    whole: bool = False

    def draw(self, generator: np.random.Generator) -> Any:
        """A value, uniformly."""
        if self.choices:
            return self.choices[generator.integers(len(self.choices))]
        return int(generator.integers(int(self.high) + 1)) if self.whole else float(generator.uniform(0, self.high))

    def allows(self, value: Any) -> bool:
        """Whether a value is one of this element's."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | np.integer if self.whole else int | float | np.number)
        return number and not isinstance(value, bool) and bool(0 <= value <= self.high)


class Space(Protocol):
    """What a search needs of a space."""

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The elements of a vector."""

    @property
    def idle(self) -> Vector:
        """The vector of the policy that leaves images as they are."""

    @property
    def screened(self) -> tuple[str, ...]:
        """The ops that are tried alone, in order."""

    @property
    def augmenting(self) -> tuple[str, ...]:
        """The ops that a policy of the space may hold, by name."""

    def alone(self, op: str, magnitude: float) -> Vector:
        """The vector of the policy that has one op, at a magnitude in [0, 1]."""

    def policy(self, vector: Sequence[Any], *, name: str = "searched") -> Policy:
        """The policy of a vector."""

    def vector(self, policy: Policy) -> Vector:
        """The vector of a policy."""

    def to_json(self) -> dict[str, Any]:
        """The space as plain JSON values."""


@dataclass(frozen=True)
class Slots:
    """Sub-policies of some steps each, one of which every image gets; a vector holds (type, magnitude) step by step.

    Attributes:
      ops: the types to choose among.
      count: of the sub-policies.
      steps: of each sub-policy.
      table: what a magnitude means: "uniform" or "deepaugment".
      original: whether one more sub-policy leaves the image as it is, as likely as any other: 1/6 in DeepAugment's.
    """

    ops: tuple[str, ...]
    count: int = 3
    steps: int = 1
    table: str = "uniform"
    original: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))
        if not self.ops or self.count < 1 or self.steps < 1:
            raise UsageError(f"A space needs an op, a slot and a step at least; got {self}.")

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """A type and a magnitude for each step."""
        places = [f"{slot}.{step}" for slot in range(self.count) for step in range(self.steps)]
        pairs = [(Dimension(f"{at}.op", self.ops), Dimension(f"{at}.magnitude")) for at in places]
        return tuple(dimension for pair in pairs for dimension in pair)

    @property
    def _idle_step(self) -> tuple[str, float]:
        # DeepAugment's own: it has no identity.
        return ("identity", 0.0) if "identity" in self.ops else (self.ops[0] if self._lacks_rotate else "rotate", 0.0)

    @property
    def _lacks_rotate(self) -> bool:
        return "rotate" not in self.ops

    @property
    def idle(self) -> Vector:
        """Every step idle."""
        return self._idle_step * (self.count * self.steps)

    @property
    def screened(self) -> tuple[str, ...]:
        """All ops but the identity."""
        return tuple(op for op in self.ops if op != "identity")

    @property
    def augmenting(self) -> tuple[str, ...]:
        """All ops."""
        return self.ops

    def alone(self, op: str, magnitude: float) -> Vector:
        """The op as the first step of every sub-policy."""
        return ((op, float(magnitude)) + self._idle_step * (self.steps - 1)) * self.count

    def policy(self, vector: Sequence[Any], *, name: str = "searched") -> Policy:
        """The policy of a vector; steps of magnitude 0 stay in it."""
        _check_vector(vector, self.dimensions)
        steps = [Step(op, 1.0, float(magnitude)) for op, magnitude in zip(vector[::2], vector[1::2], strict=True)]
        subs = [tuple(steps[i : i + self.steps]) for i in range(0, len(steps), self.steps)]
        if self.original:
            subs.append((Step("identity"),))
        return Policy(name, tuple(subs), table=self.table)

    def vector(self, policy: Policy) -> Vector:
        """The vector of a policy of this shape.

        Raises:
          UsageError: the policy is not one of this space.
        """
        flat = [value for step in policy.steps for value in (step.op, step.magnitude or 0.0)]
        vector = tuple(flat[: 2 * self.count * self.steps])
        _check_vector(vector, self.dimensions)
        if self.policy(vector, name=policy.name) != policy:
            raise UsageError(f"Policy {policy.name!r} is not one of the space {self}.")
        return vector

    def to_json(self) -> dict[str, Any]:
        """The space as plain JSON values."""
        return {"kind": "slots", **asdict(self), "ops": list(self.ops)}


@dataclass(frozen=True)
class Walk:
    """A probability (0 to 10, tenths) and a magnitude (0 to 9) for every op, copy after copy.

    An image gets 0, 1 or 2 ops: the entries are walked in random order until that many have happened.

    Attributes:
      ops: of one copy.
      copies: how often each op is there.
      table: what a magnitude means: "pba" as published, or "uniform".
      num_ops: the probabilities of 0, 1, 2 ops.
    """

    ops: tuple[str, ...] = PBA_OPS
    copies: int = 2
    table: str = "pba"
    num_ops: tuple[float, ...] = (0.2, 0.3, 0.5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))
        object.__setattr__(self, "num_ops", tuple(self.num_ops))
        if not self.ops or self.copies < 1:
            raise UsageError(f"A space needs an op and a copy at least; got {self}.")

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """A probability and a magnitude for each entry."""
        places = [f"{copy}.{op}" for copy in range(self.copies) for op in self.ops]
        sizes = (("probability", _MOST_PROBABILITY), ("magnitude", _MOST_MAGNITUDE))
        return tuple(Dimension(f"{at}.{what}", high=most, whole=True) for at in places for what, most in sizes)

    @property
    def idle(self) -> Vector:
        """Zeros, with which PBA starts."""
        return (0,) * (2 * self.copies * len(self.ops))

    @property
    def screened(self) -> tuple[str, ...]:
        """All ops."""
        return self.ops

    @property
    def augmenting(self) -> tuple[str, ...]:
        """All ops."""
        return self.ops

    def alone(self, op: str, magnitude: float) -> Vector:
        """The op with probability 1 in its first copy, and nothing else."""
        vector = list(self.idle)
        vector[2 * self.ops.index(op) : 2 * self.ops.index(op) + 2] = [
            _MOST_PROBABILITY,
            round(magnitude * _MOST_MAGNITUDE),
        ]
        return tuple(vector)

    def policy(self, vector: Sequence[Any], *, name: str = "searched") -> Policy:
        """The policy of a vector; as published, ops without a strength have none in it."""
        _check_vector(vector, self.dimensions)
        entries = zip(self.ops * self.copies, vector[::2], vector[1::2], strict=True)
        bare = _WITHOUT_STRENGTH if self.table == "pba" else set()
        steps = tuple(Step(op, int(p) / 10, None if op in bare else int(m)) for op, p, m in entries)
        most = min(len(self.num_ops), len(steps) + 1)
        return Policy(name, (steps,), _NUM_BINS, self.table, _shortened(self.num_ops, most))

    def vector(self, policy: Policy) -> Vector:
        """The vector of a policy of this shape; 0 for magnitudes that the policy has not.

        Raises:
          UsageError: the policy is not one of this space.
        """
        values = [(round(step.probability * 10), int(step.magnitude or 0)) for step in policy.steps]
        vector = tuple(value for pair in values for value in pair)
        names = tuple(step.op for step in policy.steps)
        if (names, policy.table, policy.num_magnitude_bins) != (self.ops * self.copies, self.table, _NUM_BINS):
            raise UsageError(f"Policy {policy.name!r} is not one of the space {self}.")
        _check_vector(vector, self.dimensions)
        return vector

    def to_json(self) -> dict[str, Any]:
        """The space as plain JSON values."""
        return {"kind": "walk", **asdict(self), "ops": list(self.ops), "num_ops": list(self.num_ops)}


def slots(*, ops: Sequence[str] = UNIFORM_OPS, count: int = 3, steps: int = 1) -> Slots:
    """The general space: `count` sub-policies of `steps` ops, whose strengths are drawn up to the magnitude."""
    return Slots(tuple(dict.fromkeys(("identity", *ops))), count, steps)


def deep_augment() -> Slots:
    """DeepAugment's space: five sub-policies of two of its ops, and 1/6 of the images unaugmented."""
    return Slots(DEEPAUGMENT_OPS, 5, 2, "deepaugment")


def pba() -> Walk:
    """Population Based Augmentation's space, as published: 60 integers, (11 * 10) ** 30 policies."""
    return Walk()


def walk(*, ops: Sequence[str] = UNIFORM_OPS, copies: int = 1) -> Walk:
    """PBA's space over other ops, whose strengths are drawn up to the magnitude."""
    return Walk(tuple(op for op in ops if op != "identity"), copies, "uniform")


SPACES: dict[str, Callable[..., Slots | Walk]] = {
    "slots": slots,
    "deep_augment": deep_augment,
    "pba": pba,
    "walk": walk,
}


def space_from_json(document: Mapping[str, Any]) -> Slots | Walk:
    """The space that `to_json` wrote."""
    kinds: dict[str, Any] = {"slots": Slots, "walk": Walk}
    fields = dict(document)
    kind = fields.pop("kind", None)
    if kind not in kinds:
        raise UsageError(f"Unknown space {kind!r}; known: {sorted(kinds)}.")
    return kinds[kind](**fields)


def fitting(space: Slots | Walk, channels: int) -> Slots | Walk:
    """The space without the ops that images of this number of channels cannot have or would not show."""
    if channels != 1 or space.table != "uniform":
        return space
    kept = tuple(op for op in space.ops if op in GRAY_OPS or op not in UNIFORM_OPS)
    return type(space)(**{**vars(space), "ops": kept})


def random_vector(space: Space, generator: np.random.Generator) -> Vector:
    """A vector, every element uniform and independent."""
    return tuple(dimension.draw(generator) for dimension in space.dimensions)


def strength_of(policy: Policy, op: str) -> float:
    """How much of an op a policy holds: the expected magnitude of its steps over all sub-policies, 0 to 1 for one."""
    last = 1 if policy.num_magnitude_bins is None else max(policy.num_magnitude_bins - 1, 1)
    found = [s.probability * (1.0 if s.magnitude is None else s.magnitude / last) for s in policy.steps if s.op == op]
    return sum(found) / len(policy.sub_policies)


def check_ops(names: Sequence[str]) -> tuple[str, ...]:
    """The names of ops of the table "uniform", if all are known.

    Raises:
      UsageError: one is not.
    """
    unknown = sorted(set(names) - set(UNIFORM_OPS))
    if unknown:
        raise UsageError(f"Unknown ops {unknown}; known: {sorted(UNIFORM_OPS)}.")
    return tuple(names)


def _shortened(shares: tuple[float, ...], most: int) -> tuple[float, ...]:
    return (*shares[: most - 1], sum(shares[most - 1 :]))


def _check_vector(vector: Sequence[Any], dimensions: Sequence[Dimension]) -> None:
    if len(vector) != len(dimensions):
        raise UsageError(f"A vector of this space has {len(dimensions)} elements; got {len(vector)}.")
    for dimension, value in zip(dimensions, vector, strict=True):
        if not dimension.allows(value):
            allowed = list(dimension.choices) or f"0 to {dimension.high:g}"
            raise UsageError(f"Element {dimension.name!r} of a vector is {value!r}; allowed: {allowed}.")
