"""How a transform turns a seed into choices, and what every transform is.

    transform = rand_augment(2, 9)
    batch = transform({"image": images, "label": labels}, seed)

An `OpTransform` draws a table of choices and has `apply_to_batch` carry it out; conditional transforms combine the
tables of their parts. A `BatchTransform` works on the batch itself: it changes the size or mixes images. Both are
frozen dataclasses that know the call that made them, so that a layer can write them down and make them again.

Seeds flow one way: a transform gets int32 [2] (any values, negative ones too; of wider integers the low 32 bits
count), gives each of its parts one of `split_seed`, and draws its own streams (op, magnitude, sign, apply, noise) from
`draw_uniforms`. What image b draws depends on the seed and b alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ParamSpec, TypeVar

import tensorflow as tf

from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.forms.apply import (
    Fill,
    apply_choices,
    apply_to_batch,
    check_images,
    check_mask_fill,
    check_rendering,
)
from tfpipe.augment.forms.transparency import apply_transparent
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.policy import VERSION, is_integer, is_number

Batch = dict[str, tf.Tensor]
Arguments = ParamSpec("Arguments")
# Arguments that came later, with what documents mean that do not have them: of all transforms, and of single ones.
_ADDED: dict[str, Any] = {"mask_fill": 0, "version": 1}
_ADDED_TO: dict[str, dict[str, Any]] = {
    "cutmix": {"rounding": "nearest"},
    "deep_augment": {"fill": 128, "interpolation": "nearest"},
    "mixup": {"mask_classes": None},
    "pba": {"recipe": False},
}
Made = TypeVar("Made", bound="OpTransform | BatchTransform")


@dataclass(frozen=True)
class Rendering:
    """How pixels are treated; it does not change what is drawn.

    Attributes:
      fill: what comes in from outside the image: one value, one per channel, or None for the edge repeated.
      interpolation: "nearest" or "bilinear".
      form: "loop", "dense" or "auto".
      check_values: assert inside graphs, too, that float images are in [0, 1]; it costs a pass over them.
      mask_fill: what comes into masks from outside, in their own unit; such as 255 where a loss ignores that.
      transparent: what an op uncovers stays transparent black to the end, and is filled then (forms/transparency.py).
    """

    fill: Fill = 128
    interpolation: str = "nearest"
    form: str = "auto"
    check_values: bool = False
    mask_fill: int = 0
    transparent: bool = False

    def __post_init__(self) -> None:
        check_mask_fill(self.mask_fill)
        if isinstance(self.fill, list):
            object.__setattr__(self, "fill", tuple(self.fill))
        values = self.fill if isinstance(self.fill, tuple) else (self.fill,)
        if self.fill is not None and not all(is_number(value, least=0, most=255, kinds=Real) for value in values):
            raise ValueError(f"fill is {self.fill!r}; it takes 0 to 255, one such value per channel, or None.")
        check_rendering(self.interpolation, self.form)


@dataclass(frozen=True)
class OpTransform:
    """A transform made of ops: it draws choices, and applies them.

    Attributes:
      ops: what the choices point to; the first is the identity.
      num_stages: of the choices.
      choose: the draw: (seed int32 [2], shape of the batch) -> Choices.
      rendering: how pixels are treated; None where no op of it depends on that.
      factory: the function of tfpipe.augment that made it; see record_call.
      arguments: what that function was given.
    """

    ops: tuple[Op, ...] = field(repr=False, compare=False)
    num_stages: int = field(repr=False, compare=False)
    choose: Callable[[tf.Tensor, BatchShape], Choices] = field(repr=False, compare=False)
    rendering: Rendering | None = field(default=None, repr=False, compare=False)
    factory: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", _frozen(self.arguments))

    def draw(self, seed: Any, batch_size: int | tf.Tensor, height: int, width: int) -> Choices:
        """The choices for a batch of this size: a pure function of the arguments."""
        return self.choose(_seed(seed), BatchShape(batch_size, height, width))

    def __call__(self, batch: Batch, seed: Any) -> Batch:
        how = self.rendering or Rendering()
        shape = batch_shape(batch, check_values=how.check_values)
        if len(self.ops) == 1 or self.num_stages == 0:
            return batch
        choices = self.choose(_seed(seed), shape)
        return apply_to_batch(
            batch,
            choices,
            self.ops,
            fill=how.fill,
            interpolation=how.interpolation,
            form=how.form,
            mask_fill=how.mask_fill,
            render=apply_transparent if how.transparent else apply_choices,
        )


@dataclass(frozen=True)
class BatchTransform:
    """A transform that works on the batch as a whole: it changes its size, mixes its images, or both.

    Attributes:
      change: (batch, seed int32 [2], shape of the batch) -> batch.
      factory: the function of tfpipe.augment that made it; see record_call.
      arguments: what that function was given.
    """

    change: Callable[[Batch, tf.Tensor, BatchShape], Batch] = field(repr=False, compare=False)
    factory: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", _frozen(self.arguments))

    def __call__(self, batch: Batch, seed: Any) -> Batch:
        shape = batch_shape(batch)
        tensors = {name: value if tf.is_tensor(value) else tf.convert_to_tensor(value) for name, value in batch.items()}
        return self.change(tensors, _seed(seed), shape)


Transform = OpTransform | BatchTransform


def record_call(factory: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """A factory whose transforms know the call that made them, as saving.py writes it.

    All arguments are recorded, defaults too, but for those that came later and mean what documents without them mean
    (`added_arguments`), which older versions do not read; where the factory puts one into the transform itself (a
    policy that it loaded), that one counts.
    """
    signature = inspect.signature(factory)
    later = added_arguments(factory)

    @functools.wraps(factory)
    def make(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        transform = factory(*args, **kwargs)
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        arguments = {
            name: value for name, value in given.arguments.items() if name not in later or value != later[name]
        }
        return replace(transform, factory=factory.__name__, arguments={**arguments, **transform.arguments})

    return make


def added_arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a factory that came later, with what a document means that does not have them."""
    later = {**_ADDED, **_ADDED_TO.get(factory.__name__, {})}
    return {name: later[name] for name in inspect.signature(factory).parameters if name in later}


