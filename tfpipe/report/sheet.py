"""Contact sheets: images in rows under captions, as one Pillow image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_GAP, _LINE, _TEXT = 6, 12, 11
_BACK, _INK = (255, 255, 255), (40, 44, 52)


class Cell(NamedTuple):
    """An image of a sheet, uint8 [H, W, 3], and the line above it."""

    image: np.ndarray
    caption: str = ""


def draw_sheet(rows: Sequence[Sequence[Cell]], *, side: int = 128) -> Any:
    """A Pillow image of rows of cells, each image at most `side` pixels on a side; smaller ones are enlarged.

    Args:
      rows: they may be of different lengths.
      side: of the square that each image gets.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TEXT)
    width = _GAP + max(len(row) for row in rows) * (side + _GAP)
    height = _GAP + len(rows) * (side + _LINE + _GAP)
    sheet = Image.new("RGB", (width, height), _BACK)
    draw = ImageDraw.Draw(sheet)
    for down, row in enumerate(rows):
        for right, cell in enumerate(row):
            x, y = _GAP + right * (side + _GAP), _GAP + down * (side + _LINE + _GAP)
            draw.text((x, y - 1), _fitting(cell.caption, font, side), fill=_INK, font=font)
            image = _within(Image.fromarray(cell.image), side)
            sheet.paste(image, (x + (side - image.width) // 2, y + _LINE + (side - image.height) // 2))
    return sheet


def png_bytes(image: Any) -> bytes:
    """The PNG file of a Pillow image."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _within(image: Any, side: int) -> Any:
    from PIL import Image

    ratio = side / max(image.size)
    size = tuple(max(1, round(length * ratio)) for length in image.size)
    # Whole pixels stay visible where a small image is enlarged.
    return image.resize(size, Image.Resampling.LANCZOS if ratio < 1 else Image.Resampling.NEAREST)


def _fitting(text: str, font: Any, width: int) -> str:
    """The text, or its end behind an ellipsis where it is too wide."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    if font.getlength(line) <= width:
        return line
    while line and font.getlength("..." + line) > width:
        line = line[1:]
    return "..." + line
