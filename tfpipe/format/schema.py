"""The schema of records: the name, dtype, shape and codec of every feature, as one frozen value.

The converter writes the `Schema` into the manifest; the reader needs nothing else to decode a record. This module does
not use TensorFlow; `tfpipe.format.example` encodes and decodes records by their schema.

    schema = record_schema("decoded", ImageSpec(dtype="uint8", size=(224, 224)))
    schema["image"].shape        # (224, 224, 3)
    Schema.from_json(schema.to_json()) == schema
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from tfpipe.errors import UsageError

DTYPES = ("string", "int64", "float32", "float16", "uint8")
PAYLOADS = ("raw", "decoded", "embedding")
# class: one class name per record; multi: any number of them; number: a float, for regression; none: no label at all.
LABEL_KINDS = ("class", "multi", "number", "none")

# plain: the values themselves, in the list of tf.train.Feature that fits their dtype.
# pixels: one bytes value with the array's little-endian bytes.
# jpeg, image: one bytes value with a whole image file: JPEG only, or any format that tf.io.decode_image reads. It
# decodes to the number of channels in the shape: 3, or 1 for a mask.
CODECS = ("plain", "pixels", "jpeg", "image")

RESERVED = ("key", "image", "shape", "label", "label_int", "embedding", "orientation", "mask")


@dataclass(frozen=True)
class Feature:
    """One named array of a record.

    Attributes:
      name: the feature's name for the reader, and in tf.train.Example unless stored_as gives another.
      dtype: one of DTYPES, of the values that the reader returns. An encoded image decodes to uint8.
      shape: sizes, None if they differ between records; () is a scalar.
      codec: one of CODECS: the form in which the record stores the values.
      default: the value of records that lack the feature; None if every record must have it.
      stored_as: its name in tf.train.Example, if another writer chose a different one; None if it is `name`.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()
    codec: str = "plain"
    default: int | float | str | None = None
    stored_as: str | None = None

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise UsageError(f"A feature needs a name, not {self.name!r}.")
        if self.dtype not in DTYPES:
            raise UsageError(f"Feature {self.name!r} has dtype {self.dtype!r}; known dtypes: {list(DTYPES)}.")
        if self.codec not in CODECS:
            raise UsageError(f"Feature {self.name!r} has codec {self.codec!r}; known codecs: {list(CODECS)}.")
        if self.codec == "plain" and self.dtype in ("float16", "uint8"):
            raise UsageError(f"Feature {self.name!r}: {self.dtype} is stored with the codec 'pixels', not 'plain'.")
        if self.codec in ("jpeg", "image") and self.dtype != "uint8":
            raise UsageError(f"Feature {self.name!r}: an encoded image decodes to uint8, not {self.dtype!r}.")
        if not all(size is None or (isinstance(size, int) and size >= 0) for size in self.shape):
            raise UsageError(f"Feature {self.name!r} has shape {self.shape!r}; sizes are integers or None.")
        if self.stored_as is not None and (not self.stored_as or not isinstance(self.stored_as, str)):
            raise UsageError(f"Feature {self.name!r} is stored as {self.stored_as!r}; it takes a name or None.")

    @property
    def stored_name(self) -> str:
        """Its name in tf.train.Example."""
        return self.stored_as or self.name

    @property
    def list_type(self) -> str:
        """Which list of tf.train.Feature holds the values: "bytes", "float" or "int64"."""
        if self.codec != "plain":
            return "bytes"
        return {"string": "bytes", "float32": "float", "int64": "int64"}[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """The feature as plain JSON values."""
        fields: dict[str, Any] = {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "codec": self.codec,
        }
        extras = {"default": self.default, "stored_as": self.stored_as}
        return fields | {name: value for name, value in extras.items() if value is not None}


# What a reader can make of other features: `shape`, of whole numbers that are height, width and, where it is stored,
# the number of channels; `boxes`, of four lists: x0, y0, x1, y1 as fractions of the image's width and height.
DERIVED = ("boxes", "shape")


@dataclass(frozen=True)
class Schema:
    """The payload of a dataset and the features of its records, in code-point order of their names.

    Attributes:
      payload: one of PAYLOADS.
      features: what the records store.
      derived: what a reader makes of the features of third-party records: a name of DERIVED, and those of the features
        that it is made of.
    """

    payload: str
    features: tuple[Feature, ...]
    derived: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        if self.payload not in PAYLOADS:
            raise UsageError(f"Unknown payload {self.payload!r}; known payloads: {list(PAYLOADS)}.")
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"Feature names occur twice in the schema: {twice}.")
        stored = [feature.stored_name for feature in self.features]
        twice = sorted({name for name in stored if stored.count(name) > 1})
        if twice:
            raise UsageError(f"Two features of the schema are stored under one name: {twice}.")
        object.__setattr__(self, "features", tuple(sorted(self.features, key=lambda feature: feature.name)))
        object.__setattr__(self, "derived", tuple(sorted((name, tuple(parts)) for name, parts in self.derived)))
        self._check_derived()

    def _check_derived(self) -> None:
        """Raises ValueError where a derived feature is none that a reader can make."""
        for name, parts in self.derived:
            if name not in DERIVED or name in self:
                raise UsageError(f"The schema derives {name!r}; it may derive {list(DERIVED)}, where no record has it.")
            kinds = {(self[part].codec, self[part].dtype) for part in parts}
            shapes = [self[part].shape for part in parts]
            if name == "boxes" and (kinds != {("plain", "float32")} or shapes != [(None,)] * 4):
                raise UsageError(f"boxes are made of four lists of float32; the schema names {list(parts)}.")
            if name == "shape" and (kinds != {("plain", "int64")} or shapes not in ([()] * 2, [()] * 3)):
                raise UsageError(f"shape is made of two or three numbers of int64; the schema names {list(parts)}.")

    def derived_from(self, name: str) -> tuple[str, ...]:
        """The features that a reader makes a derived one of; () where it derives none of that name."""
        return dict(self.derived).get(name, ())

    def select(self, names: Collection[str]) -> Schema:
        """The schema of some features, and what the derived ones among them are made of."""
        derived = tuple((name, parts) for name, parts in self.derived if name in names)
        wanted = {*names, *(part for _, parts in derived for part in parts)}
        return Schema(self.payload, tuple(f for f in self.features if f.name in wanted), derived)

    def __contains__(self, name: object) -> bool:
        return any(feature.name == name for feature in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"No feature {name!r} in the schema; it has {list(self.names)}.")

    @cached_property
    def in_map_order(self) -> tuple[Feature, ...]:
        """The features in the order of tf.train.Example's map: a name before its own prefixes."""
        return tuple(sorted(self.features, key=lambda feature: feature.stored_name.encode() + b"\xff"))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all features, sorted."""
        return tuple(feature.name for feature in self.features)

    @property
    def label_kind(self) -> str:
        """The kind of the labels, inferred from the features.

        "number" for a float `label`; "multi" for `label_int` of any number of classes, "vector" where it has the same
        number of values in every record, as only third-party records have it; "none" where there are no labels; else
        "class".
        """
        if "label" in self and self["label"].dtype == "float32":
            return "number"
        if "label" not in self and "label_int" not in self:
            return "none"
        shape = self["label_int"].shape if "label_int" in self else ()
        return "class" if not shape else "multi" if None in shape else "vector"

    def to_json(self) -> dict[str, Any]:
        """The schema as plain JSON values."""
        document: dict[str, Any] = {
            "payload": self.payload,
            "features": [feature.to_json() for feature in self.features],
        }
        if self.derived:
            document["derived"] = {name: list(parts) for name, parts in self.derived}
        return document

    @classmethod
    def from_json(cls, document: Any) -> Schema:
        """The schema that `to_json` wrote.

        Raises:
          ValueError: the document is not a schema; the message says which part.
        """
        try:
            features = tuple(
                Feature(f["name"], f["dtype"], tuple(f["shape"]), f["codec"], f.get("default"), f.get("stored_as"))
                for f in document["features"]
            )
            derived = tuple((name, tuple(parts)) for name, parts in document.get("derived", {}).items())
            return cls(document["payload"], features, derived)
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"Not a schema: {type(error).__name__}: {error}.") from error

    def fingerprint(self) -> str:
        """32 hex digits that change with any part of the schema."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return xxhash.xxh3_128_hexdigest(text.encode())


