"""Adopts third-party TFRecords: reads every record once, infers the schema, and writes the manifest.

    manifest = tfpipe.index("imagenet/train-*")
    tfpipe.make_dataset("imagenet", batch_size=128, image_size=(224, 224))

The files are not moved: the manifest is written into their folder, or they are linked into another one.
"""

from __future__ import annotations

import errno
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe import __version__
from tfpipe.errors import DataError, InputNotFound, UsageError
from tfpipe.format.compressed import compression_of, scan_shard
from tfpipe.format.framing import DamagedRecord
from tfpipe.format.manifest import (
    INDEX_NAME,
    MANIFEST_NAME,
    Manifest,
    Shard,
    Split,
    digest_bytes,
    digest_file,
    load_manifest,
    save_manifest,
)
from tfpipe.format.schema import Schema
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.maintenance.foreign import ParsedRecord, SchemaInference, match_features
from tfpipe.storage import is_url, make_folder, replace_file, sync_path

# A word in a file's name: the split that it means.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
# Every split has a count for every class. Larger ids are not class numbers but hashes, times or keys.
MOST_CLASSES = 1 << 20

_SAMPLE_RECORDS = 16
# TensorFlow Datasets writes the class names into this file, one per line.
_NAMES_FILE = "label.labels.txt"


def index(
    pattern: str | os.PathLike[str], schema: Schema | None = None, output: str | os.PathLike[str] | None = None
) -> Manifest:
    """Writes the manifest of existing TFRecords, and returns it.

    Every record is read: its CRCs, its label, the header of its image. Labels are used as they are stored. An id
    without a record, or whose records have no text, is named by its number; so 1-based labels get an empty class "0".

    Args:
      pattern: a glob of files, or a folder, of which the files with "tfrecord" in their name are used. A file's split
        follows from its name: train, validation (val) or test; "train" if there is none.
      schema: the schema of the records; None infers it.
      output: a folder for dataset.json and links to the files; None writes into the folder of the files.

    Raises:
      FileNotFoundError: no file matches.
      UsageError: there is a manifest already, or the files are in several folders and no output is given.
      DataError: a record is damaged, or no Example, or lacks a feature of the others; shard and record are named.
      ValueError: the schema can't be inferred.
    """
    files = find_files(pattern)
    folder = _manifest_folder(files, output)
    inference = SchemaInference(match_features(_sample(files)) if schema is None else _match_labels(schema))
    required = [] if schema is None else [f.stored_name for f in schema.features if f.default is None]
    shards = [ShardScan(path, inference, frozenset(required)).run() for path in files]
    schema = inference.schema() if schema is None else schema
    if output is not None:
        _link_files(files, folder)
    _write_manifest(schema, inference, shards, folder)
    return load_manifest(folder)


# ---- files


def find_files(pattern: str | os.PathLike[str]) -> list[Path]:
    """The files that a glob or a folder names, sorted.

    Raises:
      FileNotFoundError: there are none.
      UsageError: they are in a store.
    """
    if is_url(pattern):
        raise UsageError(f"{pattern} is in a store; index reads files on this machine: copy them here first.")
    folder = Path(pattern)
    if folder.is_dir():
        found = [path for path in folder.iterdir() if "tfrecord" in path.name and not path.name.startswith(".")]
    else:
        found = [Path(name) for name in glob.glob(os.fspath(pattern), recursive=True)]
    files = sorted(path for path in found if path.is_file() and path.name not in (MANIFEST_NAME, INDEX_NAME))
    if not files:
        hint = "; of a folder, files with 'tfrecord' in their name are used" if folder.is_dir() else ""
        raise InputNotFound(f"No file matches {os.fspath(pattern)!r}{hint}.")
    return files


