"""The images of a request: how a record's image gets its size, its channels and its mask's fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import Schema
from tfpipe.images.decode import CHANNELS, as_channels
from tfpipe.images.fit import Resize, Resizer

if TYPE_CHECKING:
    from tfpipe.reader.request import Request


def check_channels(channels: Any, schema: Schema | None) -> None:
    """Raises ValueError where channels is no number of channels, or records hold none that can become it."""
    if isinstance(channels, bool) or channels not in CHANNELS:
        raise UsageError(f"channels is {channels!r}; it takes one of {list(CHANNELS)}.")
    if schema is None or channels == 3:
        return
    if "image" not in schema:
        raise UsageError(f"channels is {channels}, but the records hold embeddings, not images.")
    stored = schema["image"].shape[-1]
    if stored not in CHANNELS:
        raise UsageError(f"channels is {channels}, but the images have {stored} channels, which are no colours.")


def with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Images as they are asked for; those of other than 1 or 3 channels, such as depth or infrared, keep them."""
    return as_channels(image, channels) if image.shape[-1] in CHANNELS else image


def mask_fill_of(given: int | None, sources: Sequence[Manifest], schema: Schema) -> int:
    """What comes into masks from outside: as given, or as the dataset was converted with; 0 where nothing says more.

    Raises:
      ValueError: it is no value of a mask, there are no masks, or the sources of a mixture differ.
    """
    if given is None:
        stored = {source.made_by.get("options", {}).get("mask_fill", 0): source for source in sources}
        if len(stored) > 1 and "mask" in schema:
            differing = " and ".join(f"{fill} ({source.directory})" for fill, source in stored.items())
            raise UsageError(f"The sources were converted with different values of mask_fill: {differing}; give one.")
        return int(next(iter(stored)))
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 255:
        raise UsageError(f"mask_fill is {given!r}; it takes an integer from 0 to 255.")
    if given and "mask" not in schema:
        raise UsageError(f"mask_fill is {given}, but the batches have no mask; labels=None gives that of a dataset.")
    return given


def make_resizer(request: Request, draw: tf.Tensor | None) -> Resizer | None:
    """What brings the images of a request to their size; one draw of a random crop where there is one."""
    if request.image_size is None:
        return None
    mode = request.resize if isinstance(request.resize, str) else "pad"
    fit = Resize(
        request.image_size, mode, request.antialias, request.options.dct, request.mask_fill, _longest_sides(request)
    )
    if isinstance(request.resize, str):
        return fit
    if draw is None:
        return request.resize.for_evaluation(fit)
    return request.resize.for_training(fit, seed=request.seed, draw=draw)


def _longest_sides(request: Request) -> tuple[int, int] | None:
    """Of all images, at least and at most, as their conversions counted; None where one did not."""
    found = [source.statistics.get(name) for source in request.sources for name in ("height", "width")]
    sides = [one for one in found if one is not None]
    if len(sides) < len(found):
        return None
    smallest = min(max(pair["smallest"] for pair in pairs) for pairs in zip(sides[::2], sides[1::2], strict=True))
    return int(smallest), int(max(one["largest"] for one in sides))
