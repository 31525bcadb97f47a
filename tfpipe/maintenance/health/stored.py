"""What a parsed record stores: its texts, and its image as Pillow opens it.

values = parse_example(serialized)
stored = open_stored(schema, values, least_side=256)
stored.upright(stored.image)      # as it is meant to be seen, a JPEG decoded at a fraction of its size
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xxhash

from tfpipe.format.schema import Schema

Parsed = Mapping[str, Any]
# The EXIF orientation, and what makes an image upright.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_PIXELS = {"uint8": "<u1", "float16": "<f2", "float32": "<f4"}


class Stored(NamedTuple):
    """The image of a record.

    Attributes:
      image: of Pillow, mode RGB, as it is stored, perhaps smaller.
      size: the full height and width as stored.
      orientation: of EXIF, 1 to 8.
    """

    image: Any
    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """The full height and width of the upright image."""
        return self.size[::-1] if self.orientation >= 5 else self.size

    def upright(self, image: Any) -> Any:
        """An image that is turned as this one is, such as its thumbnail, upright."""
        from PIL import Image

        turn = _TURNS.get(self.orientation)
        return image if turn is None else image.transpose(Image.Transpose[turn])


def text_of(schema: Schema, values: Parsed, name: str) -> str:
    """The single value of a feature as text; "" where it is missing."""
    if name not in schema:
        return ""
    found = values.get(schema[name].stored_name, ())
    if not len(found):
        return ""
    return found[0].decode(errors="replace") if isinstance(found[0], bytes) else str(found[0])


def stored_digest(schema: Schema, values: Parsed) -> bytes:
    """16 bytes that two records share only where they store the same image, or the same vector."""
    feature = schema["image" if "image" in schema else "embedding"]
    stored = values.get(feature.stored_name, ())
    digest = xxhash.xxh3_128(
        stored[0] if len(stored) and isinstance(stored[0], bytes) else np.asarray(stored).tobytes()
    )
    digest.update(bytes([_orientation(schema, values)]))
    return digest.digest()


def _orientation(schema: Schema, values: Parsed) -> int:
    found: Any = values.get(schema["orientation"].stored_name, ()) if "orientation" in schema else ()
    return int(found[0]) if len(found) else 1


def open_stored(schema: Schema, values: Parsed, *, least_side: int = 0) -> Stored:
    """The image of a record.

    Args:
      schema: the record's; it has an image.
      values: the parsed record.
      least_side: a JPEG may be decoded at a fraction of its size, its longer side at least this; 0: at full size.

    Raises:
      Exception: whatever Pillow raises over bytes that are no image.
    """
    from PIL import Image

    feature = schema["image"]
    if feature.codec not in ("jpeg", "image"):
        image = Image.fromarray(stored_pixels(schema, values, "image"))
        return Stored(image.convert("RGB"), (image.height, image.width), 1)
    image = Image.open(io.BytesIO(values[feature.stored_name][0]))
    width, height = image.size
    longer = max(width, height)
    if least_side and longer > least_side:
        image.draft("RGB", (max(1, width * least_side // longer), max(1, height * least_side // longer)))
    return Stored(_to_rgb(image), (height, width), _orientation(schema, values))


def _to_rgb(image: Any) -> Any:
    """The image in mode RGB; of 16 bits a pixel, the high byte, as the reader has it."""
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")


def stored_pixels(schema: Schema, values: Parsed, name: str) -> np.ndarray:
    """Stored pixels of a feature as uint8 [H, W, 3], or [H, W] where they have fewer channels."""
    feature = schema[name]
    stored = values[feature.stored_name]
    pixels = np.frombuffer(stored[0], _PIXELS[feature.dtype]) if feature.codec == "pixels" else np.asarray(stored)
    channels = feature.shape[-1]
    if None in feature.shape:
        height, width = (int(side) for side in values[schema["shape"].stored_name][:2])
        pixels = pixels.reshape(height, width, -1 if channels is None else channels)
    else:
        pixels = pixels.reshape([int(size) for size in feature.shape if size is not None])
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels.astype(np.float32) * 255).clip(0, 255).astype(np.uint8)
    return pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
