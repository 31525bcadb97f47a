"""Policies as data: which ops an image may get, how likely and how strong, and how that changes over the epochs.

A policy is one of the two JSON documents that cross processes: a search writes it, a trainer reads it.

    policy = Policy("mine", (((Step("rotate", 0.8, 0.4), Step("equalize", 0.5)),)), table="tfpipe")
    policy.save("mine.json")
    transform = tfpipe.augment.policy("mine.json")

Published policies are in tfpipe/policies in the same form, each with its source: `load_policy("image_net")`. A
published name keeps its own table of magnitudes and its own meaning; what ops exist, and what their magnitudes mean,
is known in tfpipe.augment. No TensorFlow here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

TABLES = ("tfpipe", "dali", "torchvision", "paper", "paper_code", "pba", "uniform", "deepaugment")
# Of what tables mean. Documents of version 1 say no version.
VERSION = 2
POLICY_KIND, SCHEDULE_KIND = "tfpipe policy 1", "tfpipe schedule 1"


def table_of_version(table: str, version: int) -> str:
    """Today's name of a table that a document of some version names."""
    return "paper_code" if version == 1 and table == "paper" else table


def is_number(value: Any, *, least: float = -math.inf, most: float = math.inf, kinds: Any = (int, float)) -> bool:
    """Whether a value is a finite number from least to most, and no bool; with `kinds` numbers.Real also NumPy's."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        return False
    return math.isfinite(value) and bool(least <= value <= most)


def is_integer(value: Any, least: int, *, most: float = math.inf) -> bool:
    """Whether a value is an integer from least to most, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


@dataclass(frozen=True)
class Step:
    """One op of a sub-policy.

    Attributes:
      op: the name of an op.
      probability: that the op is applied where its sub-policy was drawn, 0 to 1.
      magnitude: a bin, 0 to num_magnitude_bins - 1; or a position in [0, 1] where the policy has no bins; None for ops
        without a strength.
    """

    op: str
    probability: float = 1.0
    magnitude: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.op, str) or not self.op:
            raise ValueError(f"The op of a step is {self.op!r}; it must be the name of an op.")
        if not is_number(self.probability, least=0, most=1):
            raise ValueError(f"The probability of {self.op!r} is {self.probability!r}; it must be in [0, 1].")
        if self.magnitude is not None and not is_number(self.magnitude):
            raise ValueError(f"The magnitude of {self.op!r} is {self.magnitude!r}; it must be a number or None.")

    def to_json(self) -> list[Any]:
        """[op, probability, magnitude or null]."""
        return [self.op, self.probability, self.magnitude]


