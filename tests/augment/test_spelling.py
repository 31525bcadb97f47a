"""A name that tfpipe.augment does not have is answered with how to write it, and the guide lists every op."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.spelling import OTHERS, explain_name, spell_op

MISSING = sorted(set(augment.OPS) - set(augment.__all__))
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "augment.md"


def answer(name: str) -> str:
    with pytest.raises(AttributeError) as caught:
        getattr(augment, name)
    return str(caught.value)


def run(call: str) -> None:
    """Makes the transform of a call and applies it."""
    transform = eval(call, {"augment": augment})
    batch = {"image": tf.zeros([2, 224, 224, 3], tf.uint8), "label": tf.eye(2)}
    assert transform(batch, [1, 2])["image"].dtype in (tf.uint8, tf.float32)


@pytest.mark.parametrize("name", MISSING)
def test_every_op_without_a_function_is_answered_with_its_call(name: str) -> None:
    call = spell_op(augment.OPS[name])
    assert call.startswith(f'augment.op("{name}"')
    assert f"has no {name!r}; write {call}: an op by its name." in answer(name)
    made = eval(call, {"augment": augment})
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    assert made({"image": images}, [3, 4])["image"].shape == images.shape


def test_rotate_is_answered_in_degrees() -> None:
    assert 'write augment.op("rotate", (-30, 30))' in answer("rotate")
    assert 'write augment.op("translate_x", (-20, 20))' in answer("translate_x")
    assert 'write augment.op("brightness", (0.1, 1.9))' in answer("brightness")
    assert 'write augment.op("invert")' in answer("invert")


@pytest.mark.parametrize("call", sorted({text for text in OTHERS.values() if text.startswith("augment.")}))
def test_what_is_said_for_the_names_of_others_can_be_run(call: str) -> None:
    run(call)


NAMES = {
    "RandomRotation": 'augment.op("rotate", (-30, 30))',
    "random_rotation": 'augment.op("rotate", (-30, 30))',
    "random_flip": "augment.flip_left_right()",
    "RandomHorizontalFlip": "augment.flip_left_right()",
    "hflip": "augment.flip_left_right()",
    "VerticalFlip": "augment.flip_up_down()",
    "random_brightness": 'augment.op("brightness", (0.1, 1.9))',
    "adjust_hue": 'augment.op("hue", (-45, 45))',
    "autocontrast": 'augment.op("auto_contrast")',
    "RandomErasing": 'augment.op("random_erasing", (0, 0.33), (0, 1), (0, 1), (0, 1))',
    "Rot90": 'augment.op("rotate90", (0, 3.999))',
    "AugMix": "augment.aug_mix(...)",
    "RandAugment": "augment.rand_augment(...)",
    "ColorJitter": "augment.color_jitter(...)",
    "MixUp": "augment.mixup()",
    "CutMix": "augment.cutmix()",
    "to_gray": "augment.grayscale()",
    "Compose": "augment.compose(...)",
    "translate": 'augment.op("translate_x", (-20, 20))',
    "shear": 'augment.op("shear_x", (-0.3, 0.3))',
    "crop": 'augment.op("crop", (-4, 4), (-4, 4))',
    "Resize": "tfpipe.make_dataset(..., image_size=(224, 224))",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_another_library_is_answered(name: str) -> None:
    assert f"tfpipe.augment has no {name!r}; write {NAMES[name]}" in answer(name)


def test_another_name_is_answered_with_what_is_near_or_with_all() -> None:
    assert "did you mean" in answer("poserize")
    assert "'posterize'" in answer("poserize")
    assert "'rand_augment'" in explain_name("xyzzy", augment.__all__)
    assert not hasattr(augment, "__wrapped__")
    assert not hasattr(augment, "rotate")


def test_the_guide_lists_every_op() -> None:
    (listed,) = re.findall(r"^The ops: (.*?)\.\n", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(augment.OPS)
