"""No two draws of one transform go together, over batches: everything drawn from the generator is uncorrelated."""

import numpy as np
import pytest
import tensorflow as tf
from makers import ARGUMENTS

from tfpipe import augment
from tfpipe.augment.draw import streams
from tfpipe.augment.saving import FACTORIES
from tfpipe.augment.transform import OpTransform

SEEDS, SIDE, COUNT = 300, 8, 12
# Of 300 independent pairs the correlation has a standard deviation of 0.058; a shared draw has 1.
MOST = 0.45
LONG = {
    "pba": ("rcifar10",),
    "compose": ([augment.rand_augment(2, 9), augment.color_jitter(brightness=0.4, hue=0.1), augment.cutout(4)],),
    "compose mixed": ([augment.random_crop((6, 6)), augment.mixup(0.3), augment.cutmix()],),
    "one_of": ([augment.trivial_augment_wide(), augment.sometimes("equalize", 0.3)], [0.2, 0.8]),
    "choose_n": (["invert", augment.op("rotate"), augment.zoom()], 2),
}
REGIONS = {
    "boxes": tf.constant([[[1, 1, 5, 6]]] * COUNT, tf.float32),
    "box_labels": tf.zeros([COUNT, 1], tf.int64),
    "keypoints": tf.ones([COUNT, 2, 2]),
}
# What takes boxes or keypoints; whoever mixes images refuses them.
NEEDED = {
    "copy_paste": ("boxes", "box_labels"),
    "drop_boxes": ("boxes", "box_labels"),
    "keypoint_pairs": ("keypoints",),
    "mosaic": ("boxes", "box_labels"),
}
NAMES = sorted({*FACTORIES, *LONG})


def made(name):
    return FACTORIES[name.split()[0]](*LONG.get(name, ARGUMENTS.get(name, ())))


def all_draws(transform, monkeypatch, needed=()):
    """float [SEEDS, D]: of each seed all uniforms that the transform draws for a batch."""
    found = []

    def recorded(key, counter, shape, dtype):
        bits = streams_bits(key, counter, shape, dtype)
        found.append(tf.reshape(streams.to_unit(bits), [-1]))
        return bits

    streams_bits = streams.philox_bits
    monkeypatch.setattr(streams, "philox_bits", recorded)
    batch = {
        "image": tf.zeros([COUNT, SIDE, SIDE, 3], tf.uint8),
        "label": tf.one_hot(tf.range(COUNT), COUNT),
        "which": tf.zeros([COUNT], tf.int32),
        "epoch": tf.constant(150, tf.int64),
        **{name: REGIONS[name] for name in needed},
    }

    def draw(seed):
        found.clear()
        if isinstance(transform, OpTransform):
            transform.choose(seed, augment.transform.batch_shape(batch))
        else:
            transform(batch, seed)
        return tf.concat(found or [tf.zeros([0])], axis=0)

    run = tf.function(draw, autograph=False)
    return np.stack([run(tf.constant([7 * step, -step])).numpy() for step in range(SEEDS)])


@pytest.mark.parametrize("name", NAMES)
def test_no_two_draws_of_a_transform_are_correlated(name, monkeypatch):
    draws = all_draws(made(name), monkeypatch, NEEDED.get(name, ()))
    if draws.shape[1] < 2:
        return
    related = np.corrcoef(draws[:, np.linspace(0, draws.shape[1] - 1, min(draws.shape[1], 1500)).astype(int)].T)
    np.fill_diagonal(related, 0)
    assert np.abs(related).max() < MOST, name


def test_shared_bits_would_be_found(monkeypatch):
    draws = all_draws(augment.cutmix(version=1), monkeypatch)
    related = np.corrcoef(draws.T)
    np.fill_diagonal(related, 0)
    assert np.abs(related).max() > 0.999


def test_cutmixs_centres_do_not_follow_the_weights():
    """What version 1 drew: the centre of image b is twice the smaller weight of image 9 b + 4."""
    batch = {"image": tf.zeros([64, 16, 16, 3], tf.uint8), "label": tf.one_hot(tf.range(64), 64)}
    for version, linked in ((1, True), (2, False)):
        boxes = _drawn_boxes(version, batch)
        related = np.corrcoef(boxes[:, :2].mean(axis=1), boxes[:, 2])[0, 1]
        assert (abs(related) > 0.9) == linked, version


def _drawn_boxes(version, batch):
    """[N, 3]: top and bottom of image 1's box, where uncut, and the smaller weight of image 13."""
    from tfpipe.augment import mixing

    shape, rows = augment.transform.batch_shape(batch), []
    for step in range(400):
        seed = tf.constant([9, step])
        weights = mixing.draw_weights(streams.split_seed(seed, 3)[0], shape, 1.0, "image")
        own = streams.split_seed(seed, 3)[2 if version > 1 else 0]
        small = tf.constant([[0.99, 0.01]] * 64)
        box = mixing.draw_boxes(own, shape, small, "image", "nearest").numpy()[1]
        rows.append([box[0], box[2], weights.numpy()[13].min()])
    return np.array(rows, float)
