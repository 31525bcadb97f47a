"""Both published schedules of PBA through a whole fit, epoch by epoch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpipe
from tfpipe import augment
from tfpipe.policy import load_schedule

# So many that the share of them that an epoch changes is known to 0.03.
COPIES = 256


@pytest.mark.parametrize(("name", "epochs"), [("rcifar10", 200), ("rsvhn", 160)])
def test_a_model_trains_through_all_epochs_of_a_published_schedule(name, epochs, tmp_path):
    """An epoch is one batch of one image again and again, so that what an epoch changed can be told."""
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    folder = tmp_path / "one"
    tfpipe.from_arrays(np.repeat(image[None], COPIES, axis=0), np.arange(COPIES) % 2, folder, split="train")
    changed = []

    def note(images, labels):
        changed.append((images != image).any(axis=(1, 2, 3)).mean())
        return images.astype(np.float32) / 255, labels

    def noted(images, labels):
        found = tf.numpy_function(note, [images, labels], [tf.float32, labels.dtype])
        return [tf.ensure_shape(part, shape) for part, shape in zip(found, [images.shape, labels.shape], strict=True)]

    batches = tfpipe.make_dataset(folder, "train", batch_size=COPIES, labels="int", transforms=[augment.pba(name)])
    model = keras.Sequential([keras.Input(image.shape), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    losses = model.fit(batches.map(noted), epochs=epochs, verbose=0).history["loss"]

    schedule = load_schedule(name)
    assert len(losses) == len(changed) == schedule.num_epochs == epochs
    assert np.isfinite(losses).all()
    # The warm-up leaves every image alone; then the more probable its ops are, the more images an epoch changes.
    mass = [sum(step.probability for step in policy.steps) for policy in schedule.policies]
    assert mass[0] == 0 < mass[-1]
    assert all(share == 0 for share, probability in zip(changed, mass, strict=True) if not probability)
    # Magnitudes count, too, and an op of magnitude 0 changes nothing: 0.61 and more was seen, 0 would be chance.
    assert np.corrcoef(mass, changed)[0, 1] > 0.5