def _manifest_folder(files: Sequence[Path], output: str | os.PathLike[str] | None) -> Path:
    """The folder for the manifest."""
    folders = sorted({path.parent for path in files})
    if output is None and len(folders) > 1:
        raise UsageError(
            f"The files are in {len(folders)} folders ({folders[0]}, {folders[1]}, ...); a manifest lists those of "
            "one: give an output, into which they are linked."
        )
    folder = folders[0] if output is None else Path(output)
    if (folder / MANIFEST_NAME).exists():
        raise UsageError(f"{folder / MANIFEST_NAME} exists already: remove it, or give another output.")
    names = Counter(path.name for path in files)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UsageError(
            f"{names[twice[0]]} of the files are called {twice[0]}; in one folder they need different names."
        )
    return folder


def _link_files(files: Sequence[Path], folder: Path) -> None:
    make_folder(folder)
    for path in files:
        link = folder / path.name
        if link.exists() and link.samefile(path):
            continue
        if os.path.lexists(link):
            raise UsageError(f"{link} exists already, and is another file than {path}.")
        _link_file(path, link)


def _link_file(path: Path, link: Path) -> None:
    """Makes a hard link to a file, or a symbolic one if it is on another device or hard links are not allowed."""
    try:
        os.link(path.resolve(), link)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        link.symlink_to(path.resolve())


def split_of(name: str) -> str:
    """The split of a file: the last word of its name that means a split; "train" without one."""
    words = [SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_WORDS]
    return words[-1] if words else "train"


# ---- records


def _match_labels(schema: Schema) -> dict[str, str]:
    """The stored names of the labels in a given schema; its image is not examined."""
    labels = {"label": "string", "label_int": "int64"}
    features = [schema[name] for name in labels if name in schema]
    return {f.name: f.stored_name for f in features if (f.dtype, f.shape) == (labels[f.name], ())}


def _sample(files: Sequence[Path]) -> list[ParsedRecord]:
    """The features of the first records."""
    sample: list[ParsedRecord] = []
    for path in files:
        sample += [features for _, features in islice(_parse_records(path), _SAMPLE_RECORDS - len(sample))]
        if len(sample) == _SAMPLE_RECORDS:
            break
    if not sample:
        raise DataError(f"The {len(files)} files hold no record.")
    return sample


def _parse_records(path: Path) -> Iterator[tuple[int, ParsedRecord]]:
    """The offset and features of every record."""
    try:
        for number, record in enumerate(scan_shard(path, compression_of(path))):
            yield record.offset, _features(path, number, record.data)
    except DamagedRecord as error:
        text = "tfpipe repair, with the same files and --output NEW, saves the valid records into a new dataset."
        raise DataError(f"{error} {text}") from error


def _features(path: Path, number: int, data: bytes) -> ParsedRecord:
    try:
        return parse_example(data)
    except NotAnExample as error:
        raise DataError(f"{path}: record {number}: {error}") from error


@dataclass
class ShardScan:
    """One pass over a shard: the offsets of its records, and how many of each class it has."""

    path: Path
    inference: SchemaInference
    required: frozenset[str]
    offsets: list[int] = field(default_factory=list)
    ids: Counter[int] = field(default_factory=Counter)
    texts: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    num_unlabelled: int = 0

    def run(self) -> ShardScan:
        """Reads every record, and returns the scan itself.

        Raises:
          DataError: a record is damaged, or differs from the others; shard and record are named.
        """
        for number, (offset, features) in enumerate(_parse_records(self.path)):
            try:
                self._add(number, features)
            except ValueError as error:
                raise DataError(f"{self.path}: record {number}: {error}.") from error
            self.offsets.append(offset)
        return self

    def _add(self, number: int, features: ParsedRecord) -> None:
        if not self.required <= features.keys():
            raise DataError(f"it lacks {sorted(self.required - features.keys())}; it has {sorted(features)}")
        known = self.inference.unreadable
        self.inference.add(features)
        if self.inference.unreadable != known:
            self.inference.unreadable = f"{self.path.name}: record {number}: {self.inference.unreadable}"
        self._add_label(features)

    def _add_label(self, features: ParsedRecord) -> None:
        names = self.inference.feature_names
        values = features.get(names.get("label_int", ""), [])
        ids = [] if isinstance(values, list) else values.tolist()
        found = features.get(names.get("label", ""), [])
        texts = [text.decode("utf-8", "replace") for text in found] if isinstance(found, list) else []
        if ids and max(ids) >= MOST_CLASSES:
            raise DataError(f"its label is {max(ids)}; class ids are below {MOST_CLASSES:,}")
        self.ids.update(number for number in ids if number >= 0)
        # The test sets of TensorFlow Datasets store -1 for a missing label.
        self.num_unlabelled += bool(ids) and max(ids) < 0
        if "label_int" not in names:
            self.texts.update((None, text) for text in texts if text)
        else:
            pairs = zip(ids, texts, strict=False)  # the text of a record may be missing
            self.texts.update((number, text) for number, text in pairs if text and number >= 0)

    def shard(self, start: int) -> Shard:
        """The manifest's entry for the shard, whose first record has the number `start` in records.index."""
        compression = compression_of(self.path)
        return Shard(
            self.path.name,
            len(self.offsets),
            self.path.stat().st_size,
            digest_file(self.path),
            start if compression is None else None,
            compression,
        )


