"""Fine-tunes a network of keras.applications with RandAugment and mixup: first the head alone, then all layers.

python examples/fine_tune.py photos_tfrecord --weights imagenet --image_size 224   # Keras fetches the weights
python examples/fine_tune.py photos_tfrecord                                       # random weights: no download
"""

import argparse

import keras

import tfpipe
from tfpipe import augment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--weights", choices=["imagenet"], help="default: random")
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1, help="of each of the two parts")
    arguments = parser.parse_args()
    size, batch_size = arguments.image_size, arguments.batch_size

    keras.utils.set_random_seed(0)
    manifest = tfpipe.load_manifest(arguments.dataset)
    transforms = [augment.flip_left_right(), augment.rand_augment(2, 9), augment.mixup(0.2)]
    crop = tfpipe.RandomResizedCrop(area=(0.5, 1.0))  # decodes only the window; in evaluation a crop of the middle
    train = tfpipe.make_dataset(manifest, batch_size=batch_size, image_size=size, resize=crop, transforms=transforms)
    validation = tfpipe.make_dataset(manifest, "validation", batch_size=batch_size, image_size=size, resize="crop")

    shape = (size, size, 3)
    backbone = keras.applications.MobileNetV2(shape, alpha=0.35, include_top=False, weights=arguments.weights)
    inputs = keras.Input(shape)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    features = keras.layers.GlobalAveragePooling2D()(backbone(scaled, training=False))
    outputs = keras.layers.Dense(len(manifest.class_names), activation="softmax")(keras.layers.Dropout(0.2)(features))
    model = keras.Model(inputs, outputs)

    # Labels of mixup are mixed one-hot rows: the loss is categorical, and smooths them a little more.
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    for trainable, rate in ((False, 1e-3), (True, 1e-5)):
        backbone.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(train, validation_data=validation, epochs=arguments.epochs, shuffle=False, verbose=2)


if __name__ == "__main__":
    main()
