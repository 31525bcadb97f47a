"""Boxes stay on what they mark, however their image is turned and resized, in conversion and in reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conversions import run
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import EXIF_ORIENTATION, file_bytes, stock_read
from PIL import Image

import tfpipe
from tfpipe.format.manifest import load_manifest
from tfpipe.images.boxes import fit_boxes, place_regions, turn_boxes
from tfpipe.images.decode import resize_image, resize_mask, turn_upright
from tfpipe.images.fit import Resize

HEIGHT, WIDTH = 30, 44
BOX = (6, 4, 22, 10)


def marked(box: tuple[int, ...] = BOX) -> np.ndarray:
    """A black picture that is white inside a box: uint8 [30, 44, 3]."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


def found_box(image: np.ndarray) -> list[int]:
    """The box around what is rather white than black."""
    light = image[..., 0] > 127
    rows, columns = np.flatnonzero(light.any(1)), np.flatnonzero(light.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_box_marks_what_it_marked(orientation: int) -> None:
    image = turn_upright(tf.constant(marked()), tf.constant(orientation, tf.int64)).numpy()
    boxes = turn_boxes(tf.constant([BOX], tf.float32), (HEIGHT, WIDTH), tf.constant(orientation, tf.int64))
    assert boxes.numpy()[0].tolist() == found_box(image)


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(60, 88), (45, 120), (120, 50), (90, 66)])
def test_a_fitted_box_marks_what_it_marked(size: tuple[int, int], resize: str) -> None:
    box = (16, 8, 28, 20)
    image = resize_image(tf.constant(marked(box)), size, resize=resize).numpy()
    (fitted,) = fit_boxes(tf.constant([box], tf.float32), (HEIGHT, WIDTH), Resize(size, resize)).numpy()
    # The gray of a border is half of white at the border, to a pixel.
    np.testing.assert_allclose(fitted, found_box(image), atol=1)


def test_a_crop_cuts_boxes_at_its_border_and_no_boxes_stay_none() -> None:
    boxes = tf.constant([[0, 0, 44, 30], [0, 5, 3, 9]], tf.float32)
    fitted = fit_boxes(boxes, (30, 44), Resize((30, 30), "crop")).numpy()
    assert fitted.tolist() == [[0, 0, 30, 30], [0, 5, 0, 9]]
    empty = tf.zeros([0, 4])
    assert fit_boxes(turn_boxes(empty, (30, 44), 6), (44, 30), Resize((8, 8))).shape == (0, 4)