@dataclass(frozen=True)
class ImageSpec:
    """How a payload stores its images.

    Attributes:
      dtype: for decoded: "float32", "float16" or "uint8"; ignored for raw.
      size: (height, width) if all images have one size, else None.
      jpeg_only: for raw: every file is a JPEG, so the reader may take the fast decoder.
      turned: for raw: some file has an EXIF orientation.
      masked: each record also has a `mask` [H, W, 1] uint8 of the image's size: a PNG for raw, pixels for decoded.
      channels: for decoded: 3 for colour, 1 for gray, or any other number that arrays have.
    """

    dtype: str = "uint8"
    size: tuple[int, int] | None = None
    jpeg_only: bool = False
    turned: bool = False
    masked: bool = False
    channels: int = 3


def record_schema(
    payload: str,
    *,
    image: ImageSpec | None = None,
    embedding_size: int | None = None,
    extras: tuple[Feature, ...] = (),
    label_kind: str = "class",
) -> Schema:
    """The schema of the records that the converter writes for a payload.

    Args:
      payload: "raw", "decoded" or "embedding".
      image: how raw and decoded images are stored.
      embedding_size: the length of the vectors, for "embedding".
      extras: additional columns of the source. `boxes`, float32 [None, 4], are x0, y0, x1, y1 in pixels of the stored
        image; tfpipe.images.boxes moves them.
      label_kind: one of LABEL_KINDS.

    Raises:
      ValueError: an extra column takes the name of a feature that every record has.
    """
    taken = sorted({extra.name for extra in extras} & set(RESERVED))
    if taken:
        raise UsageError(f"Columns {taken} have names that records use themselves; rename them in the listing.")
    features = [Feature("key", "string"), *_label_features(label_kind), *extras]
    if payload == "embedding":
        features.append(Feature("embedding", "float32", (embedding_size,)))
    elif payload in ("raw", "decoded"):
        features += _image_features(payload, image or ImageSpec())
    return Schema(payload, tuple(features))


