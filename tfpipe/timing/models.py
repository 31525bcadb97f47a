"""The models that a benchmark trains: one linear layer, a small net of convolutions, or one of keras.applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfpipe.errors import UsageError

# The activation of the last layer and the loss for each kind of label.
_HEADS = {
    "class": ("softmax", "categorical_crossentropy"),
    "multi": ("sigmoid", "binary_crossentropy"),
    "number": (None, "mean_squared_error"),
    "vector": (None, "mean_squared_error"),
}


def build_model(name: str, batches: tf.data.Dataset, label_kind: str) -> Any:
    """A compiled Keras model with random weights, for batches of (images, labels).

    Args:
      name: "linear", the book's: one layer on all pixels, or on the embedding; "small": three convolutions that a GPU
        runs through at 14,000 images of 224 x 224 per second; or a name of keras.applications.
      batches: any dataset of the images and labels.
      label_kind: "class", "multi", "number" or "vector"; see Schema.label_kind.

    Raises:
      UsageError: there is no such model, or it does not take these images.
    """
    import keras

    images, labels = batches.element_spec
    inputs = keras.Input(images.shape[1:], dtype=images.dtype.name)
    values = keras.layers.Rescaling(1 / 255)(inputs) if images.dtype == tf.uint8 else inputs
    body = _BODIES.get(name) or _application(name)
    if name != "linear" and len(images.shape) != 4:
        raise UsageError(f"--fit {name} takes images; the batches hold {images.shape[1:]}. Take --fit linear.")
    # What Keras raises for a size that a model does not take is of several classes.
    try:
        features = body(values)
    except Exception as error:
        shape = " x ".join(str(side) for side in images.shape[1:])
        raise UsageError(f"--fit {name} does not take images of {shape}: {error}") from error
    activation, loss = _HEADS[label_kind]
    units = labels.shape[1] if len(labels.shape) > 1 else 1
    # In float32 under a policy of mixed precision, too.
    outputs = keras.layers.Dense(units, activation=activation, dtype="float32")(features)
    model = keras.Model(inputs, outputs)
    model.compile("adam", loss, metrics=["accuracy"] if label_kind == "class" else None)
    return model


def _linear(values: Any) -> Any:
    import keras

    return keras.layers.Flatten()(values)


def _small(values: Any) -> Any:
    import keras

    for width, kernel, stride in ((32, 7, 4), (64, 3, 2), (128, 3, 2)):
        values = keras.layers.Conv2D(width, kernel, stride, padding="same", activation="relu")(values)
    return keras.layers.GlobalAveragePooling2D()(values)


_BODIES: dict[str, Callable[[Any], Any]] = {"linear": _linear, "small": _small}


def _application(name: str) -> Callable[[Any], Any]:
    import keras

    known = sorted(name for name in dir(keras.applications) if name[0].isupper())
    if name not in known:
        raise UsageError(f"--fit {name!r} is no model; it takes one of {[*_BODIES, *known]}.")
    build = getattr(keras.applications, name)
    # Without its top, which takes one size of images only; without weights, which would be downloaded.
    return lambda values: build(include_top=False, weights=None, pooling="avg", input_shape=values.shape[1:])(values)
