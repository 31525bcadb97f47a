"""Raw records: the bytes of each image file as they are, or the PNG of it, or a smaller JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beam_jobs.encode.columns import RegionColumn, move_regions
from beam_jobs.encode.masks import smaller_mask
from beam_jobs.encode.pixels import encode_smaller
from beam_jobs.encode.record import (
    Encoded,
    Files,
    Loaded,
    Packer,
    decode,
    decode_mask,
    keep_refusals,
    undecodable,
    with_complaint,
)
from beam_jobs.job import Shrink
from beam_jobs.sources import Ref, Refused
from tfpipe.images.decoder_lines import listening
from tfpipe.images.moments import image_moments
from tfpipe.images.probe import ImageHeader


@dataclass
class RawPayload:
    """The file's bytes as they are, checked by signature, header and end marker; or a smaller JPEG of it."""

    files: Files
    packer: Packer
    decode: bool
    shrink: Shrink | None = None
    regions: tuple[RegionColumn, ...] = ()
    # Some 0.5 MB: what a batch reads is still in the processor's cache when it is digested and written.
    batch_refs: int = 16
    small_batches_help: bool = True

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:  # see Payload
        return keep_refusals(self._encode, refs)

    def _encode(self, ref: Ref) -> Encoded:
        loaded = self.files.load(ref)
        stored = self._shrink(loaded)
        moments = None
        if self.decode:
            stored = decode(stored)
            moments = image_moments(stored.pixels)
            decode_mask(stored, None, "pad")
        header = stored.header
        values = {"image": stored.data, "shape": (header.height, header.width, 3), "orientation": header.orientation}
        if stored.mask is not None:
            values["mask"] = stored.mask
        encoded = self.packer.pack(stored, values, size=header.upright_size, moments=moments)
        return encoded if stored.data is stored.source else encoded._replace(file_bytes=len(stored.data))

    def _shrink(self, loaded: Loaded) -> Loaded:
        """The file as it is stored, with its mask and boxes; itself where it keeps its bytes."""
        ref, data, header, _, mask, _, _ = loaded
        if self.shrink is None or (size := self.shrink.size(header)) is None:
            return loaded
        with listening() as heard:
            try:
                data = encode_smaller(data, header, size, self.shrink.quality)
            except Exception as error:
                raise undecodable(error) from error
            has_complaint = bool(heard())
        loaded = with_complaint(loaded, has_complaint)
        mask = None if mask is None else smaller_mask(mask, header, size)
        if self.regions:
            ref = move_regions(ref, self.regions, header, size, "stretch")
        return loaded._replace(ref=ref, data=data, header=ImageHeader("jpeg", *size, 1), mask=mask)
