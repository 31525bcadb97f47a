"""Decoded records: the pixels of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_jobs.encode.columns import RegionColumn, move_regions
from beam_jobs.encode.record import Encoded, Files, Loaded, Packer, decode_all, decode_mask, keep_refusals
from beam_jobs.sources import Ref, Refused
from tfpipe.images.moments import image_moments

# The pixels of a batch take at most this. A batch of images of one size shares a call, and threads switch rarely.
_BATCH_BYTES = 1 << 21


@dataclass
class DecodedPayload:
    """Pixels: decoded exactly, turned upright, resized with antialiasing, rounded to uint8 values.

    Floats are uint8 values / 255, so all dtypes hold the same image, and the sums behind mean and std are exact.
    """

    files: Files
    packer: Packer
    image_size: tuple[int, int] | None
    resize: str
    dtype: str
    regions: tuple[RegionColumn, ...] = ()
    mask_fill: int = 0
    small_batches_help: bool = True

    @property
    def batch_refs(self) -> int:
        """As many as come to 2 MB, up to 16; one at a time where a size can be anything."""
        if self.image_size is None:
            return 1
        height, width = self.image_size
        return min(16, max(1, _BATCH_BYTES // (3 * height * width * np.dtype(self.dtype).itemsize)))

    def encode(self, refs: Sequence[Ref]) -> list[Encoded | Refused]:  # see Payload
        loaded = keep_refusals(self.files.load, refs)
        return keep_refusals(self._encode, decode_all(loaded, self.image_size, self.resize))

    def _encode(self, decoded: Loaded) -> Encoded:
        ref, header, pixels = decoded.ref, decoded.header, decoded.pixels
        if self.regions:
            decoded = decoded._replace(ref=move_regions(ref, self.regions, header, self.image_size, self.resize))
        mask = decode_mask(decoded, size=self.image_size, resize=self.resize, fill=self.mask_fill)
        values = {"image": to_dtype(pixels, self.dtype), "shape": pixels.shape, "mask": mask}
        return self.packer.pack(decoded, values, size=(pixels.shape[0], pixels.shape[1]), moments=image_moments(pixels))


def to_dtype(pixels: np.ndarray, dtype: str) -> np.ndarray:
    """uint8 values as uint8, or as float32 or float16 in [0, 1]: value / 255, rounded once."""
    if dtype == "uint8":
        return pixels
    return np.true_divide(pixels, np.float32(255), dtype=np.float32).astype(dtype, copy=False)
