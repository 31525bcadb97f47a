"""How busy a GPU is while something runs: NVML's figure, sampled by a thread, as shares of the time.

    gpu = open_gpu()
    with sampling(gpu.read) as samples:
        model.fit(...)
    gpu_use([samples])

NVML's utilisation is the share of the driver's last period in which any kernel ran. The period is between a sixth of a
second and a second long, by the product. So 100 % says that the GPU was never without work, not that all of it worked;
and a gap that is shorter than a period makes a figure lower, not 0. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfpipe.errors import SetupError

# Shorter than the driver's periods.
_INTERVAL_SECONDS = 0.05


class Gpu(NamedTuple):
    """A GPU: its name, and a function that returns its utilisation in per cent."""

    name: str
    read: Callable[[], float]


class Sample(NamedTuple):
    """The utilisation in per cent at a time, in seconds of a clock that only goes on."""

    seconds: float
    percent: float


@dataclass(frozen=True)
class GpuUse:
    """The utilisation of a GPU over some time.

    Attributes:
      below_10, below_50, below_90: the shares of the time in which it was below that many per cent, in [0, 1].
      mean: over the time, in [0, 1].
      seconds: that were sampled.
    """

    below_10: float
    below_50: float
    below_90: float
    mean: float
    seconds: float


def open_gpu(*, visible: str | None = None) -> Gpu:
    """The GPU that TensorFlow calls /GPU:0.

    Args:
      visible: the value of CUDA_VISIBLE_DEVICES; None: of this process.

    Raises:
      SetupError: nvidia-ml-py is missing, or NVML has no such GPU or no figure of it.
    """
    try:
        import pynvml
    except ImportError as error:
        raise SetupError("GPU utilisation is read by nvidia-ml-py: pip install 'tfpipe[gpu]'.") from error
    try:
        pynvml.nvmlInit()
        handle = _handle(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", "") if visible is None else visible)
        pynvml.nvmlDeviceGetUtilizationRates(handle)
        name = pynvml.nvmlDeviceGetName(handle)
    except pynvml.NVMLError as error:
        raise SetupError(f"GPU utilisation is not known; NVML says: {error}.") from error
    return Gpu(
        name.decode() if isinstance(name, bytes) else str(name),
        lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
    )


def _handle(pynvml: Any, visible: str) -> Any:
    first = visible.partition(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(first)
    # Numbers are NVML's where all GPUs are of one kind, or CUDA_DEVICE_ORDER is PCI_BUS_ID.
    return pynvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdecimal() else 0)


@contextlib.contextmanager
def sampling(read: Callable[[], float], *, interval_seconds: float = _INTERVAL_SECONDS) -> Iterator[list[Sample]]:
    """Samples a utilisation in a thread while a `with` block runs.

    Args:
      read: returns it, in per cent.
      interval_seconds: between two samples.

    Yields:
      A list, which is complete after the block: its last sample is of the block's end.
    """
    samples: list[Sample] = []
    ended = threading.Event()

    def sample() -> None:
        samples.append(Sample(time.perf_counter(), read()))

    def sample_on() -> None:
        while not ended.wait(interval_seconds):
            sample()

    sample()
    thread = threading.Thread(target=sample_on, daemon=True, name="tfpipe_gpu_samples")
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        sample()


def gpu_use(runs: Sequence[Sequence[Sample]]) -> GpuUse | None:
    """The utilisation over some runs; None where no time was sampled.

    Args:
      runs: the samples of each, in order of time. One holds until the next; the last one ends its run.
    """
    spans = [
        (after.seconds - before.seconds, before.percent) for run in runs for before, after in itertools.pairwise(run)
    ]
    total = sum(seconds for seconds, _ in spans)
    if total <= 0:
        return None

    def below(limit: float) -> float:
        return sum(seconds for seconds, percent in spans if percent < limit) / total

    mean = sum(seconds * percent for seconds, percent in spans) / total / 100
    return GpuUse(below(10), below(50), below(90), mean, total)
