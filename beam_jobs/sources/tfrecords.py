"""Images in the TFRecords of a tfpipe dataset; `foreign` reads those of others.

Both CRCs of every record are checked while listing; the image is then read in place, from inside the record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_jobs.sources.files import absolute
from beam_jobs.sources.labels import label_text, name_classes
from beam_jobs.sources.listing import MASK_COLUMN, Entry, Listed, Ref, Refusal, Refused, check_names, printable, to_cell
from beam_jobs.sources.recordfiles import check_file, scan_records
from beam_jobs.sources.slices import FilePiece, Slices, entries_of_files, file_pieces
from tfpipe.errors import UsageError
from tfpipe.format.framing import HEADER_BYTES, DamagedRecord, Record
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.format.schema import RESERVED, Feature
from tfpipe.format.wire import NotAnExample, parse_example

_Values = Mapping[str, list[bytes] | np.ndarray]


@dataclass(frozen=True)
class RecordSource:
    """TFRecord files. The key is the record's own, or FILE/NUMBER where it has none.

    Attributes:
      slices: the files.
      file_splits: the split of each; "" where the hash decides.
      image, label: the names of these features.
      key: that of the key; None where records have none.
      extras: the additional features, which become columns.
      masked: whether each record has a `mask`.
      has_lists: whether a label is a list of any length, rather than one value.
      notes: what a user should know of the records, a sentence each.
    """

    slices: Slices
    file_splits: tuple[str, ...]
    image: str
    label: str | None
    key: str | None
    extras: tuple[Feature, ...] = ()
    class_names: tuple[str, ...] | None = None
    has_lists: bool = False
    masked: bool = False
    label_kinds: tuple[str, ...] = ("class", "multi", "number")
    notes: tuple[str, ...] = ()

    # See Source for the members that have no docstring.
    @property
    def columns(self) -> tuple[str, ...]:
        return (*(feature.name for feature in self.extras), *([MASK_COLUMN] if self.masked else []))

    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        return (
            *((f.name, _column_dtype(f)) for f in self.extras),
            *([(MASK_COLUMN, MASK_COLUMN)] if self.masked else []),
        )

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self.file_splits) if name)

    def pieces(self, limit: int | None) -> list[Any]:
        return file_pieces(len(self.slices.paths), limit)

    def entries(self, piece: FilePiece) -> Iterator[Entry]:
        return entries_of_files(piece, self._entries_of)

    def read(self, ref: Ref) -> bytes:
        return self.slices.read_at(ref.locator.partition("@")[0], ref.size)

    def read_mask(self, ref: Ref) -> bytes:
        number, offset, size = map(int, ref.locator.partition("@")[2].split(":"))
        return self.slices.read(number, offset, size)

    def _entries_of(self, number: int) -> Iterator[Entry]:
        path = self.slices.paths[number]
        name, count = os.path.basename(path), 0
        try:
            for record in scan_records(path):
                yield self._entry(number, f"{name}/{count}", record)
                count += 1
        except DamagedRecord as error:
            detail = (
                f"Record {error.number} at byte {error.offset}: {error.what}; what follows is lost. See tfpipe repair."
            )
            yield Refused("", name, "damaged_record", detail)

    def _entry(self, number: int, position: str, record: Record) -> Entry:
        try:
            values = parse_example(record.data)
        except NotAnExample as error:
            return Refused(position, position, "bad_record", str(error))
        key = _text(values, self.key) or position
        try:
            return self._list_record(number, key, record, values)
        except Refusal as refusal:
            return refusal.of(printable(key))

    def _list_record(self, number: int, key: str, record: Record, values: _Values) -> Listed:
        image = values.get(self.image, [])
        if not isinstance(image, list) or len(image) != 1 or not image[0]:
            raise Refusal("no_image", f"The record has no image bytes under {self.image!r}.")
        value = _plain(values.get(self.label or "", []))
        value = name_classes([] if value is None and self.has_lists else value, self.class_names)
        label = "" if self.label is None else label_text(value)
        extras = tuple(_cell(values.get(feature.stored_name, []), feature) for feature in self.extras)
        check_names(key, label, *extras)
        locator = _locator(number, record, image[0])
        if self.masked:
            mask = values.get(MASK_COLUMN, [])
            if not isinstance(mask, list) or len(mask) != 1:
                raise Refusal("missing_mask", "The record has no mask.")
            locator += f"@{_locator(number, record, mask[0])}:{len(mask[0])}"
            extras += ("",)
        return Listed(key, label, self.file_splits[number], len(image[0]), extras, locator)


def _locator(number: int, record: Record, data: bytes) -> str:
    """FILE:OFFSET of bytes of a record: of their first occurrence, which may be elsewhere and holds the same bytes."""
    return f"{number}:{record.offset + HEADER_BYTES + record.data.find(data)}"


def _plain(values: list[bytes] | np.ndarray) -> Any:
    """A feature's values as text and numbers: one as a scalar, none as None, several as a list."""
    plain = values if isinstance(values, list) else values.tolist()
    plain = [one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else one for one in plain]
    return plain[0] if len(plain) == 1 else (plain or None)


