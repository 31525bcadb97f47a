"""The plan of a stream: every choice of the pipeline, made from the request before TensorFlow is asked for anything.

    plan = plan_reading(request)
    print(plan)             # which reader, what is read, decoded and kept at once, and why not the fast path

pipeline.py carries it out.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

from tfpipe.format.example import has_fixed_lengths, is_vectorizable
from tfpipe.reader.options import AUTOTUNE
from tfpipe.reader.positions import Order
from tfpipe.reader.request import Request
from tfpipe.reader.transforms import transform_runs

# From 256 kB on a block is read as fast as a longer part of a file; blocks of more than 64 records would mix badly.
_BLOCK_BYTES, _MOST_BLOCK_RECORDS = 256_000, 64
# Adopted shards may be sorted by class: small blocks, and only where single reads would cost five times the parsing.
_SMALL_RECORD_BYTES, _MOST_SORTED_RECORDS = 16_000, 16
_WINDOW_BYTES, _MOST_WINDOW_RECORDS = 8_000_000, 8192
# Read at once where nothing is shuffled: a chunk costs 0.6 ms of CPU, whatever its size.
_CHUNK_BYTES = 8_000_000
# One thread reads 22,000 photographs a second out of a window, two 31,000: it shows where decoding costs little. Each
# window more takes some 100 MB of memory, used again and again.
_LEAST_WINDOWS, _CORES_PER_WINDOW, _MOST_WINDOWS = 2, 4, 4
# Decoded by one call: it stays in a core's cache, and the first batch is made by several cores.
_PIECE_BYTES, PIECE_RECORDS = 5_000_000, 32
# Of large image files, which take some 10 ms a megabyte, fewer: all cores work on the first batch, and on the last.
_PIECE_FILE_BYTES = 4_000_000
# Batches that are put together at once: one thread copies 50,000 images of 224 x 224 a second.
_MOST_COPIED = 2
# Batches that transforms work on at once, on two cores too: RandAugment behind free decoding makes 6,000 images a
# second with one, 7,300 with two, 9,100 with four, 9,900 with eight.
_MOST_TRANSFORMED = 8
_BATCHES_AHEAD = 2
# What batches in flight may take where ram_budget says nothing.
_IN_FLIGHT_BYTES = 1_000_000_000


@dataclass(frozen=True)
class ReadPlan:
    """How the records of a request become batches.

    Attributes:
      reader: what brings records in the order of an epoch: "windows" (chunks of consecutive positions, through
        offsets), "singles" (batches of records anywhere, through offsets), or "shards" (whole files, for compressed
        ones).
      order: which records, in which order.
      stored_order: every record once, in file order: what is read where a cache or a buffer follows.
      keeps_order: whether batches come in the order of their numbers; otherwise in the order in which they are ready.
      has_partial_batch: whether a smaller batch ends the epoch.
      piece_records: records that are decoded by one call; the batch size is a multiple of it.
      has_random_access: whether any batch can be read at once, and no buffer or shard comes before it.
      is_remote: whether it runs in a service's workers, which can't call this process.
      is_fast: whether the fast path is tried first; otherwise all goes the careful way.
      is_vectorized: whether whole batches are parsed by one operation.
      is_ragged: whether dict batches hold arrays whose length differs from record to record.
      draws: whether each record of each epoch gets a random crop of its own.
      cache_place: what is kept for later epochs: "records", "batches", or None.
      buffer_records: the size of the shuffle buffer of a stream without random access; None: it has none.
      reads_at_once: windows, batches of single records, or shards that are read at once.
      seeks_at_once: parts of a window that are read at once: more than one in a store.
      reads_ahead: whether a window is read while the one before it is cut into batches.
      calls: pieces that are decoded at once; -1 leaves it to the workers of a service.
      batches_at_once: batches that pieces are copied into at once.
      transforms_at_once: batches that transforms work on at once, at each run of transforms of one kind.
      prefetch: batches made ahead of the step.
    """

    reader: str
    order: Order
    stored_order: Order
    keeps_order: bool
    has_partial_batch: bool
    piece_records: int
    has_random_access: bool
    is_remote: bool
    is_fast: bool
    is_vectorized: bool
    is_ragged: bool
    draws: bool
    cache_place: str | None
    buffer_records: int | None
    reads_at_once: int
    seeks_at_once: int
    reads_ahead: bool
    calls: int
    batches_at_once: int
    transforms_at_once: int
    prefetch: int

    def __str__(self) -> str:
        """One setting a line."""
        return "\n".join(f"{name}: {value}" for name, value in vars(self).items())


def plan_reading(request: Request, *, cores: int | None = None) -> ReadPlan:
    """The plan for a request: a pure function of it and of the machine's cores.

    Args:
      request: what was asked for.
      cores: for this process; None counts them.
    """
    options, schema = request.options, request.schema
    cores = len(os.sched_getaffinity(0)) if cores is None else cores
    is_ragged = request.labels in (None, "boxes") and not has_fixed_lengths(schema)
    is_vectorized = options.vectorize and is_vectorizable(schema) and request.image_size is None
    piece = request.batch_size if is_vectorized or is_ragged else _piece_records(request)
    order = _order(request)
    calls = _calls(request, cores)
    batches = min(calls, _most_batches(request)) if calls > 0 else 1
    return ReadPlan(
        reader=("windows" if order.has_windows else "singles") if request.is_seekable else "shards",
        order=order,
        stored_order=_stored_order(request, order, piece),
        keeps_order=options.deterministic,
        has_partial_batch=request.has_partial_batch,
        piece_records=piece,
        has_random_access=request.has_random_access,
        is_remote=options.service is not None,
        is_fast=request.has_random_access
        and options.cache == "none"
        and options.deterministic
        and options.service is None,
        is_vectorized=is_vectorized,
        is_ragged=is_ragged,
        draws=request.has_random_crop,
        cache_place=None if options.cache == "none" else options.cache_place,
        buffer_records=_buffer_records(request),
        reads_at_once=_reads_at_once(request, order, cores),
        seeks_at_once=options.reads_at_once if request.is_in_store else 1,
        reads_ahead=options.parallel_reads != 1,
        calls=calls,
        batches_at_once=min(batches, _MOST_COPIED),
        transforms_at_once=_transforms_at_once(request) if calls != 1 else 1,
        prefetch=_BATCHES_AHEAD if options.prefetch == AUTOTUNE else options.prefetch,
    )


# ---- the order


def _order(request: Request) -> Order:
    """The order of this host's records."""
    block, window = _block_and_window(request)
    return Order(
        num_records=request.num_records,
        num_positions=request.num_records if request.has_partial_batch else request.num_batches * request.batch_size,
        batch_size=request.batch_size,
        host_index=request.options.host_index,
        host_count=request.options.host_count,
        seed=request.seed,
        shuffled=request.shuffle == "global",
        start_step=request.options.start_step,
        block_records=block,
        window_records=window,
        groups=request.groups,
    )


