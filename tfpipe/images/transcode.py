"""Image files that TensorFlow does not read, or reads wrongly, re-encoded as PNG without loss by what Pillow reads.

The pixels are those of the first frame in Pillow's convert("RGB"), colours under transparent pixels kept, as the file
stores them: an orientation stays beside them, for masks and boxes belong to the image as it is stored. Of 16 bits of
gray, where Pillow would clip, 8 are kept: the high ones, or all in proportion to the file's largest value.

    taken = take_file(data, Transcoding(max_pixels=2**26))
    taken.data, taken.header, taken.notes

Pillow is imported when a file needs it. It opens one format only, that of the file's signature.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from tfpipe.errors import SetupError
from tfpipe.images.decoder_lines import listening
from tfpipe.images.png import LEVEL, write_png
from tfpipe.images.probe import ImageHeader, NotAnImage, probe
from tfpipe.images.probe.png import is_gray_of_16_bits

# A category and a kind: what a record's file went through, counted in the sidecar and in the manifest.
Note = tuple[str, str]

_GRAY_MODES = frozenset(["1", "L", "LA", "La"])
# Of a few colours each: rows that are stored as differences would make larger files.
_FLAT_MODES = frozenset(["1", "P", "PA"])
_ORIENTATION = 0x0112
_GRAY_ALPHA, _COLOUR_ALPHA = 4, 6
# Pillow's settings and Python's filters of warnings belong to the process.
_PILLOW = threading.Lock()


@dataclass(frozen=True)
class Transcoding:
    """How files are taken that TensorFlow does not read, or reads wrongly.

    Attributes:
      max_pixels: images with more are refused before they are decoded.
      to_png: whether files are re-encoded; otherwise they are refused.
      sixteen_bit: of 16 bits of gray, "high" keeps the upper 8, "scale" gives 255 * v / the file's largest value.
    """

    max_pixels: int
    to_png: bool = True
    sixteen_bit: str = "high"


class Taken(NamedTuple):
    """A file as it will be stored: its bytes, or the PNG of it, with its header and what there is to count of it."""

    data: bytes
    header: ImageHeader
    notes: tuple[Note, ...] = ()


def transcoder_versions() -> dict[str, str]:
    """The packages that decide the bytes of a re-encoded file; Pillow only where it is installed."""
    found = {"zlib": f"{zlib.ZLIB_RUNTIME_VERSION} level {LEVEL}"}
    try:
        return {"pillow": version("pillow"), **found}
    except PackageNotFoundError:
        return found


def take_file(data: bytes, how: Transcoding) -> Taken:
    """A file as it will be stored.

    Raises:
      NotAnImage: it can't be taken: for the probe's reasons; "undecodable", "truncated": Pillow finds it broken;
        "unsupported_format": PNG can't hold its values.
      SetupError: it needs Pillow, which is not installed.
    """
    try:
        header = probe(data, max_pixels=how.max_pixels)
    except NotAnImage as error:
        if not (how.to_png and error.pillow):
            raise
        return _transcode(data, error.pillow, how, error)
    if header.format != "png" or not is_gray_of_16_bits(data):
        return Taken(data, header)
    if how.sixteen_bit == "high":
        return Taken(data, header, (("sixteen_bit", "high"),))
    return _transcode(data, "PNG", how, None)._replace(header=header)


def _transcode(data: bytes, format: str, how: Transcoding, refused: NotAnImage | None) -> Taken:
    """The PNG of a file of one of Pillow's formats; raises `refused` where Pillow says that it is none."""
    notes: list[Note] = [("transcoded", format.lower())]
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise SetupError(
            f"A file has to be read as {format}, which takes Pillow: pip install 'tfpipe[beam]'; "
            "convert --transcode none refuses such files."
        ) from error
    with _quiet_pillow(Image, how.max_pixels), listening():
        try:
            image = Image.open(io.BytesIO(_as_colours(data)), formats=[format])
            image.load()
            pixels = _sixteen_bits(image, data)
            if pixels is None:
                pixels = _eight_bits(image, format)
            orientation = _orientation(image)
        except UnidentifiedImageError as error:
            raise refused or _broken(error) from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise _too_large(error, how.max_pixels) from error
        except (NotAnImage, MemoryError):
            raise
        except Exception as error:
            raise _broken(error) from error
    if pixels.dtype != np.uint8:
        pixels = _fit_bits(pixels, how.sixteen_bit)
        notes.append(("sixteen_bit", how.sixteen_bit))
    header = ImageHeader("png", pixels.shape[0], pixels.shape[1], orientation)
    return Taken(write_png(pixels, smooth=image.mode not in _FLAT_MODES), header, tuple(notes))


