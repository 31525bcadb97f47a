"""Thumbnails of records, with their boxes and masks drawn over them, as JPEG bytes; without TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfpipe.format.lookup import list_shards, read_records
from tfpipe.format.schema import Schema
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.maintenance.health.stored import Parsed, Stored, open_stored, stored_pixels
from tfpipe.maintenance.health.survey import Survey

SIDE = 128
_QUALITY = 80
# Of masks and boxes: distinct for people who tell red from green badly, too.
COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (255, 255, 255))
_MASK_SHARE = 0.45


def make_thumbnails(survey: Survey, records: Iterable[int]) -> dict[int, bytes]:
    """JPEG bytes for each record of a survey whose image can be decoded, by its number."""
    found = {}
    for record, data in _read(survey, sorted(set(records))):
        try:
            found[record] = thumbnail(survey.manifest.schema, parse_example(data))
        except (NotAnExample, OSError, ValueError, KeyError):  # Such records are among the survey's damaged ones.
            continue
    return found


def _read(survey: Survey, records: list[int]) -> Iterable[tuple[int, bytes]]:
    """The serialized records of some numbers."""
    shards = list_shards(survey.manifest)
    wanted: dict[int, dict[int, int]] = {}
    for record in records:
        place, number = survey.places[record].tolist()
        wanted.setdefault(place, {})[number] = record
    for place, numbers in wanted.items():
        split, at, _ = shards[place]
        yield from ((numbers[number], data) for number, data in read_records(survey.manifest, split, at, numbers))


def thumbnail(schema: Schema, values: Parsed, *, side: int = SIDE) -> bytes:
    """The JPEG bytes of a record's image, upright, its longer side at most `side`, with boxes and mask drawn."""
    stored = open_stored(schema, values, least_side=2 * side)
    image = stored.image.copy()
    image.thumbnail((side, side))
    image = _with_mask(image, schema, values)
    image = draw_boxes(image, _boxes(schema, values, stored), stored.size)
    file = io.BytesIO()
    stored.upright(image).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _with_mask(image: Any, schema: Schema, values: Parsed) -> Any:
    from PIL import Image

    if "mask" not in schema or not len(values.get(schema["mask"].stored_name, ())):
        return image
    if schema["mask"].codec == "pixels":
        mask = Image.fromarray(stored_pixels(schema, values, "mask"))
    else:
        mask = Image.open(io.BytesIO(values[schema["mask"].stored_name][0])).convert("L")
    small = np.asarray(mask.resize(image.size, Image.Resampling.NEAREST))
    return Image.fromarray(blend_mask(np.asarray(image), small))


def blend_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image uint8 [H, W, 3] with a colour over each value above 0 of a mask uint8 [H, W]."""
    colors = np.array(COLORS, np.float32)[mask.astype(np.int64) % len(COLORS)]
    share = np.where(mask[..., None] > 0, _MASK_SHARE, 0).astype(np.float32)
    return np.rint(image * (1 - share) + colors * share).astype(np.uint8)


def draw_boxes(image: Any, boxes: np.ndarray, size: tuple[int, int]) -> Any:
    """A Pillow image with boxes [N, 4] drawn, which are in pixels of an image of another (height, width)."""
    from PIL import ImageDraw

    if not len(boxes):
        return image
    scale = np.array([image.width / size[1], image.height / size[0]] * 2)
    draw = ImageDraw.Draw(image)
    for number, box in enumerate(boxes * scale):
        x0, y0, x1, y1 = (float(value) for value in box)
        corners = [min(x0, x1), min(y0, y1), max(x0, x1, x0 + 1) - 1, max(y0, y1, y0 + 1) - 1]
        if all(np.isfinite(corners)) and corners[0] <= corners[2] and corners[1] <= corners[3]:
            draw.rectangle(corners, outline=COLORS[number % len(COLORS)], width=2)
    return image


def _boxes(schema: Schema, values: Parsed, stored: Stored) -> np.ndarray:
    """The boxes of a record in pixels of the stored image: [N, 4]."""
    height, width = stored.size
    parts = schema.derived_from("boxes")
    if parts:
        columns = [np.asarray(values.get(schema[part].stored_name, ()), np.float64) for part in parts]
        if len({len(column) for column in columns}) != 1:
            return np.zeros((0, 4))
        return np.stack(columns, 1) * [width, height, width, height]
    if "boxes" not in schema or schema["boxes"].shape != (None, 4):
        return np.zeros((0, 4))
    return np.asarray(values.get(schema["boxes"].stored_name, ()), np.float64).reshape(-1, 4)