def _stored_order(request: Request, order: Order, piece: int) -> Order:
    """Every record once, in file order: what is read where a cache or a buffer follows."""
    return replace(
        order,
        num_positions=request.num_records,
        host_index=0,
        host_count=1,
        shuffled=False,
        start_step=0,
        block_records=1,
        window_records=_chunk_records(request, piece),
        groups=None,
    )


def _block_and_window(request: Request) -> tuple[int, int]:
    """The number of consecutive records read together, and of records that are mixed or read at once."""
    options, size = request.options, request.batch_size
    if request.shuffle != "global":
        return 1, _chunk_records(request, size)
    if request.groups is not None or not request.is_seekable or options.service:
        return 1, size
    block, window = options.block_records, options.window_records
    if block == AUTOTUNE:
        block = _block_records(request.bytes_a_record, in_hash_order=request.in_hash_order)
    block = min(block, request.num_records)
    if block == 1:
        return 1, size
    if window == AUTOTUNE:
        window = min(_MOST_WINDOW_RECORDS, max(1, _WINDOW_BYTES // request.bytes_a_record))
    # Windows of whole batches are cut into batches without a copy; not where they would be too large.
    both = math.lcm(block, size)
    unit = both if both <= 2 * window else block
    return block, -(-window // unit) * unit


def _block_records(bytes_a_record: int, *, in_hash_order: bool) -> int:
    if not in_hash_order and bytes_a_record >= _SMALL_RECORD_BYTES:
        return 1
    most = _MOST_BLOCK_RECORDS if in_hash_order else _MOST_SORTED_RECORDS
    return min(most, max(1, _BLOCK_BYTES // bytes_a_record))


def _chunk_records(request: Request, unit: int) -> int:
    """The number of records that are read at once in file order: some megabytes, in whole units."""
    return max(1, _CHUNK_BYTES // (request.bytes_a_record * unit)) * unit


def _piece_records(request: Request) -> int:
    """The largest divisor of the batch size that is not too large; a batch that has none is one piece."""
    size = request.batch_size
    most = max(PIECE_RECORDS, _PIECE_BYTES * size // request.bytes_a_batch)
    files = max(1, _PIECE_FILE_BYTES // request.bytes_a_record)
    if request.schema.payload == "raw" and files < min(PIECE_RECORDS, size):
        return max(n for n in range(1, files + 1) if size % n == 0)
    return max((n for n in range(2, min(most, size) + 1) if size % n == 0), default=size)


def _buffer_records(request: Request) -> int | None:
    is_cached = request.options.cache != "none"
    keeps_records = is_cached and request.options.cache_place == "records"
    if request.shuffle == "none" or (request.has_random_access and not keeps_records):
        return None
    return request.num_records if request.shuffle == "global" and is_cached else request.options.shuffle_buffer


# ---- how much at once


def _calls(request: Request, cores: int) -> int:
    """Records that are decoded at once; -1 leaves it to a service's workers, on machines of their own."""
    asked, budget = request.options.parallel_calls, request.options.cpu_budget
    if asked == AUTOTUNE:
        if request.options.service:
            return AUTOTUNE
        asked = cores
    return asked if budget is None else min(asked, budget)


def _reads_at_once(request: Request, order: Order, cores: int) -> int:
    chosen = request.options.parallel_reads != AUTOTUNE
    if chosen or request.is_in_store or not (order.has_windows and request.is_seekable):
        return request.options.reads_at_once
    return min(cores, max(_LEAST_WINDOWS, min(cores // _CORES_PER_WINDOW, _MOST_WINDOWS)))


def _transforms_at_once(request: Request) -> int:
    runs = len(transform_runs(request.transforms))
    return max(1, min(_most_batches(request) // runs, _MOST_TRANSFORMED)) if runs else 1


def _most_batches(request: Request) -> int:
    """The batches that decoding and transforming may each have in flight: both hold them twice, until one is whole."""
    budget = _IN_FLIGHT_BYTES if request.options.ram_budget is None else request.options.ram_budget
    return max(1, (budget // request.bytes_a_batch - _BATCHES_AHEAD) // 4)
