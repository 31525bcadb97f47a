"""AugMix, mixup or cutmix, copies in a batch, and views."""

import numpy as np
import pytest
import tensorflow as tf
from pictures import photo
from scipy import stats

import tfpipe
from tfpipe import augment, layers
from tfpipe.augment import augmix
from tfpipe.augment.augmix import _suite, dirichlet_weights
from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.ops.op import Choices

COUNT, SIDE = 16, 16
IMAGES = np.stack([photo(number, SIDE, SIDE) for number in range(COUNT)])
BATCH = {"image": IMAGES, "label": np.eye(COUNT, dtype=np.float32)}


# ---- AugMix


def test_aug_mixs_levels_are_those_of_its_code():
    suite, positions = _suite(10.0), np.linspace(0, 1, 64)
    levels = 0.1 + (np.arange(64) + 0.5) * 9.9 / 64
    for name, values in {
        "posterize": [4 - int(level * 4 / 10) for level in levels],
        "rotate": [int(level * 30 / 10) for level in levels],
        "solarize": [256 - int(level * 256 / 10) for level in levels],
        "shear_x": [level * 0.3 / 10 for level in levels],
        "translate_x": [int(level * (96 / 3) / 10) for level in levels],
    }.items():
        np.testing.assert_allclose(suite[name].values(positions, 96)[:, 0], values, atol=1e-6, err_msg=name)
    assert len(suite) == 9


def test_dirichlet_weights_follow_their_law():
    for alpha in (0.5, 1.0, 3.0):
        weights = dirichlet_weights(tf.constant([3, 4]), 20_000, 3, alpha).numpy()
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
        for column in weights.T:
            assert stats.kstest(column, stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-4


def test_chains_are_mixed_exactly_and_rounded_once():
    rng = np.random.default_rng(0)
    images, chains = (rng.integers(0, 256, (count, 3, 4, 3)).astype(np.uint8) for count in (5, 15))
    parts = rng.integers(0, 1366, (5, 3)).astype(np.float32)
    found = augmix._mix(tf.constant(images), tf.constant(chains), tf.constant(parts)).numpy()
    weighed = chains.reshape(5, 3, 3, 4, 3) * parts[:, :, None, None, None]
    total = images * (4096 - parts.sum(axis=1))[:, None, None, None] + weighed.sum(axis=1)
    np.testing.assert_array_equal(found, np.floor(total / 4096 + 0.5))


def test_a_chain_has_one_to_three_ops_or_as_many_as_asked():
    choices = Choices(tf.ones([3000, 3], tf.int32), tf.ones([3000, 3, 4]), tf.zeros([3000, 3, 2], tf.int32))
    rows = BatchShape(3000, 8, 8)
    counts = augmix._cut(choices, tf.constant([1, 2]), rows, None).ops.numpy().sum(axis=1)
    assert stats.chisquare(np.bincount(counts, minlength=4)[1:]).pvalue > 1e-4
    assert set(augmix._cut(choices, tf.constant([1, 2]), rows, 2).ops.numpy().sum(axis=1)) == {2}


def test_the_triple_is_the_image_and_two_mixtures():
    clean, first, second = augment.aug_mix(triple=True)(BATCH, (3, 4))["image"]
    np.testing.assert_array_equal(clean, IMAGES)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, IMAGES)
    difference = np.abs(first.numpy().astype(int) - IMAGES).mean(axis=(1, 2, 3))
    assert 0 < difference.mean() < 80


def test_both_forms_of_aug_mix_agree():
    one, other = (
        augment.aug_mix(form=form, interpolation="nearest")(BATCH, (5, 6))["image"] for form in ("loop", "dense")
    )
    np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"aug_mix mixes moved images and has no meaning for \['mask'\]"):
        augment.aug_mix()({**BATCH, "mask": np.zeros([COUNT, SIDE, SIDE], np.uint8)}, (0, 0))


# ---- mixup or cutmix


def flat(count=16):
    levels = np.arange(count, dtype=np.uint8)[:, None, None, None] * 10
    return {"image": np.tile(levels, (1, 16, 16, 1)), "label": np.eye(count, dtype=np.float32)}


def kind_of(image, level):
    """What happened to an even image: nothing, a box, or a blend."""
    if np.all(image == level):
        return "none"
    return "cutmix" if np.any(image == level) and len(np.unique(image)) == 2 else "mixup"


