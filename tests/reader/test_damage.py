"""Damaged records, undecodable images, missing shards: named where they stop the epoch, counted where skipped."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from tfpipe.format.framing import masked_crc, scan
from tfpipe.format.manifest import load_manifest
from tfpipe.reader.damage import explain
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.records import open_records

SIZE = (6, 8)


@pytest.fixture
def copy(raw_dataset, tmp_path):
    shutil.copytree(raw_dataset.directory, tmp_path / "copy")
    return load_manifest(tmp_path / "copy")


def flip_a_bit(manifest, shard_number, record):
    """Damages the payload of one record near its end; its key stays legible."""
    path = manifest.shard_path(manifest.split("train").shards[shard_number])
    found = list(scan(path))[record]
    data = bytearray(path.read_bytes())
    data[found.offset + 12 + len(found.data) // 2] ^= 1
    path.write_bytes(data)
    return path, key_of(found.data)


def spoil_the_image(manifest, shard_number, record):
    """Makes the image of one record undecodable, and its checksums right."""
    path = manifest.shard_path(manifest.split("train").shards[shard_number])
    found = list(scan(path))[record]
    payload = bytes(found.data).replace(b"\xff\xd8\xff", b"\0\0\0", 1)
    data = bytearray(path.read_bytes())
    begin = found.offset + 12
    data[begin : begin + len(payload)] = payload
    data[begin + len(payload) : begin + len(payload) + 4] = masked_crc([payload]).to_bytes(4, "little")
    path.write_bytes(data)
    return path, key_of(payload)


def key_of(payload):
    return tf.train.Example.FromString(payload).features.feature["key"].bytes_list.value[0]


HARM = {"damaged": flip_a_bit, "cannot be decoded": spoil_the_image}


def a_dataset(manifest, batch_size=4, **options):
    settings = {"training": options.pop("training", True), "labels": options.pop("labels", None)}
    return make_dataset(manifest, batch_size=batch_size, image_size=SIZE, options=ReadOptions(**options), **settings)


def keys(dataset):
    return [list(batch["key"].numpy()) for batch in dataset]


def all_keys(manifest):
    paths = [manifest.shard_path(shard) for shard in manifest.split("train").shards]
    return sorted(key_of(record.data) for path in paths for record in scan(path))


# ---- raise


@pytest.mark.parametrize("what", HARM)
@pytest.mark.parametrize(
    "options", [{}, {"block_records": 4}, {"shuffle": "buffer"}, {"parallel_calls": 1, "training": False}], ids=str
)
def test_the_error_names_shard_record_and_key(copy, what, options):
    path, key = HARM[what](copy, 1, 2)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        list(a_dataset(copy, **options))
    for part in (f"record 2 of {path}", key.decode(), what):
        assert part in str(error.value)


def test_fit_says_it_too(copy):
    import keras

    path, _ = flip_a_bit(copy, 0, 1)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile(loss="mse")
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"record 1 of {path}"):
        model.fit(a_dataset(copy, labels="one_hot"), verbose=0)


def test_a_shard_that_goes_away_under_the_reader_is_named(copy):
    dataset = a_dataset(copy)
    path = copy.shard_path(copy.split("train").shards[0])
    path.unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"of {path} cannot be read: .*No such file"):
        list(dataset)


def test_an_unknown_key_is_called_unknown(copy):
    path = copy.shard_path(copy.split("train").shards[0])
    data = bytearray(path.read_bytes())
    data[12:60] = bytes(48)
    path.write_bytes(data)
    sentence = explain(open_records([(copy, "train")]), 0)
    assert sentence == f"record 0 of {path} (key unknown, byte 0) is damaged: its checksum is wrong"


# ---- skip


@pytest.mark.parametrize("what", HARM)
@pytest.mark.parametrize("options", [{}, {"block_records": 4}, {"cache": "memory"}], ids=str)
def test_skip_loses_the_record_alone_and_fills_its_place(copy, what, options):
    undamaged = keys(a_dataset(copy, **options))
    _, lost = HARM[what](copy, 1, 2)
    skipped = keys(a_dataset(copy, on_error="skip", **options))
    assert len(undamaged) == len(skipped)
    for before, after in zip(undamaged, skipped, strict=True):
        indices = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert indices == [i for i, key in enumerate(before) if key == lost]
        for i in indices:
            assert after[i] == before[i - 1 if i else 1]


@pytest.mark.parametrize("options", [{}, {"block_records": 4, "window_records": 12}], ids=str)
def test_iterations_interrupted_and_in_threads_are_right_where_records_are_damaged(copy, options):
    flip_a_bit(copy, 0, 1)
    spoil_the_image(copy, 1, 2)
    undisturbed = a_dataset(copy, on_error="skip", **options)
    expected = [keys(undisturbed) for _ in range(14)]
    shared = a_dataset(copy, on_error="skip", **options)
    for epoch in range(4):
        assert keys(shared.take(epoch + 1)) == expected[epoch][: epoch + 1]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: keys(shared), range(9)))
    assert sorted(found) == sorted(expected[4:13])


def test_skip_leaves_the_place_out_in_evaluation(copy):
    _, first = flip_a_bit(copy, 0, 0)
    _, second = spoil_the_image(copy, 1, 2)
    left = [key for batch in keys(a_dataset(copy, training=False, on_error="skip")) for key in batch]
    expected = all_keys_but(copy, first, second)
    assert sorted(left) == expected


def all_keys_but(manifest, *lost):
    shards = manifest.split("train").shards
    paths = [manifest.shard_path(shard) for shard in shards]
    found = set()
    for path, offsets in zip(paths, manifest.offsets("train"), strict=True):
        data = path.read_bytes()
        ends = [*offsets[1:].tolist(), len(data)]
        found |= {key_of(data[int(a) + 12 : b - 4]) for a, b in zip(offsets, ends, strict=True)}
    return sorted(found - set(lost))


def test_skip_leaves_a_batch_of_lost_records_out(copy):
    _, lost = flip_a_bit(copy, 0, 0)
    left = keys(a_dataset(copy, batch_size=1, on_error="skip"))
    assert len(left) == copy.num_records("train") - 1
    assert [lost] not in left


def test_skip_reports_count_and_places_at_the_end_of_each_epoch(copy, caplog):
    path, key = flip_a_bit(copy, 1, 2)
    dataset = a_dataset(copy, on_error="skip")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "tfpipe"):
            keys(dataset)
        (message,) = [record.getMessage() for record in caplog.records]
        assert message.startswith(f"1 of {copy.num_records('train')} records were skipped in this epoch: record 2 of")
        assert str(path) in message
        assert key.decode() in message


def test_skip_with_sound_data_reports_nothing(raw_dataset, caplog):
    with caplog.at_level(logging.WARNING, "tfpipe"):
        keys(a_dataset(raw_dataset, on_error="skip"))
    assert not caplog.records


def test_skipping_streams_resume_and_are_shared_exactly(copy):
    flip_a_bit(copy, 0, 1)
    spoil_the_image(copy, 1, 2)
    whole = keys(a_dataset(copy, on_error="skip"))
    assert keys(a_dataset(copy, on_error="skip", start_step=3)) == whole[3:]
    shares = [keys(a_dataset(copy, on_error="skip", host_index=host, host_count=2)) for host in range(2)]
    merged = [batch for pair in zip(*shares, strict=True) for batch in pair]
    assert merged == whole[: len(merged)]


def test_lost_records_keep_the_shapes_fixed(copy):
    spoil_the_image(copy, 1, 2)
    dataset = a_dataset(copy, on_error="skip")
    assert dataset.element_spec["image"].shape == (4, *SIZE, 3)
    assert all(np.shape(batch["image"]) == (4, *SIZE, 3) for batch in dataset)


@pytest.mark.parametrize("global_seed", [0, 5])
def test_a_buffer_shuffles_alike_whatever_the_global_seed_is(raw_dataset, global_seed):
    def keys():
        options = ReadOptions(shuffle="buffer", shuffle_buffer=8)
        dataset = make_dataset(raw_dataset, batch_size=2, image_size=(8, 8), labels=None, options=options)
        return [key for batch in dataset for key in batch["key"].numpy()]

    plain = keys()
    tf.random.set_seed(global_seed)
    try:
        assert keys() == plain
    finally:
        tf.random.set_seed(None)
