"""Images that are the same or nearly the same: groups of records, by digest and by perceptual hash.

Two images are nearly the same where at most MOST_BITS of their hashes differ and their lowest frequencies point the
same way. Images of hardly any contrast are left out: those of two clear skies agree, too.
"""

from __future__ import annotations

import numpy as np

MOST_BITS = 12
_LEAST_COSINE = 0.94
# The least length of the vector of frequencies, of 32 x 32 pixels: a contrast of some 1.5 levels.
_LEAST_STRENGTH = 50.0


def same_groups(digests: np.ndarray) -> list[np.ndarray]:
    """The groups of at least two equal digests: the numbers of their records, sorted.

    Args:
      digests: [N], of any dtype that sorts.
    """
    order = np.argsort(digests, kind="stable")
    sorted_digests = digests[order]
    starts = np.flatnonzero(np.r_[True, sorted_digests[1:] != sorted_digests[:-1]])
    return [np.sort(group) for group in np.split(order, starts[1:]) if len(group) > 1]


def near_groups(hashes: np.ndarray, shapes: np.ndarray, strengths: np.ndarray) -> list[np.ndarray]:
    """The groups of images that are nearly the same: the numbers of their records, sorted.

    Every pair is compared, by XOR and a count of bits: N**2 / 2 steps of half a nanosecond, 5 CPU seconds for 100,000.

    Args:
      hashes: uint64 [N].
      shapes: [N, D], vectors of length 1.
      strengths: [N], their lengths before.
    """
    chosen = np.flatnonzero(strengths >= _LEAST_STRENGTH)
    hashes, shapes = hashes[chosen], shapes[chosen]
    parents = np.arange(len(chosen))
    for number in range(len(chosen) - 1):
        distances = np.bitwise_count(hashes[number + 1 :] ^ hashes[number])
        close = number + 1 + np.flatnonzero(distances <= MOST_BITS)
        if len(close):
            vectors = shapes[close].astype(np.float32) @ shapes[number].astype(np.float32)
            for other in close[vectors >= _LEAST_COSINE]:
                _join(parents, number, int(other))
    roots = np.array([_root(parents, number) for number in range(len(chosen))], np.int64)
    return [chosen[group] for group in same_groups(roots)]


def _root(parents: np.ndarray, number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = int(parents[number])
    return number


def _join(parents: np.ndarray, one: int, other: int) -> None:
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first
