"""Polygons of a COCO file in batches: coloured shapes are found again inside of what their polygons say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conversions import run
from pictures import EXIF_ORIENTATION, file_bytes
from PIL import Image

import tfpipe
from tfpipe import augment
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.images.boxes import split_polygons
from tfpipe.reader.crops import PaddedCrop, RandomResizedCrop

HEIGHT, WIDTH, IMAGES = 120, 160, 8
SIZE = (60, 88)


def shapes(number: int) -> list[list[list[float]]]:
    """The parts of three objects in picture `number`: a triangle, two quadrilaterals that turn unlike, a pentagon."""
    x = 3.0 * number
    return [
        [[10 + x, 8, 70 + x, 30, 20 + x, 60]],
        [[100, 10, 140, 15, 135, 50, 98, 40], [95, 65, 90, 100 + x / 2, 130, 105, 140, 70]],
        [[20, 75, 50 + x, 70, 80, 90, 60, 112, 25, 105]],
    ]


def covered(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether a ring [P, 2] winds around each of the points [..., 2] (the nonzero rule)."""
    (x, y), (u, v) = ring.T, np.roll(ring, -1, axis=0).T
    px, py = points[..., :1], points[..., 1:]
    left = (u - x) * (py - y) - (px - x) * (v - y)
    return (((y <= py) & (v > py) & (left > 0)).sum(-1) - ((y > py) & (v <= py) & (left < 0)).sum(-1)) != 0


def border_distance(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The distance of each of the points [..., 2] from the sides of a ring [P, 2]."""
    side, off = np.roll(ring, -1, axis=0) - ring, points[..., None, :] - ring
    share = np.clip((off * side).sum(-1) / np.maximum((side**2).sum(-1), 1e-9), 0, 1)
    return np.linalg.norm(off - share[..., None] * side, axis=-1).min(-1)


def centres(height: int, width: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)


def assert_shape_is_there(channel: np.ndarray, ring: np.ndarray) -> int:
    """The channel is full inside of the ring and empty outside, but for a pixel; returns how many pixels are full."""
    points = centres(*channel.shape)
    inside, sure = covered(ring, points), border_distance(ring, points) > 1
    assert (channel[inside & sure] > 127).all()
    assert (channel[~inside & sure] < 128).all()
    return int((inside & sure).sum())


@pytest.fixture(scope="module")
def outlined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file of pictures in each EXIF turn; the third object of odd ones has run lengths in place of a polygon."""
    root = tmp_path_factory.mktemp("outlined")
    images, marks = [], []
    for number in range(IMAGES):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        images.append({"id": number, "file_name": f"{number}.jpg"})
        for kind, parts in enumerate(shapes(number)):
            rings = [np.reshape(part, (-1, 2)) for part in parts]
            for ring in rings:
                picture[covered(ring, centres(HEIGHT, WIDTH)), kind] = 255
            low, high = np.concatenate(rings).min(0), np.concatenate(rings).max(0)
            given: Any = {"counts": [1, 2], "size": [HEIGHT, WIDTH]} if kind == 2 and number % 2 else parts
            one = {"bbox": [*low.tolist(), *(high - low).tolist()], "segmentation": given}
            marks.append({"id": len(marks), "image_id": number, "category_id": kind, **one})
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 1 + number % 8
        data = file_bytes(picture, "JPEG", quality=98, subsampling=0, exif=exif.tobytes())
        (root / f"{number}.jpg").write_bytes(data)
    categories = [{"id": i, "name": name} for i, name in enumerate("rgb")]
    (root / "list.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": categories}))
    return root / "list.json"


