"""The timing of variants, on pipelines whose cost is known."""

import dataclasses
import time
from types import SimpleNamespace

import pytest

from tfpipe.timing import Pass, cached_share, compare, drop_files, summarize, time_pass, warm_files
from tfpipe.timing import passes as passes_module


def count(pipeline):
    return sum(1 for _ in pipeline)


class Clock:
    """A clock that moves only when a test calls sleep."""

    now = 0.0

    @classmethod
    def sleep(cls, seconds):
        cls.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Replaces the wall clock, and the CPU time by half of it, so that the load of the machine affects neither."""
    monkeypatch.setattr(Clock, "now", 0.0)
    monkeypatch.setattr(passes_module, "time", SimpleNamespace(perf_counter=lambda: Clock.now))
    monkeypatch.setattr(passes_module, "_cpu_seconds", lambda: Clock.now / 2)


class Slow:
    """A pipeline of 20 images that takes the given time for each."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        for image in range(20):
            Clock.sleep(self.seconds)
            yield image


def test_a_pass_counts_images_and_time():
    one = time_pass(Slow(0.5), count)
    assert one == Pass(images=20, wall_seconds=10, cpu_seconds=5)


def test_the_real_clocks_measure_wall_time_and_the_cpu_time_of_the_process(monkeypatch):
    monkeypatch.undo()
    before = time.process_time()
    one = time_pass(range(500_000), count)
    assert one.images == 500_000
    assert 0 < one.cpu_seconds <= time.process_time() - before + 0.02
    assert one.wall_seconds > 0


def test_the_slower_variant_has_the_smaller_speedup():
    rows = compare({"fast": lambda: Slow(0.25), "slow": lambda: Slow(1)}, consume=count, repeats=3)
    assert [row.variant for row in rows] == ["fast", "slow"]
    assert [row.speedup for row in rows] == [1, 0.25]
    assert [row.images_per_second for row in rows] == [4, 1]
    assert [row.images_per_cpu_second for row in rows] == [8, 2]
    assert [row.utilisation for row in rows] == [0.5, 0.5]


def test_a_variant_is_built_once_and_run_once_more_than_repeated():
    built = []

    def build():
        built.append(Slow(1))
        return built[-1]

    compare({"one": build}, consume=count, repeats=4)
    assert [pipeline.passes for pipeline in built] == [5]


def test_the_first_pass_is_reported_separately():
    class SlowStart(Slow):
        def __iter__(self):
            Clock.sleep(100 if self.passes == 0 else 0)
            return super().__iter__()

    (row,) = compare({"one": lambda: SlowStart(0.5)}, consume=count)
    assert row.first_epoch_seconds == 110
    assert row.images_per_second == 2


def test_variants_alternate_in_another_order_in_each_round():
    order = []

    def variant(name):
        class Named(Slow):
            def __iter__(self):
                order.append(name)
                return super().__iter__()

        return lambda: Named(1)

    compare({name: variant(name) for name in "abcd"}, consume=count, repeats=8)
    rounds = [tuple(order[i : i + 4]) for i in range(0, len(order), 4)]
    assert len(rounds) == 9
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize(("variants", "repeats"), [({}, 3), ({"a": list}, 0)])
def test_nothing_to_compare_is_rejected(variants, repeats):
    with pytest.raises(ValueError, match="at least one variant and one repeat"):
        compare(variants, consume=count, repeats=repeats)


def test_before_pass_is_not_timed():
    seen = []
    compare(
        {"one": lambda: Slow(0.5)},
        consume=count,
        repeats=2,
        before_pass=lambda: Clock.sleep(100),
        on_pass=lambda name, one: seen.append((name, one.wall_seconds)),
    )
    assert seen == [("one", 10)] * 3
    assert Clock.now == 330


# ---- medians


def passes(*seconds, images=100, busy=0.5):
    return [Pass(images, wall, wall * busy) for wall in seconds]


def test_a_row_holds_medians_of_all_but_the_first_pass():
    plain, fast = summarize({"plain": passes(9, 2, 4, 1), "fast": passes(5, 1, 0.5, 1, 1.25, busy=2)})
    assert (plain.images_per_second, plain.first_epoch_seconds, plain.speedup) == (50, 9, 1)
    assert (plain.spread, plain.wall_seconds, plain.cpu_seconds) == ((100 - 25) / 50, 2, 1)
    assert (fast.images_per_second, fast.speedup, fast.utilisation, fast.images_per_cpu_second) == (100, 2, 2, 50)


def test_one_pass_is_no_measurement():
    with pytest.raises(ValueError, match=r"Each variant needs a first pass and at least one more; \['b'\] have fewer"):
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
