"""Caches of records or batches, in memory or on disk.

A disk cache is in a folder whose name depends on the data and on every setting that changes what is kept. The process
that fills it holds a lock, which a kill frees; an incomplete folder whose lock nobody holds is cleared. A process that
finds another one filling the cache reads without it until its next start.

A memory cache that would not fit is refused before the first record is read.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import shutil
from pathlib import Path

import tensorflow as tf
import xxhash

from tfpipe import __version__
from tfpipe.errors import UsageError
from tfpipe.reader.memory import free_memory
from tfpipe.reader.request import Request

_LOG = logging.getLogger("tfpipe")
_LOCK_NAME, _DATA_NAME = "lock", "data"
# Locks of this process, by folder. Not tied to a dataset: TensorFlow keeps using one whose Python object is gone.
_HELD: dict[Path, int] = {}
# The part of the free memory that a cache may take: the model, the buffers and the next allocation need some too.
_MOST_PART = 0.8
# Settings that change how fast a cache is filled, but not its contents; all others are part of its name.
_ONLY_SPEED = (
    *("parallel_reads", "parallel_calls", "vectorize", "prefetch", "deterministic", "cache", "cache_dir"),
    *("host_index", "host_count", "start_step", "service", "device", "ram_budget", "cpu_budget"),
)
_ONLY_BATCHES = ("seed", "batch_size", "training", "shuffle", "shuffle_buffer", "block_records", "window_records")


def cache_dataset(dataset: tf.data.Dataset, request: Request) -> tf.data.Dataset:
    """The dataset, kept by its first whole iteration for the later ones.

    Raises:
      ValueError: it would not fit into memory or onto the disk; the message gives both sizes.
    """
    needed = _bytes_of(dataset.element_spec, request)
    if request.options.cache == "memory":
        _check_room(needed, _cache_memory(request), "memory", "cache='disk', or a larger ram_budget")
        return dataset.cache()
    folder = Path(str(request.options.cache_dir), _cache_name(request))
    return _cache_on_disk(dataset, folder, needed)


def _cache_on_disk(dataset: tf.data.Dataset, folder: Path, needed: int) -> tf.data.Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_complete(folder):
        if not _lock(folder):
            _LOG.warning("Another process is filling the cache %s; this one reads without it.", folder)
            return dataset
        # Files of an incomplete cache are from a run that was killed; TensorFlow would refuse its lock file.
        _clear(folder)
        _check_room(needed, shutil.disk_usage(folder).free, f"{folder}", "another cache_dir")
    return dataset.cache(str(folder / _DATA_NAME))


def _lock(folder: Path) -> bool:
    """Locks the folder until this process ends; False where another process has locked it."""
    if folder in _HELD:
        return True
    lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _HELD[folder] = lock
    return True


def _is_complete(folder: Path) -> bool:
    """Whether a cache is complete: TensorFlow writes its index last, by rename."""
    return (folder / f"{_DATA_NAME}.index").exists()


def _clear(folder: Path) -> None:
    for leftover in folder.iterdir():
        if leftover.name != _LOCK_NAME:
            leftover.unlink()


def _cache_name(request: Request) -> str:
    """A name that depends on the data and on every setting that changes what is cached."""
    # The versions: of what decodes, by TensorFlow and by tfpipe.
    versions = {"tensorflow": tf.version.VERSION, "tfpipe": __version__}
    settings = {**vars(request), **vars(request.options), **versions}
    left_out = {"manifest", "sources", "groups", "options", "transforms", "repeat", "max_boxes", *_ONLY_SPEED}
    if request.options.cache_place == "records":
        left_out.update(_ONLY_BATCHES)
    parts: list[object] = [source.fingerprint() for source in request.sources]
    if request.groups is not None and request.options.cache_place == "batches":
        # The weights decide which records the batches hold.
        parts += [request.groups.sizes, request.groups.quotas]
    text = f"{parts} {sorted((name, str(value)) for name, value in settings.items() if name not in left_out)}"
    return xxhash.xxh3_128_hexdigest(text.encode())


# ---- room


def _bytes_of(spec: tf.TypeSpec, request: Request) -> int:
    """The bytes that a cache of the elements takes; parts of unknown length count together as one stored record."""
    per_batch = request.options.cache_place == "batches"
    elements = request.num_batches if per_batch else request.num_records
    size = request.batch_size if per_batch else 1
    parts = [_part_bytes(part, per_batch) for part in tf.nest.flatten(spec, expand_composites=False)]
    unknown = request.bytes_a_record if None in parts else 0
    return elements * size * (sum(part for part in parts if part is not None) + unknown)


def _part_bytes(part: tf.TypeSpec, per_batch: bool) -> int | None:
    """The bytes of a record in one part of an element; None where its length is not known."""
    shape = part.shape[1:] if per_batch else part.shape
    if part.dtype == tf.string or None in shape.as_list():
        return None
    return math.prod(shape.as_list()) * part.dtype.size


def _check_room(needed: int, free: int, where: str, instead: str) -> None:
    if needed > _MOST_PART * free:
        raise UsageError(
            f"The cache would take {needed / 1e6:,.0f} MB, and {where} has {free / 1e6:,.0f} MB free, of which it may "
            f"take {_MOST_PART:.0%}: use {instead}, a smaller image_size, or cache='none'."
        )


def _cache_memory(request: Request) -> int:
    """The smaller of what is free for this process, and of ram_budget."""
    budget = request.options.ram_budget
    # A budget is meant for the cache alone, without the margin.
    return free_memory() if budget is None else min(free_memory(), int(budget / _MOST_PART))
