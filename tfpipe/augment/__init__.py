"""Augmentation of whole batches, each image individually: draw what happens, then apply it.

    from tfpipe import augment

    transforms = [augment.pad_and_crop(4), augment.flip_left_right(), augment.rand_augment(2, 9), augment.mixup(0.2)]
    train = tfpipe.make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), transforms=transforms)

A transform takes ({"image": ..., "label": ...}, seed int32 [2]) and returns such a dict. The same seed gives the same
pixels inside make_dataset, inside a Keras layer (tfpipe.layers) and under tf.function(jit_compile=True). Images are
uint8 [B, H, W, C], or float32 or float16 in [0, 1]. An op that has no function of its own is op("rotate", (-30, 30)).
"""

from typing import NoReturn

from tfpipe.augment.augmix import aug_mix
from tfpipe.augment.conditional import choose_n, compose, one_of, select, sometimes
from tfpipe.augment.crops import center_crop, normalize, random_crop, random_resized_crop
from tfpipe.augment.deepaugment import deep_augment
from tfpipe.augment.following import drop_boxes, keypoint_pairs
from tfpipe.augment.forms.apply import apply_choices, apply_op
from tfpipe.augment.mixing import cutmix, mixup
from tfpipe.augment.mosaics import mosaic
from tfpipe.augment.ops.custom import augmentation
from tfpipe.augment.ops.op import Choices, Op
from tfpipe.augment.ops.table import OPS
from tfpipe.augment.pasting import copy_paste
from tfpipe.augment.policies import auto_augment, policy, rand_augment, trivial_augment_wide
from tfpipe.augment.saving import from_json, to_json
from tfpipe.augment.schedules import pba
from tfpipe.augment.single import (
    coarse_dropout,
    color_jitter,
    cutout,
    flip_left_right,
    flip_up_down,
    gamma,
    gaussian_blur,
    gaussian_noise,
    grayscale,
    op,
    pad_and_crop,
    salt_and_pepper,
    zoom,
)
from tfpipe.augment.spelling import explain_name
from tfpipe.augment.switch import mixup_or_cutmix
from tfpipe.augment.transform import BatchTransform, OpTransform, Transform
from tfpipe.augment.views import repeated, views

__all__ = [
    "OPS",
    "BatchTransform",
    "Choices",
    "Op",
    "OpTransform",
    "Transform",
    "apply_choices",
    "apply_op",
    "aug_mix",
    "augmentation",
    "auto_augment",
    "center_crop",
    "choose_n",
    "coarse_dropout",
    "color_jitter",
    "compose",
    "copy_paste",
    "cutmix",
    "cutout",
    "deep_augment",
    "drop_boxes",
    "flip_left_right",
    "flip_up_down",
    "from_json",
    "gamma",
    "gaussian_blur",
    "gaussian_noise",
    "grayscale",
    "keypoint_pairs",
    "mixup",
    "mixup_or_cutmix",
    "mosaic",
    "normalize",
    "one_of",
    "op",
    "pad_and_crop",
    "pba",
    "policy",
    "rand_augment",
    "random_crop",
    "random_resized_crop",
    "repeated",
    "salt_and_pepper",
    "select",
    "sometimes",
    "to_json",
    "trivial_augment_wide",
    "views",
    "zoom",
]


def __getattr__(name: str) -> NoReturn:
    if name.startswith("_"):  # Asked for by tools, not by people.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise AttributeError(explain_name(name, __all__))
