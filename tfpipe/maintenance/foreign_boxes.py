"""The boxes of third-party records: four lists of fractions of the image's width and height, and the boxes' classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tfpipe.maintenance.foreign_images import ParsedRecord

# What stands before xmin, ymin, xmax, ymax: the names of TensorFlow's object detection API and of ImageNet's scripts,
# and of those who shortened them.
_PREFIXES = ("image/object/bbox/", "image/bbox/", "object/bbox/", "objects/bbox/", "bbox/", "bboxes/")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
LABEL_NAMES = ("image/object/class/label", "image/object/bbox/label", "object/class/label", "objects/label")
TEXT_NAMES = ("image/object/class/text", "object/class/text")
# Writers round, and some boxes reach over the border; pixels are beyond this in nearly every image.
_LOW, _HIGH = -1.0, 2.0


def find_boxes(sample: Sequence[ParsedRecord]) -> tuple[str, ...]:
    """The names of the four features that hold x0, y0, x1, y1; () where some record of the sample lacks one."""
    for prefix in _PREFIXES:
        names = tuple(prefix + corner for corner in _CORNERS)
        if all(name in record for record in sample for name in names):
            return names
    return ()


def first_stored(names: Sequence[str], sample: Sequence[ParsedRecord]) -> str | None:
    """The first of the names that every record of a sample stores."""
    return next((name for name in names if all(name in record for record in sample)), None)


@dataclass
class BoxStats:
    """Whether four features are boxes that a reader can move, seen one record at a time.

    Attributes:
      names: of the features; () where there are none.
      labels: the name of the boxes' classes; None without any.
      problem: why they are no such boxes, of the first record that shows it.
    """

    names: tuple[str, ...]
    labels: str | None = None
    problem: str | None = None
    has_labels: bool = True
    _records: int = field(default=0)

    def add(self, features: ParsedRecord) -> None:
        """Adds a record."""
        if not self.names:
            return
        lists = [features.get(name, np.zeros(0, np.float32)) for name in self.names]
        counts = {len(one) for one in lists}
        labels = features.get(self.labels or "", [])
        self.has_labels &= len(counts) == 1 and len(labels) in counts and (len(labels) == 0 or _is_ints(labels))
        self.problem = self.problem or _problem(lists)


def _is_ints(values: object) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == np.int64


def _problem(lists: Sequence[list[bytes] | np.ndarray]) -> str | None:
    if len({len(one) for one in lists}) > 1:
        return f"a record has {[len(one) for one in lists]} values of {', '.join(_CORNERS)}"
    for one in lists:
        if len(one) and (isinstance(one, list) or one.dtype != np.float32):
            return "a record stores whole numbers or texts"
        values = np.asarray(one, np.float32)
        outside = values[~((values >= _LOW) & (values <= _HIGH))]
        if len(outside):
            return f"a record has the value {outside[0]:g}"
    return None
