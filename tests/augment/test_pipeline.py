"""Augmentation inside make_dataset and fit: fresh every batch and epoch, the same for a seed, at any parallelism."""

from itertools import chain

import keras
import numpy as np
import pytest

import tfpipe
from tfpipe import augment

SIZE = (12, 16)


def batches(source, transforms, *, epochs=1, seed=1, **settings):
    dataset = tfpipe.make_dataset(
        source, batch_size=4, image_size=SIZE, transforms=transforms, seed=seed, options=tfpipe.ReadOptions(**settings)
    )
    return [[(image.numpy(), label.numpy()) for image, label in dataset] for _ in range(epochs)]


def coarse():
    """A policy of few ops, quick to compile."""
    return augment.compose(
        [augment.pad_and_crop(2, fill=128), augment.trivial_augment_wide(ops=["invert", "rotate", "solarize"])]
    )


def test_every_image_every_batch_and_every_epoch_differs(raw_dataset):
    blank = augment.select(["invert"], -1)  # Leaves every image: what the pipeline gives without augmentation.
    plain, varied = (batches(raw_dataset, [t], epochs=2, shuffle="none") for t in (blank, coarse()))
    # In file order each position shows one photo, so only augmentation tells the epochs apart.
    np.testing.assert_array_equal(plain[0][0][0], plain[1][0][0])
    first, second = (np.concatenate([image for image, _ in epoch]) for epoch in varied)
    assert np.mean([np.array_equal(a, b) for a, b in zip(first, second, strict=True)]) < 0.2
    draws = coarse().draw((1, 2), 256, *SIZE)
    assert len(np.unique(draws.values.numpy().reshape(256, -1), axis=0)) > 100


def test_a_seed_gives_the_same_pixels_at_any_parallelism(raw_dataset):
    runs = [batches(raw_dataset, [coarse(), augment.mixup(0.4)], epochs=2, parallel_calls=calls) for calls in (1, 2)]
    for other in runs[1:]:
        for ours, theirs in zip(chain(*runs[0]), chain(*other), strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    assert not np.array_equal(batches(raw_dataset, [coarse()], seed=2)[0][0][0], runs[0][0][0][0])


def test_the_weights_of_mixup_are_not_frozen_in_the_graph(raw_dataset):
    labels = [
        label for epoch in batches(raw_dataset, [augment.mixup(0.8, per="batch")], epochs=2) for _, label in epoch
    ]
    weights = {round(float(label.max(axis=1).min()), 4) for label in labels}
    assert len(weights) > len(labels) // 2


@pytest.mark.parametrize(
    "make",
    [lambda: augment.rand_augment(2, 9), augment.auto_augment, augment.trivial_augment_wide],
    ids=["rand", "auto", "trivial"],
)
def test_a_model_fits_on_augmented_and_mixed_batches(raw_dataset, make):
    mixed = augment.cutmix() if make is augment.auto_augment else augment.mixup()
    train = tfpipe.make_dataset(
        raw_dataset, batch_size=8, image_size=SIZE, transforms=[augment.flip_left_right(), make(), mixed]
    )
    model = keras.Sequential(
        [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile("sgd", "categorical_crossentropy")
    history = model.fit(train, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_a_schedule_follows_the_epochs_of_the_dataset(raw_dataset):
    # The first twelve epochs of rcifar10 do nothing; its last ones change nearly every image.
    calm, late = (
        batches(raw_dataset, [augment.pba("rcifar10", num_epochs=epochs)], epochs=2, shuffle="none")
        for epochs in (200, 2)
    )
    plain = batches(raw_dataset, [], epochs=2, shuffle="none")
    assert all((a == b).all() for x, y in zip(calm, plain, strict=True) for (a, _), (b, _) in zip(x, y, strict=True))
    assert any((a != b).any() for (a, _), (b, _) in zip(late[1], plain[1], strict=True))
