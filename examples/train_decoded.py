"""Trains on decoded shards: pixels of one size, floats in [0, 1], normalised by the manifest's own mean and deviation.

    tfpipe convert --input photos --output pixels --payload decoded --image_size 64
    python examples/train_decoded.py pixels

Nothing is decoded or resized while it trains; the shards are several times larger than the files.
"""

import argparse

import keras

import tfpipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    manifest = tfpipe.load_manifest(arguments.dataset)
    train = tfpipe.make_dataset(manifest, batch_size=arguments.batch_size)  # no image_size: all have one
    validation = tfpipe.make_dataset(manifest, "validation", batch_size=arguments.batch_size)
    model = keras.Sequential(
        [
            keras.Input(train.element_spec[0].shape[1:]),
            keras.layers.Normalization(mean=manifest.mean, variance=[std**2 for std in manifest.std]),
            keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(manifest.class_names), activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=arguments.epochs, shuffle=False, verbose=2)


if __name__ == "__main__":
    main()
