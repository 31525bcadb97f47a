"""From a file to a record: what every payload shares. Reading and probing, decoding, packing, and what is refused.

Each step is a function of one file that raises a Refusal where the file can't become a record. `keep_refusals` applies
a step to a batch: a refused file keeps its position, as the line that rejected.jsonl gets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import xxhash

from beam_jobs.encode.columns import cell_value
from beam_jobs.encode.masks import mask_pixels, read_mask
from beam_jobs.encode.pixels import decode_batch, decode_pixels, decoder_sentence
from beam_jobs.job import Job
from beam_jobs.plan import Plan
from beam_jobs.sources import Ref, Refusal, Refused, Source
from beam_jobs.sources.labels import split_labels
from beam_jobs.sources.listing import MASK_COLUMN, MaskReader
from tfpipe.format.example import record_encoder
from tfpipe.format.framing import Chunks, frame
from tfpipe.format.schema import Schema
from tfpipe.images.moments import Moments
from tfpipe.images.probe import ImageHeader, NotAnImage, probe

_NOT_DECODED = np.empty((0, 0, 3), np.uint8)

_In = TypeVar("_In", "Ref", "Loaded")
_Out = TypeVar("_Out", "Loaded", "Encoded")


class Encoded(NamedTuple):
    """A record, ready to be written.

    Attributes:
      classes: the ids of its classes: one, several with --label_kind multi, none where the label is a number or
        there is none.
      chunks: its whole frame.
      header: the header of the image file.
      size: (height, width) of the image that a reader gets; None for an embedding.
      moments: of its pixels; None where they were not decoded.
      content: a digest of the file's bytes: 16 bytes.
      file_bytes: the file's size.
      digest: of key, size and content of the file, for the order-free digest of the source.
    """

    classes: tuple[int, ...]
    chunks: Chunks
    header: ImageHeader
    size: tuple[int, int] | None
    moments: Moments | None
    content: bytes
    file_bytes: int
    digest: int


class Loaded(NamedTuple):
    """An image file that was read and probed.

    Attributes:
      ref: its reference.
      data: its bytes.
      header: its header.
      mask: the PNG of its mask; None where the source has none.
      pixels: uint8 [H, W, 3], upright; empty until they are decoded.
    """

    ref: Ref
    data: bytes
    header: ImageHeader
    mask: bytes | None = None
    pixels: np.ndarray = _NOT_DECODED

    @property
    def key(self) -> str:
        """The key of its record."""
        return self.ref.key


def keep_refusals(step: Callable[[_In], _Out], items: Iterable[_In | Refused]) -> list[_Out | Refused]:
    """The results of a step in order; refused items pass through, and an item that the step refuses becomes Refused."""

    def result(item: _In | Refused) -> _Out | Refused:
        if isinstance(item, Refused):
            return item
        try:
            return step(item)
        except Refusal as refusal:
            return refusal.of(item.key)

    return [result(item) for item in items]


@dataclass(frozen=True)
class Files:
    """Reads and probes image files, and the masks of a source that has some."""

    source: Source
    max_pixels: int
    masks: MaskReader | None = None

    def load(self, ref: Ref) -> Loaded:
        """The file of a reference.

        Raises:
          Refusal: it can't be read, is no image that records may hold, or its mask can't be taken.
        """
        fill_cells = getattr(self.source, "fill_cells", None)
        try:
            ref = ref if fill_cells is None else fill_cells(ref)
            data = self.source.read(ref)
            header = probe(data, max_pixels=self.max_pixels)
        except OSError as error:
            raise Refusal("unreadable", f"The file can't be read: {error.strerror}.") from error
        except NotAnImage as error:
            raise Refusal(error.reason, str(error)) from error
        if self.masks is None:
            return Loaded(ref, data, header)
        return Loaded(ref, data, header, read_mask(self.masks, ref, header, max_pixels=self.max_pixels))

    def load_each(self, refs: Iterable[Ref]) -> Iterator[Loaded]:
        """Yields the files of those references that can be taken."""
        for ref in refs:
            with contextlib.suppress(Refusal):
                yield self.load(ref)


def decode(loaded: Loaded) -> Loaded:
    """The file with its pixels at their own size; raises a Refusal where the decoder fails."""
    try:
        return loaded._replace(pixels=decode_pixels(loaded.data, loaded.header, None, "pad"))
    except Exception as error:
        raise undecodable(error) from error


def decode_all(loaded: Sequence[Loaded | Refused], size: tuple[int, int] | None, resize: str) -> list[Loaded | Refused]:
    """The files with their pixels, resized where a size is given; all of one size are decoded in one call."""
    if size is None:
        return keep_refusals(decode, loaded)
    pairs = [(one.data, one.header) for one in loaded if isinstance(one, Loaded)]
    decoded = iter(decode_batch(pairs, size, resize))

    def with_pixels(one: Loaded) -> Loaded:
        pixels = next(decoded)
        if isinstance(pixels, Exception):
            raise undecodable(pixels)
        return one._replace(pixels=pixels)

    return keep_refusals(with_pixels, loaded)


def decode_mask(loaded: Loaded, size: tuple[int, int] | None, resize: str, *, fill: int = 0) -> np.ndarray | None:
    """The values of the mask, resized as its image, with fill around it; None where there is none."""
    return None if loaded.mask is None else mask_pixels(loaded.mask, loaded.header, size, resize, fill=fill)


def undecodable(error: Exception) -> Refusal:
    """The refusal of a file whose decoder raised an OpError; raises any other error.

    Distinguished here, and not by an `except`: nothing above imports TensorFlow.
    """
    from tensorflow.errors import OpError

    if not isinstance(error, OpError):
        raise error
    return Refusal("undecodable", f"The decoder refuses it: {decoder_sentence(error)}.")


class Packer:
    """Packs records, and fills in what every record has besides its image."""

    def __init__(self, job: Job, plan: Plan, schema: Schema) -> None:
        self._class_ids = {name: number for number, name in enumerate(plan.class_names)}
        self._columns = plan.columns
        self._label_kind = job.label_kind
        self._encode = record_encoder(schema)

    def pack(
        self, loaded: Loaded, values: dict[str, Any], *, size: tuple[int, int] | None, moments: Moments | None
    ) -> Encoded:
        """The record of a file, with the values of its payload; see Encoded for size and moments."""
        ref, data, header, mask, _ = loaded
        values["key"] = key = ref.key.encode()
        classes = self._add_label(ref.label, values)
        for (name, dtype), cell in zip(self._columns, ref.extras, strict=True):
            if dtype != MASK_COLUMN:
                values[name] = cell_value(cell, dtype)
        content = xxhash.xxh3_128_digest(data)
        identity = b"%b\0%d\0%b" % (key, len(data), content)
        digest = xxhash.xxh3_128_intdigest(identity if mask is None else identity + xxhash.xxh3_128_digest(mask))
        return Encoded(classes, frame(self._encode(values)), header, size, moments, content, len(data), digest)

    def _add_label(self, label: str, values: dict[str, Any]) -> tuple[int, ...]:
        """Adds the label's features to a record's values; returns the ids of its classes."""
        if self._label_kind == "none":
            return ()
        if self._label_kind == "class":
            values["label"], values["label_int"] = label, self._class_ids[label]
            return (values["label_int"],)
        if self._label_kind == "number":
            values["label"] = float(label)
            return ()
        pairs = sorted((self._class_ids[name], name) for name in split_labels(label))
        values["label"], values["label_int"] = tuple(name for _, name in pairs), tuple(number for number, _ in pairs)
        return values["label_int"]
