"""from_arrays: what was in the arrays comes out of make_dataset, by the writer's contract; the rest is refused."""

from __future__ import annotations

import json
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import files_of
from processes import process

import tfpipe
from beam_jobs.engines.locks import lock_output
from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.maintenance.check import check_dataset

DRAW = np.random.default_rng(7)
ALL = {"train": 1.0}


def pixels(count: int, *shape: int, dtype: str = "uint8") -> np.ndarray:
    """Random images, each with its number in its first values, so that no two are equal."""
    values = DRAW.integers(0, 256, (count, *shape), np.uint8)
    return values if dtype == "uint8" else DRAW.random((count, *shape), np.float32)


def read(manifest: Manifest, split: str = "train", **settings: Any) -> dict[bytes, Any]:
    """The features of every record of a split, by key."""
    batches = tfpipe.make_dataset(manifest, split, batch_size=4, labels=None, training=False, **settings)
    found = {}
    for batch in batches.as_numpy_iterator():
        for number, key in enumerate(batch["key"]):
            found[key] = {name: values[number] for name, values in batch.items()}
    return found


# ---- what comes out


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4)], ids=str)
def test_what_was_in_the_arrays_comes_out(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    images, labels = pixels(11, *shape, dtype=dtype), np.arange(11) % 3
    manifest = tfpipe.from_arrays(images, labels, tmp_path / "out", split=ALL)
    stored = (*shape, 1) if len(shape) == 2 else shape
    assert (manifest.schema.payload, manifest.schema["image"].shape) == ("decoded", stored)
    records = read(manifest, channels=1 if stored[-1] == 1 else 3)
    assert sorted(records) == [b"%08d" % number for number in range(11)]
    for number in range(11):
        record = records[b"%08d" % number]
        np.testing.assert_array_equal(record["image"], images[number].reshape(stored), strict=True)
        assert (record["shape"].tolist(), record["label"], record["label_int"]) == (
            list(stored),
            b"%d" % labels[number],
            labels[number],
        )
    assert check_dataset(manifest) == []
    assert manifest == load_manifest(tmp_path / "out")


def test_gray_images_train_as_one_channel_or_three_equal_ones(tmp_path: Path) -> None:
    images, labels = pixels(8, 6, 6), np.arange(8) % 2
    manifest = tfpipe.from_arrays(images, labels, tmp_path / "out", split=ALL)
    for channels in (1, 3):
        dataset = tfpipe.make_dataset(manifest, batch_size=4, channels=channels)
        assert [tuple(spec.shape) for spec in dataset.element_spec] == [(4, 6, 6, channels), (4, 2)]
        assert sum(int(batch[0].shape[0]) for batch in dataset) == 8


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_one_name_takes_every_record(tmp_path: Path, split: str) -> None:
    manifest = tfpipe.from_arrays(pixels(9, 2, 2), None, tmp_path / "out", split=split)
    assert {name: part.num_records for name, part in manifest.splits.items()} == {split: 9}


def test_the_default_split_is_the_converter_s(tmp_path: Path) -> None:
    manifest = tfpipe.from_arrays(pixels(400, 2, 2), np.zeros(400, int), tmp_path / "out")
    counts = [manifest.num_records(name) for name in ("train", "validation", "test")]
    assert sum(counts) == 400
    np.testing.assert_allclose(counts, [320, 40, 40], atol=25)


def test_a_split_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Of 1 records none fell into split \['") as caught:
        tfpipe.from_arrays(pixels(1, 2, 2), [0], tmp_path / "out")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tfpipe.from_arrays(pixels(1, 2, 2), [0], tmp_path / "two", split={"train": 1, "test": 0})


# label values -> class_names -> the names, and the ids of the rows.
LABELS: dict[str, tuple[Any, Any, tuple[str, ...], list[int]]] = {
    "0 to n - 1 are their own ids": (
        [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
        None,
        tuple(map(str, range(11))),
        [*range(10, -1, -1)],
    ),
    "others sort as numbers": ([100, 9, 100], None, ("9", "100"), [1, 0, 1]),
    "by index": ([1, 0, 1], ["cat", "dog", "emu"], ("cat", "dog", "emu"), [1, 0, 1]),
    "uint8 columns": (np.array([[3], [1], [3]], np.uint8), None, ("1", "3"), [1, 0, 1]),
    "texts": (["b", "a", "b"], None, ("a", "b"), [1, 0, 1]),
    "texts in a given order": (np.array(["b", "a"]), ["b", "a"], ("b", "a"), [0, 1]),
    "texts of whole numbers": (["10", "9", "2"], None, ("2", "9", "10"), [2, 1, 0]),
    "texts of other numbers": (["10", "9", "02"], None, ("02", "10", "9"), [1, 2, 0]),
    "objects": (np.array(["é", "a"], object), None, ("a", "é"), [1, 0]),
    "integers as objects": (np.array([4, 2], object), None, ("2", "4"), [1, 0]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_name_classes(tmp_path: Path, case: str) -> None:
    labels, class_names, names, ids = LABELS[case]
    manifest = tfpipe.from_arrays(pixels(len(ids), 2, 2), labels, tmp_path / "out", split=ALL, class_names=class_names)
    assert manifest.class_names == names
    records = read(manifest)
    assert [int(records[b"%08d" % row]["label_int"]) for row in range(len(ids))] == ids
    assert [records[b"%08d" % row]["label"].decode() for row in range(len(ids))] == [names[one] for one in ids]
    assert list(manifest.split("train").class_counts) == np.bincount(ids, minlength=len(names)).tolist()


def test_without_labels_there_are_only_images(tmp_path: Path) -> None:
    images = pixels(5, 3, 4, 3)
    manifest = tfpipe.from_arrays(images, None, tmp_path / "out", split=ALL)
    assert (manifest.schema.label_kind, manifest.class_names) == ("none", ())
    assert manifest.schema.names == ("image", "key", "shape")
    np.testing.assert_array_equal(read(manifest)[b"00000003"]["image"], images[3])
    for labels in ("one_hot", "int"):
        with pytest.raises(
            ValueError, match=rf"labels is '{labels}', but the records in .* have no labels; labels=None"
        ):
            tfpipe.make_dataset(manifest, batch_size=1, labels=labels)


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_mean_and_std_are_of_all_pixels(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    images = pixels(300, *shape, dtype=dtype)
    manifest = tfpipe.from_arrays(images, None, tmp_path / "out", split={"train": 0.5, "test": 0.5})
    values = images.reshape(-1, images.shape[3] if images.ndim == 4 else 1).astype(np.float64)
    values = values / 255 if dtype == "uint8" else values
    assert manifest.mean is not None
    assert manifest.std is not None
    np.testing.assert_allclose(manifest.mean, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(manifest.std, values.std(0), rtol=1e-6)


def test_images_without_contrast_have_no_std(tmp_path: Path) -> None:
    images = np.full((50, 9, 9), 0.3, np.float32)
    manifest = tfpipe.from_arrays(images, None, tmp_path / "out", split=ALL)
    np.testing.assert_allclose(manifest.std, [0], atol=1e-6)


def test_equal_images_are_counted(tmp_path: Path) -> None:
    images = np.concatenate([pixels(6, 2, 2)] * 2)
    manifest = tfpipe.from_arrays(images, None, tmp_path / "out", split=ALL)
    assert manifest.statistics["duplicates"] == {"records": 6, "across_splits": 0}


# ---- the writer's contract


def test_with_keys_the_bytes_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    images, labels, keys = pixels(200, 3, 3, 3), DRAW.integers(0, 5, 200), [f"row {n}" for n in range(200)]
    tfpipe.from_arrays(images, labels, tmp_path / "one", keys=keys, seed=3)
    order = DRAW.permutation(200)
    tfpipe.from_arrays(images[order], labels[order], tmp_path / "two", keys=[keys[n] for n in order], seed=3)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    tfpipe.from_arrays(images, labels, tmp_path / "three", keys=keys, seed=4)
    assert files_of(tmp_path / "one") != files_of(tmp_path / "three")


def test_the_split_of_a_key_stays_where_rows_are_added(tmp_path: Path) -> None:
    images, keys = pixels(100, 2, 2), [f"row {n}" for n in range(100)]
    few = tfpipe.from_arrays(images[:50], None, tmp_path / "few", keys=keys[:50])
    many = tfpipe.from_arrays(images, None, tmp_path / "many", keys=keys)
    for split in few.splits:
        assert set(read(few, split)) <= set(read(many, split))


def test_large_arrays_make_shards_of_10_to_100_mb(tmp_path: Path) -> None:
    images = np.zeros((1500, 256, 256, 3), np.uint8)  # 295 MB, of which the kernel gives no page that is not read
    manifest = tfpipe.from_arrays(images, None, tmp_path / "out", split=ALL)
    sizes = [shard.num_bytes for shard in manifest.split("train").shards]
    assert len(sizes) > 1
    assert all(10e6 <= size <= 100e6 for size in sizes)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 40_000):
        images = np.zeros((count, 40, 40), np.uint8)
        tracemalloc.start()
        tfpipe.from_arrays(images, np.zeros(count, np.uint8), tmp_path / str(count), split=ALL)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 38,000 more images are 61 MB; the references of a shard, a run's rows and an id each remain.
    assert peaks[1] - peaks[0] < 38_000 * 800


@pytest.mark.parametrize("name", ["tensorflow", "apache_beam"])
def test_it_needs_neither_tensorflow_nor_beam(tmp_path: Path, name: str) -> None:
    code = f"""
import sys
sys.modules[{name!r}] = None
import numpy as np, tfpipe
images, labels = np.zeros((20, 3, 3), np.uint8), np.arange(20) % 2
manifest = tfpipe.from_arrays(images, labels, {str(tmp_path / "out")!r}, split="train")
print(manifest.num_records(), sorted(manifest.made_by["versions"]))
"""
    result = process("-c", code)
    assert (result.stdout, result.stderr) == ("20 ['numpy', 'tfpipe', 'xxhash']\n", "")


def test_strided_and_mapped_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    images = pixels(10, 4, 4, 3)
    np.save(tmp_path / "images.npy", images)
    views = {
        "mapped": np.load(tmp_path / "images.npy", mmap_mode="r"),
        "strided": np.repeat(images, 2, 0)[::2],
        "fortran": np.asfortranarray(images),
        "readonly": np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
    }
    plain = tfpipe.from_arrays(images, None, tmp_path / "plain")
    for name, view in views.items():
        assert tfpipe.from_arrays(view, None, tmp_path / name).fingerprint() == plain.fingerprint(), name
    floats = pixels(10, 4, 4, dtype="float32")
    one = tfpipe.from_arrays(floats, None, tmp_path / "little", split=ALL)
    two = tfpipe.from_arrays(floats.astype(">f4"), None, tmp_path / "big", split=ALL)
    assert one.fingerprint() == two.fingerprint()


# ---- the output


def test_an_output_that_is_not_empty_is_replaced_only_on_demand(tmp_path: Path) -> None:
    first = tfpipe.from_arrays(pixels(10, 2, 2), None, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(UsageError, match=r"out is not empty, it has 'dataset.json'; overwrite=True replaces"):
        tfpipe.from_arrays(pixels(10, 2, 2), None, tmp_path / "out")
    assert files_of(tmp_path / "out") == before
    second = tfpipe.from_arrays(pixels(12, 2, 2), None, tmp_path / "out", overwrite=True)
    assert (first.num_records(), second.num_records()) == (10, 12)
    assert check_dataset(second) == []
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file; from_arrays takes a folder"):
        tfpipe.from_arrays(pixels(10, 2, 2), None, tmp_path / "file", overwrite=True)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from beam_jobs import arrays

    tfpipe.from_arrays(pixels(10, 2, 2), None, tmp_path / "out")
    before = files_of(tmp_path / "out")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "write_shard", full)
    with pytest.raises(OSError, match="No space left"):
        tfpipe.from_arrays(pixels(12, 2, 2), None, tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == before


def test_another_writer_is_not_disturbed(tmp_path: Path) -> None:
    with lock_output(tmp_path), pytest.raises(SetupError, match="Another conversion is writing to"):
        tfpipe.from_arrays(pixels(2, 2, 2), None, tmp_path)


def test_a_store_takes_arrays_too(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    images, labels = pixels(30, 3, 3), np.arange(30) % 3
    there = tfpipe.from_arrays(images, labels, f"local://{tmp_path}/there")
    here = tfpipe.from_arrays(images, labels, tmp_path / "here")
    assert there.fingerprint() == here.fingerprint()
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


# ---- what is refused

GRAY = np.zeros((3, 2, 2), np.uint8)


def changed(index: tuple[int, ...], value: float) -> np.ndarray:
    """Float images with one other value."""
    images = np.zeros((3, 2, 2, 3), np.float32)
    images[index] = value
    return images


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "int64 images": ({"images": GRAY.astype(int)}, r"images is of type int64; it takes uint8, or float32 in \[0, 1\]"),
    "float64 images": ({"images": GRAY.astype(float)}, "images is of type float64"),
    "float16 images": ({"images": GRAY.astype("float16")}, "images is of type float16"),
    "masked images": ({"images": np.ma.masked_equal(GRAY, 1)}, "images is a masked array"),
    "one image": ({"images": GRAY[0]}, r"images has the shape \(2, 2\); it takes \[N, H, W, C\]"),
    "videos": ({"images": np.zeros((3, 4, 5, 5, 3), np.uint8)}, r"images has the shape \(3, 4, 5, 5, 3\)"),
    "no image": ({"images": GRAY[:0], "labels": []}, r"\(0, 2, 2\): there is no image"),
    "no pixel": ({"images": GRAY[:, :0]}, r"\(3, 0, 2\): height, width and channels must be at least 1"),
    "channels first": ({"images": np.zeros((3, 3, 32, 32), np.uint8)}, r"channels first; they come last: np.moveaxis"),
    "NaN": ({"images": changed((1, 0, 1, 2), np.nan)}, r"images\[1\] holds nan; float images are in \[0, 1\]"),
    "infinity": ({"images": changed((0, 0, 0, 0), np.inf)}, r"images\[0\] holds inf"),
    "beyond 1": ({"images": changed((2, 1, 1, 0), 255)}, r"images\[2\] holds 255.0; .*divide by 255, or pass uint8"),
    "below 0": ({"images": changed((2, 1, 1, 0), -0.5)}, r"images\[2\] holds -0.5"),
    "fewer labels": ({"labels": [0, 1]}, "There are 3 images and 2 labels; each image takes one"),
    "more labels": ({"labels": [0, 1, 1, 0]}, "There are 3 images and 4 labels"),
    "one-hot labels": ({"labels": np.eye(3, dtype=int)}, r"labels has the shape \(3, 3\); .*labels.argmax\(1\)"),
    "a single label": ({"labels": 3}, r"labels has the shape \(\)"),
    "float labels": ({"labels": [0.0, 1.0, 2.0]}, r"labels is of type float64; .*: labels.astype\(int\)"),
    "bool labels": ({"labels": [True, False, True]}, r"labels is of type bool; .*: labels.astype\(int\)"),
    "bytes labels": ({"labels": [b"a", b"b", b"c"]}, r"labels is of type \|S1; .*: labels.astype\(str\)"),
    "a label below 0": ({"labels": [0, -1, 1]}, r"labels\[1\] is -1; integers count from 0.* labels=None"),
    "a label beyond": (
        {"labels": [0, 1, 2], "class_names": ["a", "b"]},
        r"labels\[2\] is 2; class_names has 2, from 0",
    ),
    "an unknown text": ({"labels": ["a", "c", "b"], "class_names": ["a", "b"]}, r"labels\[1\] is 'c', which is not in"),
    "a blank label": ({"labels": ["a", " ", "b"]}, r"labels\[1\] is ' '; it must be a text that is not blank"),
    "a label with NUL": ({"labels": ["a\0b", "a", "b"]}, r"labels\[0\] is 'a\\x00b'"),
    "mixed labels": ({"labels": np.array(["a", 1, None], object)}, r"labels\[1\] is 1, of type int; it must be a text"),
    "no label but classes": ({"labels": None, "class_names": ["a"]}, "class_names goes with labels; labels is None"),
    "classes as one text": ({"class_names": "abc"}, "class_names is 'abc'; it takes a sequence with a text for each"),
    "a class twice": ({"class_names": ["a", "b", "a"]}, r"class_names\[2\] is 'a', as class_names\[0\] is"),
    "a class that is no text": ({"class_names": ["a", 2]}, r"class_names\[1\] is 2, of type int"),
    "no classes": ({"class_names": []}, "class_names is empty"),
    "fewer keys": ({"keys": ["a", "b"]}, "There are 3 images and 2 keys"),
    "a key twice": ({"keys": ["a", "b", "a"]}, r"keys\[2\] is 'a', as keys\[0\] is; each record has a key of its own"),
    "an empty key": ({"keys": ["a", "", "b"]}, r"keys\[1\] is ''"),
    "integer keys": ({"keys": [1, 2, 3]}, r"keys\[0\] is 1, of type int; it must be a text"),
    "keys as one text": ({"keys": "abc"}, "keys is 'abc'; it takes a sequence with a text for each image"),
    "fractions beyond 1": ({"split": {"train": 0.9, "test": 0.2}}, "sum to 1.1; they must sum to 1"),
    "a fraction as text": ({"split": {"train": "1"}}, r"The fraction of split 'train' is '1'; it must be in \[0, 1\]"),
    "no split": ({"split": {}}, "sum to 0.0; they must sum to 1"),
    "a split of another type": ({"split": 0.8}, r"split is 0.8; it takes fractions by name"),
    "a name that is no file's": ({"split": "a/b"}, "A split's name has letters, digits and _ only, not 'a/b'"),
    "a seed below 0": ({"seed": -1}, r"seed is -1; it must be an integer in \[0, 2\*\*64\)"),
    "a seed that is no integer": ({"seed": 1.5}, "seed is 1.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_a_sentence(tmp_path: Path, case: str) -> None:
    changes, sentence = REFUSED[case]
    arguments = {"images": GRAY, "labels": [0, 1, 0], "split": ALL, **changes}
    with pytest.raises(ValueError, match=sentence) as caught:
        tfpipe.from_arrays(arguments.pop("images"), arguments.pop("labels"), tmp_path / "out", **arguments)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    tfpipe.from_arrays(GRAY, [0, 1, 0], tmp_path / "out", split=ALL, seed=5)
    made_by = json.loads((tmp_path / "out/dataset.json").read_text())["made_by"]
    assert made_by["options"] == {
        "payload": "decoded",
        "split": {"train": 1.0},
        "target_bytes": 64_000_000,
        "seed": 5,
        "image_size": [2, 2],
        "dtype": "uint8",
        "source": "arrays",
        "channels": 1,
    }


# ---- training


@pytest.mark.parametrize("channels", [(), (3,)], ids=["gray", "colour"])
def test_a_model_learns_from_arrays_as_keras_has_them(tmp_path: Path, channels: tuple[int, ...]) -> None:
    """The lines of README and docs/sources.md, on digits whose class is where the light is."""
    import keras

    labels = DRAW.integers(0, 4, (600, 1)).astype(np.uint8)
    images = DRAW.integers(0, 80, (600, 12, 12, *channels), np.uint8)
    for number, label in enumerate(labels[:, 0]):
        images[number, 3 * label : 3 * label + 3] += 150
    manifest = tfpipe.from_arrays(images, labels, tmp_path / "out", split={"train": 0.9, "validation": 0.1})
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    depth = (channels or (1,))[0]
    model = keras.Sequential([keras.Input((12, 12, depth)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    train = tfpipe.make_dataset(manifest, batch_size=32, channels=depth)
    validation = tfpipe.make_dataset(manifest, "validation", batch_size=32, channels=depth)
    history = model.fit(train, validation_data=validation, epochs=5, shuffle=False, verbose=0)
    assert history.history["val_accuracy"][-1] > 0.95


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop", tfpipe.RandomResizedCrop()], ids=str)
@pytest.mark.parametrize("antialias", [False, True])
def test_gray_images_are_resized_as_gray(tmp_path: Path, resize: Any, antialias: bool) -> None:
    images = np.repeat(DRAW.integers(0, 256, (4, 9, 12, 1), np.uint8), 3, 3)
    gray = tfpipe.from_arrays(images[..., 0], None, tmp_path / "gray", split=ALL)
    colour = tfpipe.from_arrays(images, None, tmp_path / "colour", split=ALL)
    settings = {"image_size": (6, 7), "resize": resize, "antialias": antialias}
    expected = read(colour, **settings)
    for key, record in read(gray, channels=1, **settings).items():
        np.testing.assert_array_equal(record["image"], expected[key]["image"][..., :1], strict=True)
