"""Tables of magnitudes: what a bin means for each op, as each source published it.

A table has a suite of ops for each way of drawing: "auto" (AutoAugment's policies and PBA's schedules), "rand"
(RandAugment) and "trivial" (TrivialAugment). Bin k of n gives neutral ± round(low + (high - low) · k / (n - 1)).

  dali          NVIDIA DALI's auto_aug: 11 bins for AutoAugment, 31 otherwise.
  dali_non_monotonic  DALI's RandAugment with monotonic_mag=False: enhancement factors run from 0.1 to 1.9.
  torchvision   torchvision.transforms.v2: 10 bins for AutoAugment, 31 otherwise; shifts by whole pixels, cut down.
  paper         what AutoAugment's paper prints (arXiv:1805.09501) and RandAugment's took over: 4 to 8 bits and a
                threshold of 0 to 256, both growing with the bin; cutout of up to 60 of 331 px.
  paper_code    those ranges with the strengths and the rounding of the authors' code for CIFAR: 4 - int(0.4 L) bits, a
                threshold of 256 - int(25.6 L), cutout of up to 20 of 32 px.
  pba           the levels 0 to 10 of PBA and of AutoAugment's code for CIFAR: whole pixels of 32.
  timm          timm's RandAugment, of 15 ops; its levels count tenths. timm_increasing is that of its "inc1":
                posterize, solarize and the enhancements grow stronger with the level.
  tfpipe        each op's own range, 0 weakest and 1 strongest (see ops/table.py); any op may be in it.
  uniform       for searches: each image draws its strength between none and the bin's; the ranges are as wide as sense
                allows, such as a full turn; an op without a strength happens with the bin as its probability.

For TrivialAugment, paper and paper_code both are the wide space of its authors' code, with bits and shifts cut down:
8 - int(6 L / 30), int(32 L / 30).

They contradict each other on purpose. A high bin solarizes weakly in DALI's AutoAugment and in the paper, and strongly
in all others: at bin 10 image_net's solarize leaves an image as it is with "dali" and "paper", and inverts it with
"paper_code". Posterize counts bits kept, so DALI's AutoAugment and the paper are strongest at bin 0. An enhancement is
neutral in the middle of 0.1 to 1.9 and at bin 0 of 1 ± 0.9. Translations are fractions of the image's side, so that a
table fits every size: 100 of 224 px is DALI's 100 px at 224, 150 of 331 the paper's; only TrivialAugment means 32 px at
any size.

What tfpipe drew before it had versions is version 1 (see `op_ranges`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tfpipe.augment.ops.op import Op
from tfpipe.policy import VERSION, table_of_version

ROUNDINGS = ("", "nearest", "down", "torch")


@dataclass(frozen=True)
class MagnitudeRange:
    """The values of an op from the first bin to the last.

    Attributes:
      low: at bin 0.
      high: at the last bin.
      mirrored: whether the sign is drawn at random.
      neutral: what the signed step is added to.
      rounding: of the step: "", "nearest", "down" (towards zero, as Python's int), or "torch": "down" of the float32
        that torch.linspace makes, which in the middle is a bit less than the half: of 32 pixels it leaves 15.
      unit: "" for absolute values; else "height", "width" or "side": low and high are for a size of
        `reference_size`.
      reference_size: the size, in pixels, for which low and high are given.
      at_least: values below it are raised to it.
      uniform: each image draws its value between that of the first bin and that of its own.
    """

    low: float = 0.0
    high: float = 0.0
    mirrored: bool = False
    neutral: float = 0.0
    rounding: str = ""
    unit: str = ""
    reference_size: int = 1
    at_least: float = -np.inf
    uniform: bool = False

    def values(self, positions: np.ndarray, size: int) -> np.ndarray:
        """The values for both signs at positions in [0, 1].

        Args:
          positions: float64 [N].
          size: the pixels of what `unit` names.

        Returns:
          float32 [N, 2]: for the sign +, and for the sign - where the op is mirrored.
        """
        # Rounded at the ninth decimal: in binary 30 * 0.7 is below 21, and int() would lose a whole unit.
        steps = np.round(
            (self.low + (self.high - self.low) * positions) * (size if self.unit else 1) / self.reference_size, 9
        )
        lowered = np.where(positions == 0.5, steps - 1e-6, steps)
        kinds = {"": steps, "nearest": np.round(steps), "down": np.trunc(steps), "torch": np.trunc(lowered)}
        steps = kinds[self.rounding]
        signed = np.stack([steps, -steps if self.mirrored else steps], axis=-1)
        return np.maximum(self.neutral + signed, self.at_least).astype(np.float32)


NONE = MagnitudeRange()


def mirrored(high: float, *, neutral: float = 0.0, low: float = 0.0) -> MagnitudeRange:
    """Neutral ± (low to high)."""
    return MagnitudeRange(low, high, mirrored=True, neutral=neutral)


def translation(op: str, high: float, *, reference_size: int = 1, rounding: str = "") -> MagnitudeRange:
    """± (0 to high) of the side along which the op shifts, of which `reference_size` is the whole."""
    side = "width" if op == "translate_x" else "height"
    return MagnitudeRange(0, high, mirrored=True, unit=side, reference_size=reference_size, rounding=rounding)


def _geometric(
    shear: float, rotate: MagnitudeRange, translate: tuple[MagnitudeRange, MagnitudeRange]
) -> dict[str, MagnitudeRange]:
    return {
        "translate_x": translate[0],
        "translate_y": translate[1],
        "shear_x": mirrored(shear),
        "shear_y": mirrored(shear),
        "rotate": rotate,
    }


def _both(high: float, *, reference_size: int = 1, rounding: str = "") -> tuple[MagnitudeRange, MagnitudeRange]:
    return (
        translation("translate_x", high, reference_size=reference_size, rounding=rounding),
        translation("translate_y", high, reference_size=reference_size, rounding=rounding),
    )


def _enhancements(factor: MagnitudeRange) -> dict[str, MagnitudeRange]:
    return dict.fromkeys(("brightness", "contrast", "color", "sharpness"), factor)


ENHANCE = MagnitudeRange(0.1, 1.9)
_PIXELS_32 = (mirrored(32), mirrored(32))
_WHOLE_32 = (MagnitudeRange(0, 32, mirrored=True, rounding="down"),) * 2
_TORCH_32 = (MagnitudeRange(0, 32, mirrored=True, rounding="torch"),) * 2
_PLAIN = {"equalize": NONE, "auto_contrast": NONE}
_FILLED = {**_PLAIN, "identity": NONE}

# The formulas of AutoAugment's and PBA's code for a level L of 10: int(3 L) degrees, 4 - int(0.4 L) bits, a threshold
# of 256 - int(25.6 L), 0.1 + 0.18 L, int(11 L) added.
_DOWN = {
    "posterize": MagnitudeRange(0, -4, neutral=4, rounding="down"),
    "solarize": MagnitudeRange(0, -256, neutral=256, rounding="down"),
}
_ROTATE_DOWN = MagnitudeRange(0, 30, mirrored=True, rounding="down")
_CODE = {**_enhancements(ENHANCE), **_DOWN, **_PLAIN, "invert": NONE}
_CUTOUT = MagnitudeRange(0, 20, rounding="down", unit="side", reference_size=32)
_ADD = MagnitudeRange(0, 110, rounding="down")

# As the paper prints them.
_PRINTED = {
    "posterize": MagnitudeRange(4, 8, rounding="nearest"),
    "solarize": MagnitudeRange(0, 256),
}
# int(150 / 331 of the side at level L).
_TRANSLATE_DOWN = _both(150, reference_size=331, rounding="down")

# Few bits, few levels: what has a strength stays visible. DALI clamps to at least one bit.
_BITS_AUTO = MagnitudeRange(0, 4, rounding="nearest", at_least=1)
_BITS = MagnitudeRange(8, 4, rounding="nearest", at_least=1)
_BITS_WIDE = MagnitudeRange(8, 2, rounding="nearest", at_least=1)

# timm 1.0's shifts are 45 % of the side.
_TIMM = {**_geometric(0.3, mirrored(30), _both(0.45)), **_PLAIN, "invert": NONE, "solarize_add": _ADD}
# TrivialAugment's wide space, by its authors' code (aug_lib.py).
_WIDE = {
    **_geometric(0.99, MagnitudeRange(0, 135, mirrored=True, rounding="down"), _WHOLE_32),
    **_enhancements(MagnitudeRange(0.01, 2.0)),
    "posterize": MagnitudeRange(0, -6, neutral=8, rounding="down"),
    "solarize": MagnitudeRange(256, 0),
    **_FILLED,
}

SUITES: dict[str, dict[str, dict[str, MagnitudeRange]]] = {
    "dali": {
        "auto": {
            **_geometric(0.3, mirrored(30), _both(1.0)),
            **_enhancements(ENHANCE),
            **_FILLED,
            "posterize": _BITS_AUTO,
            "solarize": MagnitudeRange(0, 256),
            "solarize_add": MagnitudeRange(0, 110),
            "invert": NONE,
        },
        "rand": {
            **_geometric(0.3, mirrored(30), _both(100, reference_size=224)),
            **_enhancements(mirrored(0.9, neutral=1)),
            "posterize": _BITS,
            "solarize": MagnitudeRange(256, 0),
            **_FILLED,
        },
        "trivial": {
            **_geometric(0.99, mirrored(135), _PIXELS_32),
            **_enhancements(mirrored(0.99, neutral=1, low=0.01)),
            "posterize": _BITS_WIDE,
            "solarize": MagnitudeRange(256, 0),
            **_FILLED,
        },
    },
    "dali_non_monotonic": {
        "rand": {
            **_geometric(0.3, mirrored(30), _both(100, reference_size=224)),
            **_enhancements(ENHANCE),
            "posterize": _BITS_AUTO,
            "solarize": MagnitudeRange(0, 256),
            **_FILLED,
        },
    },
    "torchvision": {
        "auto": {
            **_geometric(0.3, mirrored(30), _TRANSLATE_DOWN),
            **_enhancements(mirrored(0.9, neutral=1)),
            "posterize": _BITS,
            "solarize": MagnitudeRange(255, 0),
            **_FILLED,
            "invert": NONE,
        },
        "rand": {
            **_geometric(0.3, mirrored(30), _TRANSLATE_DOWN),
            **_enhancements(mirrored(0.9, neutral=1)),
            "posterize": _BITS,
            "solarize": MagnitudeRange(255, 0),
            **_FILLED,
        },
        "trivial": {
            **_geometric(0.99, mirrored(135), _TORCH_32),
            **_enhancements(mirrored(0.99, neutral=1)),
            "posterize": _BITS_WIDE,
            "solarize": MagnitudeRange(255, 0),
            **_FILLED,
        },
    },
    "paper": {
        "auto": {
            **_geometric(0.3, _ROTATE_DOWN, _TRANSLATE_DOWN),
            **_CODE,
            **_PRINTED,
            "identity": NONE,
            "solarize_add": _ADD,
            "cutout": MagnitudeRange(0, 60, rounding="down", unit="side", reference_size=331),
        },
        "rand": {
            **_geometric(0.3, _ROTATE_DOWN, _TRANSLATE_DOWN),
            **_enhancements(ENHANCE),
            **_PRINTED,
            **_FILLED,
        },
        "trivial": _WIDE,
    },
    "paper_code": {
        "auto": {
            **_geometric(0.3, _ROTATE_DOWN, _TRANSLATE_DOWN),
            **_CODE,
            "identity": NONE,
            "solarize_add": _ADD,
            "cutout": _CUTOUT,
        },
        "rand": {
            **_geometric(0.3, _ROTATE_DOWN, _TRANSLATE_DOWN),
            **_enhancements(ENHANCE),
            **_DOWN,
            **_FILLED,
        },
        "trivial": _WIDE,
    },
    "timm": {
        "rand": {
            **_TIMM,
            **_enhancements(ENHANCE),
            "posterize": MagnitudeRange(0, 4, rounding="down"),
            "solarize": MagnitudeRange(0, 256, rounding="down"),
        },
    },
    "timm_increasing": {
        "rand": {**_TIMM, **_enhancements(MagnitudeRange(0, 0.9, mirrored=True, neutral=1, at_least=0.1)), **_DOWN},
    },
    "pba": {
        "auto": {
            **_geometric(0.3, _ROTATE_DOWN, _both(10, reference_size=32, rounding="down")),
            **_CODE,
            "identity": NONE,
            "solarize_add": _ADD,
            "cutout": _CUTOUT,
        },
    },
    # What an op lacks here has its own range, drawn uniformly too.
    "uniform": {
        "auto": {
            **_geometric(0.7, mirrored(180), _both(0.45)),
            "zoom": mirrored(0.5, neutral=1),
            "posterize": MagnitudeRange(8, 1, rounding="nearest"),
            "hue": mirrored(180),
            "gaussian_noise": MagnitudeRange(0, 100),
        },
    },
}
# DALI and torchvision count AutoAugment's bins differently.
AUTO_BINS = {"dali": 11, "torchvision": 10, "paper": 11, "paper_code": 11, "pba": 11}
# What version 1 had otherwise: shifts by fractions of a pixel, and TrivialAugment's bits to the nearest.
_SHIFTS = ("translate_x", "translate_y")
_VERSION_1: dict[tuple[str, str], dict[str, MagnitudeRange]] = {
    ("torchvision", "auto"): dict(zip(_SHIFTS, _both(150, reference_size=331), strict=True)),
    ("torchvision", "rand"): dict(zip(_SHIFTS, _both(150, reference_size=331), strict=True)),
    ("torchvision", "trivial"): dict.fromkeys(_SHIFTS, mirrored(32)),
    ("paper_code", "trivial"): {
        **dict.fromkeys(_SHIFTS, mirrored(32)),
        "posterize": MagnitudeRange(8, 2, rounding="nearest"),
    },
}


def op_ranges(table: str, method: str, *, version: int = VERSION) -> dict[str, MagnitudeRange]:
    """The ranges of a table's ops for a way of drawing.

    Args:
      table: a name of this module's tables; "tfpipe" gives an empty suite, since every op knows its own range.
      method: "auto", "rand" or "trivial".
      version: 1 for what a document without a version meant; there "paper" is what "paper_code" is now.
    """
    known = sorted([name for name, suites in SUITES.items() if method in suites] + ["tfpipe"])
    if table not in known:
        raise ValueError(f"Unknown table {table!r}; the tables for this policy are {known}.")
    if table == "tfpipe":
        return {}
    name = table_of_version(table, version)
    return SUITES[name][method] | (_VERSION_1.get((name, method), {}) if version == 1 else {})


def range_of_op(op: Op) -> MagnitudeRange:
    """The range that an op brings along."""
    return MagnitudeRange(op.low, op.high, mirrored=op.mirrored, neutral=op.neutral, unit=op.unit)


def with_translation(
    suite: dict[str, MagnitudeRange], pixels: float | None, fraction: float | None
) -> dict[str, MagnitudeRange]:
    """The suite with another largest shift, in pixels or as a fraction of the side; None for both leaves it.

    Raises:
      ValueError: both are given, one is out of range, or no op of the suite shifts.
    """
    if pixels is None and fraction is None:
        return suite
    if pixels is not None and fraction is not None:
        raise ValueError(
            f"max_translate_abs is {pixels} and max_translate_rel is {fraction}; give pixels or a fraction, not both."
        )
    largest = fraction if pixels is None else pixels
    if largest is None or largest < 0:
        raise ValueError(f"The largest translation is {largest}; it must be at least 0.")
    ops = [op for op in ("translate_x", "translate_y") if op in suite]
    if not ops:
        raise ValueError(f"No op of this suite translates, so it takes no max_translate: {sorted(suite)}.")
    if fraction is not None:
        return {**suite, **{op: translation(op, largest) for op in ops}}
    return {**suite, **{op: replace(suite[op], high=largest, unit="", reference_size=1) for op in ops}}
