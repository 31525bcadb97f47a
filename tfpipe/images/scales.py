"""The values that models take in place of uint8 ones. Loads neither TensorFlow nor Keras, but for a model of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SCALES: dict[str, Callable[[Any], Any]] = {
    "0,1": lambda pixels: pixels / np.float32(255),
    "0,255": lambda pixels: pixels,
    "-1,1": lambda pixels: pixels / np.float32(127.5) - 1,
}


def scale_pixels(pixels: Any, scale: str) -> Any:
    """What a model takes of pixels.

    Args:
      pixels: float32 [..., H, W, 3] in 0 to 255, an array or a tensor.
      scale: a key of SCALES, or the module of keras.applications whose preprocess_input is applied.
    """
    if scale in SCALES:
        return SCALES[scale](pixels)
    import keras

    return getattr(keras.applications, scale).preprocess_input(pixels)
