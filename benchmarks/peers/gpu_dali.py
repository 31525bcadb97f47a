"""DALI's auto_aug on a GPU, which draws for each image."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpu_steps import peer_main


def step_of(policy: str, images: np.ndarray, device: str, flag: str) -> tuple[Any, Any, dict]:
    """A run of a pipeline whose source is the batch, on the GPU already."""
    from nvidia.dali import __version__, fn, pipeline_def

    if device != "gpu":
        raise SystemExit("this row is DALI's GPU pipeline; bench_augment.py has the one of the CPU")
    import torch
    from nvidia.dali.auto_aug import auto_augment, rand_augment, trivial_augment

    if not torch.cuda.is_available():
        raise SystemExit("PyTorch, which holds the batch, sees no GPU")
    batch, shape = torch.from_numpy(images).cuda(), list(images.shape[1:3])
    makers = {
        "rand_augment": lambda x: rand_augment.rand_augment(x, n=2, m=9, shape=shape, fill_value=128),
        "auto_augment": lambda x: auto_augment.auto_augment_image_net(x, shape=shape, fill_value=128),
        "trivial_augment": lambda x: trivial_augment.trivial_augment_wide(x, shape=shape, fill_value=128),
    }

    @pipeline_def(batch_size=len(images), num_threads=8, device_id=0, enable_conditionals=True, seed=1)
    def pipeline() -> Any:
        x = fn.external_source(source=lambda: batch, device="gpu", layout="HWC", batch=True, no_copy=True)
        return makers[policy](x)

    made = pipeline()
    made.build()
    return made.run, lambda _: torch.cuda.synchronize(), {"draws": "image", "dali": __version__}


if __name__ == "__main__":
    peer_main(step_of)
