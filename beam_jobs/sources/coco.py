"""COCO annotations: the images of a JSON file, with their boxes.

    annotations/instances_train.json        {"images": [...], "categories": [...], "annotations": [...]}
    train/000000000009.jpg                  found beside the file, in images/, or in the folder that the name ends with

A record's class is its most frequent category, the lowest id where several are; with --label_kind multi it is all of
them. `boxes` is float32 [N, 4] as x0, y0, x1, y1 in pixels of the image as stored, before its EXIF orientation is
applied; conversion and make_dataset move them with the image. `box_labels` is int64 [N], the classes' ids, in the order
of the annotations' ids. Crowds are left out.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from beam_jobs.sources.files import absolute, folder_of, is_file, map_files, open_text, resolve
from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import Entry, Listed, Ref, Refusal, Refused, check_names, printable, read_whole, to_cell
from beam_jobs.sources.lookup import Lookup
from tfpipe.errors import UsageError
from tfpipe.storage import is_url


@dataclass(frozen=True)
class CocoSource:
    """The images of one COCO file.

    Attributes:
      listing: the file.
      folder: the folder of the images.
      classes: (id, name) of every category, by id; a class's number is its index here.
      label_kind: "class" gives each record its most frequent category, "multi" all.
    """

    listing: str
    folder: str
    classes: tuple[tuple[int, str], ...]
    label_kind: str
    columns: tuple[str, ...] = ("boxes", "box_labels")
    dtypes: tuple[tuple[str, str], ...] = (("boxes", "float32[4]"), ("box_labels", "int64[]"))
    splits: tuple[str, ...] = ()
    label_kinds: tuple[str, ...] = ("class", "multi")

    # See Source for the members that have no docstring.
    @property
    def class_names(self) -> tuple[str, ...] | None:
        return tuple(name for _, name in self.classes)

    def pieces(self, limit: int | None) -> list[Any]:
        return [limit]

    def entries(self, piece: int | None) -> Iterator[Entry]:
        document = _load(self.listing)
        marks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in document["annotations"]:
            if isinstance(annotation, dict) and not annotation.get("iscrowd"):
                marks[str(annotation.get("image_id"))].append(annotation)
        images = islice(document["images"], piece)
        yield from map_files(lambda image: self._entry(image, marks), images, concurrent=is_url(self.folder))

    def read(self, ref: Ref) -> bytes:
        return read_whole(resolve(self.folder, ref.key), ref.size)

    def _entry(self, image: Any, marks: Mapping[str, list[Mapping[str, Any]]]) -> Entry:
        key = to_cell(image.get("file_name")) if isinstance(image, dict) else ""
        if not key.strip():
            return Refused("", printable(str(image)[:200]), "bad_row", "The image names no file.")
        try:
            return self._list_image(key, marks.get(str(image.get("id")), []))
        except Refusal as refusal:
            return refusal.of(printable(key))

    def _list_image(self, key: str, marks: Sequence[Mapping[str, Any]]) -> Listed:
        check_names(key)
        # As text: the ids of a damaged file may be values that can't be hashed.
        numbers = {str(number): index for index, (number, _) in enumerate(self.classes)}
        boxes: list[float] = []
        ids = []
        for mark in sorted(marks, key=lambda one: str(one.get("id")).zfill(20)):
            boxes += _corners(mark.get("bbox"))
            category = mark.get("category_id")
            if str(category) not in numbers:
                detail = f"An annotation has category_id {category!r}, which no category has."
                raise Refusal("unknown_label", detail)
            ids.append(numbers[str(category)])
        label = label_text(self._label(ids))
        extras = (" ".join(map(repr, boxes)), " ".join(map(str, ids)))
        return Listed(key, label, "", Lookup(self.folder).find_exactly(key).size, extras)

    def _label(self, ids: Sequence[int]) -> Any:
        if self.label_kind == "multi":
            return [self.classes[number][1] for number in set(ids)]
        counts = Counter(ids)
        return self.classes[min(counts, key=lambda number: (-counts[number], number))][1] if counts else None


def _corners(box: Any) -> list[float]:
    """x0, y0, x1, y1 of a COCO box, which is x, y, width, height; raises a Refusal where it is not."""
    if isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box):
        x, y, width, height = map(float, box)
        if all(map(math.isfinite, (x, y, width, height))) and width > 0 and height > 0:
            return [x, y, x + width, y + height]
    detail = f"An annotation has the bbox {str(box)[:80]}; it is [x, y, width, height] with positive sides."
    raise Refusal("bad_box", detail)


def open_coco(listing: str, label_kind: str) -> CocoSource:
    """The source of a COCO file.

    Args:
      listing: the file, such as instances_train.json.
      label_kind: "class" or "multi".

    Raises:
      UsageError: it is no COCO file, lists nothing, or its images are not found.
    """
    listing = absolute(listing)
    document = _load(listing)
    try:
        classes = tuple(sorted((int(one["id"]), str(one["name"])) for one in document["categories"]))
        first = str(document["images"][0]["file_name"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{listing!r} is not valid COCO: {type(error).__name__}: {error}.") from error
    names = [name for _, name in classes]
    if len(set(names)) < len(names) or len({number for number, _ in classes}) < len(classes):
        raise UsageError(f"Two categories of {listing!r} have one name or one id.")
    return CocoSource(listing, _image_folder(listing, first), classes, label_kind)


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


def _image_folder(listing: str, first: str) -> str:
    """The first folder that holds the first image: beside the file, images/, or the end of the file's name."""
    beside = folder_of(listing)
    last = os.path.splitext(os.path.basename(listing))[0].rpartition("_")[2]
    folders = [
        os.path.join(top, *parts)
        for top in (beside, folder_of(beside))
        for parts in ((), ("images",), (last,), ("images", last))
    ]
    found = next((folder for folder in folders if is_file(resolve(folder, first))), None)
    if found is None:
        raise UsageError(f"The first image of {listing!r}, {first!r}, is in none of {folders}.")
    return found
