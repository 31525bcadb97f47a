"""The model of a pipeline's rate on more cores, on numbers whose answer is known, and the clocks of threads."""

import math
import threading
import time

import pytest

from tfpipe.timing.read_pass import ReadPass, read_pass
from tfpipe.timing.scaling import CORES, Scaling, summarize_scaling
from tfpipe.timing.threads import Threads, ThreadUse, summarize_threads, thread_uses


def scaling(**changes):
    """700 us of CPU an image, 50 of them without decoding; 40 us one at a time; measured on 2 cores."""
    numbers = {
        "variant": "default",
        "cores": 2,
        "calls": None,
        "images_per_second": 2 / 700e-6,
        "cpu_microseconds": 700.0,
        "free_images_per_second": 25_000.0,
        "free_cpu_microseconds": 50.0,
        "serial_microseconds": 40.0,
        "serial_from": "rate",
        "serial_part": "handing over",
    }
    return Scaling(**{**numbers, **changes})


def test_cores_limit_up_to_what_stays_one_at_a_time():
    one = scaling()
    found = [one.project(cores) for cores in CORES]
    assert [projection.limit for projection in found] == ["cores", "cores", "handing over", "handing over"]
    assert [projection.images_per_second for projection in found] == pytest.approx(
        [8 / 700e-6, 16 / 700e-6, 25e3, 25e3]
    )
    assert one.most_cores == math.ceil(700 / 40)
    assert one.model_ratio == pytest.approx(1)


def test_a_number_of_calls_limits_where_it_is_reached_first():
    one = scaling(calls=4, serial_part="reading")
    assert one.limit == pytest.approx((4 / 650e-6, "parallel_calls"))
    assert one.project(4).limit == "cores"
    assert one.project(8).limit == "parallel_calls"
    assert scaling(calls=64, serial_part="reading").project(64).limit == "reading"


def test_one_call_decodes_in_the_thread_that_reads():
    one = scaling(calls=1)
    assert one.limit.images_per_second == pytest.approx(1 / 690e-6)
    assert one.most_cores == 2


def test_what_decodes_nothing_is_limited_by_what_is_left():
    one = scaling(calls=1, cpu_microseconds=50.0)
    assert one.limit == pytest.approx((25_000, "handing over"))


def test_the_document_tells_measured_from_projected():
    document = scaling().as_document()
    assert document["variant"] == "default"
    assert document["measured"]["free_images_per_second"] == 25_000
    assert list(document["projected"]) == ["8", "16", "32", "64"]
    assert document["projected"]["64"] == {"images_per_second": pytest.approx(25_000), "limit": "handing over"}


# ---- from passes to numbers


def passes(*seconds, images=1000, busy=1.0, thread=None, wanted=None, share=0.0, waiting=0.0):
    """Passes of these lengths; `thread`: CPU seconds of the busiest one, `wanted`: cores, if not those kept busy."""
    cores = busy if wanted is None else wanted
    return [
        ReadPass(images, t, t * busy, None if thread is None else Threads(thread, waiting, share, cores * t), images, t)
        for t in seconds
    ]


def summarized(**kinds):
    return summarize_scaling("default", **{"cores": 2, "calls": None, "read": passes(1.0, busy=2.0), **kinds})


def test_the_fastest_passes_count():
    one = summarized(read=passes(3, 1, 2, busy=1.9), free=passes(0.2, 0.1, 0.3))
    assert (one.images_per_second, one.free_images_per_second) == (1000, 10_000)
    assert (one.cpu_microseconds, one.free_cpu_microseconds) == pytest.approx((1900, 100))


def test_a_rate_that_leaves_a_core_idle_is_that_of_what_stays_one_at_a_time():
    one = summarized(free=passes(0.1, busy=1.2, thread=0.02, share=0.9))
    assert (one.serial_microseconds, one.serial_from, one.serial_part) == (pytest.approx(100), "rate", "reading")


def test_where_all_cores_are_busy_the_busiest_thread_of_many_calls_tells_more():
    free = passes(0.1, busy=1.9, thread=0.08)
    wide = passes(0.12, 0.12, busy=1.9, thread=0.02, share=0.5)
    one = summarized(free=free, wide=wide)
    assert (one.serial_microseconds, one.serial_from, one.serial_part) == (pytest.approx(20), "thread", "reading")
    narrow = summarized(free=free)
    assert (narrow.serial_microseconds, narrow.serial_part) == (pytest.approx(80), "handing over")


def test_where_others_use_the_cores_the_busiest_thread_tells_more():
    for wanted in (2.5, 0.7):
        one = summarized(free=passes(0.4, busy=0.3, thread=0.05, wanted=wanted))
        assert (one.serial_microseconds, one.serial_from) == (pytest.approx(50), "thread")


def test_what_the_busiest_thread_waits_for_a_core_is_not_its_own():
    one = summarized(free=passes(0.4, busy=0.7, thread=0.1, wanted=1.2, waiting=0.25))
    assert (one.serial_microseconds, one.serial_from) == (pytest.approx(150), "rate")


def test_where_threads_are_not_told_the_rate_is_the_bound():
    one = summarized(free=passes(0.1, busy=2.0))
    assert (one.serial_microseconds, one.serial_from, one.serial_part) == (pytest.approx(100), "rate", "handing over")


# ---- passes and threads


def test_a_pass_ends_with_the_time_or_with_the_batches():
    taken = []

    def batches(count):
        for number in range(count):
            time.sleep(0.01)
            taken.append(number)
            yield number

    assert read_pass(Again(lambda: batches(4)), 8, 60).images == 3 * 8
    assert len(taken) == 4
    one = read_pass(Again(lambda: batches(10_000)), 8, 0.1)
    assert one.wall_seconds >= 0.1
    assert 0 < one.images <= 10 * 8
    assert read_pass(Again(lambda: batches(1)), 8, 60).images == 8


class Again:
    """An iterable that begins anew each time."""

    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return self.make()


def test_what_threads_did_is_told_of_those_that_still_live():
    before = {1: ThreadUse(10, 1, 0), 2: ThreadUse(0, 0, 1000), 4: ThreadUse(0, 0, 0)}
    after = {1: ThreadUse(11, 3, 0), 2: ThreadUse(3, 0, 4000), 3: ThreadUse(2, 0, 1000)}
    assert summarize_threads(before, after) == Threads(3, 0, 0.75, 8)
    assert summarize_threads({}, {}) is None


def test_the_clocks_of_threads_are_their_own(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    done, seen = threading.Event(), threading.Event()

    def work():
        begun = time.thread_time()
        while time.thread_time() - begun < 0.05:
            pass
        (tmp_path / "file").read_bytes()
        seen.set()
        done.wait(30)

    before = thread_uses()
    worker = threading.Thread(target=work)
    worker.start()
    seen.wait(30)
    after = thread_uses()
    done.set()
    worker.join()
    use = after[worker.native_id]
    assert 0.05 <= use.cpu_seconds < 5
    assert use.read_bytes >= 1_000_000
    assert worker.native_id not in before
    assert threading.get_native_id() in before
