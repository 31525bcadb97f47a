"""What a record carries of its image: the file, its pixels, or a model's vector.

A payload turns a batch of references into encoded records, or says why one can't become a record. Raw imports no
TensorFlow unless it is told to decode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import xxhash

from beam_jobs.models import BATCH, Embedder, load_embedder
from beam_jobs.options import Job
from beam_jobs.plan import Plan, RecordSize, Ref
from beam_jobs.shrink import Gain, Shrink, measure_gain
from beam_jobs.sources import Refused, Source, Unreadable
from beam_jobs.sources.labels import split_labels
from tfpipe.example import encode_record
from tfpipe.moments import Moments, image_moments
from tfpipe.probe import ImageHeader, NotAnImage, probe
from tfpipe.quiet import load_tensorflow
from tfpipe.records import Chunks, frame
from tfpipe.schema import Feature, ImageSpec, Schema, record_schema


class Encoded(NamedTuple):
    """A record, ready to be written.

    Attributes:
      classes: the ids of its classes: one, several with --label_kind multi, none where the label is a number.
      chunks: its whole frame.
      header: what the image file says of itself.
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


class _Loaded(NamedTuple):
    ref: Ref
    data: bytes
    header: ImageHeader


class Payload(Protocol):
    """How references become records."""

    schema: Schema
    batch_refs: int

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        """One result for each reference, in order."""


@dataclass
class _Reader:
    """Reads and probes image files, and fills in what every record has besides its image."""

    source: Source
    max_pixels: int
    class_ids: Mapping[str, int]
    columns: tuple[tuple[str, str], ...]
    label_kind: str = "class"

    def load(self, ref: Ref) -> _Loaded | Refused:
        try:
            data = self.source.read(ref)
        except Unreadable as error:
            return Refused(ref.key, ref.key, error.reason, error.detail)
        except OSError as error:
            return Refused(ref.key, ref.key, "unreadable", f"The file can't be read: {error.strerror}.")
        try:
            return _Loaded(ref, data, probe(data, max_pixels=self.max_pixels))
        except NotAnImage as error:
            return Refused(ref.key, ref.key, error.reason, str(error))

    def encoded(
        self,
        schema: Schema,
        loaded: _Loaded,
        values: dict[str, Any],
        *,
        size: tuple[int, int] | None = None,
        moments: Moments | None = None,
    ) -> Encoded:
        ref, data, header = loaded
        values["key"] = ref.key
        classes = self._add_label(ref.label, values)
        for (name, dtype), cell in zip(self.columns, ref.extras, strict=True):
            values[name] = _CELLS[dtype](cell) if dtype in _CELLS else _array_cell(cell, dtype)
        content = xxhash.xxh3_128_digest(data)
        digest = xxhash.xxh3_128_intdigest(f"{ref.key}\0{len(data)}\0".encode() + content)
        chunks = frame(encode_record(schema, values))
        return Encoded(classes, chunks, header, size, moments, content, len(data), digest)

    def _add_label(self, label: str, values: dict[str, Any]) -> tuple[int, ...]:
        """Adds the label's features to a record's values; returns the ids of its classes."""
        if self.label_kind == "class":
            values["label"], values["label_int"] = label, self.class_ids[label]
            return (values["label_int"],)
        if self.label_kind == "number":
            values["label"] = float(label)
            return ()
        pairs = sorted((self.class_ids[name], name) for name in split_labels(label))
        values["label"], values["label_int"] = tuple(name for _, name in pairs), tuple(number for number, _ in pairs)
        return values["label_int"]


_CELLS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "int64": int,
    "float32": lambda cell: float(cell) if cell else float("nan"),
}


def _array_cell(cell: str, dtype: str) -> list[Any]:
    """The numbers of an array's cell, which stand between blanks, in one flat list."""
    return [*map(int if dtype.startswith("int64") else float, cell.split())]


