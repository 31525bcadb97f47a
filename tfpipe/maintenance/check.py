"""Checks a dataset against its manifest: files, sizes, digests, CRCs, counts and offsets.

TFRecord's own CRCs do not show a file that was cut between two records, repeated, replaced or left out; the manifest's
counts and digests do.

    problems = check_dataset(load_manifest("photos_tfrecord"))
    for problem in problems:
        print(problem)       # train-00003-of-00014-1f0c9a3e.tfrecord: record 117 at byte 4193204: ...
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfpipe.format.compressed import scan_shard
from tfpipe.format.framing import INDEX_ENTRY_BYTES, DamagedRecord, parse_index
from tfpipe.format.manifest import INDEX_NAME, MANIFEST_NAME, STATE_NAME, Manifest, Shard, digest_file, is_as_saved
from tfpipe.format.record_files import stranger
from tfpipe.storage import local_copy


class Problem(NamedTuple):
    """A difference from the manifest.

    Attributes:
      file: the file's name.
      record: the number of the first record that is wrong in it; None if the file as a whole is.
      text: what is wrong.
    """

    file: str
    record: int | None
    text: str

    def __str__(self) -> str:
        position = self.file if self.record is None else f"{self.file}: record {self.record}"
        return f"{position}: {self.text}"


def check_dataset(
    manifest: Manifest,
    *,
    quick: bool = False,
    threads: int = 1,
    on_shard: Callable[[Shard], None] = lambda shard: None,
) -> list[Problem]:
    """All differences of a dataset from its manifest; an empty list if it is valid.

    Args:
      manifest: the dataset's.
      quick: compare the sizes of files only, and read none of them.
      threads: how many shards are checked at once.
      on_shard: called after each shard.
    """
    index, problems = _check_index_size(manifest) if quick else _check_index(manifest)
    problems = _check_manifest(manifest) + problems

    def check(shard: Shard) -> list[Problem]:
        found = check_shard(manifest, shard, index, quick=quick)
        on_shard(shard)
        return found

    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for found in pool.map(check, shards):
            problems += found
    return problems + _check_unlisted(manifest, {shard.path for shard in shards})


def _check_unlisted(manifest: Manifest, known: set[str]) -> list[Problem]:
    """The shards in the folder that the manifest does not list.

    They are not reported while a conversion runs there, nor for an adopted dataset: its folder is another writer's.
    """
    if "adopted" in manifest.made_by or (manifest.directory / STATE_NAME).exists():
        return []
    unlisted = sorted(path.name for path in manifest.directory.glob("*.tfrecord") if path.name not in known)
    return [Problem(name, None, "the manifest does not list it; no reader opens it.") for name in unlisted]


def _check_manifest(manifest: Manifest) -> list[Problem]:
    """Whether dataset.json is as it was written; a manifest that was never saved is not compared."""
    path = manifest.directory / MANIFEST_NAME
    if not path.exists() or is_as_saved(path.read_text(encoding="utf-8")):
        return []
    return [Problem(MANIFEST_NAME, None, "it was changed after it was written: its digest is not that of its text.")]


def _check_index(manifest: Manifest) -> tuple[np.ndarray | None, list[Problem]]:
    if manifest.index_digest is None:
        return None, []
    path = manifest.directory / INDEX_NAME
    try:
        if digest_file(path) != manifest.index_digest:
            return None, [Problem(INDEX_NAME, None, "its digest is not the manifest's.")]
        return parse_index(path.read_bytes(), str(path)), []
    except FileNotFoundError:
        return None, [Problem(INDEX_NAME, None, "the file is missing.")]


def _check_index_size(manifest: Manifest) -> tuple[None, list[Problem]]:
    """The problem of records.index that its size alone shows; no offsets, since they are not read."""
    if manifest.index_digest is None:
        return None, []
    shards = [shard for split in manifest.splits.values() for shard in split.shards if shard.index_start is not None]
    expected = INDEX_ENTRY_BYTES * sum(shard.num_records for shard in shards)
    try:
        size = (manifest.directory / INDEX_NAME).stat().st_size
    except FileNotFoundError:
        return None, [Problem(INDEX_NAME, None, "the file is missing.")]
    return None, [] if size == expected else [Problem(INDEX_NAME, None, _size_text(size, expected))]


def check_shard(manifest: Manifest, shard: Shard, index: np.ndarray | None, *, quick: bool = False) -> list[Problem]:
    """All differences of one shard from the manifest.

    Args:
      manifest: the dataset's.
      shard: one of its shards.
      index: the offsets of all records, or None if records.index is missing or damaged.
      quick: compare the size only.
    """
    path = manifest.shard_path(shard)
    try:
        if quick:
            size = path.stat().st_size
            return [] if size == shard.num_bytes else [Problem(shard.path, None, _size_text(size, shard.num_bytes))]
        with local_copy(path) as file:
            return _check_content(file, shard, index)
    except FileNotFoundError:
        return [Problem(shard.path, None, "the file is missing.")]
    except OSError as error:
        return [Problem(shard.path, None, f"the file can't be read: {error.strerror}.")]


def _check_content(file: Path, shard: Shard, index: np.ndarray | None) -> list[Problem]:
    found = _check_records(file, shard, index)
    size = file.stat().st_size
    if not found and size != shard.num_bytes:
        found = [Problem(shard.path, None, _size_text(size, shard.num_bytes))]
    if not found and digest_file(file) != shard.digest:
        found = [Problem(shard.path, None, "its records are valid, but not those that the manifest describes.")]
    return found


def _size_text(size: int, expected: int) -> str:
    return f"it has {size} bytes, the manifest says {expected}."


def _check_records(file: Path, shard: Shard, index: np.ndarray | None) -> list[Problem]:
    """The first record that is damaged, missing, surplus or at another offset than expected."""
    expected = None
    if index is not None and shard.index_start is not None:
        expected = index[shard.index_start : shard.index_start + shard.num_records].tolist()
    number = 0
    try:
        for record in scan_shard(file, shard.compression):
            if expected is not None and number < len(expected) and record.offset != expected[number]:
                text = f"it begins at byte {record.offset}, records.index says {expected[number]}."
                return [Problem(shard.path, number, text)]
            number += 1
    except DamagedRecord as error:
        what = stranger(file) if error.number == 0 else None
        if what is not None:
            return [Problem(shard.path, None, f"it is no TFRecord file; it is {what}.")]
        return [Problem(shard.path, error.number, f"at byte {error.offset}: {error.what}.")]
    if number != shard.num_records:
        text = f"it holds {number} records, the manifest says {shard.num_records}."
        return [Problem(shard.path, min(number, shard.num_records), text)]
    return []
