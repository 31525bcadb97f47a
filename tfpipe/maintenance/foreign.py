"""The layout of third-party records: which feature is the image, the label, the key; and the schema of all of them.

TensorFlow Datasets writes `image` and an int64 `label`; ImageNet's scripts `image/encoded`, `image/class/label` and
`image/class/text`; TensorFlow's examples `image_raw` with `height`, `width` and `depth`; its object detection API boxes
in four features; Practical Machine Learning for Computer Vision a flat float `image` with its `shape`, `label` and
`label_int`. tfpipe uses the names of the last one.

    inference = infer_layout(sample)
    inference.feature_names                     # {"image": "image/encoded", "label_int": "image/class/label", ...}
    for features in parsed_records:
        inference.add(features)
    inference.schema()

`tfpipe index` and `tfpipe convert` both take records by this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfpipe.errors import UsageError
from tfpipe.format.schema import Feature, Schema
from tfpipe.images.probe import NotAnImage, probe
from tfpipe.maintenance.foreign_boxes import LABEL_NAMES, BoxStats, find_boxes, first_stored
from tfpipe.maintenance.foreign_images import HOW_TO_SAY, FeatureValues, ImageStats, ParsedRecord, find_sizes

# tfpipe's name of a feature: the names that writers give it. The first one that is stored with fitting values is taken.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "image": (
        *("image", "image/encoded", "image_raw", "img_raw", "image_bytes", "img_bytes", "img", "encoded"),
        *("encoded_image", "image_data", "raw_image", "jpeg", "jpg", "png", "jpeg_bytes", "image_string"),
    ),
    "shape": ("shape", "image/shape", "image_shape", "img_shape"),
    "embedding": ("embedding",),
    "orientation": ("orientation",),
    "label_int": (
        *("label_int", "label", "image/class/label", "class", "label_id", "class_id", "target", "labels"),
        *("image/label", "class_label", "category_id", "category"),
    ),
    "label": (
        *("label", "image/class/text", "label_text", "label_name", "class_name", "text_label", "labels", "class"),
        *("category", "category_name", "class_text"),
    ),
    "key": (
        *("key", "image/filename", "file_name", "filename", "image_name", "image/key", "image_id", "id"),
        *("image/source_id", "image/id"),
    ),
}
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
        if fitting is None and name in ("label_int", "label"):
            fitting = next((stored for stored in free if _is_list(name, stored, sample)), None)
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


def _is_list(name: str, stored: str, sample: Sequence[ParsedRecord]) -> bool:
    """Whether every record of a sample stores a label of several values under a name: ids, texts, or a vector."""
    lists = [record.get(stored) for record in sample]
    kinds = {kind_of(values) for values in lists if values is not None and len(values)}
    counts = {len(values) for values in lists if values is not None}
    if any(values is None for values in lists) or len(kinds) != 1 or counts <= {0, 1}:
        return False
    # Floats are a vector to regress on, of one length.
    allowed = {"int64"} if name == "label_int" else {"bytes", "float"} if len(counts) == 1 else {"bytes"}
    return kinds <= allowed


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
    """Statistics of one feature: the kinds of its values, their number per record, and the records that have it.

    Attributes:
      is_text: whether all bytes values are UTF-8 texts.
    """

    kinds: set[str | None] = field(default_factory=set)
    low: int = 1 << 62
    high: int = 0
    num_records: int = 0
    is_text: bool = True

    def add(self, values: FeatureValues) -> None:
        """Adds the values of a record."""
        self.kinds.add(kind_of(values))
        self.low, self.high = min(self.low, len(values)), max(self.high, len(values))
        self.num_records += 1
        if self.is_text and isinstance(values, list):
            self.is_text = all(map(_is_text, values))


def _is_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode("utf-8")
    except UnicodeDecodeError:
        return False


@dataclass
class SchemaInference:
    """The schema that all records of a dataset fit, inferred one record at a time.

    Attributes:
      feature_names: tfpipe's names of features to the stored ones.
      image: the statistics of the images.
      boxes: those of the boxes.
      num_records: records added.
    """

    feature_names: Mapping[str, str]
    image: ImageStats
    boxes: BoxStats
    num_records: int = 0
    _seen: dict[str, FeatureStats] = field(default_factory=dict)

    def add(self, features: ParsedRecord) -> None:
        """Adds a record.

        Raises:
          ValueError: its image or its class id is not stored as in the earlier records.
        """
        for name in ("image", "label_int"):
            self._check(name, features)
        self.num_records += 1
        for name, values in features.items():
            self._seen.setdefault(name, FeatureStats()).add(values)
        if "image" in self.feature_names:
            self.image.add(features)
        self.boxes.add(features)

    def _check(self, name: str, features: ParsedRecord) -> None:
        stored = self.feature_names.get(name)
        if stored is None or _fits(name, stored, features):
            return
        values = features.get(stored)
        if name == "image" or values is None or kind_of(values) not in ("int64", None):
            raise UsageError(f"it has no {name} of one value under {stored!r}; it has {sorted(features)}")

    def stats(self, stored: str) -> FeatureStats:
        """The statistics of a feature, by its stored name."""
        return self._seen.get(stored, FeatureStats())

    @property
    def all_names(self) -> list[str]:
        """The stored names of all features."""
        return list(self._seen)

    @property
    def unread_names(self) -> list[str]:
        """The stored features that the schema omits: their kind varies, or they don't fit the feature of their name."""
        taken = {*self.feature_names.values(), *self._box_parts}
        return [name for name in sorted(self._seen) if name not in taken and self._extra(name) is None]

    def schema(self, *, for_reader: bool = True) -> Schema:
        """The schema of all records added.

        Args:
          for_reader: whether make_dataset is to read them as they are; not where they are written anew, one by one.

        Raises:
          ValueError: they have neither an image that can be read nor an embedding, or no schema can say what the reader
            has to know.
        """
        if for_reader:
            self._check_labels()
        features = [self.image.feature()] if "image" in self.feature_names else []
        payload = "embedding"
        if features:
            payload = "raw" if features[0].codec in ("jpeg", "image") else "decoded"
        elif "embedding" not in self.feature_names:
            raise UsageError(
                f"No feature is known as an image or an embedding; the records have {sorted(self._seen)}, "
                f"known are {[*KNOWN_NAMES['image'], *KNOWN_NAMES['embedding']]}; {HOW_TO_SAY}."
            )
        parts = self._box_parts if features else ()
        features += [self._known(name) for name in self.feature_names if name != "image"]
        features += [Feature(name, "float32", (None,)) for name in parts]
        if parts and self.boxes.labels and self.boxes.has_labels:
            features.append(Feature("box_labels", "int64", (None,), stored_as=self.boxes.labels))
        taken, names = {feature.stored_name for feature in features}, {feature.name for feature in features}
        extras = [self._extra(name) for name in self._seen if name not in taken and name not in names]
        features += [extra for extra in extras if extra is not None]
        derived = [("boxes", parts)] if parts else []
        return Schema(payload, tuple(features), (*derived, *(self._derived_shape(features) if for_reader else ())))

    def _check_labels(self) -> None:
        for name in ("label_int", "label"):
            stored = self.feature_names.get(name, "")
            seen = self.stats(stored)
            if not self._pairs_texts and seen.low == 0 and seen.high == 1 and name == "label_int":
                raise UsageError(f"Some records have no value under {stored!r}, the others one; {HOW_TO_SAY}.")
            if "float" in seen.kinds and seen.low != seen.high:
                raise UsageError(f"The floats under {stored!r} are {seen.low} to {seen.high} a record; {HOW_TO_SAY}.")

    def _derived_shape(self, features: Sequence[Feature]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The features that tell the sizes of images that are no files and differ in size."""
        by_name = {feature.name: feature for feature in features}
        image = by_name.get("image")
        if image is None or image.codec in ("jpeg", "image") or None not in image.shape or "shape" in by_name:
            return ()
        sides = self.image.sizes.sides
        fitting = all(side in by_name and by_name[side].shape == () for side in sides)
        if not sides or not fitting or (len(sides) == 2 and image.shape[2] is None):
            raise UsageError(
                f"The images under {self.image.stored!r} differ in size, and no feature tells the reader each one's "
                "(`shape` of three numbers, or height, width and depth); tfpipe convert reads them."
            )
        return (("shape", sides),)

    @property
    def _box_parts(self) -> tuple[str, ...]:
        clash = "boxes" in self._seen or "boxes" in self.feature_names
        return () if self.boxes.problem or clash else self.boxes.names

    def _known(self, name: str) -> Feature:
        stored = self.feature_names[name]
        seen = self._seen[stored]
        kind = next((kind for kind in seen.kinds if kind), "bytes")
        shape: tuple[int | None, ...] = () if (seen.low, seen.high) == (1, 1) else (None,)
        if name in ("shape", "embedding") or (
            shape and kind != "bytes" and seen.low == seen.high and not self._pairs_texts
        ):
            shape = (seen.low if seen.low == seen.high else None,)
        default: int | str | None = None
        if seen.num_records < self.num_records and not shape:
            default = 1 if name == "orientation" else "" if kind == "bytes" else None
        return Feature(name, _DTYPES[kind], shape, "plain", default, None if stored == name else stored)

    @property
    def _pairs_texts(self) -> bool:
        """Whether the records have a text for each of several class ids, as --label_kind multi writes them."""
        names = self.feature_names
        return (names.get("label"), names.get("label_int")) == ("label", "label_int")

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


def infer_layout(sample: Sequence[ParsedRecord], *, feature_names: Mapping[str, str] | None = None) -> SchemaInference:
    """The inference of a schema, for records such as those of a sample; `feature_names` where they are known."""
    names = match_features(sample) if feature_names is None else feature_names
    image = ImageStats(names.get("image", ""), find_sizes(sample), upright="orientation" in names)
    boxes = BoxStats(find_boxes(sample), first_stored(LABEL_NAMES, sample))
    return SchemaInference(names, image, boxes)
