"""Boxes, masks and keypoints under drawn crops: coloured shapes are found again where they say, and lost ones go."""

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
from pictures import EXIF_ORIENTATION, file_bytes
from PIL import Image

import tfpipe
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.images.boxes import place_regions, visible_shares
from tfpipe.images.decode import turn_upright
from tfpipe.images.fit import Resize
from tfpipe.reader.crops import PaddedCrop, RandomResizedCrop

HEIGHT, WIDTH = 36, 50
CROPS = [RandomResizedCrop(area=(0.15, 0.9)), PaddedCrop(0.6)]
NAMES = ("boxes", "keypoints")


def drawn(boxes: np.ndarray) -> np.ndarray:
    """A black picture, uint8 [36, 50, 3], of which channel i is full inside of box i."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        image[y0:y1, x0:x1, i] = 255
    return image


def found_box(channel: np.ndarray) -> np.ndarray | None:
    """The box around what is rather full than empty; None where nothing is."""
    rows, columns = (np.flatnonzero((channel > 127).any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else None


def corners_and_middle(boxes: np.ndarray) -> np.ndarray:
    """Of each box its corner and its middle as keypoints, float32 [N, 2, 3]."""
    x0, y0, x1, y1 = boxes.T.astype(np.float32)
    visible = np.full_like(x0, 2)
    return np.stack([np.stack([x0, y0, visible], -1), np.stack([(x0 + x1) / 2, (y0 + y1) / 2, visible], -1)], 1)


@given(
    corners=st.tuples(st.integers(0, 16), st.integers(0, 26), st.integers(25, 41), st.integers(0, 26)),
    sides=st.tuples(*[st.integers(4, 9)] * 4),
    orientation=st.integers(1, 8),
    draw=st.integers(0, 2**40),
    crop=st.sampled_from(CROPS),
    training=st.booleans(),
)
@settings(max_examples=30)
def test_a_shape_in_a_drawn_crop_is_where_its_marks_say(
    corners: tuple[int, ...], sides: tuple[int, ...], orientation: int, draw: int, crop: Any, training: bool
) -> None:
    places, extents = np.reshape(corners, (2, 2)), np.reshape(sides, (2, 2))
    boxes = np.concatenate([places, places + extents], axis=1)
    turn = tf.constant(orientation, tf.int64)
    upright = turn_upright(tf.constant(drawn(boxes)), turn)
    fit = Resize((60, 88))
    resizer = crop.for_training(fit, seed=3, draw=tf.constant(draw, tf.int64)) if training else crop.for_evaluation(fit)
    image, mask = resizer.resize(upright).numpy(), resizer.resize_mask(upright).numpy()
    features = {
        "boxes": tf.constant(boxes, tf.float32),
        "keypoints": tf.constant(corners_and_middle(boxes)),
        "shape": tf.constant([HEIGHT, WIDTH, 3]),
        "orientation": turn,
    }
    moved = {name: value.numpy() for name, value in place_regions(features, NAMES, resizer).items()}
    shares = visible_shares(features, resizer).numpy()
    scale = resizer.geometry(tf.shape(upright)[:2])[0].numpy()
    for i, box in enumerate(moved["boxes"]):
        area = np.prod(box[2:] - box[:2]) / np.prod(boxes[i, 2:] - boxes[i, :2]) / np.prod(scale)
        assert abs(area - shares[i]) < 1e-4
        if min(box[2:] - box[:2]) > 3:
            np.testing.assert_allclose(box, found_box(image[..., i]), atol=1)
            np.testing.assert_allclose(box, found_box(mask[..., i]), atol=1)
        elif shares[i] == 0:
            assert found_box(image[..., i]) is None
        for x, y, visible in moved["keypoints"][i]:
            assert visible == (2 if 0 <= x <= 88 and 0 <= y <= 60 else 0)
        x, y, _ = moved["keypoints"][i, 1]
        if 1 < x < 87 and 1 < y < 59:
            assert image[int(y), int(x), i] > 127


# ---- inside of make_dataset


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Pictures of a red, a green and a blue box, in each EXIF turn, with masks and keypoints."""
    root = tmp_path_factory.mktemp("marked")
    (root / "masks").mkdir()
    images, marks = [], []
    for number in range(16):
        boxes = np.array([[2 + number, 3, 14 + number, 13], [30, 2, 46, 16], [5, 20, 30 + number, 34]])
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 1 + number % 8
        picture = drawn(boxes)
        (root / f"{number}.jpg").write_bytes(
            file_bytes(picture, "JPEG", quality=98, subsampling=0, exif=exif.tobytes())
        )
        (root / f"masks/{number}.png").write_bytes(file_bytes(picture[..., 1], "PNG"))
        images.append({"id": number, "file_name": f"{number}.jpg"})
        for kind, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            one = {"bbox": [x0, y0, x1 - x0, y1 - y0], "keypoints": [(x0 + x1) / 2, (y0 + y1) / 2, 2]}
            marks.append({"id": len(marks), "image_id": number, "category_id": kind, **one})
    categories = [{"id": i, "name": name, "keypoints": ["middle"]} for i, name in enumerate("rgb")]
    (root / "list.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": categories}))
    manifest = run(
        root / "list.json", root / "out", masks=str(root / "masks"), label_kind="multi", split={"train": 1.0}
    ).manifest
    assert manifest is not None
    return manifest


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("resize", [RandomResizedCrop((0.1, 0.6), min_visible=0.4), PaddedCrop(0.5, 0.4)], ids=str)
def test_make_dataset_moves_what_a_drawn_crop_shows_and_drops_the_rest(
    marked: Manifest, resize: Any, training: bool
) -> None:
    options = {"batch_size": 8, "image_size": (60, 40), "resize": resize, "training": training, "seed": 4}
    seen = lost = 0
    targets = iter(tfpipe.make_dataset(marked, labels="boxes", **options))
    for batch in tfpipe.make_dataset(marked, labels=None, **options):
        images, padded = next(targets)
        np.testing.assert_array_equal(images, batch["image"])
        for i, image in enumerate(batch["image"].numpy()):
            boxes, labels, points = (batch[name][i].numpy() for name in ("boxes", "box_labels", "keypoints"))
            assert len(boxes) == len(labels) == len(points) == padded["num_boxes"][i]
            np.testing.assert_array_equal(padded["boxes"][i, : len(boxes)], boxes)
            np.testing.assert_array_equal(padded["labels"][i, : len(boxes)], labels)
            for box, label, ((x, y, visible),) in zip(boxes, labels, points, strict=True):
                # JPEG's edges, and half a pixel of the file, which is up to three of the batch.
                np.testing.assert_allclose(box, found_box(image[..., label]), atol=1.6)
                if visible:
                    assert image[int(min(y, 59)), int(min(x, 39)), label] > 100
                if label == 1:
                    np.testing.assert_allclose(box, found_box(batch["mask"][i, ..., 0].numpy()), atol=1)
            seen, lost = seen + len(boxes), lost + 3 - len(boxes)
    assert seen >= 6
    assert lost >= 3