@contextmanager
def _quiet_pillow(pillow: Any, max_pixels: int) -> Iterator[None]:
    """Pillow for one thread, without warnings, and with a limit of pixels of ours.

    It checks the limit before it decodes, also for an image inside a file, which may be larger than the file says.
    """
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Beyond the limit it warns, and raises beyond twice the limit.
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        limit, pillow.MAX_IMAGE_PIXELS = pillow.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            pillow.MAX_IMAGE_PIXELS = limit


def _too_large(error: Exception, max_pixels: int) -> NotAnImage:
    found = re.search(r"\d+", str(error))
    count = found[0] if found else "more"
    return NotAnImage("too_many_pixels", f"The image has {count} pixels; --max_pixels allows {max_pixels}.")


def _broken(error: Exception) -> NotAnImage:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return NotAnImage("truncated" if "truncated" in said else "undecodable", f"Pillow refuses the file: {said[:200]}.")


# ---- pixels


def _eight_bits(image: Any, format: str) -> np.ndarray:
    """Pillow's RGB: uint8 [H, W, 3], or [H, W] where the image is gray."""
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        with np.errstate(invalid="ignore"):
            fitting = values.astype(np.uint8)
        if (fitting != values).any():
            raise NotAnImage(
                "unsupported_format",
                f"{format} with values from {values.min():g} to {values.max():g} in {image.mode} pixels is not "
                "supported: nothing says how they fit 0 to 255; convert it to 8 or 16 bits.",
            )
        return fitting
    pixels = np.asarray(image.convert("RGB"))
    return pixels[..., 0] if image.mode in _GRAY_MODES else pixels


def _sixteen_bits(image: Any, data: bytes) -> np.ndarray | None:
    """The 16 bits of a gray image: uint16 [H, W]; None where it has others."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I" and image.format == "PPM":
        return np.asarray(image).astype(np.uint16)
    if image.format == "PNG" and data[25] == _GRAY_ALPHA:
        high, low = (np.asarray(image)[..., channel].astype(np.uint16) for channel in (0, 1))
        return high << 8 | low
    return None


def _as_colours(data: bytes) -> bytes:
    """A PNG of 16 bits of gray and alpha, of which Pillow gives 8, as one of 8 bits of red, green, blue and alpha.

    Both have four bytes a pixel, so filters and interlacing are the same; red and green are then the gray.
    """
    if not (data.startswith(b"\x89PNG") and data[24] == 16 and data[25] == _GRAY_ALPHA):
        return data
    first = data[12:24] + bytes([8, _COLOUR_ALPHA]) + data[26:29]
    return data[:12] + first + struct.pack(">I", zlib.crc32(first)) + data[33:]


def _fit_bits(values: np.ndarray, sixteen_bit: str) -> np.ndarray:
    """8 bits of each of 16: uint8 [H, W]."""
    if sixteen_bit == "high":
        return (values >> 8).astype(np.uint8)
    largest = max(int(values.max()), 1)
    return ((values.astype(np.uint32) * 510 + largest) // (2 * largest)).astype(np.uint8)


def _orientation(image: Any) -> int:
    """As ImageOps.exif_transpose finds it; Pillow turns TIFF files while it loads them."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # The pixels are there; a broken EXIF block says nothing of them.
        return 1
    return int(value) if value in range(1, 9) else 1
