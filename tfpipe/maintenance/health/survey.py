"""One pass over all records of a dataset, which measures each of them; and some records again, by their numbers.

Records are parsed without TensorFlow. JPEG files are decoded at a fraction of their size, about measures.WORKING_SIDE,
by several threads; a few records are in memory at a time, and of each remain some 700 bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from tfpipe.errors import UsageError
from tfpipe.format.compressed import scan_shard
from tfpipe.format.framing import DamagedRecord
from tfpipe.format.lookup import list_shards
from tfpipe.format.manifest import Manifest, Shard
from tfpipe.format.schema import Schema
from tfpipe.format.wire import NotAnExample, parse_example
from tfpipe.maintenance.health.measures import LOOK_SIZE, SHAPE_SIZE, WORKING_SIDE, Measures, measure_image
from tfpipe.maintenance.health.stored import open_stored, stored_digest, text_of
from tfpipe.storage import local_copy

# Records that a thread takes at a time, so that handing them over costs little; and how many such parts wait at once.
_TOGETHER, _AT_ONCE = 4, 8
# Of at most 16 MB each.
_KEPT_BLOCKS = 16


class Damage(NamedTuple):
    """A record that can't be read: its shard, its number there, and why."""

    shard: str
    record: int
    text: str


@dataclass(frozen=True)
class Survey:
    """What was measured of the records of a dataset, in the order of its splits, shards and records.

    Attributes:
      manifest: the dataset's.
      keys: [N], the key of each record.
      places: int [N, 2], the number of its shard, over all splits, and its own number there.
      splits: int [N], indices into the manifest's splits.
      labels: int [N], the class of each record; -1 where it has none, or several.
      sizes: int [N, 2], height and width of the upright image; 0 where there is none.
      digests: bytes [N], of the stored image.
      measured: bool [N], whether the image could be decoded and measured.
      columns: for each field of Measures its values of all records, [N] or [N, D].
      groups: [N], the value of the group column, or None where no column was named.
      damaged: the records that can't be read, or whose image can't be decoded.
    """

    manifest: Manifest
    keys: list[str]
    places: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    digests: np.ndarray
    measured: np.ndarray
    columns: dict[str, np.ndarray]
    groups: list[str] | None
    damaged: tuple[Damage, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def split_names(self) -> list[str]:
        """The names of the splits."""
        return list(self.manifest.splits)

    def label_name(self, record: int) -> str:
        """The class of a record; "" where it has none, or several."""
        label = int(self.labels[record])
        return self.manifest.class_names[label] if label >= 0 else ""


class _Row(NamedTuple):
    key: str
    label: int
    size: tuple[int, int]
    digest: bytes
    group: str
    measures: Measures | None
    problem: str


def survey_dataset(
    manifest: Manifest,
    *,
    group: str | None = None,
    threads: int | None = None,
    on_record: Callable[[], object] = lambda: None,
) -> Survey:
    """The measures of all records.

    Args:
      manifest: the dataset's.
      group: a feature whose values must not be in two splits, such as a patient.
      threads: how many images are decoded at once; None: as many as there are cores.
      on_record: called after each record.

    Raises:
      UsageError: there is no feature of the group's name, or it has several values per record.
    """
    schema = manifest.schema
    if group is not None and (group not in schema or schema[group].shape or schema[group].codec != "plain"):
        plain = [feature.name for feature in schema.features if feature.codec == "plain" and not feature.shape]
        raise UsageError(f"No feature {group!r} with one value per record; there are {plain}.")
    rows = _Rows(manifest.num_records(), group is not None)
    splits = list(manifest.splits)
    with _kept_memory() if "image" in schema else contextlib.nullcontext():
        for place, (name, _, shard) in enumerate(list_shards(manifest)):
            frames = _read_shard(manifest, shard, rows.damaged)
            measured = _in_threads(lambda data: _measure_record(schema, data, group), frames, threads)
            for number, row in enumerate(measured):
                rows.add(row, splits.index(name), (place, number), shard)
                on_record()
    return rows.survey(manifest)


@contextlib.contextmanager
def _kept_memory() -> Iterator[None]:
    """Pillow keeps the memory of images for the next ones: got anew for each image, page faults take long."""
    from PIL import Image

    allocator: Any = Image.core  # Documented as Pillow's block allocator.
    before = allocator.get_blocks_max()
    allocator.set_blocks_max(max(before, _KEPT_BLOCKS))
    try:
        yield
    finally:
        allocator.set_blocks_max(before)
        allocator.clear_cache()


def _read_shard(manifest: Manifest, shard: Shard, damaged: list[Damage]) -> Iterator[bytes]:
    """Yields the serialized records of a shard up to the first damaged one, which is noted."""
    try:
        with local_copy(manifest.shard_path(shard)) as path:
            for record in scan_shard(path, shard.compression):
                yield bytes(record.data)
    except DamagedRecord as error:
        damaged.append(Damage(shard.path, error.number, f"{error.what}; the rest of the shard was not read"))
    except OSError as error:
        damaged.append(Damage(shard.path, 0, f"the file can't be read: {error.strerror}"))


def _in_threads(function: Callable[[bytes], _Row], items: Iterator[bytes], threads: int | None) -> Iterator[_Row]:
    """The results in the order of the items, of which only a few are taken at a time."""
    threads = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[_Row]]] = deque()
        while part := list(islice(items, _TOGETHER)):
            waiting.append(pool.submit(lambda part: [function(item) for item in part], part))
            if len(waiting) >= max(_AT_ONCE, threads):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


