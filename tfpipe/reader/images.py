"""The images of a request: how a record's image gets its size, its channels and its mask's fill; and one new file.

image = load_image("holiday.jpg", like="photos_tfrecord", image_size=224)      # for model.predict(image[None])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.format.schema import Schema
from tfpipe.images.decode import as_channels, decode_upright
from tfpipe.images.fit import Resize, Resizer
from tfpipe.images.probe import NotAnImage, probe
from tfpipe.images.sizes import RESIZES, as_size
from tfpipe.storage import to_path

if TYPE_CHECKING:
    from tfpipe.reader.request import Request

CHANNELS = (1, 3)


def load_image(
    path: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | Manifest | None = None,
    image_size: int | Sequence[int] | None = None,
    resize: str | None = None,
    antialias: bool = True,
    channels: int = 3,
    dct: str = "exact",
) -> tf.Tensor:
    """One image file, prepared as make_dataset prepares those of a dataset: the same pixels.

    Args:
      path: the file, or a URL of one.
      like: the dataset, by its folder or manifest: it gives image_size where all its images have one size, and the way
        of resizing where it was converted with one.
      image_size: (height, width), or one number for a square; None: that of `like`, or else the image's own.
      resize: "pad", "stretch" or "crop"; None: that of `like`, or else "pad".
      antialias, channels: as for make_dataset.
      dct: "exact" or "fast", as in ReadOptions.

    Returns:
      uint8 [height, width, channels], upright. Decoded floats, and those that a model of embeddings takes, are these
      values / 255.

    Raises:
      FileNotFoundError: there is no such file, or no such dataset.
      ValueError: an argument is out of range, or the file is no image that tfpipe reads.
    """
    size, stored_resize = (None, None) if like is None else _preparation(like)
    size = size if image_size is None else as_size(image_size, "image_size")
    check_channels(channels, None)
    resizer = Resize(size or (1, 1), resize or stored_resize or RESIZES[0], antialias, dct)
    data = to_path(path).read_bytes()
    try:
        header = probe(data)
    except NotAnImage as error:
        raise UsageError(f"{path}: {error}") from error
    turn: dict[str, Any] = {
        "jpeg_only": header.format == "jpeg",
        "orientation": tf.constant(header.orientation, tf.int64) if header.orientation > 1 else None,
    }
    with tf.device("CPU:0"):
        if size is None or size == header.upright_size:
            return as_channels(decode_upright(tf.constant(data), exact=dct == "exact", **turn), channels)
        return as_channels(resizer.decode(tf.constant(data), **turn), channels)


def _preparation(like: str | os.PathLike[str] | Manifest) -> tuple[tuple[int, int] | None, str | None]:
    """The size of a dataset's images where all have one, and how they were brought to it; None where unknown."""
    manifest = like if isinstance(like, Manifest) else load_manifest(like)
    options = manifest.made_by.get("options", {})
    if manifest.schema.payload == "embedding":
        size = manifest.made_by.get("model", {}).get("image_size") or options.get("image_size")
    else:
        size = manifest.schema["image"].shape[:2]
    known = size is not None and None not in size
    return (as_size(size, "image_size") if known else None), options.get("resize")


# ---- the arguments of make_dataset


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
    fit = Resize(request.image_size, mode, request.antialias, request.options.dct, request.mask_fill)
    if isinstance(request.resize, str):
        return fit
    if draw is None:
        return request.resize.for_evaluation(fit)
    return request.resize.for_training(fit, seed=request.seed, draw=draw)
