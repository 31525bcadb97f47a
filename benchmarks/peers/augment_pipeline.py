"""JPEG records through tfpipe.make_dataset, with transforms.

python augment_pipeline.py DATASET BATCH_SIZE SIDE none|rand_augment|mixup|cutmix, joined by +
"""

import sys

from augment_turns import take_turns

import tfpipe
from tfpipe import augment

TRANSFORMS = {
    "rand_augment": lambda: augment.rand_augment(2, 9),
    "mixup": lambda: augment.mixup(0.2),
    "cutmix": lambda: augment.cutmix(1.0),
}


def main() -> None:
    """Takes turns over epochs without end."""
    dataset, batch_size, side, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    transforms = [TRANSFORMS[name]() for name in names.split("+") if name != "none"]
    batches = tfpipe.make_dataset(dataset, batch_size=batch_size, image_size=(side, side), transforms=transforms)
    endless = iter(batches.repeat())
    next(endless)
    take_turns(endless, batch_size, {})


if __name__ == "__main__":
    main()
