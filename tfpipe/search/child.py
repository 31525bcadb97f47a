"""The child: a small model, trained from scratch under one policy after another by one compiled step.

What a policy does to every image of a training is drawn first, by the transform itself (augment's Choices), and handed
to the step as tensors. So the child sees what the same transform gives in production, and another policy is another
operand: the step is traced and compiled once, whatever is searched. This is the only module of the search that knows
TensorFlow.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.forms.apply import apply_choices
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.transform import OpTransform
from tfpipe.errors import UsageError
from tfpipe.policy import Policy, Schedule
from tfpipe.search.settings import Builder, Data, OutOfTime, Training
from tfpipe.search.space import Slots, Space

# What a child is trained under: nothing, a policy, a schedule, or any transform made of ops.
Augmentation = Policy | Schedule | OpTransform | None
_LEARNING_RATE, _LAST_RATE = 2e-3, 0.02
_EVALUATED = 500


def small(shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The default child: convolutions of 16, 32, ... channels down to 7 pixels or fewer, and one hidden layer."""
    layers = keras.layers
    image = values = keras.Input(shape)
    width, side, kernel = 16, max(shape[:2]), 5
    while side > 7:
        values = layers.Conv2D(width, kernel, padding="same", activation="relu")(values)
        values = layers.MaxPooling2D(2, padding="same")(values)
        width, side, kernel = min(2 * width, 64), -(-side // 2), 3
    hidden = layers.Dense(64, activation="relu")(layers.Flatten()(values))
    return keras.Model(image, layers.Dense(num_classes)(hidden))


def deepaugment(shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """DeepAugment's child (its basiccnn): 1,250,858 parameters for 32 x 32 x 3 and 10 classes."""
    layers = keras.layers
    model = keras.Sequential([keras.Input(shape)])
    for width in (32, 64):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
        model.add(layers.Conv2D(width, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Dropout(0.6))
    model.add(layers.Flatten())
    model.add(layers.Dense(512, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(num_classes, activation="softmax"))
    model.compile(keras.optimizers.RMSprop(1e-3), "sparse_categorical_crossentropy")
    return model


CHILDREN: dict[str, Callable[[tuple[int, int, int], int], keras.Model]] = {"small": small, "deepaugment": deepaugment}


@dataclass(frozen=True)
class Outcome:
    """What a training of the child gave.

    Attributes:
      reward: the mean of the last accuracies.
      accuracies: on the validation images, after each part of the training that was evaluated.
      steps: that were trained.
      seconds, cpu_seconds: that it took.
      on_gpu: whether it ran on one.
      pruned: whether it was stopped as hopeless.
    """

    reward: float
    accuracies: tuple[float, ...]
    steps: int
    seconds: float
    cpu_seconds: float
    on_gpu: bool = False
    pruned: bool = False


class Child:
    """A model with its images in memory; see the module.

    Args:
      build: see Builder.
      train: the images to train on.
      ops: all that may be drawn; see ops_of.
      num_stages: the most ops of one image.
      training: how to train.
    """

    def __init__(self, build: Builder, train: Data, *, ops: Sequence[Op], num_stages: int, training: Training) -> None:
        if keras.backend.backend() != "tensorflow":
            raise UsageError(f"A search trains its children on TensorFlow; Keras has {keras.backend.backend()!r}.")
        self._build, self._training, self.shape = _builder(build), training, train.images.shape[1:]
        self._classes = train.num_classes
        self.ops, self._num_stages = tuple(ops), max(num_stages, 1)
        self._images, self._labels = tf.constant(train.images), tf.constant(train.labels, tf.int32)
        self.model = self._fresh(0)
        if self.model.output_shape[-1] != self._classes:
            raise UsageError(f"The child has {self.model.output_shape[-1]} outputs; there are {self._classes} classes.")
        self._sparse = "sparse" in _loss_name(self.model.loss)
        self._first: dict[int, list[np.ndarray]] = {}
        size, stages = training.batch_size, self._num_stages
        specs = [
            tf.TensorSpec([None, size], tf.int32),
            tf.TensorSpec([None, size, stages], tf.int32),
            tf.TensorSpec([None, size, stages, 4], tf.float32),
            tf.TensorSpec([None, size, stages, 2], tf.int32),
        ]
        self._run = tf.function(self._steps, input_signature=specs, autograph=False)
        images = tf.TensorSpec([None, *self.shape], tf.uint8)
        self._classify = tf.function(self._predicted, input_signature=[images], autograph=False)

    @property
    def num_traces(self) -> int:
        """How often the step was traced: once, after any number of policies."""
        return int(self._run.experimental_get_tracing_count())

    def compile(self) -> None:
        """Compiles everything, by a step and an evaluation whose outcome the next reset undoes."""
        self.train(None, 1, np.random.default_rng(0))
        self.correct(Data(np.zeros([1, *self.shape], np.uint8), np.zeros(1, np.int64), self._classes))

    def reset(self, seed: int) -> None:
        """Gives the model the weights that its builder draws from a seed, and its optimizer its beginning."""
        if seed not in self._first:
            if len(self._first) > 8:
                self._first.clear()
            fresh = self._fresh(seed)
            self._first[seed] = _values(fresh)
        self.restore(self._first[seed])

    def state(self) -> list[np.ndarray]:
        """The weights, the optimizer's and the random generators' variables."""
        return _values(self.model)

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Goes on from a state."""
        for variable, value in zip(_variables(self.model), state, strict=True):
            variable.assign(value)

    def train(self, transform: OpTransform | None, steps: int, generator: np.random.Generator) -> None:
        """Trains for some steps; the generator draws the order of the images and the seed of the transform."""
        size = self._training.batch_size
        count = len(self._labels)
        rounds = [generator.permutation(count) for _ in range(-(-steps * size // count))]
        order = np.concatenate(rounds)[: steps * size].reshape(steps, size).astype(np.int32)
        seed = generator.integers(-(2**31), 2**31, 2).astype(np.int32)
        self._run(tf.constant(order), *self.draw(transform, seed, steps))

    def accuracy(self, data: Data) -> float:
        """The share of images that are classified right."""
        return float(self.correct(data).mean())

    def correct(self, data: Data) -> np.ndarray:
        """Whether each image is classified right: bool [N]."""
        found = [
            self._classify(tf.constant(data.images[i : i + _EVALUATED])).numpy()
            for i in range(0, len(data.labels), _EVALUATED)
        ]
        return np.concatenate(found) == data.labels

    def save(self, path: Path) -> None:
        """Writes the model as .keras; it takes images as floats in [0, 1]."""
        self.model.save(path)

    def _fresh(self, seed: int) -> keras.Model:
        with _seeded(seed):
            model = self._build(self.shape, self._classes)
        if not getattr(model, "compiled", False):
            rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, self._training.steps, alpha=_LAST_RATE)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not _ends_in_softmax(model))
            model.compile(keras.optimizers.Adam(rate), loss)
        model.optimizer.build(model.trainable_variables)
        return model

    def draw(self, transform: OpTransform | None, seed: np.ndarray, steps: int) -> list[tf.Tensor]:
        """The choices of all steps: of [steps, B, S], in the numbering of `ops`."""
        size, stages = self._training.batch_size, self._num_stages
        if transform is None or not transform.num_stages:
            shape = [steps, size, stages]
            return [tf.zeros(shape, tf.int32), tf.zeros([*shape, 4]), tf.zeros([*shape, 2], tf.int32)]
        unknown = sorted({op.name for op in transform.ops} - {op.name for op in self.ops})
        if unknown or transform.num_stages > stages:
            raise UsageError(f"The child knows {stages} stages and not the ops {unknown}, which a transform draws.")
        choices = transform.draw(seed, steps * size, *self.shape[:2])
        number = np.array([self.ops.index(op) for op in transform.ops], np.int32)
        missing = [[0, 0], [0, stages - transform.num_stages]]
        padded = choices._replace(ops=tf.gather(number, choices.ops))
        padded = Choices(*(tf.pad(part, missing + [[0, 0]] * (len(part.shape) - 2)) for part in padded))
        return [tf.reshape(part, [steps, size, stages, *part.shape[2:]]) for part in padded]

    def _steps(self, order: tf.Tensor, ops: tf.Tensor, values: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        how = self._training

        def one(step: tf.Tensor) -> tf.Tensor:
            images = tf.gather(self._images, order[step])
            choices = Choices(ops[step], values[step], seeds[step])
            changed = apply_choices(
                images, choices, self.ops, fill=how.fill, interpolation=how.interpolation, form=how.form
            )
            self._learn(changed, tf.gather(self._labels, order[step]))
            return step + 1

        return tf.while_loop(lambda step: step < tf.shape(order)[0], one, [tf.constant(0)], parallel_iterations=1)[0]

    def _learn(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        model = self.model
        floats = tf.cast(images, tf.float32) / 255
        wanted = labels if self._sparse else tf.one_hot(labels, self._classes)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=floats, y=wanted, y_pred=model(floats, training=True), training=True)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        model.optimizer.apply(gradients, model.trainable_variables)

    def _predicted(self, images: tf.Tensor) -> tf.Tensor:
        return tf.argmax(self.model(tf.cast(images, tf.float32) / 255, training=False), axis=-1)


def ops_of(*augmentations: Augmentation | Space) -> tuple[tuple[Op, ...], int]:
    """All ops that some augmentations may draw, the identity first, and the most stages of one image."""
    transforms = [transform for given in augmentations for transform in _transforms(given)]
    found = dict.fromkeys([OPS["identity"], *(op for transform in transforms for op in transform.ops)])
    return tuple(found), max([transform.num_stages for transform in transforms], default=1)


def _transforms(given: Augmentation | Space) -> list[OpTransform]:
    if isinstance(given, Schedule):
        return [augment.policy(segment.policy) for segment in given.segments]
    if isinstance(given, OpTransform | Policy) or given is None:
        made = transform_of(given)
        return [] if made is None else [made]
    if isinstance(given, Slots):
        # As many stages as the longest sub-policy has; an op of DeepAugment's may take two.
        alone = [augment.policy(given.policy(given.alone(op, 0.5))) for op in given.screened]
        longest = max(alone, key=lambda made: made.num_stages, default=None)
        pairs = [(longest.arguments["source"].steps[0].op, 0.5)] * given.steps if longest else []
        full = [given.policy(tuple(value for pair in pairs * given.count for value in pair))] if pairs else []
        return [*alone, *map(augment.policy, full)]
    return [augment.policy(given.policy(given.idle))]


def transform_of(given: Policy | OpTransform | None) -> OpTransform | None:
    """An augmentation that does not depend on the epoch, as a transform."""
    return augment.policy(given) if isinstance(given, Policy) else given


def run_child(
    child: Child,
    given: Augmentation,
    validation: Data,
    training: Training,
    *,
    seed: int,
    draws: Sequence[int],
    deadline: float = float("inf"),
    on_epoch: Callable[[int, float], bool] | None = None,
) -> Outcome:
    """Trains the child from scratch and scores it.

    Args:
      child: it is reset.
      given: the augmentation.
      validation: `training.validation_images` of it are drawn.
      training: as the child's.
      seed: of the first weights.
      draws: seeds of all else: the order of the images, the augmentation, the validation images.
      deadline: in seconds of time.time().
      on_epoch: is told (epoch, accuracy) after each part; True ends the training as hopeless.

    Raises:
      OutOfTime: the deadline came before the end.
    """
    begin = time.perf_counter(), time.process_time()
    generator = np.random.default_rng(list(draws))
    count = min(training.validation_images, len(validation.labels))
    picked = validation.part(np.sort(generator.choice(len(validation.labels), count, replace=False)))
    by_epoch = _by_epoch(given, training.epochs)
    child.reset(seed)
    accuracies: list[float] = []
    pruned = False
    for epoch, transform in enumerate(by_epoch):
        if time.time() > deadline:
            raise OutOfTime
        child.train(transform, training.steps_of(epoch), generator)
        if on_epoch is not None or epoch >= training.epochs - training.last:
            accuracies.append(child.accuracy(picked))
            pruned = on_epoch is not None and on_epoch(epoch, accuracies[-1])
        if pruned:
            break
    return Outcome(
        float(np.mean(accuracies[-training.last :])),
        tuple(accuracies),
        sum(training.steps_of(e) for e in range(epoch + 1)),
        time.perf_counter() - begin[0],
        time.process_time() - begin[1],
        has_accelerator(),
        pruned,
    )


def _by_epoch(given: Augmentation, epochs: int) -> list[OpTransform | None]:
    if isinstance(given, Schedule):
        made = {policy.name: augment.policy(policy) for policy in set(given.policies)}
        # What the schedule has where a part begins. `stretched` leaves out segments that are shorter than a part, and
        # gives their time to the last one: of 200 epochs in 4 parts all would be the last.
        return [made[given.policies[part * given.num_epochs // epochs].name] for part in range(epochs)]
    return [transform_of(given)] * epochs


def has_accelerator() -> bool:
    """Whether children are trained on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def _builder(build: Builder) -> Callable[[tuple[int, int, int], int], Any]:
    if isinstance(build, str):
        if build not in CHILDREN:
            raise UsageError(f"Unknown child {build!r}; known: {sorted(CHILDREN)}, or a function that builds one.")
        return CHILDREN[build]
    if not callable(build):
        raise UsageError(f"child is {build!r}; it takes a name or a function of (image shape, number of classes).")
    return build


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras draws its initial weights from Python's generator; it gets its own state back."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in _variables(model)]


def _loss_name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return str(name).lower()


def _ends_in_softmax(model: keras.Model) -> bool:
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    return softmax or isinstance(last, keras.layers.Softmax)
