"""keras.layers.RandAugment on TensorFlow, on one device: it runs every op and keeps one."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpu_steps import peer_main


def step_of(policy: str, images: np.ndarray, device: str, flag: str) -> tuple[Any, Any, dict]:
    """A call of the layer on the batch."""
    import keras
    import tensorflow as tf

    if policy != "rand_augment":
        raise LookupError(policy)
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise SystemExit("TensorFlow sees no GPU")
    with tf.device(f"/{device}:0"):
        layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.3)
        batch = tf.identity(tf.constant(images))
        program = tf.function(lambda x: layer(x, training=True), autograph=False)

    def step() -> Any:
        with tf.device(f"/{device}:0"):
            return program(batch)

    return step, lambda made: made[0, 0, 0, 0].numpy(), {"draws": "batch", "keras": keras.__version__}


if __name__ == "__main__":
    peer_main(step_of)
