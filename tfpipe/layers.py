"""Keras 3 layers over tfpipe.augment: inside a model on its device, or in Dataset.map.

    model = keras.Sequential([layers.RandAugment(2, 9), layers.Augment([augment.cutout(16)]), backbone])
    train = train.map(layers.Augment([augment.mixup(0.2)]))          # of (images, labels) or {"image", "label"}

A layer augments in training and passes everything through otherwise. Each call takes the next seed of a counter, which
is saved with the model, so that a resumed training goes on where it stopped. Inside Dataset.map with parallel calls
each batch gets a seed of its own, but which one depends on the order of the calls; where every run is to see the same
pixels, give the transforms to tfpipe.make_dataset.

On the JAX backend they work inside a model, too: what TensorFlow lowers is part of JAX's program. On others they work
in the input pipeline, since their kernels are TensorFlow's.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfpipe.augment.draw.streams import split_seed
from tfpipe.augment.in_jax import call_in_jax
from tfpipe.augment.mixing import cutmix, mixup
from tfpipe.augment.mosaics import mosaic
from tfpipe.augment.ops.op import Op
from tfpipe.augment.pasting import copy_paste
from tfpipe.augment.policies import auto_augment, policy, rand_augment, trivial_augment_wide
from tfpipe.augment.saving import from_json, named_ops, to_json
from tfpipe.augment.schedules import pba
from tfpipe.augment.transform import Transform
from tfpipe.policy import is_integer
from tfpipe.reader.targets import TARGETS, pad_targets
from tfpipe.regions.layers import BoxIoU as BoxIoU
from tfpipe.regions.layers import CropAndResize as CropAndResize
from tfpipe.regions.layers import NonMaxSuppression as NonMaxSuppression
from tfpipe.regions.layers import RoIAlign as RoIAlign
from tfpipe.regions.layers import SoftNonMaxSuppression as SoftNonMaxSuppression
from tfpipe.regions.layers import Warp as Warp
from tfpipe.serving.layers import Preprocess as Preprocess
from tfpipe.tf_internals import read_and_skip

_PACKAGE = "tfpipe"
# A step of the counter: RngReadAndSkip moves the state on by 256 for each number that it is told to skip.
_STRIDE = 256
# What Keras's own layers call the parts of a dict.
_KERAS_NAMES = {"images": "image", "labels": "label"}
# What the layer itself adds to a batch.
_ADDED = ("epoch",)


@keras.saving.register_keras_serializable(_PACKAGE)
class Augment(keras.layers.Layer):
    """Applies transforms to the batches that pass through in training.

    Takes images [B, H, W, C] (uint8, or floats in [0, 1]), a pair (images, labels), or a dict with "image" (or Keras's
    "images") and what else the transforms take; returns the same structure and dtypes, under mixed precision too, and
    in a dict what transforms add, such as box_weights. The labels may be masks [B, H, W, 1], or a dict of "boxes",
    "labels" and "num_boxes", with keypoints and polygons, as make_dataset gives them; it comes out as long as
    transforms make it, four times as long by a mosaic, with what there is in front. Boxes may be ragged; images may
    not: all of a batch have one size.

    Args:
      transforms: of tfpipe.augment, applied in order.
      seed: of the layer's stream, any integer, of which the low 32 bits count; None draws one.
      steps_per_epoch: batch["epoch"], which schedules read, is the number of calls divided by this; None: no epoch.
      name: of the layer.
      dtype: Keras's policy; it changes nothing here.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        seed: int | None = None,
        steps_per_epoch: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype, autocast=False)
        if (
            isinstance(transforms, str)
            or not isinstance(transforms, Sequence)
            or not transforms
            or not all(callable(transform) for transform in transforms)
        ):
            raise ValueError(f"transforms is {transforms!r}; it takes a list of at least one transform.")
        if steps_per_epoch is not None and not is_integer(steps_per_epoch, 1):
            raise ValueError(f"steps_per_epoch is {steps_per_epoch!r}; it must be an integer of at least 1.")
        self.transforms = list(transforms)
        self.seed = secrets.randbits(31) if seed is None else int(seed)
        self.steps_per_epoch = steps_per_epoch
        with tf.init_scope():
            # Three words as RngReadAndSkip wants them: it reads and counts on in one step, which parallel calls of
            # Dataset.map need, and it compiles. A Keras variable would be another backend's array.
            self._calls = tf.Variable(np.zeros(3, np.int64), trainable=False, name="calls")
        # The calls inside a model of JAX, whose state is Keras's variables.
        self._calls_in_jax = None
        if keras.backend.backend() == "jax":
            self._calls_in_jax = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)
        self.built = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras's call; past it where TensorFlow's tensors come to another backend, in the input pipeline."""
        pair = (inputs, *args) if args and tf.is_tensor(inputs) else inputs
        if keras.backend.backend() != "tensorflow" and any(map(tf.is_tensor, tf.nest.flatten(pair))):
            return self.call(pair, **kwargs)
        return super().__call__(pair, **kwargs)

    def call(self, inputs: Any, training: bool = True) -> Any:
        """The inputs augmented, or as they are where training is False."""
        if not training:
            return inputs
        if keras.backend.backend() != "tensorflow" and not all(map(_is_tensorflow, tf.nest.flatten(inputs))):
            return self._call_elsewhere(inputs)
        return self._transform(inputs, read_and_skip(self._calls, 1) // _STRIDE)

    def _call_elsewhere(self, inputs: Any) -> Any:
        """As call, for another backend's arrays."""
        if self._calls_in_jax is None:
            raise ValueError(
                f"{self.name} augments TensorFlow tensors, and the backend is {keras.backend.backend()}: use it in the "
                "input pipeline (Dataset.map, or make_dataset(transforms=...)), not inside the model."
            )
        number = self._calls_in_jax.value
        self._calls_in_jax.assign(number + 1)
        return call_in_jax(lambda given, calls: self._transform(given, tf.cast(calls, tf.int64)), inputs, number)

    def _transform(self, inputs: Any, number: tf.Tensor) -> Any:
        """The inputs after the transforms, in the call of a number, int64."""
        batch, restore = _as_batch(inputs)
        seed = tf.stack([tf.constant(self.seed, tf.int32), tf.cast(number, tf.int32)])
        if self.steps_per_epoch is not None:
            batch["epoch"] = number // self.steps_per_epoch
        for transform, own in zip(self.transforms, split_seed(seed, len(self.transforms)), strict=True):
            batch = transform(batch, own)
        return restore(batch)

    def compute_output_spec(self, inputs: Any, training: bool = True) -> Any:
        """The shapes and dtypes after the transforms, traced by TensorFlow on every backend."""
        if not training:
            return inputs
        specs = tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape, keras.backend.standardize_dtype(x.dtype)), inputs
        )
        traced = tf.function(lambda given: self._trace(given), autograph=False).get_concrete_function(specs)
        return tf.nest.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype.name), traced.structured_outputs)

    def _trace(self, inputs: Any) -> Any:
        batch, restore = _as_batch(inputs)
        if self.steps_per_epoch is not None:
            batch["epoch"] = tf.constant(0, tf.int64)
        for transform in self.transforms:
            batch = transform(batch, tf.constant([0, 0]))
        return restore(batch)

    def get_config(self) -> dict[str, Any]:
        """The layer as plain values; a user's op is written by its name, and found in Keras's custom objects."""
        return self._own_config() | {"transforms": [to_json(transform) for transform in self.transforms]}

    def _own_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("trainable", None)
        return config | {"seed": self.seed, "steps_per_epoch": self.steps_per_epoch}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augment:
        """The layer that `get_config` wrote."""
        config = dict(config)
        documents = config.pop("transforms")
        found = {name: keras.saving.get_registered_object(name) for name in named_ops(documents)}
        known = {name: op for name, op in found.items() if isinstance(op, Op)}
        transforms = [from_json(document, ops=known) for document in documents]
        return cls._of(transforms, config)

    @classmethod
    def _of(cls, transforms: list[Transform], config: dict[str, Any]) -> Augment:
        dtype = config.pop("dtype", None)
        if isinstance(dtype, dict):
            dtype = keras.dtype_policies.deserialize(dtype)
        layer = cls.__new__(cls)
        Augment.__init__(layer, transforms, dtype=dtype, **config)
        return layer

    def save_own_variables(self, store: Any) -> None:
        """Keeps how many calls there were."""
        calls = self._calls.numpy()
        if self._calls_in_jax is not None:
            calls[0] = max(calls[0], int(self._calls_in_jax.value) * _STRIDE)
        store["calls"] = calls

    def load_own_variables(self, store: Any) -> None:
        """Goes on counting where the saved layer stopped."""
        calls = np.asarray(store["calls"], np.int64)
        self._calls.assign(calls)
        if self._calls_in_jax is not None:
            self._calls_in_jax.assign(int(calls[0]) // _STRIDE)


def _is_tensorflow(value: Any) -> bool:
    return tf.is_tensor(value) or isinstance(value, np.ndarray)


def _as_batch(inputs: Any) -> tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]:
    """The inputs as a dict with "image", and what gives them their structure back."""
    if isinstance(inputs, Mapping):
        names: dict[Any, Any] = {_KERAS_NAMES.get(name, name): name for name in inputs}
        batch = {new: inputs[name] for new, name in names.items()}
        return batch, lambda done: {
            names.get(new, new): value for new, value in done.items() if new in names or new not in _ADDED
        }
    if isinstance(inputs, list | tuple):
        if len(inputs) != 2:
            raise ValueError(f"The layer takes images, (images, labels) or a dict; it got {len(inputs)} inputs.")
        if isinstance(inputs[1], Mapping):
            return {"image": inputs[0], **_as_boxes(inputs[1])}, lambda done: (done["image"], _as_targets(done))
        name = "mask" if len(inputs[1].shape) == 4 else "label"
        return {"image": inputs[0], name: inputs[1]}, lambda done: (done["image"], done[name])
    return {"image": inputs}, lambda done: done["image"]


