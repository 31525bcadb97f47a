"""imgaug: image by image, two worker processes. It has RandAugment only."""

import cv2
import imgaug
from augment_turns import from_workers, serve
from imgaug import augmenters


def stream(images, batch_size, task):
    transform = {"rand_augment": lambda: augmenters.RandAugment(n=2, m=9)}[task]()

    def write(batch, out):
        out[:] = transform(images=batch)

    def seed(worker):
        cv2.setNumThreads(0)
        imgaug.random.seed(worker)
        transform.seed_(worker)

    return from_workers(write, images, batch_size, seed=seed)


if __name__ == "__main__":
    serve(stream, op_per="image")
