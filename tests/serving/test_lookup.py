"""tfpipe.get: one record by its key, as make_dataset gives it."""

from pathlib import Path

import numpy as np
import pytest
from coco_files import coco
from conversions import converted
from PIL import Image

import tfpipe
from tfpipe.errors import UsageError
from tfpipe.format.lookup import find_key, list_shards, read_record, scan_records
from tfpipe.format.manifest import Manifest
from tfpipe.maintenance.health.measures import measure_image
from tfpipe.maintenance.health.survey import survey_dataset
from tfpipe.serving.lookup import plain_value, record_preparer


def batches_of(manifest: Manifest, **options):
    settings = {"batch_size": 1, "labels": None, "training": False, **options}
    return tfpipe.make_dataset(manifest, "train", **settings).as_numpy_iterator()


def test_every_kind_of_file_has_the_features_of_make_dataset(mixed_dataset: Manifest) -> None:
    size, resize = (24, 32), "crop"
    prepare = record_preparer(mixed_dataset, size, resize)
    for batch in batches_of(mixed_dataset, image_size=size, resize=resize):
        serialized = read_record(mixed_dataset, find_key(mixed_dataset, batch["key"][0].decode()))
        record = {name: plain_value(value) for name, value in prepare(serialized).items()}
        assert record.keys() == batch.keys()
        np.testing.assert_array_equal(record["image"], batch["image"][0])
        assert record["label"] == batch["label"][0].decode()
        assert record["label_int"] == batch["label_int"][0]


def test_boxes_move_with_the_image(tmp_path: Path) -> None:
    manifest = converted(coco(tmp_path / "in"), tmp_path / "out", label_kind="multi")
    batches = {batch["key"][0].decode(): batch for batch in batches_of(manifest, image_size=(50, 40))}
    key = next(key for key, batch in batches.items() if len(batch["boxes"][0]) == 3)
    record = tfpipe.get(manifest.directory, key, image_size=(50, 40))
    np.testing.assert_allclose(record["boxes"], batches[key]["boxes"][0], atol=1e-4)
    assert not np.allclose(record["boxes"], tfpipe.get(manifest, key)["boxes"])


def test_a_key_that_no_record_has_is_refused(mixed_dataset: Manifest) -> None:
    with pytest.raises(UsageError, match="has the key 'cat/nowhere.jpg'"):
        tfpipe.get(mixed_dataset, "cat/nowhere.jpg")


def test_the_health_survey_sees_what_the_reader_sees(mixed_dataset: Manifest) -> None:
    """Sizes, brightness and hash by Pillow against the reader's pixels: turned, 16 bits, CMYK, palettes."""
    survey = survey_dataset(mixed_dataset)
    assert survey.measured.all()
    prepare = record_preparer(mixed_dataset, None, "pad")
    stored = [data for *_, shard in list_shards(mixed_dataset) for data in scan_records(mixed_dataset, shard)]
    for record, serialized in enumerate(stored):
        features = prepare(serialized)
        image = features["image"].numpy()
        assert survey.keys[record] == plain_value(features["key"])
        assert tuple(survey.sizes[record]) == image.shape[:2]
        expected = measure_image(Image.fromarray(image))
        assert survey.columns["bright"][record] == pytest.approx(expected.bright, abs=3)
        assert int(survey.columns["perceptual_hash"][record] ^ np.uint64(expected.perceptual_hash)).bit_count() <= 6
