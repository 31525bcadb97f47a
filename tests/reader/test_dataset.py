"""make_dataset: what batches hold, in which order, and what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job
from tfpipe.format.manifest import load_manifest
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions

SIZE = (24, 32)


def keys(dataset):
    """The keys of every batch of one iteration."""
    return [list(batch["key"].numpy()) for batch in dataset]


def flat(batches):
    return [key for batch in batches for key in batch]


def keyed(source, **settings):
    return make_dataset(source, labels=None, **{"batch_size": 8, "image_size": SIZE, **settings})


@pytest.fixture(scope="module")
def decoded(photos, tmp_path_factory):
    """The photos as decoded datasets, by dtype."""
    folder = tmp_path_factory.mktemp("decoded")
    return {
        dtype: convert(
            Job(input=str(photos), output=str(folder / dtype), payload="decoded", dtype=dtype, image_size=SIZE)
        ).manifest
        for dtype in ("uint8", "float16", "float32")
    }


# ---- what a batch holds


def test_training_batches_have_fixed_shapes_and_known_cardinality(raw_dataset):
    dataset = make_dataset(raw_dataset, batch_size=8, image_size=SIZE)
    images, labels = dataset.element_spec
    assert (images.shape, images.dtype) == ((8, *SIZE, 3), tf.uint8)
    assert (labels.shape, labels.dtype) == ((8, 3), tf.float32)
    assert dataset.cardinality() == raw_dataset.num_records("train") // 8 == len(list(dataset))


def test_evaluation_keeps_the_last_partial_batch(raw_dataset):
    dataset = make_dataset(raw_dataset, batch_size=8, image_size=SIZE, training=False)
    sizes = [len(labels) for _, labels in dataset]
    assert sum(sizes) == raw_dataset.num_records("train")
    assert dataset.cardinality() == len(sizes)


def test_evaluation_batches_have_fixed_shapes_where_they_come_out_even(raw_dataset):
    dataset = make_dataset(raw_dataset, "validation", batch_size=1, image_size=SIZE)
    assert dataset.element_spec[0].shape == (1, *SIZE, 3)


def test_labels_are_one_hot_or_integers_of_the_class_names(raw_dataset):
    one_hot = make_dataset(raw_dataset, batch_size=4, image_size=SIZE, training=False)
    integers = make_dataset(raw_dataset, batch_size=4, image_size=SIZE, training=False, labels="int")
    for (_, vectors), (_, ids) in zip(one_hot, integers, strict=True):
        assert ids.dtype == tf.int64
        np.testing.assert_array_equal(vectors.numpy(), np.eye(3, dtype=np.float32)[ids.numpy()])


def test_without_labels_batches_hold_every_feature(raw_dataset):
    dataset = keyed(raw_dataset, training=False)
    assert set(dataset.element_spec) == set(raw_dataset.schema.names)
    for batch in dataset:
        for key, label, number in zip(
            batch["key"].numpy(), batch["label"].numpy(), batch["label_int"].numpy(), strict=True
        ):
            assert key.decode().split("/")[0] == label.decode() == raw_dataset.class_names[number]


def test_a_decoded_dataset_yields_its_dtype_and_the_same_image_in_each(decoded):
    images = {}
    for dtype, manifest in decoded.items():
        dataset = make_dataset(manifest, batch_size=8, training=False, options=ReadOptions(shuffle="none"))
        assert dataset.element_spec[0].dtype == dtype
        images[dtype] = np.concatenate([batch.numpy() for batch, _ in dataset])
    assert images["float32"].min() >= 0
    assert images["float32"].max() <= 1
    np.testing.assert_array_equal(np.rint(images["float32"] * 255), images["uint8"])
    np.testing.assert_allclose(images["float16"].astype(np.float32), images["float32"], atol=5e-4)


def test_raw_images_are_the_photographs(raw_dataset, photos):
    """Within the fast decoder's error of what Pillow decodes."""
    for batch in keyed(raw_dataset, image_size=None, training=False):
        for key, image in zip(batch["key"].numpy(), batch["image"].numpy(), strict=True):
            expected = np.asarray(Image.open(photos / key.decode()), np.float32)
            assert np.abs(expected - image).mean() < 5


