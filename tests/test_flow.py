"""From a folder over conversion, manifest and dataset to training; and the demo, as a user runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tfpipe
from beam_jobs.convert import convert
from beam_jobs.job import Job

FIT = """
import json, sys, keras, tfpipe
assert keras.backend.backend() == sys.argv[2]
train = tfpipe.make_dataset(sys.argv[1], batch_size=16)
validation = tfpipe.make_dataset(sys.argv[1], "validation", batch_size=16)
test = tfpipe.make_dataset(sys.argv[1], "test", batch_size=16)
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((12, 12, 3)),
    keras.layers.Rescaling(1 / 127.5, offset=-1),
    keras.layers.Flatten(),
    keras.layers.Dense(2, "softmax"),
])
model.compile(keras.optimizers.Adam(0.005), "categorical_crossentropy", metrics=["accuracy"])
history = model.fit(train, validation_data=validation, epochs=8, shuffle=False, verbose=0).history
print(json.dumps([history["loss"], history["val_accuracy"][-1], model.evaluate(test, verbose=0)[1]]))
"""


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """A folder of 200 dark and bright images: two classes that a linear model can distinguish."""
    root = tmp_path_factory.mktemp("shades")
    rng = np.random.default_rng(0)
    for name, low in (("bright", 140), ("dark", 0)):
        (root / name).mkdir()
        for number in range(100):
            pixels = rng.integers(low, low + 116, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def dataset(shades, tmp_path_factory):
    output = tmp_path_factory.mktemp("flow") / "out"
    convert(Job(input=str(shades), output=str(output), target_bytes=10_000))
    return output


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_model_learns_from_a_folder_of_images_on_both_backends(dataset, backend):
    manifest = tfpipe.load_manifest(dataset)
    assert manifest.class_names == ("bright", "dark")
    assert len(manifest.splits["train"].shards) > 3
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FIT, str(dataset), backend]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    losses, validation, test = json.loads(done.stdout.splitlines()[-1])
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert validation > 0.9
    assert test > 0.9


def test_the_demo_reaches_its_accuracies(tmp_path):
    command = [sys.executable, "-m", "tfpipe", "demo", "--output", str(tmp_path / "demo"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["accuracy"] >= 0.95
    assert result["linear_accuracy"] >= 0.95
    rates = result["images_per_second"]
    assert list(rates)[:2] == ["plain", "parallel map"]
    assert list(rates.values())[-1] > 2 * rates["plain"]  # the last row: a newcomer reads the table's end
    for name in ("photographs_raw", "photographs_decoded"):
        shards = tfpipe.load_manifest(tmp_path / "demo" / name).splits["train"].shards
        assert len(shards) > 1
        assert all(10e6 <= shard.num_bytes <= 100e6 for shard in shards)
