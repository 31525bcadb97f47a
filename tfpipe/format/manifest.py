"""The manifest: the files, schema and classes of a dataset, as the one document that the writer gives to the reader.

`dataset.json` is written last, by rename. A folder without it is no dataset, and a reader opens only the files that it
lists. Beside it is `records.index`: the byte offset of every record, uint64 little-endian, one shard after another.

    manifest = load_manifest("photos_tfrecord")
    manifest.class_names, manifest.num_records("train"), manifest.schema["image"].shape
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tfpipe import __version__
from tfpipe.errors import DataError, InputNotFound, UsageError
from tfpipe.format.framing import parse_index, scan
from tfpipe.format.record_files import describe
from tfpipe.format.schema import Schema
from tfpipe.storage import (
    STALE_SECONDS,
    AnyPath,
    StorePath,
    local_copy,
    remove_drafts,
    replace_file,
    sync_path,
    to_path,
)

# It rises only if an older reader would read wrongly; see docs/format.md. New optional keys do not raise it.
FORMAT_VERSION = 1
# The least tfpipe that reads this version rightly; every manifest carries it, for readers that are older than that.
READ_BY = "0.1.0"
MANIFEST_NAME = "dataset.json"
INDEX_NAME = "records.index"
REJECTED_NAME = "rejected.jsonl"
STATE_NAME = "_state"

_READ_BYTES = 1 << 22


@dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
      path: the file's name, below the manifest's folder.
      num_records: how many records it holds.
      num_bytes: its size.
      digest: "xxh3_128:" and 32 hex digits over its bytes.
      index_start: the number of its first record in records.index; None if the shard is compressed.
      compression: "GZIP" or None; only third-party shards are compressed.
    """

    path: str
    num_records: int
    num_bytes: int
    digest: str
    index_start: int | None
    compression: str | None = None


