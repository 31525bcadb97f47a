"""Smaller images for faster reading: raw records whose files are re-encoded while converting.

An image whose longer side is beyond `max_side` is decoded exactly, turned upright, resized with antialiasing and
encoded as JPEG; with a quality but no max_side every image is re-encoded at its size. All other images keep their
bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from beam_jobs.encode.pixels import encode_smaller
from beam_jobs.job import Shrink
from tfpipe.images.probe import probe


class Gain(NamedTuple):
    """The gain of shrinking, measured on a sample of the images.

    Attributes:
      bytes_ratio: bytes after, for each byte before.
      decode_ratio: time to decode them before, for each second after.
    """

    bytes_ratio: float
    decode_ratio: float


def measure_gain(shrink: Shrink, files: Sequence[bytes]) -> Gain:
    """The gain of shrinking those of some files that can be decoded.

    bytes_ratio is the same every time; decode_ratio is measured, with the reader's decoder, and is not.
    """
    pairs = [(data, small) for data in files if (small := _shrink_file(shrink, data)) is not None]
    before, after = [data for data, _ in pairs], [small for _, small in pairs]
    _decode_seconds(after[:1])  # The first call loads kernels.
    before_seconds, after_seconds = _decode_seconds(before), _decode_seconds(after)
    bytes_ratio = sum(map(len, after)) / sum(map(len, before)) if pairs else 1.0
    return Gain(bytes_ratio, before_seconds / after_seconds if pairs else 1.0)


def _shrink_file(shrink: Shrink, data: bytes) -> bytes | None:
    """The file as it will be stored; None where it can't be decoded."""
    import tensorflow as tf

    header = probe(data)
    size = shrink.size(header)
    try:
        return data if size is None else encode_smaller(data, header, size, shrink.quality)
    except tf.errors.OpError:
        return None


def _decode_seconds(files: Sequence[bytes]) -> float:
    from tfpipe.images.decode import decode_file

    started = time.perf_counter()
    for data in files:
        decode_file(data, jpeg_only=False, exact=True)
    return time.perf_counter() - started
