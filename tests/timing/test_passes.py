"""The timing of variants, on pipelines whose cost is known."""

import dataclasses
import subprocess
import sys
import time

import pytest

from tfpipe.timing import Pass, cached_share, compare, drop_files, summarize, time_pass, warm_files


def count(pipeline):
    return sum(1 for _ in pipeline)


class Slow:
    """A pipeline of 20 images that sleeps before each."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        for image in range(20):
            time.sleep(self.seconds)
            yield image


def test_a_pass_counts_images_and_time():
    one = time_pass(Slow(0.002), count)
    assert one.images == 20
    assert one.wall_seconds >= 0.04
    assert one.cpu_seconds < one.wall_seconds


def test_the_slower_variant_has_the_smaller_speedup():
    rows = compare({"slow": lambda: Slow(0.008), "fast": lambda: Slow(0.001)}, consume=count, repeats=3)
    assert [row.variant for row in rows] == ["slow", "fast"]
    assert rows[0].speedup == 1.0
    assert rows[1].speedup > 2
    assert rows[0].utilisation < 0.5
    assert rows[0].images_per_cpu_second > rows[0].images_per_second


def test_a_variant_is_built_once_and_run_once_more_than_repeated():
    built = []

    def build():
        built.append(Slow(0))
        return built[-1]

    compare({"one": build}, consume=count, repeats=4)
    assert [pipeline.passes for pipeline in built] == [5]


def test_the_first_pass_is_told_apart():
    class SlowStart(Slow):
        def __iter__(self):
            time.sleep(0.2 if self.passes == 0 else 0)
            return super().__iter__()

    (row,) = compare({"one": lambda: SlowStart(0.0005)}, consume=count)
    assert row.first_epoch_seconds > 0.2
    assert row.images_per_second > 20 / 0.2


def test_variants_take_turns_in_another_order_each_round():
    order = []

    def variant(name):
        class Named(Slow):
            def __iter__(self):
                order.append(name)
                return super().__iter__()

        return lambda: Named(0)

    compare({name: variant(name) for name in "abcd"}, consume=count, repeats=8)
    rounds = [tuple(order[i : i + 4]) for i in range(0, len(order), 4)]
    assert len(rounds) == 9
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize(("variants", "repeats"), [({}, 3), ({"a": list}, 0)])
def test_nothing_to_compare_is_refused(variants, repeats):
    with pytest.raises(ValueError, match="at least one variant and one repeat"):
        compare(variants, consume=count, repeats=repeats)


def test_what_comes_before_a_pass_is_not_timed():
    calls = []

    def slow():
        calls.append(time.perf_counter())
        time.sleep(0.4)

    seen = []
    compare(
        {"one": lambda: Slow(0)}, consume=count, repeats=2, before_pass=slow, on_pass=lambda name, one: seen.append(one)
    )
    assert len(calls) == len(seen) == 3
    assert all(one.wall_seconds < 0.4 for one in seen)


# ---- medians


def passes(*seconds, images=100, busy=0.5):
    return [Pass(images, wall, wall * busy) for wall in seconds]


def test_a_row_holds_medians_of_all_but_the_first_pass():
    plain, fast = summarize({"plain": passes(9, 2, 4, 1), "fast": passes(5, 1, 0.5, 1, 1.25, busy=2)})
    assert (plain.images_per_second, plain.first_epoch_seconds, plain.speedup) == (50, 9, 1)
    assert (plain.spread, plain.wall_seconds, plain.cpu_seconds) == ((100 - 25) / 50, 2, 1)
    assert (fast.images_per_second, fast.speedup, fast.utilisation, fast.images_per_cpu_second) == (100, 2, 2, 50)


def test_one_pass_is_no_measurement():
    with pytest.raises(ValueError, match=r"one more are needed of each variant; \['b'\] have fewer"):
        summarize({"a": passes(1, 1), "b": passes(1)})


@pytest.mark.parametrize(
    ("rate", "spread", "as_fast"), [(100, 0, True), (96, 0, True), (94, 0, False), (85, 0.4, True), (75, 0.4, False)]
)
def test_as_fast_allows_for_the_noise_of_both(rate, spread, as_fast):
    (other,) = summarize({"other": passes(1, 1, 1)})
    row = dataclasses.replace(other, images_per_second=rate, spread=spread)
    assert row.is_as_fast_as(other) == as_fast
    assert other.is_as_fast_as(dataclasses.replace(row, images_per_second=min(rate, 100)))


# ---- the page cache


def test_files_leave_the_page_cache_and_come_back(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(bytes(3_000_000))
    drop_files(paths)
    if cached_share(paths) != 0:
        pytest.skip("this file system keeps its pages in memory, or does not tell")
    assert warm_files(paths[:1]) == 3_000_000
    assert 0.4 < cached_share(paths) < 0.6
    assert warm_files(paths) == 6_000_000
    assert cached_share(paths) == 1


def test_an_empty_file_is_cached(tmp_path):
    (tmp_path / "a").touch()
    assert cached_share([tmp_path / "a"]) == 1


def test_timing_needs_no_tensorflow():
    code = "import sys, tfpipe.timing.passes; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
