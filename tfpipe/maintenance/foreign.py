"""The layout of third-party records: which feature is the image, the label, the key; and the schema of all of them.

TensorFlow Datasets writes `image` and an int64 `label`; ImageNet's scripts `image/encoded`, `image/class/label` and
`image/class/text`; Practical Machine Learning for Computer Vision a flat float `image` with its `shape`, `label` and
`label_int`. tfpipe uses the names of the last one.

    feature_names = match_features(sample)      # {"image": "image/encoded", "label_int": "image/class/label", ...}
    inference = SchemaInference(feature_names)
    for features in parsed_records:
        inference.add(features)
    inference.schema()
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfpipe.errors import DataError, UsageError
from tfpipe.format.schema import Feature, Schema
from tfpipe.images.probe import NotAnImage, probe

FeatureValues = list[bytes] | np.ndarray
ParsedRecord = Mapping[str, FeatureValues]

# tfpipe's name of a feature: the names that writers give it. The first one that is stored with fitting values is taken.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "image": ("image", "image/encoded", "image_raw", "image_bytes", "img", "encoded", "jpeg", "jpg", "png"),
    "shape": ("shape",),
    "embedding": ("embedding",),
    "orientation": ("orientation",),
    "label_int": ("label_int", "label", "image/class/label", "class", "label_id", "class_id", "target"),
    "label": ("label", "image/class/text", "label_text", "label_name", "class_name", "text_label"),
    "key": ("key", "image/filename", "file_name", "filename", "image/key", "image_id", "id"),
}
# The dtype of pixels in one bytes value, by their bytes per channel.
_PIXEL_DTYPES = {1: "uint8", 2: "float16"}
_DTYPES = {"bytes": "string", "float": "float32", "int64": "int64"}
_DEFAULTS: dict[str, int | float | str] = {"bytes": "", "float": 0.0, "int64": 0}


def kind_of(values: FeatureValues) -> str | None:
    """The kind of tf.train.Feature that holds the values: "bytes", "float" or "int64"; None for an empty bytes list."""
    if isinstance(values, list):
        return "bytes" if values else None
    return "int64" if values.dtype == np.int64 else "float"


def match_features(sample: Sequence[ParsedRecord]) -> dict[str, str]:
    """For each known feature, by tfpipe's name of it: the name under which the records of the sample store it."""
    matched: dict[str, str] = {}
    for name, candidates in KNOWN_NAMES.items():
        free = [stored for stored in candidates if stored not in matched.values()]
        fitting = next((stored for stored in free if _fits_all(name, stored, sample)), None)
        if fitting is not None:
            matched[name] = fitting
    if "image" not in matched:
        images = [name for name in sorted(sample[0]) if any(_is_image_file(record.get(name, [])) for record in sample)]
        if images and images[0] not in matched.values():
            matched["image"] = images[0]
    return matched


def _fits_all(name: str, stored: str, sample: Sequence[ParsedRecord]) -> bool:
    return all(stored in record and _fits(name, stored, record) for record in sample)


def _fits(name: str, stored: str, record: ParsedRecord) -> bool:
    """Whether the values that a record stores under one name can be the feature that tfpipe calls by another."""
    values = record.get(stored, [])
    kind, count = kind_of(values), len(values)
    if name == "image":
        return kind == "float" or (kind == "bytes" and count == 1)
    if name in ("embedding", "shape"):
        return kind == "float" if name == "embedding" else (kind == "int64" and count == 3)
    if stored in ("label", "label_int") and _has_several_classes(record):
        return True
    if name == "label":
        return kind in ("bytes", "float") and count == 1  # a float is a label to regress on
    return (kind, count) == ("int64" if name in ("label_int", "orientation") else "bytes", 1)


def _has_several_classes(record: ParsedRecord) -> bool:
    """Whether the record stores several classes, as --label_kind multi does: as many texts as ids, of any number."""
    texts, ids = record.get("label"), record.get("label_int")
    return (
        isinstance(texts, list) and isinstance(ids, np.ndarray) and kind_of(ids) == "int64" and len(texts) == len(ids)
    )


def _is_image_file(values: FeatureValues) -> bool:
    try:
        return isinstance(values, list) and len(values) == 1 and bool(probe(values[0]))
    except NotAnImage:
        return False


@dataclass
class FeatureStats:
    """Statistics of one feature: the kinds of its values, their number per record, and the records that have it."""

    kinds: set[str | None] = field(default_factory=set)
    low: int = 1 << 62
    high: int = 0
    num_records: int = 0


