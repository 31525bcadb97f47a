"""COCO files: images with their boxes, and a label that the boxes' categories give."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from coco_files import BOXES, CATEGORIES, coco, mark
from conversions import assert_accounted, reasons_in, run
from pictures import files_of, fill_folder, stock_read

import tfpipe
from beam_jobs.encode.columns import cell_value
from beam_jobs.sources import open_source
from beam_jobs.sources.listing import LeftOut, Listed, Refused
from tfpipe.errors import DataError, UsageError


def test_boxes_ride_along_and_the_most_frequent_category_is_the_class(tmp_path: Path) -> None:
    outcome = run(coco(tmp_path), tmp_path / "out")
    assert reasons_in(tmp_path / "out") == {f"{i:03d}.jpg": "empty_label" for i in BOXES if not BOXES[i]}
    assert_accounted(outcome, tmp_path / "out")
    manifest = tfpipe.load_manifest(tmp_path / "out")
    assert manifest.class_names == ("zebra", "sea", "cat")
    spec = {"boxes": tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True)}
    spec |= {"box_labels": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)}
    for record in stock_read(manifest, **spec):
        categories = BOXES[int(record["key"][:3])]
        ids = [[3, 7, 12].index(category) for category in categories]
        assert record["box_labels"].tolist() == ids
        assert record["boxes"].tolist() == [[k, 2, k + 3, 6.5] for k in range(len(ids))]
        assert record["label"].decode() == ("sea" if categories.count(7) == 2 else "zebra")
        assert manifest.class_names[record["label_int"]] == record["label"].decode()


def test_all_categories_are_labels_where_several_are_asked_for(tmp_path: Path) -> None:
    run(coco(tmp_path), tmp_path / "out", label_kind="multi", split={"train": 1})
    manifest = tfpipe.load_manifest(tmp_path / "out")
    assert manifest.num_records() == len(BOXES)
    assert manifest.splits["train"].class_counts == tuple(sum(c in cs for cs in BOXES.values()) for c in (3, 7, 12))
    batch = next(iter(tfpipe.make_dataset(manifest, batch_size=20, image_size=(8, 8), labels=None)))
    for key, boxes, ids, several in zip(
        batch["key"].numpy(), batch["boxes"], batch["box_labels"], batch["label_int"], strict=True
    ):
        categories = BOXES[int(key[:3])]
        assert boxes.shape == (len(categories), 4)
        assert [(3, 7, 12)[i] for i in ids.numpy()] == categories
        assert {(3, 7, 12)[i] for i in several.numpy()} == set(categories)
    _, target = next(iter(tfpipe.make_dataset(manifest, batch_size=20, image_size=(8, 8), labels="boxes")))
    assert target["num_boxes"].numpy().sum() == sum(map(len, BOXES.values()))


def test_the_order_of_the_file_changes_no_byte(tmp_path: Path) -> None:
    path = coco(tmp_path)
    document = json.loads(path.read_text())
    run(path, tmp_path / "one", label_kind="multi")
    mixed = {name: random.Random(0).sample(part, len(part)) for name, part in document.items()}
    run(coco(tmp_path, mixed), tmp_path / "two", label_kind="multi", threads=3)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_every_bad_image_of_a_coco_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    boxes: dict[str, Any] = {
        "000.jpg": [mark(1, 0, 7)],
        "001.jpg": [mark(2, 1, 8)],
        "002.jpg": [mark(3, 2, 7, None)],
        "003.jpg": [mark(4, 3, 7, (1, 2, 1e39, 4))],
        "004.jpg": [mark(5, 4, 7, (1, 2, float("nan"), 4))],
        "005.jpg": [mark(6, 5, 7, iscrowd=1)],
        "006.jpg": [mark(7, 6, [7])],
        "007.jpg": [mark(8, 7, 7, (1, 2, "3", 4))],
        "gone.jpg": [mark(9, 8, 7)],
    }
    images: list[Any] = [{"id": i, "file_name": name} for i, name in enumerate(boxes)]
    marks = [*(one for several in boxes.values() for one in several), 3, mark(10, [1], 7), mark(11, 999, 7)]
    document = {"images": [*images, {"id": 50}, "no"], "annotations": marks, "categories": CATEGORIES}
    run(coco(tmp_path, document), tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert sorted((row["key"], row["reason"]) for row in rows) == [
        *[("", "bad_row"), ("", "bad_row"), ("001.jpg", "unknown_label"), ("002.jpg", "bad_box")],
        *[("003.jpg", "bad_box"), ("004.jpg", "bad_box"), ("005.jpg", "empty_label"), ("006.jpg", "unknown_label")],
        *[("007.jpg", "bad_box"), ("gone.jpg", "missing")],
    ]
    assert tfpipe.load_manifest(tmp_path / "out").num_records() == 1


def test_boxes_without_area_are_left_out_and_counted_and_their_images_stay(tmp_path: Path) -> None:
    marks = [
        *[mark(1, 0, 7), mark(2, 0, 3, (5, 5, 0, 9)), mark(3, 0, 3, (5, 5, -2, 9))],  # a good box and two without area
        *[mark(4, 1, 12, (1, 2, 3, 0))],  # nothing but a box without area
        *[mark(5, 2, 3, (1000, 2, 1e-6, 4)), mark(6, 2, 12)],  # none as float32 numbers
        *[mark(7, 3, 3, iscrowd=1), mark(8, 3, 7, segmentation={"counts": [1]}, keypoints=[1])],
        *[mark(9, 77, 3), "no annotation"],
    ]
    document = {"images": [{"id": i, "file_name": f"{i:03d}.jpg"} for i in range(4)], "annotations": marks}
    path = coco(tmp_path, {**document, "categories": CATEGORIES})
    left_out = {"annotations_without_image": 2, "boxes_without_area": 4, "crowds": 1, "keypoints": 1}
    left_out["segmentations"] = 1
    outcome = run(path, tmp_path / "out", split={"train": 1})
    assert outcome.plan.left_out == left_out
    assert_accounted(outcome, tmp_path / "out")
    manifest = tfpipe.load_manifest(tmp_path / "out")
    assert manifest.made_by["left_out"] == left_out
    spec = {"boxes": tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True)}
    spec |= {"box_labels": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)}
    found = {record["key"].decode(): record for record in stock_read(manifest, **spec)}
    assert {key: record["label"].decode() for key, record in found.items()} == {
        "000.jpg": "sea",
        "001.jpg": "cat",
        "002.jpg": "cat",
        "003.jpg": "sea",
    }
    assert {key: record["box_labels"].tolist() for key, record in found.items()} == {
        "000.jpg": [1],
        "001.jpg": [],
        "002.jpg": [2],
        "003.jpg": [1],
    }
    assert found["000.jpg"]["boxes"].tolist() == [[1, 2, 4, 6.5]]
    assert run(path, tmp_path / "few", limit=1).plan.left_out == {
        "annotations_without_image": 2,
        "boxes_without_area": 2,
    }


def test_keypoints_ride_along_where_a_category_names_them(tmp_path: Path) -> None:
    named = [{**CATEGORIES[0], "keypoints": ["left", "right"]}, *CATEGORIES[1:]]
    points: dict[str, Any] = {
        "000.jpg": [mark(1, 0, 7, keypoints=[5, 6, 2, 7.5, 8, 1]), mark(2, 0, 3)],
        "001.jpg": [mark(3, 1, 7, keypoints=[5, 6, 2])],
        "002.jpg": [mark(4, 2, 7, keypoints=[5, 6])],
        "003.jpg": [mark(5, 3, 7, keypoints=[5, 6, 2] * 3)],
        "004.jpg": [mark(6, 4, 7, keypoints=[5, 6, "2"])],
    }
    images = [{"id": i, "file_name": name} for i, name in enumerate(points)]
    marks = [one for several in points.values() for one in several]
    path = coco(tmp_path, {"images": images, "annotations": marks, "categories": named})
    outcome = run(path, tmp_path / "out", split={"train": 1})
    assert "keypoints" not in outcome.plan.left_out
    assert reasons_in(tmp_path / "out") == dict.fromkeys(["002.jpg", "003.jpg", "004.jpg"], "bad_keypoints")
    spec = {"keypoints": tf.io.FixedLenSequenceFeature([2, 3], tf.float32, allow_missing=True)}
    found = {record["key"].decode(): record for record in stock_read(outcome.manifest, **spec)}
    assert found["000.jpg"]["keypoints"].tolist() == [[[5, 6, 2], [7.5, 8, 1]], [[0, 0, 0], [0, 0, 0]]]
    assert found["001.jpg"]["keypoints"].tolist() == [[[5, 6, 2], [0, 0, 0]]]
    (batch,) = tfpipe.make_dataset(outcome.manifest, batch_size=2, image_size=(8, 8), labels=None, training=False)
    assert batch["keypoints"].shape.as_list()[1:] == [None, 2, 3]
    record = tfpipe.get(outcome.manifest, "000.jpg", image_size=(8, 8))
    row = batch["key"].numpy().tolist().index(b"000.jpg")
    assert record["keypoints"].tolist() == batch["keypoints"][row].numpy().tolist()
    again = run(tmp_path / "out", tmp_path / "again", split=None).manifest
    (same,) = tfpipe.make_dataset(again, batch_size=2, image_size=(8, 8), labels=None, training=False)
    assert same["keypoints"].to_list() == batch["keypoints"].to_list()


def test_polygons_ride_along_as_one_ring_for_each_box(tmp_path: Path) -> None:
    corner, square = [1, 1, 9, 1, 9, 9.5], [20, 20, 20, 29, 29, 29]
    outlines: dict[str, Any] = {
        "000.jpg": [[corner], None, [corner, square, [4, 4, 5, 5]], {"counts": [1, 2], "size": [4, 4]}],
        "001.jpg": [[[1, 2, 3, 4]]],
        "002.jpg": [[corner[:5]]],
        "003.jpg": [[[*corner, float("nan"), 1]]],
        "004.jpg": [[[*corner, "1", 1]]],
        "005.jpg": ["111"],
        "006.jpg": [corner],
    }
    images = [{"id": i, "file_name": name} for i, name in enumerate(outlines)]
    marks = [
        mark(10 * i + k, i, 7, segmentation=one) for i, of in enumerate(outlines.values()) for k, one in enumerate(of)
    ]
    marks += [mark(100, 1, 7, (1, 1, 0, 4), segmentation=[corner]), mark(101, 1, 7, iscrowd=1, segmentation="111")]
    path = coco(tmp_path, {"images": images, "annotations": marks, "categories": CATEGORIES})
    source = open_source(str(path))
    entries = list(source.entries(None))
    assert {entry.key: entry.reason for entry in entries if isinstance(entry, Refused)} == dict.fromkeys(
        [f"00{i}.jpg" for i in (2, 3, 4, 5, 6)], "bad_polygons"
    )
    left_out: Counter[str] = Counter()
    for entry in entries:
        left_out.update({entry.what: entry.number} if isinstance(entry, LeftOut) else {})
    assert left_out == {"boxes_without_area": 1, "crowds": 1, "segmentations": 4}
    cells = {
        entry.key: {
            name: cell_value(cell, dtype) for (name, dtype), cell in zip(source.dtypes, entry.extras, strict=True)
        }
        for entry in entries
        if isinstance(entry, Listed)
    }
    # The second part turns as the first does, and both ends of the bridge are there.
    ring = [*corner, 1, 1, *[29, 29, 20, 29, 20, 20], 29, 29]
    assert cells["000.jpg"]["polygons"] == [*corner, *ring]
    assert cells["000.jpg"]["polygon_points"] == [3, 0, 8, 0]
    assert cells["001.jpg"]["polygons"] == []
    assert cells["001.jpg"]["polygon_points"] == [0]


def test_annotations_without_boxes_give_their_category(tmp_path: Path) -> None:
    marks = [{"id": i, "image_id": i, "category_id": 7} for i in range(3)]
    document = {"images": [{"id": i, "file_name": f"{i:03d}.jpg"} for i in range(3)], "annotations": marks}
    outcome = run(coco(tmp_path, {**document, "categories": CATEGORIES}), tmp_path / "out", split={"train": 1})
    assert outcome.refused == {}
    assert outcome.plan.left_out == {}
    assert tfpipe.load_manifest(tmp_path / "out").splits["train"].class_counts == (0, 3, 0)


def test_ids_that_another_program_wrote_as_floats_and_a_first_image_that_is_gone(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "gone.jpg"},
        {"id": 2, "file_name": "000.jpg"},
        {"id": 3.0, "file_name": "001.jpg"},
    ]
    marks = [mark(1, 1.0, 7), mark(2, 2.0, 3.0), mark(3, 3, 12)]
    run(coco(tmp_path, {"images": images, "annotations": marks, "categories": CATEGORIES}), tmp_path / "out")
    assert reasons_in(tmp_path / "out") == {"gone.jpg": "missing"}
    records = stock_read(tfpipe.load_manifest(tmp_path / "out"))
    assert {record["key"]: record["label"] for record in records} == {b"000.jpg": b"zebra", b"001.jpg": b"cat"}


def test_an_image_without_annotations_points_to_the_kind_of_label_that_takes_it(tmp_path: Path) -> None:
    run(coco(tmp_path), tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in rows} == {"empty_label"}
    assert all("--label_kind multi takes images without" in row["detail"] for row in rows)
    with pytest.raises(DataError, match="--label_kind multi"):
        run(coco(tmp_path), tmp_path / "strict", max_rejected="0")


def test_file_names_of_windows_and_images_of_one_id(tmp_path: Path) -> None:
    fill_folder(tmp_path, ["train/day"], 3)
    images = [{"id": i, "file_name": f"train\\day\\{i:03d}.jpg"} for i in range(2)]
    twins = [{"id": 9, "file_name": f"train/day/{i:03d}.jpg"} for i in (1, 2)]
    marks = [mark(1, 0, 7), mark(2, 1, 7), mark(3, 9, 7)]
    run(
        coco(tmp_path, {"images": [*images[:1], *twins], "annotations": marks, "categories": CATEGORIES}),
        tmp_path / "out",
    )
    manifest = tfpipe.load_manifest(tmp_path / "out")
    assert [record["key"] for record in stock_read(manifest)] == [b"train/day/000.jpg"]
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["train/day/001.jpg", "train/day/002.jpg"]
    assert all("2 images have the id 9" in row["detail"] for row in rows)


def test_a_file_that_is_no_coco_is_refused_with_one_sentence(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "away.jpg"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"images": []}, "is not a COCO file: that is an object with the lists"),
        ({"images": [], "annotations": [], "categories": []}, "is not valid COCO: IndexError"),
        ({"images": [image], "annotations": [], "categories": [{}]}, "is not valid COCO: KeyError: 'id'"),
        ({"images": [image], "annotations": [], "categories": CATEGORIES * 2}, "have the id 3: 'zebra' and"),
        (
            {"images": [image], "annotations": [], "categories": [*CATEGORIES, {"id": 40, "name": " cat"}]},
            "the name 'cat': the ids 12 and 40; rename one of them",
        ),
        ({"images": [image], "annotations": [], "categories": CATEGORIES}, "'away.jpg', is in none of"),
    ]
    for document, sentence in cases:
        with pytest.raises(UsageError, match=sentence):
            open_source(str(coco(tmp_path, document)))
