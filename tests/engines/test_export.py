"""Exports read by the libraries that they are for: tensorflow-datasets, mlcroissant, DALI on the CPU."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_files import coco
from conversions import converted

import tfpipe
from tfpipe.format.manifest import Manifest
from tfpipe.maintenance.export import export

pytestmark = pytest.mark.engines


@pytest.fixture
def dataset(raw_dataset: Manifest, tmp_path: Path) -> Manifest:
    return replace(raw_dataset, directory=Path(shutil.copytree(raw_dataset.directory, tmp_path / "out")))


def test_tfds_reads_every_record_as_the_reader_does(dataset: Manifest) -> None:
    import tensorflow_datasets as tfds

    export(dataset, ["tfds"])
    builder = tfds.builder_from_directory(dataset.directory)
    assert builder.info.features["label_int"].names == ["cat", "dog", "emu"]
    for split in dataset.splits:
        read = {one["key"].decode(): one for one in tfds.as_numpy(builder.as_dataset(split=split))}
        assert len(read) == builder.info.splits[split].num_examples == dataset.num_records(split)
        for key, one in read.items():
            expected = tfpipe.get(dataset, key)
            assert (one["label"].decode(), one["label_int"]) == (expected["label"], expected["label_int"])
            # TFDS decodes JPEG files by the fast inverse DCT.
            assert np.abs(one["image"].astype(int) - expected["image"]).max() <= 12


@pytest.mark.parametrize("settings", [{"dtype": "float32", "image_size": (20, 24)}, {"dtype": "uint8"}])
def test_tfds_reads_decoded_pixels(photos: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    import tensorflow_datasets as tfds

    manifest = converted(photos, tmp_path / "out", payload="decoded", **settings)
    export(manifest, ["tfds"])
    one = next(iter(tfds.as_numpy(tfds.builder_from_directory(tmp_path / "out").as_dataset(split="train"))))
    expected = tfpipe.get(manifest, one["key"].decode())["image"]
    pixels = one["image"]
    if settings["dtype"] == "uint8":
        pixels = np.frombuffer(pixels, np.uint8).reshape(one["shape"])
    np.testing.assert_array_equal(pixels, expected)


def test_tfds_reads_boxes(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    manifest = converted(coco(tmp_path / "in"), tmp_path / "out", label_kind="multi")
    export(manifest, ["tfds"])
    for one in tfds.as_numpy(tfds.builder_from_directory(tmp_path / "out").as_dataset(split="train")):
        np.testing.assert_array_equal(one["boxes"], tfpipe.get(manifest, one["key"].decode())["boxes"])


def test_croissant_is_valid_and_its_record_sets_are_read(dataset: Manifest) -> None:
    import mlcroissant

    export(dataset, ["croissant"])
    read = mlcroissant.Dataset(str(dataset.directory / "croissant.json"))
    assert not read.metadata.ctx.issues.errors
    rows = list(read.records("splits"))
    assert {row["splits/name"]: row["splits/num_records"] for row in rows} == {
        name: split.num_records for name, split in dataset.splits.items()
    }


def test_dali_reads_every_record(dataset: Manifest) -> None:
    from nvidia.dali import fn, pipeline_def, tfrecord, types

    export(dataset, ["dali"])
    shards = [shard.path for shard in dataset.split("train").shards]
    count = dataset.num_records("train")

    @pipeline_def(batch_size=count, num_threads=1, device_id=None)
    def pipeline():
        record = fn.readers.tfrecord(
            path=[str(dataset.directory / name) for name in shards],
            index_path=[str(dataset.directory / "dali_index" / f"{name}.idx") for name in shards],
            features={
                "image": tfrecord.FixedLenFeature((), tfrecord.string, ""),
                "label_int": tfrecord.FixedLenFeature([1], tfrecord.int64, -1),
            },
        )
        return fn.decoders.image(record["image"], device="cpu", output_type=types.RGB), record["label_int"]

    running = pipeline()
    running.build()
    images, labels = running.run()
    assert np.bincount(labels.as_array().ravel()).tolist() == list(dataset.split("train").class_counts)
    assert all(np.asarray(images[at]).shape == (30, 40, 3) for at in range(count))
