"""How other writers lay out their records: which feature is the image, the label, the key; and the schema of it all.

TensorFlow Datasets writes `image` and an int64 `label`; ImageNet's scripts `image/encoded`, `image/class/label` and
`image/class/text`; Practical Machine Learning for Computer Vision a flat float `image` with its `shape`, `label` and
`label_int`. Ours is the last one's naming.

    roles = find_roles(sample)           # {"image": "image/encoded", "label_int": "image/class/label", ...}
    layout = Layout(roles)
    for features in parsed_records:
        layout.add(features)
    layout.schema()
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfpipe.format.schema import Feature, Schema
from tfpipe.images.probe import NotAnImage, probe

Values = list[bytes] | np.ndarray
Features = Mapping[str, Values]

# The names that writers give to what we call image, label, ...: the first that is there, with the right values, is it.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "image": ("image", "image/encoded", "image_raw", "image_bytes", "img", "encoded", "jpeg", "jpg", "png"),
    "shape": ("shape",),
    "embedding": ("embedding",),
    "orientation": ("orientation",),
    "label_int": ("label_int", "label", "image/class/label", "class", "label_id", "class_id", "target"),
    "label": ("label", "image/class/text", "label_text", "label_name", "class_name", "text_label"),
    "key": ("key", "image/filename", "file_name", "filename", "image/key", "image_id", "id"),
}
# One bytes value of each pixel's channel: what the reader makes of it.
_PIXEL_DTYPES = {1: "uint8", 2: "float16"}
_DTYPES = {"bytes": "string", "float": "float32", "int64": "int64"}
_DEFAULTS: dict[str, int | float | str] = {"bytes": "", "float": 0.0, "int64": 0}


def kind_of(values: Values) -> str | None:
    """Which list of tf.train.Feature holds the values: "bytes", "float" or "int64"; None where it is empty."""
    if isinstance(values, list):
        return "bytes" if values else None
    return "int64" if values.dtype == np.int64 else "float"


def find_roles(sample: Sequence[Features]) -> dict[str, str]:
    """Our name of every feature that is known, to the name under which the records of the sample store it."""
    roles: dict[str, str] = {}
    for role, known in KNOWN_NAMES.items():
        fitting = [name for name in known if name not in roles.values() and _fits_all(role, name, sample)]
        if fitting:
            roles[role] = fitting[0]
    if "image" not in roles:
        names = [name for name in sorted(sample[0]) if any(_is_image_file(record.get(name, [])) for record in sample)]
        if names and names[0] not in roles.values():
            roles["image"] = names[0]
    return roles


def _fits_all(role: str, name: str, sample: Sequence[Features]) -> bool:
    return all(name in record and _fits(role, name, record) for record in sample)


def _fits(role: str, name: str, record: Features) -> bool:
    """Whether a record's values under a name can be what the role means."""
    values = record.get(name, [])
    kind, count = kind_of(values), len(values)
    if role == "image":
        return kind == "float" or (kind == "bytes" and count == 1)
    if role in ("embedding", "shape"):
        return kind == "float" if role == "embedding" else (kind == "int64" and count == 3)
    if name in ("label", "label_int") and _has_several_classes(record):
        return True
    if role == "label":
        return kind in ("bytes", "float") and count == 1  # a float is a label to regress on
    return (kind, count) == ("int64" if role in ("label_int", "orientation") else "bytes", 1)


def _has_several_classes(record: Features) -> bool:
    """Whether the record names its classes as ours of --label_kind multi do: as many texts as ids, of any number."""
    texts, ids = record.get("label"), record.get("label_int")
    return (
        isinstance(texts, list) and isinstance(ids, np.ndarray) and kind_of(ids) == "int64" and len(texts) == len(ids)
    )


def _is_image_file(values: Values) -> bool:
    try:
        return isinstance(values, list) and len(values) == 1 and bool(probe(values[0]))
    except NotAnImage:
        return False


@dataclass
class _Seen:
    """What the values of one feature were like: their kinds, how many in a record, in how many records."""

    kinds: set[str | None] = field(default_factory=set)
    low: int = 1 << 62
    high: int = 0
    num_records: int = 0


