"""Every policy draws what it says, as often as it says: frequencies by chi-square, signs, strengths, and refusals."""

import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfpipe import augment
from tfpipe.augment.draw.magnitudes import AUTO_BINS, op_ranges
from tfpipe.policy import Policy, Schedule, Segment, Step, load_policy

DRAWS = 40_000
NEVER = 1e-4  # Fixed seeds: a p-value below this means a fault, not bad luck.


def drawn(transform, size=DRAWS, seed=(17, -4), side=224):
    """What each image gets: lists of (op name, value) by stage."""
    choices = transform.draw(seed, size, side, side)
    names = np.array([op.name for op in transform.ops])[choices.ops.numpy()]
    return names, choices.values.numpy()


def chi_square(counts, chances):
    """The p-value of counts by key under the chances by key; keys that should not occur fail at once."""
    assert set(counts) <= set(chances), set(counts) - set(chances)
    total = sum(counts.values())
    keys = [key for key, chance in chances.items() if chance * total >= 5]
    rest = 1 - sum(chances[key] for key in keys)
    observed = [counts.get(key, 0) for key in keys]
    expected = [chances[key] * total for key in keys]
    if rest * total >= 5:
        observed.append(total - sum(observed))
        expected.append(rest * total)
    elif rest > 0:
        expected = [e * sum(observed) / sum(expected) for e in expected]
    return stats.chisquare(observed, expected).pvalue


def outcomes(policy, side=224):
    """The chance of each ((op, |value|), ...) that a policy of sub-policies can give an image."""
    suite = op_ranges(policy.table, "auto")
    chances = Counter()
    stages = max(map(len, policy.sub_policies))
    for steps in policy.sub_policies:
        for happens in itertools.product((True, False), repeat=len(steps)):
            chance, row = 1 / len(policy.sub_policies), []
            for step, applied in zip(steps, happens, strict=True):
                chance *= step.probability if applied else 1 - step.probability
                position = np.array([(step.magnitude or 0) / (AUTO_BINS[policy.table] - 1)])
                value = abs(float(suite[step.op].values(position, side)[0, 0]))
                row.append((step.op, round(value, 3)) if applied else ("identity", 0.0))
            row += [("identity", 0.0)] * (stages - len(steps))
            chances[tuple(row)] += chance
    return {key: chance for key, chance in chances.items() if chance > 0}


@pytest.mark.parametrize("name", ["image_net", "reduced_image_net", "svhn", "reduced_cifar10", "cifar10_95"])
def test_each_sub_policy_is_drawn_uniformly_and_each_step_with_its_probability(name):
    names, values = drawn(augment.auto_augment(name))
    strengths = np.round(np.abs(values[..., 0]), 3)
    rows = Counter(
        tuple((str(op), float(value)) for op, value in zip(*row, strict=True))
        for row in zip(names, strengths, strict=True)
    )
    chances = {
        tuple((op, float(np.float32(value).round(3))) for op, value in key): chance
        for key, chance in outcomes(load_policy(name)).items()
    }
    assert chi_square(rows, chances) > NEVER


@pytest.mark.parametrize("table", ["dali", "dali_non_monotonic", "torchvision", "paper", "tfpipe"])
def test_rand_augment_draws_its_ops_uniformly_and_independently_by_stage(table):
    names, _ = drawn(augment.rand_augment(2, 9, table=table))
    kinds = sorted(set(names.ravel()))
    assert len(kinds) == 14
    assert (
        chi_square(Counter(zip(*names.T, strict=True)), dict.fromkeys(itertools.product(kinds, kinds), 1 / 196)) > NEVER
    )


def test_rand_augment_takes_bin_m_for_every_op():
    names, values = drawn(augment.rand_augment(2, 9))
    suite = op_ranges("dali", "rand")
    for op in suite:
        allowed = suite[op].values(np.array([9 / 30]), 224)[0]
        assert set(np.unique(values[names == op][:, 0])) == set(allowed), op


def test_signs_are_even_and_independent_of_the_op_and_the_stage():
    names, values = drawn(augment.rand_augment(2, 9))
    mirrored = ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
    table = [
        [np.sum((names[:, s] == op) & (sign * values[:, s, 0] > 0)) for sign in (1, -1)]
        for op in mirrored
        for s in (0, 1)
    ]
    assert stats.chi2_contingency(table).pvalue > NEVER
    assert stats.binomtest(int(np.sum(table, axis=0)[0]), int(np.sum(table))).pvalue > NEVER
    both = np.isin(names, mirrored).all(axis=1)
    signs = values[both][:, :, 0] > 0
    assert stats.chi2_contingency(np.histogram2d(*signs.T, bins=2)[0]).pvalue > NEVER


