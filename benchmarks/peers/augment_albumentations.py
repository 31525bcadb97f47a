"""albumentations: image by image, two worker processes, OpenCV's own threads off.

It has no such policies: SomeOf and OneOf over its own operations at the same strengths make them. Where a policy takes
one of two values (a sign), its operations draw from the range between them, which costs the same.
"""

import random

import albumentations as A  # noqa: N812 (its users' name)
import augment_policies
import cv2
import numpy as np
from augment_turns import from_workers, serve


def affine(**motion):
    return A.Affine(**motion, interpolation=cv2.INTER_NEAREST)


def degrees(slope: float) -> float:
    return float(np.degrees(np.arctan(slope)))


OPERATIONS = {
    "identity": lambda low, high: A.NoOp(),
    "shear_x": lambda low, high: affine(shear={"x": (degrees(low), degrees(high)), "y": (0, 0)}),
    "shear_y": lambda low, high: affine(shear={"x": (0, 0), "y": (degrees(low), degrees(high))}),
    "translate_x": lambda low, high: affine(translate_percent={"x": (low, high), "y": (0, 0)}),
    "translate_y": lambda low, high: affine(translate_percent={"x": (0, 0), "y": (low, high)}),
    "rotate": lambda low, high: affine(rotate=(low, high)),
    "brightness": lambda low, high: A.RandomBrightnessContrast((low - 1, high - 1), (0, 0)),
    "contrast": lambda low, high: A.RandomBrightnessContrast((0, 0), (low - 1, high - 1)),
    "color": lambda low, high: A.ColorJitter((1, 1), (1, 1), saturation=(low, high), hue=(0, 0)),
    "sharpness": lambda low, high: A.Sharpen(alpha=(0, max(high - 1, 0.1)), lightness=(1, 1), method="kernel"),
    "posterize": lambda low, high: A.Posterize(num_bits=(max(int(low), 1), max(int(high), 1))),
    "solarize": lambda low, high: A.Solarize(threshold_range=(low / 256, high / 256)),
    "solarize_add": lambda low, high: A.RandomBrightnessContrast((low / 255, high / 255), (0, 0)),
    "auto_contrast": lambda low, high: A.AutoContrast(),
    "equalize": lambda low, high: A.Equalize(),
    "invert": lambda low, high: A.InvertImg(),
}


def operation(entry: augment_policies.Operation, probability: float = 1.0):
    name, values = entry
    made = OPERATIONS[name](min(values), max(values))
    made.p = probability
    return made


def policy(task: str):
    """One transform of an image."""
    if task == "rand_augment":
        return A.SomeOf([operation(entry) for entry in augment_policies.rand_augment()], n=2, replace=True, p=1)
    if task == "trivial_augment":
        return A.OneOf([operation(entry) for entry in augment_policies.trivial_augment()], p=1)
    pairs = augment_policies.auto_augment()
    return A.OneOf([A.Sequential([operation(*step) for step in pair], p=1) for pair in pairs], p=1)


def stream(images, batch_size, task):
    transform = A.Compose([policy(task)])

    def write(batch, out):
        for number, image in enumerate(batch):
            out[number] = transform(image=image)["image"]

    def seed(worker):
        cv2.setNumThreads(0)
        random.seed(worker)
        transform.set_random_seed(worker)

    return from_workers(write, images, batch_size, seed=seed)


if __name__ == "__main__":
    serve(stream, op_per="image")
