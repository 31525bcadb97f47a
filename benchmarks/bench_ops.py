"""What does an op cost in the loop form, and two in sequence? CPU us per image, batches of 128 at 224 pixels.

    TF_NUM_INTRAOP_THREADS=1 python benchmarks/bench_ops.py [--repeats 7] [equalize equalize+auto_contrast ...]

Each line is what the steps take beyond two identities, whose cost (the copy of the batch, and the call) is printed
first: medians over the repeats, in another order each round. Without arguments: every op of RandAugment at magnitude 9,
and the pairs of look-ups that become one table; `later` names the ops that came after those. --path puts another
checkout before this one, to compare two. --peer adds albumentations, image by image, in the same turns: beside those
ops, for which it has one, and its own net of a transform that does nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rounds import add_json_argument, median, recorded, turns

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NUM_IMAGES, NUM_BATCHES, SIDE = 128, 8, 224  # More batches than a cache holds.
RAND = {
    "shear_x": 0.09,
    "shear_y": 0.09,
    "translate_x": 30.0,
    "translate_y": 30.0,
    "rotate": 9.0,
    "brightness": 1.27,
    "contrast": 1.27,
    "color": 1.27,
    "sharpness": 1.27,
    "posterize": 7.0,
    "solarize": 179.0,
    "auto_contrast": 0.0,
    "equalize": 0.0,
}
LATER = {
    "perspective": (0.3,),
    "elastic": (40.0, 5.0),
    "grid_distortion": (0.3,),
    "rotate90": (1.0,),
    "transpose": (0.0,),
    "motion_blur": (9.0, 30.0),
    "median_blur": (1.0,),
    "median_blur 5x5": (2.0,),
    "clahe": (2.0,),
    "jpeg": (50.0,),
    "channel_shuffle": (3.0,),
    "channel_dropout": (1.0, 0.5),
    "gray_world": (1.0,),
    "grid_mask": (0.5, 0.25, 0.3, 0.3),
    "random_erasing": (0.2, 0.5, 0.3, 0.3),
}
VALUES = {**{name: (value,) for name, value in RAND.items()}, **LATER}
PAIRS = (
    "equalize+equalize",
    "equalize+auto_contrast",
    "auto_contrast+equalize",
    "posterize+equalize",
    "equalize+posterize",
    "brightness+equalize",
    "equalize+brightness",
)


def main() -> None:
    """Prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=f"ops, two joined by a plus, or `later`, of: {', '.join(VALUES)}")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, default=NUM_BATCHES, help="of 128 images; fewer for slow ops")
    parser.add_argument("--path", help="a checkout of tfpipe to measure")
    parser.add_argument("--peer", action="store_true", help="albumentations beside it, where it has the op")
    add_json_argument(parser)
    arguments = parser.parse_args()
    steps = [*arguments.steps] or [*RAND, *PAIRS]
    if "later" in steps:
        steps[steps.index("later") : steps.index("later") + 1] = LATER
    if unknown := {name for step in steps for name in step.split("+")} - VALUES.keys():
        parser.error(f"unknown ops {sorted(unknown)}; known: {', '.join(VALUES)}")
    if arguments.path:
        sys.path.insert(0, arguments.path)
    costs = measured(steps, arguments.repeats, arguments.batches, arguments.peer)
    with recorded(arguments.json) as results:
        for (package, step), cost in costs.items():
            results.add({"package": package, "steps": step or "nothing", "cpu_us_per_image": round(cost, 1)})


def measured(steps: list[str], repeats: int, num_batches: int, peer: bool) -> dict[tuple[str, str], float]:
    """CPU us per image by package and steps, net of what "" takes: two identities, or a transform that does nothing."""
    from bench_augment import crops

    from tfpipe.timing import time_pass

    photographs = crops(num_batches * NUM_IMAGES, SIDE)
    batches = [photographs[start : start + NUM_IMAGES] for start in range(0, len(photographs), NUM_IMAGES)]
    rows = {("tfpipe", step): run for step, run in programs(steps, batches).items()}
    if peer:
        sys.path.insert(0, str(Path(__file__).parent / "peers"))
        import ops_albumentations

        for step in ["", *steps]:
            if step in ops_albumentations.OPS:
                rows["albumentations", step] = partial(_sum_over, ops_albumentations.program(step), batches)
    taken: dict[tuple[str, str], list[float]] = {row: [] for row in rows}
    for run in rows.values():
        run()
    for _, row in turns(rows, repeats):
        one = time_pass(rows[row], lambda run: run())
        taken[row].append(one.cpu_seconds / one.images * 1e6)
    medians = {row: median(times).value for row, times in taken.items()}
    return {row: cost - medians[row[0], ""] * (row[1] != "") for row, cost in medians.items()}


def _sum_over(run: Callable[[np.ndarray], int], batches: list[np.ndarray]) -> int:
    return sum(map(run, batches))


def programs(steps: list[str], batches: list[np.ndarray]) -> dict[str, Callable[[], int]]:
    """By steps, what carries them out on all batches and returns the number of images; "" are two identities."""
    import tensorflow as tf

    from tfpipe.augment import apply_choices
    from tfpipe.augment.ops.op import Choices
    from tfpipe.augment.ops.table import OPS

    known = [*RAND, *(name for name in LATER if any(name in step.split("+") for step in steps))]
    names = ["identity", *dict.fromkeys(name.split()[0] for name in known)]
    ops, tensors = [OPS[name] for name in names], [tf.constant(batch) for batch in batches]

    def choices(step: str) -> Choices:
        pair = [*step.split("+"), "identity"][:2] if step else ["identity"] * 2
        values = np.zeros([NUM_IMAGES, 2, 4], np.float32)
        for stage, name in enumerate(pair):
            given = VALUES.get(name, ())
            values[:, stage, : len(given)] = given
        places = np.tile([names.index(name.split()[0]) for name in pair], [NUM_IMAGES, 1]).astype(np.int32)
        seeds = np.arange(NUM_IMAGES * 4, dtype=np.int32).reshape(NUM_IMAGES, 2, 2)
        return Choices(tf.constant(places), tf.constant(values), tf.constant(seeds))

    program = tf.function(lambda batch, *parts: apply_choices(batch, Choices(*parts), ops, form="loop"))

    def runs(step: str) -> Callable[[], int]:
        drawn = choices(step)
        return lambda: sum(len(program(batch, *drawn)) for batch in tensors)

    return {step: runs(step) for step in ["", *steps]}


if __name__ == "__main__":
    main()
