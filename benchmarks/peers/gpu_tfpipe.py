"""tfpipe's dense form on one device, as one program of the step (jit) or called as it is (plain)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpu_steps import peer_main

MAKERS = {
    "rand_augment": lambda augment: augment.rand_augment(2, 9, form="dense"),
    "auto_augment": lambda augment: augment.auto_augment("image_net", form="dense"),
    "trivial_augment": lambda augment: augment.trivial_augment_wide(form="dense"),
}


def step_of(policy: str, images: np.ndarray, device: str, flag: str) -> tuple[Any, Any, dict]:
    """A call of the policy on the batch, with the next seed."""
    import tensorflow as tf

    from tfpipe import augment

    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise SystemExit("TensorFlow sees no GPU")
    transform = MAKERS[policy](augment)
    program = tf.function(lambda x, s: transform({"image": x}, s)["image"], jit_compile=flag == "jit", autograph=False)
    with tf.device(f"/{device}:0"):
        batch, seeds = tf.identity(tf.constant(images)), [tf.identity(tf.constant([3, n])) for n in range(16)]
    count = iter(range(10**9))

    def step() -> Any:
        with tf.device(f"/{device}:0"):
            return program(batch, seeds[next(count) % 16])

    # One element is copied to the host, when all before it is done.
    return step, lambda made: made[0, 0, 0, 0].numpy(), {"draws": "image", "tensorflow": tf.__version__}


if __name__ == "__main__":
    peer_main(step_of)