def _text(values: _Values, name: str | None) -> str:
    return "" if name is None else to_cell(_plain(values.get(name, [])))


def _cell(values: list[bytes] | np.ndarray, feature: Feature) -> str:
    if feature.shape:
        return " ".join(map(repr, values.tolist())) if isinstance(values, np.ndarray) else ""
    return to_cell(_plain(values))


def _column_dtype(feature: Feature) -> str:
    if not feature.shape:
        return feature.dtype
    return f"{feature.dtype}[{','.join(map(str, feature.shape[1:]))}]"


def open_dataset(directory: str, label_kind: str) -> RecordSource:
    """The source of a tfpipe dataset with raw images. Its records keep their splits.

    Raises:
      UsageError: it holds pixels or vectors, or its shards are compressed.
    """
    try:
        manifest = load_manifest(absolute(directory))
    except ValueError as error:
        raise UsageError(str(error)) from error
    schema = manifest.schema
    if "image" not in schema or schema["image"].codec not in ("jpeg", "image"):
        raise UsageError(f"{directory!r} holds {schema.payload} records, not image files; convert its source images.")
    paths, splits = _shards(manifest)
    names = {name: schema[name].stored_name for name in ("image", "label", "label_int", "key") if name in schema}
    label = names.get("label") or names.get("label_int")
    kinds = ("class", "multi", "number") if label else ("none",)
    if label is None and label_kind != "none":
        raise UsageError(f"The records in {directory!r} have no label; --label_kind none takes them.")
    others = [feature for feature in schema.features if feature.name not in RESERVED]
    extras = tuple(feature for feature in others if feature.codec == "plain" and _is_carried(feature))
    lost = [feature.name for feature in others if feature not in extras]
    notes = (f"These features are left out: {', '.join(lost)}.",) if lost else ()
    classes = manifest.class_names or None
    masked = MASK_COLUMN in schema and schema[MASK_COLUMN].codec == "image"
    several = schema.label_kind == "multi"
    key = names.get("key")
    return RecordSource(
        Slices(paths), splits, names["image"], label, key, extras, classes, several, masked, kinds, notes
    )


def _is_carried(feature: Feature) -> bool:
    """Scalars, and arrays of numbers of which only the first side may vary."""
    return not feature.shape or (feature.dtype != "string" and None not in feature.shape[1:])


def _shards(manifest: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = [(str(manifest.shard_path(s)), name) for name, split in manifest.splits.items() for s in split.shards]
    for path, _ in pairs:
        if check_file(path):
            raise UsageError(
                f"{path!r} is compressed; give --input the pattern of the files instead of their manifest."
            )
    return tuple(path for path, _ in pairs), tuple(name for _, name in pairs)