@dataclass
class SchemaInference:
    """The schema that all records of a dataset fit, inferred one record at a time.

    Attributes:
      feature_names: tfpipe's names of features to the stored ones.
      num_records: records added.
      num_turned: image files with an EXIF orientation, which the reader applies only if `orientation` is stored.
      num_unreadable: records whose image no decoder takes.
      unreadable: the reason, for the first of them.
    """

    feature_names: Mapping[str, str]
    num_records: int = 0
    num_turned: int = 0
    num_unreadable: int = 0
    unreadable: str | None = None
    _seen: dict[str, FeatureStats] = field(default_factory=dict)
    _formats: set[str] = field(default_factory=set)
    _shapes: set[tuple[int, ...]] = field(default_factory=set)
    _item_bytes: set[int] = field(default_factory=set)

    def add(self, features: ParsedRecord) -> None:
        """Adds a record.

        Raises:
          ValueError: its image or its class id is not stored as in the earlier records.
        """
        self.num_records += 1
        for name, values in features.items():
            seen = self._seen.setdefault(name, FeatureStats())
            seen.kinds.add(kind_of(values))
            seen.low, seen.high = min(seen.low, len(values)), max(seen.high, len(values))
            seen.num_records += 1
        for name in ("image", "label_int"):
            stored = self.feature_names.get(name)
            if stored and not _fits(name, stored, features):
                raise DataError(f"it has no {name} of one value under {stored!r}; it has {sorted(features)}")
        if "image" in self.feature_names:
            self._add_image(features)

    def _add_image(self, features: ParsedRecord) -> None:
        image = features[self.feature_names["image"]]
        shape = tuple(int(size) for size in features.get(self.feature_names.get("shape", ""), ()))
        if not isinstance(image, list):
            if len(shape) != 3 or math.prod(shape) != len(image):
                raise DataError(f"its image has {len(image)} floats, its shape is {shape or 'not stored'}")
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
        size = header.upright_size if "orientation" in self.feature_names else (header.height, header.width)
        self._add_shape((*size, 3))

    def _add_shape(self, shape: tuple[int, ...]) -> None:
        # Two sizes are enough to show that they differ; every number of channels is kept.
        if len(self._shapes) < 2 or shape[2:] not in {known[2:] for known in self._shapes}:
            self._shapes.add(shape)

    @property
    def unread_names(self) -> list[str]:
        """The stored features that the schema omits: their kind varies, or they don't fit the feature of their name."""
        taken = set(self.feature_names.values())
        return [name for name in sorted(self._seen) if name not in taken and self._extra(name) is None]

    def schema(self) -> Schema:
        """The schema of all records added.

        Raises:
          ValueError: they have neither an image that can be read nor an embedding.
        """
        features = [self._image()] if "image" in self.feature_names else []
        payload = "embedding"
        if features:
            payload = "raw" if features[0].codec in ("jpeg", "image") else "decoded"
        elif "embedding" not in self.feature_names:
            raise UsageError(
                f"No feature is known as an image or an embedding; the records have {sorted(self._seen)}, "
                f"known are {[*KNOWN_NAMES['image'], *KNOWN_NAMES['embedding']]}; give schema= with stored_as=."
            )
        features += [self._known(name) for name in self.feature_names if name != "image"]
        taken, names = set(self.feature_names.values()), {feature.name for feature in features}
        extras = [self._extra(name) for name in self._seen if name not in taken and name not in names]
        return Schema(payload, tuple(features + [extra for extra in extras if extra is not None]))

    def _known(self, name: str) -> Feature:
        seen = self._seen[self.feature_names[name]]
        kind = next((kind for kind in seen.kinds if kind), "bytes")
        shape: tuple[int | None, ...] = () if (seen.low, seen.high) == (1, 1) else (None,)
        if name in ("shape", "embedding"):
            shape = (seen.low if seen.low == seen.high else None,)
        default: int | str | None = None
        if seen.num_records < self.num_records and not shape:
            default = 1 if name == "orientation" else "" if kind == "bytes" else None
        return Feature(name, _DTYPES[kind], shape, "plain", default, self._stored_as(name))

    def _image(self) -> Feature:
        sizes: tuple[int | None, ...] = next(iter(self._shapes), (None, None, None))
        if len(self._shapes) > 1:
            channels = {shape[2] for shape in self._shapes}
            sizes = (None, None, channels.pop() if len(channels) == 1 else None)
        stored_as = self._stored_as("image")
        if self._formats and not self._item_bytes:
            return Feature("image", "uint8", sizes, "jpeg" if self._formats == {"jpeg"} else "image", None, stored_as)
        if self._seen[self.feature_names["image"]].kinds == {"float"}:
            return Feature("image", "float32", sizes, "plain", None, stored_as)
        if not self._formats and len(self._item_bytes) == 1 and self._item_bytes <= set(_PIXEL_DTYPES):
            dtype = _PIXEL_DTYPES[next(iter(self._item_bytes))]
            return Feature("image", dtype, sizes, "pixels", None, stored_as)
        raise UsageError(
            f"The images under {self.feature_names['image']!r} are neither files, nor floats or pixels with a shape: "
            f"{self.unreadable or 'they are stored in several ways'}"
        )

    def _stored_as(self, name: str) -> str | None:
        stored = self.feature_names[name]
        return None if stored == name else stored

    def _extra(self, name: str) -> Feature | None:
        """The feature of an additional column; None if the reader can't represent it."""
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
