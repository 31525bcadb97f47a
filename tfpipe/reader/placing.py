"""Boxes and points of a record on its image as batches have it, and which boxes a crop left.

features = place(features, request, resizer)
"""

from __future__ import annotations

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.images.boxes import place_regions, split_polygons, visible_shares
from tfpipe.images.fit import Resizer
from tfpipe.reader.request import Batch, Request, has_polygons, points_of_boxes, regions_in_pixels


def place(features: Batch, request: Request, resizer: Resizer | None) -> Batch:
    """The features of a record, what marks regions moved with its image; boxes that a crop cut off are not in it."""
    names = regions_in_pixels(request.manifest, request.schema)
    if request.labels not in (None, "boxes") or not names:
        return features
    moved = {**features, **place_regions(features, names, resizer)}
    if has_polygons(request.manifest, request.schema):
        moved["polygons"] = split_polygons(moved["polygons"], moved.pop("polygon_points"), request.max_points)
    if resizer is None or "boxes" not in names or not _drops(request):
        return moved
    visible = visible_shares(features, resizer)
    keep = (visible > 0) & (visible >= getattr(request.resize, "min_visible", 0.0))
    return {**moved, **{name: tf.boolean_mask(moved[name], keep) for name in _rows(request)}}


def check_placing(request: Request) -> None:
    """Raises ValueError where a drawn crop could not move the regions of records, or not tell what goes with a box."""
    schema, crop = request.schema, type(request.resize).__name__
    if isinstance(request.resize, str) or not ("boxes" in schema or schema.derived_from("boxes")):
        return
    folder = request.manifest.directory
    if "boxes" not in regions_in_pixels(request.manifest, schema):
        raise UsageError(
            f"{crop} moves boxes in pixels of the stored image; those of {folder} were adopted as they are. "
            "transforms=[augment.random_resized_crop(...)] moves boxes in pixels of the batch's images."
        )
    if request.views > 1 and request.has_random_crop:
        raise UsageError(
            f"views is {request.views}: each has a crop of its own, and the boxes would follow the first one alone; "
            "transforms=[augment.views([[augment.random_resized_crop(...)], ...])] moves the boxes of each view."
        )
    unknown = [f.name for f in schema.features if _may_be_rows(f.name, f.shape, request)]
    if unknown:
        raise UsageError(
            f"{crop} drops boxes, and nothing tells whether {unknown} have a value for each box; labels='boxes' leaves "
            "them out."
        )


def _drops(request: Request) -> bool:
    """Whether boxes may go: where a crop is drawn; and for a detector, which learns nothing from a box without area."""
    return not isinstance(request.resize, str) or (request.resize == "crop" and request.labels == "boxes")


def _rows(request: Request) -> tuple[str, ...]:
    """The features with a row for each box."""
    labels = ["box_labels"] if "box_labels" in request.schema else []
    return ("boxes", *labels, *points_of_boxes(request.manifest, request.schema))


def _may_be_rows(name: str, shape: tuple[int | None, ...], request: Request) -> bool:
    """Whether a feature is a list of which it is not known whether it goes with the boxes."""
    known = {*_rows(request), *request.schema.derived_from("boxes"), "label", "label_int", "image", "mask"}
    if "polygons" in known:
        known.add("polygon_points")
    return name not in known and shape[:1] == (None,)
