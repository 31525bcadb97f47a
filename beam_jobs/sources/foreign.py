"""Images in TFRecords that others wrote: records of tf.train.Example without a manifest.

The files are read once before they are listed, as `tfpipe index` reads them, so that both take the same features for
the same things: image, label, key, boxes, and every other feature as a column. Class ids stay those of the records.
Images are files, or pixels and floats, which become PNG files without loss of 8 bits.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from beam_jobs.sources.labels import label_text
from beam_jobs.sources.listing import MASK_COLUMN, Entry, Listed, Ref, Refusal, Refused, check_names, printable, to_cell
from beam_jobs.sources.recordfiles import scan_records
from beam_jobs.sources.slices import FilePiece, Slices, entries_of_files, file_pieces
from tfpipe.format.framing import HEADER_BYTES, DamagedRecord
from tfpipe.format.schema import Feature, Schema
from tfpipe.format.wire import NotAnExample
from tfpipe.images.png import write_png
from tfpipe.images.probe import NotAnImage, probe
from tfpipe.maintenance.examine import parse_record
from tfpipe.maintenance.foreign_images import FeatureValues, ParsedRecord, SizeNames, image_array

_COLOURS = (1, 3, 4)
# The column whose dtype makes boxes move with their image; see beam_jobs.encode.columns.
_BOXES = ("boxes", "float32[4]")


@dataclass(frozen=True)
class ForeignSource:
    """Records of others. The key is the record's own, or FILE/NUMBER where it has none.

    Attributes:
      paths: the files.
      names: the name of each in keys.
      records: their bytes; of a compressed file, those of its records in the spool.
      spooled: which files are compressed, and copied into the spool while they are listed.
      file_splits: the split of each; "" where the hash decides.
      schema: the features of the records.
      sizes: the features that tell the size of pixels.
      levels: what float pixels are multiplied by to give levels of 0 to 255.
      extras: the features that become columns, each with the dtype of its column.
      label_kind: of the job.
      notes: what a user should know of the records, a sentence each.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    records: Slices
    spooled: tuple[bool, ...]
    file_splits: tuple[str, ...]
    schema: Schema
    sizes: SizeNames
    levels: float
    extras: tuple[tuple[Feature, str], ...]
    class_names: tuple[str, ...] | None
    label_kind: str
    label_kinds: tuple[str, ...]
    masked: bool = False
    notes: tuple[str, ...] = ()

    # See Source for the members that have no docstring.
    @property
    def dtypes(self) -> tuple[tuple[str, str], ...]:
        boxes = [_BOXES] if self.schema.derived_from("boxes") else []
        masks = [(MASK_COLUMN, MASK_COLUMN)] if self.masked else []
        return (*((feature.name, dtype) for feature, dtype in self.extras), *boxes, *masks)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.dtypes)

    @property
    def splits(self) -> tuple[str, ...]:
        found = set(self.file_splits)
        return tuple(name for name in ("train", "validation", "test") if name in found)

    def pieces(self, limit: int | None) -> list[Any]:
        return file_pieces(len(self.paths), limit)

    def entries(self, piece: FilePiece) -> Iterator[Entry]:
        return entries_of_files(piece, self._entries_of)

    def read(self, ref: Ref) -> bytes:
        values = self._values(ref)
        image = values[self.schema["image"].stored_name]
        if self.schema["image"].codec in ("jpeg", "image"):
            return image[0] if isinstance(image, list) else b""
        return write_png(self._pixels(values), smooth=True)

    def read_mask(self, ref: Ref) -> bytes:
        return bytes(self._values(ref)[MASK_COLUMN][0])

    def fill_cells(self, ref: Ref) -> Ref:
        """The reference with the bytes in the cells of those columns of which a listing has the digests only."""
        if not any(dtype.startswith("bytes") for _, dtype in self.extras):
            return ref
        values, cells = self._values(ref), list(ref.extras)
        for number, (feature, dtype) in enumerate(self.extras):
            if dtype.startswith("bytes"):
                cells[number] = _bytes_cell(values.get(feature.stored_name, []), feature)
        return ref._replace(extras=tuple(cells))

    # ---- listing

    def _entries_of(self, number: int) -> Iterator[Entry]:
        name, count = self.names[number], 0
        try:
            for offset, data in self._payloads(number):
                yield self._entry(number, f"{name}/{count}", offset, data)
                count += 1
        except DamagedRecord as error:
            detail = f"Record {error.number} at byte {error.offset}: {error.what}; what follows is lost."
            yield Refused("", name, "damaged_record", f"{detail} See tfpipe repair.")

    def _payloads(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The records of a file, each with the offset of its payload in `records`."""
        if not self.spooled[number] or self.records.paths[number] == self.paths[number]:
            for record in scan_records(self.paths[number]):
                yield record.offset + HEADER_BYTES, record.data
            return
        os.makedirs(os.path.dirname(self.records.paths[number]), exist_ok=True)
        with open(self.records.paths[number], "wb") as spool:
            for record in scan_records(self.paths[number]):
                offset = spool.tell()
                spool.write(record.data)
                yield offset, record.data

    def _entry(self, number: int, position: str, offset: int, data: bytes) -> Entry:
        try:
            values = parse_record(data)
        except NotAnExample as error:
            return Refused(position, position, "bad_record", str(error))
        key = _text(values, self.schema["key"].stored_name if "key" in self.schema else None) or position
        try:
            return self._list_record(key, number, f"{number}:{offset}:{len(data)}", values)
        except Refusal as refusal:
            return refusal.of(printable(key))

    def _list_record(self, key: str, number: int, locator: str, values: ParsedRecord) -> Listed:
        size, shape = self._image_size(values)
        label = label_text(self._label(values))
        extras = [_cell(values.get(feature.stored_name, []), feature, dtype) for feature, dtype in self.extras]
        if parts := self.schema.derived_from("boxes"):
            extras.append(_boxes_cell([values.get(name, []) for name in parts], shape))
        if self.masked:
            if not len(values.get(MASK_COLUMN, [])):
                raise Refusal("missing_mask", "The record has no mask.")
            extras.append("")
        check_names(key, label, *extras)
        return Listed(key, label, self.file_splits[number], size, tuple(extras), locator)

    def _image_size(self, values: ParsedRecord) -> tuple[int, tuple[int, int]]:
        """The bytes of the image, its height and width; zeros where its file has to be refused when it is read."""
        feature = self.schema["image"]
        image = values.get(feature.stored_name, [])
        if feature.codec not in ("jpeg", "image"):
            pixels = self._pixels(values)
            return pixels.size, (pixels.shape[0], pixels.shape[1])
        if not isinstance(image, list) or len(image) != 1 or not image[0]:
            raise Refusal("no_image", f"The record has no image bytes under {feature.stored_name!r}.")
        if "orientation" not in self.schema and not self.schema.derived_from("boxes"):
            return len(image[0]), (0, 0)
        try:
            header = probe(image[0])
        except NotAnImage:
            return len(image[0]), (0, 0)
        stored = values.get(self.schema["orientation"].stored_name, [1]) if "orientation" in self.schema else []
        if len(stored) and int(stored[0]) != header.orientation:
            detail = f"The record has the orientation {int(stored[0])}, the EXIF data of its image {header.orientation}"
            raise Refusal("orientation", f"{detail}: which one holds can't be told; tfpipe index takes the record's.")
        return len(image[0]), (header.height, header.width)

    def _pixels(self, values: ParsedRecord) -> np.ndarray:
        """The pixels of a record as levels of 0 to 255: uint8 [H, W, C]; raises a Refusal where there are none."""
        try:
            pixels = image_array(self.schema["image"], self.sizes, values)
        except ValueError as error:
            raise Refusal("bad_pixels", f"The record's image can't be read: {error}.") from error
        if pixels.shape[2] not in _COLOURS:
            detail = f"The record's image has {pixels.shape[2]} channels; images of 1, 3 or 4 are converted"
            raise Refusal("bad_pixels", f"{detail}, and tfpipe index takes any.")
        if pixels.dtype == np.uint8:
            return pixels
        levels = np.rint(pixels.astype(np.float32) * np.float32(self.levels))
        if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255:
            detail = f"The record's image has values from {pixels.min():g} to {pixels.max():g}"
            raise Refusal("bad_pixels", f"{detail}; floats in [0, 1] or [0, 255] are converted.")
        return levels.astype(np.uint8)

    def _label(self, values: ParsedRecord) -> Any:
        """The label as a listing has it: a class name, several, or a number."""
        schema = self.schema
        if self.label_kind == "none":
            return []
        ids = _plain(values.get(schema["label_int"].stored_name, [])) if "label_int" in schema else []
        texts = _plain(values.get(schema["label"].stored_name, [])) if "label" in schema else []
        if self.label_kind == "number" or "label_int" not in schema:
            if "label" in schema or "label_int" in schema:
                found = texts if self.label_kind != "number" or "label_int" not in schema else ids
                return found[0] if len(found) == 1 else found
            ids = _plain(values.get(schema["box_labels"].stored_name, []))
            if self.label_kind == "class" and ids:
                counts = Counter(ids)
                ids = [min(counts, key=lambda number: (-counts[number], number))]
        elif schema.label_kind == "vector":
            ids = [position for position, value in enumerate(ids) if value]
        names = [self._class_name(number) for number in ids]
        if not names and self.label_kind != "multi":
            raise Refusal("empty_label", "The record has no label.")
        return names[0] if len(names) == 1 else names

    def _class_name(self, number: int) -> str:
        names = self.class_names or ()
        if not 0 <= number < len(names):
            raise Refusal("empty_label", f"The record's label is {number}, which stands for none.")
        return names[number]

    # ---- one record

    def _values(self, ref: Ref) -> ParsedRecord:
        number, offset, size = map(int, ref.locator.split(":"))
        if self.spooled[number] and self.records.paths[number] == self.paths[number]:
            wanted = offset - HEADER_BYTES  # Without a spool, as in a dry run, the file is unpacked up to the record.
            data = next(record.data for record in scan_records(self.paths[number]) if record.offset == wanted)
        else:
            data = self.records.read(number, offset, size)
        try:
            return parse_record(data)
        except NotAnExample as error:
            raise Refusal("bad_record", f"The record is not the one that was listed: {error}") from error


def _plain(values: FeatureValues) -> list[Any]:
    """A feature's values as texts and numbers."""
    plain = values if isinstance(values, list) else values.tolist()
    return [one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else one for one in plain]


def _text(values: ParsedRecord, name: str | None) -> str:
    found = _plain(values.get(name or "", []))
    return to_cell(found[0]) if len(found) == 1 else ""


def _cell(values: FeatureValues, feature: Feature, dtype: str) -> str:
    if dtype.startswith("bytes"):
        # The bytes follow when the record is written; the digest stands for them in the plan.
        return xxhash.xxh3_128_hexdigest(_bytes_cell(values, feature).encode())
    plain = _plain(values)
    if feature.shape:
        return json.dumps(plain, ensure_ascii=False) if feature.dtype == "string" else " ".join(map(repr, plain))
    if not plain and feature.default is not None:
        return to_cell(feature.default)
    return to_cell(plain[0]) if len(plain) == 1 else to_cell(plain or None)


def _bytes_cell(values: FeatureValues, feature: Feature) -> str:
    coded = [base64.b64encode(value).decode() for value in values] if isinstance(values, list) else []
    return json.dumps(coded) if feature.shape else "".join(coded[:1])


def _boxes_cell(parts: Sequence[FeatureValues], shape: tuple[int, int]) -> str:
    """x0, y0, x1, y1 of each box in pixels, from the fractions of height and width; as the reader computes them."""
    if len({len(part) for part in parts}) != 1:
        raise Refusal("bad_box", f"The record has {[len(part) for part in parts]} values of xmin, ymin, xmax, ymax.")
    height, width = shape
    fractions = np.stack([np.asarray(part, np.float32) for part in parts], axis=1)
    return " ".join(map(repr, (fractions * np.array([width, height] * 2, np.float32)).ravel().tolist()))
