"""The rows of `tfpipe bench --fit`, a training from every place of its augmentation, and what they say.

The time of an image in `augment_host` is that of the model, which `synthetic_ceiling` shows, what reading adds beyond
it, which `no_augmentation` shows, and what augmentation adds beyond both. The larger addition is the bottleneck; where
there is none beyond noise, it is the model. `augment_device`, `augment_layer` and `cached` each change one option of
`augment_host`: the one to change is that of the fastest. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfpipe.timing.gpu import GpuUse, Sample, gpu_use
from tfpipe.timing.passes import Row

CEILING, PLAIN, HOST, DEVICE, LAYER, CACHED = (
    *("synthetic_ceiling", "no_augmentation", "augment_host"),
    *("augment_device", "augment_layer", "cached"),
)
# What each of them changes in augment_host.
OPTIONS = {
    DEVICE: "options=ReadOptions(device='/GPU:0'): make_dataset augments on the GPU",
    LAYER: "tfpipe.layers.Augment in the model, in place of make_dataset's transforms",
    CACHED: "options=ReadOptions(cache='memory'): records are decoded once",
}
MODEL, READING, AUGMENTATION = "the model", "reading", "augmentation"
# What to do where none of the options gains.
_REMEDIES = {
    READING: "tfpipe tune finds the slowest stage of reading, and the options for it",
    AUGMENTATION: "take a policy of fewer ops, or more cores",
}


class PassNote(NamedTuple):
    """What is noted of one pass beside its times.

    Attributes:
      steps: of the training.
      waited_seconds: that it waited for input; None where no clock could be set.
      samples: of the GPU's utilisation.
    """

    steps: int
    waited_seconds: float | None
    samples: Sequence[Sample] = ()


@dataclass(frozen=True)
class FitRow:
    """The measurements of one way to feed a training.

    Attributes:
      row: its rates; speedup is relative to augment_host.
      share_of_ceiling: its images per second as a share of synthetic_ceiling's.
      step_seconds: wall time of a step, median over the passes after the first.
      input_wait_seconds: what a step waits for its batch, median.
      input_wait_from: "clock": where a step takes its batch, by callbacks.InputWait; "ceiling": what a step
        takes longer than synthetic_ceiling's, where no clock was set.
      gpu: how busy the GPU was; None where that is not known.
    """

    row: Row
    share_of_ceiling: float
    step_seconds: float
    input_wait_seconds: float
    input_wait_from: str
    gpu: GpuUse | None

    @property
    def variant(self) -> str:
        """The row's name."""
        return self.row.variant

    @property
    def step_milliseconds(self) -> float:
        """step_seconds in milliseconds."""
        return 1000 * self.step_seconds

    @property
    def wait_text(self) -> str:
        """input_wait_seconds in milliseconds, marked ~ where no clock measured it."""
        return f"{'' if self.input_wait_from == 'clock' else '~'}{1000 * self.input_wait_seconds:,.1f}"

    def as_document(self) -> dict[str, Any]:
        """All of it as plain JSON values, in one dict."""
        own = {name: value for name, value in vars(self).items() if name not in ("row", "gpu")}
        gpu = None if self.gpu is None else dataclasses.asdict(self.gpu)
        return {**dataclasses.asdict(self.row), **own, "gpu": gpu}


@dataclass(frozen=True)
class Diagnosis:
    """What limits a training, and the one option to change.

    Attributes:
      bottleneck: "the model", "reading" or "augmentation".
      variant: the row whose option to take; None where none gains beyond noise.
      option: what to change; None likewise.
      gain: the rate of that row as a multiple of augment_host's; 1.0 where there is none.
      advice: a sentence of it.
    """

    bottleneck: str
    variant: str | None
    option: str | None
    gain: float
    advice: str


def fit_rows(rows: Sequence[Row], notes: Mapping[str, Sequence[PassNote]]) -> list[FitRow]:
    """The rows with what was noted of their passes.

    Args:
      rows: synthetic_ceiling first.
      notes: of each row's passes after the first.
    """
    named = {row.variant: row for row in rows}
    base = named.get(HOST, named[PLAIN]).images_per_second
    made = []
    ceiling = rows[0].wall_seconds / notes[rows[0].variant][0].steps
    for row in rows:
        own = notes[row.variant]
        step = row.wall_seconds / own[0].steps
        waits = [note.waited_seconds / note.steps for note in own if note.waited_seconds is not None]
        made.append(
            FitRow(
                row=dataclasses.replace(row, speedup=row.images_per_second / base),
                share_of_ceiling=row.images_per_second / rows[0].images_per_second,
                step_seconds=step,
                input_wait_seconds=statistics.median(waits) if waits else max(0.0, step - ceiling),
                input_wait_from="clock" if waits else "ceiling",
                gpu=gpu_use([note.samples for note in own]),
            )
        )
    return made


def diagnose(rows: Sequence[FitRow], *, on_gpu: bool) -> Diagnosis:
    """What limits augment_host, or no_augmentation where there is nothing to augment.

    Args:
      rows: of fit_rows.
      on_gpu: whether there is a GPU: without one augment_device is augment_host once more.
    """
    found = {row.variant: row for row in rows}
    base = found.get(HOST, found[PLAIN])
    if base.row.is_as_fast_as(found[CEILING].row):
        says = f"{base.variant} is within noise of the ceiling: no option of the input gains anything"
        return Diagnosis(MODEL, None, None, 1.0, f"{says}; a faster model, or a faster device, would.")
    bottleneck = _larger_addition(found)
    tried = [found[name] for name in OPTIONS if name in found and (on_gpu or name != DEVICE)]
    best = max(tried, key=lambda row: row.row.images_per_second, default=base)
    if base.row.is_as_fast_as(best.row):
        return Diagnosis(bottleneck, None, None, 1.0, f"No row gains more than noise; {_REMEDIES[bottleneck]}.")
    gain = best.row.images_per_second / base.row.images_per_second
    says = f"{gain:.2f} times the images per second of {base.variant}, {best.share_of_ceiling:.0%} of the ceiling"
    return Diagnosis(
        bottleneck, best.variant, OPTIONS[best.variant], gain, f"Change {OPTIONS[best.variant]}. It has {says}."
    )


def _larger_addition(rows: Mapping[str, FitRow]) -> str:
    """Reading or augmentation: which of them adds more to the time of an image."""
    if HOST not in rows:
        return READING
    model, reading, host = (1 / rows[name].row.images_per_second for name in (CEILING, PLAIN, HOST))
    return READING if reading - model >= host - max(reading, model) else AUGMENTATION