@dataclass(frozen=True)
class Policy:
    """Sub-policies of steps, one of which each image gets.

    Attributes:
      name: for people and error messages.
      sub_policies: each image gets one of them, drawn uniformly, and applies its steps in order, each with its own
        probability.
      num_magnitude_bins: the bins that the magnitudes count; None: they are positions in [0, 1].
      table: what a magnitude means, one of TABLES; "tfpipe" is tfpipe's own, where 0 is weakest and 1 strongest. With
        "uniform" the strength is drawn between none and the magnitude's, and an op without a strength happens with
        the magnitude as its probability. "deepaugment" has DeepAugment's ops under its names (augment.deep_augment).
      num_ops: None, or the probabilities of applying 0, 1, 2, ... ops. The one sub-policy is then walked in random
        order, each step applied with its probability, until that many have been: the rule of Population Based
        Augmentation.
      source: where a published policy comes from.
      version: of what tables mean, 1 or 2; a document without one is of version 1, and draws what it always drew. Two
        policies that differ in it alone are equal.
    """

    name: str
    sub_policies: tuple[tuple[Step, ...], ...]
    num_magnitude_bins: int | None = None
    table: str = "tfpipe"
    num_ops: tuple[float, ...] | None = None
    source: str = ""
    version: int = field(default=VERSION, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sub_policies", tuple(tuple(steps) for steps in self.sub_policies))
        if self.num_ops is not None:
            object.__setattr__(self, "num_ops", tuple(float(p) for p in self.num_ops))
        self._check_form()
        for steps in self.sub_policies:
            for step in steps:
                self._check_magnitude(step)

    def _check_form(self) -> None:
        if not self.sub_policies:
            raise ValueError(f"Policy {self.name!r} has no sub-policies; it needs at least one.")
        for i, steps in enumerate(self.sub_policies):
            if not steps:
                raise ValueError(
                    f"Sub-policy {i} of policy {self.name!r} is empty; a step 'identity' leaves images as they are."
                )
        if self.table not in TABLES:
            raise ValueError(f"Unknown table {self.table!r} in policy {self.name!r}; known tables: {list(TABLES)}.")
        if not is_integer(self.version, 1, most=VERSION):
            raise ValueError(
                f"The version of policy {self.name!r} is {self.version!r}; this tfpipe reads 1 to {VERSION}."
            )
        bins = self.num_magnitude_bins
        if bins is not None and not is_integer(bins, 1):
            raise ValueError(
                f"num_magnitude_bins of policy {self.name!r} is {bins!r}; it must be an integer of at least 1, or None."
            )
        if self.num_ops is not None:
            self._check_num_ops(self.num_ops)

    def _check_num_ops(self, num_ops: tuple[float, ...]) -> None:
        if not num_ops or min(num_ops) < 0 or not math.isclose(sum(num_ops), 1, abs_tol=1e-6):
            raise ValueError(
                f"num_ops of policy {self.name!r} is {list(num_ops)}; it needs probabilities that sum to 1."
            )
        if len(self.sub_policies) != 1:
            raise ValueError(
                f"Policy {self.name!r} has num_ops and {len(self.sub_policies)} sub-policies; with num_ops it needs "
                "one that holds all steps."
            )
        if len(num_ops) - 1 > len(self.sub_policies[0]):
            raise ValueError(
                f"num_ops of policy {self.name!r} asks for up to {len(num_ops) - 1} ops, but it has "
                f"{len(self.sub_policies[0])} steps."
            )

    def _check_magnitude(self, step: Step) -> None:
        bins, magnitude = self.num_magnitude_bins, step.magnitude
        if magnitude is None:
            return
        if bins is None and not 0 <= magnitude <= 1:
            raise ValueError(
                f"The magnitude of {step.op!r} in policy {self.name!r} is {magnitude}; without bins it must be in "
                "[0, 1]."
            )
        if bins is not None and (magnitude != int(magnitude) or not 0 <= magnitude < bins):
            raise ValueError(
                f"The magnitude of {step.op!r} in policy {self.name!r} is {magnitude}; with {bins} bins it must be an "
                f"integer from 0 to {bins - 1}."
            )

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, sub-policy after sub-policy."""
        return tuple(step for steps in self.sub_policies for step in steps)

    def to_json(self) -> dict[str, Any]:
        """The policy as plain JSON values."""
        return {
            "kind": POLICY_KIND,
            **({"version": self.version} if self.version > 1 else {}),
            "name": self.name,
            "source": self.source,
            "table": self.table,
            "num_magnitude_bins": self.num_magnitude_bins,
            "num_ops": None if self.num_ops is None else list(self.num_ops),
            "sub_policies": [[step.to_json() for step in steps] for steps in self.sub_policies],
        }

    @classmethod
    def from_json(cls, document: Any) -> Policy:
        """The policy that `to_json` wrote.

        Raises:
          ValueError: the document is not a policy, or one out of range; the sentence says which part.
        """
        fields = _fields(document, POLICY_KIND, {**cls("", ((Step("identity"),),)).to_json(), "version": 1})
        try:
            sub_policies = tuple(tuple(_step(step) for step in steps) for steps in fields["sub_policies"])
            num_ops = None if fields["num_ops"] is None else tuple(float(p) for p in fields["num_ops"])
        except TypeError as error:
            raise ValueError(
                f"Policy {fields['name']!r} is not [[[op, probability, magnitude], ...], ...]: {error}."
            ) from error
        version = fields["version"]
        table = table_of_version(fields["table"], version)
        return cls(
            fields["name"], sub_policies, fields["num_magnitude_bins"], table, num_ops, fields["source"], version
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the policy as JSON."""
        _save(self.to_json(), path)


@dataclass(frozen=True)
class Segment:
    """A policy and the number of epochs that it holds for."""

    epochs: int
    policy: Policy

    def __post_init__(self) -> None:
        if not is_integer(self.epochs, 1):
            raise ValueError(f"A segment has {self.epochs!r} epochs; it must be an integer of at least 1.")


@dataclass(frozen=True)
class Schedule:
    """Policies by epoch.

    Attributes:
      name: for people and error messages.
      segments: in sequence; all policies have the same table, bins and rule.
      source: where a published schedule comes from.
    """

    name: str
    segments: tuple[Segment, ...]
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        if not self.segments:
            raise ValueError(f"Schedule {self.name!r} has no segments; it needs at least one.")
        rules = {(s.policy.table, s.policy.num_magnitude_bins, len(s.policy.num_ops or ())) for s in self.segments}
        if len(rules) > 1:
            raise ValueError(
                f"The policies of schedule {self.name!r} differ in table, bins or rule; one schedule needs one of each."
            )

    @property
    def num_epochs(self) -> int:
        """Of all segments together."""
        return sum(segment.epochs for segment in self.segments)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policy of each epoch."""
        return tuple(segment.policy for segment in self.segments for _ in range(segment.epochs))

    def policy_at(self, epoch: int) -> Policy:
        """The policy of an epoch, counted from 0; the last one holds on after the end."""
        if epoch < 0:
            raise ValueError(f"The epoch is {epoch}; epochs count from 0.")
        return self.policies[min(epoch, self.num_epochs - 1)]

    def stretched(self, num_epochs: int) -> Schedule:
        """The schedule over another number of epochs.

        As PBA does: each segment is int(its epochs * num_epochs / all epochs) long, and the last one takes the rest.
        Segments that get no epoch are left out.
        """
        if not is_integer(num_epochs, 1):
            raise ValueError(f"num_epochs is {num_epochs!r}; it must be an integer of at least 1.")
        lengths = [segment.epochs * num_epochs // self.num_epochs for segment in self.segments]
        lengths[-1] += num_epochs - sum(lengths)
        pairs = zip(self.segments, lengths, strict=True)
        return replace(self, segments=tuple(Segment(length, s.policy) for s, length in pairs if length))

    def to_json(self) -> dict[str, Any]:
        """The schedule as plain JSON values."""
        segments = [{"epochs": s.epochs, "policy": s.policy.to_json()} for s in self.segments]
        return {"kind": SCHEDULE_KIND, "name": self.name, "source": self.source, "segments": segments}

    @classmethod
    def from_json(cls, document: Any) -> Schedule:
        """The schedule that `to_json` wrote.

        Raises:
          ValueError: the document is not a schedule, or one out of range; the sentence says which part.
        """
        fields = _fields(document, SCHEDULE_KIND, {"name": "", "source": "", "segments": []})
        try:
            segments = tuple(Segment(s["epochs"], Policy.from_json(s["policy"])) for s in fields["segments"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"The segments of schedule {fields['name']!r} need epochs and policy each: {error}."
            ) from error
        return cls(fields["name"], segments, fields["source"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the schedule as JSON."""
        _save(self.to_json(), path)


def published_policies() -> tuple[str, ...]:
    """The names of the policies that come with tfpipe."""
    return _published(POLICY_KIND)


def published_schedules() -> tuple[str, ...]:
    """The names of the schedules that come with tfpipe."""
    return _published(SCHEDULE_KIND)


def load_policy(name_or_path: str | os.PathLike[str]) -> Policy:
    """A published policy by its name, or a policy from a JSON file.

    Raises:
      ValueError: neither a published name nor a file, or the file holds no policy.
    """
    return Policy.from_json(_load(name_or_path, "policy", published_policies()))


def load_schedule(name_or_path: str | os.PathLike[str]) -> Schedule:
    """A published schedule by its name, or a schedule from a JSON file.

    Raises:
      ValueError: neither a published name nor a file, or the file holds no schedule.
    """
    return Schedule.from_json(_load(name_or_path, "schedule", published_schedules()))


def _fields(document: Any, kind: str, known: dict[str, Any]) -> dict[str, Any]:
    """The fields of a document, those left out as in `known`; all but its name and its content may be left out."""
    if not isinstance(document, dict) or document.get("kind") != kind:
        found = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"Not a document of kind {kind!r}: {found!r}.")
    content = "sub_policies" if kind == POLICY_KIND else "segments"
    missing = sorted({"name", content} - set(document))
    unknown = sorted(set(document) - set(known) - {"kind"})
    if missing or unknown:
        raise ValueError(f"A {kind!r} lacks {missing} or has unknown fields {unknown}; known: {sorted(known)}.")
    return {**known, **document}


def _step(values: Any) -> Step:
    """The step of [op, probability, magnitude]; the letters of a text or the keys of an object would make one too."""
    if not isinstance(values, list | tuple) or not values:
        raise TypeError(f"{values!r} is no [op, probability, magnitude]")
    return Step(*values)


def _save(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _folder() -> Any:
    return resources.files("tfpipe") / "policies"


def _published(kind: str) -> tuple[str, ...]:
    files: Iterable[Any] = (file for file in _folder().iterdir() if file.name.endswith(".json"))
    # The kind is in the first hundred characters; parsing all of them would cost milliseconds.
    return tuple(sorted(f.name.removesuffix(".json") for f in files if kind in f.read_text(encoding="utf-8")[:100]))


def _load(name_or_path: str | os.PathLike[str], what: str, names: tuple[str, ...]) -> Any:
    if isinstance(name_or_path, str) and name_or_path in names:
        text = (_folder() / f"{name_or_path}.json").read_text(encoding="utf-8")
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"Unknown {what} {os.fspath(name_or_path)!r}: no such file, and the published ones are {list(names)}."
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name_or_path} is not JSON: {error}.") from error