def _label_features(kind: str) -> list[Feature]:
    if kind == "none":
        return []
    if kind == "number":
        return [Feature("label", "float32")]
    shape = (None,) if kind == "multi" else ()
    return [Feature("label", "string", shape), Feature("label_int", "int64", shape)]


def _image_features(payload: str, image: ImageSpec) -> list[Feature]:
    sides = image.size or (None, None)
    shape = (*sides, image.channels if payload == "decoded" else 3)
    features = [Feature("shape", "int64", (3,))]
    if image.masked:
        features.append(Feature("mask", "uint8", (*sides, 1), "image" if payload == "raw" else "pixels"))
    if payload == "raw":
        features.append(Feature("image", "uint8", shape, "jpeg" if image.jpeg_only else "image"))
        if image.turned:
            features.append(Feature("orientation", "int64", default=1))
    else:
        # float32 is stored in a float_list, which any TFRecord reader can parse; the other dtypes have no such list.
        features.append(Feature("image", image.dtype, shape, "plain" if image.dtype == "float32" else "pixels"))
    return features


def load_schema(path: str) -> Schema:
    """The schema in a JSON file of the form that Schema.to_json has; `shape` and `codec` may be left out.

    Raises:
      UsageError: the file can't be read, or is no schema; the message says which part.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        if isinstance(document, dict) and isinstance(document.get("features"), list):
            document["features"] = [{"shape": [], "codec": "plain", **feature} for feature in document["features"]]
        return Schema.from_json(document)
    except OSError as error:
        raise UsageError(f"--schema {path!r} can't be read: {error.strerror}.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"--schema {path!r}: {error}") from error


def parse_size(text: str) -> tuple[int, int]:
    """The (height, width) that a text such as "224,224" names; "224" is a square.

    Raises:
      ValueError: it is not one or two integers, or one of them is 0.
    """
    match = re.fullmatch(r"(\d+)(?:,(\d+))?", text.replace(" ", ""))
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not height or not width:
        raise UsageError(f"{text!r} is not HEIGHT,WIDTH such as 224,224, or one number for a square")
    return height, width
