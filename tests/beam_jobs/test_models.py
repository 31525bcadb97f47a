"""Vectors are those of the model called directly, and the manifest says which model that was, never where it lay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import KINDS, files_of, stock_read, upright_pixels

from beam_jobs.convert import convert
from beam_jobs.encode.models import load_embedder
from beam_jobs.job import Job
from tfpipe.errors import SetupError, UsageError
from tfpipe.format.manifest import Manifest, digest_file
from tfpipe.images.decode import resize_image
from tfpipe.maintenance.check import check_dataset

SIZE = (12, 16)


class Means(tf.Module):
    """Nine numbers of an image: means of its thirds, each with a weight."""

    def __init__(self, dtype: tf.DType = tf.float32, size: tuple[int | None, int | None] = SIZE) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.constant([1.0, 2.0, -3.0]))
        spec = tf.TensorSpec([None, *size, 3], dtype)
        self.__call__ = tf.function(self.call, input_signature=[spec])

    def call(self, images: tf.Tensor) -> tf.Tensor:
        thirds = tf.reshape(tf.cast(images, tf.float32), [-1, 3, SIZE[0] // 3, SIZE[1], 3])
        return tf.reduce_mean(thirds, [2, 3]) * self.weights


def keras_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((*SIZE, 3)),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(5),
    ]
    return keras.Sequential(layers)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Any]]:
    """Name -> the handle, and the model to be called on float images in [0, 1] (uint8 for "uint8")."""
    root = tmp_path_factory.mktemp("models")
    module, byte_module, model = Means(), Means(tf.uint8), keras_model()
    tf.saved_model.save(module, str(root / "module"), signatures=module.__call__.get_concrete_function())
    tf.saved_model.save(Means(size=(None, None)), str(root / "any size"))
    tf.saved_model.save(byte_module, str(root / "uint8"), signatures=byte_module.__call__.get_concrete_function())
    model.export(str(root / "exported"), verbose=False)
    model.save(root / "model.keras")
    called = lambda images: model(images, training=False)  # noqa: E731
    direct = {
        "module": module.call,
        "any size": module.call,
        "uint8": byte_module.call,
        "exported": called,
        "model.keras": called,
    }
    return {name: (str(root / name), function) for name, function in direct.items()}


def embedded(source: Path, output: Path, model: str, **options: Any) -> Manifest:
    job = Job(input=str(source), output=str(output), payload="embedding", model=model, target_bytes=2_000, **options)
    manifest = convert(job).manifest
    assert manifest is not None
    return manifest


def vectors_of(manifest: Manifest, size: int) -> dict[str, np.ndarray]:
    spec = tf.io.FixedLenFeature([size], tf.float32)
    return {record["key"].decode(): record["embedding"] for record in stock_read(manifest, embedding=spec)}


def pixels_for(path: Path, resize: str = "pad") -> np.ndarray:
    return resize_image(tf.constant(upright_pixels(path.read_bytes())), SIZE, resize=resize, antialias=True).numpy()


@pytest.mark.parametrize("name", ["module", "any size", "uint8", "exported", "model.keras"])
def test_vectors_are_those_of_the_model_called_directly(
    photos: Path, models: dict[str, tuple[str, Any]], tmp_path: Path, name: str
) -> None:
    handle, function = models[name]
    manifest = embedded(photos, tmp_path / "out", handle, image_size=SIZE if name == "any size" else None)
    width = 9 if name in ("module", "any size", "uint8") else 5
    found = vectors_of(manifest, width)
    keys = sorted(found)
    assert keys == sorted(files_of(photos))
    pixels = np.stack([pixels_for(photos / key) for key in keys])
    # Pillow's pixels differ by at most 2 from the converter's.
    images = pixels if name == "uint8" else (pixels / np.float32(255)).astype(np.float32)
    scale = 255 if name == "uint8" else 1
    expected = np.asarray(function(images)).reshape(len(keys), -1)
    np.testing.assert_allclose(np.stack([found[key] for key in keys]), expected, atol=0.03 * scale)
    assert manifest.schema["embedding"].shape == (width,)
    assert set(manifest.schema.names) == {"key", "label", "label_int", "embedding"}
    assert check_dataset(manifest) == []


def test_vectors_of_png_files_are_exactly_the_model_s(models: dict[str, tuple[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "in/cat").mkdir(parents=True)
    for i in range(40):
        (tmp_path / f"in/cat/{i}.png").write_bytes(KINDS[".png"](i))
    handle, function = models["exported"]
    manifest = embedded(tmp_path / "in", tmp_path / "out", handle, resize="crop", split={"all": 1.0})
    found = vectors_of(manifest, 5)
    assert sum(len(split.shards) for split in manifest.splits.values()) > 1
    for key, vector in found.items():
        image = pixels_for(tmp_path / "in" / key, "crop")[None] / np.float32(255)
        # Another batch size may take another kernel: the last bits differ.
        np.testing.assert_allclose(vector, np.asarray(function(image))[0], atol=1e-5)


def test_threads_and_the_place_of_the_model_change_no_byte(
    photos: Path, models: dict[str, tuple[str, Any]], tmp_path: Path
) -> None:
    handle = models["exported"][0]
    moved = shutil.copytree(handle, tmp_path / "elsewhere" / Path(handle).name)
    one = embedded(photos, tmp_path / "one", handle, threads=1)
    embedded(photos, tmp_path / "many", f"{moved}/", threads=4)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "many")
    for data in files_of(tmp_path / "one").values():
        assert str(tmp_path.parent).encode() not in data
    assert one.made_by["model"] == {
        "name": "exported",
        "digest": one.made_by["model"]["digest"],
        "image_size": list(SIZE),
        "scale": "0,1",
        "batch": 32,
        "resize": "pad",
        "embedding_size": 5,
    }
    assert set(one.made_by["versions"]) == {"tfpipe", "numpy", "xxhash", "tensorflow", "keras"}


def test_a_refused_image_is_left_out_and_its_neighbours_keep_their_vectors(
    photos: Path, models: dict[str, tuple[str, Any]], tmp_path: Path
) -> None:
    source = shutil.copytree(photos, tmp_path / "in")
    whole = vectors_of(embedded(source, tmp_path / "whole", models["module"][0]), 9)
    (source / "cat/003.jpg").write_bytes(KINDS[".jpg"](3)[:-2])
    less = vectors_of(embedded(source, tmp_path / "less", models["module"][0], max_rejected="1"), 9)
    assert whole.keys() - less.keys() == {"cat/003.jpg"}
    for key, vector in less.items():
        np.testing.assert_array_equal(vector, whole[key])


def test_another_model_under_the_same_name_is_another_dataset(
    photos: Path, models: dict[str, tuple[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    shutil.copy(models["model.keras"][0], path)
    embedded(photos, tmp_path / "out", str(path))
    assert json.loads((tmp_path / "out/dataset.json").read_text())["made_by"]["model"]["digest"] == digest_file(path)
    model = keras_model()
    model.layers[-1].bias.assign([1.0] * 5)
    model.save(path)
    with pytest.raises(UsageError, match=r"holds another dataset: digest was 'xxh3_128:\w+' and is 'xxh3_128:\w+'"):
        embedded(photos, tmp_path / "out", str(path), resume=True)


@pytest.mark.parametrize(("scale", "expected"), [(None, 1.0), ("0,1", 1.0), ("0,255", 255.0), ("-1,1", 1.0)])
def test_the_range_of_values_can_be_chosen(
    models: dict[str, tuple[str, Any]], scale: str | None, expected: float
) -> None:
    embedder = load_embedder(models["module"][0], None, scale)
    white = embedder.embed(np.full((1, *SIZE, 3), 255, np.uint8))
    black = embedder.embed(np.zeros((1, *SIZE, 3), np.uint8))
    np.testing.assert_allclose(white[0, :3], np.array([1, 2, -3]) * expected, rtol=1e-6)
    np.testing.assert_allclose(black[0, :3], np.array([1, 2, -3]) * (-1 if scale == "-1,1" else 0), rtol=1e-6)
    assert embedder.recorded()["scale"] == (scale or "0,1")


def test_a_model_that_takes_levels_gets_levels(models: dict[str, tuple[str, Any]]) -> None:
    embedder = load_embedder(models["uint8"][0], None, None)
    assert embedder.recorded()["scale"] == "uint8"
    np.testing.assert_allclose(embedder.embed(np.full((2, *SIZE, 3), 200, np.uint8))[1, :3], [200, 400, -600])


@pytest.mark.parametrize("name", ["module", "exported", "model.keras"])
@pytest.mark.parametrize("count", [1, 7, 32])
def test_a_vector_does_not_depend_on_its_neighbours(models: dict[str, tuple[str, Any]], name: str, count: int) -> None:
    embedder = load_embedder(models[name][0], None, None)
    images = np.random.default_rng(0).integers(0, 256, (32, *SIZE, 3), np.uint8)
    np.testing.assert_array_equal(embedder.embed(images)[:count], embedder.embed(images[:count]))
    assert embedder.embed(images[:count]).dtype == np.float32


def test_the_digest_is_that_of_the_weights_wherever_they_lie(
    models: dict[str, tuple[str, Any]], tmp_path: Path
) -> None:
    handle = models["exported"][0]
    copy = shutil.copytree(handle, tmp_path / "copy")
    digest = load_embedder(handle, None, None).digest
    assert load_embedder(str(copy), None, None).digest == digest
    (copy / "fingerprint.pb").unlink()  # it holds a random number
    assert load_embedder(str(copy), None, None).digest == digest
    other = Means()
    other.weights.assign([1.0, 2.0, 3.0])
    tf.saved_model.save(other, str(tmp_path / "module"))
    assert (
        load_embedder(str(tmp_path / "module"), None, None).digest
        != load_embedder(models["module"][0], None, None).digest
    )


def test_a_damaged_or_empty_folder_is_no_model(models: dict[str, tuple[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    damaged = shutil.copytree(models["exported"][0], tmp_path / "damaged")
    with open(damaged / "variables/variables.data-00000-of-00001", "r+b") as file:
        file.write(b"junk")
    for folder in (tmp_path / "empty", damaged):
        with pytest.raises(UsageError, match=f"{folder}' is not a valid SavedModel: "):
            load_embedder(str(folder), None, None)


def test_a_handle_never_carries_a_path_into_the_manifest(
    models: dict[str, tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = models["module"][0]
    monkeypatch.chdir(Path(handle).parent)
    for name in (
        handle,
        "module",
        "./module",
        f"{handle}/",
        f"file://{handle}",
        f"../{Path(handle).parent.name}/module",
    ):
        recorded = load_embedder(name, None, None).recorded()
        assert (recorded["name"], recorded["image_size"]) == ("module", list(SIZE)), name


@pytest.mark.parametrize("without", [False, True], ids=["weights at hand", "no network"])
def test_an_application_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, without: bool) -> None:
    keras.utils.set_random_seed(1)
    real = keras.applications.MobileNetV2

    def build(**options: Any) -> keras.Model:
        if without:
            raise OSError("no route to host")
        return real(weights=None, alpha=0.35, **options)

    monkeypatch.setattr(keras.applications, "MobileNetV2", build)
    if without:
        with pytest.raises(
            SetupError, match=r"--model MobileNetV2: its weights could not be loaded \(no route to host\)"
        ):
            load_embedder("MobileNetV2", (32, 32), None)
        return
    embedder = load_embedder("MobileNetV2", (32, 32), None)
    assert (embedder.name, embedder.image_size, embedder.scale) == ("MobileNetV2", (32, 32), "mobilenet_v2")
    vectors = embedder.embed(np.zeros((2, 32, 32, 3), np.uint8))
    assert vectors.shape == (2, 1280)
    # mobilenet_v2's preprocessing maps uint8 values to [-1, 1].
    ranged = load_embedder("MobileNetV2", (32, 32), "-1,1")
    assert ranged.scale == "-1,1"


@pytest.mark.parametrize(
    ("handle", "error", "sentence"),
    [
        ("nowhere.keras", UsageError, "--model 'nowhere.keras': there is no such file"),
        ("./nowhere", UsageError, "--model './nowhere': there is no such folder"),
        (
            "NoSuchNet",
            UsageError,
            r"--model 'NoSuchNet' is no file, no folder and no keras.applications model; those are \[",
        ),
    ],
)
def test_a_model_that_is_not_there_is_named(handle: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        load_embedder(handle, None, None)


def test_a_model_without_an_image_size_has_to_be_told(
    models: dict[str, tuple[str, Any]], photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="does not say which image size it takes; give --image_size H,W"):
        embedded(photos, tmp_path / "out", models["any size"][0])
    assert not (tmp_path / "out").exists()


def test_a_model_that_gives_no_vectors_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec([None, *SIZE, 3], tf.float32)
    module.__call__ = tf.function(lambda images: {"a": images, "b": images}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "two"), signatures=module.__call__.get_concrete_function())
    with pytest.raises(UsageError, match="--model 'two' gives 2 outputs; it has to give one, the vectors"):
        load_embedder(str(tmp_path / "two"), None, None).embed(np.zeros((1, *SIZE, 3), np.uint8))
