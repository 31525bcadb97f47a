"""What may stand among make_dataset's transforms, and what to write instead of what may not.

A transform is a callable of (batch, seed): batch a dict with `image` and `label` (or all features), seed int32 [2]. It
returns such a dict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tfpipe.errors import UsageError

Batch = dict[str, Any]
Transform = Callable[[Batch, Any], Batch]

FORM = "a transform takes (batch, seed), a dict with 'image' and an int32 [2], and returns such a dict"
# Keras's preprocessing layers draw from a generator of their own, which no seed and no resume brings back.
INSTEAD = {
    "AugMix": "augment.aug_mix()",
    "AutoContrast": "augment.op('auto_contrast')",
    "CenterCrop": "augment.center_crop((height, width))",
    "ContrastLimitedAdaptiveHistogramEqualization": "augment.op('clahe')",
    "CutMix": "augment.cutmix()",
    "Equalization": "augment.op('equalize')",
    "MixUp": "augment.mixup()",
    "Mosaic": "augment.mosaic()",
    "Normalization": "augment.normalize(mean, std)",
    "RandAugment": "augment.rand_augment(2, 9)",
    "RandomBrightness": "augment.op('brightness', (0.8, 1.2))",
    "RandomColorDegeneration": "augment.op('color', (0.5, 1.5))",
    "RandomColorJitter": "augment.color_jitter(brightness=0.2, contrast=0.2)",
    "RandomContrast": "augment.op('contrast', (0.8, 1.2))",
    "RandomCrop": "augment.random_crop((height, width))",
    "RandomElasticTransform": "augment.op('elastic')",
    "RandomErasing": "augment.op('random_erasing')",
    "RandomFlip": "augment.flip_left_right()",
    "RandomGaussianBlur": "augment.gaussian_blur()",
    "RandomGrayscale": "augment.grayscale()",
    "RandomHue": "augment.op('hue', (-18, 18))",
    "RandomInvert": "augment.op('invert', p=0.5)",
    "RandomPerspective": "augment.op('perspective')",
    "RandomPosterization": "augment.op('posterize', (4, 8))",
    "RandomRotation": "augment.op('rotate', (-30, 30))",
    "RandomSaturation": "augment.op('saturation', (0.8, 1.2))",
    "RandomSharpness": "augment.op('sharpness', (0.5, 1.5))",
    "RandomShear": "augment.op('shear_x', (-0.2, 0.2))",
    "RandomTranslation": "augment.op('translate_x', (-20, 20))",
    "RandomZoom": "augment.zoom()",
    "Rescaling": "augment.normalize(0, 1), which gives image / 255",
    "Resizing": "make_dataset(image_size=..., resize=...)",
    "Solarization": "augment.op('solarize', (0, 256))",
}
# Its transforms are known by the name of their room: the reader does not know it.
_AUGMENT = "tfpipe.augment"
_KERAS = ("keras", "tf_keras", "keras_core")


def check_transforms(transforms: Any) -> tuple[Transform, ...]:
    """The transforms, as a tuple.

    Raises:
      ValueError: they are no sequence, or one of them is no transform; the sentence says what to write instead.
    """
    if callable(transforms) or isinstance(transforms, str) or not isinstance(transforms, Sequence):
        raise UsageError(f"transforms is {_name(transforms)}; it takes a list: transforms=[...].")
    for index, transform in enumerate(transforms):
        said = _obstacle(transform)
        if said:
            raise UsageError(f"transforms[{index}] is {said}.")
    return tuple(transforms)


def transform_runs(transforms: Sequence[Transform]) -> list[tuple[range, bool]]:
    """The indices of neighbours of one kind, and whether they are tfpipe's own.

    Those need nothing of a device or of AutoGraph, which a user's function may.
    """
    own = [type(transform).__module__.startswith(f"{_AUGMENT}.") for transform in transforms]
    begins = [i for i in range(len(own)) if i == 0 or own[i] != own[i - 1]]
    return [(range(begin, end), own[begin]) for begin, end in pairwise([*begins, len(own)])]


def apply_transform(index: int, transform: Transform, batch: Batch, seed: Any) -> Batch:
    """The batch after a transform.

    Raises:
      ValueError: it can't be called with a batch and a seed, or returns something else than a batch.
    """
    where = f"transforms[{index}], {_name(transform)},"
    try:
        done = transform(batch, seed)
    except (TypeError, AttributeError, KeyError) as error:
        raise traced_error(
            f"{where} failed on a batch of {sorted(batch)}: {type(error).__name__}: {error}; {FORM}."
        ) from error
    if not isinstance(done, Mapping) or "image" not in done:
        found = f"a dict of {sorted(done)}" if isinstance(done, Mapping) else type(done).__name__
        raise traced_error(f"{where} returned {found}; {FORM}.")
    return dict(done)


def traced_error(text: str) -> ValueError:
    """An error within a graph: AutoGraph raises it anew, which it can with Python's own classes only."""
    return ValueError(text)


def _obstacle(transform: Any) -> str | None:
    """What is wrong with a transform, as the end of a sentence."""
    if isinstance(transform, str):
        return f"{transform!r}; write augment.op({transform!r})"
    if inspect.isclass(transform):
        return f"the class {transform.__name__}; it takes a transform, such as augment.flip_left_right()"
    if _is_keras_layer(transform):
        return _of_layer(transform)
    if not callable(transform):
        hint = f"; write augment.op({transform!r})" if type(transform).__name__ == "Op" else ""
        return f"{_name(transform)}, which can't be called{hint}; {FORM}"
    if inspect.isfunction(transform) and transform.__module__.startswith(_AUGMENT):
        return f"augment.{transform.__name__} itself; call it: augment.{transform.__name__}(...)"
    try:
        inspect.signature(transform).bind({}, None)
    except TypeError as error:
        return f"{_name(transform)}, which can't be called with two arguments ({error}); {FORM}"
    except ValueError:  # A builtin without a signature.
        return None
    return None


def _is_keras_layer(transform: Any) -> bool:
    # By name, so that Keras is not imported for it, and older ones are known too.
    return any(
        cls.__name__ == "Layer" and cls.__module__.partition(".")[0] in _KERAS for cls in type(transform).__mro__
    )


def _of_layer(layer: Any) -> str:
    name = type(layer).__name__
    if hasattr(layer, "transforms"):
        return f"the layer {name}; write transforms=layer.transforms, which draws by make_dataset's seed"
    instead = f"write {INSTEAD[name]}, or " if name in INSTEAD else ""
    return (
        f"the Keras layer {name}, whose draws no seed repeats; {instead}put it into the model, "
        "or behind make_dataset: .map(lambda images, labels: (layer(images), labels))"
    )


def _name(value: Any) -> str:
    name = getattr(value, "__name__", None)
    return str(name) if name else repr(value)[:80]
