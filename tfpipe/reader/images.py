"""The images of a request: how a record's image gets its size, its channels and its mask's fill; and one new file.

image = load_image("holiday.jpg", like="photos_tfrecord", image_size=224)      # for model.predict(image[None])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import Schema
from tfpipe.images.decode import as_channels
from tfpipe.images.fit import Resize, Resizer
from tfpipe.images.probe import NotAnImage
from tfpipe.images.transcode import Transcoding, take_file
from tfpipe.reader.crops import Crop
from tfpipe.reader.preparation import CHANNELS, Task, prepare_like
from tfpipe.storage import to_path

if TYPE_CHECKING:
    from tfpipe.reader.request import Request


def load_image(
    path: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | Manifest | None = None,
    image_size: int | Sequence[int] | None = None,
    resize: str | Crop | None = None,
    antialias: bool = True,
    channels: int = 3,
    dct: str = "exact",
) -> tf.Tensor:
    """One image file, prepared as a dataset's are: what conversion does to them, and make_dataset in evaluation.

    It takes every kind of file that conversion takes; those that TensorFlow does not read rightly through Pillow.

    Args:
      path: the file, or a URL of one.
      like: the dataset, by its folder or manifest: it gives image_size where all its images have one, and tells what
        its conversion did to files: `--image_size`, `--resize`, `--max_side`, `--sixteen_bit`.
      image_size, resize, antialias, channels: as for make_dataset; without image_size the image keeps the size that
        the dataset gives it, or its own. None for resize is "pad".
      dct: "exact" or "fast", as in ReadOptions.

    Returns:
      uint8 [height, width, channels], upright. Decoded floats, and those that a model of embeddings takes, come as the
      uint8 values that they were made of; where such floats are resized once more, to the nearest of them.

    Raises:
      FileNotFoundError: there is no such file, or no such dataset.
      ValueError: an argument is out of range, or the file is no image that tfpipe reads.
      SetupError: the file takes Pillow, which is not installed.
    """
    preparation = prepare_like(like, Task(image_size, resize, antialias, channels, dct)).in_bytes
    stored = preparation.stored
    data = to_path(path).read_bytes()
    try:
        taken = take_file(data, Transcoding(stored.max_pixels, sixteen_bit=stored.sixteen_bit))
    except NotAnImage as error:
        raise UsageError(f"{path}: {error}") from error
    header = taken.header
    with tf.device("CPU:0"):
        return preparation.pixels(
            tf.constant(taken.data),
            jpeg_only=header.format == "jpeg",
            orientation=tf.constant(header.orientation, tf.int64) if header.orientation > 1 else None,
        )


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
