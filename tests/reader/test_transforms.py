"""What may stand among transforms, and the sentence for what may not: it says what to write instead."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpipe
from tfpipe import augment, layers
from tfpipe.format.manifest import Manifest
from tfpipe.reader.transforms import INSTEAD, check_transforms, transform_runs


class OneArgument:
    def __call__(self, image: Any) -> Any:
        return image


class OwnLayer(keras.layers.Layer):
    def call(self, images: Any) -> Any:
        return images


REFUSED = {
    "a Keras layer": (
        lambda: [augment.flip_left_right(), keras.layers.RandomRotation(0.1)],
        r"transforms\[1\] is the Keras layer RandomRotation, whose draws no seed repeats; write "
        r"augment.op\('rotate', \(-30, 30\)\), or put it into the model, or behind make_dataset: \.map\(",
    ),
    "a deterministic one": (lambda: [keras.layers.Rescaling(1 / 255)], "write augment.normalize"),
    "one that nothing replaces": (lambda: [keras.layers.Dense(3)], "the Keras layer Dense, .*; put it into the model"),
    "a layer of one's own": (lambda: [OwnLayer()], "the Keras layer OwnLayer, .*; put it into the model"),
    "a model": (lambda: [keras.Sequential([keras.layers.RandomFlip()])], "the Keras layer Sequential"),
    "a layer of tfpipe": (
        lambda: [layers.RandAugment(2, 9)],
        r"transforms\[0\] is the layer RandAugment; write transforms=layer.transforms",
    ),
    "a class": (lambda: [keras.layers.RandomFlip], "is the class RandomFlip; it takes a transform"),
    "a factory": (lambda: [augment.rand_augment], r"is augment.rand_augment itself; call it: augment.rand_augment\("),
    "a name": (lambda: ["rotate"], r"transforms\[0\] is 'rotate'; write augment.op\('rotate'\)"),
    "an op": (lambda: [augment.OPS["rotate"]], r"is Op\('rotate'\), which can't be called; write augment.op\(Op\('rot"),
    "a number": (lambda: [3], "is 3, which can't be called; a transform takes"),
    "one argument": (lambda: [lambda image: image], "<lambda>, which can't be called with two arguments"),
    "an object of one argument": (lambda: [OneArgument()], "OneArgument object .*can't be called with two arguments"),
    "three arguments": (lambda: [lambda a, b, c: a], "missing a required argument: 'c'"),
    "not a list": (lambda: augment.flip_left_right(), r"transforms is .*; it takes a list: transforms=\[...\]"),
    "a text": (lambda: "flip", "transforms is 'flip'; it takes a list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_transform_is_refused_with_what_to_write(raw_dataset: Manifest, case: str) -> None:
    made, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        tfpipe.make_dataset(raw_dataset, batch_size=2, image_size=8, transforms=made())


FAILING = {
    "images and labels": (
        lambda images, labels: (images / 255, labels),
        r"\[1\], <lambda>, failed on a batch",
    ),
    "a feature that is not there": (lambda batch, seed: {**batch, "image": batch["mask"]}, r"KeyError: 'mask'"),
    "something else": (lambda batch, seed: batch["image"], "returned .*Tensor; a transform takes"),
    "nothing": (lambda batch, seed: None, "returned NoneType; a transform takes"),
    "no image": (lambda batch, seed: {"label": batch["label"]}, r"returned a dict of \['label'\]; a transform takes"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_function_that_is_no_transform_is_named_when_it_is_traced(raw_dataset: Manifest, case: str) -> None:
    function, sentence = FAILING[case]
    with pytest.raises(ValueError, match=sentence):
        tfpipe.make_dataset(raw_dataset, batch_size=2, image_size=8, transforms=[augment.flip_left_right(), function])


def test_functions_of_batch_and_seed_are_taken_however_they_are_written(raw_dataset: Manifest) -> None:
    class Brighter:
        def __call__(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            return {**batch, "image": tf.zeros_like(batch["image"]) + 7}

    def with_default(batch: Any, seed: Any = None, *, more: int = 1) -> Any:
        if tf.reduce_sum(seed) == 2**30:  # AutoGraph's.
            batch = {**batch, "image": batch["image"] + 1}
        return batch

    taken = [Brighter(), with_default, lambda *arguments: arguments[0], augment.flip_left_right()]
    images, _ = next(iter(tfpipe.make_dataset(raw_dataset, batch_size=2, image_size=8, transforms=taken)))
    assert set(images.numpy().ravel()) == {7}
    assert check_transforms(()) == ()


def test_every_layer_that_keras_draws_with_has_its_answer() -> None:
    preprocessing = {
        name for name, layer in inspect.getmembers(keras.layers, inspect.isclass)
        if "image_preprocessing" in layer.__module__ and not name.startswith("Base")
    }  # fmt: skip
    assert preprocessing - set(INSTEAD) <= {"MaxNumBoundingBoxes"}  # make_dataset(max_boxes=...) pads
    for text in INSTEAD.values():
        call = re.match(r"augment\.\w+\(.*?\)(?=,|$)|make_dataset\(.*\)$", text)
        assert call, text
        names = {"augment": augment, "height": 4, "width": 4, "mean": 0.5, "std": 0.2}
        if text.startswith("augment"):
            assert callable(eval(call[0], names))


def twice(batch: dict[str, Any], seed: Any) -> dict[str, Any]:
    # AutoGraph makes a conditional of it.
    if tf.reduce_sum(batch["label"]) > -1:
        batch = {**batch, "label": batch["label"] * 2}
    return batch


def test_users_functions_stay_in_maps_of_their_own_and_change_no_draw(raw_dataset: Manifest) -> None:
    own = [augment.flip_left_right(), augment.mixup(0.4)]
    chosen = [own[0], twice, twice, own[1]]
    assert transform_runs(chosen) == [(range(1), True), (range(1, 3), False), (range(3, 4), True)]
    hidden = [lambda batch, seed, one=one: one(batch, seed) for one in chosen]
    apart, together = (
        tfpipe.make_dataset(raw_dataset, batch_size=4, image_size=8, transforms=some, seed=3)
        for some in (chosen, hidden)
    )
    assert apart.element_spec == together.element_spec
    for ours, theirs in zip(apart, together, strict=True):
        for found, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(found, wanted)


OPTIMIZED = """
import sys
import tensorflow as tf
import tfpipe
from tfpipe import augment

def halved(batch, seed):
    return {**batch, "label": batch["label"] / 2}

transforms = [augment.op("solarize", (0, 256))] + [halved] * int(sys.argv[2])
dataset = tfpipe.make_dataset(sys.argv[1], batch_size=4, image_size=8, transforms=transforms)
for epoch in range(2):
    print("epoch", epoch, file=sys.stderr, flush=True)
    next(iter(dataset))
"""


@pytest.mark.parametrize("users", [0, 1])
def test_an_epoch_begins_without_a_pass_over_compiled_programs(raw_dataset: Manifest, users: int) -> None:
    """Grappler's own log: it went through each function of the program, at every epoch."""
    command = [sys.executable, "-c", OPTIMIZED, str(raw_dataset.directory), str(users)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "meta_optimizer=1"}
    log = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stderr
    second = log.partition("epoch 1")[2]
    items = re.findall(r"Starting optimization for grappler item: (\S+)", second)
    assert len([name for name in items if "Dataset" in name]) == users
