"""How fast a pipeline would read on more cores: a model, from what is measured on the cores that are there.

Of the work for an image some is done by as many threads as there are cores (decoding, above all), and some by threads
whose number does not grow: they read, and hand records and batches on, one at a time. Three numbers, us an image:

    C  CPU time of the whole pipeline                  measured
    D  CPU time of decoding                            measured: C less the CPU time with decoding free
    S  what stays one at a time                        the wall time with decoding free, less what the busiest thread
                                                       waited for a core, if that pipeline left a core idle;
                                                       else the CPU time of the busiest thread

    images per second at n cores = min(n / C, calls / D, 1 / S)            one call at a time: min(n / C, 1 / (S + D))

The first term is what the cores allow, the second what parallel_calls allows where it is a number, the third what no
core makes faster. Handing on takes locks and thread switches, which the wall time has and no thread's CPU time shows:
where threads waited for cores, because there are few or others use them, S is an estimate, and the projection the most
that can be expected. No projection knows of memory bandwidth, nor of locks that more cores contend for.

Nothing here knows TensorFlow; tfpipe.timing.serial measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tfpipe.timing.read_pass import ReadPass

CORES = (8, 16, 32, 64)
# A pipeline whose threads want this part of the cores is limited by them.
_ALL_WANTED = 0.85
# One whose threads want this multiple of the CPU time that they get is starved by other processes.
_STARVED = 2
# The thread that reads at least this part of the bytes is one that reads.
_READS = 1 / 8


class Projection(NamedTuple):
    """A projected rate, and the part that limits it: "cores", "parallel_calls", "handing over" or "reading"."""

    images_per_second: float
    limit: str


@dataclass(frozen=True)
class Scaling:
    """What was measured of a variant that only reads, and what that projects for other numbers of cores.

    Attributes:
      variant: its name.
      cores: those that it was measured on.
      calls: how many calls decode at once; None: as many as there are cores.
      images_per_second: of reading alone, its batches taken and dropped; of the fastest pass, as are all.
      cpu_microseconds: CPU time of the process per image.
      free_images_per_second, free_cpu_microseconds: the same with decoding made free.
      serial_microseconds: what stays one at a time, per image.
      serial_from: "rate": the wall time with decoding free; "thread": the CPU time of the busiest thread, since threads
        waited for cores.
      serial_part: "reading" or "handing over": what the busiest thread does.
    """

    variant: str
    cores: int
    calls: int | None
    images_per_second: float
    cpu_microseconds: float
    free_images_per_second: float
    free_cpu_microseconds: float
    serial_microseconds: float
    serial_from: str
    serial_part: str

    @property
    def decode_microseconds(self) -> float:
        """CPU time of decoding per image; 0 where it is less than the noise."""
        return max(self.cpu_microseconds - self.free_cpu_microseconds, 0.0)

    @property
    def limit(self) -> Projection:
        """The rate that no number of cores exceeds, and why."""
        serial = Projection(1e6 / self.serial_microseconds, self.serial_part)
        if self.calls is None or not self.decode_microseconds:
            return serial
        # One call runs in the thread that reads and hands on; several run beside it.
        busy = self.decode_microseconds + (self.serial_microseconds if self.calls == 1 else 0.0)
        return min(serial, Projection(self.calls / busy * 1e6, "parallel_calls"))

    @property
    def most_cores(self) -> int:
        """The number of cores beyond which more gain nothing."""
        return max(1, math.ceil(self.limit.images_per_second * self.cpu_microseconds / 1e6))

    def project(self, cores: int) -> Projection:
        """The rate at a number of cores, and what limits it there."""
        return min(Projection(cores / self.cpu_microseconds * 1e6, "cores"), self.limit)

    @property
    def model_ratio(self) -> float:
        """The model's rate on the cores that are there, as a multiple of the measured one."""
        return self.project(self.cores).images_per_second / self.images_per_second

    def as_document(self) -> dict[str, Any]:
        """All numbers for JSON: `measured` here, `projected` by number of cores."""
        measured = asdict(self)
        return {
            "variant": measured.pop("variant"),
            "measured": measured,
            "projected": {str(cores): self.project(cores)._asdict() for cores in CORES},
            "most_cores": self.most_cores,
            "model_ratio": self.model_ratio,
        }


def summarize_scaling(
    variant: str,
    *,
    cores: int,
    calls: int | None,
    read: Sequence[ReadPass],
    free: Sequence[ReadPass],
    wide: Sequence[ReadPass] = (),
) -> Scaling:
    """The numbers of a variant, from its passes: the fastest ones, since whatever disturbs a pass makes it slower.

    Args:
      variant: its name.
      cores: those that it was measured on.
      calls: how many calls decode at once; None: as many as there are cores.
      read: passes that decode.
      free: passes with decoding free.
      wide: passes with decoding free and calls for many cores: each thread of a pool then has a small part, and the
        busiest one is of those whose number does not grow. They decide S where no core was left idle.
    """
    usual, fastest = max(read, key=lambda one: one.rate), max(free, key=lambda one: one.rate)
    by_thread = min(wide or free, key=lambda one: one.busiest_microseconds)
    from_thread = lacks_cores(free, cores) and by_thread.threads is not None
    serial = fastest.unhindered_microseconds
    if from_thread:
        # Whichever is less: a thread is never busy for longer than the pass lasts.
        serial = min(by_thread.busiest_microseconds, fastest.wall_microseconds)
    shown = (by_thread if from_thread else fastest).threads
    return Scaling(
        variant=variant,
        cores=cores,
        calls=calls,
        images_per_second=usual.rate,
        cpu_microseconds=usual.cpu_microseconds,
        free_images_per_second=fastest.rate,
        free_cpu_microseconds=fastest.cpu_microseconds,
        serial_microseconds=serial,
        serial_from="thread" if from_thread else "rate",
        serial_part="reading" if shown is not None and shown.busiest_share >= _READS else "handing over",
    )


def lacks_cores(passes: Sequence[ReadPass], cores: int) -> bool:
    """Whether the fastest of some passes had work for all cores, or waited for them longer than it ran.

    Then its rate is that of the cores which it got, and says nothing about more of them.
    """
    fastest = max(passes, key=lambda one: one.rate)
    got = fastest.cpu_seconds / fastest.wall_seconds
    return fastest.cores_wanted >= min(_ALL_WANTED * cores, _STARVED * got)