@pytest.fixture(scope="module")
def manifest(outlined: Path) -> Manifest:
    outcome = run(outlined, outlined.parent / "out", label_kind="multi", split={"train": 1.0})
    assert outcome.plan.left_out == {"segmentations": IMAGES // 2}
    assert outcome.manifest is not None
    return outcome.manifest


def assert_targets(images: tf.Tensor, targets: dict[str, tf.Tensor]) -> None:
    seen = 0
    images, polygons = images.numpy(), targets["polygons"].numpy()
    assert targets["polygons"].shape == (IMAGES, 100, 128, 2)
    assert polygons.dtype == np.float32
    for i, image in enumerate(images):
        count = int(targets["num_boxes"][i])
        assert not polygons[i, count:].any()
        for ring, kind in zip(polygons[i, :count], targets["labels"][i].numpy(), strict=False):
            if np.ptp(ring, axis=0).any():
                seen += assert_shape_is_there(image[..., kind], ring) > 50
            else:
                assert kind == 2
    assert seen >= IMAGES


TURN = augment.op("rotate", (-25, 25), fill=0, interpolation="bilinear")
MOVES = [
    pytest.param("pad", [TURN, augment.flip_left_right()], id="pad"),
    pytest.param(RandomResizedCrop((0.5, 0.9)), [augment.flip_left_right()], id="drawn"),
    *(pytest.param(one, [], id=str(one), marks=pytest.mark.slow) for one in ("stretch", "crop", PaddedCrop(0.8))),
]


@pytest.mark.parametrize(("resize", "transforms"), MOVES)
def test_polygons_of_a_coco_file_are_where_their_pixels_are(
    manifest: Manifest, resize: Any, transforms: list[Any]
) -> None:
    training = bool(transforms)
    dataset = tfpipe.make_dataset(
        manifest,
        batch_size=IMAGES,
        image_size=SIZE,
        resize=resize,
        labels="boxes",
        transforms=transforms,
        training=training,
        seed=5,
    )
    ((images, targets),) = dataset
    assert_targets(images, targets)


@pytest.mark.slow
def test_polygons_move_where_conversion_turns_resizes_and_copies(outlined: Path, manifest: Manifest) -> None:
    options: dict[str, Any] = {"batch_size": IMAGES, "labels": "boxes", "training": False}
    decoded = run(
        outlined,
        outlined.parent / "decoded",
        payload="decoded",
        image_size=SIZE,
        label_kind="multi",
        split={"train": 1},
    ).manifest
    for images, targets in tfpipe.make_dataset(decoded, **options):
        assert_targets(images * 255, targets)  # decoded records are floats in [0, 1]
    again = run(manifest.directory, outlined.parent / "again", label_kind="multi", split=None).manifest
    both = [next(iter(tfpipe.make_dataset(one, image_size=SIZE, **options))) for one in (manifest, again)]
    np.testing.assert_array_equal(both[0][1]["polygons"], both[1][1]["polygons"])


def test_dicts_and_single_records_have_polygons_too(manifest: Manifest) -> None:
    (batch,) = tfpipe.make_dataset(
        manifest, batch_size=IMAGES, image_size=SIZE, labels=None, training=False, max_points=9
    )
    assert "polygon_points" not in batch
    assert batch["polygons"].shape.as_list() == [IMAGES, None, 9, 2]
    record = tfpipe.get(manifest, "1.jpg", image_size=SIZE)
    assert record["polygons"].shape == (3, 10, 2)
    row = batch["key"].numpy().tolist().index(b"1.jpg")
    # Nine of ten points; the last one is the start of the second part.
    np.testing.assert_allclose(batch["polygons"][row][1], record["polygons"][1, :9], atol=1e-4)
    np.testing.assert_allclose(batch["polygons"][row][0, :3], record["polygons"][0, :3], atol=1e-4)
    for points in (batch["polygons"][row].numpy(), record["polygons"]):
        assert (points[0, 2:] == points[0, 2]).all()
        assert not points[2].any()


def test_polygons_get_as_many_points() -> None:
    points = tf.reshape(tf.range(24, dtype=tf.float32), [12, 2])
    counts = tf.constant([3, 0, 8, 1], tf.int64)
    found = split_polygons(points, counts, 4).numpy()[..., 0].tolist()
    assert found == [[0, 2, 4, 4], [0, 0, 0, 0], [6, 10, 14, 18], [22, 22, 22, 22]]
    assert split_polygons(points, counts, None).shape == (4, 8, 2)
    assert split_polygons(points[:0], counts[:0], None).shape == (0, 0, 2)


def test_max_points_goes_with_polygons(manifest: Manifest) -> None:
    options: dict[str, Any] = {"batch_size": 2, "image_size": SIZE}
    with pytest.raises(UsageError, match="max_points is 9, but these batches have no polygons"):
        tfpipe.make_dataset(manifest, max_points=9, **options)
    with pytest.raises(UsageError, match="max_points is 2; it must be at least 3"):
        tfpipe.make_dataset(manifest, max_points=2, labels="boxes", **options)
