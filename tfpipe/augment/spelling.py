"""How to write what others call otherwise: an op by its name, and the names of other libraries.

augment.rotate            write augment.op("rotate", (-30, 30))
augment.RandomFlip        write augment.flip_left_right()
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from tfpipe.augment.ops.op import Op
from tfpipe.augment.ops.table import OPS

# What translations are drawn from in an example: their own range is a fraction of the image, their values are pixels.
_PIXELS = 20
_FLIP, _FLIP_DOWN, _CUTOUT = "augment.flip_left_right()", "augment.flip_up_down()", "augment.cutout()"
# Names of other libraries, in snake case and without "random_", "to_" or "adjust_" in front.
OTHERS = {
    **dict.fromkeys(("flip", "hflip", "fliplr", "horizontal_flip", "flip_horizontal", "mirror"), _FLIP),
    **dict.fromkeys(("vflip", "flipud", "vertical_flip", "flip_vertical"), _FLIP_DOWN),
    **dict.fromkeys(("erase", "erasing", "cut_out", "box_erase"), _CUTOUT),
    **dict.fromkeys(("apply", "maybe"), "augment.sometimes(augment.cutout(), 0.5)"),
    **dict.fromkeys(("choice", "either"), "augment.one_of([augment.cutout(), augment.grayscale(1.0)])"),
    **dict.fromkeys(("sequential", "pipeline", "chain"), f"augment.compose([{_FLIP}, {_CUTOUT}])"),
    **dict.fromkeys(("gray", "grey", "greyscale"), "augment.grayscale()"),
    **dict.fromkeys(("randaugment", "randaug", "rand_aug"), "augment.rand_augment(2, 9)"),
    **dict.fromkeys(("autoaugment", "autoaug", "auto_aug"), "augment.auto_augment()"),
    **dict.fromkeys(("trivial_augment", "trivialaugment", "trivialaugment_wide"), "augment.trivial_augment_wide()"),
    **dict.fromkeys(("scale", "scaling", "zoom_in", "zoom_out"), "augment.zoom()"),
    **dict.fromkeys(("jitter", "colorjitter", "color_jittering"), "augment.color_jitter(brightness=0.4, contrast=0.4)"),
    **dict.fromkeys(("noise", "gauss_noise"), "augment.gaussian_noise()"),
    **dict.fromkeys(("blur", "gauss_blur"), "augment.gaussian_blur()"),
    **dict.fromkeys(("gamma_correction", "gamma_contrast"), "augment.gamma()"),
    **dict.fromkeys(("salt_pepper", "salt_and_pepper_noise", "pepper"), "augment.salt_and_pepper()"),
    **dict.fromkeys(("rescale", "rescaling"), "augment.normalize(0, 1)"),
    **dict.fromkeys(("normalise", "normalization", "standardize"), "augment.normalize(mean=0.5, std=0.25)"),
    **dict.fromkeys(("crop_and_resize", "inception_crop"), "augment.random_resized_crop((224, 224))"),
    **dict.fromkeys(("resize", "resizing"), "tfpipe.make_dataset(..., image_size=(224, 224))"),
    "mix_up": "augment.mixup()",
    "cut_mix": "augment.cutmix()",
    **dict.fromkeys(("augmix", "augmix_augmentation"), "augment.aug_mix()"),
    **dict.fromkeys(("repeated_augmentation", "ra_sampler"), "augment.repeated(3)"),
}
# Names of other libraries for ops.
_OTHER_OPS = {
    **dict.fromkeys(("rotation", "affine"), "rotate"),
    **dict.fromkeys(("translate", "translation", "shift", "width_shift"), "translate_x"),
    **dict.fromkeys(("shear", "shearing"), "shear_x"),
    **dict.fromkeys(("autocontrast", "auto_contrasting"), "auto_contrast"),
    **dict.fromkeys(("equalise", "equalization"), "equalize"),
    **dict.fromkeys(("posterise", "posterization"), "posterize"),
    **dict.fromkeys(("solarise", "solarization"), "solarize"),
    **dict.fromkeys(("inversion", "negative"), "invert"),
    **dict.fromkeys(("colour", "color_degeneration"), "color"),
    "sharpening": "sharpness",
    "height_shift": "translate_y",
    **dict.fromkeys(("rot90", "rotation90"), "rotate90"),
    **dict.fromkeys(("elastic_transform", "elastic_transformation"), "elastic"),
    **dict.fromkeys(("image_compression", "jpeg_compression", "jpeg_quality"), "jpeg"),
    **dict.fromkeys(("rgb_shuffle", "channel_permutation"), "channel_shuffle"),
    "perspective_transform": "perspective",
    "nothing": "identity",
}


def spell_op(op: Op) -> str:
    """The call that makes a transform of an op, over its own range where it has values."""
    if not op.num_values:
        return f'augment.op("{op.name}")'
    first: tuple[float, float] = (op.low, op.high)
    if op.mirrored:
        most = _PIXELS if op.unit else op.high
        first = (op.neutral - most, op.neutral + most)
    ranges = [tuple(sorted(ends)) for ends in (first, *op.further)]
    return f'augment.op("{op.name}", {", ".join(f"({low:g}, {high:g})" for low, high in ranges)})'


def explain_name(name: str, public: Sequence[str]) -> str:
    """A sentence for a name that tfpipe.augment does not have.

    Args:
      name: what was asked for.
      public: the names that there are.
    """
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    short = re.sub(r"^(random|to|adjust)_", "", plain)
    for one in (plain, short):
        known = _OTHER_OPS.get(one, one)
        if one in public:
            return f"tfpipe.augment has no {name!r}; write augment.{one}(...)."
        if known in OPS:
            return f"tfpipe.augment has no {name!r}; write {spell_op(OPS[known])}: an op by its name."
        if one in OTHERS:
            return f"tfpipe.augment has no {name!r}; write {OTHERS[one]}."
    near = difflib.get_close_matches(short, [*public, *OPS], n=3)
    hint = f"did you mean {near}?" if near else f"it has {sorted(public)}, and augment.op(name) of {sorted(OPS)}."
    return f"tfpipe.augment has no {name!r}; {hint}"
