"""Photo-sized JPEG files for the benchmarks: crops of real photographs, jittered and re-encoded; ~35 kB each.

python benchmarks/photos.py FOLDER --count 20000
python benchmarks/photos.py FOLDER --count 40 --large       # of 4,000 x 3,000 pixels, some 4 MB each
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")
CLASSES = 20
LARGE = (4000, 3000)


@cache
def photograph(name: str) -> Image.Image:
    """A photograph that scikit-image ships."""
    from skimage import data

    return Image.fromarray(getattr(data, name)()[..., :3])


def write_photo(folder: Path, number: int) -> int:
    """Writes FOLDER/CLASS/NUMBER.jpg, the same for a number always; returns its bytes."""
    draw = np.random.default_rng(number)
    source = photograph(NAMES[int(draw.integers(len(NAMES)))])
    height, width = int(draw.integers(224, 401)), int(draw.integers(300, 501))
    scale = max(height / source.height, width / source.width, draw.uniform(0.5, 1.2))
    resized = source.resize((int(source.width * scale) + 1, int(source.height * scale) + 1))
    left, top = int(draw.integers(resized.width - width + 1)), int(draw.integers(resized.height - height + 1))
    pixels = np.asarray(resized.crop((left, top, left + width, top + height)), np.float32)
    jittered = pixels * draw.uniform(0.8, 1.2, 3) + draw.normal(0, 4, pixels.shape)
    path = folder / f"class_{number % CLASSES:02d}" / f"{number:06d}.jpg"
    Image.fromarray(jittered.clip(0, 255).astype(np.uint8)).save(path, quality=int(draw.integers(82, 95)))
    return path.stat().st_size


def write_large_photo(folder: Path, number: int) -> int:
    """As write_photo, of 12 megapixels: a photograph enlarged to cover them, with grain as cameras have it."""
    draw = np.random.default_rng(number)
    source = photograph(NAMES[number % len(NAMES)])
    pixels = np.asarray(ImageOps.fit(source, LARGE, Image.Resampling.BICUBIC), np.float32)
    grainy = pixels * draw.uniform(0.8, 1.2, 3) + draw.standard_normal(pixels.shape, np.float32) * 4
    path = folder / f"class_{number % CLASSES:02d}" / f"{number:06d}.jpg"
    Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(path, quality=int(draw.integers(82, 95)))
    return path.stat().st_size


def write_photos(folder: Path, count: int, *, large: bool = False) -> int:
    """Writes `count` photos below a folder, a folder per class; returns the bytes of all. Present ones are kept."""
    done = folder / f".{count}.done"
    if done.exists():
        return int(done.read_text())
    for number in range(CLASSES):
        (folder / f"class_{number:02d}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        write = partial(write_large_photo if large else write_photo, folder)
        size = sum(pool.map(write, range(count), chunksize=1 if large else 64))
    done.write_text(str(size))
    return size


def main() -> None:
    """Writes the photos that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--large", action="store_true", help="photographs of 4,000 x 3,000 pixels")
    arguments = parser.parse_args()
    print(f"{write_photos(arguments.folder, arguments.count, large=arguments.large) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