@dataclass
class RawPayload:
    """The file's bytes as they are, checked by signature, header and end marker; or a smaller JPEG of it."""

    reader: _Reader
    schema: Schema
    decode: bool
    shrink: Shrink | None = None
    batch_refs: int = 64

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        return [self._encode(ref) for ref in refs]

    def _encode(self, ref: Ref) -> Encoded | Refused:
        loaded = self.reader.load(ref)
        if isinstance(loaded, Refused):
            return loaded
        stored = self._shrunk(loaded)
        if isinstance(stored, Refused):
            return stored
        moments = None
        if self.decode:
            pixels = _decode(stored)
            if isinstance(pixels, Refused):
                return pixels
            moments = image_moments(pixels)
        header = stored.header
        values = {"image": stored.data, "shape": (header.height, header.width, 3), "orientation": header.orientation}
        encoded = self.reader.encoded(self.schema, loaded, values, size=header.upright_size, moments=moments)
        return encoded._replace(header=header, file_bytes=len(stored.data))

    def _shrunk(self, loaded: _Loaded) -> _Loaded | Refused:
        size = self.shrink.size(loaded.header) if self.shrink else None
        if self.shrink is None or size is None:
            return loaded
        try:
            data = self.shrink.encode(loaded.data, loaded.header, size)
        except Exception as error:  # An OpError, told apart without importing TensorFlow here.
            return _undecodable(loaded.ref, error)
        return _Loaded(loaded.ref, data, ImageHeader("jpeg", *size, 1))


@dataclass
class DecodedPayload:
    """Pixels: decoded exactly, turned upright, resized with antialiasing, rounded to whole levels.

    Floats are levels / 255, so all dtypes hold the same image, and the sums behind mean and std are exact.
    """

    reader: _Reader
    schema: Schema
    image_size: tuple[int, int] | None
    resize: str
    dtype: str
    # One image at a time: a batch of large photographs as float32 would take gigabytes.
    batch_refs: int = 1

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        return [self._encode(ref) for ref in refs]

    def _encode(self, ref: Ref) -> Encoded | Refused:
        loaded = self.reader.load(ref)
        if isinstance(loaded, Refused):
            return loaded
        pixels = _decode(loaded, self.image_size, self.resize)
        if isinstance(pixels, Refused):
            return pixels
        values = {"image": as_dtype(pixels, self.dtype), "shape": pixels.shape}
        size = (pixels.shape[0], pixels.shape[1])
        return self.reader.encoded(self.schema, loaded, values, size=size, moments=image_moments(pixels))


@dataclass
class EmbeddingPayload:
    """A model's vectors, in full batches of 32."""

    reader: _Reader
    schema: Schema
    embedder: Embedder
    resize: str
    batch_refs: int = BATCH

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        results: list[Any] = [self.reader.load(ref) for ref in refs]
        pixels: dict[int, np.ndarray] = {}
        for place, loaded in enumerate(results):
            if isinstance(loaded, _Loaded):
                image = _decode(loaded, self.embedder.image_size, self.resize)
                if isinstance(image, Refused):
                    results[place] = image
                else:
                    pixels[place] = image
        if pixels:
            vectors = self.embedder.embed(np.stack(list(pixels.values())))
            for place, vector in zip(pixels, vectors, strict=True):
                results[place] = self.reader.encoded(self.schema, results[place], {"embedding": vector})
        return results


def as_dtype(pixels: np.ndarray, dtype: str) -> np.ndarray:
    """uint8 levels as uint8, or as float32 or float16 in [0, 1]: level / 255, rounded once."""
    if dtype == "uint8":
        return pixels
    return (np.arange(256, dtype=np.float32) / np.float32(255)).astype(dtype)[pixels]


def _decode(loaded: _Loaded, size: tuple[int, int] | None = None, resize: str = "pad") -> np.ndarray | Refused:
    """The file's pixels, uint8 [H, W, 3], upright."""
    import tensorflow as tf

    from tfpipe import images

    ref, data, header = loaded
    try:
        with tf.device("CPU:0"):
            pixels = images.decode_file(data, jpeg_only=header.format == "jpeg", exact=True)
            if header.orientation > 1:
                pixels = images.turn_upright(pixels, tf.constant(header.orientation, tf.int64))
            if size is not None:
                pixels = images.resize_image(pixels, size, resize=resize, antialias=True)
            return pixels.numpy()
    except tf.errors.OpError as error:
        return _undecodable(ref, error)