def _as_boxes(targets: Mapping[str, Any]) -> dict[str, Any]:
    """The features that transforms take, of a dict as make_dataset(labels="boxes") gives it."""
    unknown = sorted(set(targets) - {*TARGETS, "num_boxes"})
    if unknown or not {"boxes", "labels"} <= set(targets):
        raise ValueError(f"The labels are a dict of boxes, labels and num_boxes; got {sorted(targets)}.")
    return {TARGETS[name]: value for name, value in targets.items() if name != "num_boxes"}


def _as_targets(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Such a dict of a batch after its transforms."""
    most = batch["boxes"].shape[1]
    if most is None:
        raise ValueError("The boxes of a pair (images, labels) are [B, N, 4] with a static N; a dict may be ragged.")
    return pad_targets(batch, most)[0]


class _FactoryLayer(Augment):
    """A layer over one function of tfpipe.augment: it takes that function's arguments and its own of Augment."""

    _factory: ClassVar[Callable[..., Transform]]
    _own: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, *, factory: Callable[..., Transform] | None = None, own: tuple[str, ...] = ()) -> None:
        super().__init_subclass__()
        if factory is None:
            # A user's subclass: it keeps the function, and its own __init__ says what it takes.
            cls.__signature__ = None if "__init__" in vars(cls) else cls.__signature__
            return
        cls._factory, cls._own = staticmethod(factory), (*own, "seed", "name", "dtype")
        augment = inspect.signature(Augment).parameters
        # What help() and editors show.
        parameters = [*inspect.signature(factory).parameters.values(), *(augment[name] for name in cls._own)]
        cls.__signature__ = inspect.Signature(parameters)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in self._own if name in kwargs}
        super().__init__([self._factory(*args, **kwargs)], **own)


