"""Folders whose images look like those of another class: the sign of a folder that got a wrong label.

Each image is compared with a sample of all others by its colours. That separates only some datasets; where
it does not separate this one's classes, nothing is said.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MOST_REFERENCES, _NEIGHBOURS, _NEAREST, _CHUNK = 8192, 7, 3, 256
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
      looks: [N, D] float32, as measures.py makes them.
      labels: int [N], -1 for none.
      folders: int [N], indices into names: the folder and label of each record.
      names: the folders.
    """
    if len(looks) < 2 * _LEAST_RECORDS or len(np.unique(labels[labels >= 0])) < 2:
        return []
    own = labels[_nearest(looks, np.arange(len(looks)))]
    if (own == labels[:, None]).mean() < _LEAST_AGREEMENT:
        return []
    near = labels[_nearest(looks, folders)]
    found = []
    for folder in np.unique(folders):
        records = np.flatnonzero(folders == folder)
        label = int(labels[records[0]])
        if len(records) >= _LEAST_RECORDS and label >= 0:
            other = _vote(near[records].ravel())
            share = float((near[records] == other).mean())
            if other not in (label, -1) and share >= _LEAST_SHARE and _is_mixed(own[records, :_NEAREST], labels, other):
                found.append(Lookalike(names[int(folder)], label, other, share, records))
    return [one for one in found if not any(_is_counterpart(one, another) for another in found)]


def _is_mixed(neighbours: np.ndarray, labels: np.ndarray, other: int) -> bool:
    """Whether images have neighbours of a class as often as if they belonged to it: half of that is enough.

    A class also has a nearest other class; but it has few neighbours there, since most are of its own.
    """
    others = int((labels == other).sum())
    return float((neighbours == other).mean()) >= 0.5 * others / (others + len(neighbours))


def _is_counterpart(one: Lookalike, another: Lookalike) -> bool:
    """Whether the smaller folder of a pair that looks alike is `another`: only that one is named."""
    mutual = (one.label, one.other) == (another.other, another.label)
    return mutual and (len(one.records), one.folder) > (len(another.records), another.folder)


def _vote(labels: np.ndarray) -> int:
    values, counts = np.unique(labels, return_counts=True)
    return int(values[np.argmax(counts)])


def _nearest(looks: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each image, the numbers of the _NEIGHBOURS nearest of a sample that are not of its group, by distance."""
    count = len(looks)
    step = max(1, -(-count // _MOST_REFERENCES))
    references = np.arange(0, count, step)
    chosen = looks[references]
    squares = (chosen * chosen).sum(1)
    parts = []
    for begin in range(0, count, _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        distances = squares - 2 * looks[rows] @ chosen.T
        distances[groups[rows, None] == groups[references]] = np.inf
        nearest = np.argpartition(distances, min(_NEIGHBOURS, len(references) - 1), axis=1)[:, :_NEIGHBOURS]
        order = np.argsort(np.take_along_axis(distances, nearest, 1), axis=1)
        parts.append(references[np.take_along_axis(nearest, order, 1)])
    return np.concatenate(parts)
