"""A new file comes as those of the dataset did: by load_image, by the layer Preprocess, and by a SavedModel of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import conversions
import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import KINDS, file_bytes, photo, turned
from PIL import Image
from strange_images import DEEP_FILES, STRANGE

import tfpipe
from tfpipe import layers
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest

SIZE = (24, 20)
TURNED = {f"turned {turn}.jpg": turned(20 + turn, turn) for turn in range(1, 9)}
DEEP = {f"deep {name}": DEEP_FILES[name] for name in ("gray.png", "gray alpha.png")}
PLAIN = {f"kind{ending}": make(number) for number, (ending, make) in enumerate(KINDS.items())} | TURNED | DEEP
# One of each format that conversion re-encodes.
FILES = PLAIN | dict({kind: (name, data) for name, (kind, data) in STRANGE.items()}.values())


def filled(root: Path, files: dict[str, bytes]) -> Path:
    (root / "a").mkdir(parents=True)
    for name, data in files.items():
        (root / "a" / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind that conversion takes."""
    return filled(tmp_path_factory.mktemp("all"), FILES)


def converted(source: Path, output: Path, **options: Any) -> Manifest:
    return conversions.converted(source, output, split={"train": 1.0}, **options)


@pytest.fixture(scope="module")
def raw(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return converted(folder, tmp_path_factory.mktemp("raw"))


def images_of(manifest: Manifest, *, dct: str = "exact", **arguments: Any) -> dict[str, np.ndarray]:
    """What make_dataset yields in evaluation, by key."""
    options = tfpipe.ReadOptions(dct=dct)
    dataset = tfpipe.make_dataset(manifest, batch_size=8, labels=None, training=False, options=options, **arguments)
    batches = [(batch["key"].numpy(), batch["image"].numpy()) for batch in dataset]
    return {key.decode(): image for keys, images in batches for key, image in zip(keys, images, strict=True)}


DECODED = {"payload": "decoded", "dtype": "uint8"}
# What conversion is told, and what make_dataset.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "raw": ({}, {"image_size": SIZE}),
    "decoded": ({**DECODED, "image_size": SIZE, "resize": "crop"}, {}),
    "decoded, resized again": ({**DECODED, "image_size": (13, 31), "resize": "crop"}, {"image_size": SIZE}),
    "decoded, own sizes": (DECODED, {"image_size": SIZE, "resize": "stretch"}),
    "decoded floats": ({"payload": "decoded", "image_size": SIZE}, {}),
    "decoded halves, resized again": (
        {"payload": "decoded", "dtype": "float16", "image_size": 31},
        {"image_size": SIZE},
    ),
    "decoded floats, resized again": ({"payload": "decoded", "image_size": 31}, {"image_size": SIZE}),
    "plain and fast": ({}, {"image_size": SIZE, "antialias": False, "dct": "fast", "resize": "crop"}),
    "one channel": ({}, {"image_size": SIZE, "channels": 1}),
    "padded crop": ({}, {"image_size": SIZE, "resize": tfpipe.PaddedCrop(0.7)}),
    "random crop": ({}, {"image_size": SIZE, "resize": tfpipe.RandomResizedCrop()}),
    "smaller files": ({"max_side": 30, "quality": 60}, {"image_size": SIZE}),
    "encoded again": ({"quality": 30}, {"image_size": SIZE}),
    "scaled depth": ({"sixteen_bit": "scale"}, {"image_size": SIZE}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_prepared_as_the_dataset_s_are(folder: Path, raw: Manifest, tmp_path: Path, case: str) -> None:
    options, arguments = CASES[case]
    manifest = converted(folder, tmp_path / "out", **options) if options else raw
    found = images_of(manifest, **arguments)
    assert len(found) == len(FILES)
    for key, image in found.items():
        loaded = tfpipe.load_image(folder / key, like=manifest, **arguments).numpy()
        assert loaded.dtype == np.uint8
        if image.dtype == np.uint8:
            np.testing.assert_array_equal(loaded, image, err_msg=key)
        else:
            near = 1 / 255 if "again" in case else 0  # levels are rounded between the passes over rows and columns
            scaled = (loaded / np.float32(255)).astype(image.dtype)
            np.testing.assert_allclose(scaled.astype(float), image.astype(float), rtol=0, atol=near, err_msg=key)
    layer = layers.Preprocess(manifest.directory, **arguments)
    names = [
        name for name in PLAIN if options.get("sixteen_bit") != "scale" or ("16bit" not in name and name not in DEEP)
    ]
    images = layer(tf.constant([PLAIN[name] for name in names]))
    assert images.shape[1:] == (*SIZE, arguments.get("channels", 3))
    for name, image in zip(names, images.numpy(), strict=True):
        assert image.dtype == found[f"a/{name}"].dtype
        np.testing.assert_array_equal(image, found[f"a/{name}"], err_msg=name)
    again = layers.Preprocess.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.preparation == layer.preparation


def test_what_a_model_of_embeddings_takes(tmp_path: Path) -> None:
    """The model's vectors are what it was given."""
    pixels = keras.Sequential([keras.Input((6, 8, 3)), keras.layers.Flatten()])
    pixels.save(tmp_path / "pixels.keras")
    source = filled(tmp_path / "in", TURNED)
    options = {"payload": "embedding", "model": str(tmp_path / "pixels.keras"), "model_range": "-1,1"}
    manifest = converted(source, tmp_path / "out", **options)
    (batch,) = tfpipe.make_dataset(manifest, batch_size=8, labels=None, training=False)
    layer = layers.Preprocess(manifest)
    images = layer(tf.constant([TURNED[key.decode().removeprefix("a/")] for key in batch["key"].numpy()]))
    assert (images.shape, images.dtype) == ((8, 6, 8, 3), tf.float32)
    np.testing.assert_array_equal(tf.reshape(images, [8, -1]), batch["embedding"])
    loaded = tfpipe.load_image(source / batch["key"][0].numpy().decode(), like=manifest).numpy()
    np.testing.assert_array_equal(loaded / np.float32(127.5) - 1, images[0])
    with pytest.raises(UsageError, match=r"image_size is \(9, 9\), but the model of the embeddings takes \(6, 8\)"):
        layers.Preprocess(manifest, image_size=9)


def test_gray_arrays_take_gray_files(tmp_path: Path) -> None:
    images = np.stack([photo(number, 8, 8)[..., 0] for number in range(4)])
    manifest = tfpipe.from_arrays(images, [0, 1, 0, 1], tmp_path / "out", split="train")
    (tmp_path / "colour.png").write_bytes(file_bytes(photo(2, 8, 8), "PNG"))
    gray = np.asarray(Image.fromarray(photo(2, 8, 8)).convert("L"))
    loaded = tfpipe.load_image(tmp_path / "colour.png", like=manifest)
    np.testing.assert_array_equal(loaded, np.repeat(gray[..., None], 3, 2))
    deep = tfpipe.from_arrays(np.zeros((2, 8, 8, 5), np.uint8), [0, 1], tmp_path / "deep", split="train")
    with pytest.raises(UsageError, match="have 5 channels: no file has"):
        tfpipe.load_image(tmp_path / "colour.png", like=deep)


def test_the_layer_names_the_file_that_it_refuses_and_what_it_lacks(raw: Manifest) -> None:
    layer = layers.Preprocess(raw, image_size=SIZE)
    good = PLAIN["kind.jpg"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="file 1 of the batch: TIFF is not decoded inside a model"):
        layer(tf.constant([good, STRANGE["colour.tif"][1]]))
    assert layer(tf.constant([[good], [good]])).shape == (2, *SIZE, 3)
    assert layer(tf.constant([], tf.string)).shape == (0, *SIZE, 3)
    with pytest.raises(UsageError, match=r"The images of .* differ in size; give image_size=\(height, width\)"):
        layers.Preprocess(raw)
    with pytest.raises(FileNotFoundError):
        layers.Preprocess("nowhere", image_size=SIZE)
    for wrong, sentence in (
        ({"resize": "squash"}, "Unknown resize 'squash'"),
        ({"dct": "slow"}, "Unknown dct 'slow'"),
        ({"channels": 2}, "channels is 2; it takes one of"),
        ({"image_size": 0}, "image_size is 0; it takes"),
    ):
        with pytest.raises(UsageError, match=sentence):
            layers.Preprocess(raw, **{"image_size": SIZE, **wrong})


# A process that knows TensorFlow only.
SERVE = """
import sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
files = [tf.io.read_file(path) for path in open(sys.argv[2]).read().splitlines()]
batches = [tf.stack(files[at : at + 32]) for at in range(0, len(files), 32)]
np.save(sys.argv[3], np.concatenate([next(iter(served(batch).values())) for batch in batches]))
assert not [name for name in sys.modules if name.startswith("tfpipe")]
"""


@pytest.mark.parametrize("case", ["raw", "decoded halves, resized again"])
def test_a_saved_model_of_bytes_gives_the_dataset_s_pixels_of_200_files(tmp_path: Path, case: str) -> None:
    options, arguments = CASES[case]
    makers = list(KINDS.items())
    files = {}
    for number in range(200):
        ending, make = makers[number % len(makers)]
        is_turned = ending == "_turned.jpg"
        files[f"{number:03d}{ending}"] = turned(number, 1 + number // len(makers) % 8) if is_turned else make(number)
    source = filled(tmp_path / "in", files)
    manifest = converted(source, tmp_path / "out", **options)
    found = images_of(manifest, **arguments)
    inputs = keras.Input((), dtype="string", name="image_bytes")
    model = keras.Model(inputs, layers.Preprocess(manifest, **arguments)(inputs))
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras").export(tmp_path / "served", verbose=False)
    (tmp_path / "list").write_text("\n".join(str(source / key) for key in found))
    command = [sys.executable, "-c", SERVE, *(str(tmp_path / name) for name in ("served", "list", "images.npy"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images = np.load(tmp_path / "images.npy")
    assert len(images) == 200
    for (key, image), served in zip(found.items(), images, strict=True):
        assert served.dtype == image.dtype
        np.testing.assert_array_equal(served, image, err_msg=key)
