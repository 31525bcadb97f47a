"""COCO files: images with their boxes, and a label that the boxes' categories give."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from coco_files import BOXES, CATEGORIES, coco, mark
from conversions import assert_accounted, reasons_in, run
from pictures import files_of, stock_read

import tfpipe
from beam_jobs.sources import open_source
from tfpipe.errors import UsageError


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
        "003.jpg": [mark(4, 3, 7, (1, 2, 0, 4))],
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


def test_a_file_that_is_no_coco_is_refused_with_one_sentence(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "away.jpg"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"images": []}, "is not a COCO file: that is an object with the lists"),
        ({"images": [], "annotations": [], "categories": []}, "is not valid COCO: IndexError"),
        ({"images": [image], "annotations": [], "categories": [{}]}, "is not valid COCO: KeyError: 'id'"),
        ({"images": [image], "annotations": [], "categories": CATEGORIES * 2}, "Two categories of"),
        ({"images": [image], "annotations": [], "categories": CATEGORIES}, "'away.jpg', is in none of"),
    ]
    for document, sentence in cases:
        with pytest.raises(UsageError, match=sentence):
            open_source(str(coco(tmp_path, document)))