@dataclass
class Layout:
    """What the records of a dataset have in common, gathered record by record.

    Attributes:
      roles: our names to the stored ones.
      num_records: records added.
      num_turned: image files with an EXIF turn, which the reader applies only where `orientation` is stored.
      num_unreadable: records whose image no decoder takes.
      unreadable: why, for the first of them.
    """

    roles: Mapping[str, str]
    num_records: int = 0
    num_turned: int = 0
    num_unreadable: int = 0
    unreadable: str | None = None
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _formats: set[str] = field(default_factory=set)
    _shapes: set[tuple[int, ...]] = field(default_factory=set)
    _item_bytes: set[int] = field(default_factory=set)

    def add(self, features: Features) -> None:
        """Takes note of a record.

        Raises:
          ValueError: its image or its class id is not stored as in the records before it.
        """
        self.num_records += 1
        for name, values in features.items():
            seen = self._seen.setdefault(name, _Seen())
            seen.kinds.add(kind_of(values))
            seen.low, seen.high = min(seen.low, len(values)), max(seen.high, len(values))
            seen.num_records += 1
        for role in ("image", "label_int"):
            stored = self.roles.get(role)
            if stored and not _fits(role, stored, features):
                raise ValueError(f"it has no {role} of one value under {stored!r}; it has {sorted(features)}")
        if "image" in self.roles:
            self._add_image(features)

    def _add_image(self, features: Features) -> None:
        image = features[self.roles["image"]]
        shape = tuple(int(size) for size in features.get(self.roles.get("shape", ""), ()))
        if not isinstance(image, list):
            if len(shape) != 3 or math.prod(shape) != len(image):
                raise ValueError(f"its image has {len(image)} floats, its shape is {shape or 'not stored'}")
            self._add_shape(shape)
            return
        try:
            self._add_file(image[0])
        except NotAnImage as error:
            num_values = math.prod(shape) if shape else 0
            if num_values and len(image[0]) % num_values == 0:
                self._item_bytes.add(len(image[0]) // num_values)
                self._add_shape(shape)
                return
            self.num_unreadable += 1
            self.unreadable = self.unreadable or str(error)

    def _add_file(self, data: bytes) -> None:
        header = probe(data)
        self._formats.add(header.format)
        self.num_turned += header.orientation > 1
        size = header.upright_size if "orientation" in self.roles else (header.height, header.width)
        self._add_shape((*size, 3))

    def _add_shape(self, shape: tuple[int, ...]) -> None:
        # Two sizes show that they differ; of channels every number counts.
        if len(self._shapes) < 2 or shape[2:] not in {known[2:] for known in self._shapes}:
            self._shapes.add(shape)

    @property
    def unread_names(self) -> list[str]:
        """The stored features that the schema leaves out: of two kinds of values, or named as a role they don't fit."""
        taken = set(self.roles.values())
        return [name for name in sorted(self._seen) if name not in taken and self._extra(name) is None]

    def schema(self) -> Schema:
        """The schema of all records added.

        Raises:
          ValueError: they have neither an image that can be read nor an embedding.
        """
        features = [self._image()] if "image" in self.roles else []
        payload = "embedding"
        if features:
            payload = "raw" if features[0].codec in ("jpeg", "image") else "decoded"
        elif "embedding" not in self.roles:
            raise ValueError(
                f"No feature is known as an image or an embedding; the records have {sorted(self._seen)}, "
                f"known are {[*KNOWN_NAMES['image'], *KNOWN_NAMES['embedding']]}; give schema= with stored_as=."
            )
        features += [self._known(role) for role in self.roles if role != "image"]
        taken, names = set(self.roles.values()), {feature.name for feature in features}
        extras = [self._extra(name) for name in self._seen if name not in taken and name not in names]
        return Schema(payload, tuple(features + [extra for extra in extras if extra is not None]))

    def _known(self, role: str) -> Feature:
        seen = self._seen[self.roles[role]]
        kind = next((kind for kind in seen.kinds if kind), "bytes")
        shape: tuple[int | None, ...] = () if (seen.low, seen.high) == (1, 1) else (None,)
        if role in ("shape", "embedding"):
            shape = (seen.low if seen.low == seen.high else None,)
        default: int | str | None = None
        if seen.num_records < self.num_records and not shape:
            default = 1 if role == "orientation" else "" if kind == "bytes" else None
        return Feature(role, _DTYPES[kind], shape, "plain", default, self._stored_as(role))

    def _image(self) -> Feature:
        sizes: tuple[int | None, ...] = next(iter(self._shapes), (None, None, None))
        if len(self._shapes) > 1:
            channels = {shape[2] for shape in self._shapes}
            sizes = (None, None, channels.pop() if len(channels) == 1 else None)
        stored_as = self._stored_as("image")
        if self._formats and not self._item_bytes:
            return Feature("image", "uint8", sizes, "jpeg" if self._formats == {"jpeg"} else "image", None, stored_as)
        if self._seen[self.roles["image"]].kinds == {"float"}:
            return Feature("image", "float32", sizes, "plain", None, stored_as)
        if not self._formats and len(self._item_bytes) == 1 and self._item_bytes <= set(_PIXEL_DTYPES):
            dtype = _PIXEL_DTYPES[next(iter(self._item_bytes))]
            return Feature("image", dtype, sizes, "pixels", None, stored_as)
        raise ValueError(
            f"The images under {self.roles['image']!r} are neither files, nor floats or pixels with a shape: "
            f"{self.unreadable or 'they are stored in several ways'}"
        )

    def _stored_as(self, role: str) -> str | None:
        return None if self.roles[role] == role else self.roles[role]

    def _extra(self, name: str) -> Feature | None:
        """A column that rides along; None where the reader has no form for it."""
        seen = self._seen[name]
        kinds = seen.kinds - {None}
        if len(kinds) != 1 or name in KNOWN_NAMES:
            return None
        kind = str(kinds.pop())
        if (seen.low, seen.high) == (1, 1):
            default = None if seen.num_records == self.num_records else _DEFAULTS[kind]
            return Feature(name, _DTYPES[kind], (), "plain", default)
        same = seen.low == seen.high and seen.num_records == self.num_records
        return Feature(name, _DTYPES[kind], (seen.high if same else None,))