@dataclass(frozen=True)
class Split:
    """The shards of one split, and its number of records per class, in the order of class_names."""

    shards: tuple[Shard, ...]
    class_counts: tuple[int, ...]

    @property
    def num_records(self) -> int:
        """The number of records in all shards."""
        return sum(shard.num_records for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """The size of all shards."""
        return sum(shard.num_bytes for shard in self.shards)

    @property
    def is_seekable(self) -> bool:
        """Whether single records can be read by their offsets: no shard is compressed."""
        return all(shard.compression is None and shard.index_start is not None for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """A dataset, and how it was written.

    Attributes:
      schema: the features of every record.
      splits: name to Split, in the order of the job.
      class_names: label_int is an index into this list.
      index_digest: the digest of records.index; None if there is none.
      rejected: how many inputs were rejected, by reason.
      mean: per channel, in [0, 1]; None if no pixels were decoded.
      std: per channel, in [0, 1]; None if no pixels were decoded.
      statistics: file sizes, image sizes, aspect ratios and duplicates, found by the conversion.
      made_by: the options that change bytes, the versions, the plan's fingerprint and the digest of the source.
      directory: where the manifest was loaded from, a path or a StorePath; not stored.
    """

    schema: Schema
    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    index_digest: str | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    directory: AnyPath = field(default=Path("."), compare=False)

    def __hash__(self) -> int:
        # Of what can be hashed: a manifest may be a key of a mixture.
        return hash((self.schema.payload, tuple(self.splits), self.class_names, self.index_digest))

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
          ValueError: there is none; the message lists the known ones.
        """
        if name not in self.splits:
            raise UsageError(f"No split {name!r} in {self.directory}; it has {list(self.splits)}.")
        return self.splits[name]

    def num_records(self, split: str | None = None) -> int:
        """The number of records in a split, or in all splits."""
        if split is None:
            return sum(part.num_records for part in self.splits.values())
        return self.split(split).num_records

    def shard_path(self, shard: Shard) -> AnyPath:
        """The path of the shard's file."""
        return self.directory / shard.path

    def shard_file(self, shard: Shard) -> Path:
        """The shard's file on this machine.

        Raises:
          ValueError: the dataset is in a store.
        """
        path = self.shard_path(shard)
        if isinstance(path, StorePath):
            raise UsageError(f"{path} is in a store; this needs a dataset on this machine: copy it here first.")
        return path

    def offsets(self, split: str) -> list[np.ndarray]:
        """For each shard of a split, the byte offset of every record: [num_records] uint64.

        They come from records.index. If that file is not this manifest's, as happens for a moment while a dataset is
        replaced, they come from the shards, with a warning.

        Raises:
          ValueError: a shard is compressed and has no offsets, or has another number of records than the manifest says.
        """
        starts = [(shard, self._index_start(shard)) for shard in self.split(split).shards]
        index = self._own_index()
        parts = []
        for shard, start in starts:
            part = self._scan_offsets(shard) if index is None else index[start : start + shard.num_records]
            if len(part) != shard.num_records:
                raise DataError(
                    f"{self.shard_path(shard)} has {len(part)} records, the manifest says {shard.num_records}; "
                    "run tfpipe check."
                )
            parts.append(part)
        return parts

    def _scan_offsets(self, shard: Shard) -> np.ndarray:
        with local_copy(self.shard_path(shard)) as path:
            return np.array([record.offset for record in scan(path)], np.uint64)

    @staticmethod
    def _index_start(shard: Shard) -> int:
        if shard.index_start is None:
            raise UsageError(f"{shard.path} is compressed: its records have no offsets.")
        return shard.index_start

    def _own_index(self) -> np.ndarray | None:
        path = self.directory / INDEX_NAME
        if path.exists() and digest_file(path) == self.index_digest:
            return parse_index(path.read_bytes(), str(path))
        text = f"{path} is not this manifest's: all shards are read for their offsets; run tfpipe check."
        warnings.warn(text, stacklevel=3)
        return None

    def fingerprint(self) -> str:
        """32 hex digits that change with any part of the dataset, and with nothing else: not with `read_by`."""
        document = self.to_json()
        del document["read_by"]
        return xxhash.xxh3_128_hexdigest(_document_text(document).encode())

    def to_json(self) -> dict[str, Any]:
        """The document of dataset.json."""
        return {
            "format_version": FORMAT_VERSION,
            "read_by": READ_BY,
            "schema": self.schema.to_json(),
            "class_names": list(self.class_names),
            "splits": {name: _split_json(split) for name, split in self.splits.items()},
            "index_digest": self.index_digest,
            "rejected": dict(sorted(self.rejected.items())),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "statistics": dict(self.statistics),
            "made_by": dict(self.made_by),
        }


def _split_json(split: Split) -> dict[str, Any]:
    return {
        "num_records": split.num_records,
        "num_bytes": split.num_bytes,
        "class_counts": list(split.class_counts),
        "shards": [_shard_json(shard) for shard in split.shards],
    }


def _shard_json(shard: Shard) -> dict[str, Any]:
    fields = dict(vars(shard))
    if shard.compression is None:
        del fields["compression"]
    return fields


def manifest_text(manifest: Manifest) -> str:
    """The text of dataset.json."""
    return _document_text(manifest.to_json())


def _document_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def is_as_saved(text: str) -> bool:
    """Whether the text of a dataset.json is as save_manifest wrote it: its last entry is the digest of the others.

    Only `check` tests this, since nothing else would show a changed class name; readers accept an edited text.
    """
    document = json.loads(text)
    return document.pop("digest", None) == digest_bytes(_document_text(document).encode("utf-8", "surrogatepass"))


def parse_manifest(text: str, directory: AnyPath) -> Manifest:
    """The manifest in a text; its files are in `directory`.

    Raises:
      ValueError: the text is not a manifest of this format; the message says what is wrong.
    """
    path = directory / MANIFEST_NAME
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.startswith("version https://git-lfs"):
            raise DataError(f"{path} is {describe(text.encode())}.") from error
        raise DataError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict) or "format_version" not in document:
        raise UsageError(f"{path} is not a tfpipe manifest: it has no format_version.")
    _check_version(document, path)
    try:
        return _from_document(document, directory)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a valid manifest: {type(error).__name__}: {error}.") from error


def _check_version(document: Mapping[str, Any], path: AnyPath) -> None:
    """Refuses a format that is newer than this reader; every older one is read."""
    version = document["format_version"]
    if type(version) is not int or version < 1:
        raise UsageError(f"{path} is not a tfpipe manifest: its format_version is {version!r}.")
    if version > FORMAT_VERSION:
        needed = document.get("read_by")
        remedy = f"install tfpipe {needed} or newer" if isinstance(needed, str) else "install a newer tfpipe"
        raise UsageError(
            f"{path} has format version {version}; tfpipe {__version__} reads up to {FORMAT_VERSION}: {remedy}."
        )


def _from_document(document: Mapping[str, Any], directory: AnyPath) -> Manifest:
    classes = tuple(_check_type(name, str) for name in document["class_names"])
    splits = {}
    for name, part in document["splits"].items():
        shards = tuple(_shard(fields) for fields in part["shards"])
        counts = tuple(_check_type(count, int) for count in part["class_counts"])
        splits[name] = Split(shards, counts)
        if (splits[name].num_records, splits[name].num_bytes) != (part["num_records"], part["num_bytes"]):
            raise DataError(f"the shards of split {name!r} do not sum to its totals")
        if len(counts) != len(classes):
            raise DataError(f"split {name!r} counts {len(counts)} classes, there are {len(classes)}")
    mean, std = document["mean"], document["std"]
    return Manifest(
        schema=Schema.from_json(document["schema"]),
        splits=splits,
        class_names=classes,
        index_digest=document["index_digest"],
        rejected=dict(document["rejected"]),
        mean=None if mean is None else tuple(map(float, mean)),
        std=None if std is None else tuple(map(float, std)),
        statistics=dict(document.get("statistics", {})),
        made_by=dict(document["made_by"]),
        directory=directory,
    )


def _shard(fields: Mapping[str, Any]) -> Shard:
    shard = Shard(
        _check_type(fields["path"], str),
        _check_type(fields["num_records"], int),
        _check_type(fields["num_bytes"], int),
        _check_type(fields["digest"], str),
        fields["index_start"] if fields["index_start"] is None else _check_type(fields["index_start"], int),
        fields.get("compression"),
    )
    # A manifest from elsewhere must not make a reader open other files.
    if shard.path != os.path.basename(shard.path) or shard.path in ("", ".", ".."):
        raise DataError(f"the shard path {shard.path!r} is not a plain file name")
    if shard.num_records < 0 or shard.num_bytes < 0 or (shard.index_start or 0) < 0:
        raise DataError(f"the shard {shard.path!r} has a negative number")
    if shard.compression not in (None, "GZIP") or (shard.compression and shard.index_start is not None):
        raise DataError(f"the shard {shard.path!r} has compression {shard.compression!r}; known: null, GZIP unindexed")
    return shard


def _check_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} should be of type {kind.__name__}")
    return value


