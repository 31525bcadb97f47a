"""Records as they reach a model: after resizing, and augmented; and policies by the names that a command line takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.draw.streams import split_seed
from tfpipe.errors import UsageError
from tfpipe.policy import SCHEDULE_KIND, published_policies, published_schedules
from tfpipe.report.sheet import Cell
from tfpipe.report.thumbnails import blend_mask, draw_boxes

# What these names mean where nothing else is said: the settings of the papers' ImageNet results.
_NAMED = {
    "rand_augment": lambda: augment.rand_augment(2, 9),
    "trivial_augment_wide": augment.trivial_augment_wide,
    "flip_crop": lambda: augment.compose([augment.flip_left_right(), augment.pad_and_crop(4)]),
}


def policy_names() -> list[str]:
    """The policies that have a name."""
    return sorted([*_NAMED, *published_policies(), *published_schedules()])


def load_transform(text: str) -> augment.Transform:
    """The transform that a name or a JSON file stands for: a policy, a schedule, or what augment.to_json wrote.

    Raises:
      UsageError: there is no such name or file, or it holds no transform.
    """
    if text in _NAMED:
        return _NAMED[text]()
    try:
        if text in published_schedules():
            return augment.pba(text, flatten=True)
        if text in published_policies():
            return augment.policy(text)
        if not Path(text).is_file():
            raise UsageError(f"No policy {text!r}: it is no file, and the names are {policy_names()}.")
        document = json.loads(Path(text).read_text(encoding="utf-8"))
        kind = document.get("kind", "") if isinstance(document, dict) else ""
        if kind == SCHEDULE_KIND:
            return augment.pba(text, flatten=True)
        return augment.from_json(document) if "transform" in str(kind) else augment.policy(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"--policy {text!r}: {error}") from error


def augmented(
    prepared: Sequence[dict[str, tf.Tensor]], transform: augment.Transform, *, seed: int
) -> list[dict[str, Any]]:
    """Prepared records of one size after a transform, each drawn on its own.

    Args:
      prepared: as serving/lookup.py prepares them: all with an image of one size.
      transform: of tfpipe.augment.
      seed: of the draws, any integer.

    Returns:
      For each record its image, and its mask and boxes where it has them.
    """
    batch: dict[str, Any] = {"image": tf.stack([record["image"] for record in prepared])}
    if all("mask" in record for record in prepared):
        batch["mask"] = tf.stack([record["mask"] for record in prepared])
    if all("boxes" in record for record in prepared):
        batch["boxes"] = tf.ragged.stack([record["boxes"] for record in prepared])
    changed = transform(batch, split_seed(tf.constant([seed & 0x7FFFFFFF, 0], tf.int32), 1)[0])
    return [{name: values[at] for name, values in changed.items()} for at in range(len(prepared))]


def draw_cell(record: dict[str, Any], caption: str) -> Cell:
    """A prepared record as a cell of a sheet, with its mask and boxes drawn."""
    from PIL import Image

    pixels = as_pixels(np.asarray(record["image"]))
    if "mask" in record:
        pixels = blend_mask(pixels, np.asarray(record["mask"])[..., 0])
    if "boxes" in record:
        boxes = np.asarray(record["boxes"], np.float64).reshape(-1, 4)
        pixels = np.asarray(draw_boxes(Image.fromarray(pixels), boxes, pixels.shape[:2]))
    return Cell(pixels, caption)


def as_pixels(image: np.ndarray) -> np.ndarray:
    """An image as uint8 [H, W, 3]: floats in [0, 1] become levels, gray three channels, more than three the first."""
    if image.dtype != np.uint8:
        image = np.rint(image.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def preview_rows(
    records: Sequence[tuple[str, dict[str, Any]]], transform: augment.Transform | None, *, draws: int, seed: int
) -> list[list[Cell]]:
    """A row for each record: as prepared, then as often augmented as there are draws.

    Args:
      records: (caption, prepared record); all images have one size where there is a transform.
      transform: None shows them as prepared only.
      draws: how often each is augmented.
      seed: of the first draw.
    """
    rows = [[draw_cell(record, caption)] for caption, record in records]
    for draw in range(draws if transform is not None else 0):
        changed = augmented([record for _, record in records], transform, seed=seed + draw)  # type: ignore[arg-type]
        for row, record in zip(rows, changed, strict=True):
            row.append(draw_cell(record, f"draw {draw}"))
    return rows