def check_version(version: Any) -> None:
    """Raises a ValueError where there is no such version of what published names mean."""
    if not is_integer(version, 1, most=VERSION):
        raise ValueError(f"version is {version!r}; it takes an integer from 1 to {VERSION}.")


def _frozen(value: Any) -> Any:
    """The value with tuples for lists, so that what was read from JSON equals what was written."""
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return tuple(_frozen(part) for part in value) if isinstance(value, list | tuple) else value


def batch_shape(batch: Mapping[str, tf.Tensor], *, check_values: bool = False) -> BatchShape:
    """The sizes of a batch.

    Raises:
      ValueError: there is no image, or it is not what transforms take (see apply.py).
    """
    if not isinstance(batch, Mapping) or "image" not in batch:
        found = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(f"A transform takes a dict with 'image'; it got {found}.")
    if isinstance(batch["image"], tf.RaggedTensor):
        raise ValueError("The images of a batch have one size; this batch is ragged: resize or crop its images first.")
    image = tf.convert_to_tensor(batch["image"])
    check_images(image, check_values=check_values)
    batch_size, height, width, _ = image.shape
    return BatchShape(tf.shape(image)[0] if batch_size is None else batch_size, height, width, batch)


def _seed(seed: Any) -> tf.Tensor:
    seed = tf.convert_to_tensor(seed)
    if seed.dtype != tf.int32:
        seed = tf.cast(seed, tf.int32)
    if seed.shape.rank is not None and seed.shape != (2,):
        raise ValueError(f"seed has the shape {seed.shape}; it must be int32 [2].")
    return seed
