"""Decoding made free: the same batches in shape, zeros in them, and every record read."""

import shutil

import coco_files
import numpy as np
import pytest
import tensorflow as tf
from conversions import converted
from pictures import fill_folder
from PIL import Image

import tfpipe
from tfpipe.format.manifest import load_manifest
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.free_decoding import free_decoding
from tfpipe.reader.options import ReadOptions

SIZE = (24, 32)


@pytest.fixture(scope="module")
def sources(raw_dataset, photos, tmp_path_factory):
    """Datasets by what their records hold."""
    root = tmp_path_factory.mktemp("kinds")
    fill_folder(root / "masked", ("cat",), 8)
    (root / "masks" / "cat").mkdir(parents=True)
    for path in (root / "masked").glob("*/*.jpg"):
        Image.new("L", Image.open(path).size, 1).save(root / "masks" / "cat" / f"{path.stem}.png")
    (root / "vectors").mkdir()
    with tf.io.TFRecordWriter(str(root / "vectors" / "train-0.tfrecord")) as writer:
        for number in range(16):
            feature = {
                "embedding": tf.train.Feature(float_list=tf.train.FloatList(value=[number + 1.0] * 6)),
                "label_int": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 3])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    whole = {"split": {"train": 1.0}, "max_rejected": "50%"}  # There are images without a box.
    return {
        "raw": raw_dataset,
        "uint8": converted(photos, root / "uint8", payload="decoded", dtype="uint8", image_size=SIZE),
        "vectors": tfpipe.index(root / "vectors"),
        "masks": converted(root / "masked", root / "with_masks", masks=str(root / "masks"), **whole),
        "boxes": converted(coco_files.coco(root / "coco"), root / "with_boxes", **whole),
    }


# Those from crops on run nightly.
CASES = {
    "dicts": ("raw", {"labels": None}),
    "embeddings": ("vectors", {"image_size": None}),
    "masks": ("masks", {"labels": None}),
    "boxes": ("boxes", {"labels": None}),
    "crops": ("raw", {"resize": tfpipe.RandomResizedCrop()}),
    "images": ("raw", {}),
    "no parallelism": ("raw", {"options": ReadOptions.plain()}),
    "single records": ("raw", {"options": ReadOptions(block_records=1)}),
    "a cache": ("raw", {"options": ReadOptions(cache="memory")}),
    "left out": ("raw", {"options": ReadOptions(on_error="skip")}),
    "evaluation": ("raw", {"training": False}),
    "decoded": ("uint8", {"image_size": None}),
}


def rows(batches):
    return sum(tf.nest.flatten(batch)[0].shape[0] for batch in batches)


@pytest.mark.parametrize("case", CASES)
def test_batches_keep_their_shapes_and_hold_zeros(sources, case):
    name, settings = CASES[case]
    settings = {"batch_size": 4, "image_size": SIZE, **settings}
    with free_decoding():
        free = make_dataset(sources[name], **settings)
    usual = make_dataset(sources[name], **settings)
    assert free.element_spec == usual.element_spec
    batches = list(free)
    assert rows(batches) == rows(usual) > 0
    for batch in batches:
        features = batch if isinstance(batch, dict) else {"image": batch[0]}
        for value in features.values():
            values = value.flat_values if isinstance(value, tf.RaggedTensor) else value
            assert not any(np.asarray(values).ravel())


def test_after_it_decoding_is_what_it_was(raw_dataset):
    with free_decoding():
        pass
    images, _ = next(iter(make_dataset(raw_dataset, batch_size=4, image_size=SIZE)))
    assert np.asarray(images).any()


def test_records_are_still_read_and_their_checksums_checked(raw_dataset, tmp_path):
    copy = load_manifest(shutil.copytree(raw_dataset.directory, tmp_path / "copy"))
    path = copy.shard_path(copy.split("train").shards[0])
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with free_decoding():
        batches = make_dataset(copy, batch_size=1, image_size=SIZE)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is damaged: its checksum is wrong"):
        list(batches)


def test_no_cache_on_disk_keeps_zeros(raw_dataset, tmp_path):
    options = ReadOptions(cache="disk", cache_dir=str(tmp_path / "cache"))
    with free_decoding(), pytest.raises(ValueError, match="cache is 'disk', which would keep the zeros"):
        make_dataset(raw_dataset, batch_size=4, image_size=SIZE, options=options)
