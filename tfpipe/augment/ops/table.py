"""OPS: every op of tfpipe by name, one literal table.

Each line: name, family, the function that builds the family's parameters, and tfpipe's own range of magnitudes: `low`
is the weakest value and `high` the strongest, for every op, in the op's own unit:

    rotate, hue                     degrees                     brightness, contrast, color,
    shear_x, shear_y                pixels per pixel            saturation, sharpness, gamma     step from the neutral 1
    translate_x, translate_y        fraction of width, height   add_brightness, solarize_add     uint8 values added
    crop                            pixels, down then right     posterize                        bits kept
    zoom                            factor                      solarize                         threshold, uint8
    resized_crop                    fraction of the image       sharpen, emboss                  share of the effect
    cutout                          fraction of shorter side    gaussian_blur                    sigma in pixels
    dropout, coarse_dropout,                                    gaussian_noise                   sigma in uint8 values
    salt_and_pepper                 share of pixels or cells    flips, invert, auto_contrast, …  no value
    rotate90                        right angles                perspective, grid_distortion     share of half a side
    elastic                         pixels                      channel_shuffle, channel_dropout an order, a number
    grid_mask, random_erasing       share of a cell, the image  gray_world                       share of the effect
    motion_blur                     pixels                      median_blur                      pixels to each side
    clahe                           limit, times the even share jpeg                             quality

Published ranges are in the policies' tables (draw/magnitudes.py), under their own names. The families' modules say what
the values mean.
"""

from __future__ import annotations

from tfpipe.augment.ops import (
    blur,
    channels,
    clahe,
    color,
    erase,
    field,
    jpeg,
    lookup,
    noise,
    patches,
    stencil,
    turns,
    warp,
)
from tfpipe.augment.ops.op import Op

UNIT = (0.0, 1.0)
WINDOW = ((0, 0.3), (0.7, 0.7), (0.7, 0.7))
COLORED = (1, 3)


def unchanged() -> None:
    """The identity has no parameters."""


OPS: dict[str, Op] = {
    op.name: op
    for op in (
        Op("identity", "identity", unchanged, num_values=0),
        # warp: coordinates in pixels, output to input, as Pillow's AFFINE.
        Op("rotate", "warp", warp.rotate, 0, 30, mirrored=True),
        Op("shear_x", "warp", warp.shear_x, 0, 0.3, mirrored=True),
        Op("shear_y", "warp", warp.shear_y, 0, 0.3, mirrored=True),
        Op("translate_x", "warp", warp.translate_x, 0, 0.45, mirrored=True, unit="width", motion="shift_x"),
        Op("translate_y", "warp", warp.translate_y, 0, 0.45, mirrored=True, unit="height", motion="shift_y"),
        Op("crop", "warp", warp.crop, 0, 4, mirrored=True, num_values=2, further=((-4, 4),), motion="shift"),
        Op("zoom", "warp", warp.zoom, 1, 2, num_values=3, further=(UNIT, UNIT), motion="scale"),
        Op("resized_crop", "warp", warp.resized_crop, 0, 0.3, num_values=4, further=WINDOW, motion="scale"),
        Op("flip_left_right", "warp", warp.flip_left_right, num_values=0, motion="scale"),
        Op("flip_up_down", "warp", warp.flip_up_down, num_values=0, motion="scale"),
        # Whole numbers, cut down: each of the four is as likely.
        Op("rotate90", "warp", turns.rotate90, 0, 3.999),
        Op("transpose", "warp", turns.transpose, num_values=0),
        # field: coordinates of their own for each pixel, drawn from the seed of image and stage.
        Op("perspective", "field", field.perspective, 0, 0.5),
        Op("elastic", "field", field.elastic, 0, 60, num_values=2, further=((4, 8),)),
        Op("grid_distortion", "field", field.grid_distortion, 0, 0.5),
        # lookup: one table of 256 levels per image and channel.
        Op("brightness", "lookup", lookup.brightness, 0, 0.9, mirrored=True, neutral=1),
        Op("add_brightness", "lookup", lookup.add_brightness, 0, 40, mirrored=True),
        Op("contrast", "lookup", lookup.contrast, 0, 0.9, mirrored=True, neutral=1, needs="luma", channels=COLORED),
        Op("gamma", "lookup", lookup.gamma, 0, 0.9, mirrored=True, neutral=1, needs="table"),
        Op("invert", "lookup", lookup.invert, num_values=0),
        Op("posterize", "lookup", lookup.posterize, 8, 2),
        Op("solarize", "lookup", lookup.solarize, 256, 0),
        Op("solarize_add", "lookup", lookup.solarize_add, 0, 110),
        Op("auto_contrast", "lookup", lookup.auto_contrast, num_values=0, needs="extrema"),
        Op("equalize", "lookup", lookup.equalize, num_values=0, needs="histogram"),
        # color: each pixel individually, its channels together.
        Op("color", "color", color.color, 0, 0.9, mirrored=True, neutral=1, channels=COLORED),
        Op("saturation", "color", color.saturation, 0, 0.9, mirrored=True, neutral=1, channels=COLORED),
        Op("hue", "color", color.hue, 0, 45, mirrored=True, channels=COLORED),
        Op("grayscale", "color", color.grayscale, num_values=0, channels=COLORED),
        Op("channel_shuffle", "color", channels.channel_shuffle, 0, 5.999, channels=COLORED),
        Op("channel_dropout", "color", channels.channel_dropout, 0, 1, num_values=2, further=(UNIT,)),
        Op("gray_world", "color", channels.gray_world, 0, 1),
        Op("grid_mask", "color", patches.grid_mask, 0, 0.6, num_values=4, further=((0.2, 0.4), UNIT, UNIT)),
        # stencil: each pixel with its neighbours.
        Op("sharpness", "stencil", stencil.sharpness, 0, 0.9, mirrored=True, neutral=1),
        Op("sharpen", "stencil", stencil.sharpen, 0, 1, num_values=2, further=((0.5, 5),)),
        Op("edges", "stencil", stencil.edges, num_values=0),
        Op("emboss", "stencil", stencil.emboss, 0, 1, num_values=2, further=((0, 20),)),
        Op("gaussian_blur", "stencil", stencil.gaussian_blur, 0, 3),
        Op("motion_blur", "stencil", blur.motion_blur, 1, 15, num_values=2, further=((0, 180),)),
        Op("median_blur", "stencil", blur.median_blur, 0, 2),
        Op("clahe", "stencil", clahe.clahe, 1, 4),
        Op("jpeg", "stencil", jpeg.jpeg, 100, 10),
        # erase: a box.
        Op("cutout", "erase", erase.cutout, 0, 0.5, num_values=3, unit="side", further=(UNIT, UNIT)),
        # noise: keyed per image and stage.
        Op("gaussian_noise", "noise", noise.gaussian_noise, 0, 50),
        Op("dropout", "noise", noise.dropout, 0, 0.3, num_values=2, further=(UNIT,)),
        Op("coarse_dropout", "noise", noise.coarse_dropout, 0, 0.15, num_values=3, further=((0.05, 0.3), UNIT)),
        Op("random_erasing", "noise", patches.random_erasing, 0, 0.33, num_values=4, further=(UNIT, UNIT, UNIT)),
        Op("salt_and_pepper", "noise", noise.salt_and_pepper, 0, 0.2, num_values=2, further=((0, 0.2),)),
    )
}


def find_op(name: str) -> Op:
    """The op of a name, or a ValueError that lists the known ones."""
    if name not in OPS:
        raise ValueError(f"Unknown op {name!r}; known ops: {sorted(OPS)}.")
    return OPS[name]