def test_images_of_one_size_need_no_image_size(raw_dataset):
    assert make_dataset(raw_dataset, batch_size=4).element_spec[0].shape == (4, 30, 40, 3)


# Of a photo of 30 x 40 pixels, the box (left, top, right, bottom) that a square of 40 pixels shows; Pillow fills what
# is outside the photo with black.
SHOWN = {"pad": (0, -5, 40, 35), "stretch": (0, 0, 40, 30), "crop": (5, 0, 35, 30)}


@pytest.mark.parametrize("resize", SHOWN)
def test_images_are_resized_as_asked(raw_dataset, photos, resize):
    batch = next(iter(keyed(raw_dataset, batch_size=4, image_size=(40, 40), resize=resize, training=False)))
    for key, image in zip(batch["key"].numpy(), batch["image"].numpy().astype(np.float32), strict=True):
        photo = Image.open(photos / key.decode())
        errors = {
            name: np.abs(np.asarray(photo.crop(box).resize((40, 40), Image.Resampling.BILINEAR)) - image).mean()
            for name, box in SHOWN.items()
        }
        # The fast decoder is 2 uint8 values off; where another part of the photo is shown, it is more than 5.
        assert errors.pop(resize) < 3
        assert min(errors.values()) > 5


def test_turned_photographs_come_out_upright(mixed, tmp_path):
    manifest = convert(Job(input=str(mixed), output=str(tmp_path / "out"), split={"train": 1})).manifest
    assert "orientation" in manifest.schema
    dataset = make_dataset(manifest, batch_size=1, image_size=(30, 40), labels=None, training=False)
    turned = [batch["image"][0] for batch in dataset if b"_turned" in batch["key"].numpy()[0]]
    assert turned
    for image in turned:
        # EXIF 6 stored as 30x40 is 40x30 upright: padding to 30x40 leaves black columns at both sides.
        columns = image.numpy().astype(int).sum((0, 2))
        assert columns[:5].sum() == 0
        assert columns[15:25].min() > 0


# ---- the order


def test_each_epoch_holds_every_record_once_in_another_order(raw_dataset):
    dataset = keyed(raw_dataset, batch_size=1)
    first, second = flat(keys(dataset)), flat(keys(dataset))
    assert sorted(first) == sorted(second)
    assert len(set(first)) == raw_dataset.num_records("train")
    assert first != second


def test_repeat_and_a_second_dataset_walk_the_same_epochs(raw_dataset):
    dataset = keyed(raw_dataset)
    again = keyed(raw_dataset).repeat(2)
    assert keys(dataset) + keys(dataset) == keys(again)


@pytest.mark.parametrize("parallel", [1, 2, 8])
def test_the_order_does_not_depend_on_parallelism(raw_dataset, parallel):
    options = ReadOptions(parallel_reads=parallel, parallel_calls=parallel)
    assert keys(keyed(raw_dataset, options=options)) == keys(keyed(raw_dataset))


def test_another_seed_is_another_order(raw_dataset):
    assert keys(keyed(raw_dataset, seed=1)) != keys(keyed(raw_dataset, seed=2))


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_the_global_batches_in_turn(raw_dataset, hosts):
    whole = keys(keyed(raw_dataset, batch_size=4))
    shares = [
        keys(keyed(raw_dataset, batch_size=4, options=ReadOptions(host_index=host, host_count=hosts)))
        for host in range(hosts)
    ]
    assert len({len(share) for share in shares}) == 1
    merged = [batch for together in zip(*shares, strict=True) for batch in together]
    assert merged == whole[: len(merged)]


def test_the_first_place_of_an_epoch_is_uniform_over_the_records():
    """Chi-square over 400 seeds; the permutation is asked directly."""
    from tfpipe.reader.order import permute_positions

    counts = np.zeros(10)
    for seed in range(400):
        counts[int(permute_positions(seed, 0, tf.constant(0, tf.int64), tf.constant([0], tf.int64), 10)[0])] += 1
    assert ((counts - 40) ** 2 / 40).sum() < 27.9  # 0.1 % of uniform draws pass this with 9 degrees of freedom


