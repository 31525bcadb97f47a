"""What commit 8863dc1 wrote is read by every later version: datasets, orders of epochs, pixels, transforms, layers.

The data is never written anew; see write.py. Only public names are used here, so that no move inside breaks it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpipe
from tfpipe import augment, layers

DATA = Path(__file__).parent / "data"
DATASETS = sorted(path.parent.name for path in DATA.glob("*/dataset.json"))
ORDERS = json.loads((DATA / "orders.json").read_text())
PIXELS = [
    (stem, case) for stem in ("pixels", "more_pixels") for case in json.loads((DATA / f"{stem}.json").read_text())
]
TRANSFORMS = json.loads((DATA / "augmentation.json").read_text())
LAYERS = ("Augment", "AutoAugment", "PBA", "PolicyAugment", "RandAugment", "TrivialAugmentWide")


def make(case: dict) -> tf.data.Dataset:
    case = {"source": "raw", "image_size": (12, 16), "labels": None, "batch_size": 4, **case}
    source, size = case.pop("source"), case.pop("image_size")
    source = {DATA / name: weight for name, weight in source.items()} if isinstance(source, dict) else DATA / source
    # The defaults of that commit, where antialias came with the exact DCT.
    case = {"antialias": False, **case}
    dct = "exact" if case["antialias"] else "fast"
    options = tfpipe.ReadOptions(dct=dct, **case.pop("options", {}))
    return tfpipe.make_dataset(source, image_size=size and tuple(size), options=options, **case)


def stored(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def test_the_golden_data_is_there() -> None:
    assert DATASETS == [
        "adopted", "boxes", "decoded_float16", "decoded_float32", "decoded_uint8", "embedding", "masks", "numbers",
        "other", "raw", "several_labels",
    ]  # fmt: skip
    assert (len(ORDERS), len(PIXELS), len(TRANSFORMS)) == (12, 14, 14)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_found_valid(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tfpipe", "check", DATA / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ORDERS, ids=[case["name"] for case in ORDERS])
def test_an_epoch_has_the_order_it_always_had(case: dict) -> None:
    dataset = make(case["arguments"])
    for epoch in case["epochs"]:
        assert [key.decode() for batch in dataset for key in batch["key"].numpy()] == epoch


@pytest.mark.parametrize(("stem", "case"), PIXELS, ids=[case["name"] for _, case in PIXELS])
def test_a_record_gives_the_features_it_always_gave(stem: str, case: dict) -> None:
    expected = {key.split("/", 1)[1]: value for key, value in stored(stem).items()
                if key.split("/", 1)[0] == case["name"]}  # fmt: skip
    batch = next(iter(make({**case["arguments"], "split": "train"})))
    assert sorted(batch) == sorted(expected)
    for feature, value in batch.items():
        if isinstance(value, tf.RaggedTensor):
            value = value.to_tensor("" if value.dtype == tf.string else -1)
        found = value.numpy()
        assert found.dtype == expected[feature].dtype or value.dtype == tf.string
        np.testing.assert_array_equal(found.astype(expected[feature].dtype), expected[feature], err_msg=feature)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_saved_transform_draws_and_does_what_it_always_did(name: str) -> None:
    arrays = stored("augmentation")
    transform = augment.from_json(TRANSFORMS[name])
    assert augment.to_json(transform) == TRANSFORMS[name]
    batch = {"image": tf.constant(arrays["images"]), "label": tf.constant(arrays["labels"])}
    if name == "pba":
        batch["epoch"] = tf.constant(40, tf.int64)
    done = transform(batch, tf.constant([11, -12]))
    np.testing.assert_array_equal(done["image"], arrays[f"{name}/image"])
    np.testing.assert_array_equal(done["label"], arrays[f"{name}/label"])
    if f"{name}/draw/ops" in arrays:
        for part, value in transform.draw([11, -12], 8, 16, 18)._asdict().items():
            np.testing.assert_array_equal(value, arrays[f"{name}/draw/{part}"], err_msg=part)


@pytest.mark.parametrize("name", LAYERS)
def test_a_saved_layer_goes_on_as_it_would_have(name: str) -> None:
    model = keras.models.load_model(DATA / f"{name}.keras")
    (layer,) = model.layers
    assert type(layer) is getattr(layers, name)
    found = layer(tf.constant(stored("augmentation")["images"]), training=True)
    np.testing.assert_array_equal(found, stored("layers")[name])


def test_the_configuration_of_a_layer_keeps_its_form() -> None:
    arrays, configs = stored("augmentation"), json.loads((DATA / "layers.json").read_text())
    assert layers.CutMix.from_config(configs["CutMix"]).get_config() == configs["CutMix"]
    mixing = layers.MixUp.from_config(configs["MixUp"])
    assert mixing.get_config() == configs["MixUp"]
    images, labels = mixing((tf.constant(arrays["images"]), tf.constant(arrays["labels"])), training=True)
    np.testing.assert_array_equal(images, stored("layers")["MixUp"])
    np.testing.assert_array_equal(labels, stored("layers")["MixUp/label"])


def test_a_saved_policy_is_the_same_policy() -> None:
    found = tfpipe.policy.load_policy(DATA / "policy.json")
    assert found == tfpipe.policy.load_policy("cifar10_95")
    assert found.to_json() == json.loads((DATA / "policy.json").read_text())


def test_saved_read_options_are_the_same_options() -> None:
    found = tfpipe.ReadOptions.load(DATA / "pipeline.json")
    changed = {"block_records": 2, "window_records": 6, "prefetch": 1, "on_error": "skip", "start_step": 1}
    assert found == tfpipe.ReadOptions(**changed)
    saved = json.loads((DATA / "pipeline.json").read_text())["options"]
    assert {name: getattr(found, name) for name in saved} == saved