@given(
    corner=st.tuples(st.integers(0, WIDTH - 9), st.integers(0, HEIGHT - 9)),
    orientation=st.integers(1, 8),
    size=st.sampled_from([(60, 88), (45, 120), (120, 50)]),
    resize=st.sampled_from(["pad", "stretch", "crop"]),
)
@settings(max_examples=25)
def test_boxes_masks_and_points_are_where_the_pixels_are(
    corner: tuple[int, int], orientation: int, size: tuple[int, int], resize: str
) -> None:
    x, y = corner
    picture, turned = marked((x, y, x + 8, y + 8)), tf.constant(orientation, tf.int64)
    upright = turn_upright(tf.constant(picture), turned)
    image = resize_image(upright, size, resize=resize).numpy()
    mask = resize_mask(upright[..., :1], size, resize=resize).numpy()
    features = {
        "boxes": tf.constant([[x, y, x + 8, y + 8]], tf.float32),
        "keypoints": tf.constant([[[x + 4, y + 4, 2], [x, y, 1]]], tf.float32),
        "polygons": tf.constant([[x, y], [x + 8, y], [x + 8, y + 8]], tf.float32),
        "shape": tf.constant([HEIGHT, WIDTH, 3]),
        "orientation": turned,
    }
    moved = place_regions(features, ("boxes", "keypoints", "polygons"), Resize(size, resize))
    box = moved["boxes"].numpy()[0]
    (across, down, visible), _ = moved["keypoints"].numpy()[0]
    inside = 0 <= across <= size[1] and 0 <= down <= size[0]
    assert visible == (2 if inside else 0)
    outline = np.clip(moved["polygons"].numpy(), 0, size[::-1])
    np.testing.assert_allclose([*outline.min(0), *outline.max(0)], box, atol=1e-3)
    if min(box[2:] - box[:2]) > 3:
        np.testing.assert_allclose(box, found_box(image), atol=1)
        np.testing.assert_allclose(box, found_box(mask), atol=1)
    if 1 < across < size[1] - 1 and 1 < down < size[0] - 1:
        assert image[int(down), int(across), 0] > 127


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """A COCO file of eight pictures, one for each EXIF turn, each with its box."""
    images, marks = [], []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = turn
        (tmp_path / f"{turn}.jpg").write_bytes(file_bytes(marked(), "JPEG", quality=98, exif=exif.tobytes()))
        images.append({"id": turn, "file_name": f"{turn}.jpg"})
        x0, y0, x1, y1 = BOX
        box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "keypoints": [x0, y0, 2, x1, y1, 1]}
        marks.append({"id": turn, "image_id": turn, "category_id": 1, **box})
    document = {
        "images": images,
        "annotations": marks,
        "categories": [{"id": 1, "name": "spot", "keypoints": ["a", "b", "c"]}],
    }
    (tmp_path / "list.json").write_text(json.dumps(document))
    return tmp_path / "list.json"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"payload": "decoded", "dtype": "uint8"},
        {"payload": "decoded", "dtype": "uint8", "image_size": (60, 60), "resize": "crop"},
        {"max_side": 30, "quality": 98},
    ],
    ids=["raw", "decoded", "decoded to a size", "smaller"],
)
@pytest.mark.parametrize("size", [(64, 64), (40, 90)])
def test_boxes_lie_on_the_images_that_make_dataset_gives(
    annotated: Path, tmp_path: Path, options: dict[str, Any], size: tuple[int, int]
) -> None:
    run(annotated, tmp_path / "out", split={"train": 1.0}, **options)
    batches = tfpipe.make_dataset(tmp_path / "out", batch_size=1, image_size=size, labels=None, training=False)
    seen = 0
    for batch in batches:
        ((box,),) = batch["boxes"].to_list()
        np.testing.assert_allclose(box, found_box(batch["image"].numpy()[0]), atol=1.6)
        # Two corners of the box, as points; the third was not labelled.
        ((*points, third),) = batch["keypoints"].to_list()[0]
        cut = options.get("resize") == "crop"
        assert third[2] == 0
        assert cut or [visible for *_, visible in points] == [2, 1]
        corners = np.reshape(box, (2, 2))[[0, 0, 1, 1], :]
        corners[[1, 2], 0] = corners[[2, 1], 0]
        for *place, visible in points:
            assert not visible or np.abs(corners - place).max(axis=1).min() < 0.6
        seen += 1
    assert seen == 8


def test_raw_records_keep_boxes_as_listed_and_decoded_ones_those_of_their_pixels(
    annotated: Path, tmp_path: Path
) -> None:
    spec = {"boxes": tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True)}
    run(annotated, tmp_path / "raw")
    assert all(r["boxes"].tolist() == [list(BOX)] for r in stock_read(load_manifest(tmp_path / "raw"), **spec))
    run(annotated, tmp_path / "decoded", payload="decoded", dtype="uint8")
    spec |= {"image": tf.io.FixedLenFeature([], tf.string), "shape": tf.io.FixedLenFeature([3], tf.int64)}
    for record in stock_read(load_manifest(tmp_path / "decoded"), **spec):
        pixels = np.frombuffer(record["image"], np.uint8).reshape(record["shape"])
        np.testing.assert_allclose(record["boxes"][0], found_box(pixels), atol=0.5)