def test_trivial_augment_draws_op_and_bin_uniformly_and_independently():
    names, values = drawn(augment.trivial_augment_wide(ops=["rotate", "solarize"], num_magnitude_bins=11))
    assert names.shape[1] == 1
    steps = np.where(names == "rotate", np.abs(values[..., 0]) / 13.5, 10 - values[..., 0] / 25.6)
    rows = Counter(zip(names[:, 0], np.round(steps[:, 0]).astype(int), strict=True))
    chances = dict.fromkeys(itertools.product(["rotate", "solarize"], range(11)), 1 / 22)
    assert chi_square(rows, chances) > NEVER


def test_trivial_augment_draws_its_fourteen_ops_uniformly():
    names, _ = drawn(augment.trivial_augment_wide())
    counts = Counter(names[:, 0])
    assert chi_square(counts, dict.fromkeys(op_ranges("dali", "trivial"), 1 / 14)) > NEVER


def test_weights_and_excluded_names_change_how_often_ops_are_drawn():
    transform = augment.rand_augment(
        1, 9, ops=["rotate", "invert", "color", "hue"], excluded=["hue"], weights={"rotate": 3}
    )
    names, _ = drawn(transform)
    assert chi_square(Counter(names[:, 0]), {"rotate": 0.6, "invert": 0.2, "color": 0.2}) > NEVER


def test_magnitude_noise_is_normal_about_m_and_clipped():
    _, values = drawn(augment.rand_augment(1, 29, ops=["rotate"], magnitude_noise=1.5))
    bins = np.round(np.abs(values[:, 0, 0])).astype(int)
    edges = [-np.inf, *np.arange(24.5, 30), np.inf]
    chances = np.diff(stats.norm(29, 1.5).cdf(edges))
    counts = Counter(np.clip(bins, 24, 30).tolist())
    assert chi_square(counts, dict(zip(range(24, 31), chances, strict=True))) > NEVER


def test_every_image_every_seed_and_every_noise_seed_differs():
    choices = augment.rand_augment(2, 9).draw((1, 2), 4096, 32, 32)
    assert len(np.unique(choices.seeds.numpy().reshape(-1, 2), axis=0)) == 8192
    rows = np.unique(np.concatenate([choices.ops.numpy(), choices.values.numpy()[..., 0]], axis=1), axis=0)
    assert len(rows) > 300  # 22² pairs of ops and signs, the strengths being fixed.


def test_a_continuous_policy_goes_by_tfpipes_own_ranges():
    policy = Policy("mine", ((Step("rotate", 1.0, 0.5), Step("translate_x", 1.0, 1.0)),))
    _, values = drawn(augment.policy(policy), 64)
    assert set(np.abs(values[:, 0, 0])) == {15.0}
    assert np.abs(values[:, 1, 0]) == pytest.approx(0.45 * 224)


# ---- PBA

FOUR = (Step("rotate", 1.0, 3), Step("invert", 1.0), Step("equalize", 1.0), Step("auto_contrast", 1.0))


def pba_policy(steps, num_ops=(0.2, 0.3, 0.5)):
    return Policy("p", (tuple(steps),), 11, "pba", num_ops)


def walked(steps, num_ops, size, rng):
    """PBA's rule as its code has it, image by image."""
    rows = Counter()
    for _ in range(size):
        left, row = rng.choice(len(num_ops), p=num_ops), []
        for place in rng.permutation(len(steps)):
            if left and rng.uniform() < steps[place].probability:
                row.append(steps[place].op)
                left -= 1
        rows[tuple(row)] += 1
    return rows


def test_pba_applies_none_one_or_two_ops_as_often_as_it_says():
    names, _ = drawn(augment.policy(pba_policy(FOUR)))
    counts = Counter((names != "identity").sum(axis=1).tolist())
    assert chi_square(counts, {0: 0.2, 1: 0.3, 2: 0.5}) > NEVER
    firsts = Counter(names[names[:, 0] != "identity"][:, 0])
    assert chi_square(firsts, {step.op: 0.25 for step in FOUR}) > NEVER


