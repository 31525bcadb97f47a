"""The payload of a record: the image's file (raw), its pixels (decoded), or a model's vector of it (embedding).

A payload turns a batch of references into encoded records, or says why one can't become a record. Raw imports no
TensorFlow unless it has to decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from beam_jobs.encode.columns import extra_features, find_regions
from beam_jobs.encode.decoded import DecodedPayload
from beam_jobs.encode.embedding import EmbeddingPayload, open_embedder
from beam_jobs.encode.masks import has_masks, mask_reader
from beam_jobs.encode.raw import RawPayload
from beam_jobs.encode.record import Encoded, Files, Packer
from beam_jobs.job import Job
from beam_jobs.plan import Plan
from beam_jobs.sources import Ref, Refused, Source
from tfpipe.format.schema import ImageSpec, Schema, record_schema
from tfpipe.quiet import load_tensorflow


class Payload(Protocol):
    """How references become records."""

    small_batches_help: bool  # whether a smaller batch costs less

    @property
    def batch_refs(self) -> int:
        """How many references to encode at once, at most."""

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:
        """One result for each reference, in order."""


def open_payload(job: Job, plan: Plan, source: Source) -> Payload:
    """The payload of a job; loads the model of an embedding."""
    files = Files(source, job.transcoding, mask_reader(source))
    packer = Packer(job, plan, _payload_schema(job, plan))
    regions = find_regions(plan.columns)
    if job.needs_tensorflow:
        load_tensorflow()
    if job.payload == "raw":
        return RawPayload(files, packer, job.verify == "decode", job.shrink, regions)
    if job.payload == "decoded":
        return DecodedPayload(files, packer, job.image_size, job.resize, job.dtype, regions, job.mask_fill)
    return EmbeddingPayload(files, packer, open_embedder(job), job.resize)


def _payload_schema(job: Job, plan: Plan) -> Schema:
    """The schema that records are packed by: wider than the one that the manifest gets once all records are known."""
    masked = has_masks(plan.columns)
    pixels = ImageSpec(job.dtype, job.image_size, masked=masked)
    image = {"raw": ImageSpec(turned=True, masked=masked), "decoded": pixels, "embedding": None}
    extras = extra_features(plan.columns)
    return record_schema(job.payload, image=image[job.payload], extras=extras, label_kind=job.label_kind)
