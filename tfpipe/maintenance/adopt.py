"""Adopts third-party TFRecords: reads every record once, infers the schema, and writes the manifest.

    manifest = tfpipe.index("imagenet/train-*")
    tfpipe.make_dataset("imagenet", batch_size=128, image_size=(224, 224))

The files are not moved: the manifest is written into their folder, or they are linked into another one.
"""

from __future__ import annotations

import errno
import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe import __version__
from tfpipe.errors import InputNotFound, UsageError
from tfpipe.format.compressed import compression_of
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
from tfpipe.format.record_files import is_record_file
from tfpipe.format.schema import Schema
from tfpipe.format.splits import conflicting_words, split_of_file, split_of_word, words_of_file
from tfpipe.maintenance.examine import Examined, OnStep, ShardScan, examine
from tfpipe.storage import is_url, make_folder, replace_file, sync_path


def index(
    pattern: str | os.PathLike[str],
    schema: Schema | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    on_file: OnStep | None = None,
) -> Manifest:
    """Writes the manifest of existing TFRecords, and returns it.

    Every record is read: its CRCs, its label, the header of its image. Labels are used as they are stored. An id
    without a record, or whose records have no text, is named by its number; so 1-based labels get an empty class "0".

    Args:
      pattern: a glob of files, or a folder, of which the files with "tfrecord" in their name are used. A file's split
        follows from its name: train, validation (val) or test; "train" if there is none.
      schema: the schema of the records; None infers it.
      output: a folder for dataset.json and links to the files; None writes into the folder of the files.
      on_file: called with the numbers of files that were read, and of all.

    Raises:
      FileNotFoundError: no file matches.
      UsageError: there is a manifest already, or the files are in several folders and no output is given.
      DataError: a record is damaged, or no Example, or lacks a feature of the others; shard and record are named.
      ValueError: the schema can't be inferred.
    """
    files = find_files(pattern)
    folder = _manifest_folder(files, output)
    _check_words(files)
    found = examine([str(path) for path in files], schema=schema, on_file=on_file)
    if output is not None:
        _link_files(files, folder)
    _write_manifest(found, folder)
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
        found = [path for path in folder.iterdir() if is_record_file(path.name)]
    else:
        found = [Path(name) for name in glob.glob(os.fspath(pattern), recursive=True)]
    files = sorted(path for path in found if path.is_file() and path.name not in (MANIFEST_NAME, INDEX_NAME))
    if not files:
        names = "files named as TFRecords are used, such as x.tfrecord, x.tfrec, x.record or train-00000-of-00010"
        hint = f"; of a folder, {names}" if folder.is_dir() else ""
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


def _check_words(files: Sequence[Path]) -> None:
    """Raises a UsageError where two words of the files' names, such as dev and eval, may mean one split or two."""
    clash = conflicting_words(word for path in files for word in words_of_file(path.name))
    if clash is not None:
        raise UsageError(
            f"Some files have {clash[0]!r} in their names, others {clash[1]!r}: both mean the split "
            f"{split_of_word(clash[0])}; index each kind with an --output of its own, or rename one."
        )


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
    """The split of a file, by the word of its name that means one; "train" without one, or with words of several."""
    return split_of_file(name) or "train"


def _splits_of(scans: Sequence[ShardScan]) -> dict[str, list[ShardScan]]:
    """The files of each split, in the usual order."""
    found = [(split_of(Path(scan.path).name), scan) for scan in scans]
    order = ("train", "validation", "test")
    return {split: [scan for name, scan in found if name == split] for split in order if split in dict(found)}


def _shard(scan: ShardScan, start: int) -> Shard:
    """The manifest's entry for a file, whose first record has the number `start` in records.index."""
    path = Path(scan.path)
    compression = compression_of(path)
    index_start = start if compression is None else None
    return Shard(path.name, len(scan.offsets), path.stat().st_size, digest_file(path), index_start, compression)


def _write_manifest(found: Examined, folder: Path) -> None:
    names = found.class_names
    splits, offsets, start = {}, [np.zeros(0, np.uint64)], 0
    for split, mine in _splits_of(found.scans).items():
        shards = []
        for scan in mine:
            sync_path(Path(scan.path))  # Who wrote it may not have waited for the disk.
            shards.append(_shard(scan, start))
            if shards[-1].compression is None:
                offsets.append(np.array(scan.offsets, np.uint64))
                start += len(scan.offsets)
        splits[split] = Split(tuple(shards), found.class_counts(mine, names))
    data = np.concatenate(offsets).astype("<u8").tobytes()
    if data:
        replace_file(folder / INDEX_NAME, data)
    made_by = {"adopted": _notes(found), "versions": {"tfpipe": __version__}}
    digest = digest_bytes(data) if data else None
    save_manifest(Manifest(found.schema, splits, tuple(names), index_digest=digest, made_by=made_by), folder)


def _notes(found: Examined) -> dict[str, Any]:
    """Peculiarities of third-party records for the readers of a manifest; only those that occur."""
    inference, image = found.inference, found.inference.image
    notes: dict[str, Any] = {
        "unreadable_images": image.num_unreadable,
        "first_unreadable": image.unreadable,
        "turns_not_applied": 0 if image.upright else image.num_turned,
        "float_range": list(image.float_range or ()),
        "boxes_not_moved": inference.boxes.problem,
        "empty_files": [Path(scan.path).name for scan in found.scans if not scan.offsets],
        "unlabelled": sum(scan.classes.num_unlabelled for scan in found.scans),
        "features_left_out": inference.unread_names if inference.feature_names.get("image") else [],
    }
    return {name: value for name, value in notes.items() if value}
