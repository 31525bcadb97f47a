"""One pass over third-party TFRecords: their schema, the classes, and what is peculiar about them.

    found = examine(paths)
    found.schema, found.class_names

`tfpipe index` and `tfpipe convert` both begin with it, so that they take the same features for the same things.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tfpipe.errors import DataError
from tfpipe.format.compressed import compression_of, scan_shard
from tfpipe.format.framing import DamagedRecord, Record
from tfpipe.format.record_files import describe_payload, is_sequence_example, stranger
from tfpipe.format.schema import Schema
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.maintenance.foreign import HOW_TO_SAY, ParsedRecord, SchemaInference, infer_layout
from tfpipe.maintenance.foreign_boxes import TEXT_NAMES

# Every split has a count for every class. Larger ids are not class numbers but hashes, times or keys.
MOST_CLASSES = 1 << 20

_SAMPLE_RECORDS = 16
# TensorFlow Datasets writes the class names into this file, one per line.
_NAMES_FILE = "label.labels.txt"

Scan = Callable[[str], Iterator[Record]]
# Called with the numbers of steps that are done, and of all.
OnStep = Callable[[int, int], None]


def scan_file(path: str) -> Iterator[Record]:
    """Yields the records of a file, GZIP or not.

    Raises:
      DamagedRecord: at the first record that is not valid.
    """
    return scan_shard(path, compression_of(path))


def parse_record(data: bytes) -> ParsedRecord:
    """The features of a record.

    Raises:
      NotAnExample: it is no tf.train.Example; the message says what it is.
    """
    if is_sequence_example(data):
        raise NotAnExample(f"The record is {describe_payload(data)}.")
    try:
        features = parse_example(data)
    except NotAnExample as error:
        raise NotAnExample(f"{str(error).rstrip('.')}: it is {describe_payload(data)}.") from error
    if not features and data:
        raise NotAnExample(f"The record has no features: it is {describe_payload(data)}.")
    return features


@dataclass
class Classes:
    """The classes of records, counted one record at a time: how many of each id, and the texts beside them.

    Attributes:
      names: tfpipe's names of features to the stored ones.
      boxes: the stored names of the ids and the texts of boxes, which are the classes of records without a label.
    """

    names: Mapping[str, str]
    boxes: tuple[str | None, str | None] = (None, None)
    ids: Counter[int] = field(default_factory=Counter)
    texts: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    ones: Counter[int] = field(default_factory=Counter)
    is_binary: bool = True
    num_unlabelled: int = 0

    def add(self, features: ParsedRecord) -> None:
        """Adds a record.

        Raises:
          ValueError: its label is too large for a class id.
        """
        if not self.names.keys() & {"label_int", "label"}:
            self._add_pairs(
                set(_ints(features, self.boxes[0])), _ints(features, self.boxes[0]), self.boxes[1], features
            )
            return
        ids = _ints(features, self.names.get("label_int"))
        if len(ids) == 1 and ids[0] >= MOST_CLASSES:
            raise DataError(f"its label is {ids[0]}; class ids are below {MOST_CLASSES:,}")
        self.is_binary &= set(ids) <= {0, 1}
        self.ones.update(position for position, value in enumerate(ids) if value)
        # The test sets of TensorFlow Datasets store -1 for a missing label.
        self.num_unlabelled += bool(ids) and max(ids) < 0
        self._add_pairs(ids, ids, self.names.get("label"), features)

    def _add_pairs(self, counted: Any, ids: Sequence[int], stored: str | None, features: ParsedRecord) -> None:
        self.ids.update(number for number in counted if number >= 0)
        found = features.get(stored or "", [])
        texts = [text.decode("utf-8", "replace") for text in found] if isinstance(found, list) else []
        if "label_int" not in self.names and "label" in self.names:
            self.texts.update((None, text) for text in texts if text)
        else:
            pairs = zip(ids, texts, strict=False)  # the text of a record may be missing
            self.texts.update((number, text) for number, text in pairs if text and number >= 0)


def _ints(features: ParsedRecord, stored: str | None) -> list[int]:
    values = features.get(stored or "", [])
    return [] if isinstance(values, list) else values.tolist()


@dataclass
class ShardScan:
    """One pass over a file: the offsets of its records, and how many of each class it has."""

    path: str
    inference: SchemaInference
    required: frozenset[str]
    classes: Classes
    strict: bool = True
    offsets: list[int] = field(default_factory=list)

    def run(self, scan: Scan) -> ShardScan:
        """Reads every record, and returns the scan itself.

        Raises:
          DataError: where strict: a record is damaged, or differs from the others; shard and record are named.
        """
        for number, (offset, features) in enumerate(_parse_records(self.path, scan, strict=self.strict)):
            try:
                self._add(number, features)
            except ValueError as error:
                if self.strict:
                    raise DataError(f"{self.path}: record {number}: {error}.") from error
            self.offsets.append(offset)
        return self

    def _add(self, number: int, features: ParsedRecord) -> None:
        if not self.required <= features.keys():
            raise DataError(f"it lacks {sorted(self.required - features.keys())}; it has {sorted(features)}")
        image = self.inference.image
        known = image.unreadable
        self.inference.add(features)
        if image.unreadable != known:
            image.unreadable = f"{os.path.basename(self.path)}: record {number}: {image.unreadable}"
        self.classes.add(features)


def _parse_records(path: str, scan: Scan, *, strict: bool) -> Iterator[tuple[int, ParsedRecord]]:
    """The offset and features of every record; unless strict, those before the first damage that are Examples."""
    try:
        for number, record in enumerate(scan(path)):
            try:
                features = parse_record(record.data)
            except NotAnExample as error:
                if strict:
                    raise DataError(f"{path}: record {number}: {error}") from error
                continue
            yield record.offset, features
    except DamagedRecord as error:
        if not strict:
            return
        what = stranger(path) if error.number == 0 else None
        if what is not None:
            raise DataError(f"{path} is no TFRecord file; it is {what}.") from error
        text = "tfpipe repair, with the same files and --output NEW, saves the valid records into a new dataset."
        raise DataError(f"{error} {text}") from error


@dataclass(frozen=True)
class Examined:
    """What a pass over the files found.

    Attributes:
      schema: of all records.
      inference: the statistics behind it.
      scans: one for each file.
    """

    schema: Schema
    inference: SchemaInference
    scans: tuple[ShardScan, ...]

    @property
    def class_names(self) -> list[str]:
        """The name of each id: the most frequent text of its records, else its line in the TFDS list, else its number.

        Texts without ids are the names themselves, sorted. A vector of zeros and ones has a class for each position.
        """
        ids, texts = Counter[int](), Counter[tuple[int | None, str]]()
        for scan in self.scans:
            ids.update(scan.classes.ids)
            texts.update(scan.classes.texts)
        if self.is_vector:
            ids = Counter(range(self.schema["label_int"].shape[0] or 0)) if self.is_binary else Counter()
            texts = Counter()
        if not ids:
            return sorted({text for number, text in texts if number is None})
        if max(ids) >= MOST_CLASSES:
            raise DataError(f"A label is {max(ids)}; class ids are below {MOST_CLASSES:,}; {HOW_TO_SAY}.")
        names = [str(number) for number in range(max(ids) + 1)]
        listed = _list_names(os.path.dirname(self.scans[0].path))
        if len(listed) >= len(names):
            names = listed
        for (number, text), _ in sorted(texts.items(), key=lambda item: (item[1], item[0][1])):
            if number is not None:
                names[number] = text  # the most frequent text comes last, and stays
        return names

    @property
    def stored_names(self) -> list[str]:
        """The names of all features that records store."""
        return sorted(self.inference.all_names)

    @property
    def is_vector(self) -> bool:
        """Whether the label is a vector of whole numbers."""
        return self.schema.label_kind == "vector"

    @property
    def is_binary(self) -> bool:
        """Whether all labels hold zeros and ones only."""
        return all(scan.classes.is_binary for scan in self.scans)

    def class_counts(self, scans: Sequence[ShardScan], names: Sequence[str]) -> tuple[int, ...]:
        """How many records of some of the files are of each class."""
        if self.is_vector:
            return tuple(sum(scan.classes.ones[number] for scan in scans) for number in range(len(names)))
        if any(scan.classes.ids for scan in self.scans):
            return tuple(sum(scan.classes.ids[number] for scan in scans) for number in range(len(names)))
        return tuple(sum(scan.classes.texts[None, name] for scan in scans) for name in names)


def _list_names(folder: str) -> list[str]:
    try:
        return Path(folder, _NAMES_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def examine(
    paths: Sequence[str],
    *,
    schema: Schema | None = None,
    scan: Scan = scan_file,
    strict: bool = True,
    on_file: OnStep | None = None,
) -> Examined:
    """Reads every record of third-party files once.

    Args:
      paths: the files.
      schema: the schema of the records; None infers it.
      scan: from a path to its records.
      strict: refuse files with a record that is damaged, or differs from the others; else pass over it, for callers
        that name it later.
      on_file: called after each file that was read.

    Raises:
      DataError: there is no record; or, where strict, one that is damaged, no Example or lacks a feature.
      ValueError: the schema can't be inferred.
    """
    sample: list[ParsedRecord] = []
    for path in paths:
        parsed = _parse_records(path, scan, strict=strict)
        sample += [features for _, features in islice(parsed, _SAMPLE_RECORDS - len(sample))]
        if len(sample) == _SAMPLE_RECORDS:
            break
    if not sample:
        for path in () if strict else paths:
            next(_parse_records(path, scan, strict=True), None)  # says what its first record is
        raise DataError(_no_record(paths))
    inference = infer_layout(sample, feature_names=None if schema is None else _match_labels(schema))
    required = frozenset(() if schema is None else (f.stored_name for f in schema.features if f.default is None))
    boxes = (inference.boxes.labels, next((name for name in TEXT_NAMES if name in sample[0]), None))
    scans = []
    for path in paths:
        classes = Classes(inference.feature_names, boxes)
        scans.append(ShardScan(path, inference, required, classes, strict).run(scan))
        if on_file is not None:
            on_file(len(scans), len(paths))
    return Examined(inference.schema(for_reader=strict) if schema is None else schema, inference, tuple(scans))


def _no_record(paths: Sequence[str]) -> str:
    what = stranger(paths[0]) if os.path.exists(paths[0]) else None
    hint = f"; {os.path.basename(paths[0])} is {what}" if what else ""
    return f"The {len(paths)} files hold no record{hint}."


def _match_labels(schema: Schema) -> dict[str, str]:
    """The stored names of the labels in a given schema; its image is not examined."""
    labels = {"label": "string", "label_int": "int64"}
    features = [schema[name] for name in labels if name in schema]
    return {f.name: f.stored_name for f in features if f.dtype == labels[f.name]}
