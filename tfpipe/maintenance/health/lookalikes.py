"""Folders whose images look like those of another class: the sign of a folder that got a wrong label.

Each image is compared with a sample of all others by its colours. That separates only some datasets; where
it does not separate this one's classes, nothing is said.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MOST_REFERENCES, _NEIGHBOURS, _NEAREST, _CHUNK, _BLOCKS = 8192, 7, 3, 512, 64
# Of the neighbours of all images, so many must be of the image's own class, or looks say nothing of classes.
_LEAST_AGREEMENT = 0.6
_LEAST_SHARE = 0.6
_LEAST_RECORDS = 8


class Lookalike(NamedTuple):
    """A folder that looks like another class.

    Attributes:
      folder: its path, with "/" between its parts.
      label: the class of its records.
      other: the class that they look like.
      share: of their neighbours outside of the folder, those of the other class.
      records: their numbers.
    """

    folder: str
    label: int
    other: int
    share: float
    records: np.ndarray


def find_lookalikes(looks: np.ndarray, labels: np.ndarray, folders: np.ndarray, names: list[str]) -> list[Lookalike]:
    """The folders whose images look like those of another class.

    Args:
      looks: [N, D], as measures.py makes them, of 16 or 32 bits.
      labels: int [N], -1 for none.
      folders: int [N], indices into names: the folder and label of each record.
      names: the folders.
    """
    if len(looks) < 2 * _LEAST_RECORDS or len(np.unique(labels[labels >= 0])) < 2:
        return []
    everyone = np.arange(len(looks))
    own = labels[nearest(looks, everyone, everyone)]
    if (own == labels[:, None]).mean() < _LEAST_AGREEMENT:
        return []
    found = []
    for folder in np.unique(folders):
        records = np.flatnonzero(folders == folder)
        label = int(labels[records[0]])
        mixed = _mixed_with(own[records, :_NEAREST], labels) - {label, -1}
        # Of most folders no class is mixed with theirs, and nothing outside of them needs to be compared.
        if len(records) >= _LEAST_RECORDS and label >= 0 and mixed:
            near = labels[nearest(looks, records, folders)]
            other = _vote(near.ravel())
            share = float((near == other).mean())
            if other in mixed and share >= _LEAST_SHARE:
                found.append(Lookalike(names[int(folder)], label, other, share, records))
    return [one for one in found if not any(_is_counterpart(one, another) for another in found)]


def _mixed_with(neighbours: np.ndarray, labels: np.ndarray) -> set[int]:
    """The classes of which images have neighbours as often as if they belonged to them: half of that is enough.

    A class also has a nearest other class; but it has few neighbours there, since most are of its own.
    """
    found = set()
    for other, count in zip(*np.unique(neighbours, return_counts=True), strict=True):
        others = int((labels == other).sum())
        if count / neighbours.size >= 0.5 * others / (others + len(neighbours)):
            found.add(int(other))
    return found


def _is_counterpart(one: Lookalike, another: Lookalike) -> bool:
    """Whether the smaller folder of a pair that looks alike is `another`: only that one is named."""
    mutual = (one.label, one.other) == (another.other, another.label)
    return mutual and (len(one.records), one.folder) > (len(another.records), another.folder)


def _vote(labels: np.ndarray) -> int:
    values, counts = np.unique(labels, return_counts=True)
    return int(values[np.argmax(counts)])


def nearest(looks: np.ndarray, records: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The numbers of the nearest of a sample that are not of an image's group, by distance: int [M, _NEIGHBOURS].

    Args:
      looks: [N, D], of 16 or 32 bits.
      records: [M], the numbers of the images.
      groups: int [N].
    """
    references = np.arange(0, len(looks), max(1, -(-len(looks) // _MOST_REFERENCES)))
    chosen = looks[references].astype(np.float32)
    # One product of matrices is all squares of distances but for what is the same in a row: |b|^2 - 2 ab.
    factors = np.c_[-2 * chosen, (chosen * chosen).sum(1)].T
    buffer = np.empty((_CHUNK, len(references)), np.float32)
    found = np.empty((len(records), _NEIGHBOURS), np.int64)
    for begin in range(0, len(records), _CHUNK):
        rows = records[begin : begin + _CHUNK]
        own = np.c_[looks[rows], np.ones(len(rows))].astype(np.float32)
        distances = np.matmul(own, factors, out=buffer[: len(rows)])
        np.putmask(distances, groups[rows, None] == groups[references], np.inf)
        found[begin : begin + _CHUNK] = references[_smallest(distances)]
    return found


def _smallest(values: np.ndarray) -> np.ndarray:
    """The places of the _NEIGHBOURS smallest values of each row, by value; a fifth of the time of argpartition.

    The smallest values of as many blocks bound them from above, and few other values are below that bound.
    """
    length = values.shape[1]
    blocks = min(_BLOCKS, length)
    minima = values[:, : length // blocks * blocks].reshape(len(values), -1, blocks).min(1)
    bounds = np.partition(minima, _NEIGHBOURS - 1, axis=1)[:, _NEIGHBOURS - 1 : _NEIGHBOURS]
    rows, places = np.divmod(np.flatnonzero(values <= bounds), length)
    order = np.lexsort((values[rows, places], rows))
    first = np.searchsorted(rows, np.arange(len(values)))
    return places[order][first[:, None] + np.arange(_NEIGHBOURS)]
