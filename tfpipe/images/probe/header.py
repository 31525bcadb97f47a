"""The result of a probe, the error that it raises, and the checks that several formats share."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from tfpipe.errors import DataError

FORMATS = "jpeg, png, gif, bmp, webp"


class NotAnImage(DataError):
    """Says why bytes can't be a valid image.

    Attributes:
      reason: a short code, listed in the docstring of tfpipe.images.probe; str() gives the sentence.
      pillow: the name of the format as which Pillow may read the bytes all the same; "" where it can't.
    """

    def __init__(self, reason: str, sentence: str, pillow: str = "") -> None:
        # All are in `args`, so that the error survives pickling between processes.
        super().__init__(reason, sentence, pillow)
        self.reason, self.sentence, self.pillow = reason, sentence, pillow

    def __str__(self) -> str:
        return self.sentence


class ImageHeader(NamedTuple):
    """What a file says of its image.

    Attributes:
      format: "jpeg", "png", "gif", "bmp" or "webp".
      height: in pixels, as stored and as tf.io.decode_image returns it.
      width: likewise.
      orientation: the EXIF orientation, 1 to 8; 1 where there is none.
    """

    format: str
    height: int
    width: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the image as it is meant to be seen."""
        if self.orientation >= 5:
            return self.width, self.height
        return self.height, self.width


def check_size(name: str, height: int, width: int, max_side: int) -> tuple[int, int]:
    """(height, width), if both are in [1, max_side].

    Raises:
      NotAnImage: a side is out of range.
    """
    if not (0 < height <= max_side and 0 < width <= max_side):
        refuse("bad_header", f"The {name} gives its size as {height} x {width}; 1 to {max_side} a side is allowed.")
    return height, width


def refuse(reason: str, sentence: str, *, pillow: str = "") -> NoReturn:
    """Raises NotAnImage, without the error that is being handled."""
    raise NotAnImage(reason, sentence, pillow) from None


def refuse_format(kind: str, *, pillow: str = "") -> NoReturn:
    """Raises NotAnImage for an image that TensorFlow doesn't read, or reads wrongly."""
    refuse("unsupported_format", f"{kind} is not supported; convert it to one of: {FORMATS}.", pillow=pillow)


def refuse_kind(kind: str, *, pillow: str = "") -> NoReturn:
    """Raises NotAnImage for bytes that are something else than an image, as far as a signature tells."""
    refuse("not_an_image", f"The bytes look like {kind}, not like an image; supported are: {FORMATS}.", pillow=pillow)
