"""ReadOptions: how make_dataset reads, as one value. Every variant in the timing tables is a ReadOptions."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfpipe.errors import UsageError
from tfpipe.storage import replace_file, scheme_of

if TYPE_CHECKING:
    import tensorflow as tf

# tf.data.AUTOTUNE, without an import of TensorFlow.
AUTOTUNE = -1
_READS_AT_ONCE = 4

_CHOICES = {
    "cache": ("none", "memory", "disk"),
    "cache_place": ("records", "batches"),
    "shuffle": ("global", "buffer", "none"),
    "on_error": ("raise", "skip"),
    "dct": ("exact", "fast"),
}
# The least value of each number, and whether -1 is allowed too: then it is chosen automatically.
_BOUNDS = {
    "parallel_reads": (1, True),
    "parallel_calls": (1, True),
    "block_records": (1, True),
    "window_records": (1, True),
    "prefetch": (0, True),
    "shuffle_buffer": (1, False),
    "host_count": (1, False),
    "start_step": (0, False),
    "ram_budget": (1, False),
    "cpu_budget": (1, False),
}
_KINDS = {"bool": "True or False", "int": "an integer", "str": "a text that is not empty"}


@dataclass(frozen=True)
class ReadOptions:
    """Settings of the reader. The defaults shuffle globally and reproducibly; `tfpipe tune` finds faster ones.

    Attributes:
      parallel_reads: windows of records, or batches of single records, read at once; 1 reads none ahead. -1: two
        windows from a disk, or one for every four cores, at most 4; else 4: single records reached 18.6 k/s at 4 and no
        more beyond.
      parallel_calls: records, or parsed batches, decoded at once; -1: one per core; 1 is strictly sequential.
      block_records: consecutive records that a global shuffle reads together. 1 is uniform over the split, and opens a
        file for every record: some 30 us of CPU. -1 takes blocks of 256 kB (at most 64 records) where records are
        stored in the order of a hash, as by `convert`, so that neighbours have nothing in common; for third-party
        shards it takes single records, or blocks of up to 16 if records have less than 16 kB.
      window_records: records that are mixed with each other when blocks are read; rounded up to a multiple of
        block_records. -1 takes 8 MB: with 32 MB memory is always fresh, and embeddings read at 0.8 of the rate. Two
        windows are in memory.
      vectorize: parse whole batches where every shape is known: some ten times the rate for embeddings.
      prefetch: batches made ahead of the training step; -1 makes 2, 0 none. On a device at least one is ready.
      deterministic: keep the order whatever finishes first; the same batches, crops and draws at any parallelism.
      cache: "none", "memory" or "disk". A cache that would not fit is refused.
      cache_place: "records" keeps parsed records, so that each epoch still has another order; "batches" keeps finished
        batches: some ten times faster from memory, and the same batches in every epoch.
      cache_dir: the folder for "disk"; the name of a subfolder depends on the data and the settings.
      shuffle: of training splits: "global" (uniform over the split; behind a records cache, through a buffer of the
        whole split), "buffer", or "none".
      shuffle_buffer: records in the buffer of shuffle="buffer", and of "global" for compressed shards.
      balance_classes: in training, sample every class equally often: an epoch has as many records as before, those of
        rare classes several times. Labels are read once, when the dataset is made.
      host_index: this host's index, in [0, host_count).
      host_count: hosts that read together; host h takes the global batches k * host_count + h, equally many for each.
        In training the rest of an epoch is left out; an evaluation that has a rest is refused.
      start_step: batches of this host, counted from epoch 0, that come before the first one: what a resumed training
        has seen already. The first iteration has the rest of its epoch. A later step takes no longer, except for
        compressed shards, a buffer's shuffle and caches, which read the batches that they skip.
      on_error: "raise" names shard, record and key of what can't be read or decoded; "skip" leaves that record out,
        and logs a warning with the count at the end of the epoch. In training a lost record is replaced by the valid
        record before it in the batch (by the first one, where there is none before); in evaluation the batch is
        smaller. A batch without any valid record is left out.
      dct: how JPEG files are decoded: "exact" to Pillow's pixels bit for bit, and, with antialias, by reducing files of
        2**22 pixels and more that shrink at least fivefold, 54 dB from Pillow's result at worst; "fast" by an inverse
        DCT that is 2 % quicker and 45 dB from them, and, with antialias, by reducing files of 2.25 times the image_size
        and more while they are decoded, 46 dB from Pillow's result. Pixels and embeddings in records are there already:
        it has no part in them.
      service: the address of a tf.data service, such as "grpc://10.0.0.1:5050": its workers read and decode, each its
        own share of the batches, in whatever order they finish.
      device: where batches are put ahead of the step and transforms run, such as "/gpu:0"; None: on the CPU.
      ram_budget: bytes that batches in flight, and a memory cache, may take; None: 1 GB in flight, and a cache of what
        the machine has free. In flight are, at most, what parallel_calls pieces of 32 images hold (5 MB each at
        224 x 224), two batches that are put together, each held twice, eight where transforms work on them, and those
        that prefetch has ready; a budget makes them fewer, to one each.
      cpu_budget: the most calls at once, whatever parallel_calls is; None: no bound.

    Settings that exclude each other are refused, by ReadOptions or by make_dataset, with an error that names them:

      | setting          | not with                                                                              |
      |------------------|---------------------------------------------------------------------------------------|
      | cache_dir        | cache="none"; cache="memory"                                                          |
      | cache_place      | cache="none"                                                                          |
      | shuffle_buffer   | shuffle="global"; shuffle="none"                                                      |
      | host_count       | cache="memory"; cache="disk"; shuffle="buffer"; compressed shards; partial batch      |
      | balance_classes  | cache="memory"; cache="disk"; shuffle="buffer"; shuffle="none"; several labels;       |
      |                  | compressed shards                                                                     |
      | a mixture        | cache="memory"; cache="disk"; shuffle="buffer"; shuffle="none"; compressed shards     |
      | service          | cache="memory"; cache="disk"; shuffle="buffer"; host_count; start_step;               |
      |                  | compressed shards; partial batch                                                      |
      | a random crop    | cache="memory"; cache="disk"; shuffle="buffer"; service; compressed shards            |

    cache_place here is "batches", shuffle_buffer another number than its default (shuffle="global" has a buffer for
    compressed shards alone), host_count 2 or more; cache="disk" needs a cache_dir. A mixture takes the caches with
    cache_place="batches". A random crop is a RandomResizedCrop or PaddedCrop in training; a partial batch ends an
    evaluation whose records are no multiple of batch_size, of all hosts together.

    Evaluation reads every record once, in file order: of what says how training draws, only host_count and
    balance_classes are refused there with a `shuffle`, by ReadOptions itself. docs/options.md has every setting beside
    every kind of stream.
    """

    parallel_reads: int = AUTOTUNE
    parallel_calls: int = AUTOTUNE
    block_records: int = AUTOTUNE
    window_records: int = AUTOTUNE
    vectorize: bool = True
    prefetch: int = AUTOTUNE
    deterministic: bool = True
    cache: str = "none"
    cache_place: str = "records"
    cache_dir: str | None = None
    shuffle: str = "global"
    shuffle_buffer: int = 2048
    balance_classes: bool = False
    host_index: int = 0
    host_count: int = 1
    start_step: int = 0
    on_error: str = "raise"
    dct: str = "exact"
    service: str | None = None
    device: str | None = None
    ram_budget: int | None = None
    cpu_budget: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            # NumPy's numbers and paths become Python's own: a file of options can hold them.
            object.__setattr__(self, field.name, _typed(field.name, getattr(self, field.name), str(field.type)))
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}; it takes one of {list(allowed)}.")
        for name, (least, automatic) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and value < least and not (automatic and value == AUTOTUNE):
                choice = ", or -1 to have it chosen" if automatic else ""
                raise UsageError(f"{name} is {value}; it must be at least {least}{choice}.")
        if (self.cache == "disk") != (self.cache_dir is not None):
            raise UsageError(
                f"cache='disk' goes with a cache_dir; cache is {self.cache!r}, cache_dir {self.cache_dir!r}."
            )
        if self.cache_dir is not None and scheme_of(self.cache_dir) is not None:
            raise UsageError(f"cache_dir is {self.cache_dir!r}; a disk cache takes a folder of this machine.")
        if self.cache == "none" and self.cache_place != "records":
            raise UsageError(f"cache_place is {self.cache_place!r}, but cache is 'none': it goes with a cache.")
        if not 0 <= self.host_index < self.host_count:
            raise UsageError(f"host_index is {self.host_index}; it must be in [0, host_count={self.host_count}).")
        if self.host_count > 1 and (self.cache != "none" or self.shuffle == "buffer"):
            raise UsageError(
                "With host_count > 1 every host seeks its own records: cache must be 'none', shuffle not 'buffer'."
            )
        if self.balance_classes and (self.cache != "none" or self.shuffle != "global"):
            raise UsageError("balance_classes samples records by seeking: cache must be 'none', shuffle 'global'.")
        if self.service is not None and (self.host_count > 1 or self.cache != "none" or self.start_step):
            raise UsageError(
                "The workers of a service share the batches: host_count must be 1, cache 'none', "
                f"start_step 0; they are {self.host_count}, {self.cache!r}, {self.start_step}."
            )

    @property
    def reads_at_once(self) -> int:
        """parallel_reads as a number."""
        return _READS_AT_ONCE if self.parallel_reads == AUTOTUNE else self.parallel_reads

    @classmethod
    def plain(cls) -> ReadOptions:
        """Everything sequential: one file, one record, one call at a time; no prefetching."""
        return cls(parallel_reads=1, parallel_calls=1, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def parallel_map(cls) -> ReadOptions:
        """Plain, with records decoded in parallel."""
        return cls(parallel_reads=1, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def interleave(cls) -> ReadOptions:
        """Plain, with two stretches of the shards read at once."""
        return cls(parallel_reads=2, parallel_calls=1, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def interleave_parallel_map(cls) -> ReadOptions:
        """Two stretches of the shards read at once, records decoded in parallel."""
        return cls(parallel_reads=2, vectorize=False, prefetch=0, shuffle="none")

    @classmethod
    def book(cls) -> ReadOptions:
        """The reader of Practical Machine Learning for Computer Vision: both of them, a buffer of 200, and prefetch."""
        return cls(parallel_reads=2, vectorize=False, shuffle="buffer", shuffle_buffer=200)

    def save(self, path: str | os.PathLike[str], *, measured: dict[str, Any] | None = None) -> None:
        """Writes {"options": all settings, "measured": the argument}, a file that make_dataset(options=path) takes."""
        document = {"options": dataclasses.asdict(self), **({"measured": measured} if measured else {})}
        replace_file(Path(path), (json.dumps(document, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ReadOptions:
        """The options in a file that `save` or `tfpipe tune` wrote; settings that are not in it have their defaults.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is not JSON of that form, or a setting is unknown, of another type or out of range.
        """
        try:
            document = json.loads(Path(path).read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no file of read options: it is not JSON.") from error
        settings = document.get("options") if isinstance(document, dict) else None
        if not isinstance(settings, dict):
            raise UsageError(f'{path} is no file of read options: {{"options": {{...}}}} is expected.')
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise UsageError(f"{path} has unknown settings {unknown}; known: {known}.")
        try:
            return cls(**settings)
        except ValueError as error:
            raise UsageError(f"{path}: {error}") from error


def to_integer(name: str, value: Any) -> int:
    """Any integer, NumPy's too, as Python's.

    Raises:
      ValueError: it is a bool or no integer; the sentence names it.
    """
    try:
        if not isinstance(value, bool | np.bool_):
            return operator.index(value)
    except TypeError:
        pass
    raise UsageError(f"{name} is {value!r}; it must be an integer.")


def _typed(name: str, value: Any, kind: str) -> Any:
    """A setting as a value of its field's type, such as "int | None"; ValueError where it is of another one."""
    base = kind.removesuffix(" | None")
    if value is None and base != kind:
        return None
    if base == "bool" and isinstance(value, bool | np.bool_):
        return bool(value)
    if base == "int":
        return to_integer(name, value)
    if base == "str" and isinstance(value, str | os.PathLike) and os.fspath(value):
        return os.fspath(value)
    or_none = "" if base == kind else " or None"
    raise UsageError(f"{name} is {value!r}; it must be {_KINDS[base]}{or_none}.")


def for_host(context: tf.distribute.InputContext, options: ReadOptions | None = None) -> ReadOptions:
    """The options of one of several input pipelines: with its index and their number.

        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        train = strategy.distribute_datasets_from_function(
            lambda context: make_dataset("photos", batch_size=128, image_size=(224, 224), options=for_host(context))
        )
        model.fit(train, steps_per_epoch=..., epochs=10)

    Every host reads its own records: equally many batches each, no record twice.

    Args:
      context: the argument that `Strategy.distribute_datasets_from_function` passes to its function.
      options: all other settings; None: the defaults.
    """
    return dataclasses.replace(
        options or ReadOptions(), host_index=int(context.input_pipeline_id), host_count=int(context.num_input_pipelines)
    )
