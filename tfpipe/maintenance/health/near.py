"""Images that are the same or nearly the same: groups of records, by digest and by perceptual hash.

Two images are nearly the same where at most MOST_BITS of their hashes differ and their lowest frequencies point the
same way. Images of hardly any contrast are left out: those of two clear skies agree, too. Where most images of a
dataset are alike by a looser measure, as handwritten digits are, its near duplicates can't be told from the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfpipe.maintenance.examine import OnStep

MOST_BITS = 12
_LEAST_COSINE = 0.94
# Of digits, 54 % of 200 and 85 % of 1,000 have another as near as this; of crops of photographs, at most 2 %.
_ALIKE_BITS, _ALIKE_COSINE = 20, 0.85
# The least length of the vector of frequencies, of 32 x 32 pixels: a contrast of some 1.5 levels.
_LEAST_STRENGTH = 50.0
# Pairs are compared in tiles of so many rows and columns, whose bits fit into a core's cache; where more of a tile than
# this is close, one product of matrices is faster than the products of its close pairs.
_ROWS, _COLUMNS, _CLOSE_SHARE = 64, 2048, 0.02


class _Pairs(NamedTuple):
    """Pairs of images, by their numbers: those alike, and which of these are nearly the same."""

    ones: np.ndarray
    others: np.ndarray
    same: np.ndarray


def same_groups(digests: np.ndarray) -> list[np.ndarray]:
    """The groups of at least two equal digests: the numbers of their records, sorted.

    Args:
      digests: [N], of any dtype that sorts.
    """
    order = np.argsort(digests, kind="stable")
    sorted_digests = digests[order]
    starts = np.flatnonzero(np.r_[True, sorted_digests[1:] != sorted_digests[:-1]])
    return [np.sort(group) for group in np.split(order, starts[1:]) if len(group) > 1]


def near_groups(
    hashes: np.ndarray,
    shapes: np.ndarray,
    strengths: np.ndarray,
    *,
    most_alike: float = np.inf,
    on_step: OnStep = lambda done, total: None,
) -> tuple[list[np.ndarray], int]:
    """The groups of images that are nearly the same, and how many images are alike.

    Every pair is compared, by XOR and a count of bits: N**2 / 2 steps, some 10 CPU seconds for 100,000 records.

    Args:
      hashes: uint64 [N].
      shapes: [N, D], vectors of length 1.
      strengths: [N], their lengths before.
      most_alike: the comparison ends, with no groups, when more images than this are found to be alike.
      on_step: called with the numbers of images that were compared with all others, and of all.

    Returns:
      For each group the numbers of its records, sorted; and the number of images that another one resembles by the
      looser measure, or of those that were found when the comparison ended.
    """
    chosen = np.flatnonzero(strengths >= _LEAST_STRENGTH)
    hashes, shapes = hashes[chosen], shapes[chosen].astype(np.float32)
    roots, alike = np.arange(len(chosen)), np.zeros(len(chosen), bool)
    for pairs in _alike_pairs(hashes, shapes, on_step):
        alike[pairs.ones] = alike[pairs.others] = True
        if alike.sum() > most_alike:
            return [], int(alike.sum())
        roots = _joined(roots, pairs.ones[pairs.same], pairs.others[pairs.same])
    return [chosen[group] for group in same_groups(roots)], int(alike.sum())


def _alike_pairs(hashes: np.ndarray, shapes: np.ndarray, on_step: OnStep) -> Iterator[_Pairs]:
    """Yields the pairs that are alike by the looser measure, some at a time."""
    # One buffer for all tiles: to get memory for each takes longer than to fill it.
    buffer = np.empty(_ROWS * _COLUMNS, np.uint64)
    for top in range(0, len(hashes), _ROWS):
        rows = slice(top, top + _ROWS)
        for left in range(top, len(hashes), _COLUMNS):
            columns = slice(left, left + _COLUMNS)
            shape = len(hashes[rows]), len(hashes[columns])
            different = buffer[: shape[0] * shape[1]].reshape(shape)
            bits = np.bitwise_count(np.bitwise_xor(hashes[rows, None], hashes[columns], out=different))
            close = bits <= _ALIKE_BITS
            if np.count_nonzero(close) > _CLOSE_SHARE * close.size:
                close &= shapes[rows] @ shapes[columns].T >= _ALIKE_COSINE
            ones, others = np.divmod(np.flatnonzero(close), shape[1])
            cosines = np.einsum("nd,nd->n", shapes[ones + top], shapes[others + left])
            # In the tiles on the diagonal, each pair counts once, and no image is its own.
            alike = (cosines >= _ALIKE_COSINE) & (ones + top < others + left)
            same = (cosines >= _LEAST_COSINE) & (bits[ones, others] <= MOST_BITS)
            if alike.any():
                yield _Pairs(ones[alike] + top, others[alike] + left, same[alike])
        on_step(min(top + _ROWS, len(hashes)), len(hashes))


def _joined(roots: np.ndarray, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The root of each image after some were joined: the first of its group. Where all have theirs, nothing is done."""
    while (apart := roots[ones] != roots[others]).any():
        ones, others = ones[apart], others[apart]
        first, second = roots[ones], roots[others]
        roots = roots.copy()
        np.minimum.at(roots, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(shorter := roots[roots], roots):
            roots = shorter
    return roots
