"""How busy a GPU is: the shares of the time, sampling, and the sentence where nothing can be read."""

import sys
import time

import pytest

from tfpipe.errors import SetupError
from tfpipe.timing.gpu import Sample, gpu_use, open_gpu, sampling


def run(*values, begin=100.0):
    """Samples of (seconds that it holds, per cent), and the end."""
    samples, now = [], begin
    for seconds, percent in values:
        samples.append(Sample(now, percent))
        now += seconds
    return [*samples, Sample(now, 77)]


def test_shares_are_of_the_time_and_not_of_the_samples():
    found = gpu_use([run((1, 0), (2, 9.9), (1, 10)), run((3, 49), (1, 50), (1, 90), (1, 100), begin=500)])
    assert (found.below_10, found.below_50, found.below_90) == pytest.approx((0.3, 0.7, 0.8))
    assert found.mean == pytest.approx((2 * 9.9 + 10 + 3 * 49 + 50 + 90 + 100) / 10 / 100)
    assert found.seconds == pytest.approx(10)


def test_the_time_between_two_runs_does_not_count():
    apart = gpu_use([run((1, 0)), run((1, 100), begin=9_000)])
    assert (apart.below_10, apart.seconds) == (0.5, 2)


@pytest.mark.parametrize("runs", [[], [[]], [[Sample(1, 50)]]])
def test_without_time_there_is_no_use(runs):
    assert gpu_use(runs) is None


def test_a_source_is_sampled_from_the_begin_of_a_block_to_its_end():
    values = iter(range(10**6))
    begun = time.perf_counter()
    with sampling(lambda: next(values), interval_seconds=0.002) as samples:
        time.sleep(0.05)
    ended = time.perf_counter()
    assert len(samples) >= 3
    assert [sample.percent for sample in samples] == list(range(len(samples)))
    times = [sample.seconds for sample in samples]
    assert times == sorted(times)
    assert begun <= times[0]
    assert times[-1] <= ended
    assert times[-1] - times[0] >= 0.05
    count = len(samples)
    time.sleep(0.01)
    assert len(samples) == count


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SetupError, match=r"nvidia-ml-py: pip install 'tfpipe\[gpu\]'"):
        open_gpu()
