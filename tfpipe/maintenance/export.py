"""What other libraries need to read a dataset: TFDS's metadata, Croissant JSON-LD, DALI's index files.

Each is written beside dataset.json from the manifest and records.index; no record is read or changed.

    export(load_manifest("photos_tfrecord"), ["tfds", "croissant", "dali"])
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfpipe.errors import UsageError
from tfpipe.format.framing import load_index
from tfpipe.format.manifest import INDEX_NAME, MANIFEST_NAME, Manifest
from tfpipe.format.schema import Feature
from tfpipe.maintenance.examine import OnStep
from tfpipe.storage import replace_file

DALI_FOLDER = "dali_index"
_CROISSANT = "croissant.json"
_NAME = "tfpipe_dataset"


def export(manifest: Manifest, kinds: Sequence[str], *, on_shard: OnStep | None = None) -> list[str]:
    """Writes what some libraries need beside the manifest.

    Args:
      manifest: of a dataset in a folder of this machine.
      kinds: of KINDS.
      on_shard: called with the numbers of shards that were digested, and of all; Croissant wants digests.

    Returns:
      The files written, below the dataset's folder.

    Raises:
      UsageError: a kind is unknown, the dataset is in a store, or a library can't read this dataset; it says why.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UsageError(f"Nothing is known of {unknown or 'an empty list'}; tfpipe exports {list(KINDS)}.")
    folder = manifest.directory
    if not isinstance(folder, Path):
        raise UsageError(f"{folder} is in a store; export writes beside a dataset on this machine.")
    # All are made before the first is written: what is refused leaves nothing behind.
    tell = on_shard or (lambda done, total: None)
    files = {name: data for kind in kinds for name, data in KINDS[kind](manifest, tell).items()}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        replace_file(folder / name, data)
    return list(files)


def _as_json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


# ---- TensorFlow Datasets


def _tfds_files(manifest: Manifest, _: OnStep) -> dict[str, bytes]:
    """dataset_info.json, features.json and the labels, as tfds.builder_from_directory reads them.

    TFDS names shards by one template per split: every name has to follow one.
    """
    schema = manifest.schema
    renamed = [feature.name for feature in schema.features if feature.stored_as]
    if renamed or schema.derived:
        named = renamed or list(dict(schema.derived))
        raise UsageError(f"TFDS reads features under their own names only; {named} are stored under others.")
    features = {}
    files: dict[str, bytes] = {}
    # TFDS knows no defaults: what only some records store, as `orientation`, it would miss in the others.
    for feature in (feature for feature in schema.features if feature.default is None):
        features[feature.name], labels = _tfds_feature(manifest, feature)
        if labels is not None:
            if any(len(name.splitlines()) != 1 or name != name.strip() for name in manifest.class_names):
                raise UsageError("TFDS keeps names of classes as stripped lines of a file; one here is no such line.")
            files[f"{feature.name}.labels.txt"] = ("\n".join(manifest.class_names) + "\n").encode("utf-8", "replace")
    document = {"pythonClassName": f"{_TFDS}features_dict.FeaturesDict", "featuresDict": {"features": features}}
    splits = [_tfds_split(manifest, name) for name, split in manifest.splits.items() if split.num_records]
    info = {
        "name": _NAME,
        "version": "1.0.0",
        "description": f"Written by tfpipe; {MANIFEST_NAME} describes it in full.",
        "fileFormat": "tfrecord",
        "moduleName": "tfpipe",
        "releaseNotes": {},
        "splits": splits,
    }
    return {"features.json": _as_json(document), "dataset_info.json": _as_json(info), **files}


_TFDS = "tensorflow_datasets.core.features."


def _tfds_feature(manifest: Manifest, feature: Feature) -> tuple[dict[str, Any], str | None]:
    """A feature as features.json has it, and the name of its file of labels where it has one."""
    if feature.codec in ("jpeg", "image"):
        sides = [-1 if side is None else side for side in feature.shape]
        # An EXIF turn is a feature of its own here; TFDS would ignore it in the file, as TensorFlow does.
        document = {"shape": {"dimensions": [str(side) for side in sides]}, "dtype": "uint8"}
        if feature.codec == "jpeg":
            document["encodingFormat"] = "jpeg"
        return {"pythonClassName": f"{_TFDS}image_feature.Image", "image": document}, None
    if feature.codec == "pixels":
        # Bytes that tf.io.decode_raw reads: TFDS's own tensors of bytes are encoded otherwise.
        return {"pythonClassName": f"{_TFDS}text_feature.Text", "text": {}}, None
    if feature.name == "label_int" and not feature.shape and manifest.class_names:
        label = {"numClasses": str(len(manifest.class_names))}
        return {"pythonClassName": f"{_TFDS}class_label_feature.ClassLabel", "classLabel": label}, feature.name
    if feature.dtype == "string" and not feature.shape:
        return {"pythonClassName": f"{_TFDS}text_feature.Text", "text": {}}, None
    if feature.shape.count(None) > 1:
        raise UsageError(f"TFDS reads no feature with two unknown sides; {feature.name!r} has {list(feature.shape)}.")
    dimensions = [str(-1 if side is None else side) for side in feature.shape]
    tensor = {"shape": {"dimensions": dimensions} if dimensions else {}, "dtype": feature.dtype, "encoding": "none"}
    return {"pythonClassName": f"{_TFDS}tensor_feature.Tensor", "tensor": tensor}, None


