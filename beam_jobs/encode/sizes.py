"""How large the records of a job will be: known, or measured on a sample of the images before anything is planned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_jobs.encode.masks import mask_reader
from beam_jobs.encode.models import Embedder
from beam_jobs.encode.record import Files
from beam_jobs.encode.shrink import Gain, measure_gain
from beam_jobs.job import Job, Shrink, Transcoding
from beam_jobs.plan import KEPT_ENDINGS, RecordSize
from beam_jobs.sources import Ref, Source
from beam_jobs.sources.foreign import ForeignSource
from beam_jobs.sources.listing import MASK_COLUMN
from beam_jobs.sources.masked import MaskedSource
from tfpipe.images.decoder_lines import listening
from tfpipe.quiet import load_tensorflow


def needs_sample(job: Job, source: Source) -> bool:
    """Whether only a look at some images tells the size of a job's records."""
    if job.payload == "raw":
        return job.shrink is not None or MASK_COLUMN in source.columns or job.transcode == "png" or _makes_files(source)
    return job.payload == "decoded" and not job.image_size


def record_size(job: Job, sample: Sequence[Ref], source: Source, embedder: Embedder | None) -> RecordSize:
    """The bytes that the payload of a record takes, for the plan.

    They are known for raw files, for decoded images of one size, and for embeddings; for decoded images of their own
    size they are the sample's bytes of pixels for each byte of file.
    """
    masks = mask_reader(source)
    if job.payload == "raw":
        if masks is None and not _makes_files(source) and all(ref.key.lower().endswith(KEPT_ENDINGS) for ref in sample):
            return RecordSize(per_file_byte=1)
        files = Files(source, job.transcoding, masks)
        pairs = [(one.ref.size, len(one.data) + len(one.mask or b"")) for one in files.load_each(sample)]
        return RecordSize(per_file_byte=_ratio(pairs, otherwise=1))
    if embedder is not None:
        height, width = embedder.image_size
        return RecordSize(fixed=4 * embedder.embed(np.zeros((1, height, width, 3), np.uint8)).shape[1], per_file_byte=0)
    item = 3 * np.dtype(job.dtype).itemsize + (masks is not None)
    if job.image_size is not None:
        return RecordSize(fixed=item * job.image_size[0] * job.image_size[1], per_file_byte=0)
    headers = [(one.ref.size, one.header) for one in Files(source, job.transcoding).load_each(sample)]
    pairs = [(size, item * header.height * header.width) for size, header in headers]
    return RecordSize(per_file_byte=_ratio(pairs, otherwise=item))


def _makes_files(source: Source) -> bool:
    """Whether a source makes the files of its images, whose sizes are then not those that it lists: of pixels."""
    source = source.source if isinstance(source, MaskedSource) else source
    return isinstance(source, ForeignSource) and source.schema["image"].codec not in ("jpeg", "image")


def _ratio(pairs: Sequence[tuple[int, int]], *, otherwise: float) -> float:
    """The sum of the second numbers for each unit of the sum of the first."""
    first = sum(one for one, _ in pairs)
    return sum(other for _, other in pairs) / first if first else otherwise


def shrink_gain(shrink: Shrink, sample: Sequence[Ref], source: Source, transcoding: Transcoding) -> Gain:
    """The gain of re-encoding, on those files of a sample that can be taken."""
    load_tensorflow()
    with listening():
        return measure_gain(shrink, [one.data for one in Files(source, transcoding).load_each(sample)])