class _Rows:
    """Collects rows into arrays that have their final size from the beginning."""

    def __init__(self, count: int, grouped: bool) -> None:
        self.keys: list[str] = []
        self.groups: list[str] | None = [] if grouped else None
        self.damaged: list[Damage] = []
        self.splits, self.labels = np.zeros(count, np.int16), np.full(count, -1, np.int32)
        self.places = np.zeros((count, 2), np.int32)
        self.sizes, self.digests = np.zeros((count, 2), np.int32), np.zeros(count, "V16")
        self.measured = np.zeros(count, bool)
        kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
            "perceptual_hash": (np.uint64, ()),
            "shape": (np.float16, (SHAPE_SIZE,)),
            "look": (np.float16, (LOOK_SIZE,)),
        }
        specs = {name: kinds.get(name, (np.float32, ())) for name in Measures._fields}
        self.columns = {name: np.zeros((count, *shape), dtype) for name, (dtype, shape) in specs.items()}

    def add(self, row: _Row, split: int, place: tuple[int, int], shard: Shard) -> None:
        at = len(self.keys)
        if at == len(self.splits):  # More records than the manifest says: `check` reports that.
            return
        self.keys.append(row.key)
        if self.groups is not None:
            self.groups.append(row.group)
        self.splits[at], self.places[at], self.labels[at], self.sizes[at] = split, place, row.label, row.size
        self.digests[at] = np.void(row.digest)
        if row.measures is not None:
            self.measured[at] = True
            for name, value in row.measures._asdict().items():
                self.columns[name][at] = value
        if row.problem:
            self.damaged.append(Damage(shard.path, place[1], f"{row.key}: {row.problem}"))

    def survey(self, manifest: Manifest) -> Survey:
        count = len(self.keys)
        return Survey(
            manifest,
            self.keys,
            self.places[:count],
            self.splits[:count],
            self.labels[:count],
            self.sizes[:count],
            self.digests[:count],
            self.measured[:count],
            {name: values[:count] for name, values in self.columns.items()},
            self.groups,
            tuple(self.damaged),
        )


def _measure_record(schema: Schema, data: bytes, group: str | None) -> _Row:
    try:
        values = parse_example(data)
    except NotAnExample as error:
        return _Row("", -1, (0, 0), b"", "", None, str(error).rstrip("."))
    key, digest = text_of(schema, values, "key"), stored_digest(schema, values)
    row = _Row(key, _label(schema, values), (0, 0), digest, text_of(schema, values, group or ""), None, "")
    if "image" not in schema:
        return row
    try:
        stored = open_stored(schema, values, least_side=WORKING_SIDE)
        return row._replace(size=stored.upright_size, measures=measure_image(stored.upright(stored.image)))
    except Exception as error:  # Pillow raises anything over bytes that are no image.
        return row._replace(problem=f"the image can't be decoded: {type(error).__name__}: {error}".splitlines()[0])


def _label(schema: Schema, values: dict[str, Any]) -> int:
    """The class of a record; -1 where it has none, or several."""
    if schema.label_kind != "class" or "label_int" not in schema:
        return -1
    found = values.get(schema["label_int"].stored_name, ())
    return int(found[0]) if len(found) == 1 else -1
