"""Outlines of COCO annotations: the parts of a segmentation as one ring.

    outline = read_outline([[1, 1, 9, 1, 9, 9], [20, 20, 29, 20, 29, 29]])
    outline.ring        # [1, 1, 9, 1, 9, 9, 1, 1, 20, 20, 29, 20, 29, 29, 20, 20]

Parts are joined by bridges that are walked both ways and so enclose nothing: p1 ... pn, p1, q1 ... qm, q1, and from
there back to p1. All parts of one ring turn the same way, so that the nonzero rule fills what any of them covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from beam_jobs.sources.labels import LARGEST
from beam_jobs.sources.listing import Refusal

# A part of fewer points has no area.
_LEAST_POINTS = 3


class Outline(NamedTuple):
    """What a segmentation gives.

    Attributes:
      ring: x, y, x, y, ... in pixels; empty where there is no polygon.
      is_whole: whether nothing of the segmentation was left out.
    """

    ring: list[float]
    is_whole: bool


def read_outline(segmentation: Any) -> Outline:
    """The ring around the parts of a segmentation: a list of polygons, or run lengths, which give no ring.

    Parts of fewer than three points are left out.

    Raises:
      Refusal: it is neither, or a polygon is no list of pairs of finite numbers.
    """
    if not segmentation:
        return Outline([], is_whole=True)
    if isinstance(segmentation, Mapping):
        return Outline([], is_whole=False)
    if not isinstance(segmentation, list) or not all(map(_is_part, segmentation)):
        raise Refusal(
            "bad_polygons",
            f"An annotation has the segmentation {str(segmentation)[:80]}; it is a list of polygons, each a list x, y, "
            "x, y, ... of finite numbers, or an object of run lengths.",
        )
    parts = [np.array(part, np.float64).reshape(-1, 2) for part in segmentation if len(part) >= 2 * _LEAST_POINTS]
    return Outline(_joined(parts).ravel().tolist(), is_whole=len(parts) == len(segmentation))


def _is_part(part: Any) -> bool:
    return (
        isinstance(part, list)
        and len(part) % 2 == 0
        and all(type(side) in (int, float) and abs(side) <= LARGEST for side in part)
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The ring of parts [n, 2], of which a single one stays as it is."""
    if len(parts) < 2:
        return np.concatenate([*parts, np.empty((0, 2))])
    parts = [part if _twice_area(part) >= 0 else part[::-1] for part in parts]
    start = parts[0][:1]
    loops = [part for one in parts for part in (one, one[:1], start)]
    # The first part ends at the start by itself; from the last one the ring closes there.
    return np.concatenate([*loops[:2], *loops[3:-1]])


def _twice_area(part: np.ndarray) -> float:
    """Twice the area of a polygon, negative where it turns counter-clockwise as one sees it (the shoelace formula)."""
    x, y = (part - part[0]).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