@settings(max_examples=30)
@given(st.integers(1, 500), st.integers(0, 2**62), st.integers(0, 1000))
def test_every_order_is_a_permutation(num_records, seed, epoch):
    from tfpipe.reader.order import permute_positions

    places = permute_positions(
        seed, 0, tf.constant(epoch, tf.int64), tf.range(num_records, dtype=tf.int64), num_records
    )
    assert sorted(places.numpy().tolist()) == list(range(num_records))


def test_an_unshuffled_split_keeps_its_order(raw_dataset):
    dataset = keyed(raw_dataset, training=False)
    assert keys(dataset) == keys(dataset)


@pytest.mark.parametrize("place", ["records", "batches"])
@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cache_gives_the_same_records(raw_dataset, tmp_path, cache, place):
    folder = str(tmp_path) if cache == "disk" else None
    options = ReadOptions(cache=cache, cache_place=place, cache_dir=folder)
    dataset = keyed(raw_dataset, batch_size=1, options=options)
    epochs = [flat(keys(dataset)) for _ in range(3)]
    assert len(set(epochs[0])) == raw_dataset.num_records("train")
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert (epochs[1] == epochs[2]) == (place == "batches")


def test_a_disk_cache_left_by_a_killed_run_is_cleared(raw_dataset, tmp_path):
    options = ReadOptions(cache="disk", cache_dir=str(tmp_path))
    next(iter(keyed(raw_dataset, options=options)))
    (folder,) = tmp_path.iterdir()
    (folder / "data_0.lockfile").write_text("of a run that was killed")
    assert len(keys(keyed(raw_dataset, options=options))) == raw_dataset.num_records("train") // 8


@pytest.mark.parametrize("variant", ["plain", "parallel_map", "interleave", "interleave_parallel_map", "book"])
def test_every_variant_reads_the_same_records(raw_dataset, variant):
    dataset = keyed(raw_dataset, batch_size=1, options=getattr(ReadOptions, variant)())
    assert sorted(flat(keys(dataset))) == sorted(flat(keys(keyed(raw_dataset, batch_size=1))))


# ---- transforms


def _note_seed(batch, seed):
    return {**batch, "label": tf.cast(seed, tf.float32)[None] + 0 * batch["label"][:1, :1]}


def test_transforms_draw_anew_in_every_batch_and_epoch_and_repeat_with_the_seed(raw_dataset):
    def seeds(**settings):
        dataset = make_dataset(raw_dataset, batch_size=4, image_size=SIZE, transforms=[_note_seed], **settings)
        return [tuple(label.numpy()[0]) for _ in range(2) for _, label in dataset]

    first = seeds()
    assert len(set(first)) == len(first)
    assert first == seeds()
    assert not set(first) & set(seeds(seed=5))


def test_cached_batches_are_still_transformed_anew(raw_dataset):
    options = ReadOptions(cache="memory", cache_place="batches")
    dataset = make_dataset(raw_dataset, batch_size=4, image_size=SIZE, transforms=[_note_seed], options=options)
    assert not set(_labels(dataset)) & set(_labels(dataset))


def _labels(dataset):
    return [tuple(label.numpy()[0]) for _, label in dataset]


@pytest.mark.parametrize("settings", [{"split": "test"}, {"training": False}])
def test_transforms_are_not_applied_in_evaluation_and_a_warning_says_so(raw_dataset, settings, caplog):
    plain = make_dataset(raw_dataset, batch_size=2, image_size=SIZE, **settings)
    dataset = make_dataset(raw_dataset, batch_size=2, image_size=SIZE, transforms=[_note_seed], **settings)
    assert "transforms are applied in training only" in caplog.text
    for (_, expected), (_, labels) in zip(plain, dataset, strict=True):
        np.testing.assert_array_equal(labels, expected)


