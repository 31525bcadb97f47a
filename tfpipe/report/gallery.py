"""Every op at five magnitudes and every policy, drawn on one picture with a box and a mask: generated from the code.

html = gallery_page({name: make_sheet(name) for name in sheet_names()})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.draw.streams import split_seed
from tfpipe.augment.forms.apply import apply_to_batch
from tfpipe.augment.ops.op import Op
from tfpipe.report.page import image_url, render_page
from tfpipe.report.preview import draw_cell, load_transform, policy_names
from tfpipe.report.sheet import Cell, draw_sheet, png_bytes

MAGNITUDES = (0.0, 0.25, 0.5, 0.75, 1.0)
SIDE = 128
_DRAWS = 5


class Sheet(NamedTuple):
    """A row of images of one op or policy.

    Attributes:
      name: of the op or policy.
      family: of the op; "policy".
      text: what the columns are.
      cells: from left to right, the image as it is first.
    """

    name: str
    family: str
    text: str
    cells: tuple[Cell, ...]


def sample_record(*, side: int = SIDE) -> dict[str, Any]:
    """A picture with an object, the object's box and its mask, made of numbers: no photograph has to be shipped.

    Returns:
      image uint8 [side, side, 3], mask uint8 [side, side, 1], boxes float32 [1, 4].
    """
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.stack([90 + 90 * x, 130 + 60 * y, 190 - 70 * y], -1)
    ground = y > 0.68
    image[ground] = np.stack([90 + 50 * x, 110 - 20 * x, 60 + 20 * x], -1)[ground]
    stripes = (np.floor(x * 16) % 2 == 0) & ground
    image[stripes] *= 0.82
    disc = (x - 0.62) ** 2 + (y - 0.46) ** 2 < 0.2**2
    image[disc] = np.stack([235 - 90 * y, 120 - 60 * y, 50 + 0 * y], -1)[disc]
    image[(x - 0.55) ** 2 + (y - 0.4) ** 2 < 0.05**2] = (250, 245, 225)
    corner = (x + y < 0.3) & (x < 0.2)
    image[corner] = (250, 215, 80)
    mask = disc.astype(np.uint8)[..., None]
    rows, columns = np.flatnonzero(disc.any(1)), np.flatnonzero(disc.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return {"image": image.clip(0, 255).astype(np.uint8), "mask": mask, "boxes": np.array([box], np.float32)}


def sheet_names() -> list[str]:
    """The names of all ops and policies."""
    return [*(name for name in augment.OPS if name != "identity"), *policy_names()]


def make_sheet(name: str, *, record: dict[str, Any] | None = None) -> Sheet:
    """The sheet of an op at each of MAGNITUDES of tfpipe's own range, or of five draws of a policy.

    Args:
      name: one of sheet_names().
      record: image uint8 [H, W, 3] and, where it has them, mask and boxes; None: sample_record().
    """
    given = sample_record() if record is None else record
    if name in augment.OPS:
        return _op_sheet(augment.OPS[name], given)
    return _policy_sheet(name, load_transform(name), given)


def _op_sheet(op: Op, record: dict[str, Any]) -> Sheet:
    height, width = record["image"].shape[:2]
    if op.num_values == 0:
        captions, rows = ["applied"], [[0.0] * 4]
    else:
        unit = {"height": height, "width": width, "side": min(height, width)}.get(op.unit, 1)
        values = [op.neutral + (op.low + magnitude * (op.high - op.low)) * unit for magnitude in MAGNITUDES]
        # The additional values in the middle of their ranges.
        further = [(low + high) / 2 for low, high in op.further]
        rows = [[value, *further, 0.0, 0.0, 0.0][:4] for value in values]
        captions = [f"{magnitude:g}: {value:.3g}" for magnitude, value in zip(MAGNITUDES, values, strict=True)]
    changed = _apply(op, rows, record)
    cells = [draw_cell(one, caption) for one, caption in zip(changed, captions, strict=True)]
    text = "it has no magnitude" if op.num_values == 0 else "magnitude: value in the op's own unit"
    return Sheet(op.name, op.family, text, (draw_cell(record, "as it is"), *cells))


def _apply(op: Op, rows: list[list[float]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """The record after an op, once for each row of four values."""
    count = len(rows)
    choices = augment.Choices(
        ops=tf.ones([count, 1], tf.int32),
        values=tf.constant(rows, tf.float32)[:, None],
        seeds=tf.constant([[[3, 5]]] * count),
    )
    # The dense form runs op by op, where the loop would first be compiled for each op.
    changed = apply_to_batch(
        _repeated(record, count),
        choices,
        (augment.OPS["identity"], op),
        fill=128,
        interpolation="nearest",
        form="dense",
        mask_fill=0,
    )
    return _records(changed, count)


def _repeated(record: dict[str, Any], count: int) -> dict[str, tf.Tensor]:
    return {name: tf.constant(np.repeat(value[None], count, axis=0)) for name, value in record.items()}


def _records(batch: dict[str, tf.Tensor], count: int) -> list[dict[str, Any]]:
    return [{name: values[at].numpy() for name, values in batch.items()} for at in range(count)]


def _policy_sheet(name: str, transform: augment.Transform, record: dict[str, Any]) -> Sheet:
    if isinstance(transform, augment.OpTransform) and transform.rendering is not None:
        transform = replace(transform, rendering=replace(transform.rendering, form="dense"))
    changed = transform(_repeated(record, _DRAWS), split_seed(tf.constant([7, 0], tf.int32), 1)[0])
    draws = _records(changed, _DRAWS)
    cells = [draw_cell(record, "as it is"), *(draw_cell(one, f"draw {number}") for number, one in enumerate(draws))]
    return Sheet(name, "policy", "five draws", tuple(cells))


def sheet_png(sheet: Sheet) -> bytes:
    """A sheet as a PNG file."""
    return png_bytes(draw_sheet([sheet.cells], side=SIDE))


def gallery_page(sheets: dict[str, Sheet], *, draw: Callable[[Sheet], bytes] = sheet_png) -> str:
    """The HTML of a gallery: the sheets under their families.

    Args:
      sheets: by name.
      draw: makes the PNG file of a sheet.
    """
    families: dict[str, list[dict[str, str]]] = {}
    for name, sheet in sheets.items():
        entry = {"name": name, "text": sheet.text, "url": image_url(draw(sheet), kind="png")}
        families.setdefault(sheet.family, []).append(entry)
    return render_page("gallery.html", {"title": "Gallery of operations and policies", "families": families})
