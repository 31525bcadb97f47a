"""What is measured of one image: brightness, detail, colour, and what it looks like from afar.

Images come as Pillow opens them, at least as large as WORKING_SIDE on their longer side where they have that size. The
thresholds of findings.py were chosen on these measures; docs/decisions/030-health.md has the figures.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

# The longer side at which an image is measured: detail below it does not reach a model either.
WORKING_SIDE = 256
# Colours are measured where the longer side is at least this: a JPEG stores them at half its size anyway.
_COLOUR_SIDE = 64
_HASH_SIDE, _FREQUENCIES, _HASH_FREQUENCIES = 32, 9, 8
_SHADES = 8
# The lengths of a Measures' shape and look.
SHAPE_SIZE = _FREQUENCIES**2 - 1
LOOK_SIZE = 128


class Measures(NamedTuple):
    """The measures of one image.

    Attributes:
      bright: the level, 0 to 255, that two pixels of a thousand exceed.
      dim: the level that 5 % of the pixels are below.
      span: the levels between the darkest and the brightest percent of the pixels.
      entropy: of the levels, in bits: 0 to 8.
      chroma: the difference of a pixel's channels that 1 % of the pixels exceed.
      detail: contrast from pixel to pixel over contrast at four times that scale: some 0.3 in a photograph, below 0.13
        in one that a Gaussian of 2 pixels blurred.
      contrast: at four times the scale of pixels, in levels.
      perceptual_hash: 64 bits that hardly change when the file is compressed, resized or brightened.
      shape: float32 [SHAPE_SIZE], the lowest frequencies of the image as a vector of length 1.
      strength: the length that the vector had.
      look: float32 [LOOK_SIZE], its colours, for comparing one class with another.
    """

    bright: int
    dim: int
    span: int
    entropy: float
    chroma: int
    detail: float
    contrast: float
    perceptual_hash: int
    shape: np.ndarray
    strength: float
    look: np.ndarray


def measure_image(image: Any) -> Measures:
    """The measures of a Pillow image of mode RGB; only its size is changed here."""
    gray, small = _reduced(image.convert("L")), image.reduce(max(1, max(image.size) // _COLOUR_SIDE))
    counts = np.array(gray.histogram())
    low, dim, high, bright = _levels(counts, 0.01, 0.05, 0.99, 0.998)
    shares = counts[counts > 0] / counts.sum()
    fine, coarse = _contrasts(np.asarray(gray).astype(np.int16))
    perceptual_hash, shape, strength = _shape(gray)
    return Measures(
        bright=bright,
        dim=dim,
        span=high - low,
        entropy=float(-(shares * np.log2(shares)).sum()),
        chroma=_chroma(small),
        # With 2 levels added, the noise of an even surface is not taken for detail.
        detail=fine / (coarse + 2),
        contrast=coarse,
        perceptual_hash=perceptual_hash,
        shape=shape,
        strength=strength,
        look=_look(small),
    )


def _reduced(gray: Any) -> Any:
    """The image, its longer side at most WORKING_SIDE. It takes a quarter of the time where it is gray already."""
    from PIL import Image

    ratio = max(gray.size) / WORKING_SIDE
    if ratio <= 1:
        return gray
    return gray.resize(tuple(max(1, round(side / ratio)) for side in gray.size), Image.Resampling.BOX)


def _levels(counts: np.ndarray, *shares: float) -> list[int]:
    """The levels below or at which shares of the pixels are."""
    below = np.cumsum(counts)
    return [int(level) for level in np.searchsorted(below, np.array(shares) * below[-1])]


def _chroma(image: Any) -> int:
    from PIL import ImageChops

    red, green, blue = image.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    smallest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return _levels(np.array(ImageChops.difference(largest, smallest).histogram()), 0.99)[0]


def _contrasts(gray: np.ndarray) -> tuple[float, float]:
    """The root mean square of what a binomial filter takes away, at full size and at a quarter of it.

    Args:
      gray: int16 [H, W], levels of 0 to 255; 16 times as many are within int16.
    """
    return _rough(gray), _rough(_halved(_halved(gray)).astype(np.float32) / 16)


def _halved(gray: np.ndarray) -> np.ndarray:
    """The sums of 2 x 2 pixels; where there are no two, the pixels four times."""
    height, width = gray.shape
    if min(height, width) < 2:
        return 4 * gray
    even = gray[: height // 2 * 2, : width // 2 * 2]
    rows = even[::2] + even[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def _rough(gray: np.ndarray) -> float:
    taken = (16 * gray - _summed(_summed(gray).T).T).astype(np.float32).ravel()
    return float(np.sqrt(taken @ taken / taken.size)) / 16


def _summed(gray: np.ndarray) -> np.ndarray:
    """Twice each row with the rows beside it; the first and the last are beside themselves."""
    rows = 2 * gray
    rows[1:] += gray[:-1]
    rows[:-1] += gray[1:]
    rows[0] += gray[0]
    rows[-1] += gray[-1]
    return rows


def _shape(gray: Any) -> tuple[int, np.ndarray, float]:
    """The perceptual hash, the unit vector of the lowest frequencies, and its length before.

    The hash is "pHash": of the 63 lowest frequencies of the discrete cosine transform of 32 x 32 pixels, whether each
    is above their median.
    """
    from PIL import Image

    small = np.asarray(gray.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX), np.float32)
    frequencies = _cosines() @ small @ _cosines().T
    vector = frequencies.ravel()[1:]
    lowest = frequencies[:_HASH_FREQUENCIES, :_HASH_FREQUENCIES].ravel()[1:]
    # np.median takes seven times as long.
    bits = np.packbits(lowest > np.sort(lowest)[len(lowest) // 2]).tobytes()
    strength = float(np.linalg.norm(vector))
    return int.from_bytes(bits, "big"), vector / max(strength, 1e-6), strength


@cache
def _cosines() -> np.ndarray:
    """The lowest rows of the orthonormal DCT-II matrix: [_FREQUENCIES, _HASH_SIDE] float32."""
    position, frequency = np.arange(_HASH_SIDE), np.arange(_FREQUENCIES)[:, None]
    rows = np.cos(np.pi * (2 * position + 1) * frequency / (2 * _HASH_SIDE)) * np.sqrt(2 / _HASH_SIDE)
    rows[0] *= np.sqrt(0.5)
    return rows.astype(np.float32)


def _look(image: Any) -> np.ndarray:
    """How often each of 512 colours occurs, as square roots, projected onto fewer axes, which keeps distances.

    The distance of the square roots is that of Hellinger. Of crops of photographs, by it 88 to 90 % of the seven
    nearest others are of the same photograph, against 75 to 82 % with fewer colours and where they are.
    """
    from PIL import Image

    small = np.asarray(image.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)) // (256 // _SHADES)
    colours = small.astype(np.int64) @ np.array([_SHADES * _SHADES, _SHADES, 1])
    shares = np.bincount(colours.ravel(), minlength=_SHADES**3) / colours.size
    return np.sqrt(shares).astype(np.float32) @ _axes()


@cache
def _axes() -> np.ndarray:
    """Random axes, the same always (Johnson and Lindenstrauss): [_SHADES ** 3, LOOK_SIZE] float32."""
    axes = np.random.default_rng(0).normal(size=(_SHADES**3, LOOK_SIZE))
    return (axes / np.sqrt(LOOK_SIZE)).astype(np.float32)