def test_pba_walks_as_its_code_does():
    steps = [Step("rotate", 0.9, 3), Step("invert", 0.2), Step("equalize", 0.5), Step("solarize", 0.0, 5)]
    names, _ = drawn(augment.policy(pba_policy(steps)), 20_000)
    ours = Counter(tuple(str(op) for op in row if op != "identity") for row in names)
    theirs = walked(steps, (0.2, 0.3, 0.5), 20_000, np.random.default_rng(5))
    assert set(ours) == set(theirs)
    assert stats.chi2_contingency([[rows[key] for key in ours] for rows in (ours, theirs)]).pvalue > NEVER


def test_pba_changes_with_the_epoch_of_the_batch():
    schedule = Schedule(
        "s",
        (
            Segment(2, pba_policy([Step("invert"), Step("invert")], (0, 0, 1))),
            Segment(1, pba_policy(FOUR[2:], (0, 1, 0))),
        ),
    )
    transform = augment.pba(schedule, fill=128)
    images = tf.random.stateless_uniform([8, 4, 4, 3], (1, 2), maxval=256, dtype=tf.int32)
    batch = {"image": tf.cast(images, tf.uint8)}
    run = tf.function(lambda epoch: transform({**batch, "epoch": epoch}, (0, 1))["image"], autograph=False)
    # Inverted twice is as it was; equalized or stretched is not.
    same = [np.array_equal(run(tf.constant(epoch, tf.int64)), batch["image"]) for epoch in (0, 1, 2, 9)]
    assert same == [True, True, False, False]


def test_pba_stretches_and_flattens_its_schedule():
    schedule = Schedule("s", (Segment(1, pba_policy(FOUR[1:2], (0, 1))), Segment(3, pba_policy(FOUR[2:3], (0, 1)))))
    names, _ = drawn(augment.pba(schedule, flatten=True))
    assert chi_square(Counter(names[:, 0]), {"invert": 0.25, "equalize": 0.75}) > NEVER
    at = [drawn(augment.pba(schedule, num_epochs=40, epoch=epoch), 8)[0][0, 0] for epoch in (9, 10, 400)]
    assert at == ["invert", "equalize", "equalize"]


def test_the_published_schedules_start_without_augmentation():
    for name in ("rcifar10", "rsvhn"):
        assert set(drawn(augment.pba(name, epoch=0), 500)[0].ravel()) == {"identity"}
        assert len(set(drawn(augment.pba(name, epoch=150), 5000)[0].ravel())) >= 10


# ---- users' ops


@augment.augmentation(range=(0.0, 80.0), mirrored=True)
def warmer(images, values):
    shift = values[:, None, None, None] * tf.constant([1.0, 0.0, -1.0])
    return tf.cast(tf.clip_by_value(tf.cast(images, tf.float32) + shift, 0, 255), tf.uint8)


def test_a_users_op_takes_part_in_every_policy():
    steps = ((Step("warmer", 1.0, 10),),)
    for transform, expected in [
        (augment.rand_augment(1, 30, ops=[warmer, "invert"]), 80.0),
        (augment.trivial_augment_wide(ops=[warmer], num_magnitude_bins=1), 0.0),
        (augment.policy(Policy("p", steps, 11, "dali"), ops=[warmer]), 80.0),
        (augment.pba(Schedule("s", (Segment(1, Policy("p", steps, 11, "pba", (0, 1))),)), epoch=0, ops=[warmer]), 80.0),
        (augment.one_of([warmer]), None),
    ]:
        names, values = drawn(transform, 200)
        assert "warmer" in names
        if expected is not None:
            assert set(np.abs(values[names == "warmer"][:, 0])) == {expected}


# ---- what is refused