def test_one_of_the_two_is_drawn_for_each_batch_or_each_image():
    for per in ("batch", "image"):
        transform = augment.mixup_or_cutmix(0.8, cutmix_share=0.25, per=per)
        run = tf.function(lambda seed, transform=transform: transform(flat(), seed), autograph=False)
        counts, alike = dict.fromkeys(("none", "cutmix", "mixup"), 0), []
        for step in range(120):
            done = run(tf.constant([2, step]))
            kinds = [kind_of(image, 10 * b) for b, image in enumerate(done["image"].numpy()[..., 0])]
            np.testing.assert_allclose(
                done["label"].numpy() @ (np.arange(16) * 10), done["image"].numpy().mean((1, 2, 3)), atol=0.6
            )
            for kind in kinds:
                counts[kind] += 1
            alike.append(len(set(kinds) - {"none"}) <= 1)
        shares = [counts[kind] / sum(counts.values()) for kind in ("none", "cutmix", "mixup")]
        # A box without area, or a weight next to 0, changes nothing.
        np.testing.assert_allclose(shares, [0.2, 0.2, 0.6], atol=0.15 if per == "batch" else 0.06)
        assert np.mean(alike) == 1.0 if per == "batch" else np.mean(alike) < 0.5


def test_both_stop_at_an_epoch():
    transform = augment.mixup_or_cutmix(1.0, 5)
    for epoch, changed in ((4, True), (5, False), (9, False)):
        done = transform({**BATCH, "epoch": tf.constant(epoch, tf.int64)}, (1, 1))
        assert np.array_equal(done["image"], IMAGES) != changed
        assert np.array_equal(done["label"], BATCH["label"]) != changed
    with pytest.raises(ValueError, match="mixup_or_cutmix with stop_epoch needs the epoch"):
        transform(BATCH, (1, 1))
    for bad in ({"p": 1.5}, {"stop_epoch": -1}, {"cutmix_share": 2}, {"per": "pixel"}, {"rounding": "up"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            augment.mixup_or_cutmix(**bad)


# ---- copies and views


def test_repeated_puts_copies_behind_each_image_and_what_follows_draws_for_each():
    boxes = tf.RaggedTensor.from_row_lengths(np.zeros([COUNT, 4], np.float32), [1] * COUNT)
    batch = {**BATCH, "boxes": boxes, "epoch": tf.constant(3)}
    done = augment.repeated(3)(batch, (0, 0))
    np.testing.assert_array_equal(done["image"], np.repeat(IMAGES, 3, axis=0))
    np.testing.assert_array_equal(done["label"], np.repeat(BATCH["label"], 3, axis=0))
    assert done["image"].shape == (3 * COUNT, SIDE, SIDE, 3)
    assert done["boxes"].row_lengths().numpy().tolist() == [1] * 3 * COUNT
    assert int(done["epoch"]) == 3
    flipped = augment.flip_left_right()(done, (1, 2))["image"].numpy().reshape(COUNT, 3, -1)
    assert 0 < (flipped[:, 0] != flipped[:, 1]).any(axis=1).sum() < COUNT
    with pytest.raises(ValueError, match="k of repeated is 0"):
        augment.repeated(0)


def test_views_are_drawn_each_for_itself_and_move_masks_and_boxes():
    pair = augment.views([[augment.random_crop(8)], [augment.random_crop(8), augment.flip_left_right(1.0)], []])
    batch = {**BATCH, "mask": np.ones([COUNT, SIDE, SIDE], np.uint8), "key": np.arange(COUNT)}
    done = pair(batch, (4, 5))
    assert [view.shape[1:3] for view in done["image"]] == [(8, 8), (8, 8), (SIDE, SIDE)]
    assert [view.shape[1:3] for view in done["mask"]] == [(8, 8), (8, 8), (SIDE, SIDE)]
    np.testing.assert_array_equal(done["image"][2], IMAGES)
    assert not np.array_equal(done["image"][0], done["image"][1][:, :, ::-1])
    np.testing.assert_array_equal(done["key"], np.arange(COUNT))
    with pytest.raises(ValueError, match=r"A view changes \['label'\]"):
        augment.views([[augment.mixup()]])(BATCH, (0, 0))
    for bad in ([], "flip", ["flip_left_right"]):
        with pytest.raises(ValueError, match="view"):
            augment.views(bad)


def test_a_layer_gives_views_with_their_labels():
    layer = layers.Augment([augment.views([[], [augment.flip_left_right(1.0)]])], seed=1)
    (first, second), labels = layer((IMAGES, BATCH["label"]), training=True)
    np.testing.assert_array_equal(second, IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(first, IMAGES)
    np.testing.assert_array_equal(labels, BATCH["label"])


def test_make_dataset_yields_views_and_copies(tmp_path):
    tfpipe.from_arrays(IMAGES, np.arange(COUNT) % 4, tmp_path / "d", split={"train": 1.0})
    options = {"split": "train", "batch_size": 4, "training": True}
    pair = augment.views([[augment.flip_left_right(0.0)], [augment.flip_left_right(1.0)]])
    for (first, second), labels in tfpipe.make_dataset(tmp_path / "d", transforms=[pair], **options):
        np.testing.assert_array_equal(second, first[:, :, ::-1])
        assert labels.shape == (4, 4)
    dataset = tfpipe.make_dataset(tmp_path / "d", transforms=[augment.repeated(2)], **options)
    assert dataset.element_spec[0].shape == (8, SIDE, SIDE, 3)
    assert all(len(images) == len(labels) == 8 for images, labels in dataset)