# ---- classes and manifest


def _class_names(scans: Sequence[ShardScan]) -> list[str]:
    """The name of each id: the most frequent text of its records, else its line in the TFDS list, else its number."""
    ids, texts = Counter[int](), Counter[tuple[int | None, str]]()
    for scan in scans:
        ids.update(scan.ids)
        texts.update(scan.texts)
    if not ids:
        return sorted({text for number, text in texts if number is None})
    names = [str(number) for number in range(max(ids) + 1)]
    listed = _list_names(scans[0].path.parent)
    if len(listed) >= len(names):
        names = listed
    for (number, text), _ in sorted(texts.items(), key=lambda item: (item[1], item[0][1])):
        if number is not None:
            names[number] = text  # the most frequent text comes last, and stays
    return names


def _list_names(folder: Path) -> list[str]:
    try:
        return (folder / _NAMES_FILE).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def _class_counts(scans: Sequence[ShardScan], names: Sequence[str]) -> tuple[int, ...]:
    if any(scan.ids for scan in scans):
        return tuple(sum(scan.ids[number] for scan in scans) for number in range(len(names)))
    return tuple(sum(scan.texts[None, name] for scan in scans) for name in names)


def _write_manifest(schema: Schema, inference: SchemaInference, scans: Sequence[ShardScan], folder: Path) -> None:
    names = _class_names(scans)
    for scan in scans:
        sync_path(scan.path)  # Who wrote it may not have waited for the disk.
    order = list(dict.fromkeys(SPLIT_WORDS.values()))
    splits, offsets, start = {}, [np.zeros(0, np.uint64)], 0
    for split in sorted({split_of(scan.path.name) for scan in scans}, key=order.index):
        mine = [scan for scan in scans if split_of(scan.path.name) == split]
        shards = []
        for scan in mine:
            shards.append(scan.shard(start))
            if shards[-1].compression is None:
                offsets.append(np.array(scan.offsets, np.uint64))
                start += len(scan.offsets)
        splits[split] = Split(tuple(shards), _class_counts(mine, names))
    data = np.concatenate(offsets).astype("<u8").tobytes()
    if data:
        replace_file(folder / INDEX_NAME, data)
    made_by = {"adopted": _notes(inference, scans), "versions": {"tfpipe": __version__}}
    digest = digest_bytes(data) if data else None
    save_manifest(Manifest(schema, splits, tuple(names), index_digest=digest, made_by=made_by), folder)


def _notes(inference: SchemaInference, scans: Sequence[ShardScan]) -> dict[str, Any]:
    """Peculiarities of third-party records for the readers of a manifest; only those that occur."""
    turned = 0 if "orientation" in inference.feature_names else inference.num_turned
    notes: dict[str, Any] = {
        "unreadable_images": inference.num_unreadable,
        "first_unreadable": inference.unreadable,
        "turns_not_applied": turned,
        "unlabelled": sum(scan.num_unlabelled for scan in scans),
        "features_left_out": inference.unread_names,
    }
    return {name: value for name, value in notes.items() if value}
