"""What a record carries of its image: the file, its pixels, or a model's vector.

A payload turns a batch of references into encoded records, or says why one can't become a record. Raw imports no
TensorFlow unless it is told to decode.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import xxhash

from beam_jobs.models import BATCH, Embedder, load_embedder
from beam_jobs.options import Job
from beam_jobs.plan import Plan, RecordSize, Ref
from beam_jobs.sources import Refused, Source
from tfpipe.example import encode_record
from tfpipe.moments import Moments, image_moments
from tfpipe.probe import ImageHeader, NotAnImage, probe
from tfpipe.quiet import load_tensorflow
from tfpipe.records import Chunks, frame
from tfpipe.schema import Feature, ImageSpec, Schema, record_schema


class Encoded(NamedTuple):
    """A record, ready to be written.

    Attributes:
      label_int: its class.
      chunks: its whole frame.
      header: what the image file says of itself.
      size: (height, width) of the image that a reader gets; None for an embedding.
      moments: of its pixels; None where they were not decoded.
      content: a digest of the file's bytes: 16 bytes.
      file_bytes: the file's size.
      digest: of key, size and content of the file, for the order-free digest of the source.
    """

    label_int: int
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

    def load(self, ref: Ref) -> _Loaded | Refused:
        try:
            data = _read_file(self.source.path(ref.key), ref.size)
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
        label_int = self.class_ids[ref.label]
        values |= {"key": ref.key, "label": ref.label, "label_int": label_int}
        for (name, dtype), cell in zip(self.columns, ref.extras, strict=True):
            values[name] = _CELLS[dtype](cell)
        content = xxhash.xxh3_128_digest(data)
        digest = xxhash.xxh3_128_intdigest(f"{ref.key}\0{len(data)}\0".encode() + content)
        chunks = frame(encode_record(schema, values))
        return Encoded(label_int, chunks, header, size, moments, content, len(data), digest)


def _read_file(path: str, expected: int) -> bytes:
    """The file's bytes: three system calls where the size is as expected; open() makes seven."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(handle, expected + 1)
        while len(data) != expected:  # It changed since it was listed, or the read came short, as across a network.
            more = os.read(handle, 1 << 20)
            if not more:
                break
            data += more
        return data
    finally:
        os.close(handle)


_CELLS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "int64": int,
    "float32": lambda cell: float(cell) if cell else float("nan"),
}


@dataclass
class RawPayload:
    """The file's bytes as they are, checked by signature, header and end marker."""

    reader: _Reader
    schema: Schema
    decode: bool
    batch_refs: int = 64

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        return [self._encode(ref) for ref in refs]

    def _encode(self, ref: Ref) -> Encoded | Refused:
        loaded = self.reader.load(ref)
        if isinstance(loaded, Refused):
            return loaded
        moments = None
        if self.decode:
            pixels = _decode(loaded)
            if isinstance(pixels, Refused):
                return pixels
            moments = image_moments(pixels)
        header = loaded.header
        values = {"image": loaded.data, "shape": (header.height, header.width, 3), "orientation": header.orientation}
        return self.reader.encoded(self.schema, loaded, values, size=header.upright_size, moments=moments)


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
        return Refused(ref.key, ref.key, "undecodable", f"The decoder refuses it: {error.message.splitlines()[0]}.")


def open_payload(job: Job, plan: Plan, source: Source, embedder: Embedder | None = None) -> Payload:
    """The payload of a job. Loads the model of an embedding, where it is not handed in."""
    ids = {name: number for number, name in enumerate(plan.class_names)}
    reader = _Reader(source, job.max_pixels, ids, plan.columns)
    extras = extra_features(plan.columns)
    if needs_tensorflow(job):
        load_tensorflow()
    if job.payload == "raw":
        schema = record_schema("raw", ImageSpec(turned=True), extras=extras)
        return RawPayload(reader, schema, decode=job.verify == "decode")
    if job.payload == "decoded":
        schema = record_schema("decoded", ImageSpec(job.dtype, job.image_size), extras=extras)
        return DecodedPayload(reader, schema, job.image_size, job.resize, job.dtype)
    embedder = embedder or open_embedder(job)
    return EmbeddingPayload(reader, record_schema("embedding", extras=extras), embedder, job.resize)


def needs_tensorflow(job: Job) -> bool:
    """Whether a job decodes pixels; raw records are packed without TensorFlow."""
    return job.payload != "raw" or job.verify == "decode"


def open_embedder(job: Job) -> Embedder:
    """The model of an embedding job."""
    load_tensorflow()
    return load_embedder(str(job.model), job.image_size, job.model_range)


def extra_features(columns: Sequence[tuple[str, str]]) -> tuple[Feature, ...]:
    """The features of the source's further columns."""
    return tuple(Feature(name, dtype) for name, dtype in columns)


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


def _headers(refs: Sequence[Ref], source: Source, max_pixels: int) -> Iterator[tuple[Ref, ImageHeader]]:
    reader = _Reader(source, max_pixels, {}, ())
    for ref in refs:
        loaded = reader.load(ref)
        if isinstance(loaded, _Loaded):
            yield ref, loaded.header
