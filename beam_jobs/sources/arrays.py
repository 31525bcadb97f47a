"""The rows of arrays as a source: what arrays may hold, and the reference of each row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_jobs.sources.listing import BETWEEN_LABELS, Listed, Ref, name_problem
from tfpipe.errors import UsageError

# Float images are checked this many bytes at a time.
_CHECK_BYTES = 1 << 24
_KEY_DIGITS = 8
_WHOLE_NUMBER = re.compile(r"0|[1-9]\d*")


@dataclass(frozen=True)
class Rows:
    """The rows of an array; see Source. A row's locator is its number.

    Attributes:
      count: of the rows.
      keys: of each row; None takes its number, with zeros in front, so that the keys sort as the rows.
      ids: the class of each row, int64 [N]; None where there are no labels.
      class_names: the classes, in the order of their ids.
      num_bytes: of each row's image.
    """

    count: int
    keys: Sequence[str] | None
    ids: np.ndarray | None
    class_names: tuple[str, ...]
    num_bytes: int
    columns: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    splits: tuple[str, ...] = ()
    label_kinds: tuple[str, ...] = ("class", "none")

    def pieces(self, limit: int | None) -> list[Any]:  # see Source, as all below
        return [None]

    def entries(self, piece: Any) -> Iterator[Listed]:
        digits = max(_KEY_DIGITS, len(str(self.count - 1)))
        for number in range(self.count):
            key = f"{number:0{digits}d}" if self.keys is None else self.keys[number]
            label = "" if self.ids is None else self.class_names[self.ids[number]]
            yield Listed(key, label, "", self.num_bytes, (), str(number))

    def read(self, ref: Ref) -> bytes:
        raise NotImplementedError("Rows are read from their array, not as files.")


def check_images(images: npt.ArrayLike) -> np.ndarray:
    """The images as one array [N, H, W, C], not copied.

    Raises:
      UsageError: the type or the shape is another, a float is outside [0, 1], or there is no image.
    """
    array = np.asanyarray(images)
    if array.dtype.type not in (np.uint8, np.float32) or isinstance(array, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(array, np.ma.MaskedArray) else f"of type {array.dtype}"
        raise UsageError(
            f"images is {kind}; it takes uint8, or float32 in [0, 1]: images.astype('uint8') keeps values of 0 to 255."
        )
    if array.ndim not in (3, 4):
        raise UsageError(f"images has the shape {array.shape}; it takes [N, H, W, C], or [N, H, W] for gray.")
    if not len(array):
        raise UsageError(f"images has the shape {array.shape}: there is no image.")
    if 0 in array.shape:
        raise UsageError(f"images has the shape {array.shape}: height, width and channels must be at least 1.")
    if array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] > 4:
        raise UsageError(
            f"images has the shape {array.shape}, with the channels first; they come last: np.moveaxis(images, 1, -1)."
        )
    if array.dtype.type is np.float32:
        _check_floats(array)
    return array if array.ndim == 4 else array[..., np.newaxis]


def _check_floats(images: np.ndarray) -> None:
    step = max(1, _CHECK_BYTES // images[0].nbytes)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        valid = (part >= 0) & (part <= 1)  # false for NaN
        if not valid.all():
            first = np.argwhere(~valid)[0]
            value, number = part[tuple(first)], start + int(first[0])
            raise UsageError(
                f"images[{number}] holds {value}; float images are in [0, 1]: divide by 255, or pass uint8."
            )


def check_keys(keys: Sequence[str] | None, count: int) -> list[str] | None:
    """The key of each of `count` rows, where some are given.

    Raises:
      UsageError: there are more or fewer, or a key is no text, empty or repeated.
    """
    if keys is None:
        return None
    found = _listed(keys, "keys", "a text for each image")
    _check_length(found, "keys", count)
    first: dict[str, int] = {}
    for number, key in enumerate(found):
        _check_text(key, f"keys[{number}]")
        if first.setdefault(key, number) != number:
            raise UsageError(f"keys[{number}] is {key!r}, as keys[{first[key]}] is; each record has a key of its own.")
    return found


def check_labels(
    labels: npt.ArrayLike | None, class_names: Sequence[str] | None, count: int
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The class id of each of `count` rows, int64 [N] or None, and the classes' names in the order of their ids.

    Raises:
      UsageError: the labels are neither integers nor texts, there are more or fewer, or one is of no class.
    """
    names = None if class_names is None else _check_names(class_names)
    if labels is None:
        if names is not None:
            raise UsageError("class_names goes with labels; labels is None.")
        return None, ()
    values = np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:  # as keras.datasets.cifar10 has them
        values = values[:, 0]
    if values.ndim != 1:
        hint = "; one-hot rows become integers by labels.argmax(1)" if values.ndim == 2 else ""
        raise UsageError(f"labels has the shape {values.shape}; it takes one label for each image, [N]{hint}.")
    _check_length(values, "labels", count)
    if values.dtype == object and all(isinstance(one, int | np.integer) for one in values):
        values = values.astype(np.int64)
    if values.dtype.kind in "iu":
        return _from_numbers(values, names)
    if values.dtype.kind in "UTO":
        return _from_texts(values.tolist(), names)
    ways = {"f": ": labels.astype(int)", "b": ": labels.astype(int)", "S": ": labels.astype(str)"}
    way = ways.get(values.dtype.kind, "")
    raise UsageError(f"labels is of type {values.dtype}; it takes integers or texts{way}.")


