"""Columns of a listing go by their names: file, label, split, group, key, mask and boxes are honoured or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from conversions import converted
from listed import row_file, touch
from pictures import file_bytes, photo, stock_read

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job
from beam_jobs.sources import LeftOut, Listed, Ref, Refused, open_source
from beam_jobs.sources.options import SourceOptions
from tfpipe.errors import UsageError


def write(root: Path, content: str | bytes, *files: str, name: str = "list.csv") -> Path:
    """A listing beside the files that it names."""
    touch(root, *(files or ("a.jpg", "b.jpg", "c.jpg")))
    path = root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def found(path: Path, **options: Any) -> list[Any]:
    source = open_source(str(path), options=SourceOptions(**options))
    return [entry for piece in source.pieces(None) for entry in source.entries(piece)]


def labels(path: Path, **options: Any) -> dict[str, str]:
    return {e.key: e.label if isinstance(e, Listed) else e.reason for e in found(path, **options)}


# ---- the file and the label


@pytest.mark.parametrize(
    "header",
    [
        *(
            "image_path,label",
            "filename,class",
            "File Name,Target",
            "IMG,Category",
            "ImagePath,labels",
            "filepath,classes",
        ),
        *("image_id,label", "image,class_name", "path,category_id", "IMAGE,Y", "photo,ClassId", "url,label_name"),
    ],
)
def test_the_usual_names_in_any_case(tmp_path: Path, header: str) -> None:
    assert labels(write(tmp_path, f"{header}\na.jpg,cat\nb.jpg,dog\n")) == {"a.jpg": "cat", "b.jpg": "dog"}


def test_the_label_is_found_behind_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "width,class,height,filename\n48,cat,64,a.jpg\n48,dog,64,b.jpg\n")
    assert labels(path) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert open_source(str(path)).columns == ("width", "height")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_json_and_parquet_go_by_the_same_names(tmp_path: Path, kind: str) -> None:
    rows = [{"Image_Path": "a.jpg", "Category": "cat", "n": 1}, {"Image_Path": "b.jpg", "Category": "dog", "n": 2}]
    path = row_file(tmp_path, rows, kind)
    assert labels(path) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert open_source(str(path)).columns == ("n",)


def test_options_name_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "shot,species,when\na.jpg,cat,noon\nb.jpg,dog,noon\n")
    assert labels(path, file_column="shot", label_column="species") == {"a.jpg": "cat", "b.jpg": "dog"}
    assert labels(path, label_column="when", file_column="Shot") == {"a.jpg": "noon", "b.jpg": "noon"}
    with pytest.raises(UsageError, match=r"--label_column 'kind'.*\['shot', 'species', 'when'\]"):
        open_source(str(path), options=SourceOptions(label_column="kind"))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("filename,width,height", "known as the label.*'filename', 'width', 'height'.*--label_column"),
        ("filename,one,two", "known as the label.*'filename', 'one', 'two'.*--label_column.*--label_kind none"),
        ("filename,label,class", r"\['label', 'class'\].*can both be the label; --label_column"),
        ("filename,caption", "known as the label.*--label_kind none"),
    ],
)
def test_a_label_that_can_t_be_told_stops_the_job(tmp_path: Path, header: str, said: str) -> None:
    cells = ",".join(["x"] * header.count(","))
    with pytest.raises(UsageError, match=said):
        open_source(str(write(tmp_path, f"{header}\na.jpg,{cells}\nb.jpg,{cells}\n")))


def test_files_that_are_there_decide_between_two_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "image,path,label\nfront view,a.jpg,cat\nside,b.jpg,dog\n")
    assert labels(path) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert open_source(str(path)).columns == ("column_image",)
    both = write(tmp_path, "image,path,label\na.jpg,b.jpg,cat\n", name="both.csv")
    with pytest.raises(UsageError, match=r"\['image', 'path'\].*--file_column"):
        open_source(str(both))
    assert labels(both, file_column="path", label_column="label") == {"b.jpg": "cat"}


def test_the_only_column_left_is_the_label(tmp_path: Path) -> None:
    path = write(tmp_path, "id_code,diagnosis\na,2\nb,0\n", "a.png", "b.png")
    assert labels(path) == {"a": "2", "b": "0"}


def test_a_row_s_number_without_a_name_rides_along(tmp_path: Path) -> None:
    path = write(tmp_path, ",image,label\n0,a.jpg,cat\n1,b.jpg,dog\n")
    assert labels(path) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert open_source(str(path)).columns == ("column_1",)


# ---- header, separator, encoding


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("shot,kind\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\n", {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "cat"}),
        ("z.jpg,cat\na.jpg,dog\n", {"z.jpg": "missing", "a.jpg": "dog"}),
        ("z,cat\na.jpg,cat\n", {"z": "missing", "a.jpg": "cat"}),
        ("a.jpg,image\nb.jpg,label\n", {"a.jpg": "image", "b.jpg": "label"}),
    ],
)
def test_a_header_is_no_file_where_later_rows_have_one(tmp_path: Path, content: str, expected: dict[str, str]) -> None:
    assert labels(write(tmp_path, content)) == expected


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
def test_separators_encodings_and_line_ends(
    tmp_path: Path, separator: str, encoding: str, end: str, header: bool
) -> None:
    rows = [["file", "label"]] * header + [["größe.jpg", "Käfer; klein, rot"], ["b.jpg", "cat"]]
    quoted = [[f'"{cell}"' if set(cell) & set(",;\t") else cell for cell in row] for row in rows]
    content = end.join(separator.join(row) for row in quoted) + end
    path = write(tmp_path, content.encode(encoding), "größe.jpg", "b.jpg")
    assert labels(path) == {"größe.jpg": "Käfer; klein, rot", "b.jpg": "cat"}


def test_a_separator_inside_the_cells_of_another(tmp_path: Path) -> None:
    path = write(tmp_path, "file;label;note\na.jpg;cat;1,5\nb.jpg;dog;2,5\n")
    assert labels(path) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert labels(write(tmp_path, "a.jpg;1,5;cat\nb.jpg;2,5;dog\n"), label_column="column_3") == {
        "a.jpg": "cat",
        "b.jpg": "dog",
    }


def test_the_ending_tsv(tmp_path: Path) -> None:
    assert labels(write(tmp_path, "file\tlabel\na.jpg\tbig cat\n", name="list.tsv")) == {"a.jpg": "big cat"}


# ---- the split and the group


@pytest.mark.parametrize("column", ["split", "Split", "data_split", "subset", "partition", "set", "Usage", "phase"])
def test_a_split_column_is_honoured(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, f"file,label,{column}\na.jpg,cat,Training\nb.jpg,dog,holdout\nc.jpg,dog,dev\n")
    assert {e.key: e.split for e in found(path)} == {"a.jpg": "train", "b.jpg": "test", "c.jpg": "validation"}
    assert open_source(str(path)).splits == ("train", "validation", "test")


def test_other_words_are_splits_of_their_own_only_in_a_column_of_that_name(tmp_path: Path) -> None:
    path = write(tmp_path, "file,label,split\na.jpg,cat,train\nb.jpg,dog,unlabeled\n")
    assert {e.key: e.split for e in found(path)} == {"a.jpg": "train", "b.jpg": "unlabeled"}
    colours = write(tmp_path, "file,label,set\na.jpg,cat,red\nb.jpg,dog,blue\n")
    assert {e.key: (e.split, e.extras) for e in found(colours)} == {"a.jpg": ("", ("red",)), "b.jpg": ("", ("blue",))}
    usage = write(tmp_path, "file,label,Usage\na.jpg,cat,PublicTest\nb.jpg,dog,Training\n")
    with pytest.raises(UsageError, match="'Usage'.*'Training' and 'PublicTest'.*--split_column Usage"):
        open_source(str(usage))
    assert {e.split for e in found(usage, split_column="Usage")} == {"PublicTest", "train"}


@pytest.mark.parametrize(
    ("column", "cells"), [("where", ("train", "Test")), ("is_train", ("1", "0")), ("Training", ("True", "False"))]
)
def test_a_column_of_another_name_that_may_say_the_split_stops_the_job(
    tmp_path: Path, column: str, cells: tuple[str, str]
) -> None:
    path = write(tmp_path, f"file,label,{column}\na.jpg,cat,{cells[0]}\nb.jpg,dog,{cells[1]}\n")
    with pytest.raises(UsageError, match=f"'{column}'.*--split_column none"):
        open_source(str(path))
    assert {e.split for e in found(path, split_column="none")} == {""}


def test_boxes_without_a_header_stop_the_job(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jpg,1,2,30,40,dog\nb.jpg,1,2,30,40,cat\n")
    with pytest.raises(UsageError, match="file,xmin,ymin,xmax,ymax,label.*--label_column column_2"):
        open_source(str(path))
    assert labels(path, label_column="column_6") == {"a.jpg": "dog", "b.jpg": "cat"}


@pytest.mark.parametrize(
    ("cells", "said"),
    [(("dev", "eval"), "'dev' and 'eval'.*'validation'.*--split_column"), (("0", "1"), "'0'.*names no")],
)
def test_splits_that_can_be_read_in_two_ways_stop_the_job(tmp_path: Path, cells: tuple[str, str], said: str) -> None:
    path = write(tmp_path, f"file,label,split\na.jpg,cat,{cells[0]}\nb.jpg,dog,{cells[1]}\n")
    with pytest.raises(UsageError, match=said):
        open_source(str(path))
    assert {e.split for e in found(path, split_column="none")} == {""}


def test_a_row_without_a_split_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "file,label,split\na.jpg,cat,train\nb.jpg,dog,\n")
    assert labels(path) == {"a.jpg": "cat", "b.jpg": "empty_split"}


def test_records_keep_their_split_and_split_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, 12)
    path = tmp_path / "list.csv"
    path.write_text("file,label,split\n" + "".join(f"{i}.jpg,x,{'test' if i % 4 else 'Train'}\n" for i in range(12)))
    manifest = converted(path, tmp_path / "out")
    assert {name: split.num_records for name, split in manifest.splits.items()} == {"train": 3, "test": 9}
    with pytest.raises(UsageError, match="assigns the splits"):
        convert(Job(str(path), str(tmp_path / "no"), split={"train": 1.0}))


def pictures(root: Path, count: int, size: tuple[int, int] = (40, 30)) -> None:
    for i in range(count):
        (root / f"{i}.jpg").write_bytes(file_bytes(photo(i, *size), "JPEG"))


def test_groups_stay_together(tmp_path: Path) -> None:
    pictures(tmp_path, 60)
    path = tmp_path / "list.csv"
    path.write_text("file,label,patient\n" + "".join(f"{i}.jpg,x,p{i % 15}\n" for i in range(60)))
    manifest = converted(path, tmp_path / "out", group_column="patient")
    splits: dict[bytes, set[str]] = {}
    for split in manifest.splits:
        for record in stock_read(manifest, split, group=tf.io.FixedLenFeature([], tf.string)):
            splits.setdefault(record["group"], set()).add(split)
    assert len(splits) == 15
    assert all(len(found) == 1 for found in splits.values())
    assert len({split for found in splits.values() for split in found}) > 1
    with pytest.raises(UsageError, match="--split_column and --group_column"):
        Job(str(path), "out", group_column="patient", split_column="label")
    split = write(tmp_path, "file,label,patient,split\na.jpg,x,p,train\n")
    with pytest.raises(UsageError, match="'split'.*--split_column none"):
        open_source(str(split), options=SourceOptions(group_column="patient"))
    assert labels(write(tmp_path, "file,label,patient\na.jpg,x,\n"), group_column="patient") == {"a.jpg": "empty_group"}


def test_a_key_column_names_the_record(tmp_path: Path) -> None:
    path = write(tmp_path, "key,file,label\none,a.jpg,cat\ntwo,b.jpg,dog\n")
    assert labels(path) == {"one": "cat", "two": "dog"}
    source = open_source(str(path))
    assert {e.key: source.read(ref(e)) for e in found(path)} == {"one": b"x", "two": b"x"}


def ref(entry: Listed) -> Any:
    return Ref(0, entry.key, entry.label, entry.size, entry.extras, entry.locator)


# ---- the order of classes


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "2", "1", "0"], ("0", "1", "2", "10")),
        (["-1", "10", "3"], ("-1", "3", "10")),
        (["10.0", "2.0"], ("2.0", "10.0")),
        (["10", "2", "cat"], ("10", "2", "cat")),
    ],
)
def test_whole_numbers_sort_as_numbers(tmp_path: Path, names: list[str], order: tuple[str, ...]) -> None:
    pictures(tmp_path, len(names))
    path = tmp_path / "list.csv"
    path.write_text("file,label\n" + "".join(f"{i}.jpg,{name}\n" for i, name in enumerate(names)))
    manifest = converted(path, tmp_path / "out")
    assert manifest.class_names == order


# ---- Kaggle's layouts


def test_image_root_ids_and_windows_separators(tmp_path: Path) -> None:
    touch(tmp_path, "train/0a1b.jpg", "train/deep/1.2.826.png", "train/sub/x.jpg", "train/two.jpg", "train/b/two.png")
    path = write(tmp_path, "image_id,label\n0a1b,cat\n1.2.826,dog\nsub\\x.jpg,cat\ntwo,dog\nnone,dog\n", "z.txt")
    entries = {e.key: e for e in found(path, image_root=str(tmp_path / "train"))}
    assert {key: e.label if isinstance(e, Listed) else e.reason for key, e in entries.items()} == {
        "0a1b": "cat",
        "1.2.826": "dog",
        "sub/x.jpg": "cat",
        "two": "several_files",
        "none": "missing",
    }
    assert "b/two.png" in entries["two"].detail
    source = open_source(str(path), options=SourceOptions(image_root=str(tmp_path / "train")))
    assert source.read(ref(entries["1.2.826"])) == b"x"
    with pytest.raises(UsageError, match="--image_root.*no such folder"):
        open_source(str(path), options=SourceOptions(image_root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(("separator", "cell"), [("|", "cat|dog"), (" ", "dog  cat"), (",", '"dog, cat"')])
def test_several_labels_in_a_cell(tmp_path: Path, separator: str, cell: str) -> None:
    path = write(tmp_path, f"file,labels\na.jpg,{cell}\nb.jpg,\nc.jpg,dog\n")
    expected = {"a.jpg": "cat\x1fdog", "b.jpg": "", "c.jpg": "dog"}
    assert labels(path, label_kind="multi", label_separator=separator) == expected
    with pytest.raises(UsageError, match="one class or several; --label_separator"):
        open_source(str(path), options=SourceOptions(label_kind="multi"))


@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("-1", "1"), ("0.0", "1.0"), ("False", "True")])
def test_columns_of_0_and_1_are_classes(tmp_path: Path, no: str, yes: str) -> None:
    path = write(tmp_path, f"image,rust,scab,age\na.jpg,{yes},{yes},3\nb.jpg,{no},{no},4\nc.jpg,{no},{yes},5\n")
    assert labels(path, label_kind="multi") == {"a.jpg": "rust\x1fscab", "b.jpg": "", "c.jpg": "scab"}
    assert open_source(str(path), options=SourceOptions(label_kind="multi")).columns == ("age",)
    chosen = SourceOptions(label_kind="multi", label_column="scab,rust")
    assert open_source(str(path), options=chosen).columns == ("age",)
    with pytest.raises(UsageError, match=r"\['rust', 'scab'\] hold 0 and 1: --label_kind multi"):
        open_source(str(path))
    with pytest.raises(UsageError, match="'age'.*not 0 or 1"):
        open_source(str(path), options=SourceOptions(label_kind="multi", label_column="rust,age"))


def test_images_without_labels(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    path = tmp_path / "list.csv"
    path.write_text("image,caption\n0.jpg,a cat sleeps\n1.jpg,two dogs\n2.jpg,a tree\n")
    manifest = converted(path, tmp_path / "out", label_kind="none", split={"train": 1.0})
    assert manifest.class_names == ()
    batches = tfpipe.make_dataset(manifest, batch_size=3, image_size=(8, 8), labels=None)
    captions = [caption for batch in batches for caption in batch["caption"].numpy().tolist()]
    assert sorted(captions) == [b"a cat sleeps", b"a tree", b"two dogs"]
    one = write(tmp_path, "a.jpg\nb.jpg\n")
    assert labels(one, label_kind="none") == {"a.jpg": "", "b.jpg": ""}
    with pytest.raises(UsageError, match="has one cell.*--label_kind none"):
        open_source(str(one))


def test_a_folder_of_images_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "deep/b.jpg", ".hidden/c.jpg", "Thumbs.db")
    assert labels(tmp_path, label_kind="none") == {"a.jpg": "", "deep/b.jpg": ""}
    with pytest.raises(UsageError, match="--label_kind none takes images without labels"):
        open_source(str(touch(tmp_path / "flat", "a.jpg")))
    split = touch(tmp_path / "split", "Training/a.jpg", "Testing/x/b.jpg")
    assert {e.key: e.split for e in found(split, label_kind="none")} == {
        "Testing/x/b.jpg": "test",
        "Training/a.jpg": "train",
    }


# ---- images inside Parquet


def test_parquet_with_images_inside_goes_by_the_same_names(tmp_path: Path) -> None:
    images = [{"bytes": file_bytes(photo(i), "JPEG"), "path": f"{i}.jpg"} for i in range(3)]
    rows = [
        {"img": images[i], "Category": name, "split": split, "patient": f"p{i % 2}", "n": i}
        for i, (name, split) in enumerate((("10", "Train"), ("2", "test"), ("2", "train")))
    ]
    path = row_file(tmp_path, rows, "parquet")
    assert [(e.label, e.split) for e in found(path)] == [("10", "train"), ("2", "test"), ("2", "train")]
    assert open_source(str(path)).columns == ("patient", "n")
    grouped = found(path, group_column="patient", split_column="none")
    assert [(e.group, e.split) for e in grouped] == [("p0", ""), ("p1", ""), ("p0", "")]
    assert {e.label for e in found(path, label_kind="none")} == {""}
    with pytest.raises(UsageError, match="--label_column 'kind'"):
        open_source(str(path), options=SourceOptions(label_column="kind"))


# ---- boxes

CORNERS = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def boxes_of(entry: Listed, path: Path, **options: Any) -> dict[str, str]:
    return dict(zip(open_source(str(path), options=SourceOptions(**options)).columns, entry.extras, strict=True))


def test_rows_of_one_file_are_one_record_with_boxes(tmp_path: Path) -> None:
    rows = "a.jpg,48,64,dog,1,2,11,12\nb.jpg,48,64,cat,0,0,5,5\na.jpg,48,64,dog,3,3,9,9\na.jpg,48,64,cat,2,2,4,4\n"
    path = write(tmp_path, CORNERS + rows)
    one, two = found(path)
    assert (one.key, one.label, two.key, two.label) == ("a.jpg", "dog", "b.jpg", "cat")
    assert boxes_of(one, path) == {
        "width": "48",
        "height": "64",
        "box_labels": "1 1 0",
        "boxes": "1.0 2.0 11.0 12.0 3.0 3.0 9.0 9.0 2.0 2.0 4.0 4.0",
    }
    assert [e.label for e in found(path, label_kind="multi")] == ["cat\x1fdog", "cat"]


def test_box_labels_are_the_ids_of_the_labels_file(tmp_path: Path) -> None:
    path = write(tmp_path, CORNERS + "a.jpg,48,64,dog,1,2,11,12\n")
    (entry,) = found(path, class_names=("zebra", "cat", "dog"))
    assert boxes_of(entry, path, class_names=("zebra", "cat", "dog"))["box_labels"] == "2"
    assert labels(path, class_names=("zebra",)) == {"a.jpg": "unknown_label"}


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("image_id,label,bbox", 'a.jpg,cat,"[1, 2, 10, 20]"', "1.0 2.0 11.0 22.0"),
        ("image_id,label,x,y,w,h", "a.jpg,cat,1,2,10,20", "1.0 2.0 11.0 22.0"),
        ("ImageID,LabelName,XMin,YMin,XMax,YMax", "a.jpg,cat,1,2,10,20", "1.0 2.0 10.0 20.0"),
        ("file,label,x1,y1,x2,y2", "a.jpg,cat,1,2,10,20", "1.0 2.0 10.0 20.0"),
        ("file,label,Left,Top,Right,Bottom", "a.jpg,cat,1,2,10,20", "1.0 2.0 10.0 20.0"),
    ],
)
def test_the_usual_columns_of_boxes(tmp_path: Path, header: str, cells: str, expected: str) -> None:
    path = write(tmp_path, f"{header}\n{cells}\n")
    (entry,) = found(path)
    assert boxes_of(entry, path)["boxes"] == expected


def test_boxes_as_fractions_take_the_size_of_the_image(tmp_path: Path) -> None:
    pictures(tmp_path, 1, (40, 30))
    path = tmp_path / "list.csv"
    path.write_text("ImageID,LabelName,XMin,YMin,XMax,YMax\n0,cat,0.25,0.5,0.75,1\n")
    (entry,) = found(path)
    assert boxes_of(entry, path)["boxes"] == "7.5 20.0 22.5 40.0"


def test_the_order_of_a_box_s_numbers_is_not_guessed(tmp_path: Path) -> None:
    pictures(tmp_path, 1, (40, 30))
    path = tmp_path / "list.csv"
    path.write_text('file,label,bbox\n0.jpg,cat,"[20, 30, 28, 38]"\n')
    with pytest.raises(UsageError, match=r"'bbox'.*\(xywh\).*\(xyxy\); --box_order"):
        open_source(str(path))
    (entry,) = found(path, box_order="xyxy")
    assert boxes_of(entry, path, box_order="xyxy")["boxes"] == "20.0 30.0 28.0 38.0"


def test_boxes_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    path = tmp_path / "list.csv"
    rows = "0.jpg,30,40,dog,1,2,1,12\n0.jpg,30,40,cat,3,3,9,9\n1.jpg,30,40,dog,5,5,4,9\n"
    path.write_text(CORNERS + rows)
    entries = found(path)
    assert [e for e in entries if isinstance(e, LeftOut)] == [LeftOut("boxes_without_area")] * 2
    assert {e.key: e.label for e in entries if isinstance(e, Listed)} == {"0.jpg": "cat", "1.jpg": "dog"}
    manifest = converted(path, tmp_path / "out")
    assert manifest.made_by["left_out"] == {"boxes_without_area": 2}


def test_images_without_boxes(tmp_path: Path) -> None:
    path = write(tmp_path, CORNERS + "a.jpg,48,64,dog,1,2,11,12\nb.jpg,48,64,,,,,\n")
    assert labels(path, label_kind="multi") == {"a.jpg": "dog", "b.jpg": ""}
    (refused,) = [e for e in found(path) if isinstance(e, Refused)]
    assert (refused.reason, "--label_kind multi" in refused.detail) == ("empty_label", True)


def test_what_can_be_no_box_refuses_its_image(tmp_path: Path) -> None:
    path = write(tmp_path, CORNERS + "a.jpg,48,64,dog,1,2,x,12\nb.jpg,48,64,dog,1,2,3,nan\nc.jpg,48,64,dog,1,2,3,4\n")
    assert labels(path) == {"a.jpg": "bad_box", "b.jpg": "bad_box", "c.jpg": "dog"}


def test_what_differs_between_the_rows_of_a_file(tmp_path: Path) -> None:
    header = "file,label,xmin,ymin,xmax,ymax,score,depth,camera,split\n"
    path = write(tmp_path, header + "a.jpg,cat,1,1,2,2,.5,1,left,train\na.jpg,dog,1,1,3,3,,2,left,train\n")
    (entry,) = found(path)
    cells = boxes_of(entry, path)
    assert (cells["score"], cells["depth"], cells["camera"]) == (".5 nan", "1 2", "left")
    assert dict(open_source(str(path)).dtypes)["score"] == "float32[]"
    other = write(tmp_path, header + "a.jpg,cat,1,1,2,2,1,1,left,train\na.jpg,dog,1,1,3,3,1,1,left,test\n")
    assert labels(other) == {"a.jpg": "bad_row"}


def test_boxes_of_json_rows(tmp_path: Path) -> None:
    rows = [
        {"file": "a.jpg", "boxes": [[1, 2, 3, 4], [5, 6, 7, 9]], "labels": ["cat", "dog"]},
        {"file": "b.jpg", "boxes": [], "labels": []},
    ]
    path = row_file(tmp_path, rows)
    one, two = found(path, label_kind="multi")
    assert boxes_of(one, path, label_kind="multi") == {"boxes": "1.0 2.0 3.0 4.0 5.0 6.0 7.0 9.0", "box_labels": "0 1"}
    assert (two.label, two.extras) == ("", ("", ""))


def test_boxes_of_a_listing_become_pixels_of_the_batch(tmp_path: Path) -> None:
    pictures(tmp_path, 1, (40, 20))
    path = tmp_path / "list.csv"
    path.write_text("file,label,xmin,ymin,xmax,ymax\n0.jpg,cat,2,4,10,20\n0.jpg,dog,0,0,20,40\n")
    converted(path, tmp_path / "out", split={"train": 1.0})
    batches = tfpipe.make_dataset(tmp_path / "out", batch_size=1, image_size=(20, 10), labels=None)
    (batch,) = list(batches)
    assert batch["boxes"][0].numpy().tolist() == [[1, 2, 5, 10], [0, 0, 10, 20]]
    assert batch["box_labels"][0].numpy().tolist() == [0, 1]


# ---- options


def test_options_of_listings_are_refused_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg")
    with pytest.raises(UsageError, match="--file_column goes with a CSV, JSON lines or Parquet listing"):
        open_source(str(tmp_path), options=SourceOptions(file_column="x"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_column": "x", "label_kind": "none"}, "--label_column"),
        ({"label_separator": "|"}, "--label_kind multi"),
        ({"box_order": "yx"}, "--box_order"),
        ({"split_column": "x", "split": {"train": 1.0}}, "--split_column and --split"),
        ({"labels": "f", "label_kind": "none"}, "--labels"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Job("in", "out", **options)


def test_the_manifest_records_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    pictures(tmp_path, 1)
    path = tmp_path / "list.csv"
    path.write_text("a,b\n0.jpg,cat\n")
    converted(path, tmp_path / "out", file_column="a", label_column="b")
    options = json.loads((tmp_path / "out" / "dataset.json").read_text())["made_by"]["options"]
    assert (options["file_column"], options["label_column"]) == ("a", "b")
