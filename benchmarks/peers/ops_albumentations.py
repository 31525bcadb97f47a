"""albumentations' own of single ops, at the strengths of bench_ops.py; OpenCV's own threads off."""

from collections.abc import Callable

import albumentations as A  # noqa: N812 (its users' name)
import cv2
import numpy as np

NEAREST = {"interpolation": cv2.INTER_NEAREST, "p": 1}
# Its clahe equalises the luma alone where tfpipe's does all three channels; it draws the displacement of elastic from
# a normal and not from a uniform distribution. It has no gray world.
OPS = {
    "": A.NoOp(p=1),
    "perspective": A.Perspective((0.15, 0.15), **NEAREST),
    "elastic": A.ElasticTransform(40, 5, **NEAREST),
    "grid_distortion": A.GridDistortion(5, (-0.3, 0.3), **NEAREST),
    "rotate90": A.RandomRotate90(p=1),
    "transpose": A.Transpose(p=1),
    "motion_blur": A.MotionBlur((9, 9), angle_range=(30, 30), p=1),
    "median_blur": A.MedianBlur((3, 3), p=1),
    "median_blur 5x5": A.MedianBlur((5, 5), p=1),
    "clahe": A.CLAHE((2, 2), p=1),
    "jpeg": A.ImageCompression("jpeg", (50, 50), p=1),
    "channel_shuffle": A.ChannelShuffle(p=1),
    "channel_dropout": A.ChannelDropout((1, 1), p=1),
    "grid_mask": A.GridDropout(0.5, unit_size_range=(56, 57), p=1),
    "random_erasing": A.Erasing((0.2, 0.2), (1, 1), fill="random", p=1),
}


def program(name: str) -> Callable[[np.ndarray], int]:
    """Changes a batch uint8 [B, H, W, C] image by image, and returns how many there were."""
    cv2.setNumThreads(0)
    transform = A.Compose([OPS[name]])

    def run(batch: np.ndarray) -> int:
        out = np.empty_like(batch)
        for number, image in enumerate(batch):
            out[number] = transform(image=image)["image"]
        return len(out)

    return run