def load_manifest(path: str | os.PathLike[str] | StorePath) -> Manifest:
    """The manifest of a dataset.

    Args:
      path: the dataset's folder, or its dataset.json; or a URL of either, such as gs://bucket/photos_tfrecord.

    Raises:
      FileNotFoundError: there is no manifest: no dataset, or a conversion that has not finished.
      ValueError: the file is not a valid manifest.
    """
    file = to_path(path)
    if file.name != MANIFEST_NAME:
        file = file / MANIFEST_NAME
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        unfinished = (file.parent / STATE_NAME).is_dir()
        hint = (
            "its conversion has not finished: run it again with --resume" if unfinished else "tfpipe convert writes one"
        )
        raise InputNotFound(f"No manifest {file}; {hint}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not JSON: {error}.") from error
    return parse_manifest(text, file.parent)


def save_manifest(manifest: Manifest, directory: str | os.PathLike[str] | StorePath, *, fsync: bool = True) -> None:
    """Writes dataset.json in one step, so that readers see the old or the new one.

    With `fsync` it survives a power cut, as do the names of the shards in its folder and the folder's own; the bytes of
    the shards are the caller's to sync before. Drafts that killed writers left there more than an hour ago are removed.
    """
    signed = {**manifest.to_json(), "digest": digest_bytes(manifest_text(manifest).encode())}
    folder = to_path(directory)
    if fsync and isinstance(folder, Path):
        sync_path(folder.parent)
        sync_path(folder)
    replace_file(folder / MANIFEST_NAME, _document_text(signed).encode(), fsync=fsync)
    if isinstance(folder, Path):
        remove_drafts(folder, older_than=STALE_SECONDS)


def digest_bytes(data: bytes) -> str:
    """The digest of bytes, in the form that the manifest stores."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}"


def digest_file(path: str | os.PathLike[str] | StorePath) -> str:
    """The digest of a file, in the form that the manifest stores."""
    if isinstance(path, StorePath):
        return digest_bytes(path.read_bytes())
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return f"xxh3_128:{digest.hexdigest()}"
