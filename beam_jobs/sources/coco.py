"""COCO annotations: the images of a JSON file, with their boxes, keypoints and polygons.

    annotations/instances_train.json        {"images": [...], "categories": [...], "annotations": [...]}
    train/000000000009.jpg                  found beside the file, in images/, or in the folder that the name ends with

A record's class is its most frequent category, the lowest id where several are; with --label_kind multi it is all of
them. An annotation that states no box gives its category all the same. `boxes` is float32 [N, 4] as x0, y0, x1, y1 in
pixels of the image as stored, before its EXIF orientation is applied; conversion and make_dataset move them with the
image. `box_labels` is int64 [N], the classes' ids, in the order of the annotations' ids. Where categories name
keypoints, `keypoints` is float32 [N, K, 3], of each box x, y and COCO's visibility (0 not labelled, 1 hidden, 2 seen),
K the most that a category has; what an annotation or its category lacks is 0. Where annotations have segmentations,
`polygons` is float32 [T, 2], x, y of all points of all boxes' polygons, and `polygon_points` int64 [N] how many of them
are each box's, 0 where it has none; see outlines.

Left out and counted are crowds, segmentations of run lengths, parts of fewer than three points, segmentations of
annotations that give no box, keypoints that no category names, annotations of images that the file does not list, and
boxes without area, whose category counts only where the image has no other.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from beam_jobs.sources.files import absolute, folder_of, is_file, map_files, open_text, resolve
from beam_jobs.sources.labels import LARGEST, label_text
from beam_jobs.sources.listing import (
    Entry,
    LeftOut,
    Listed,
    Ref,
    Refusal,
    Refused,
    check_names,
    printable,
    read_whole,
    to_cell,
)
from beam_jobs.sources.lookup import file_size, image_root
from beam_jobs.sources.options import SourceOptions
from beam_jobs.sources.outlines import read_outline
from tfpipe.errors import UsageError
from tfpipe.storage import is_url

# This many images are looked for until one shows their folder.
_TRIED = 16
_COLUMNS = (("boxes", "float32[4]"), ("box_labels", "int64[]"))
_POLYGON_COLUMNS = (("polygons", "float32[2]"), ("polygon_points", "int64[]"))


@dataclass(frozen=True)
class CocoSource:
    """The images of one COCO file.

    Attributes:
      listing: the file.
      folder: the folder of the images.
      classes: (id, name) of every category, by id.
      class_names: the classes in the order of their numbers: the categories by their ids, or those of a labels file.
      label_kind: "class" gives each record its most frequent category, "multi" all.
      num_keypoints: of each box; 0 where no category names any.
      has_polygons: whether an annotation has some.
    """

    listing: str
    folder: str
    classes: tuple[tuple[int, str], ...]
    class_names: tuple[str, ...] | None
    label_kind: str
    num_keypoints: int = 0
    has_polygons: bool = False
    splits: tuple[str, ...] = ()
    label_kinds: tuple[str, ...] = ("class", "multi")

    # See Source for the members that have no docstring.
    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        keypoints = [("keypoints", f"float32[{self.num_keypoints},3]")] if self.num_keypoints else []
        return (*_COLUMNS, *keypoints, *(_POLYGON_COLUMNS if self.has_polygons else []))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.dtypes)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """The class of each id: as text, since the ids of a damaged file may be values that can't be hashed."""
        return {_id(number): name for number, name in self.classes}

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.class_names or ())}

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        document = _load(self.listing)
        marks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in document["annotations"]:
            if isinstance(annotation, dict):
                marks[_id(annotation.get("image_id"))].append(annotation)
        ids = Counter(_id(image.get("id")) for image in document["images"] if isinstance(image, dict))
        strays = len(document["annotations"]) - sum(len(marks[number]) for number in ids)
        if strays:
            yield LeftOut("annotations_without_image", strays)
        images = islice(document["images"], piece)
        entries = map_files(lambda image: self._entry(image, marks, ids), images, concurrent=is_url(self.folder))
        for entry, of_image in entries:
            yield from (LeftOut(what, number) for what, number in of_image.items())
            yield entry

    def read(self, ref: Ref) -> bytes:
        return read_whole(resolve(self.folder, ref.key), ref.size)

    def _entry(
        self, image: Any, marks: Mapping[str, list[Mapping[str, Any]]], ids: Mapping[str, int]
    ) -> tuple[Entry, Mapping[str, int]]:
        """The entry of an image, and what is left out of it."""
        key = to_cell(image.get("file_name")) if isinstance(image, dict) else ""
        if not key.strip():
            return Refused("", printable(str(image)[:200]), "bad_row", "The image names no file."), {}
        number = _id(image.get("id"))
        try:
            if ids[number] > 1 and marks.get(number):
                detail = f"{ids[number]} images have the id {number}: whose its annotations are can't be told."
                raise Refusal("bad_row", detail)
            return self._list_image(key, marks.get(number, []))
        except Refusal as refusal:
            return refusal.of(printable(key)), {}

    def _list_image(self, key: str, marks: Sequence[Mapping[str, Any]]) -> tuple[Listed, Mapping[str, int]]:
        check_names(key)
        path = resolve(self.folder, key)
        if "\\" in key and not is_file(path):  # It was written on Windows.
            key = key.replace("\\", "/")
            path = resolve(self.folder, key)
        left_out: Counter[str] = Counter()
        boxes: list[float] = []
        keypoints: list[float] = []
        polygons: list[float] = []
        counts: list[int] = []
        ids, without_area, further = [], [], []
        for mark in sorted(marks, key=lambda one: str(one.get("id")).zfill(20)):
            if mark.get("iscrowd"):
                left_out["crowds"] += 1
                continue
            left_out["keypoints"] += bool(mark.get("keypoints")) and not self.num_keypoints
            category = _id(mark.get("category_id"))
            if category not in self._names:
                detail = f"An annotation has category_id {category}, which no category has."
                raise Refusal("unknown_label", detail)
            name = self._names[category]
            if name not in self._numbers:
                raise Refusal("unknown_label", f"The labels file has no class {name!r}.")
            number = self._numbers[name]
            outline = read_outline(mark.get("segmentation"))
            corners = _corners(mark["bbox"]) if "bbox" in mark else []
            left_out["segmentations"] += not outline.is_whole or bool(outline.ring and not corners)
            if "bbox" not in mark:
                further.append(number)
                continue
            if corners:
                boxes += corners
                keypoints += self._keypoints(mark)
                polygons += outline.ring
                counts.append(len(outline.ring) // 2)
                ids.append(number)
            else:
                left_out["boxes_without_area"] += 1
                without_area.append(number)
        label = self._label([*ids, *further] or without_area)
        cells: dict[str, Sequence[float]] = {"boxes": boxes, "box_labels": ids, "keypoints": keypoints}
        cells |= {"polygons": polygons, "polygon_points": counts}
        extras = tuple(" ".join(map(repr, cells[name])) for name in self.columns)
        return Listed(key, label, "", file_size(path), extras), +left_out

    def _keypoints(self, mark: Mapping[str, Any]) -> list[float]:
        """The num_keypoints * 3 values of an annotation's keypoints, 0 where it lacks some.

        Raises:
          Refusal: they are no rows of x, y and visibility, or more than the categories have.
        """
        if not self.num_keypoints:
            return []
        given, room = mark.get("keypoints") or [], 3 * self.num_keypoints
        fits = isinstance(given, list) and len(given) % 3 == 0 and len(given) <= room
        if not fits or not all(type(part) in (int, float) and abs(part) <= LARGEST for part in given):
            raise Refusal(
                "bad_keypoints",
                f"An annotation has the keypoints {str(given)[:80]}; they are x, y and visibility of at most "
                f"{self.num_keypoints}, finite numbers.",
            )
        return [*map(float, given), *[0.0] * (room - len(given))]

    def _label(self, ids: Sequence[int]) -> str:
        names = self.class_names or ()
        if self.label_kind == "multi":
            return label_text([names[number] for number in set(ids)])
        if not ids:
            detail = "No annotation gives the image a class; --label_kind multi takes images without."
            raise Refusal("empty_label", detail)
        counts = Counter(ids)
        return label_text(names[min(counts, key=lambda number: (-counts[number], number))])


def _id(value: Any) -> str:
    """An id as text: those of a damaged file may be values that can't be hashed, and some programs write 3 as 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _corners(box: Any) -> list[float]:
    """x0, y0, x1, y1 of a COCO box, which is x, y, width, height; empty where it has no area as float32 numbers.

    Raises:
      Refusal: it is no box.
    """
    if isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box):
        x, y, width, height = map(float, box)
        corners = [x, y, x + width, y + height]
        if all(abs(side) <= LARGEST for side in corners):
            x0, y0, x1, y1 = np.array(corners, np.float32).tolist()
            return corners if x1 > x0 and y1 > y0 else []
    raise Refusal(
        "bad_box", f"An annotation has the bbox {str(box)[:80]}; it is [x, y, width, height], finite numbers."
    )


def open_coco(listing: str, options: SourceOptions) -> CocoSource:
    """The source of a COCO file.

    Args:
      listing: the file, such as instances_train.json.
      options: of the source.

    Raises:
      UsageError: it is no COCO file, lists nothing, or its images are not found.
    """
    listing = absolute(listing)
    document = _load(listing)
    try:
        classes = tuple(sorted((int(one["id"]), str(one["name"]).strip()) for one in document["categories"]))
        named = [one for one in document["images"][:_TRIED] if isinstance(one, dict) and "file_name" in one]
        names = [str(one["file_name"]) for one in named or [document["images"][0]]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{listing!r} is not valid COCO: {type(error).__name__}: {error}.") from error
    _check_categories(listing, classes)
    folder = image_root(options) or _image_folder(listing, names)
    class_names = options.class_names or tuple(name for _, name in classes)
    named_points = [one.get("keypoints") for one in document["categories"] if isinstance(one, dict)]
    most = max((len(names) for names in named_points if isinstance(names, list)), default=0)
    has_polygons = any(isinstance(one, dict) and _has_polygon(one) for one in document["annotations"])
    return CocoSource(listing, folder, classes, class_names, options.label_kind, most, has_polygons)


def _has_polygon(mark: Mapping[str, Any]) -> bool:
    return bool(mark.get("segmentation")) and isinstance(mark["segmentation"], list) and not mark.get("iscrowd")


def _check_categories(listing: str, classes: Sequence[tuple[int, str]]) -> None:
    """Raises a UsageError where two categories can't be told apart by their id or by their name."""
    by_id: dict[int, str] = {}
    by_name: dict[str, int] = {}
    for number, name in classes:
        if number in by_id:
            raise UsageError(f"Two categories of {listing!r} have the id {number}: {by_id[number]!r} and {name!r}.")
        if name in by_name:
            ids = f"the ids {by_name[name]} and {number}"
            raise UsageError(f"Two categories of {listing!r} have the name {name!r}: {ids}; rename one of them.")
        by_id[number], by_name[name] = name, number


def _load(listing: str) -> dict[str, Any]:
    try:
        with open_text(listing) as file:
            document = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{listing!r} is not JSON: {error}.") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in parts):
        raise UsageError(f"{listing!r} is not a COCO file: that is an object with the lists {list(parts)}.")
    return document


def _image_folder(listing: str, names: Sequence[str]) -> str:
    """The first folder that holds one of the images: beside the file, images/, or the end of the file's name."""
    beside = folder_of(listing)
    last = os.path.splitext(os.path.basename(listing))[0].rpartition("_")[2]
    folders = [
        os.path.join(top, *parts)
        for top in (beside, folder_of(beside))
        for parts in ((), ("images",), (last,), ("images", last))
    ]
    forms = dict.fromkeys(form for name in names for form in (name, name.replace("\\", "/")))
    found = next((folder for name in forms for folder in folders if is_file(resolve(folder, name))), None)
    if found is None:
        raise UsageError(f"The first image of {listing!r}, {names[0]!r}, is in none of {folders}.")
    return found