def test_a_detector_gets_no_box_that_a_crop_leaves_nothing_of(marked: Manifest) -> None:
    options = {"batch_size": 16, "image_size": (60, 10), "resize": "crop", "training": False}
    (whole,) = tfpipe.make_dataset(marked, labels=None, **options)
    has_area = [[min(box[2] - box[0], box[3] - box[1]) > 0 for box in boxes] for boxes in whole["boxes"].to_list()]
    assert not all(map(all, has_area))
    ((_, targets),) = tfpipe.make_dataset(marked, labels="boxes", **options)
    assert targets["num_boxes"].numpy().tolist() == list(map(sum, has_area))


def test_what_a_drawn_crop_cannot_move_is_refused(marked: Manifest, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 2, "image_size": 8, "resize": RandomResizedCrop()}
    with pytest.raises(UsageError, match=r"views is 2: each has a crop of its own, and the boxes would follow"):
        tfpipe.make_dataset(marked, labels="boxes", views=2, **options)
    places = enumerate((1, 1, 2, 3, 4))
    rows = ["image,label,xmin,ymin,xmax,ymax,score", *(f"{i}.jpg,a,1,2,9,{9 + i},0.{n}" for n, i in places)]
    (marked.directory.parent / "list.csv").write_text("\n".join(rows))
    run(marked.directory.parent / "list.csv", tmp_path / "out", split={"train": 1})
    with pytest.raises(UsageError, match=r"drops boxes, .* whether \['score'\] have a value for each box"):
        tfpipe.make_dataset(tmp_path / "out", labels=None, **options)
    assert next(iter(tfpipe.make_dataset(tmp_path / "out", labels="boxes", **options)))[1]["boxes"].shape == (2, 100, 4)
    for crop in (RandomResizedCrop, PaddedCrop):
        with pytest.raises(UsageError, match=r"min_visible is 1.5; it takes 0 to 1"):
            crop(min_visible=1.5)