def test_a_seed_is_any_integer_and_numpy_s_too(raw_dataset):
    def keys_with(seed):
        return keys(keyed(raw_dataset, seed=seed))

    expected = {seed: keys_with(seed) for seed in (-3, 7, 2**62 + 1)}
    assert len(set(map(str, expected.values()))) == 3
    for number in (np.int8(7), np.int64(7), np.uint64(7), tf.constant(7)):
        assert keys_with(number) == expected[7]
    assert keys_with(np.int64(2**62 + 1)) == expected[2**62 + 1]
    assert keys_with(np.int16(-3)) == expected[-3]


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"split": "valid"}, r"No split 'valid' in .*; it has \['train', 'validation', 'test'\]"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 1000}, "records: not one batch of 1000"),
        ({"resize": "fit"}, "Unknown resize 'fit'"),
        ({"resize": None}, "Unknown resize None; known"),
        ({"seed": 1.5}, "seed is 1.5; it must be an integer"),
        ({"seed": "3"}, "seed is '3'; it must be an integer"),
        ({"batch_size": 2.5}, "batch_size is 2.5; it must be an integer"),
        ({"training": "no"}, "training is 'no'; it must be True, False or None"),
        ({"options": {"prefetch": 2}}, r"options is {'prefetch': 2}; it must be a ReadOptions, or the path"),
        ({"labels": "one-hot"}, "labels is 'one-hot'; it takes one of"),
        ({"image_size": (0, 5)}, r"image_size is \(0, 5\)"),
    ],
)
def test_arguments_out_of_range_are_refused(raw_dataset, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_dataset(raw_dataset, **{"batch_size": 4, "image_size": SIZE, **settings})


def test_images_that_differ_in_size_need_an_image_size(mixed, tmp_path):
    manifest = convert(Job(input=str(mixed), output=str(tmp_path / "out"))).manifest
    with pytest.raises(ValueError, match=r"differ in size; give image_size=\(height, width\)"):
        make_dataset(manifest, batch_size=4)


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="No manifest"):
        make_dataset(tmp_path, batch_size=4)


@pytest.fixture
def copy(raw_dataset, tmp_path):
    """A dataset of one's own, to damage."""
    shutil.copytree(raw_dataset.directory, tmp_path / "copy")
    return load_manifest(tmp_path / "copy")


def test_a_missing_shard_is_named_before_the_first_batch(copy):
    shard = copy.split("train").shards[1]
    copy.shard_path(shard).unlink()
    with pytest.raises(FileNotFoundError, match=f"{shard.path} is missing; tfpipe check"):
        make_dataset(copy, batch_size=4, image_size=SIZE)


def test_a_shortened_shard_is_named_before_the_first_batch(copy):
    shard = copy.split("train").shards[0]
    path = copy.shard_path(shard)
    path.write_bytes(path.read_bytes()[: shard.num_bytes // 2])
    with pytest.raises(ValueError, match=f"{shard.path} has {shard.num_bytes // 2} bytes, the manifest says"):
        make_dataset(copy, batch_size=4, image_size=SIZE)


def test_a_flipped_bit_stops_the_epoch(copy):
    path = copy.shard_path(copy.split("train").shards[0])
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is damaged: its checksum is wrong"):
        list(make_dataset(copy, batch_size=1, image_size=SIZE))


def test_a_stale_disk_cache_is_not_used_for_other_data(copy, tmp_path):
    options = ReadOptions(cache="disk", cache_dir=str(tmp_path / "cache"))
    list(keyed(copy, options=options))
    other = dataclasses.replace(copy, class_names=("a", "b", "c"))
    list(keyed(other, options=options))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_embeddings_take_no_image_size_and_come_as_vectors(tmp_path, photos):
    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Mean(), str(tmp_path / "model"))
    job = Job(input=str(photos), output=str(tmp_path / "out"), payload="embedding", model=str(tmp_path / "model"))
    manifest = convert(dataclasses.replace(job, image_size=(8, 8))).manifest
    for options in (ReadOptions(), ReadOptions(vectorize=False), ReadOptions(cache="memory")):
        dataset = make_dataset(manifest, batch_size=8, options=options)
        assert dataset.element_spec[0] == tf.TensorSpec([8, 3], tf.float32)
        vectors = np.concatenate([batch.numpy() for batch, _ in dataset])
        assert ((vectors > 0) & (vectors < 1)).all()
    with pytest.raises(ValueError, match="holds embeddings, not images"):
        make_dataset(manifest, batch_size=8, image_size=(8, 8))


def test_the_package_hands_out_make_dataset():
    assert tfpipe.make_dataset is make_dataset
