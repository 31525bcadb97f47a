"""Trains on Keras's JAX backend: tfpipe reads, and augments inside the model, as a part of JAX's program. Takes jax.

python examples/jax_backend.py photos_tfrecord
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import keras

import tfpipe
from tfpipe import layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    size = arguments.image_size

    keras.utils.set_random_seed(0)
    manifest = tfpipe.load_manifest(arguments.dataset)
    train = tfpipe.make_dataset(manifest, batch_size=16, image_size=size)
    validation = tfpipe.make_dataset(manifest, "validation", batch_size=16, image_size=size)
    model = keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.TrivialAugmentWide(),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(manifest.class_names), activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=arguments.epochs, shuffle=False, verbose=2)
    print("backend:", keras.backend.backend())


if __name__ == "__main__":
    main()
