"""Facts of the sources, run or read: torchvision 0.29.1, TrivialAugment's aug_lib.py, the papers' tables; versions."""

import json

import numpy as np
import pytest

from tfpipe import augment
from tfpipe.augment.draw.magnitudes import op_ranges
from tfpipe.policy import Policy, Schedule, Segment, Step, load_policy

# The whole pixels that torchvision.transforms.v2 hands to its affine, bin by bin (0.29.1, float32 and all).
TORCHVISION = {
    ("rand", "translate_x", 31, 224): [
        0, 3, 6, 10, 13, 16, 20, 23, 27, 30, 33, 37, 40, 43, 47, 50,
        54, 57, 60, 64, 67, 71, 74, 77, 81, 84, 87, 91, 94, 98, 101,
    ],
    ("auto", "translate_y", 10, 224): [0, 11, 22, 33, 45, 56, 67, 78, 90, 101],
    ("auto", "translate_x", 10, 300): [0, 15, 30, 45, 60, 75, 90, 105, 120, 135],
    ("trivial", "translate_x", 31, 224): [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32,
    ],
}  # fmt: skip


def values_of(table, method, op, bins, size=224, **version):
    return op_ranges(table, method, **version)[op].values(np.arange(bins) / (bins - 1), size)[:, 0].tolist()


@pytest.mark.parametrize("case", TORCHVISION, ids=lambda case: "-".join(map(str, case)))
def test_torchvision_shifts_by_whole_pixels_cut_down(case):
    method, op, bins, size = case
    assert values_of("torchvision", method, op, bins, size) == TORCHVISION[case]


@pytest.mark.parametrize("table", ["paper", "paper_code"])
def test_trivial_augment_cuts_bits_and_shifts_down_as_its_authors_do(table):
    assert values_of(table, "trivial", "posterize", 31) == [8 - int(level * 6 / 30) for level in range(31)]
    for size in (32, 224):
        shifts = values_of(table, "trivial", "translate_y", 31, size)
        assert shifts == [int(level * 32 / 30) for level in range(31)]
    assert values_of(table, "trivial", "rotate", 31) == [int(level * 135 / 30) for level in range(31)]


def test_the_papers_table_is_what_the_paper_prints():
    for method in ("auto", "rand"):
        assert values_of("paper", method, "posterize", 11)[::10] == [4, 8]
        assert values_of("paper", method, "solarize", 11)[::5] == [0, 128, 256]
        assert values_of("paper", method, "translate_x", 11, 331) == [15 * level for level in range(11)]
    assert values_of("paper", "auto", "cutout", 11, 331) == [6 * level for level in range(11)]
    assert np.all(np.diff(values_of("paper", "auto", "posterize", 11)) >= 0)


def test_the_code_for_cifar_has_a_table_of_its_own():
    levels = range(11)
    for method in ("auto", "rand"):
        assert values_of("paper_code", method, "posterize", 11) == [4 - int(0.4 * level) for level in levels]
        assert values_of("paper_code", method, "solarize", 11) == [256 - int(25.6 * level) for level in levels]
    assert values_of("paper_code", "auto", "cutout", 11, 32) == [2 * level for level in levels]


@pytest.mark.parametrize(("table", "threshold"), [("paper", 256.0), ("paper_code", 0.0), ("dali", 256.0)])
def test_solarize_of_image_net_at_its_last_bin_depends_on_the_table(table, threshold):
    choices = augment.auto_augment("image_net", table=table).draw((4, 5), 4000, 224, 224)
    transform = augment.auto_augment("image_net", table=table)
    solarize = [op.name for op in transform.ops].index("solarize")
    # Bin 10 comes in one sub-policy alone, behind posterize.
    posterize = [op.name for op in transform.ops].index("posterize")
    rows = (choices.ops[:, 0] == posterize) & (choices.ops[:, 1] == solarize)
    assert set(choices.values.numpy()[rows.numpy()][:, 1, 0]) == {threshold}


