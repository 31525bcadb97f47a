"""Every kind of stream that make_dataset gives, small: the columns of the table in docs/options.md."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from coco_files import coco
from foreign import embeddings, write
from pictures import file_bytes, fill_folder

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.framing import HEADER_BYTES, scan
from tfpipe.format.manifest import Manifest
from tfpipe.reader.crops import RandomResizedCrop
from tfpipe.reader.options import ReadOptions

# Not of the images' aspect: padding shows.
SIZE = (6, 6)
BATCH = 4
OPTIONS = tuple(field.name for field in dataclasses.fields(ReadOptions))
# A kind of stream: its data, and the settings that make it. {work} is a folder of the test's own.
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "blocks": ("photos", {}),
    "single": ("photos", {"block_records": 1}),
    "buffer": ("photos", {"shuffle": "buffer"}),
    "none": ("photos", {"shuffle": "none"}),
    "records": ("photos", {"cache": "memory"}),
    "batches": ("photos", {"cache": "disk", "cache_place": "batches", "cache_dir": "{work}/cache"}),
    "gzip": ("gzip", {}),
    "service": ("photos", {"service": "{service}"}),
    "mixture": ("photos", {"source": (1, 1)}),
    "balanced": ("photos", {"balance_classes": True}),
    "hosts": ("photos", {"host_count": 2}),
    "vectors": ("vectors", {"image_size": None}),
    "decoded": ("decoded", {}),
    "boxes": ("boxes", {"labels": None}),
    "tags": ("tags", {}),
    "numbers": ("numbers", {}),
    "crop": ("photos", {"resize": RandomResizedCrop()}),
    "eval": ("photos", {"training": False}),
}


# ---- data: 24 training records of photos, and others for validation


def photos(root: Path) -> Path:
    """Folders of twelve cats, eight dogs and four emus in train/, eight images in validation/."""
    fill_folder(root / "train", ("cat", "dog", "emu"), 12)
    for name, count in (("dog", 8), ("emu", 4)):
        for path in sorted((root / "train" / name).iterdir())[count:]:
            path.unlink()
    fill_folder(root / "validation", ("cat", "dog"), 3)
    fill_folder(root / "validation", ("emu",), 2)
    return root


def listing(root: Path, label: Callable[[int], Any]) -> Path:
    fill_folder(root, ["in"], 30)
    rows = [json.dumps({"file": f"in/{number:03d}.jpg", "label": label(number)}) for number in range(30)]
    (root / "list.jsonl").write_text("\n".join(rows) + "\n")
    return root / "list.jsonl"


def convert_to(source: Path, output: Path, **options: Any) -> Manifest:
    manifest = convert(Job(input=str(source), output=str(output), target_bytes=8_000, **options)).manifest
    assert manifest is not None
    return manifest


def make_photos(root: Path) -> Manifest:
    return convert_to(photos(root / "in"), root / "out")


def make_gzip(root: Path) -> Manifest:
    manifest = make_photos(root)
    for name, split in manifest.splits.items():
        for number, shard in enumerate(split.shards):
            folder = root / "gzip"
            folder.mkdir(exist_ok=True)
            data = gzip.compress(manifest.shard_file(shard).read_bytes())
            (folder / f"{name}-{number:05d}-of-{len(split.shards):05d}.tfrecord").write_bytes(data)
    return tfpipe.index(root / "gzip")


def make_vectors(root: Path) -> Manifest:
    for name, numbers in (("train", range(24)), ("validation", range(8))):
        write(root / f"{name}.tfrecord-00000-of-00001", [embeddings(number) for number in numbers])
    return tfpipe.index(root)


def make_decoded(root: Path) -> Manifest:
    return convert_to(photos(root / "in"), root / "out", payload="decoded", dtype="uint8", image_size=(12, 16))


def make_boxes(root: Path, **options: Any) -> Manifest:
    source = coco(root)
    for path in sorted((root / "train").glob("*.jpg")):
        mask = root / "masks" / path.with_suffix(".png").name
        mask.parent.mkdir(exist_ok=True)
        mask.write_bytes(file_bytes(np.full((30, 40), 1 + len(path.name) % 5, np.uint8), "PNG"))
    split = {"train": 0.7, "validation": 0.3}
    return convert_to(source, root / "out", masks=str(root / "masks"), max_rejected="50%", split=split, **options)


def make_tags(root: Path) -> Manifest:
    source = listing(root, lambda number: [name for j, name in enumerate(("sky", "sea")) if number >> j & 1])
    return convert_to(source, root / "out", label_kind="multi", split={"train": 0.7, "validation": 0.3})


def make_numbers(root: Path) -> Manifest:
    source = listing(root, lambda number: number / 4)
    return convert_to(source, root / "out", label_kind="number", split={"train": 0.7, "validation": 0.3})


MAKERS: dict[str, Callable[[Path], Manifest]] = {
    "photos": make_photos,
    "gzip": make_gzip,
    "vectors": make_vectors,
    "decoded": make_decoded,
    "boxes": make_boxes,
    "tags": make_tags,
    "numbers": make_numbers,
}


def copied(manifest: Manifest, folder: Path, *, damaged: bool = False) -> Manifest:
    """A copy of a dataset; damaged: every record of its first training shard has a wrong checksum."""
    shutil.copytree(str(manifest.directory), folder)
    copy = dataclasses.replace(manifest, directory=folder)
    if damaged:
        shard = copy.split("train").shards[0]
        path = copy.shard_file(shard)
        data = bytearray(path.read_bytes())
        if shard.compression is None:
            for record in list(scan(path)):
                data[record.offset + HEADER_BYTES + len(record.data) // 2] ^= 1
        else:
            data[len(data) // 2] ^= 1
        path.write_bytes(data)
    return copy


def a_stream(manifest: Manifest, settings: dict[str, Any], file: Path) -> Any:
    """make_dataset with settings of both kinds.

    Args:
      manifest: the data.
      settings: options and arguments by name; `source` are the weights of a mixture of the data with itself, `options`
        the changes to the other options that are written to a file.
      file: where to.
    """
    options = ReadOptions(**{name: value for name, value in settings.items() if name in OPTIONS})
    arguments = {name: value for name, value in settings.items() if name not in OPTIONS}
    source: Any = manifest
    if weights := arguments.pop("source", None):
        source = dict(zip((manifest, dataclasses.replace(manifest, rejected={"other": 1})), weights, strict=True))
    if changes := arguments.pop("options", None):
        dataclasses.replace(options, **changes).save(file)
    return tfpipe.make_dataset(
        source, **{"batch_size": BATCH, "image_size": SIZE, "options": file if changes else options, **arguments}
    )