def _tfds_split(manifest: Manifest, name: str) -> dict[str, Any]:
    split = manifest.split(name)
    count = len(split.shards)
    paths = [shard.path for shard in split.shards]
    endings = {path.rpartition("-of-")[2] for path in paths}
    expected = [f"{name}-{number:05d}-of-{next(iter(endings))}" for number in range(count)]
    if any(shard.compression for shard in split.shards):
        raise UsageError(f"TFDS reads no compressed shards; those of split {name!r} are.")
    if len(endings) != 1 or paths != expected:
        raise UsageError(f"TFDS names shards by one template; those of split {name!r} follow none: {paths[:3]}.")
    rest = next(iter(endings))[5:]
    return {
        "name": name,
        "shardLengths": [str(shard.num_records) for shard in split.shards],
        "numBytes": str(split.num_bytes),
        "filepathTemplate": "{SPLIT}-{SHARD_X_OF_Y}" + rest,
    }


# ---- Croissant


def _croissant_files(manifest: Manifest, on_shard: OnStep) -> dict[str, bytes]:
    """JSON-LD of the vocabulary Croissant 1.0: the shards as files, the splits and classes as record sets.

    Croissant has no transform that reads TFRecords: the records themselves are in no record set.
    """
    shards = [shard for split in manifest.splits.values() for shard in split.shards]

    def digest(number: int, path: str) -> str:
        found = _sha256(manifest.directory / path)
        on_shard(number, len(shards))
        return found

    files = [
        {
            "@type": "cr:FileObject",
            "@id": MANIFEST_NAME,
            "name": MANIFEST_NAME,
            "contentUrl": MANIFEST_NAME,
            "encodingFormat": "application/json",
            "sha256": _sha256(manifest.directory / MANIFEST_NAME),
        },
        *(
            {
                "@type": "cr:FileObject",
                "@id": shard.path,
                "name": shard.path,
                "contentUrl": shard.path,
                "contentSize": f"{shard.num_bytes} B",
                "encodingFormat": "application/x-tfrecord",
                "sha256": digest(number, shard.path),
            }
            for number, shard in enumerate(shards, 1)
        ),
    ]
    name = _plain_name(manifest.directory.name)
    return {
        _CROISSANT: _as_json(
            {
                "@context": _croissant_context(),
                "@type": "sc:Dataset",
                "name": name,
                "description": f"{manifest.num_records():,} {manifest.schema.payload} records of images in TFRecords.",
                "conformsTo": "http://mlcommons.org/croissant/1.0",
                "version": "1.0.0",
                "distribution": files,
                "recordSet": _croissant_record_sets(manifest),
            }
        )
    }


def _sha256(path: Any) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain_name(text: str) -> str:
    kept = "".join(character if character.isalnum() or character in "-_" else "_" for character in text)
    return kept or _NAME


def _croissant_record_sets(manifest: Manifest) -> list[dict[str, Any]]:
    """The splits, and the classes where there are some, each with its rows."""
    split_fields = {"splits/name": "sc:Text", "splits/num_records": "sc:Integer"}
    splits = [{"splits/name": name, "splits/num_records": split.num_records} for name, split in manifest.splits.items()]
    sets = [_record_set("splits", split_fields, splits) | {"dataType": "cr:Split"}]
    if manifest.class_names:
        fields = {"classes/label_int": "sc:Integer", "classes/label": "sc:Text"}
        rows = [{"classes/label_int": at, "classes/label": name} for at, name in enumerate(manifest.class_names)]
        sets.append(_record_set("classes", fields, rows))
    return sets


def _record_set(name: str, fields: dict[str, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    described = [{"@type": "cr:Field", "@id": field, "name": field, "dataType": kind} for field, kind in fields.items()]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": next(iter(fields))},
        "field": described,
        "data": rows,
    }


def _croissant_context() -> dict[str, Any]:
    """The context of Croissant 1.0, as its specification prescribes it."""
    names = (
        "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset"
    )
    names += " jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator"
    names += " source subField transform"
    context: dict[str, Any] = {"@language": "en", "@vocab": "https://schema.org/"}
    context |= {name: f"cr:{name}" for name in names.split()}
    context |= {
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "sc": "https://schema.org/",
    }
    return context


# ---- DALI


def _dali_files(manifest: Manifest, _: OnStep) -> dict[str, bytes]:
    """For each shard, `offset bytes` of every record in lines, as fn.readers.tfrecord(index_path=) reads them."""
    index = load_index(str(manifest.directory / INDEX_NAME)) if manifest.index_digest is not None else None
    files = {}
    for split in manifest.splits.values():
        for shard in split.shards:
            if index is None or shard.index_start is None:
                raise UsageError(f"DALI reads records by their offsets; {shard.path} is compressed and has none.")
            begins = index[shard.index_start : shard.index_start + shard.num_records].astype(np.int64)
            sizes = np.diff(np.append(begins, shard.num_bytes))
            lines = [f"{begin} {size}\n" for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)]
            files[f"{DALI_FOLDER}/{shard.path}.idx"] = "".join(lines).encode()
    return files


KINDS: dict[str, Callable[[Manifest, OnStep], dict[str, bytes]]] = {
    "tfds": _tfds_files,
    "croissant": _croissant_files,
    "dali": _dali_files,
}
