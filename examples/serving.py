"""A trained model that takes image files: one SavedModel, from bytes to classes.

    tfpipe convert --input photos --output photos_tfrecord
    python examples/serving.py photos_tfrecord served holiday.jpg

The preparation of the training data is part of it, so whoever serves it needs TensorFlow and nothing of ours.
"""

from __future__ import annotations

import sys

import keras
import tensorflow as tf

import tfpipe
from tfpipe import layers

SIZE = (64, 64)


def train(dataset: str) -> keras.Model:
    """A small model of the dataset's classes, after one epoch."""
    manifest = tfpipe.load_manifest(dataset)
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(manifest.class_names), activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy")
    model.fit(tfpipe.make_dataset(manifest, batch_size=8, image_size=SIZE), shuffle=False, verbose=2)
    return model


def export(model: keras.Model, dataset: str, output: str) -> None:
    """Writes the model behind the preparation of its training data, as a SavedModel."""
    files = keras.Input((), dtype="string", name="image_bytes")
    images = layers.Preprocess(dataset, image_size=SIZE)(files)
    keras.Model(files, {"scores": model(images)}).export(output, verbose=False)


def main(dataset: str, output: str, image: str) -> str:
    """Trains, exports, and asks the SavedModel for the class of a file."""
    export(train(dataset), dataset, output)
    served = tf.saved_model.load(output).signatures["serving_default"]
    scores = served(tf.stack([tf.io.read_file(image)]))["scores"][0]
    name = tfpipe.load_manifest(dataset).class_names[int(tf.argmax(scores))]
    print(f"{image}: {name}")
    return name


if __name__ == "__main__":
    main(*sys.argv[1:])
