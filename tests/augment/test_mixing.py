"""mixup and cutmix: labels follow pixels, weights are Beta's, every batch draws its own, and the book's rule."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpipe import augment
from tfpipe.augment import mixing
from tfpipe.augment.draw.candidates import BatchShape
from tfpipe.augment.draw.streams import split_seed
from tfpipe.augment.mixing import beta_weights

CLASSES = 5


def batch(count=16, height=6, width=10, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    image = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    return {"image": image, "label": np.eye(CLASSES, dtype=np.float32)[np.arange(count) % CLASSES]}


def flat(count=64, side=16):
    """Image b is all level b, its label class b: a mixed batch tells who was mixed with whom."""
    levels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return {"image": np.tile(levels, (1, side, side, 1)), "label": np.eye(count, dtype=np.float32)}


MIXERS = {
    "mixup": augment.mixup(0.4),
    "mixup per batch": augment.mixup(0.4, per="batch"),
    "the book's": augment.mixup(fraction=0.4),
    "cutmix": augment.cutmix(1.0),
    "cutmix per batch": augment.cutmix(1.0, per="batch"),
    "half of cutmix": augment.cutmix(1.0, fraction=0.5),
}


@pytest.fixture(params=list(MIXERS))
def mixer(request):
    return MIXERS[request.param]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16])
def test_label_rows_sum_to_one_and_dtypes_stay(mixer, dtype):
    given = batch(dtype=dtype)
    found = mixer(given, (1, -2))
    assert found["image"].dtype == dtype
    assert found["label"].dtype == np.float32
    np.testing.assert_allclose(found["label"].numpy().sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mixing_is_the_same_in_every_form(mixer, dtype):
    given = batch(dtype=dtype)
    for compiled in (False, True):
        run = tf.function(lambda seed: mixer(given, seed), jit_compile=compiled, autograph=False)
        for seed in ((1, 2), (-3, 4)):
            ours, theirs = mixer(given, seed), run(tf.constant(seed))
            np.testing.assert_allclose(theirs["label"], ours["label"], atol=1e-6)
            tolerance = 0 if dtype == np.uint8 else 1e-6  # Compiled, a product and a sum of floats become one rounding.
            np.testing.assert_allclose(theirs["image"], ours["image"], atol=tolerance)


def test_each_batch_is_mixed_anew(mixer):
    run = tf.function(lambda seed: mixer(flat(), seed)["label"], autograph=False)
    results = [run(tf.constant([3, step])).numpy() for step in range(8)]
    assert len({result.tobytes() for result in results}) >= 6  # The book's weight has 31 values, so two may be alike.


def test_mixup_mixes_pixels_and_labels_by_one_weight():
    given = flat()
    found = augment.mixup(0.8)(given, (5, 5))
    label = found["label"].numpy()
    expected = label @ np.arange(64)
    # Levels are rounded, and weights are whole 4096ths.
    np.testing.assert_allclose(found["image"].numpy()[:, 3, 3, 0], expected, atol=0.5 + 64 / 4096)
    assert np.all((label > 0).sum(axis=1) <= 2)
    assert len(np.unique(np.round(label.max(axis=1), 4))) > 50  # Nearly every image has its own weight.


def test_per_batch_all_images_share_a_weight():
    label = augment.mixup(0.8, per="batch")(flat(), (5, 5))["label"].numpy()
    own = np.diag(label)
    np.testing.assert_allclose(own, own[0], atol=1e-6)


def test_every_other_image_is_an_equally_likely_partner():
    pairs = []
    for step in range(300):
        label = augment.mixup(5.0)(flat(8, 1), (2, step))["label"].numpy()
        np.fill_diagonal(label, 0)
        pairs += [(row.argmax() - i) % 8 for i, row in enumerate(label)]
    counts = np.bincount(pairs, minlength=8)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 0.8, 1.0, 2.0])
def test_weights_follow_the_beta_distribution(alpha):
    weights = tf.function(lambda seed: beta_weights(seed, 200_000, alpha), jit_compile=True)(
        tf.constant([6, -6])
    ).numpy()
    smaller = np.sort(weights.min(axis=1).astype(np.float64))
    # The lower half, conditioned: near 1 float32 has too few numbers for a small alpha, which is why both are drawn.
    below = stats.beta(alpha, alpha).cdf(smaller) * 2
    assert stats.kstest(below, "uniform").pvalue > 1e-4
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    first = int((weights[:, 0] < weights[:, 1]).sum())
    assert stats.binomtest(first, int((weights[:, 0] != weights[:, 1]).sum())).pvalue > 1e-4


def test_the_book_mixes_the_first_rows_with_their_neighbours():
    given = flat(5, 2)
    weights = set()
    for step in range(60):
        found = augment.mixup(fraction=0.4)(given, (1, step))
        label = found["label"].numpy()
        t = label[0, 0]
        weights.add(round(float(t), 4))
        expected = np.eye(5)
        expected[:2] = [[t, 1 - t, 0, 0, 0], [0, t, 1 - t, 0, 0]]
        np.testing.assert_allclose(label, expected, atol=1e-6)
        np.testing.assert_array_equal(found["image"][2:], given["image"][2:])
    assert min(weights) >= 0.5
    assert max(weights) <= 0.8
    assert all(abs(w * 100 - round(w * 100)) < 1e-3 for w in weights)
    assert len(weights) > 10  # The book's own code would have one: it drew while the graph was made.


def test_no_fraction_at_all_changes_nothing():
    given = batch()
    for transform in (augment.mixup(fraction=0.0), augment.cutmix(fraction=0.0)):
        found = transform(given, (1, 1))
        np.testing.assert_array_equal(found["image"], given["image"])
        np.testing.assert_array_equal(found["label"], given["label"])


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    found = augment.cutmix(1.0)(flat(), (7, 7))
    for b, (image, label) in enumerate(zip(found["image"].numpy(), found["label"].numpy(), strict=True)):
        foreign = image[..., 0] != b
        assert label[b] == pytest.approx(1 - foreign.mean(), abs=1e-6)
        if foreign.any():
            rows, columns = foreign.any(axis=1), foreign.any(axis=0)
            assert foreign.sum() == rows.sum() * columns.sum()  # A full box.
            (partner,) = set(image[foreign][:, 0].tolist())
            assert label[partner] == pytest.approx(foreign.mean(), abs=1e-6)


def test_the_box_of_cutmix_has_the_area_that_was_drawn():
    label = augment.cutmix(1.0)(flat(200, 32), (3, 3))["label"].numpy()
    # Beta(1, 1) is uniform; cutting boxes off at the border takes from the partner's share.
    own = np.diag(label)
    assert 0.5 < own.mean() < 0.75
    assert own.min() < 0.3


def test_the_rest_of_the_batch_stays():
    given = {**batch(), "key": tf.range(16)}
    np.testing.assert_array_equal(augment.mixup()(given, (1, 1))["key"], np.arange(16))


REFUSED = {
    "alpha of mixup is 0; it must be a number of at least 0.01": lambda: augment.mixup(0),
    r"rounding of cutmix is 'up'; it takes one of \['down', 'nearest'\]": lambda: augment.cutmix(rounding="up"),
    r"per of cutmix is 'pixel'; it takes one of \['image', 'batch'\]": lambda: augment.cutmix(per="pixel"),
    r"fraction of mixup is 1.5; it must be in \[0, 1\]": lambda: augment.mixup(fraction=1.5),
    "mask_classes of mixup is 1; it must be an integer of at least 2": lambda: augment.mixup(mask_classes=1),
    r"masks of floats, a share for each class, and this one is uint8 \(16, 6, 10\)": lambda: augment.mixup()(
        {**batch(), "mask": np.zeros((16, 6, 10), np.uint8)}, (0, 0)
    ),
    "mixup takes boxes together with box_labels": lambda: augment.mixup()(
        {**batch(), "boxes": np.zeros((16, 1, 4))}, (0, 0)
    ),
    r"mixup chooses \['keypoints'\] by their boxes; the batch has none": lambda: augment.mixup()(
        {**batch(), "keypoints": np.zeros((16, 1, 1, 2))}, (0, 0)
    ),
    r"mixup mixes labels, but the batch has only \['image'\]": lambda: augment.mixup()(
        {"image": batch()["image"]}, (0, 0)
    ),
    r"mixup takes one-hot labels, floats \[B, classes\]; it got int64 of shape \(16,\)": lambda: augment.mixup()(
        {**batch(), "label": np.arange(16)}, (0, 0)
    ),
    "whose rows sum to 1; the sums run from 2 to 2": lambda: augment.cutmix()(
        {**batch(), "label": 2 * batch()["label"]}, (0, 0)
    ),
    "mixup needs at least 2 images to mix; the batch holds 1": lambda: augment.mixup()(batch(1), (0, 0)),
    "the last of 16 mixed images has no next one in a batch of 16": lambda: augment.mixup(fraction=1.0)(
        batch(), (0, 0)
    ),
    r"cutmix mixes whole images and has no meaning for \['boxes'\]": lambda: augment.cutmix()(
        {**batch(), "boxes": np.zeros((16, 1, 4))}, (0, 0)
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_mixed_is_refused_in_one_sentence(sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        REFUSED[sentence]()
    assert "\n" not in str(error.value)


def test_inside_graphs_labels_are_looked_at_where_it_is_asked_for():
    given = {**batch(), "label": 2 * batch()["label"]}
    tf.function(lambda: augment.mixup()(given, (0, 0))["label"], autograph=False)()
    with pytest.raises(tf.errors.InvalidArgumentError, match="rows sum to 1"):
        tf.function(lambda: augment.mixup(check_values=True)(given, (0, 0))["label"], autograph=False)()


def test_shapes_are_refused_when_the_graph_is_made():
    run = tf.function(lambda label: augment.mixup()({"image": batch()["image"], "label": label}, (0, 0))["label"])
    with pytest.raises(ValueError, match="takes one-hot labels"):
        run.get_concrete_function(tf.TensorSpec([16], tf.int64))


def corners(rounding, **more):
    """Boxes and weights that cutmix draws at 32 px, over many seeds: float [N, 4] and the smaller weight [N]."""
    shape = BatchShape(64, 32, 32)

    @tf.function(autograph=False)
    def draw(seed):
        weights = mixing.draw_weights(split_seed(seed, 3)[0], shape, 1.0, "image")
        own = split_seed(seed, 3)[more.get("stream", 2)]
        return mixing.draw_boxes(own, shape, weights, "image", rounding), weights

    drawn = [draw(tf.constant([5, step])) for step in range(400)]
    return np.concatenate([boxes for boxes, _ in drawn]).astype(float), np.concatenate([w for _, w in drawn])


def test_the_published_box_is_cut_down_to_whole_pixels():
    boxes, weights = corners("down")
    half = np.floor(np.floor(np.sqrt(weights[:, 1].astype(np.float64)) * 32) / 2)
    inside = (boxes[:, :2] > 0).all(axis=1) & (boxes[:, 2:] < 32).all(axis=1)
    assert np.array_equal((boxes[:, 2] - boxes[:, 0])[inside], 2 * half[inside])
    # The mean share of the paper's code at 32 px and alpha = 1 is 0.3005, that of rounded corners 0.3214.
    for rounding, mean in (("down", 0.3005), ("nearest", 0.3214)):
        boxes, _ = corners(rounding)
        shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 1024
        assert abs(shares.mean() - mean) < 4 * shares.std() / len(shares) ** 0.5
    assert augment.cutmix().arguments["rounding"] == "down"


def test_version_one_of_cutmix_takes_centres_from_the_bits_of_its_weights():
    old = augment.cutmix(version=1, rounding="nearest")
    assert set(augment.to_json(old)["arguments"]) == {"alpha", "fraction", "per", "check_values"}
    assert not np.array_equal(old(flat(), (1, 2))["label"], augment.cutmix(rounding="nearest")(flat(), (1, 2))["label"])
