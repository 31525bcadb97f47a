"""What does an op cost in the loop form, and two in sequence? CPU us per image, batches of 128 at 224 pixels.

    TF_NUM_INTRAOP_THREADS=1 python benchmarks/bench_ops.py [--repeats 7] [equalize equalize+auto_contrast ...]

Each line is what the steps take beyond two identities, whose cost (the copy of the batch, and the call) is printed
first: medians over the repeats, in another order each round. Without arguments: every op of RandAugment at magnitude 9,
and the pairs of look-ups that become one table. --path puts another checkout before this one, to compare two.
"""

from __future__ import annotations

import argparse
import os
import sys

from rounds import add_json_argument, median, recorded, turns

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NUM_IMAGES, NUM_BATCHES, SIDE = 128, 8, 224  # More batches than a cache holds.
VALUES = {
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
    parser.add_argument("steps", nargs="*", help=f"ops, or two joined by a plus, of {', '.join(VALUES)}")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--path", help="a checkout of tfpipe to measure")
    add_json_argument(parser)
    arguments = parser.parse_args()
    steps = arguments.steps or [*VALUES, *PAIRS]
    if unknown := {name for step in steps for name in step.split("+")} - VALUES.keys():
        parser.error(f"unknown ops {sorted(unknown)}; known: {', '.join(VALUES)}")
    if arguments.path:
        sys.path.insert(0, arguments.path)
    costs = measured(steps, arguments.repeats)
    with recorded(arguments.json) as results:
        for step, cost in costs.items():
            results.add({"steps": step or "two identities", "cpu_us_per_image": round(cost, 1)})


def measured(steps: list[str], repeats: int) -> dict[str, float]:
    """CPU us per image by steps, net of what "", two identities, takes."""
    import numpy as np
    import tensorflow as tf
    from bench_augment import crops

    from tfpipe.augment import apply_choices
    from tfpipe.augment.ops.op import Choices
    from tfpipe.augment.ops.table import OPS
    from tfpipe.timing import time_pass

    names = ["identity", *VALUES]
    ops = [OPS[name] for name in names]
    photographs = crops(NUM_BATCHES * NUM_IMAGES, SIDE)
    batches = [tf.constant(part) for part in np.split(photographs, NUM_BATCHES)]

    def choices(step: str) -> Choices:
        pair = [*step.split("+"), "identity"][:2] if step else ["identity"] * 2
        values = np.zeros([NUM_IMAGES, 2, 4], np.float32)
        values[..., 0] = [VALUES.get(name, 0.0) for name in pair]
        places = np.tile([names.index(name) for name in pair], [NUM_IMAGES, 1]).astype(np.int32)
        return Choices(tf.constant(places), tf.constant(values), tf.zeros([NUM_IMAGES, 2, 2], tf.int32))

    drawn = {step: choices(step) for step in ["", *steps]}
    program = tf.function(lambda batch, *parts: apply_choices(batch, Choices(*parts), ops, form="loop"))
    taken: dict[str, list[float]] = {step: [] for step in drawn}
    for _, step in turns(drawn, repeats):
        program(batches[0], *drawn[step])
        one = time_pass(drawn[step], lambda parts: sum(len(program(batch, *parts)) for batch in batches))
        taken[step].append(one.cpu_seconds / one.images * 1e6)
    medians = {step: median(times).value for step, times in taken.items()}
    return {step: median - medians[""] * (step != "") for step, median in medians.items()}


if __name__ == "__main__":
    main()
