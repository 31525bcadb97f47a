"""Trains a small network on raw shards: files as they were, decoded, resized and augmented while it trains.

tfpipe convert --input photos --output photos_tfrecord
python examples/train_raw.py photos_tfrecord --image_size 128 --epochs 10
"""

import argparse

import keras

import tfpipe
from tfpipe import augment


def small_network(size: int, num_classes: int) -> keras.Model:
    """Three convolutions; images of levels from 0 to 255."""
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    size, batch_size = arguments.image_size, arguments.batch_size

    keras.utils.set_random_seed(0)
    manifest = tfpipe.load_manifest(arguments.dataset)
    transforms = [augment.flip_left_right(), augment.trivial_augment_wide()]
    train = tfpipe.make_dataset(manifest, batch_size=batch_size, image_size=size, transforms=transforms)
    validation = tfpipe.make_dataset(manifest, "validation", batch_size=batch_size, image_size=size)
    model = small_network(size, len(manifest.class_names))
    model.compile(keras.optimizers.Adam(0.003), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=arguments.epochs, shuffle=False, verbose=2)
    if "test" in manifest.splits:
        test = tfpipe.make_dataset(manifest, "test", batch_size=batch_size, image_size=size)
        print(f"test accuracy {model.evaluate(test, verbose=0, return_dict=True)['accuracy']:.3f}")


if __name__ == "__main__":
    main()
