"""How image files become the images of a dataset: what conversion does to them, then what make_dataset does.

    preparation = prepare_like("photos_tfrecord", Task(image_size=224))
    preparation.pixels(data, jpeg_only=True, orientation=None)      # in a graph, too

tfpipe.load_image and tfpipe.layers.Preprocess are this, so that new files come as those of the dataset did.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.images.decode import CHANNELS, as_channels, decode_upright, encode_stretched, upright_size
from tfpipe.images.fit import Resize, Resizer
from tfpipe.images.probe import DEFAULT_MAX_PIXELS
from tfpipe.images.scales import scale_pixels
from tfpipe.images.sizes import RESIZES, as_size
from tfpipe.reader.crops import Crop, PaddedCrop, RandomResizedCrop

_CROPS: dict[str, type[RandomResizedCrop] | type[PaddedCrop]] = {
    crop.__name__: crop for crop in (RandomResizedCrop, PaddedCrop)
}


@dataclass(frozen=True)
class Stored:
    """What conversion makes of an image file.

    Attributes:
      payload: "raw", "decoded" or "embedding".
      image_size: (height, width) of all images; None where each has its own.
      resize: how they got it; None where tfpipe did not resize them.
      channels: of decoded images.
      dtype: of decoded images: "uint8", or "float32" and "float16" in [0, 1].
      scale: of embeddings: what their model takes; see tfpipe.images.scales, or "uint8".
      sixteen_bit: what was kept of 16 bits of gray: "high", or "scale".
      max_pixels: larger images were refused.
      max_side: a raw image with a longer side became a smaller JPEG; None: none did.
      quality: of these; without max_side every raw image was encoded again.
    """

    payload: str = "raw"
    image_size: tuple[int, int] | None = None
    resize: str | None = None
    channels: int = 3
    dtype: str = "uint8"
    scale: str = "uint8"
    sixteen_bit: str = "high"
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_side: int | None = None
    quality: int | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Stored:
        """As a manifest tells; raises ValueError where files can't become its images."""
        options = manifest.made_by.get("options", {})
        names = ("resize", "sixteen_bit", "max_pixels", "max_side", "quality")
        told = {name: options[name] for name in names if options.get(name) is not None}
        schema = manifest.schema
        if schema.payload == "embedding":
            model = manifest.made_by.get("model", {})
            size = model.get("image_size") or options.get("image_size")
            told["scale"] = model.get("scale", cls.scale)
        else:
            size = schema["image"].shape[:2]
        if size is not None and None not in size:
            told["image_size"] = as_size(size, "image_size")
        if schema.payload == "decoded":
            image = schema["image"]
            told |= {"dtype": image.dtype, "channels": image.shape[-1]}
            if image.shape[-1] not in CHANNELS:
                raise UsageError(f"The images of {manifest.directory} have {image.shape[-1]} channels: no file has.")
        return cls(schema.payload, **told)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Stored:
        """As `dataclasses.asdict` wrote it, after JSON."""
        size = document.get("image_size")
        return cls(**{**document, "image_size": None if size is None else as_size(size, "image_size")})


@dataclass(frozen=True)
class Task:
    """What make_dataset is asked for; see there.

    Attributes:
      image_size, resize, antialias, channels: its arguments, resize in evaluation; None takes what is stored, or "pad".
      dct: "exact" or "fast", as in ReadOptions.
    """

    image_size: int | Sequence[int] | None = None
    resize: str | Crop | None = None
    antialias: bool = True
    channels: int = 3
    dct: str = "exact"

    def __post_init__(self) -> None:
        if isinstance(self.channels, bool) or self.channels not in CHANNELS:
            raise UsageError(f"channels is {self.channels!r}; it takes one of {list(CHANNELS)}.")
        if self.image_size is not None:
            object.__setattr__(self, "image_size", as_size(self.image_size, "image_size"))
        if isinstance(self.resize, Mapping):
            (name, arguments), *_ = self.resize.items()
            object.__setattr__(self, "resize", _CROPS[name](**{k: _as_tuple(v) for k, v in arguments.items()}))
        self._fit((1, 1))  # checks the rest

    def resizer(self, stored: tuple[int, int] | None) -> Resizer | None:
        """What brings images to their size, stored ones having `stored`; None where they keep theirs."""
        size = self.size(stored)
        if size is None or (self.image_size is None and not isinstance(self.resize, Crop)):
            return None
        fit = self._fit(size)
        return self.resize.for_evaluation(fit) if isinstance(self.resize, Crop) else fit

    def size(self, stored: tuple[int, int] | None) -> tuple[int, int] | None:
        """The (height, width) of the images; None where they keep theirs."""
        return stored if self.image_size is None else as_size(self.image_size, "image_size")

    def _fit(self, size: tuple[int, int]) -> Resize:
        mode = RESIZES[0] if self.resize is None or isinstance(self.resize, Crop) else self.resize
        return Resize(size, mode, self.antialias, self.dct)

    def to_json(self) -> dict[str, Any]:
        """The arguments as plain values."""
        resize = {type(self.resize).__name__: asdict(self.resize)} if isinstance(self.resize, Crop) else self.resize
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"resize": resize}


