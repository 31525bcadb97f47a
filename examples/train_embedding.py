"""Trains a linear head on the vectors of a frozen backbone, which the conversion has computed once.

python examples/train_embedding.py photos                       # a backbone with random weights: no download
python examples/train_embedding.py photos --model MobileNetV2   # Keras fetches its weights, unless it has them
"""

import argparse
import subprocess
import sys
from pathlib import Path

import keras

import tfpipe


def random_backbone(path: Path) -> str:
    """Saves a small network with random weights, which takes pixels in [0, 1]."""
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            keras.layers.Conv2D(64, 5, strides=4, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    backbone.save(path)
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="what tfpipe convert takes")
    parser.add_argument("--model", help="a SavedModel, .keras file, keras.applications name or TF-Hub handle")
    parser.add_argument("--output", default="vectors")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()

    options = ["--model", arguments.model] if arguments.model else []
    if not options:
        options = ["--model", random_backbone(Path("backbone.keras")), "--model_range", "0,1"]
    command = [
        "convert",
        "--input",
        arguments.input,
        "--output",
        arguments.output,
        "--payload",
        "embedding",
        "--resume",
    ]
    subprocess.run([sys.executable, "-m", "tfpipe", *command, *options], check=True)

    manifest = tfpipe.load_manifest(arguments.output)
    train = tfpipe.make_dataset(manifest, batch_size=16)
    validation = tfpipe.make_dataset(manifest, "validation", batch_size=16)
    head = keras.Sequential(
        [
            keras.Input(train.element_spec[0].shape[1:]),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(len(manifest.class_names), activation="softmax"),
        ]
    )
    head.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    head.fit(train, validation_data=validation, epochs=arguments.epochs, shuffle=False, verbose=2)


if __name__ == "__main__":
    main()
