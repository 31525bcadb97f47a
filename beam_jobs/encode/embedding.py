"""Embedding records: a model's vector of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_jobs.encode.models import BATCH, Embedder, load_embedder
from beam_jobs.encode.record import Encoded, Files, Loaded, Packer, decode_all, keep_refusals
from beam_jobs.job import Job
from beam_jobs.sources import Ref, Refused
from tfpipe.quiet import load_tensorflow


@dataclass
class EmbeddingPayload:
    """A model's vectors, in full batches of 32."""

    files: Files
    packer: Packer
    embedder: Embedder
    resize: str
    batch_refs: int = BATCH
    small_batches_help: bool = False

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:  # see Payload
        decoded = decode_all(keep_refusals(self.files.load, refs), self.embedder.image_size, self.resize)
        images = [one.pixels for one in decoded if isinstance(one, Loaded)]
        vectors = iter(self.embedder.embed(np.stack(images)) if images else ())

        def pack(one: Loaded) -> Encoded:
            return self.packer.pack(one, {"embedding": next(vectors)}, size=None, moments=None)

        return keep_refusals(pack, decoded)


def open_embedder(job: Job) -> Embedder:
    """The model of an embedding job."""
    load_tensorflow()
    return load_embedder(str(job.model), job.image_size, job.model_range)