@dataclass(frozen=True)
class Preparation:
    """How one image file becomes an image of a batch.

    Attributes:
      stored: what conversion makes of it.
      task: what make_dataset makes of that.
    """

    stored: Stored
    task: Task

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every image; None where each keeps its own."""
        return self.task.size(self.stored.image_size)

    @property
    def dtype(self) -> str:
        """The dtype of the images."""
        if self.stored.payload == "embedding":
            return "uint8" if self.stored.scale == "uint8" else "float32"
        return self.stored.dtype

    @property
    def in_bytes(self) -> Preparation:
        """The same with uint8 images, where decoding and models make floats of them."""
        return replace(self, stored=replace(self.stored, dtype="uint8", scale="uint8"))

    def pixels(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None) -> tf.Tensor:
        """The image [H, W, channels] of a file, as the dataset has it.

        Args:
          data: the file, scalar string.
          jpeg_only: the file is known to be a JPEG; otherwise its first bytes tell.
          orientation: the EXIF orientation, scalar int64; None: it is upright.
        """
        if self.stored.payload == "raw":
            image = self._from_raw(data, jpeg_only=jpeg_only, orientation=orientation)
        else:
            image = self._as_decoded(data, jpeg_only=jpeg_only, orientation=orientation)
            resizer = self.task.resizer(self.stored.image_size)
            image = image if resizer is None else resizer.resize(image)
        return as_channels(image, self.task.channels)

    def _from_raw(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None) -> tf.Tensor:
        if self.stored.quality is not None:
            data, orientation = self._smaller(data, jpeg_only, orientation)
            jpeg_only = False
        size = self.size
        resizer = self.task.resizer(self.stored.image_size)
        if resizer is None and size is not None:
            # Those of the dataset have this size.
            resizer = Task(size, self.task.resize, self.task.antialias, dct=self.task.dct).resizer(None)
        if resizer is not None:
            return resizer.decode(data, jpeg_only=jpeg_only, orientation=orientation)
        exact = self.task.dct == "exact"
        return decode_upright(data, jpeg_only=jpeg_only, orientation=orientation, exact=exact)

    def _smaller(
        self, data: tf.Tensor, jpeg_only: bool, orientation: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The file as convert --max_side and --quality store it, and its orientation."""
        turn = tf.constant(1, tf.int64) if orientation is None else orientation
        most, quality = self.stored.max_side, self.stored.quality or 0
        if most is None:
            again = encode_stretched(data, jpeg_only=jpeg_only, orientation=turn, size=None, quality=quality)
            return again, None
        stored = decode_upright(data, jpeg_only=jpeg_only, orientation=None, exact=True)
        size = upright_size(tf.shape(stored)[:2], turn)
        longest = tf.reduce_max(size)
        scaled = tf.round(tf.cast(size, tf.float64) * (most / tf.cast(longest, tf.float64)))
        smaller = tf.maximum(tf.cast(scaled, tf.int32), 1)
        return tf.cond(
            longest > most,
            lambda: (
                encode_stretched(data, jpeg_only=jpeg_only, orientation=turn, size=smaller, quality=quality),
                tf.constant(1, tf.int64),
            ),
            lambda: (data, turn),
        )

    def _as_decoded(self, data: tf.Tensor, *, jpeg_only: bool, orientation: tf.Tensor | None) -> tf.Tensor:
        """The image as a decoded record holds it, or as the model of embeddings takes it."""
        stored = self.stored
        if stored.image_size is None:
            image = decode_upright(data, jpeg_only=jpeg_only, orientation=orientation, exact=True)
        else:
            fit = Resize(stored.image_size, stored.resize or self._own_resize, antialias=True)
            image = fit.decode(data, jpeg_only=jpeg_only, orientation=orientation)
        image = as_channels(image, stored.channels)
        if stored.payload == "embedding" and stored.scale != "uint8":
            return scale_pixels(tf.cast(image, tf.float32), stored.scale)
        if stored.payload == "embedding" or stored.dtype == "uint8":
            return image
        return tf.cast(tf.cast(image, tf.float32) / np.float32(255), stored.dtype)

    @property
    def _own_resize(self) -> str:
        """How a new file gets the size of images that came without files."""
        return self.task.resize if isinstance(self.task.resize, str) else RESIZES[0]


def prepare_like(like: str | os.PathLike[str] | Manifest | Mapping[str, Any] | None, task: Task) -> Preparation:
    """The preparation of files for a dataset.

    Args:
      like: the dataset, by its folder or manifest; a Stored as plain values; None: raw records.
      task: the arguments of make_dataset.

    Raises:
      FileNotFoundError: there is no such dataset.
      ValueError: an argument does not fit the dataset.
    """
    if like is None:
        stored = Stored()
    elif isinstance(like, Mapping):
        stored = Stored.from_json(like)
    else:
        stored = Stored.of(like if isinstance(like, Manifest) else load_manifest(like))
    if stored.payload == "embedding" and (task.image_size is not None or isinstance(task.resize, Crop)):
        raise UsageError(
            f"image_size is {task.image_size}, but the model of the embeddings takes {stored.image_size}: leave it out."
        )
    return Preparation(stored, task)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
