"""What PyTorch's packages augment on one device: torchvision v2's tensors and kornia; and what a copy takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpu_steps import peer_main


def step_of(policy: str, images: np.ndarray, device: str, flag: str) -> tuple[Any, Any, dict]:
    """A call of the package's transform on the batch [B, C, H, W]."""
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU")
    place = "cuda" if device == "gpu" else "cpu"
    batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(place)
    facts = {"draws": "image" if flag == "torchvision_each" else "batch", "torch": torch.__version__}
    if place == "cuda":
        facts["card"] = torch.cuda.get_device_name()

    def wait(made: Any) -> None:
        if place == "cuda":
            torch.cuda.synchronize()

    if flag == "copy":
        target = torch.empty_like(batch)
        return lambda: target.copy_(batch), wait, {**facts, "draws": "-"}
    if flag == "kornia":
        transform, batch = kornia_transform(policy), batch.float() / 255
    else:
        transform = torchvision_transform(policy)
    if flag == "torchvision_each":
        return lambda: [transform(one) for one in batch], wait, facts
    return lambda: transform(batch), wait, facts


def torchvision_transform(policy: str) -> Any:
    """Of torchvision.transforms.v2."""
    from torchvision.transforms import v2

    makers = {
        "rand_augment": lambda: v2.RandAugment(2, 9),
        "auto_augment": v2.AutoAugment,
        "trivial_augment": v2.TrivialAugmentWide,
    }
    return makers[policy]()


def kornia_transform(policy: str) -> Any:
    """Of kornia.augmentation.auto."""
    from kornia.augmentation import auto

    makers = {
        "rand_augment": lambda: auto.RandAugment(n=2, m=9),
        "auto_augment": lambda: auto.AutoAugment("imagenet"),
        "trivial_augment": auto.TrivialAugment,
    }
    return makers[policy]()


if __name__ == "__main__":
    peer_main(step_of)
