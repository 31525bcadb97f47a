"""kornia on float32 tensors, as it wants them: the conversion from uint8 counts, one back to uint8 is spared.

Two worker processes with one torch thread each: faster than one process with two threads. An operation is drawn for the
whole batch, its sign and magnitude for each image.
"""

import numpy as np
import torch
from augment_turns import from_workers, serve
from kornia.augmentation import auto

POLICIES = {
    "rand_augment": lambda: auto.RandAugment(n=2, m=9),
    "trivial_augment": auto.TrivialAugment,
    "auto_augment": lambda: auto.AutoAugment("imagenet"),
}


def seed(worker):
    torch.set_num_threads(1)
    torch.manual_seed(worker)
    np.random.seed(worker)


def stream(images, batch_size, task):
    transform = POLICIES[task]()
    planes = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def write(batch, out):
        with torch.inference_mode():
            torch.from_numpy(out).copy_(transform(batch.to(torch.float32).div_(255)))

    like = np.empty((0, *planes.shape[1:]), np.float32)
    return from_workers(write, planes, batch_size, seed=seed, like=like)


if __name__ == "__main__":
    serve(stream, op_per="batch")
