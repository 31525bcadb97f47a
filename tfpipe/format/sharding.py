"""The split, the position and the shard of a record: pure functions of integers.

A record's key and the seed give one 128-bit hash: its upper half picks the split, and records of a split are sorted by
the lower half. So neither depends on the listing's order, the number of workers or a random draw, and a record never
changes its split because others were added or removed.

    bounds = split_bounds({"train": 0.8, "validation": 0.1, "test": 0.1})
    split_draw, order = key_hashes("cats/1.jpg", seed=0)
    pick_split(split_draw, bounds)        # 0: train
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import xxhash

from tfpipe.errors import UsageError

DEFAULT_SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
DEFAULT_TARGET_BYTES = 64_000_000

_HALF = 64
_MASK = (1 << _HALF) - 1


def key_hashes(key: str, *, seed: int) -> tuple[int, int]:
    """Two independent unsigned 64-bit hashes of a key: one that picks its split, and one by which records are sorted.

    XXH3-128 with a seed: equal on every machine and in every version of Python, unlike hash().
    """
    both = xxhash.xxh3_128_intdigest(key.encode(), seed)
    return both >> _HALF, both & _MASK


def parse_split(text: str) -> dict[str, float]:
    """The fractions in a text such as "train=0.8,validation=0.1,test=0.1".

    Raises:
      ValueError: a part is not NAME=FRACTION, a name occurs twice, or the fractions do not sum to 1.
    """
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            fraction = float(Fraction(value.strip()))
        except (ValueError, ZeroDivisionError):
            equals, fraction = "", 0.0
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"{part.strip()!r} in {text!r} is not NAME=FRACTION, such as train=0.8.")
        if name in fractions:
            raise UsageError(f"The split {name!r} occurs twice in {text!r}.")
        fractions[name] = fraction
    split_bounds(fractions)
    return fractions


def split_bounds(fractions: Mapping[str, float]) -> list[int]:
    """The upper bound in [0, 2**64] of each split's hashes, in the mapping's order; the last is 2**64.

    Raises:
      ValueError: a fraction is negative, a name can't be part of a file name, or the sum is not 1.
    """
    for name, fraction in fractions.items():
        if not name.replace("_", "").isalnum() or not name.isascii():
            raise UsageError(f"A split's name has letters, digits and _ only, not {name!r}.")
        if not 0 <= fraction <= 1:
            raise UsageError(f"The fraction of split {name!r} is {fraction}; it must be in [0, 1].")
    # limit_denominator reads 0.1 as exactly one tenth, so that ten tenths sum to exactly one.
    exact = [Fraction(fraction).limit_denominator(10**9) for fraction in fractions.values()]
    if sum(exact) != 1:
        raise UsageError(f"The fractions of {dict(fractions)} sum to {float(sum(exact))}; they must sum to 1.")
    return [int(sum(exact[: i + 1]) * (1 << _HALF)) for i in range(len(exact))]


def pick_split(draw: int, bounds: Sequence[int]) -> int:
    """The index of the split that a hash in [0, 2**64) falls into."""
    return bisect_right(bounds, draw)


def num_shards(num_bytes: int, *, target_bytes: int = DEFAULT_TARGET_BYTES) -> int:
    """The number of shards, at least one, that brings their size nearest to the target.

    Rounding keeps every shard between 2/3 and 3/2 of the target, so 43-96 MB for 64 MB, wherever the split is larger.
    """
    if target_bytes <= 0:
        raise UsageError(f"target_bytes is {target_bytes}; it must be positive.")
    return max(1, (2 * num_bytes + target_bytes) // (2 * target_bytes))


def megabytes(num_bytes: int) -> str:
    """A size in MB as text: one decimal, or as many as a smaller one needs to show a digit."""
    size = num_bytes / 1e6
    return f"{size:,.{1 if not size else max(1, -math.floor(math.log10(size)))}f}"


def cut_order(sizes: np.ndarray, shards: int) -> np.ndarray:
    """The indices at which to cut a split's ordered pieces into runs of nearly equal bytes.

    Args:
      sizes: [P] bytes of each piece, in order.
      shards: how many runs are wanted; there are fewer if there are fewer non-empty pieces.

    Returns:
      [S + 1] int64, rising from 0 to P: run i is pieces [cuts[i], cuts[i + 1]), and holds some bytes unless all are 0.
    """
    ends = np.cumsum(np.asarray(sizes, np.int64))
    total = int(ends[-1]) if len(ends) else 0
    goals = np.arange(1, shards) * (total / shards)
    # Cut after the piece whose end is nearest to the goal; pieces without bytes never form a run alone.
    held = np.flatnonzero(np.diff(ends, prepend=0))
    if len(held) == 0:
        return np.array([0, len(ends)], np.int64)
    middles = ends[held] - np.diff(ends, prepend=0)[held] / 2
    after = np.clip(np.searchsorted(middles, goals), 1, len(held) - 1) if len(held) > 1 else np.zeros(0, int)
    return np.unique(np.concatenate([[0], held[after], [len(ends)]])).astype(np.int64)


def host_batches(num_batches: int, *, host_index: int, host_count: int) -> range:
    """The global batches of one host among several: host h of n gets the batches k * n + h, equally many for each host.

    Up to host_count - 1 batches can't be shared equally and are skipped; the next epoch has another order.

    Raises:
      ValueError: host_index is not in [0, host_count).
    """
    if not 0 <= host_index < host_count:
        raise UsageError(f"host_index is {host_index}; with host_count={host_count} it must be in [0, {host_count}).")
    return range(host_index, num_batches // host_count * host_count, host_count)
