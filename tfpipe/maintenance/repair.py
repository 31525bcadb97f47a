"""Saves the valid records of damaged shards into a new dataset, and reports the lost ones.

    repaired = repair("photos_tfrecord", "photos_repaired")
    repaired.num_lost, repaired.manifest.num_records()

The input is never changed. With k damaged records in an uncompressed shard of N, at least N - k are saved. In a GZIP
shard, everything after the damage can't be decompressed, and is lost.
"""

from __future__ import annotations

import dataclasses
import glob
import gzip
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe.errors import DataError, UsageError
from tfpipe.format.compressed import GZIP, compression_of, inflate, scan_shard
from tfpipe.format.framing import DamagedRecord, load_index
from tfpipe.format.manifest import (
    INDEX_NAME,
    REJECTED_NAME,
    STATE_NAME,
    Manifest,
    Shard,
    Split,
    digest_bytes,
    digest_file,
    load_manifest,
    save_manifest,
)
from tfpipe.format.schema import Schema
from tfpipe.format.wire import parse_example
from tfpipe.maintenance.adopt import find_files, index
from tfpipe.maintenance.check import check_shard
from tfpipe.maintenance.examine import OnStep
from tfpipe.maintenance.rescue import Extent, LostRecord, find_extents, find_gaps, find_keys, identify_lost, rescue
from tfpipe.storage import StorePath, make_folder, replace_file, sync_path


@dataclass(frozen=True)
class ShardRepair:
    """The result for one damaged shard.

    Attributes:
      path: the shard's file name in the old dataset.
      problem: its damage, in the words of check.
      num_saved: records that were saved.
      lost: one entry for each record that was not. Only a manifest tells how many there were; without one, an entry for
        each range of skipped bytes, or for each key in it.
      skipped_bytes: bytes of the shard that belong to no saved record.
    """

    path: str
    problem: str
    num_saved: int
    lost: tuple[LostRecord, ...]
    skipped_bytes: int


@dataclass(frozen=True)
class Repair:
    """The new dataset, and every shard of the old one that was damaged."""

    manifest: Manifest
    shards: tuple[ShardRepair, ...]

    @property
    def num_lost(self) -> int:
        """Records that the old manifest lists and the new one does not."""
        return sum(len(shard.lost) for shard in self.shards)


def repair(source: str | os.PathLike[str], output: str | os.PathLike[str], *, on_shard: OnStep | None = None) -> Repair:
    """Writes a valid dataset of everything that can be saved.

    Valid shards are linked, or copied to another device; damaged ones are written again under another name. Mean and
    std stay those of all pixels. `made_by` records what was repaired.

    Args:
      source: the dataset's folder; or, without a manifest, a glob of TFRecord files, which are then adopted.
      output: a folder that does not exist yet, or is empty.
      on_shard: called with the numbers of shards that were examined, and of all.

    Raises:
      FileNotFoundError: there is neither a manifest nor a file.
      UsageError: the output is not empty.
      DataError: no record can be saved.
    """
    folder, tell = Path(output), on_shard or (lambda done, total: None)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: a repaired dataset is written into a new folder.")
    try:
        manifest = load_manifest(source)
    except FileNotFoundError:
        if (Path(source) / STATE_NAME).is_dir() or not (Path(source).is_dir() or glob.glob(os.fspath(source))):
            raise
        return _repair_files(find_files(source), folder, tell)
    if isinstance(manifest.directory, StorePath):
        raise UsageError(f"{source} is in a store; repair reads a dataset on this machine: copy it here first.")
    return _repair_dataset(manifest, folder, tell)


# ---- a dataset with its manifest


def _repair_dataset(manifest: Manifest, folder: Path, tell: OnStep) -> Repair:
    make_folder(folder)
    starts = _trusted_index(manifest)
    repairs: list[ShardRepair] = []
    splits: dict[str, Split] = {}
    offsets: list[np.ndarray] = [np.zeros(0, np.uint64)]
    done, total = 0, sum(len(split.shards) for split in manifest.splits.values())
    for name, split in manifest.splits.items():
        shards = []
        for shard in split.shards:
            new, repaired = _repair_shard(manifest, shard, starts, folder)
            repairs += [repaired] if repaired else []
            if new is not None and new.compression is None:
                new = dataclasses.replace(new, index_start=sum(map(len, offsets)))
                offsets.append(_offsets(folder / new.path))
            shards += [new] if new is not None else []
            done += 1
            tell(done, total)
        splits[name] = Split(tuple(shards), split.class_counts)
    return Repair(_publish(manifest, splits, np.concatenate(offsets), repairs, folder), tuple(repairs))


def _trusted_index(manifest: Manifest) -> np.ndarray | None:
    path = Path(str(manifest.directory)) / INDEX_NAME
    try:
        return load_index(path) if digest_file(path) == manifest.index_digest else None
    except OSError:
        return None


def _offsets(path: Path) -> np.ndarray:
    return np.array([record.offset for record in scan_shard(path, None)], np.uint64)


def _repair_shard(
    manifest: Manifest, shard: Shard, starts: np.ndarray | None, folder: Path
) -> tuple[Shard | None, ShardRepair | None]:
    """The shard in the new dataset, None if nothing is left; and its repair, None if it is valid."""
    path = manifest.shard_file(shard)
    problems = check_shard(manifest, shard, starts)
    if not problems:
        _link_or_copy(path, folder / shard.path)
        return shard, None
    data = _readable_bytes(path, shard.compression)
    bounds, count = _bounds(shard, starts), shard.num_records
    # The keys of tfpipe's own records are unique; in third-party shards, equal records may be intended.
    keyed = "key" in manifest.schema and "adopted" not in manifest.made_by
    valid = rescue(data, bounds, num_records=count, keyed=keyed)
    lost = identify_lost(data, valid, bounds, num_records=count, key_name=_key_name(manifest.schema))
    new = _write_shard(data, valid.extents, folder / _new_name(shard.path), shard.compression)
    return new, _report(data, valid.extents, shard.path, str(problems[0]), lost)


