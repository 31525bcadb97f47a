"""torchvision: image by image, two worker processes with one torch thread each.

python augment_torchvision.py TASK PHOTOS.npy BATCH_SIZE pil|tensor
"""

import sys

import numpy as np
import torch
from augment_turns import from_workers, serve
from PIL import Image
from torchvision.transforms import v2

POLICIES = {
    "rand_augment": lambda: v2.RandAugment(num_ops=2, magnitude=9),
    "trivial_augment": v2.TrivialAugmentWide,
    "auto_augment": v2.AutoAugment,
}


def seed(worker):
    torch.set_num_threads(1)
    torch.manual_seed(worker)


def pil_stream(images, batch_size, task):
    transform = POLICIES[task]()

    def write(batch, out):
        for number, image in enumerate(batch):
            out[number] = transform(Image.fromarray(image))

    return from_workers(write, images, batch_size, seed=seed)


def tensor_stream(images, batch_size, task):
    """Its tensors are channels first: the copy that makes them so is not counted."""
    transform = POLICIES[task]()
    planes = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def write(batch, out):
        target = torch.from_numpy(out)
        for number, image in enumerate(batch):
            target[number] = transform(image)

    return from_workers(write, planes, batch_size, seed=seed, like=planes.numpy())


if __name__ == "__main__":
    serve({"pil": pil_stream, "tensor": tensor_stream}[sys.argv[4]], op_per="image")
