"""What ops should give: Pillow where it has the op, float64 NumPy for bilinear sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tfpipe.augment.ops.table import OPS

Picture = Image.Image


def _enhance(kind: str) -> Callable[..., Picture]:
    return lambda image, value, fill: getattr(ImageEnhance, kind)(image).enhance(value)


def _affine(coefficients: Callable[..., tuple[float, ...]]) -> Callable[..., Picture]:
    return lambda image, *values, fill: image.transform(
        image.size, Image.Transform.AFFINE, coefficients(*values), fillcolor=fill
    )


def _zoom(image: Picture, factor: float, down: float, right: float, fill: Any) -> Picture:
    scale, x, y = 1 / factor, right * image.width, down * image.height
    return _affine(lambda: (scale, 0, x - scale * x, 0, scale, y - scale * y))(image, fill=fill)


def _resized_crop(image: Picture, top: float, left: float, height: float, width: float, fill: Any) -> Picture:
    return _affine(lambda: (width, 0, left * image.width, 0, height, top * image.height))(image, fill=fill)


def _cutout(image: Picture, side: float, down: float, right: float, fill: Any) -> Picture:
    side, result = int(side), image.copy()
    top, left = (
        int(np.float32(part) * size) - side // 2 for part, size in ((down, image.height), (right, image.width))
    )
    result.paste(fill, (left, top, left + side, top + side))
    return result


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
    "crop": _affine(lambda down, right: (1, 0, right, 0, 1, down)),
    "zoom": _zoom,
    "resized_crop": _resized_crop,
    "cutout": _cutout,
    "flip_left_right": lambda image, value, fill: ImageOps.mirror(image),
    "flip_up_down": lambda image, value, fill: ImageOps.flip(image),
    "grayscale": lambda image, value, fill: ImageOps.grayscale(image).convert(image.mode),
}


def pillow(name: str, image: np.ndarray, *values: float, fill: int = 128) -> np.ndarray:
    """Pillow's result for uint8 [H, W, C], C = 1 or 3; of the values, so many as the op takes are read."""
    gray = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if gray else image)
    color = fill if gray else (fill,) * 3
    read = map(float, values[: max(OPS[name].num_values, 1)])
    return np.asarray(PILLOW[name](picture, *read, fill=color)).reshape(image.shape)


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
