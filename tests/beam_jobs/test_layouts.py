"""A table of layouts of TFRecords that others write: index and convert take the same things from each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
import tensorflow as tf
from conversions import converted, run
from foreign import Record, floats, ints, text, write, write_all
from pictures import file_bytes, photo, turned

import tfpipe
from tfpipe import augment
from tfpipe.cli.index import notes
from tfpipe.errors import DataError, UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import Feature, Schema

RAW_SIZE = (24, 32)

# The records, --label_kind, whether they hold pixels, and the columns besides image and label.
LAYOUTS: list[tuple[Callable[[int], Record], str, bool, set[str]]] = [
    (foreign.tfds, "class", False, set()),
    (foreign.imagenet, "class", False, {"image/height", "image/object/bbox/xmin"}),
    (foreign.book, "class", True, set()),
    (foreign.pixels, "class", True, set()),
    (foreign.tensorflow, "class", True, {"height", "width", "depth"}),
    (foreign.tensorflow_sizes, "class", True, {"height", "width", "depth"}),
    (foreign.two_sides, "class", True, {"rows", "cols"}),
    (foreign.float_bytes, "class", True, set()),
    (foreign.float_levels, "class", True, {"image/height", "image/width"}),
    (
        foreign.detection,
        "multi",
        False,
        {"image/format", "image/source_id", "image/height", "image/width", "image/object/class/text", "box_labels"},
    ),
    (foreign.boxed_pngs, "class", False, set()),
    (foreign.boxed_pixels, "class", True, {"height", "width", "depth"}),
    (foreign.several, "multi", False, set()),
    (foreign.vector, "multi", False, set()),
]


def numbered(make: Callable[[int], Record]) -> Callable[[int], Record]:
    """Records with a column by which they are found again."""
    return lambda number: {**make(number), "number": ints(number), "words": text(*[b"w%d" % number] * (number % 3))}


def records_of(source: Manifest, split: str, **options: Any) -> dict[int, dict[str, Any]]:
    """The records of a split by their number, as the reader gives them."""
    found = {}
    for batch in tfpipe.make_dataset(source, split, batch_size=1, labels=None, training=False, **options):
        record = {name: value[0].numpy() for name, value in batch.items()}
        found[int(record["number"])] = record
    return found


def in_levels(image: np.ndarray) -> np.ndarray:
    """RGB levels of an image of any dtype and number of channels."""
    levels = image * 255 if image.dtype != np.uint8 and image.max() <= 1 else image
    return np.broadcast_to(np.rint(levels), (*image.shape[:2], 3))


@pytest.mark.parametrize(("make", "kind", "is_pixels", "columns"), LAYOUTS, ids=[row[0].__name__ for row in LAYOUTS])
def test_index_and_convert_give_equal_images_labels_boxes_and_columns(
    tmp_path: Path, make, kind, is_pixels, columns
) -> None:
    write_all(tmp_path / "theirs", numbered(make))
    adopted = tfpipe.index(tmp_path / "theirs", output=tmp_path / "adopted")
    anew = converted(tmp_path / "theirs", tmp_path / "converted", label_kind=kind, max_rejected="0")
    assert {name: split.num_records for name, split in anew.splits.items()} == {"train": 30, "validation": 10}
    assert anew.class_names == adopted.class_names
    assert set(anew.schema.names) & set(adopted.schema.names) >= {"number", "words", *columns}
    for split in ("train", "validation"):
        size = {} if is_pixels and None not in adopted.schema["image"].shape else {"image_size": RAW_SIZE}
        ours = records_of(anew, split, **({"image_size": RAW_SIZE} if size else {}))
        theirs = records_of(adopted, split, **size)
        assert set(ours) == set(theirs)
        for number, record in theirs.items():
            if is_pixels and not size:
                np.testing.assert_array_equal(ours[number]["image"], in_levels(record["image"]))
            elif not is_pixels or record["image"].dtype == np.uint8:
                np.testing.assert_array_equal(ours[number]["image"], record["image"])
            for name in {"number", "words", "boxes", *columns} & set(record):
                np.testing.assert_array_equal(ours[number][name], record[name])
            if "label_int" in record and adopted.schema.label_kind != "vector":
                np.testing.assert_array_equal(ours[number]["label_int"], record["label_int"])
        assert ("boxes" in ours[0]) == ("boxes" in theirs[0]) == ("image/object/bbox/ymin" in make(0))


@pytest.mark.parametrize("row", [row for row in LAYOUTS if row[2]], ids=lambda row: row[0].__name__)
def test_pixels_come_out_as_they_went_in(tmp_path: Path, row) -> None:
    make, height = row[0], 8
    write(tmp_path / "theirs" / "a.tfrecord", [numbered(make)(number) for number in range(0, 12, 3)])
    for manifest in (
        tfpipe.index(tmp_path / "theirs", output=tmp_path / "adopted"),
        converted(tmp_path / "theirs", tmp_path / "converted", split={"train": 1.0}),
    ):
        for number, record in records_of(manifest, "train").items():
            assert record["image"].shape[:2] == (height, 10)
            shown = photo(number, height, 10)
            expected = shown[..., :1] if make is foreign.tensorflow else shown
            np.testing.assert_array_equal(in_levels(record["image"]), np.broadcast_to(expected, (8, 10, 3)))


# ---- boxes


@pytest.mark.parametrize("how", ["index", "convert"])
@pytest.mark.parametrize("make", [foreign.detection, foreign.boxed_pngs])
def test_boxes_of_four_features_are_pixels_of_the_batch_and_move_with_a_flip(tmp_path: Path, make, how) -> None:
    write(tmp_path / "theirs" / "a.tfrecord", [numbered(make)(number) for number in (2, 6, 10)])
    if how == "index":
        manifest = tfpipe.index(tmp_path / "theirs")
    else:
        manifest = converted(tmp_path / "theirs", tmp_path / "out", split={"train": 1.0}, label_kind="multi")
    options: dict[str, Any] = {"batch_size": 3, "labels": None, "image_size": (60, 80), "resize": "stretch"}
    (plain,) = tfpipe.make_dataset(manifest, training=False, **options)
    assert not [name for name in plain if "bbox" in name]
    for number, boxes in zip(plain["number"].numpy(), plain["boxes"].to_list(), strict=True):
        low = [0.125 * (i + 1) for i in range(number % 3 + 1)]
        expected = [[80 * x, 30 * x, 80 * (x + 0.25), 60 * x] for x in low]
        np.testing.assert_allclose(boxes, expected, rtol=1e-6)
    flip = augment.flip_left_right(p=1.0)
    (flipped,) = tfpipe.make_dataset(manifest, training=True, transforms=[flip], **options)
    by_number = dict(zip(plain["number"].numpy(), plain["boxes"].to_list(), strict=True))
    for number, boxes in zip(flipped["number"].numpy(), flipped["boxes"].to_list(), strict=True):
        expected = [[80 - x1, y0, 80 - x0, y1] for x0, y0, x1, y1 in by_number[number]]
        np.testing.assert_allclose(boxes, expected, rtol=1e-5)


def test_boxes_in_pixels_stay_as_they_are_and_both_say_so(tmp_path: Path) -> None:
    corners = {name: floats([3.0, 20.0]) for name in ("xmin", "ymin", "xmax", "ymax")}
    record = {**foreign.tfds(1), **{f"image/object/bbox/{name}": values for name, values in corners.items()}}
    write(tmp_path / "theirs" / "a.tfrecord", [record] * 3)
    adopted = tfpipe.index(tmp_path / "theirs", output=tmp_path / "adopted")
    assert adopted.made_by["adopted"]["boxes_not_moved"] == "a record has the value 3"
    outcome = run(tmp_path / "theirs", tmp_path / "out", split={"train": 1.0})
    assert outcome.notes[-1].endswith("are no fractions of the image, and don't move: a record has the value 3.")
    for manifest in (adopted, outcome.manifest):
        (batch,) = tfpipe.make_dataset(manifest, batch_size=3, labels=None, training=False)
        assert batch["image/object/bbox/xmax"].numpy().tolist() == [[3.0, 20.0]] * 3


def test_a_derived_feature_that_no_reader_can_make_is_refused() -> None:
    parts = tuple(Feature(name, "float32", (None,)) for name in "abcd")
    assert Schema.from_json(Schema("raw", parts, (("boxes", tuple("abcd")),)).to_json()).derived_from("boxes")
    for derived, sentence in [
        (("boxes", ("a", "b")), r"boxes are made of four lists of float32; the schema names \['a', 'b'\]"),
        (("shape", ("a", "b")), "shape is made of two or three numbers of int64"),
        (("label", ("a",)), r"The schema derives 'label'; it may derive \['boxes', 'shape'\], where no record has it"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            Schema("raw", parts, (derived,))


# ---- labels


def test_ids_from_one_keep_their_numbers_and_convert_says_which_are_empty(tmp_path: Path) -> None:
    write_all(tmp_path / "theirs", foreign.imagenet)
    outcome = run(tmp_path / "theirs", tmp_path / "out")
    assert outcome.manifest is not None
    assert outcome.manifest.class_names == ("0", "cat", "dog", "emu")
    assert "1 class ids have no record (0); ids are taken as they are stored." in outcome.notes


def test_the_order_of_classes_follows_the_ids_and_equal_names_stay_apart(tmp_path: Path) -> None:
    names = [b"zebra", b"crane", b"ant", b"crane"]
    records = [{**foreign.tfds(n), "label": ints(n % 4), "label_text": text(names[n % 4])} for n in range(12)]
    write(tmp_path / "a.tfrecord", records)
    outcome = run(tmp_path / "a.tfrecord", tmp_path / "out", split={"train": 1.0})
    assert outcome.manifest is not None
    assert outcome.manifest.class_names == ("zebra", "crane (1)", "ant", "crane (3)")
    assert outcome.manifest.split("train").class_counts == (3, 3, 3, 3)
    assert "2 classes share their names with others, and got their ids: 'crane (1)', ..." in outcome.notes


def test_a_label_of_several_ints_is_a_vector(tmp_path: Path) -> None:
    write(tmp_path / "bits" / "a.tfrecord", [foreign.vector(n) for n in range(4)])
    bits = tfpipe.index(tmp_path / "bits")
    assert (bits.class_names, bits.split("train").class_counts) == (("0", "1", "2"), (2, 4, 2))
    write(tmp_path / "pairs" / "a.tfrecord", [{**foreign.tfds(n), "label": ints(n, 7)} for n in range(4)])
    pairs = tfpipe.index(tmp_path / "pairs")
    assert pairs.class_names == ()
    for manifest, rows in [
        (bits, [[0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 1, 1]]),
        (pairs, [[n, 7] for n in range(4)]),
    ]:
        for labels, dtype in [("one_hot", tf.float32), ("int", tf.int64)]:
            data = tfpipe.make_dataset(manifest, batch_size=4, labels=labels, training=False)
            assert data.element_spec[1].shape[1:] == [len(rows[0])]
            ((_, found),) = data
            assert found.dtype == dtype
            assert found.numpy().tolist() == rows
    with pytest.raises(
        UsageError, match="can't hold labels of --label_kind class; it takes one of \\['multi', 'none'\\]"
    ):
        run(tmp_path / "bits" / "a.tfrecord", tmp_path / "out")
    with pytest.raises(
        UsageError, match="are vectors of whole numbers that are not all 0 or 1, .* tfpipe index adopts"
    ):
        run(tmp_path / "pairs" / "a.tfrecord", tmp_path / "out")


def test_floats_of_one_length_are_a_vector_to_regress_on(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", [{**foreign.tfds(n), "label": floats([n, 0.5])} for n in range(3)])
    ((_, labels),) = tfpipe.make_dataset(tfpipe.index(tmp_path), batch_size=3, training=False)
    assert labels.numpy().tolist() == [[0, 0.5], [1, 0.5], [2, 0.5]]


def test_records_without_a_class_id_say_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", [{**foreign.tfds(n), "label": text(b"cat")} for n in range(3)])
    manifest = tfpipe.index(tmp_path)
    said = "no label_int: make_dataset(labels=None) gives dicts of their features; tfpipe convert numbers their texts."
    assert len([line for line in notes(manifest) if line.endswith(said)]) == 1
    for labels in ("one_hot", "int"):
        with pytest.raises(ValueError, match="have no label_int; labels=None gives .*; tfpipe convert numbers"):
            tfpipe.make_dataset(manifest, batch_size=1, labels=labels)


# ---- what is carried, and what is not


def test_bytes_texts_lists_and_missing_values_are_carried(tmp_path: Path) -> None:
    def make(number: int) -> Record:
        record = {
            **foreign.imagenet(number),
            "thumbnail": text(bytes([0, 255, number])),
            "parts": text(b"\0", b"\xff" * number),
            "attributes": ints(number, 2, 3),
            "matrix": floats([0.5, number]),
        }
        return record | ({"caption": text(b"caf\xc3\xa9")} if number % 2 else {})

    write(tmp_path / "theirs" / "a.tfrecord", [numbered(make)(number) for number in range(8)])
    adopted = tfpipe.index(tmp_path / "theirs", output=tmp_path / "adopted")
    anew = converted(tmp_path / "theirs", tmp_path / "out", split={"train": 1.0})
    ours, theirs = (records_of(one, "train", image_size=RAW_SIZE) for one in (anew, adopted))
    names = ("thumbnail", "parts", "attributes", "matrix", "caption", "key", "words")
    for number in range(8):
        for name in names:
            np.testing.assert_array_equal(ours[number][name], theirs[number][name])
    assert {name: anew.schema[name].shape for name in names} == {name: adopted.schema[name].shape for name in names}


def test_what_is_not_carried_is_named(tmp_path: Path) -> None:
    records = [
        {**foreign.tfds(n), "mixed": ints(1) if n else text(b"a"), "embedding": floats([1, 2])} for n in range(9)
    ]
    write(tmp_path / "a.tfrecord", records)
    notes = run(tmp_path / "a.tfrecord", tmp_path / "out").notes
    assert "These features are left out: embedding, mixed." in notes


def test_what_is_not_carried_out_of_a_dataset_is_named(tmp_path: Path) -> None:
    write(tmp_path / "theirs" / "a.tfrecord", [numbered(foreign.imagenet)(number) for number in range(4)])
    tfpipe.index(tmp_path / "theirs", output=tmp_path / "adopted")
    outcome = run(tmp_path / "adopted", tmp_path / "out", split=None)
    assert outcome.notes == ("These features are left out: words.",)


def test_an_orientation_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    good = {"image": text(turned(1, 6)), "label": ints(0), "orientation": ints(6)}
    write(tmp_path / "a.tfrecord", [good, {**good, "orientation": ints(3)}])
    outcome = run(tmp_path / "a.tfrecord", tmp_path / "out", split={"train": 1.0})
    assert outcome.refused == {"orientation": 1}
    ((images, _),) = tfpipe.make_dataset(str(tmp_path / "out"), batch_size=1, training=False)
    assert images.shape[1:3] == (40, 30)


def test_float_images_that_are_no_levels_are_refused_and_rounding_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", [foreign.book(n) for n in range(4)])
    (note,) = run(tmp_path / "a.tfrecord", tmp_path / "a").notes
    assert note.endswith("8 bits a channel: the floats, in [0, 1], are multiplied by 255 and rounded.")
    shifted = {**foreign.book(0), "image": floats(np.linspace(-1, 1, 240))}
    write(tmp_path / "b.tfrecord", [shifted])
    with pytest.raises(DataError, match=r"values from -1 to 1; floats in \[0, 1\] or \[0, 255\] are converted"):
        run(tmp_path / "b.tfrecord", tmp_path / "b", max_rejected="0")


# ---- a schema


CIFAR = {
    "payload": "decoded",
    "features": [
        {"name": "image", "dtype": "uint8", "shape": [8, 10, 3], "codec": "pixels", "stored_as": "img_raw"},
        {"name": "label_int", "dtype": "int64", "stored_as": "fine"},
    ],
}


def sizeless(number: int) -> Record:
    return {"img_raw": text(photo(number, 8, 10).tobytes()), "fine": ints(number % 3)}


def test_a_schema_says_what_nothing_else_tells_to_both(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecords", [sizeless(number) for number in range(6)])
    with pytest.raises(ValueError, match=r"img_raw.*.240 bytes; no feature tells the size of pixels\); --schema"):
        tfpipe.index(tmp_path)
    with pytest.raises(UsageError, match="--schema FILE.json says what the features are"):
        run(path, tmp_path / "out")
    (tmp_path / "schema.json").write_text(json.dumps(CIFAR))
    adopted = tfpipe.index(path, Schema.from_json(tfpipe_form(CIFAR)), tmp_path / "adopted")
    outcome = run(path, tmp_path / "out", schema=str(tmp_path / "schema.json"), split={"train": 1.0})
    assert outcome.manifest is not None
    assert outcome.manifest.made_by["options"]["schema"]["features"][0]["stored_as"] == "img_raw"
    assert outcome.manifest.class_names == adopted.class_names == ("0", "1", "2")
    for manifest in (adopted, outcome.manifest):
        data = tfpipe.make_dataset(manifest, batch_size=6, labels="int", training=False)
        ((images, labels),) = data
        shown = {image.tobytes(): int(label) for image, label in zip(images.numpy(), labels.numpy(), strict=True)}
        assert shown == {photo(number, 8, 10).tobytes(): number % 3 for number in range(6)}


def tfpipe_form(document: Any) -> Any:
    return {**document, "features": [{"shape": [], "codec": "plain", **one} for one in document["features"]]}


def test_a_schema_that_is_none_or_fits_no_source_is_refused(tmp_path: Path, from_folder: Manifest) -> None:
    path = write(tmp_path / "a.tfrecords", [sizeless(1)])
    for content, sentence in [
        ("{", "schema.json': Expecting property name"),
        ('{"features": []}', "schema.json': Not a schema: KeyError: 'payload'"),
        (
            '{"payload": "decoded", "features": [{"name": "image", "dtype": "uint9"}]}',
            "has dtype 'uint9'; known dtypes",
        ),
    ]:
        (tmp_path / "schema.json").write_text(content)
        with pytest.raises(UsageError, match=sentence):
            run(path, tmp_path / "out", schema=str(tmp_path / "schema.json"))
    with pytest.raises(UsageError, match="--schema 'none.json' can't be read"):
        run(path, tmp_path / "out", schema="none.json")
    (tmp_path / "schema.json").write_text(json.dumps(CIFAR))
    with pytest.raises(UsageError, match="--schema says what TFRecords without a manifest hold"):
        run(from_folder.directory, tmp_path / "out", schema=str(tmp_path / "schema.json"))
    (tmp_path / "list.csv").write_text("a.jpg,cat\n")
    with pytest.raises(UsageError, match="--schema says what the features of TFRecords are; .*list.csv' holds none"):
        run(tmp_path / "list.csv", tmp_path / "out", schema=str(tmp_path / "schema.json"))


# ---- names of files


@pytest.mark.parametrize(
    "name",
    [
        "train-00000-of-00002",
        "a.record",
        "a.records",
        "a.tfrec",
        "a.tfrecord",
        "a.tfrecords",
        "x.tfrecord-00000-of-00001",
    ],
)
@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_index_and_convert_take_the_same_names_in_a_folder_too(tmp_path: Path, name, compression) -> None:
    path = tmp_path / "in" / (name + (".gz" if compression else ""))
    file = write(path, [foreign.tfds(n) for n in range(6)], compression)
    (tmp_path / "in" / "notes.md").write_text("beside them")
    for source, output in ((file.parent, tmp_path / "of_folder"), (file, tmp_path / "of_file")):
        assert tfpipe.index(source, output=output / "adopted").num_records() == 6
        manifest = run(source, output / "converted", split={"train": 1.0}).manifest
        assert manifest is not None
        assert manifest.num_records("train") == 6
        assert run(source, output / "plan", dry_run=True).plan.listed == 6


def test_both_take_the_splits_that_names_tell(tmp_path: Path) -> None:
    for name in ("a-train-00000", "eval-00000-of-00001", "holdout-00000-of-00001"):
        write(tmp_path / "in" / f"{name}.tfrecord", [foreign.tfds(n) for n in range(4)])
    expected = {"train": 4, "validation": 4, "test": 4}
    for manifest in (
        tfpipe.index(tmp_path / "in", output=tmp_path / "adopted"),
        run(tmp_path / "in", tmp_path / "out").manifest,
    ):
        assert manifest is not None
        assert {name: split.num_records for name, split in manifest.splits.items()} == expected
    write(tmp_path / "in" / "dev.tfrecord", [foreign.tfds(1)])
    with pytest.raises(UsageError, match="'dev' in their names, others 'eval': both mean the split validation; index"):
        tfpipe.index(tmp_path / "in", output=tmp_path / "again")
    with pytest.raises(UsageError, match="both mean the split validation; convert each kind on its own"):
        run(tmp_path / "in", tmp_path / "again")
    (tmp_path / "in" / "dev.tfrecord").rename(tmp_path / "in" / "other.tfrecord")
    with pytest.raises(UsageError, match="'a-train-00000.tfrecord' tells its split, that of 'other.tfrecord' does not"):
        run(tmp_path / "in", tmp_path / "again")


def test_pixels_are_planned_by_the_sizes_of_their_files(tmp_path: Path) -> None:
    def flat(number: int) -> Record:
        pixels = np.full((64, 64, 3), number, np.uint8)
        return {**foreign.pixels(number), "image": text(pixels.tobytes()), "shape": ints(64, 64, 3)}

    write(tmp_path / "a.tfrecord", [flat(number) for number in range(40)])
    outcome = run(tmp_path / "a.tfrecord", tmp_path / "out", target_bytes=1_000_000, split={"train": 1.0})
    assert outcome.manifest is not None
    written = outcome.manifest.split("train").num_bytes
    assert written / 2 < outcome.plan.num_bytes < 2 * written < 40 * 64 * 64


def test_png_files_of_records_are_not_touched(tmp_path: Path) -> None:
    data = file_bytes(photo(1), "PNG")
    write(tmp_path / "a.tfrecord", [{"image": text(data), "label": ints(0)}])
    manifest = run(tmp_path / "a.tfrecord", tmp_path / "out", split={"train": 1.0}).manifest
    assert manifest is not None
    assert data in manifest.shard_path(manifest.split("train").shards[0]).read_bytes()
