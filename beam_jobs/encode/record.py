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
from beam_jobs.encode.complaints import find_complaint, missing_scans
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
from tfpipe.images.decoder_lines import listening
from tfpipe.images.moments import Moments
from tfpipe.images.probe import ImageHeader, NotAnImage
from tfpipe.images.transcode import Note, Transcoding, take_file

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
      key: its key.
      notes: what its file went through: a category and a kind each.
    """

    classes: tuple[int, ...]
    chunks: Chunks
    header: ImageHeader
    size: tuple[int, int] | None
    moments: Moments | None
    content: bytes
    file_bytes: int
    digest: int
    key: str = ""
    notes: tuple[Note, ...] = ()


class Loaded(NamedTuple):
    """An image file that was read and probed.

    Attributes:
      ref: its reference.
      data: its bytes, or those of the PNG of it.
      header: the header of `data`.
      source: its bytes as they were read: the digests are theirs.
      mask: the PNG of its mask; None where the source has none.
      pixels: uint8 [H, W, 3], upright; empty until they are decoded.
      notes: what the file went through; see Encoded.
    """

    ref: Ref
    data: bytes
    header: ImageHeader
    source: bytes
    mask: bytes | None = None
    pixels: np.ndarray = _NOT_DECODED
    notes: tuple[Note, ...] = ()

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
    how: Transcoding
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
            taken = take_file(data, self.how)
        except OSError as error:
            raise Refusal("unreadable", f"The file can't be read: {error.strerror}.") from error
        except NotAnImage as error:
            raise Refusal(error.reason, str(error)) from error
        mask = None
        if self.masks is not None:
            mask = read_mask(self.masks, ref, taken.header, max_pixels=self.how.max_pixels)
        return Loaded(ref, taken.data, taken.header, data, mask, notes=taken.notes)

    def load_each(self, refs: Iterable[Ref]) -> Iterator[Loaded]:
        """Yields the files of those references that can be taken."""
        for ref in refs:
            with contextlib.suppress(Refusal):
                yield self.load(ref)


def decode(loaded: Loaded) -> Loaded:
    """The file with its pixels at their own size; raises a Refusal where the decoder fails, or pixels are missing."""
    with listening() as heard:
        try:
            pixels = decode_pixels(loaded.data, loaded.header, None, "pad")
        except Exception as error:
            raise undecodable(error) from error
        has_complaint = bool(heard())
    return with_complaint(loaded, has_complaint)._replace(pixels=pixels)


def with_complaint(loaded: Loaded, has_complaint: bool) -> Loaded:
    """The file with a note of what the decoder complains of; raises a Refusal where pixels are missing.

    Args:
      loaded: a file that was decoded.
      has_complaint: whether there was a complaint, of this file or of another.
    """
    if loaded.header.format != "jpeg":
        return loaded
    missing = missing_scans(loaded.data)
    if missing:
        raise Refusal("corrupt_pixels", f"The JPEG ends before its last scan: {missing}.")
    if not has_complaint:
        return loaded
    said = find_complaint(loaded.data, lambda data: decode_pixels(data, loaded.header, None, "pad"))
    return loaded if said is None else loaded._replace(notes=(*loaded.notes, ("complaints", said)))


def decode_all(loaded: Sequence[Loaded | Refused], size: tuple[int, int] | None, resize: str) -> list[Loaded | Refused]:
    """The files with their pixels, resized where a size is given; all of one size are decoded in one call."""
    if size is None:
        return keep_refusals(decode, loaded)
    pairs = [(one.data, one.header) for one in loaded if isinstance(one, Loaded)]
    with listening() as heard:
        decoded = iter(decode_batch(pairs, size, resize))
        has_complaint = bool(heard())

    def with_pixels(one: Loaded) -> Loaded:
        pixels = next(decoded)
        if isinstance(pixels, Exception):
            raise undecodable(pixels)
        return with_complaint(one, has_complaint)._replace(pixels=pixels)

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
        ref, _, header, data, mask, _, notes = loaded
        values["key"] = key = ref.key.encode()
        classes = self._add_label(ref.label, values)
        for (name, dtype), cell in zip(self._columns, ref.extras, strict=True):
            if dtype != MASK_COLUMN:
                values[name] = cell_value(cell, dtype)
        content = xxhash.xxh3_128_digest(data)
        identity = b"%b\0%d\0%b" % (key, len(data), content)
        digest = xxhash.xxh3_128_intdigest(identity if mask is None else identity + xxhash.xxh3_128_digest(mask))
        chunks = frame(self._encode(values))
        return Encoded(classes, chunks, header, size, moments, content, len(data), digest, ref.key, notes)

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
