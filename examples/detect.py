"""A small detector: from a COCO file through `tfpipe convert` and make_dataset to fit, and to boxes by suppression.

    python examples/detect.py --work /tmp/detect                                # on generated shapes
    python examples/detect.py --work /tmp/detect --coco instances_train.json    # on your own annotations

Each cell of a grid of 8 x 8 pixels says which class has its middle near, and how far the four sides of its box are
(after Tian et al., "FCOS", 2019). It is as small as an example can be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from shapes import write_shapes

import tfpipe
from tfpipe import augment, layers, regions

STRIDE, MOST = 8, 20


def convert(listing: Path, output: Path) -> None:
    """Writes the records of a COCO file; a fifth of them is for validation."""
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(listing), "--output", str(output)]
    subprocess.run([*command, "--label_kind", "multi", "--split", "train=0.8,validation=0.2"], check=True)


def read(dataset: Path, split: str, size: int, transforms: Any = ()) -> tf.data.Dataset:
    """Batches (images, {"boxes", "labels", "num_boxes"})."""
    return tfpipe.make_dataset(
        dataset, split, batch_size=16, image_size=size, labels="boxes", max_boxes=MOST, transforms=transforms
    )


def cells(size: int) -> tf.Tensor:
    """The middles (x, y) of the cells of an image, float32 [cells, 2]."""
    side = (np.arange(size // STRIDE, dtype=np.float32) + 0.5) * STRIDE
    return tf.constant(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))


def assign(targets: dict[str, tf.Tensor], size: int, classes: int) -> tf.Tensor:
    """What the model should say: float32 [B, cells, classes + 4 + 1], the last whether there is a box."""
    middles, boxes = cells(size), targets["boxes"]
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    apart = tf.reduce_max(tf.abs(middles[:, None] - centres[:, None]), axis=-1)  # [B, cells, N]
    is_near = (apart < STRIDE) & (targets["labels"][:, None] >= 0)
    chosen = tf.argmin(tf.where(is_near, apart, np.inf), axis=-1)
    box, label = (tf.gather(targets[name], chosen, batch_dims=1) for name in ("boxes", "labels"))
    there = tf.cast(tf.reduce_any(is_near, axis=-1), tf.float32)[..., None]
    sides = tf.concat([middles - box[..., :2], box[..., 2:] - middles], -1) / STRIDE
    return tf.concat([tf.one_hot(label, classes) * there, sides * there, there], -1)


def loss(wanted: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    """Focal cross-entropy of the classes, and the mean distance of the sides where there is a box."""
    kinds, there = wanted[..., :-5], wanted[..., -1:]
    number = tf.reduce_sum(there, axis=[1, 2]) + 1.0
    focal = keras.losses.binary_focal_crossentropy(kinds[..., None], found[..., :-4, None], from_logits=True)
    apart = tf.abs(wanted[..., -5:-1] - tf.nn.softplus(found[..., -4:])) * there
    return (20 * tf.reduce_sum(focal, axis=[1, 2]) + tf.reduce_sum(apart, axis=[1, 2])) / number


def build(size: int, classes: int) -> tuple[keras.Model, keras.Model]:
    """The model that learns, and the one that detects: images to boxes, scores, labels and their number."""
    images = keras.Input((size, size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    for width, stride in ((16, 2), (32, 2), (64, 2), (64, 1), (64, 1)):
        x = keras.layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    # Few cells have a box: the classes begin at 2 %.
    start = keras.initializers.Constant([-4.0] * classes + [0.5] * 4)
    raw = keras.layers.Conv2D(classes + 4, 1, bias_initializer=start)(x)
    raw = keras.layers.Reshape((-1, classes + 4))(raw)
    boxes = keras.layers.Lambda(lambda x: _boxes(x, size), output_shape=(None, 4))(raw)
    scores = keras.layers.Lambda(lambda x: tf.sigmoid(x[..., :-4]), output_shape=(None, classes))(raw)
    found = layers.NonMaxSuppression(iou_threshold=0.4, max_output=MOST, min_score=0.3)((boxes, scores))
    return keras.Model(images, raw), keras.Model(images, found)


def _boxes(raw: tf.Tensor, size: int) -> tf.Tensor:
    sides, middles = tf.nn.softplus(raw[..., -4:]) * STRIDE, cells(size)
    return tf.concat([middles - sides[..., :2], middles + sides[..., 2:]], -1)


def score(detector: keras.Model, dataset: tf.data.Dataset) -> dict[str, float]:
    """Precision and recall: the best boxes first, each of the right class with an overlap of more than half."""
    hits = given = taken = 0
    for images, targets in dataset:
        found = {name: np.asarray(part) for name, part in detector(images, training=False).items()}
        for i in range(len(images)):
            own, labels = (found[name][i, : found["num_boxes"][i]] for name in ("boxes", "labels"))
            count = int(targets["num_boxes"][i])
            overlap = regions.box_iou(own, targets["boxes"][i, :count]).numpy()
            overlap *= labels[:, None] == targets["labels"][i, :count].numpy()
            for row in overlap:
                if count and row.max() > 0.5:
                    overlap[:, row.argmax()] = 0
                    hits += 1
            given, taken = given + count, taken + len(own)
    return {"precision": hits / max(taken, 1), "recall": hits / max(given, 1)}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains and scores a detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the records")
    parser.add_argument("--coco", type=Path, help="a COCO file; without one, shapes are drawn")
    parser.add_argument("--size", type=int, default=96, help="of the images, a multiple of 8")
    parser.add_argument("--count", type=int, default=800, help="of the drawn images")
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(1)
    listing = given.coco or write_shapes(given.work, count=given.count)
    dataset = given.work / "records"
    convert(listing, dataset)
    classes = len(tfpipe.load_manifest(dataset).class_names)
    transforms = [augment.drop_boxes([augment.flip_left_right(), augment.pad_and_crop(8)], min_visible=0.5)]
    train = read(dataset, "train", given.size, [*transforms, augment.copy_paste()])
    model, detector = build(given.size, classes)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(train.map(lambda images, targets: (images, assign(targets, given.size, classes))), epochs=given.epochs)
    found = score(detector, read(dataset, "validation", given.size))
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
