"""The cost of each stage of reading (read, parse, decode, resize, batch, transform, transfer), in us per image.

Each stage is timed individually, on the output of the stage before it, which is kept in memory: the passes with and
without the stage differ by its cost. All is sequential, so that wall time equals CPU time unless something waits.
Functions are made as the reader makes them: others take 0.15 s at each beginning, which would count as the stage's.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from tfpipe.format.example import decode_batch, decode_parsed, decode_record, has_fixed_lengths, parse_batch
from tfpipe.format.schema import Schema
from tfpipe.images.fit import Resize
from tfpipe.reader.decode import Decoder, decode_piece
from tfpipe.reader.plan import PIECE_RECORDS
from tfpipe.tf_internals import map_on_one_device, stack_lists
from tfpipe.timing.consumers import images_of, serialized_records
from tfpipe.timing.passes import Pass, time_pass
from tfpipe.timing.variants import Task

# The decoded images of the sample are kept in memory.
_MOST_HELD_BYTES = 256 << 20
_MOST_RECORDS = 512
_ALL = 1 << 40
_BYTES_PER_FILE_BYTE = 12  # A decoded image is at most some 12 times the size of its JPEG file in ordinary quality.


@dataclass(frozen=True)
class StageCost:
    """The cost of one stage.

    Attributes:
      stage: "read", "parse", "decode", "resize", "batch", "transform" or "transfer".
      microseconds: wall time per image, with the images processed sequentially.
      cpu_microseconds: CPU time per image; less than the wall time if the stage waits for a disk.
      share: the fraction of the wall time of all stages, in [0, 1].
    """

    stage: str
    microseconds: float
    cpu_microseconds: float
    share: float


@dataclass(frozen=True)
class _Stage:
    """A stage: its input, its output, and the function that runs through either."""

    name: str
    before: tf.data.Dataset | None
    after: tf.data.Dataset
    consume: Callable[[tf.data.Dataset], int]


def stage_costs(task: Task, *, repeats: int = 5) -> list[StageCost]:
    """Measures the stages of the pipeline that make_dataset builds for a task, in order.

    Args:
      task: the task to measure; a few hundred of its records are used.
      repeats: passes with and without each stage; their medians are compared.

    Returns:
      A cost for each stage that occurs: an embedding is neither decoded nor resized.
    """
    count = _sample_size(task)
    costs = {stage.name: _cost(stage, count, repeats) for stage in _stages(task, count)}
    total = sum(wall for wall, _ in costs.values())
    return [StageCost(name, wall, cpu, wall / total) for name, (wall, cpu) in costs.items()]


def _sample_size(task: Task) -> int:
    """The number of records, in whole batches, whose decoded images fit into the memory reserved for them."""
    mean_bytes = task.manifest.split(task.split).num_bytes / task.num_records
    if task.manifest.schema.payload == "raw":
        mean_bytes *= _BYTES_PER_FILE_BYTE
    fitting = min(_MOST_RECORDS, int(_MOST_HELD_BYTES / mean_bytes), task.num_records)
    return max(fitting // task.batch_size, 1) * task.batch_size


def _cost(stage: _Stage, count: int, repeats: int) -> tuple[float, float]:
    """Wall and CPU microseconds per image."""
    passes = []
    for _ in range(repeats + 1):
        after = time_pass(stage.after, stage.consume)
        before = Pass(0, 0, 0) if stage.before is None else time_pass(stage.before, stage.consume)
        passes.append((after.wall_seconds - before.wall_seconds, after.cpu_seconds - before.cpu_seconds))
    # The first pass fills the caches.
    wall, cpu = (statistics.median(values) for values in zip(*passes[1:], strict=True))
    return max(wall, 0) / count * 1e6, max(cpu, 0) / count * 1e6


# ---- the stages


def _stages(task: Task, count: int) -> Iterator[_Stage]:
    records = serialized_records(task).take(count)
    yield _Stage("read", None, _sequential(records), _count)
    held = _in_memory(records)
    if task.parses_batches:
        batches = yield from _batch_stages(task, held)
    else:
        batches = yield from _record_stages(task, held)
    finished = map_on_one_device(batches, lambda images, ids: (images, tf.one_hot(ids, len(task.manifest.class_names))))
    yield _Stage("transform", batches, _sequential(finished), _count)
    # In the other stages batches stay inside tf.data; here they are copied out, to a GPU if there is one.
    yield _Stage("transfer", None, _in_memory(finished), _transfer)


def _record_stages(task: Task, held: tf.data.Dataset) -> Generator[_Stage, None, tf.data.Dataset]:
    """Stages that parse, decode and resize records in pieces of a batch, as the reader does; returns the batches."""
    schema = task.image_schema
    piece = max(n for n in range(1, PIECE_RECORDS + 1) if task.batch_size % n == 0)
    pieces = _in_memory(held.batch(piece, drop_remainder=True))

    def through(decoder: Decoder) -> tf.data.Dataset:
        return _sequential(map_on_one_device(pieces, lambda serialized: decode_piece(decoder, serialized)))

    decoder = _decoder(schema, task)
    if any(f.codec in ("jpeg", "image") for f in schema.features):
        parsed = through(_decoder(_as_bytes(schema), task))
        yield _Stage("parse", pieces, parsed, _count)
        yield _Stage("decode", parsed, through(decoder), _count)
    else:
        yield _Stage("parse", pieces, through(decoder), _count)
    if task.size_to_make is not None:
        fitted = _decoder(schema, task, Resize(task.size_to_make, task.resize, task.antialias, task.dct))
        yield _Stage("resize", through(decoder), through(fitted), _count)
        decoder = fitted
    lists = _in_memory(through(decoder).batch(task.batch_size // piece))
    batches = map_on_one_device(lists, lambda *some: stack_lists(some, decoder.spec, size=task.batch_size))
    yield _Stage("batch", lists, _sequential(batches), _count)
    return _in_memory(map_on_one_device(batches, lambda features: _with_ids(images_of(features))))


def _decoder(schema: Schema, task: Task, resizer: Resize | None = None) -> Decoder:
    exact = task.dct == "exact"
    return Decoder(
        single=partial(decode_record, schema, exact=exact, resizer=resizer),
        row=partial(decode_parsed, schema, exact=exact, resizer=resizer),
        parse=partial(parse_batch, schema) if has_fixed_lengths(schema) else None,
    )


def _batch_stages(task: Task, held: tf.data.Dataset) -> Generator[_Stage, None, tf.data.Dataset]:
    """Stages that batch serialized records, then parse whole batches; returns the batches."""
    schema = task.image_schema
    batches = held.batch(task.batch_size, drop_remainder=True)
    yield _Stage("batch", held, _sequential(batches), _count)
    waiting = _in_memory(batches)
    parsed = map_on_one_device(waiting, lambda batch: images_of(decode_batch(schema, batch)))
    yield _Stage("parse", waiting, _sequential(parsed), _count)
    return _in_memory(map_on_one_device(parsed, _with_ids))


def _as_bytes(schema: Schema) -> Schema:
    """The schema with image files kept as undecoded strings."""
    features = [
        dataclasses.replace(f, codec="plain", dtype="string", shape=()) if f.codec in ("jpeg", "image") else f
        for f in schema.features
    ]
    return dataclasses.replace(schema, features=tuple(features))


def _with_ids(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return images, tf.zeros(tf.shape(images)[:1], tf.int64)


# ---- running through a stage


def _in_memory(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The elements of the dataset, computed once and kept in memory."""
    return _sequential(dataset.cache())


def _sequential(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return dataset.with_options(options)


def _count(dataset: tf.data.Dataset) -> int:
    # Skipping runs inside tf.data, 1 us per element; reduce would call a function for each, 20 us.
    return sum(1 for _ in _sequential(dataset.skip(_ALL)))


def _transfer(batches: tf.data.Dataset) -> int:
    device = "/gpu:0" if tf.config.list_logical_devices("GPU") else "/cpu:0"
    count = 0
    with tf.device(device):
        for images, labels in batches:
            tf.identity(images)
            tf.identity(labels)
            count += 1
    return count
