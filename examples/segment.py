"""A small segmentation net on tiles: from masks through `tfpipe convert` and make_dataset to fit, and to boxes.

    python examples/segment.py --work /tmp/segment

It learns on tiles of half the image's side, after copy-paste between the images. At inference overlapping tiles are
stitched to one map; and the objects that each tile shows whole become boxes, of which suppression keeps one an object.
Connected areas come from scipy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage
from shapes import CLASSES, SIZE, write_shapes

import tfpipe
from tfpipe import augment, regions
from tfpipe.tiles import Tiles

# With half a tile between them, some tile shows each shape whole.
TILES = Tiles(SIZE // 2, stride=SIZE // 4)
MARGIN = 1


def convert(listing: Path, masks: Path, output: Path) -> None:
    """Writes the records of images with masks; a fifth of them is for validation."""
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", str(listing), "--output", str(output)]
    subprocess.run([*command, "--masks", str(masks), "--split", "train=0.8,validation=0.2"], check=True)


def build() -> keras.Model:
    """A U-net of two levels: tiles to the logits of background and classes."""
    tiles = keras.Input((SIZE // 2, SIZE // 2, 3), dtype="uint8")
    fine = _block(keras.layers.Rescaling(1 / 127.5, offset=-1)(tiles), 8)
    middle = _block(keras.layers.MaxPooling2D()(fine), 16)
    coarse = _block(keras.layers.MaxPooling2D()(middle), 32)
    middle = _block(keras.layers.Concatenate()([keras.layers.UpSampling2D()(coarse), middle]), 16)
    fine = _block(keras.layers.Concatenate()([keras.layers.UpSampling2D()(middle), fine]), 8)
    return keras.Model(tiles, keras.layers.Conv2D(len(CLASSES) + 1, 1)(fine))


def _block(x: tf.Tensor, width: int) -> tf.Tensor:
    for _ in range(2):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return x


def find_boxes(shares: np.ndarray, grid: tfpipe.tiles.Grid) -> tuple[np.ndarray, np.ndarray]:
    """The objects of one image, by tiles: boxes float32 [N, 4] in its pixels and labels [N], after suppression.

    Args:
      shares: of the classes, the background first, float32 [tiles, h, w, classes + 1].
      grid: where the tiles lie.
    """
    corners = [(row, column) for row in grid.rows for column in grid.columns]
    found = []
    for (top, left), tile in zip(corners, shares, strict=True):
        for label in range(1, tile.shape[-1]):
            areas, _ = ndimage.label(tile.argmax(-1) == label)
            for number, (rows, columns) in enumerate(ndimage.find_objects(areas), 1):
                box = [left + columns.start, top + rows.start, left + columns.stop, top + rows.stop]
                if _is_whole(box, top, left, tile.shape[:2]):
                    found.append([*box, tile[areas == number, label].sum(), label - 1])
    if not found:
        return np.zeros((0, 4), np.float32), np.zeros(0, int)
    boxes, scores, labels = np.split(np.float32(found), [4, 5], axis=1)
    kept, count = regions.batched_nms(boxes, scores[:, 0], labels[:, 0], iou_threshold=0.3)
    kept = kept.numpy()[: int(count)]
    return boxes[kept], labels[kept, 0].astype(int)


def _is_whole(box: list[int], top: int, left: int, size: tuple[int, ...]) -> bool:
    """Whether a box ends within its tile, or where the image does."""
    low_x, low_y, high_x, high_y = left, top, left + size[1], top + size[0]
    inner = [low_x + MARGIN * (left > 0), low_y + MARGIN * (top > 0)]
    outer = [high_x - MARGIN * (high_x < SIZE), high_y - MARGIN * (high_y < SIZE)]
    return box[0] >= inner[0] and box[1] >= inner[1] and box[2] <= outer[0] and box[3] <= outer[1]


def score(model: keras.Model, dataset: tf.data.Dataset) -> dict[str, float]:
    """The mean overlap of the classes of stitched maps, and the share of objects whose box was found."""
    grid, hits, given = TILES.grid(SIZE), 0, 0
    overlaps = keras.metrics.MeanIoU(len(CLASSES) + 1)
    for batch in dataset:
        shares = tf.nn.softmax(model.predict_on_batch(grid.cut(batch["image"])))
        overlaps.update_state(batch["mask"], tf.argmax(grid.stitch(shares), -1)[..., None])
        tiles = np.asarray(shares).reshape(-1, grid.num_tiles, *shares.shape[1:])
        for image, wanted, labels in zip(tiles, batch["boxes"], batch["box_labels"], strict=True):
            boxes, kinds = find_boxes(image, grid)
            fits = regions.box_iou(boxes, wanted).numpy() * (kinds[:, None] == labels.numpy())
            hits += int((fits.max(axis=0, initial=0) > 0.5).sum())
            given += len(wanted)
    return {"mean_iou": float(overlaps.result()), "recall": hits / max(given, 1)}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains and scores a segmentation net."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the images and records")
    parser.add_argument("--count", type=int, default=400, help="of the images")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(1)
    listing = write_shapes(given.work, count=given.count)
    convert(listing, given.work / "masks", given.work / "records")
    options = {"batch_size": 8, "image_size": SIZE}
    transforms = [augment.flip_left_right(), augment.copy_paste(), TILES]
    train = tfpipe.make_dataset(given.work / "records", labels="mask", transforms=transforms, **options)
    model = build()
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train, epochs=given.epochs)
    found = score(model, tfpipe.make_dataset(given.work / "records", "validation", labels=None, **options))
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
