"""Splits and shards are pure functions: every key in one split, every piece in one run, every batch on one host."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tfpipe.format.sharding import (
    DEFAULT_SPLIT,
    cut_order,
    host_batches,
    key_hashes,
    megabytes,
    num_shards,
    parse_split,
    pick_split,
    split_bounds,
)

DRAWS = st.integers(0, 2**64 - 1)
SEEDS = st.integers(0, 2**64 - 1)
# Fractions that sum to one: parts of a whole.
FRACTIONS = (
    st.lists(st.integers(0, 50), min_size=1, max_size=6)
    .filter(any)
    .map(lambda parts: {f"s{i}": part / sum(parts) for i, part in enumerate(parts)})
)


# ---- splits


def test_the_hashes_of_a_key_are_the_halves_of_its_seeded_xxh3_128() -> None:
    # XXH3-128 of "" with seed 0, from the specification's own test vectors.
    assert key_hashes("", seed=0) == (0x99AA06D3014798D8, 0x6001C324468D497F)
    whole = xxhash.xxh3_128_intdigest("katze/größe 1.jpg".encode(), 7)
    assert key_hashes("katze/größe 1.jpg", seed=7) == (whole >> 64, whole % 2**64)


@given(st.text(max_size=20), SEEDS)
def test_a_key_and_a_seed_always_give_the_same_two_hashes(key: str, seed: int) -> None:
    first = key_hashes(key, seed=seed)
    assert first == key_hashes(key, seed=seed)
    assert all(0 <= value < 2**64 for value in first)


@given(FRACTIONS, DRAWS)
def test_every_draw_falls_into_exactly_one_split_that_has_a_part(fractions: dict[str, float], draw: int) -> None:
    bounds = split_bounds(fractions)
    lows = [0, *bounds[:-1]]
    holders = [i for i, (low, high) in enumerate(zip(lows, bounds, strict=True)) if low <= draw < high]
    assert holders == [pick_split(draw, bounds)]
    assert list(fractions.values())[holders[0]] > 0


@given(FRACTIONS)
def test_bounds_rise_to_the_end_of_all_draws_in_steps_of_the_fractions(fractions: dict[str, float]) -> None:
    bounds = split_bounds(fractions)
    widths = np.diff([0, *(bound / 2**64 for bound in bounds)])
    assert bounds == sorted(bounds)
    assert bounds[-1] == 2**64
    for number, bound in enumerate(bounds[:-1]):
        assert pick_split(bound, bounds) > number
        assert bound == 0 or pick_split(bound - 1, bounds) <= number
    # 1e-9: fractions are read as the nearest ratio with a denominator up to 10**9.
    np.testing.assert_allclose(widths, list(fractions.values()), atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_the_splits_have_the_sizes_that_were_asked_for(seed: int) -> None:
    bounds = split_bounds(DEFAULT_SPLIT)
    counts = Counter(pick_split(key_hashes(f"cat/{i}.jpg", seed=seed)[0], bounds) for i in range(20_000))
    for number, fraction in enumerate(DEFAULT_SPLIT.values()):
        # Five standard deviations of a binomial.
        assert abs(counts[number] - 20_000 * fraction) < 5 * (20_000 * fraction * (1 - fraction)) ** 0.5


def test_another_seed_gives_another_split() -> None:
    bounds = split_bounds({"a": 0.5, "b": 0.5})
    splits = [[pick_split(key_hashes(str(i), seed=seed)[0], bounds) for i in range(200)] for seed in (0, 1)]
    assert 60 < sum(a != b for a, b in zip(*splits, strict=True)) < 140


@pytest.mark.parametrize(
    ("text", "fractions"),
    [
        ("train=0.8,validation=0.1,test=0.1", DEFAULT_SPLIT),
        (" train = 1 ", {"train": 1.0}),
        ("a=1/3,b=1/3,c=1/3", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        (",".join(f"s{i}=0.1" for i in range(10)), {f"s{i}": 0.1 for i in range(10)}),
        ("train=1,test=0", {"train": 1.0, "test": 0.0}),
    ],
)
def test_a_split_is_read_as_it_is_written(text: str, fractions: dict[str, float]) -> None:
    assert parse_split(text) == fractions
    assert split_bounds(parse_split(text))[-1] == 2**64


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' in '' is not NAME=FRACTION, such as train=0.8."),
        ("train", "'train' in 'train' is not NAME=FRACTION, such as train=0.8."),
        ("train=0.5,=0.5", "'=0.5' in 'train=0.5,=0.5' is not NAME=FRACTION, such as train=0.8."),
        ("train=most", "'train=most' in 'train=most' is not NAME=FRACTION, such as train=0.8."),
        ("train=1/0", "'train=1/0' in 'train=1/0' is not NAME=FRACTION, such as train=0.8."),
        ("a=0.5,a=0.5", "The split 'a' occurs twice in 'a=0.5,a=0.5'."),
        ("a=0.5,b=0.4", "The fractions of {'a': 0.5, 'b': 0.4} sum to 0.9; they must sum to 1."),
        ("a=-1,b=2", "The fraction of split 'a' is -1.0; it must be in [0, 1]."),
        ("a=nan", "'a=nan' in 'a=nan' is not NAME=FRACTION, such as train=0.8."),
        ("../a=1", "A split's name has letters, digits and _ only, not '../a'."),
        ("größe=1", "A split's name has letters, digits and _ only, not 'größe'."),
        ("a-b=1", "A split's name has letters, digits and _ only, not 'a-b'."),
    ],
)
def test_a_split_that_makes_no_sense_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_split(text)
    assert str(caught.value) == sentence


# ---- shards


@given(st.integers(0, 10**15), st.integers(1, 10**9))
def test_shards_lie_within_two_thirds_and_three_halves_of_the_target(num_bytes: int, target: int) -> None:
    shards = num_shards(num_bytes, target_bytes=target)
    assert shards >= 1
    assert 2 * num_bytes <= 3 * target * shards
    if 3 * num_bytes >= 2 * target:
        assert 3 * num_bytes >= 2 * target * shards


@pytest.mark.parametrize(
    ("num_bytes", "shards"), [(0, 1), (95_999_999, 1), (96_000_000, 2), (10**9, 16), (138 * 10**9, 2156)]
)
def test_the_default_target_is_64_megabytes(num_bytes: int, shards: int) -> None:
    assert num_shards(num_bytes) == shards


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0.0"), (1, "0.000001"), (4_130, "0.004"), (64_000, "0.06"), (99_900_000, "99.9"), (1_234_567_890, "1,234.6")],
)
def test_a_size_in_megabytes_shows_a_digit_however_small_it_is(num_bytes: int, text: str) -> None:
    assert megabytes(num_bytes) == text


def test_a_target_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="target_bytes is 0; it must be positive"):
        num_shards(5, target_bytes=0)


def runs_of(sizes: np.ndarray, shards: int) -> list[int]:
    """The bytes of each run."""
    return [int(sizes[low:high].sum()) for low, high in pairwise(cut_order(sizes, shards))]


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 80))
def test_cuts_cover_all_pieces_once_and_leave_no_run_empty(sizes: list[int], shards: int) -> None:
    cuts = cut_order(np.array(sizes, np.int64), shards)
    assert (cuts[0], cuts[-1]) == (0, len(sizes))
    if any(sizes):
        assert (np.diff(cuts) > 0).all()
        runs = runs_of(np.array(sizes), shards)
        assert all(runs)
        assert 1 <= len(runs) <= min(shards, np.count_nonzero(sizes))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=400), st.integers(2_000, 5_000))
def test_runs_of_small_pieces_keep_near_the_target(sizes: list[int], target: int) -> None:
    shards = num_shards(sum(sizes), target_bytes=target)
    runs = runs_of(np.array(sizes), shards)
    assert len(runs) == shards
    # A cut misses its goal by half a piece at most, so a run its share by one piece.
    assert max(abs(run - sum(sizes) / shards) for run in runs) <= max(sizes)
    assert max(runs) <= 1.5 * target + max(sizes)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 9), st.integers(1, 9))
def test_pieces_without_bytes_change_no_cut(sizes: list[int], shards: int, empties: int) -> None:
    wide = np.repeat(np.array(sizes, np.int64), empties)
    wide[np.arange(len(wide)) % empties != 0] = 0
    assert runs_of(wide, shards) == runs_of(np.array(sizes, np.int64), shards)


# ---- hosts


@given(st.integers(0, 500), st.integers(1, 40))
def test_hosts_take_equally_many_batches_and_none_twice(num_batches: int, host_count: int) -> None:
    parts = [host_batches(num_batches, host_index=host, host_count=host_count) for host in range(host_count)]
    assert {len(part) for part in parts} == {num_batches // host_count}
    taken = sorted(batch for part in parts for batch in part)
    assert taken == list(range(num_batches // host_count * host_count))
    for host, part in enumerate(parts):
        assert list(part) == [k * host_count + host for k in range(len(part))]


@pytest.mark.parametrize("host_index", [-1, 3, 7])
def test_a_host_that_is_none_of_them_is_refused(host_index: int) -> None:
    with pytest.raises(ValueError, match=rf"host_index is {host_index}; with host_count=3 it must be in \[0, 3\)"):
        host_batches(10, host_index=host_index, host_count=3)
