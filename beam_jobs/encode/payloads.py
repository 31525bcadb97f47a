"""What a record carries of its image: the file, its pixels, or a model's vector.

A payload turns a batch of references into encoded records, or says why one can't become a record. Raw imports no
TensorFlow unless it is told to decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import xxhash

from beam_jobs.encode.columns import boxes_place, cell_value, extra_features, move_boxes
from beam_jobs.encode.masks import has_masks, mask_pixels, mask_reader, read_mask, smaller_mask
from beam_jobs.encode.models import BATCH, Embedder, load_embedder
from beam_jobs.encode.pixels import decode_batch, decode_pixels, decoder_sentence
from beam_jobs.encode.shrink import Gain, Shrink, measure_gain
from beam_jobs.job import Job
from beam_jobs.plan import Plan, RecordSize, Ref
from beam_jobs.sources import Refused, Source, Unreadable
from beam_jobs.sources.labels import split_labels
from beam_jobs.sources.listing import MASK_COLUMN, MaskReader
from tfpipe.format.example import record_encoder
from tfpipe.format.framing import Chunks, frame
from tfpipe.format.schema import ImageSpec, Schema, record_schema
from tfpipe.images.moments import Moments, image_moments
from tfpipe.images.probe import ImageHeader, NotAnImage, probe
from tfpipe.quiet import load_tensorflow


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


# What a batch of images of one size may take. As many as this share a call, and threads change hands rarely.
_BATCH_BYTES = 1 << 21


class _Loaded(NamedTuple):
    ref: Ref
    data: bytes
    header: ImageHeader
    mask: bytes | None = None


class Payload(Protocol):
    """How references become records."""

    schema: Schema
    divisible: bool  # whether a smaller batch costs less

    @property
    def batch_refs(self) -> int:
        """How many references to encode at once, at most."""

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        """One result for each reference, in order."""


@dataclass(frozen=True)
class _Files:
    """Reads and probes image files, and the masks of a source that has some."""

    source: Source
    max_pixels: int
    masks: MaskReader | None = None

    def load(self, ref: Ref) -> _Loaded | Refused:
        try:
            data = self.source.read(ref)
            header = probe(data, max_pixels=self.max_pixels)
            if self.masks is None:
                return _Loaded(ref, data, header)
            return _Loaded(ref, data, header, read_mask(self.masks, ref, header, max_pixels=self.max_pixels))
        except Unreadable as error:
            return Refused(ref.key, ref.key, error.reason, error.detail)
        except OSError as error:
            return Refused(ref.key, ref.key, "unreadable", f"The file can't be read: {error.strerror}.")
        except NotAnImage as error:
            return Refused(ref.key, ref.key, error.reason, str(error))


class _Packer:
    """Packs records, and fills in what every record has besides its image."""

    def __init__(self, job: Job, plan: Plan, schema: Schema) -> None:
        self._class_ids = {name: number for number, name in enumerate(plan.class_names)}
        self._columns = plan.columns
        self._label_kind = job.label_kind
        self._encode = record_encoder(schema)

    def pack(
        self,
        loaded: _Loaded,
        values: dict[str, Any],
        *,
        size: tuple[int, int] | None = None,
        moments: Moments | None = None,
    ) -> Encoded:
        ref, data, header, mask = loaded
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
        if self._label_kind == "class":
            values["label"], values["label_int"] = label, self._class_ids[label]
            return (values["label_int"],)
        if self._label_kind == "number":
            values["label"] = float(label)
            return ()
        pairs = sorted((self._class_ids[name], name) for name in split_labels(label))
        values["label"], values["label_int"] = tuple(name for _, name in pairs), tuple(number for number, _ in pairs)
        return values["label_int"]


@dataclass
class RawPayload:
    """The file's bytes as they are, checked by signature, header and end marker; or a smaller JPEG of it."""

    files: _Files
    packer: _Packer
    schema: Schema
    decode: bool
    shrink: Shrink | None = None
    boxes: int | None = None
    # Some 0.5 MB: what a batch reads is still in the processor's cache when it is digested and written.
    batch_refs: int = 16
    divisible: bool = True

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        return [self._encode(ref) for ref in refs]

    def _encode(self, ref: Ref) -> Encoded | Refused:
        loaded = self.files.load(ref)
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
            if isinstance(mask := _mask(stored), Refused):
                return mask
        _, data, header, _ = stored
        values = {"image": data, "shape": (header.height, header.width, 3), "orientation": header.orientation}
        if stored.mask is not None:
            values["mask"] = stored.mask
        if stored is not loaded:
            loaded = loaded._replace(ref=stored.ref)
        encoded = self.packer.pack(loaded, values, size=header.upright_size, moments=moments)
        return encoded._replace(header=header, file_bytes=len(data)) if self.shrink else encoded

    def _shrunk(self, loaded: _Loaded) -> _Loaded | Refused:
        if self.shrink is None or (size := self.shrink.size(loaded.header)) is None:
            return loaded
        try:
            data = self.shrink.encode(loaded.data, loaded.header, size)
        except Exception as error:
            return _undecodable(loaded.ref, error)
        try:
            mask = None if loaded.mask is None else smaller_mask(loaded.mask, loaded.header, size)
        except Unreadable as error:
            return Refused(loaded.ref.key, loaded.ref.key, error.reason, error.detail)
        ref = loaded.ref
        if self.boxes is not None:
            ref = move_boxes(ref, self.boxes, loaded.header, size, "stretch")
        return _Loaded(ref, data, ImageHeader("jpeg", *size, 1), mask)