def _from_numbers(values: np.ndarray, names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    below = np.flatnonzero(values < 0)
    if len(below):
        text = f"labels[{below[0]}] is {values[below[0]]}; integers count from 0"
        raise UsageError(f"{text}. If it marks images without a label, write those apart, with labels=None.")
    if names is None:
        found, ids = np.unique(values, return_inverse=True)
        return ids.astype(np.int64), tuple(map(str, found.tolist()))
    beyond = np.flatnonzero(values >= len(names))
    if len(beyond):
        number = beyond[0]
        raise UsageError(f"labels[{number}] is {values[number]}; class_names has {len(names)}, from 0 on.")
    return values.astype(np.int64), names


def _from_texts(texts: list[Any], names: tuple[str, ...] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    known = None if names is None else set(names)
    for number, text in enumerate(texts):
        _check_text(text, f"labels[{number}]")
        if known is not None and text not in known:
            raise UsageError(f"labels[{number}] is {text!r}, which is not in class_names.")
    if names is None:
        found = sorted(set(texts))
        names = tuple(sorted(found, key=int) if all(map(_WHOLE_NUMBER.fullmatch, found)) else found)
    ids = {name: number for number, name in enumerate(names)}
    return np.fromiter((ids[text] for text in texts), np.int64, len(texts)), names


def _check_names(class_names: Sequence[str]) -> tuple[str, ...]:
    names = _listed(class_names, "class_names", "a text for each class")
    for number, name in enumerate(names):
        _check_text(name, f"class_names[{number}]")
        if names.index(name) != number:
            raise UsageError(f"class_names[{number}] is {name!r}, as class_names[{names.index(name)}] is.")
    if not names:
        raise UsageError("class_names is empty.")
    return tuple(names)


def _listed(values: Any, what: str, wanted: str) -> list[Any]:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise UsageError(f"{what} is {values!r}; it takes a sequence with {wanted}.")
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _check_length(values: Any, what: str, count: int) -> None:
    if len(values) != count:
        raise UsageError(f"There are {count:,} images and {len(values):,} {what}; each image takes one.")


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{what} is {text!r}, of type {type(text).__name__}; it must be a text.")
    if not text.strip() or BETWEEN_LABELS in text or name_problem(text):
        raise UsageError(f"{what} is {text!r}; it must be a text that is not blank and holds no control character.")