@keras.saving.register_keras_serializable(_PACKAGE)
class RandAugment(_FactoryLayer, factory=rand_augment):
    """augment.rand_augment as a layer; the arguments are its own, and seed, name and dtype of Augment."""


@keras.saving.register_keras_serializable(_PACKAGE)
class TrivialAugmentWide(_FactoryLayer, factory=trivial_augment_wide):
    """augment.trivial_augment_wide as a layer; the arguments are its own, and seed, name and dtype of Augment."""


@keras.saving.register_keras_serializable(_PACKAGE)
class AutoAugment(_FactoryLayer, factory=auto_augment):
    """augment.auto_augment as a layer; the arguments are its own, and seed, name and dtype of Augment."""


@keras.saving.register_keras_serializable(_PACKAGE)
class PolicyAugment(_FactoryLayer, factory=policy):
    """augment.policy as a layer; the arguments are its own, and seed, name and dtype of Augment."""


@keras.saving.register_keras_serializable(_PACKAGE)
class PBA(_FactoryLayer, factory=pba, own=("steps_per_epoch",)):
    """augment.pba as a layer; the arguments are its own, and those of Augment.

    Without epoch and flatten, steps_per_epoch says how many calls make an epoch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = self.transforms[0].arguments
        if self.steps_per_epoch is None and given["epoch"] is None and not given["flatten"]:
            raise ValueError("PBA depends on the epoch: give steps_per_epoch, epoch or flatten=True.")


@keras.saving.register_keras_serializable(_PACKAGE)
class MixUp(_FactoryLayer, factory=mixup):
    """augment.mixup as a layer of (images, labels) or a dict; its arguments, and seed, name and dtype of Augment."""


@keras.saving.register_keras_serializable(_PACKAGE)
class CutMix(_FactoryLayer, factory=cutmix):
    """augment.cutmix as a layer of (images, labels) or a dict; its arguments, and seed, name and dtype of Augment."""


@keras.saving.register_keras_serializable(_PACKAGE)
class Mosaic(_FactoryLayer, factory=mosaic):
    """augment.mosaic as a layer of (images, masks or boxes) or a dict; its arguments, and seed, name and dtype."""


@keras.saving.register_keras_serializable(_PACKAGE)
class CopyPaste(_FactoryLayer, factory=copy_paste):
    """augment.copy_paste as a layer of (images, masks or boxes) or a dict; its arguments, and seed, name and dtype."""
