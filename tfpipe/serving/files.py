"""One image file, as the images of a dataset are.

image = load_image("holiday.jpg", like="photos_tfrecord", image_size=224)      # for model.predict(image[None])
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.images.probe import NotAnImage
from tfpipe.images.transcode import Transcoding, take_file
from tfpipe.reader.crops import Crop
from tfpipe.serving.preparation import Task, prepare_like
from tfpipe.storage import to_path


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
