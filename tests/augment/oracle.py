"""What ops should give: Pillow where it has the op, float64 NumPy for bilinear sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Picture = Image.Image


def _enhance(kind: str) -> Callable[..., Picture]:
    return lambda image, value, fill: getattr(ImageEnhance, kind)(image).enhance(value)


def _affine(coefficients: Callable[[float], tuple[float, ...]]) -> Callable[..., Picture]:
    return lambda image, value, fill: image.transform(
        image.size, Image.Transform.AFFINE, coefficients(value), fillcolor=fill
    )


def _posterize(image: Picture, value: float, fill: Any) -> Picture:
    # Pillow refuses 0 bits; nothing is left of a level then.
    return ImageOps.posterize(image, int(value)) if value >= 1 else image.point(lambda level: 0)


PILLOW: dict[str, Callable[..., Picture]] = {
    "identity": lambda image, value, fill: image,
    "auto_contrast": lambda image, value, fill: ImageOps.autocontrast(image),
    "brightness": _enhance("Brightness"),
    "color": _enhance("Color"),
    "contrast": _enhance("Contrast"),
    "equalize": lambda image, value, fill: ImageOps.equalize(image),
    "invert": lambda image, value, fill: ImageOps.invert(image),
    "posterize": _posterize,
    "rotate": lambda image, value, fill: image.rotate(value, fillcolor=fill),
    "sharpness": _enhance("Sharpness"),
    "shear_x": _affine(lambda value: (1, value, 0, 0, 1, 0)),
    "shear_y": _affine(lambda value: (1, 0, 0, value, 1, 0)),
    "solarize": lambda image, value, fill: ImageOps.solarize(image, value),
    "solarize_add": lambda image, value, fill: image.point(
        [min(255, level + int(value)) if level < 128 else level for level in range(256)] * len(image.getbands())
    ),
    "translate_x": _affine(lambda value: (1, 0, value, 0, 1, 0)),
    "translate_y": _affine(lambda value: (1, 0, 0, 0, 1, value)),
    "flip_left_right": lambda image, value, fill: ImageOps.mirror(image),
    "flip_up_down": lambda image, value, fill: ImageOps.flip(image),
    "grayscale": lambda image, value, fill: ImageOps.grayscale(image).convert(image.mode),
}


def pillow(name: str, image: np.ndarray, value: float, *, fill: int = 128) -> np.ndarray:
    """Pillow's result for uint8 [H, W, C], C = 1 or 3."""
    gray = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if gray else image)
    color = fill if gray else (fill,) * 3
    return np.asarray(PILLOW[name](picture, float(value), color)).reshape(image.shape)


def bilinear(image: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 levels of an affine map's output; where its place lies a pixel or more inside, and where outside."""
    height, width = image.shape[:2]
    a, b, c, d, e, f = coefficients
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = a * x + b * y + c, d * x + e * y + f
    inside = (x >= 1) & (x <= width - 1) & (y >= 1) & (y <= height - 1)
    # A place on the border itself may fall to either side.
    outside = (x < -1e-6) | (x > width + 1e-6) | (y < -1e-6) | (y > height + 1e-6)
    left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    across, down = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
    columns = [np.clip(left + step, 0, width - 1) for step in (0, 1)]
    rows = [np.clip(top + step, 0, height - 1) for step in (0, 1)]
    corner = [[image[row, column].astype(np.float64) for column in columns] for row in rows]
    upper, lower = (pair[0] * (1 - across) + pair[1] * across for pair in corner)
    return upper * (1 - down) + lower * down, inside, outside
