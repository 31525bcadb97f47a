"""What others need to read a dataset: DALI's offsets are those of records, TFDS's and Croissant's files say the truth.

With the libraries themselves: tests/engines/test_export.py, make engines.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from coco_files import coco
from conversions import converted

from tfpipe.errors import UsageError
from tfpipe.format.framing import valid_payload
from tfpipe.format.lookup import scan_records
from tfpipe.format.manifest import Manifest, Split
from tfpipe.maintenance.check import check_dataset
from tfpipe.maintenance.export import export


@pytest.fixture
def dataset(raw_dataset: Manifest, tmp_path: Path) -> Manifest:
    return replace(raw_dataset, directory=Path(shutil.copytree(raw_dataset.directory, tmp_path / "out")))


def test_dali_s_files_hold_the_frame_of_every_record(dataset: Manifest) -> None:
    written = export(dataset, ["dali"])
    shards = [shard for split in dataset.splits.values() for shard in split.shards]
    assert written == [f"dali_index/{shard.path}.idx" for shard in shards]
    for shard in shards:
        data = (dataset.directory / shard.path).read_bytes()
        lines = (dataset.directory / "dali_index" / f"{shard.path}.idx").read_text().splitlines()
        frames = [(int(begin), int(size)) for begin, size in (line.split(" ") for line in lines)]
        payloads = [valid_payload(data, begin=begin, end=begin + size) for begin, size in frames]
        assert payloads == list(scan_records(dataset, shard))


def test_tfds_s_files_describe_splits_shards_classes_and_features(dataset: Manifest) -> None:
    export(dataset, ["tfds"])
    info = json.loads((dataset.directory / "dataset_info.json").read_text())
    for document in info["splits"]:
        split = dataset.split(document["name"])
        assert [int(length) for length in document["shardLengths"]] == [shard.num_records for shard in split.shards]
        count = len(split.shards)
        names = [
            document["filepathTemplate"]
            .replace("{SPLIT}", document["name"])
            .replace("{SHARD_X_OF_Y}", f"{number:05d}-of-{count:05d}")
            for number in range(count)
        ]
        assert names == [shard.path for shard in split.shards]
    features = json.loads((dataset.directory / "features.json").read_text())["featuresDict"]["features"]
    assert set(features) == set(dataset.schema.names)
    assert (dataset.directory / "label_int.labels.txt").read_text() == "cat\ndog\nemu\n"


def test_tfds_gets_no_feature_that_some_records_lack(mixed_dataset: Manifest, tmp_path: Path) -> None:
    manifest = replace(mixed_dataset, directory=Path(shutil.copytree(mixed_dataset.directory, tmp_path / "out")))
    export(manifest, ["tfds"])
    features = json.loads((tmp_path / "out/features.json").read_text())["featuresDict"]["features"]
    assert set(manifest.schema.names) - set(features) == {"orientation"}


def test_croissant_lists_every_file_with_its_digest(dataset: Manifest) -> None:
    assert export(dataset, ["croissant"]) == ["croissant.json"]
    document = json.loads((dataset.directory / "croissant.json").read_text())
    names = {"dataset.json", *(shard.path for split in dataset.splits.values() for shard in split.shards)}
    assert {file["contentUrl"] for file in document["distribution"]} == names
    for file in document["distribution"]:
        data = (dataset.directory / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    splits, classes = document["recordSet"]
    counts = {row["splits/name"]: row["splits/num_records"] for row in splits["data"]}
    assert counts == {name: split.num_records for name, split in dataset.splits.items()}
    assert [row["classes/label"] for row in classes["data"]] == list(dataset.class_names)


def test_an_export_changes_nothing_of_the_dataset(dataset: Manifest) -> None:
    before = {path.name: path.read_bytes() for path in dataset.directory.iterdir()}
    export(dataset, ["tfds", "croissant", "dali"])
    after = {path.name: path.read_bytes() for path in dataset.directory.iterdir() if path.is_file()}
    assert before.items() <= after.items()
    assert check_dataset(dataset) == []


def test_what_a_library_can_not_read_is_refused_and_leaves_nothing_behind(dataset: Manifest) -> None:
    before = sorted(dataset.directory.rglob("*"))
    splits = {}
    for name, split in dataset.splits.items():
        shards = tuple(replace(shard, index_start=None, compression="GZIP") for shard in split.shards)
        splits[name] = Split(shards, split.class_counts)
    compressed = replace(dataset, splits=splits)
    with pytest.raises(UsageError, match="TFDS reads no compressed shards; those of split 'train' are"):
        export(compressed, ["croissant", "tfds"])
    with pytest.raises(UsageError, match="is compressed and has none"):
        export(compressed, ["dali"])
    shards = tuple(replace(shard, path=f"x{shard.path}") for shard in dataset.split("train").shards)
    renamed = replace(dataset, splits={"train": Split(shards, dataset.split("train").class_counts)})
    with pytest.raises(UsageError, match="TFDS names shards by one template; those of split 'train' follow none"):
        export(renamed, ["tfds"])
    with pytest.raises(UsageError, match="keeps names of classes as stripped lines"):
        export(replace(dataset, class_names=("cat", "dog\nemu", "yak")), ["tfds"])
    with pytest.raises(UsageError, match=r"Nothing is known of \['parquet'\]"):
        export(dataset, ["parquet"])
    assert sorted(dataset.directory.rglob("*")) == before


def test_boxes_are_tensors_of_any_length_for_tfds(tmp_path: Path) -> None:
    manifest = converted(coco(tmp_path / "in"), tmp_path / "out", label_kind="multi")
    export(manifest, ["tfds"])
    features = json.loads((tmp_path / "out/features.json").read_text())["featuresDict"]["features"]
    assert features["boxes"]["tensor"]["shape"] == {"dimensions": ["-1", "4"]}