@dataclass
class DecodedPayload:
    """Pixels: decoded exactly, turned upright, resized with antialiasing, rounded to whole levels.

    Floats are levels / 255, so all dtypes hold the same image, and the sums behind mean and std are exact.
    """

    files: _Files
    packer: _Packer
    schema: Schema
    image_size: tuple[int, int] | None
    resize: str
    dtype: str
    boxes: int | None = None
    divisible: bool = True

    @property
    def batch_refs(self) -> int:
        """As many as come to 2 MB, up to 16; one at a time where a size can be anything."""
        if self.image_size is None:
            return 1
        height, width = self.image_size
        return min(16, max(1, _BATCH_BYTES // (3 * height * width * np.dtype(self.dtype).itemsize)))

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        loaded = [self.files.load(ref) for ref in refs]
        return [
            pixels if isinstance(pixels, Refused) else self._encode(one, pixels)
            for one, pixels in _decode_all(loaded, self.image_size, self.resize)
        ]

    def _encode(self, loaded: _Loaded, pixels: np.ndarray) -> Encoded | Refused:
        if self.boxes is not None:
            ref = move_boxes(loaded.ref, self.boxes, loaded.header, self.image_size, self.resize)
            loaded = loaded._replace(ref=ref)
        mask = _mask(loaded, self.image_size, self.resize)
        if isinstance(mask, Refused):
            return mask
        values = {"image": as_dtype(pixels, self.dtype), "shape": pixels.shape, "mask": mask}
        size = (pixels.shape[0], pixels.shape[1])
        return self.packer.pack(loaded, values, size=size, moments=image_moments(pixels))


@dataclass
class EmbeddingPayload:
    """A model's vectors, in full batches of 32."""

    files: _Files
    packer: _Packer
    schema: Schema
    embedder: Embedder
    resize: str
    batch_refs: int = BATCH
    divisible: bool = False

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        decoded = list(_decode_all([self.files.load(ref) for ref in refs], self.embedder.image_size, self.resize))
        images = [pixels for _, pixels in decoded if not isinstance(pixels, Refused)]
        vectors = iter(self.embedder.embed(np.stack(images)) if images else ())
        return [
            pixels if isinstance(pixels, Refused) else self.packer.pack(one, {"embedding": next(vectors)})
            for one, pixels in decoded
        ]


def as_dtype(pixels: np.ndarray, dtype: str) -> np.ndarray:
    """uint8 levels as uint8, or as float32 or float16 in [0, 1]: level / 255, rounded once."""
    if dtype == "uint8":
        return pixels
    return np.true_divide(pixels, np.float32(255), dtype=np.float32).astype(dtype, copy=False)


def _decode(loaded: _Loaded, size: tuple[int, int] | None = None, resize: str = "pad") -> np.ndarray | Refused:
    """The file's pixels, uint8 [H, W, 3], upright."""
    try:
        return decode_pixels(loaded.data, loaded.header, size, resize)
    except Exception as error:
        return _undecodable(loaded.ref, error)


def _decode_all(
    loaded: Sequence[_Loaded | Refused], size: tuple[int, int] | None, resize: str
) -> Iterator[tuple[Any, np.ndarray | Refused]]:
    """Yields each file with its pixels, upright, or with why there are none."""
    sound = [one for one in loaded if isinstance(one, _Loaded)]
    if size is None:
        found = [_decode(one) for one in sound]
    else:
        decoded = decode_batch([(one.data, one.header) for one in sound], size, resize)
        found = [
            _undecodable(one.ref, pixels) if isinstance(pixels, Exception) else pixels
            for one, pixels in zip(sound, decoded, strict=True)
        ]
    rest = iter(found)
    for one in loaded:
        yield one, one if isinstance(one, Refused) else next(rest)


def _mask(loaded: _Loaded, size: tuple[int, int] | None = None, resize: str = "pad") -> np.ndarray | Refused | None:
    """The values of the mask, fitted as _decode fits the image; None where there is none."""
    if loaded.mask is None:
        return None
    try:
        return mask_pixels(loaded.mask, loaded.header, size, resize)
    except Unreadable as error:
        return Refused(loaded.ref.key, loaded.ref.key, error.reason, error.detail)


def _undecodable(ref: Ref, error: Exception) -> Refused:
    """The refusal of a file whose decoder raised an OpError, told apart here: nothing above imports TensorFlow."""
    from tensorflow.errors import OpError

    if not isinstance(error, OpError):
        raise error
    return Refused(ref.key, ref.key, "undecodable", f"The decoder refuses it: {decoder_sentence(error)}.")


def open_payload(job: Job, plan: Plan, source: Source, *, embedder: Embedder | None = None) -> Payload:
    """The payload of a job. Loads the model of an embedding, where it is not handed in."""
    schema = _payload_schema(job, plan)
    files, packer = _Files(source, job.max_pixels, mask_reader(source)), _Packer(job, plan, schema)
    boxes = boxes_place(plan.columns)
    if needs_tensorflow(job):
        load_tensorflow()
    if job.payload == "raw":
        return RawPayload(files, packer, schema, decode=job.verify == "decode", shrink=job.shrink, boxes=boxes)
    if job.payload == "decoded":
        return DecodedPayload(files, packer, schema, job.image_size, job.resize, job.dtype, boxes)
    return EmbeddingPayload(files, packer, schema, embedder or open_embedder(job), job.resize)


def _payload_schema(job: Job, plan: Plan) -> Schema:
    """What the records of a job are packed by: wider than the schema that the manifest gets once all are known."""
    masked = has_masks(plan.columns)
    pixels = ImageSpec(job.dtype, job.image_size, masked=masked)
    image = {"raw": ImageSpec(turned=True, masked=masked), "decoded": pixels, "embedding": None}
    extras = extra_features(plan.columns)
    return record_schema(job.payload, image=image[job.payload], extras=extras, label_kind=job.label_kind)


def needs_tensorflow(job: Job) -> bool:
    """Whether a job decodes pixels; raw records are packed without TensorFlow."""
    return job.payload != "raw" or job.verify == "decode" or job.shrink is not None


def open_embedder(job: Job) -> Embedder:
    """The model of an embedding job."""
    load_tensorflow()
    return load_embedder(str(job.model), job.image_size, job.model_range)


def record_size(job: Job, sample: Sequence[Ref], source: Source, embedder: Embedder | None) -> RecordSize:
    """What the payload of a record takes, for the plan.

    Known for raw files, for decoded images of one size, and for embeddings; for decoded images of their own size it is
    the sample's bytes of pixels for each byte of file.
    """
    masked = mask_reader(source) is not None
    if job.payload == "raw":
        return RecordSize(per_file_byte=_masked_ratio(sample, source, job.max_pixels)) if masked else RecordSize()
    if embedder is not None:
        height, width = embedder.image_size
        return RecordSize(fixed=4 * embedder.embed(np.zeros((1, height, width, 3), np.uint8)).shape[1], per_file_byte=0)
    item = 3 * np.dtype(job.dtype).itemsize + masked
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
    files = _Files(source, max_pixels)
    loaded = [files.load(ref) for ref in sample]
    return measure_gain(shrink, [one.data for one in loaded if isinstance(one, _Loaded)])


def _masked_ratio(sample: Sequence[Ref], source: Source, max_pixels: int) -> float:
    """The bytes of images and masks for each byte of image, on those of a sample that can be taken."""
    files = _Files(source, max_pixels, mask_reader(source))
    loaded = [one for one in map(files.load, sample) if isinstance(one, _Loaded)]
    images = sum(len(one.data) for one in loaded)
    return 1 + sum(len(one.mask or b"") for one in loaded) / images if images else 1


def _headers(refs: Sequence[Ref], source: Source, max_pixels: int) -> Iterator[tuple[Ref, ImageHeader]]:
    files = _Files(source, max_pixels)
    for ref in refs:
        loaded = files.load(ref)
        if isinstance(loaded, _Loaded):
            yield ref, loaded.header
