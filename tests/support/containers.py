"""The same images in every kind of container, and in the folder that all are compared with."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import KINDS, files_of

JPEGS = {f"{label}/{i:03d}.jpg": KINDS[".jpg"](i + 1000 * place) for place, label in enumerate("ab") for i in range(12)}


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def sample_members(images: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """A WebDataset sample for each image, labelled by its folder."""
    members = []
    for name, data in images.items():
        stem = name.removesuffix(".jpg")
        members += [(f"{stem}.cls", name[0].encode()), (name, data), (f"{stem}.txt", f"it is {name}".encode())]
    return members


def hub_table(images: Mapping[str, bytes], names: list[str] | None = None) -> pa.Table:
    """A table as the Hugging Face hub has them."""
    ids = [(names or ["a", "b"]).index(name[0]) for name in images]
    cells = [{"bytes": data, "path": name} for name, data in images.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": pa.array(ids if names else [n[0] for n in images])})
    if names:
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    return table


def write_records(path: Path, images: Mapping[str, bytes]) -> Path:
    """ImageNet-style Examples."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, data in images.items():
            values = {"image/encoded": data, "image/class/text": name[0].encode(), "image/filename": name.encode()}
            features = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in values.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path


def write_hub(path: Path, images: Mapping[str, bytes]) -> Path:
    pq.write_table(hub_table(images, ["a", "b"]), path, row_group_size=5)
    return path


CONTAINERS = {
    "samples.tar": lambda path, images: write_tar(path, sample_members(images)),
    "folders.tar": lambda path, images: write_tar(path, images.items()),
    "deflated.zip": lambda path, images: write_zip(path, images.items()),
    "stored.zip": lambda path, images: write_zip(path, images.items(), zipfile.ZIP_STORED),
    "hub.parquet": write_hub,
    "imagenet.tfrecord": write_records,
}


def shards_of(output: Path) -> dict[str, bytes]:
    return {name: data for name, data in files_of(output).items() if name.endswith(".tfrecord")}
