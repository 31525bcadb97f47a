"""The timing of variants, on pipelines whose cost is known."""

import subprocess
import sys
import time

import pytest

from tfpipe.timing import compare, time_pass


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
    rounds = [tuple(order[i : i + 4]) for i in range(4, len(order), 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize(("variants", "repeats"), [({}, 3), ({"a": list}, 0)])
def test_nothing_to_compare_is_refused(variants, repeats):
    with pytest.raises(ValueError, match="at least one variant and one repeat"):
        compare(variants, consume=count, repeats=repeats)


def test_timing_needs_no_tensorflow():
    code = "import sys, tfpipe.timing; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