def _report(
    data: bytes, extents: Sequence[Extent], name: str, problem: str, lost: tuple[LostRecord, ...]
) -> ShardRepair:
    skipped = len(data) - sum(extent.num_bytes for extent in extents)
    return ShardRepair(name, problem, len(extents), lost, skipped)


def _bounds(shard: Shard, starts: np.ndarray | None) -> list[int] | None:
    """The offsets at which the shard's records began and the last one ended; None if the index does not tell."""
    if starts is None or shard.index_start is None:
        return None
    return [*starts[shard.index_start : shard.index_start + shard.num_records].tolist(), shard.num_bytes]


def _key_name(schema: Schema) -> bytes | None:
    return schema["key"].stored_name.encode() if "key" in schema else None


def _readable_bytes(path: Path, compression: str | None) -> bytes:
    """All bytes of a shard that can be read, decompressed; none if the file is missing or can't be read."""
    try:
        return inflate(path) if compression == GZIP else path.read_bytes()
    except OSError:
        return b""


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)
    sync_path(target)  # The linked one too: who wrote it may not have waited for the disk.


def _new_name(name: str) -> str:
    stem = name.removesuffix(".tfrecord")
    return f"{stem}-repaired" + name[len(stem) :]


def _write_shard(data: bytes, extents: Sequence[Extent], path: Path, compression: str | None) -> Shard | None:
    if not extents:
        return None
    content = b"".join([data[extent.begin : extent.end] for extent in extents])
    if compression == GZIP:
        content = gzip.compress(content, mtime=0)  # no time in the bytes: they are reproducible
    replace_file(path, content)
    return Shard(path.name, len(extents), len(content), digest_bytes(content), None, compression)


def _publish(
    manifest: Manifest, splits: dict[str, Split], offsets: np.ndarray, repairs: Sequence[ShardRepair], folder: Path
) -> Manifest:
    if not any(split.num_records for split in splits.values()):
        raise DataError(f"No record of {manifest.directory} can be saved; {repairs[0].problem}")
    damaged = {repaired.path for repaired in repairs if repaired.lost}
    for name, split in manifest.splits.items():
        if damaged & {shard.path for shard in split.shards}:
            counts = _class_counts(manifest, splits[name].shards, folder)
            splits[name] = Split(splits[name].shards, counts)
    data = offsets.astype("<u8").tobytes()
    if data:
        replace_file(folder / INDEX_NAME, data)
    rejected = Path(str(manifest.directory)) / REJECTED_NAME
    if rejected.exists():
        replace_file(folder / REJECTED_NAME, rejected.read_bytes())
    new = dataclasses.replace(
        manifest,
        splits=splits,
        index_digest=digest_bytes(data) if data else None,
        made_by={**manifest.made_by, "repaired": {"from": manifest.fingerprint(), **_note(repairs)}},
    )
    save_manifest(new, folder)
    return load_manifest(folder)


def _note(repairs: Sequence[ShardRepair]) -> dict[str, Any]:
    """The entry of the repair in the new manifest."""
    lost = {repaired.path: len(repaired.lost) for repaired in repairs}
    return {"lost": sum(lost.values()), "shards": lost}


def _class_counts(manifest: Manifest, shards: Sequence[Shard], folder: Path) -> tuple[int, ...]:
    """How many records of each class the new shards hold."""
    names = {name: number for number, name in enumerate(manifest.class_names)}
    counts = Counter[int]()
    label = next((manifest.schema[name].stored_name for name in ("label_int", "label") if name in manifest.schema), "")
    for shard in shards:
        for record in scan_shard(folder / shard.path, shard.compression):
            values = parse_example(record.data).get(label, [])
            if isinstance(values, list):
                counts.update(names.get(value.decode("utf-8", "replace"), -1) for value in values)
            else:
                counts.update(values.tolist())
    return tuple(counts[number] for number in range(len(names)))


# ---- files without a manifest


def _repair_files(files: Sequence[Path], folder: Path, tell: OnStep) -> Repair:
    """Saves the valid records of every file, and adopts the result."""
    make_folder(folder)
    repairs = []
    for number, path in enumerate(files, 1):
        repaired = _repair_file(path, folder)
        repairs += [] if repaired is None else [repaired]
        tell(number, len(files))
    if not any(folder.iterdir()):
        raise DataError(f"No record of {len(files)} files can be saved; {repairs[0].problem}")
    adopted = index(f"{glob.escape(str(folder))}/*")
    manifest = dataclasses.replace(adopted, made_by={**adopted.made_by, "repaired": _note(repairs)})
    save_manifest(manifest, folder)
    return Repair(load_manifest(folder), tuple(repairs))


def _repair_file(path: Path, folder: Path) -> ShardRepair | None:
    compression = compression_of(path)
    try:
        for _ in scan_shard(path, compression):
            pass
    except DamagedRecord as error:
        data = _readable_bytes(path, compression)
        extents = find_extents(data)
        # The number of lost records is unknown: each gap without a readable key counts as one.
        lost: list[LostRecord] = []
        for gap in find_gaps(extents, len(data)):
            lost += [LostRecord(None, key) for key in find_keys(data, gap, b"key")] or [LostRecord(None, None)]
        _write_shard(data, extents, folder / _new_name(path.name), compression)
        return _report(data, extents, path.name, str(error), tuple(lost))
    _link_or_copy(path, folder / path.name)
    return None