ONE = ((Step("invert"),),)
REFUSED = {
    "n is -1; it must be an integer of at least 0": lambda: augment.rand_augment(-1, 9),
    "n is 1.5": lambda: augment.rand_augment(1.5, 9),
    "m is 31; with 31 bins it must be an integer from 0 to 30": lambda: augment.rand_augment(2, 31),
    "num_magnitude_bins is 0": lambda: augment.rand_augment(2, 0, num_magnitude_bins=0),
    r"Unknown table 'imagenet'; the tables for this policy are \['dali', 'dali_non": lambda: augment.rand_augment(
        2, 9, table="imagenet"
    ),
    r"Unknown op 'rotat'; known ops: \['add_brightness', ": lambda: augment.rand_augment(2, 9, ops=["rotat"]),
    r"No op is left to draw from: ops is \[\]": lambda: augment.rand_augment(2, 9, ops=[]),
    r"excluded names \['hue'\], which are not drawn from anyway; the ops are \['auto_contrast'": lambda: (
        augment.rand_augment(2, 9, excluded=["hue"])
    ),
    r"weights names \['hue'\]": lambda: augment.rand_augment(2, 9, weights={"hue": 1}),
    "weights is {'rotate': -1}; it needs numbers of at least 0": lambda: augment.rand_augment(
        2, 9, weights={"rotate": -1}
    ),
    "magnitude_noise is -1": lambda: augment.rand_augment(2, 9, magnitude_noise=-1),
    "give pixels or a fraction, not both": lambda: augment.rand_augment(2, 9, max_translate_abs=1, max_translate_rel=1),
    "fill is 256; it takes 0 to 255": lambda: augment.rand_augment(2, 9, fill=256),
    r"Unknown interpolation 'cubic'; (known|allowed): \['nearest', 'bilinear'\]": lambda: augment.rand_augment(
        2, 9, interpolation="cubic"
    ),
    r"Unknown form 'gpu'; (known|allowed): \['auto', 'loop', 'dense'\]": lambda: augment.rand_augment(2, 9, form="gpu"),
    r"Unknown policy 'imagenet'; known policies: \['cifar10_95', 'image_net', 'reduced_cifar10'": lambda: (
        augment.auto_augment("imagenet")
    ),
    "No op of this suite translates": lambda: augment.auto_augment("reduced_image_net", max_translate_rel=0.5),
    "magnitude of 'solarize' in policy 'image_net' is 10; with 10 bins": lambda: augment.auto_augment(
        table="torchvision"
    ),
    r"Unknown op 'warmer' in policy 'p'; known ops: \['add_": lambda: augment.policy(Policy("p", ((Step("warmer"),),))),
    "Step 'rotate' of policy 'p' has no magnitude, but the op takes one": lambda: augment.policy(
        Policy("p", ((Step("rotate"),),))
    ),
    "Unknown schedule 'cifar'": lambda: augment.pba("cifar"),
    "a flattened schedule has no epochs": lambda: augment.pba("rcifar10", epoch=3, flatten=True),
    "A schedule needs the epoch: give epoch=, or a batch with 'epoch'": lambda: augment.pba("rcifar10").draw(
        (1, 2), 4, 8, 8
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_bad_arguments_are_refused_in_one_sentence_at_construction(sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        REFUSED[sentence]()
    assert "\n" not in str(error.value)


def test_no_ops_at_all_warn_and_leave_images_as_they_are():
    with pytest.warns(UserWarning, match="rand_augment with n = 0 leaves every image as it is"):
        transform = augment.rand_augment(0, 9)
    images = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(transform({"image": images}, (0, 0))["image"], images)


def test_idle_steps_of_a_users_policy_are_warned_of():
    with pytest.warns(UserWarning, match=r"Policy 'p' has steps of probability 0: \['invert'\]"):
        augment.policy(Policy("p", ((Step("invert", 0.0),),)))
    with pytest.warns(UserWarning, match=r"gives magnitudes to ops that have none: \['invert'\]"):
        augment.policy(Policy("p", ((Step("invert", 1.0, 0.5),),)))


BATCHES = {
    r"Images are \[B, H, W, C\]; got the shape \(4, 8, 3\)": np.zeros((4, 8, 3), np.uint8),
    r"got int32": np.zeros((4, 8, 8, 3), np.int32),
    r"are in \[0, 1\]; got 0.0 to 2.0": np.linspace(0, 2, 768, dtype=np.float32).reshape(4, 8, 8, 3),
}


@pytest.mark.parametrize("sentence", BATCHES)
def test_batches_that_no_op_takes_are_refused(sentence):
    with pytest.raises(ValueError, match=sentence):
        augment.rand_augment(2, 9)({"image": BATCHES[sentence]}, (0, 0))


def test_a_batch_without_images_is_refused():
    with pytest.raises(ValueError, match=r"A transform takes a dict with 'image'; it got \['images'\]"):
        augment.rand_augment(2, 9)({"images": np.zeros((4, 8, 8, 3), np.uint8)}, (0, 0))
    with pytest.raises(ValueError, match=r"seed has the shape \(3,\); it must be int32 \[2\]"):
        augment.rand_augment(2, 9).draw((1, 2, 3), 4, 8, 8)


def test_check_values_looks_at_floats_inside_graphs():
    images = tf.constant(np.full((2, 4, 4, 3), 1.5, np.float32))
    for check_values in (False, True):
        transform = augment.op("flip_left_right", check_values=check_values)
        run = tf.function(lambda x, t=transform: t({"image": x}, (0, 0))["image"], autograph=False)
        if check_values:
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"are in \[0, 1\]"):
                run(images)
        else:
            run(images)