# What timm 1.0.31 hands to its ops at levels 0 to 10.
TIMM = {
    ("timm", "posterize"): [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4],
    ("timm", "solarize"): [0, 25, 51, 76, 102, 128, 153, 179, 204, 230, 256],
    ("timm", "color"): [0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 1.18, 1.36, 1.54, 1.72, 1.9],
    ("timm", "solarize_add"): [0, 11, 22, 33, 44, 55, 66, 77, 88, 99, 110],
    ("timm_increasing", "posterize"): [4, 4, 4, 3, 3, 2, 2, 2, 1, 1, 0],
    ("timm_increasing", "solarize"): [256, 231, 205, 180, 154, 128, 103, 77, 52, 26, 0],
    ("timm_increasing", "color"): [1.0, 1.09, 1.18, 1.27, 1.36, 1.45, 1.54, 1.63, 1.72, 1.81, 1.9],
    ("timm_increasing", "translate_x"): [4.5 * level for level in range(11)],
}


@pytest.mark.parametrize("case", TIMM, ids="-".join)
def test_timms_tables_are_its_levels(case):
    table, op = case
    np.testing.assert_allclose(values_of(table, "rand", op, 11, 100), TIMM[case], atol=1e-6)
    assert len(op_ranges(table, "rand")) == 15


# ---- versions


def bare(transform):
    """The document of a transform as version 1 wrote it."""
    document = json.loads(json.dumps(augment.to_json(transform)))
    del document["arguments"]["version"]
    return document


MADE = {
    "rand": lambda table, **more: augment.rand_augment(2, 20, table=table, **more),
    "trivial": lambda table, **more: augment.trivial_augment_wide(table=table, **more),
    "auto": lambda table, **more: augment.auto_augment("svhn", table=table, **more),
}


def drawn(transform):
    return [np.asarray(part) for part in transform.draw((3, 4), 256, 64, 48)]


def same(one, other):
    return all(map(np.array_equal, drawn(one), drawn(other)))


@pytest.mark.parametrize("name", MADE)
def test_the_papers_table_in_a_document_without_a_version_is_todays_paper_code(name):
    read = augment.from_json(bare(MADE[name]("paper")))
    assert read.arguments["table"] == "paper_code"
    assert same(read, MADE[name]("paper_code", version=1))
    assert not same(read, MADE[name]("paper")), name
    assert same(augment.from_json(augment.to_json(read)), read)


@pytest.mark.parametrize("name", MADE)
def test_a_document_without_a_version_draws_torchvisions_shifts_as_it_did(name):
    read = augment.from_json(bare(MADE[name]("torchvision")))
    assert read.arguments["table"] == "torchvision"
    assert same(read, MADE[name]("torchvision", version=1))
    assert augment.to_json(read) == bare(MADE[name]("torchvision"))
    assert augment.to_json(MADE[name]("torchvision"))["arguments"]["version"] == 2


def test_version_one_shifts_by_parts_of_pixels():
    assert values_of("torchvision", "rand", "translate_x", 31, version=1)[10] == pytest.approx(150 / 331 * 224 / 3)
    assert values_of("paper", "trivial", "translate_x", 31, version=1)[10] == pytest.approx(32 / 3)
    assert values_of("paper", "trivial", "posterize", 31, version=1)[3] == 7.0
    assert values_of("paper", "auto", "solarize", 11, version=1) == values_of("paper_code", "auto", "solarize", 11)


def test_saved_policies_carry_a_version_and_those_without_one_mean_paper_code():
    policy = Policy("p", ((Step("solarize", 1.0, 10),),), 11, "paper")
    document = policy.to_json()
    assert document["version"] == 2
    assert Policy.from_json(document).table == "paper"
    del document["version"]
    old = Policy.from_json(document)
    assert (old.table, old.version) == ("paper_code", 1)
    assert "version" not in old.to_json()
    values = augment.policy(old).draw((0, 1), 4, 8, 8).values.numpy()
    assert np.all(values[:, 0, 0] == 0)
    schedule = Schedule("s", (Segment(2, old),))
    assert Schedule.from_json(schedule.to_json()).policies[0].version == 1
    assert all(load_policy(name).version == 2 for name in ("image_net", "cifar10_95"))


@pytest.mark.parametrize("version", [0, 3, "2", True])
def test_a_version_that_is_not_known_is_refused(version):
    with pytest.raises(ValueError, match="version"):
        augment.rand_augment(2, 9, version=version)
    with pytest.raises(ValueError, match="version"):
        Policy.from_json({**load_policy("svhn").to_json(), "version": version})