def _undecodable(ref: Ref, error: Exception) -> Refused:
    said = str(getattr(error, "message", error)).splitlines()[0]
    return Refused(ref.key, ref.key, "undecodable", f"The decoder refuses it: {said}.")


def open_payload(job: Job, plan: Plan, source: Source, embedder: Embedder | None = None) -> Payload:
    """The payload of a job. Loads the model of an embedding, where it is not handed in."""
    ids = {name: number for number, name in enumerate(plan.class_names)}
    reader = _Reader(source, job.max_pixels, ids, plan.columns, job.label_kind)
    extras = extra_features(plan.columns)
    if needs_tensorflow(job):
        load_tensorflow()
    if job.payload == "raw":
        schema = record_schema("raw", ImageSpec(turned=True), extras=extras, label_kind=job.label_kind)
        return RawPayload(reader, schema, decode=job.verify == "decode", shrink=job.shrink)
    if job.payload == "decoded":
        spec = ImageSpec(job.dtype, job.image_size)
        schema = record_schema("decoded", spec, extras=extras, label_kind=job.label_kind)
        return DecodedPayload(reader, schema, job.image_size, job.resize, job.dtype)
    embedder = embedder or open_embedder(job)
    schema = record_schema("embedding", extras=extras, label_kind=job.label_kind)
    return EmbeddingPayload(reader, schema, embedder, job.resize)


def needs_tensorflow(job: Job) -> bool:
    """Whether a job decodes pixels; raw records are packed without TensorFlow."""
    return job.payload != "raw" or job.verify == "decode" or job.shrink is not None


def open_embedder(job: Job) -> Embedder:
    """The model of an embedding job."""
    load_tensorflow()
    return load_embedder(str(job.model), job.image_size, job.model_range)


def extra_features(columns: Sequence[tuple[str, str]]) -> tuple[Feature, ...]:
    """The features of the source's further columns.

    A column's dtype is "string", "int64" or "float32"; "int64[]" is an array of any length, "float32[4]" one of rows of
    four numbers.
    """
    features = []
    for name, text in columns:
        dtype, bracket, width = text.rstrip("]").partition("[")
        shape = (None, *([int(width)] if width else [])) if bracket else ()
        features.append(Feature(name, dtype, shape))
    return tuple(features)


def record_size(job: Job, sample: Sequence[Ref], source: Source, embedder: Embedder | None) -> RecordSize:
    """What the payload of a record takes, for the plan.

    Known for raw files, for decoded images of one size, and for embeddings; for decoded images of their own size it is
    the sample's bytes of pixels for each byte of file.
    """
    if job.payload == "raw":
        return RecordSize()
    if embedder is not None:
        height, width = embedder.image_size
        return RecordSize(fixed=4 * embedder.embed(np.zeros((1, height, width, 3), np.uint8)).shape[1], per_file_byte=0)
    item = 3 * np.dtype(job.dtype).itemsize
    if job.image_size is not None:
        return RecordSize(fixed=item * job.image_size[0] * job.image_size[1], per_file_byte=0)
    file_bytes, pixels = 0, 0
    for ref, header in _headers(sample, source, job.max_pixels):
        file_bytes += ref.size
        pixels += header.height * header.width
    return RecordSize(per_file_byte=item * pixels / file_bytes if file_bytes else item)


def shrink_gain(shrink: Shrink, sample: Sequence[Ref], source: Source, max_pixels: int) -> Gain:
    """What re-encoding brings, on those files of a sample that can be taken."""
    load_tensorflow()
    reader = _Reader(source, max_pixels, {}, ())
    loaded = [reader.load(ref) for ref in sample]
    return measure_gain(shrink, [one.data for one in loaded if isinstance(one, _Loaded)])


def _headers(refs: Sequence[Ref], source: Source, max_pixels: int) -> Iterator[tuple[Ref, ImageHeader]]:
    reader = _Reader(source, max_pixels, {}, ())
    for ref in refs:
        loaded = reader.load(ref)
        if isinstance(loaded, _Loaded):
            yield ref, loaded.header
