"""What comes into a mask from outside is mask_fill, for everything that moves masks: 0, unless it is said otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tfpipe import augment, layers
from tfpipe.augment.transform import BatchTransform, OpTransform, Rendering

DEEP = [[("rotate", 0.5), ("translate-x", 0.6)]]
# Each uncovers pixels, whatever it draws among the seeds below.
MOVING: dict[str, Callable[..., OpTransform | BatchTransform]] = {
    "rotate": lambda **fill: augment.op("rotate", 45, **fill),
    "shear_x": lambda **fill: augment.op("shear_x", 0.5, **fill),
    "shear_y": lambda **fill: augment.op("shear_y", -0.5, **fill),
    "translate_x": lambda **fill: augment.op("translate_x", 5, **fill),
    "translate_y": lambda **fill: augment.op("translate_y", -5, **fill),
    "crop": lambda **fill: augment.op("crop", 4, -3, **fill),
    "op zoom": lambda **fill: augment.op("zoom", 0.5, 0.5, 0.5, **fill),
    "zoom": lambda **fill: augment.zoom(0.6, **fill),
    "pad_and_crop": lambda **fill: augment.pad_and_crop(6, **fill),
    "random_crop": lambda **fill: augment.random_crop(20, padding=6, **fill),
    "rand_augment": lambda **fill: augment.rand_augment(3, 25, ops=["rotate", "shear_x", "translate_y"], **fill),
    "trivial_augment_wide": lambda **fill: augment.trivial_augment_wide(ops=["rotate", "translate_x"], **fill),
    "auto_augment": lambda **fill: augment.auto_augment("svhn", **fill),
    "policy": lambda **fill: augment.policy("svhn", **fill),
    "pba": lambda **fill: augment.pba("rsvhn", epoch=150, **fill),
    "deep_augment": lambda **fill: augment.deep_augment(DEEP, original=False, **fill),
    "one_of": lambda **fill: augment.one_of([augment.op("rotate", 30, **fill), augment.op("shear_x", 0.4, **fill)]),
    "compose": lambda **fill: augment.compose([augment.op("rotate", 30, **fill), augment.flip_left_right()]),
}


def moved(transform: Any, dtype: str = "uint8", value: int = 3) -> np.ndarray:
    """The masks, full of one value, after the transform."""
    images = np.full([16, 24, 24, 3], 200, np.uint8)
    found = []
    for seed in range(4):
        batch = {"image": images, "mask": np.full([16, 24, 24, 1], value, dtype), "label": np.eye(16, dtype="f4")}
        found.append(np.asarray(transform(batch, [seed, 7])["mask"]))
    return np.concatenate(found)


# Programs of many ops, which take long to compile: what they share with the others is looked at instead.
LARGE = ("auto_augment", "pba", "deep_augment")


@pytest.mark.parametrize("name", LARGE)
def test_a_policy_of_many_ops_carries_the_fill_of_masks(name: str) -> None:
    plain, filled = MOVING[name](), MOVING[name](mask_fill=255)
    assert isinstance(plain, OpTransform)
    assert isinstance(filled, OpTransform)
    assert filled.rendering == replace(plain.rendering or Rendering(), mask_fill=255)


@pytest.mark.parametrize("name", sorted(set(MOVING) - set(LARGE)))
def test_what_comes_in_from_outside_is_the_fill_of_masks(name: str) -> None:
    plain, filled = moved(MOVING[name]()), moved(MOVING[name](mask_fill=255))
    assert set(np.unique(plain)) == {0, 3}
    np.testing.assert_array_equal(filled, np.where(plain == 0, 255, plain))


@pytest.mark.parametrize("form", ["loop", "dense"])
@pytest.mark.parametrize(("dtype", "fill"), [("int32", -1), ("float32", 255), ("float16", 9), ("uint8", 17)])
def test_it_is_in_the_unit_of_the_mask(form: str, dtype: str, fill: int) -> None:
    found = moved(augment.op("rotate", 45, mask_fill=fill, form=form), dtype)
    assert (found.dtype, set(np.unique(found))) == (np.dtype(dtype), {3, fill})
    assert set(np.unique(moved(augment.random_crop(24, padding=5, mask_fill=fill), dtype))) == {3, fill}


def test_images_have_a_fill_of_their_own() -> None:
    batch = {"image": np.full([4, 9, 9, 3], 200, np.uint8), "mask": np.ones([4, 9, 9], np.uint8)}
    done = augment.op("rotate", 45, fill=10, mask_fill=99)(batch, [0, 1])
    assert (set(np.unique(done["image"])), set(np.unique(done["mask"]))) == ({10, 200}, {1, 99})


def test_what_covers_pixels_leaves_masks_as_they_are() -> None:
    for transform in (augment.cutout(8), augment.coarse_dropout(), augment.salt_and_pepper(), augment.op("invert")):
        assert (moved(transform) == 3).all()


@pytest.mark.parametrize("fill", [256, -1, 2.5, True, None, "ignore"])
def test_what_no_mask_holds_is_refused(fill: Any) -> None:
    for name in ("rotate", "random_crop"):
        with pytest.raises(ValueError, match="mask_fill is"):
            moved(MOVING[name](mask_fill=fill))


def test_it_is_written_only_where_it_is_given() -> None:
    for name, make in MOVING.items():
        assert "mask_fill" not in json.dumps(augment.to_json(make())), name
        given = augment.to_json(make(mask_fill=255))
        assert '"mask_fill": 255' in json.dumps(given), name
        assert augment.to_json(augment.from_json(json.loads(json.dumps(given)))) == given, name
    layer = layers.RandAugment(2, 9, mask_fill=255)
    assert layers.RandAugment.from_config(layer.get_config()).transforms == layer.transforms


def test_parts_of_one_pass_take_one_fill() -> None:
    with pytest.raises(ValueError, match=r"differ in .* or mask_fill"):
        augment.one_of([augment.op("rotate", mask_fill=1), augment.op("shear_x")])
