"""Crops that are drawn while records are decoded: what they keep, how they vary, and that nothing else changes them."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from pictures import file_bytes, photo

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import load_manifest
from tfpipe.images.decode import decode_upright, decode_window, resize_image
from tfpipe.images.fit import Resize
from tfpipe.reader import dataset
from tfpipe.reader.crops import PaddedCrop, RandomResizedCrop
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.plan import plan_reading

SIZE = (12, 10)


def stream(manifest, resize, batch_size=4, iterations=1, **options):
    """{(epoch, key): pixels} of every record."""
    dataset = make_dataset(
        manifest, batch_size=batch_size, image_size=SIZE, resize=resize, labels=None, options=ReadOptions(**options)
    )
    return {
        (epoch, key): image.tobytes()
        for epoch in range(iterations)
        for batch in dataset
        for key, image in zip(batch["key"].numpy(), batch["image"].numpy(), strict=True)
    }


def windows(crop, sides, count=400):
    """Row, column, height, width of many draws."""
    window = tf.function(lambda draw: crop.for_training(Resize(SIZE), seed=3, draw=draw)._window(tf.constant(sides)))
    return np.array([window(tf.constant(number, tf.int64)).numpy() for number in range(count)])


# ---- the draws


def test_windows_lie_inside_and_have_the_areas_and_aspects_asked_for():
    found = windows(RandomResizedCrop(area=(0.2, 0.5), aspect=(0.8, 1.25)), (300, 400))
    top, left, height, width = found.T
    assert (found >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 400).all()
    area, aspect = height * width / (300 * 400), width / height
    assert 0.195 <= area.min() < 0.23
    assert 0.47 < area.max() <= 0.505
    assert 0.79 <= aspect.min() < 0.84
    assert 1.2 < aspect.max() <= 1.27
    # Uniform: the mean area within four standard errors, and as many aspects below 1 as above.
    assert abs(area.mean() - 0.35) < 4 * 0.3 / math.sqrt(12 * len(area))
    assert abs((aspect < 1).mean() - 0.5) < 0.1


def test_where_no_window_fits_the_largest_in_the_middle_is_taken():
    found = windows(RandomResizedCrop(area=(0.9, 1.0), aspect=(1.0, 1.0)), (40, 200), count=5)
    np.testing.assert_array_equal(found, [[0, 80, 40, 40]] * 5)
    np.testing.assert_array_equal(windows(RandomResizedCrop(), (1, 1), count=3), [[0, 0, 1, 1]] * 3)


def test_a_window_of_a_jpeg_is_what_cutting_the_whole_gives():
    """To the last column: there the decoder would smooth chroma without the pixels beside the window."""
    data = tf.constant(file_bytes(photo(1, 61, 83), "JPEG"))
    whole = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
    for number in range(40):
        fit = Resize(SIZE, antialias=number % 2 == 0)
        resizer = RandomResizedCrop().for_training(fit, seed=1, draw=tf.constant(number, tf.int64))
        found = resizer.decode(data, jpeg_only=True).numpy()
        np.testing.assert_array_equal(found, resizer.resize(whole).numpy())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_window_of_a_turned_jpeg_is_one_of_the_upright_image(orientation, subsampling):
    data = tf.constant(file_bytes(photo(4, 47, 66), "JPEG", quality=85, subsampling=subsampling))
    turn = tf.constant(orientation, tf.int64)
    upright = decode_upright(data, jpeg_only=True, orientation=turn, exact=True)
    how = {"jpeg_only": False, "orientation": turn, "exact": True}
    for top, left, height, width in ((0, 0, 7, 9), (3, 16, 20, 16), (11, 15, 30, 25), (5, 1, 9, 46), (0, 30, 47, 17)):
        found = decode_window(data, lambda size, w=(top, left, height, width): tf.constant(w), **how)
        np.testing.assert_array_equal(found, upright[top : top + height, left : left + width])


def test_the_fast_window_is_that_of_earlier_versions():
    data = tf.constant(file_bytes(photo(1, 61, 83), "JPEG"))
    fit = Resize(SIZE, dct="fast")
    for number in range(10):
        resizer = RandomResizedCrop().for_training(fit, seed=1, draw=tf.constant(number, tf.int64))
        window = resizer._window(tf.constant([61, 83]))
        cut = tf.image.decode_and_crop_jpeg(data, window, channels=3, dct_method="INTEGER_FAST")
        expected = resize_image(cut, SIZE, resize="stretch")
        np.testing.assert_array_equal(resizer.decode(data, jpeg_only=True), expected)


def test_turned_files_and_pngs_are_cut_too():
    picture = photo(2, 20, 30)
    for number in range(6):
        resizer = RandomResizedCrop(area=(1, 1), aspect=(2 / 3, 2 / 3)).for_training(
            Resize((30, 20)), seed=1, draw=tf.constant(number, tf.int64)
        )
        found = resizer.decode(
            tf.constant(file_bytes(picture, "PNG")), jpeg_only=False, orientation=tf.constant(6, tf.int64)
        )
        np.testing.assert_array_equal(found.numpy(), np.rot90(picture, -1))


# ---- padded crops


def test_the_middle_of_the_padded_image_is_taken_in_evaluation():
    picture = tf.constant(photo(3, 40, 20))
    found = PaddedCrop(0.5).for_evaluation(Resize(SIZE)).resize(picture).numpy()
    padded = Resize((24, 20), "pad").resize(picture).numpy()
    np.testing.assert_array_equal(found, padded[6:18, 5:15])


def test_in_training_every_corner_comes():
    picture = tf.constant(photo(3, 24, 20))
    padded = picture.numpy()
    corners = set()
    for number in range(300):
        resizer = PaddedCrop(0.5).for_training(Resize(SIZE), seed=0, draw=tf.constant(number, tf.int64))
        found = resizer.resize(picture).numpy()
        corners_found = [
            (row, column)
            for row in range(13)
            for column in range(11)
            if np.array_equal(padded[row : row + 12, column : column + 10], found)
        ]
        assert len(corners_found) == 1
        corners.update(corners_found)
    assert {row for row, _ in corners} == set(range(13))
    assert {column for _, column in corners} == set(range(11))


# ---- inside make_dataset


@pytest.mark.parametrize("resize", [RandomResizedCrop(), PaddedCrop(0.6)])
def test_every_record_of_every_epoch_is_cropped_anew(raw_dataset, resize):
    found = stream(raw_dataset, resize, iterations=2)
    both = [key for epoch, key in found if epoch == 0 and (1, key) in found]
    assert len(both) > 8
    same = sum(found[0, key] == found[1, key] for key in both)
    assert same <= len(both) // 4


@pytest.mark.parametrize("block", [1, 4])
def test_the_same_crops_come_at_any_parallelism_on_any_hosts_and_after_a_resume(raw_dataset, block, monkeypatch):
    fixed = {"block_records": block, "window_records": 8}
    whole = stream(raw_dataset, RandomResizedCrop(), **fixed)
    assert stream(raw_dataset, RandomResizedCrop(), parallel_reads=1, parallel_calls=1, **fixed) == whole
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "plan_reading", lambda request: replace(plan_reading(request), is_fast=False))
        assert stream(raw_dataset, RandomResizedCrop(), **fixed) == whole
    shares = [stream(raw_dataset, RandomResizedCrop(), host_index=h, host_count=2, **fixed) for h in range(2)]
    assert shares[0] | shares[1] == {key: whole[key] for key in shares[0] | shares[1]}
    resumed = stream(raw_dataset, RandomResizedCrop(), start_step=2, **fixed)
    assert len(resumed) == len(whole) - 8
    assert resumed == {key: whole[key] for key in resumed}


def test_a_damaged_record_changes_no_other_crop(raw_dataset, tmp_path):
    undamaged = stream(raw_dataset, RandomResizedCrop(), batch_size=2, on_error="skip")
    shutil.copytree(raw_dataset.directory, tmp_path / "copy")
    copy = load_manifest(tmp_path / "copy")
    path = copy.shard_path(copy.split("train").shards[1])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = stream(copy, RandomResizedCrop(), batch_size=2, on_error="skip")
    assert len(found) == len(undamaged) - 1
    assert found == {key: undamaged[key] for key in found}


def test_in_evaluation_nothing_is_drawn(raw_dataset):
    def images(resize):
        dataset = make_dataset(raw_dataset, batch_size=4, image_size=SIZE, resize=resize, training=False)
        return np.concatenate([batch.numpy() for batch, _ in dataset])

    np.testing.assert_array_equal(images(RandomResizedCrop()), images("crop"))
    np.testing.assert_array_equal(images(PaddedCrop(1.0)), images("pad"))


def test_decoded_images_of_the_size_asked_for_are_cropped_all_the_same(photos, tmp_path):
    job = Job(input=str(photos), output=str(tmp_path / "out"), payload="decoded", dtype="uint8", image_size=SIZE)
    decoded = convert(job).manifest
    whole = stream(decoded, "pad")
    found = stream(decoded, PaddedCrop(0.5))
    assert found.keys() == whole.keys()
    assert not any(found[key] == whole[key] for key in found)


# ---- refusals


def test_what_cannot_be_drawn_is_refused(raw_dataset):
    for options in ({"cache": "memory"}, {"shuffle": "buffer"}):
        with pytest.raises(ValueError, match="drawn where records have random access"):
            stream(raw_dataset, RandomResizedCrop(), **options)
    with pytest.raises(ValueError, match="area is"):
        RandomResizedCrop(area=(0.0, 1.0))
    with pytest.raises(ValueError, match="aspect is"):
        tfpipe.RandomResizedCrop(aspect=(2.0, 1.0))
    with pytest.raises(ValueError, match="crop_ratio is"):
        tfpipe.PaddedCrop(1.5)
    with pytest.raises(ValueError, match="RandomResizedCrop"):
        stream(raw_dataset, "squeeze")
