"""Small pictures that look like photographs, files of many formats made of them, and a reader that knows no tfpipe."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfpipe.format.manifest import Manifest

HEIGHT, WIDTH = 30, 40
EXIF_ORIENTATION = 0x0112


def photo(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A few blobs over a slope, with a little grain: uint8 [height, width, 3], always the same for a number."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][:, :, :, None]
    scene = 90 + 60 * (x * rng.uniform(-1, 1, 3) + y * rng.uniform(-1, 1, 3))
    for _ in range(4):
        distance = (x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2
        scene = scene + rng.uniform(-120, 120, 3) * np.exp(-distance / rng.uniform(0.01, 0.1))
    return np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)


def file_bytes(pixels: np.ndarray | Image.Image, format: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, format, **options)
    return file.getvalue()


def turned(number: int, orientation: int) -> bytes:
    """A JPEG with an EXIF turn."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return file_bytes(photo(number), "JPEG", quality=92, exif=exif.tobytes())


def sixteen_bit_png(number: int) -> bytes:
    """A gray PNG of 16 bits a pixel; its high bytes are a photo's."""
    gray = photo(number)[..., 0].astype(np.uint16)
    return file_bytes(Image.fromarray(gray << 8 | gray[::-1]), "PNG")


# A file name's end, and what makes such a file of a number.
KINDS: dict[str, Callable[[int], bytes]] = {
    ".jpg": lambda n: file_bytes(photo(n), "JPEG", quality=92),
    "_progressive.jpg": lambda n: file_bytes(photo(n), "JPEG", progressive=True),
    "_gray.jpg": lambda n: file_bytes(Image.fromarray(photo(n)).convert("L"), "JPEG", quality=92),
    "_cmyk.jpg": lambda n: file_bytes(Image.fromarray(photo(n)).convert("CMYK"), "JPEG", quality=92),
    "_turned.jpg": lambda n: turned(n, 6),
    ".png": lambda n: file_bytes(photo(n), "PNG"),
    "_gray.png": lambda n: file_bytes(Image.fromarray(photo(n)).convert("L"), "PNG"),
    "_palette.png": lambda n: file_bytes(Image.fromarray(photo(n)).convert("P"), "PNG"),
    "_16bit.png": sixteen_bit_png,
    ".gif": lambda n: file_bytes(Image.fromarray(photo(n)).convert("P"), "GIF"),
    ".bmp": lambda n: file_bytes(photo(n), "BMP"),
    ".webp": lambda n: file_bytes(photo(n), "WEBP", lossless=True),
}


def fill_folder(root: Path, classes: Iterable[str], per_class: int, kinds: Iterable[str] = (".jpg",)) -> Path:
    """Writes per_class files of alternating kinds into a folder per class; returns root."""
    endings = list(kinds)
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            number = 1000 * place + i
            ending = endings[i % len(endings)]
            (root / name / f"{i:03d}{ending}").write_bytes(KINDS[ending](number))
    return root


def write_listing(path: Path, rows: Iterable[Iterable[str]]) -> Path:
    """Writes rows as CSV; returns path."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path: the whole directory as a value."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def upright_pixels(data: bytes) -> np.ndarray:
    """What Pillow sees: uint8 [H, W, 3], turned by its EXIF; 16 bits cut to the high byte."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def stock_read(manifest: Manifest, split: str | None = None, **features: Any) -> list[dict[str, Any]]:
    """Records as a reader without tfpipe gets them: tf.data.TFRecordDataset and tf.io.parse_single_example.

    Args:
      manifest: names the shards.
      split: None takes all, in the manifest's order.
      features: name to a spec of tf.io, besides key, label and label_int.
    """
    import tensorflow as tf

    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("key", "label")}
    spec |= {"label_int": tf.io.FixedLenFeature([], tf.int64), **features}
    splits = manifest.splits.values() if split is None else [manifest.split(split)]
    paths = [str(manifest.shard_path(shard)) for part in splits for shard in part.shards]
    parsed = tf.data.TFRecordDataset(paths).map(lambda record: tf.io.parse_single_example(record, spec))
    return list(parsed.as_numpy_iterator())
