"""The images of third-party records: files, pixels in one bytes value, or lists of floats; and the sizes of the latter.

stats = ImageStats("image_raw", find_sizes(sample))
for features in parsed_records:
stats.add(features)
feature = stats.feature()                      # Feature("image", "uint8", (28, 28, 1), "pixels", stored_as="image_raw")
image_array(feature, stats.sizes, features)    # uint8 [28, 28, 1]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfpipe.errors import UsageError
from tfpipe.format.schema import Feature
from tfpipe.images.probe import NotAnImage, probe

FeatureValues = list[bytes] | np.ndarray
ParsedRecord = Mapping[str, FeatureValues]
Size = tuple[int, int, int | None]

# The features that tell the size of an image without a header, by the names that writers give them.
SHAPE_NAMES = ("shape", "image/shape", "image_shape", "img_shape")
_SIDES: dict[str, tuple[str, ...]] = {
    "height": ("height", "image/height", "image_height", "img_height", "rows", "h"),
    "width": ("width", "image/width", "image_width", "img_width", "cols", "columns", "w"),
    "depth": ("depth", "image/depth", "channels", "image/channels", "image_channels", "num_channels", "channel", "c"),
}
# The dtype of pixels in one bytes value, by their bytes per channel.
PIXEL_DTYPES = {1: "uint8", 2: "float16", 4: "float32"}
# Whole numbers of 16 and 32 bits, read as floats, are far below this or no numbers at all.
_LEAST_FLOAT, _MOST_FLOAT = 1e-6, 1e6
HOW_TO_SAY = "--schema FILE.json says what the features are (schema= in Python; docs/sources.md has an example)"


@dataclass(frozen=True)
class SizeNames:
    """The stored names of the features that tell an image's size; None where there is none."""

    shape: str | None = None
    height: str | None = None
    width: str | None = None
    depth: str | None = None

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of height, width and, where there is one, depth; () where the sides are not stored."""
        if self.height is None or self.width is None:
            return ()
        return (self.height, self.width, *([self.depth] if self.depth else []))

    def size_in(self, features: ParsedRecord) -> Size | None:
        """Height, width and channels, None where these are not stored, of a record's image; None without a size."""
        values = _ints(features, self.shape)
        if len(values) not in (2, 3):
            values = [number for name in self.sides for number in _ints(features, name)[:1]]
        if len(values) not in (2, 3) or min(values) < 1:
            return None
        return values[0], values[1], values[2] if len(values) == 3 else None


def _ints(features: ParsedRecord, name: str | None) -> list[int]:
    values = features.get(name or "", [])
    return [] if isinstance(values, list) or values.dtype != np.int64 else values.tolist()


def find_sizes(sample: Sequence[ParsedRecord]) -> SizeNames:
    """The features that tell the sizes of images, in all records of a sample."""

    def first(names: Sequence[str], counts: tuple[int, ...]) -> str | None:
        fits = (name for name in names if all(len(_ints(record, name)) in counts for record in sample))
        return next(fits, None)

    return SizeNames(first(SHAPE_NAMES, (2, 3)), *(first(names, (1,)) for names in _SIDES.values()))


@dataclass
class ImageStats:
    """How the images of records are stored, seen one record at a time.

    Attributes:
      stored: the name of the feature.
      sizes: the features that tell their sizes.
      upright: whether the records store the EXIF orientation, which the reader then applies.
      num_turned: image files with an EXIF orientation.
      num_unreadable: records whose image no decoder takes.
      unreadable: the reason, for the first of them.
      low, high: the least and the largest value of float images.
    """

    stored: str
    sizes: SizeNames
    upright: bool = False
    num_turned: int = 0
    num_unreadable: int = 0
    unreadable: str | None = None
    low: float = math.inf
    high: float = -math.inf
    _formats: set[str] = field(default_factory=set)
    _shapes: set[tuple[int, ...]] = field(default_factory=set)
    _item_bytes: set[int] = field(default_factory=set)
    _has_lists: bool = False
    _are_floats: bool = True

    def add(self, features: ParsedRecord) -> None:
        """Adds the image of a record.

        Raises:
          ValueError: it is a list of floats whose number does not fit its size.
        """
        image = features[self.stored]
        if isinstance(image, list):
            try:
                self._add_file(image[0])
            except NotAnImage as error:
                self._add_pixels(image[0], self.sizes.size_in(features), str(error))
            return
        shape = _whole_shape(len(image), self.sizes.size_in(features))
        if shape is None:
            size = self.sizes.size_in(features)
            raise UsageError(f"its image has {len(image)} floats, its shape is {size or 'not stored'}; {HOW_TO_SAY}")
        self._has_lists = True
        self._add_range(image)
        self._add_shape(shape)

    def _add_file(self, data: bytes) -> None:
        header = probe(data)
        self._formats.add(header.format)
        self.num_turned += header.orientation > 1
        self._add_shape((*(header.upright_size if self.upright else (header.height, header.width)), 3))

    def _add_pixels(self, data: bytes, size: Size | None, complaint: str) -> None:
        shape, item = _pixel_shape(len(data), size)
        if item not in PIXEL_DTYPES:
            self.num_unreadable += 1
            if self.unreadable is None:
                told = "no feature tells the size of pixels" if size is None else f"the size of the image is {size}"
                self.unreadable = f"{complaint.rstrip('.')} ({len(data):,} bytes; {told})"
            return
        self._item_bytes.add(item)
        self._add_shape(shape)
        if item > 1:
            values = np.frombuffer(data, f"<f{item}")
            self._are_floats &= _is_float(values)
            self._add_range(values)

    def _add_range(self, values: np.ndarray) -> None:
        if len(values):
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def _add_shape(self, shape: tuple[int, ...]) -> None:
        # Two sizes are enough to show that they differ; every number of channels is kept.
        if len(self._shapes) < 2 or shape[2:] not in {known[2:] for known in self._shapes}:
            self._shapes.add(shape)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes that all images have; None for those that differ."""
        if len(self._shapes) == 1:
            return next(iter(self._shapes))
        channels = {shape[2] for shape in self._shapes}
        return (None, None, channels.pop() if len(channels) == 1 else None)

    def feature(self) -> Feature:
        """The feature of all images.

        Raises:
          ValueError: they are stored in several ways, or in one that can't be told.
        """
        stored_as = None if self.stored == "image" else self.stored
        kinds = (bool(self._formats), bool(self._item_bytes), self._has_lists)
        if kinds == (True, False, False):
            codec = "jpeg" if self._formats == {"jpeg"} else "image"
            return Feature("image", "uint8", self.shape, codec, None, stored_as)
        if kinds == (False, False, True):
            return Feature("image", "float32", self.shape, "plain", None, stored_as)
        if kinds == (False, True, False) and len(self._item_bytes) == 1:
            item = next(iter(self._item_bytes))
            if item == 1 or (self._are_floats and not (item == 2 and not self._is_unit)):
                return Feature("image", PIXEL_DTYPES[item], self.shape, "pixels", None, stored_as)
            raise UsageError(
                f"The pixels under {self.stored!r} have {item} bytes each: floats of {8 * item} bits, or whole "
                f"numbers, which tfpipe reads of 8 bits only; {HOW_TO_SAY}."
            )
        raise UsageError(
            f"The images under {self.stored!r} are neither files, nor floats or pixels with a shape: "
            f"{self.unreadable or 'they are stored in several ways'}; {HOW_TO_SAY}."
        )

    @property
    def _is_unit(self) -> bool:
        return self.low >= 0 and 1 / 255 <= self.high <= 1

    @property
    def float_range(self) -> tuple[float, float] | None:
        """The least and the largest value of float images where they are not in [0, 1]; else None."""
        return (self.low, self.high) if self.low <= self.high and (self.low < 0 or self.high > 1) else None


def _is_float(values: np.ndarray) -> bool:
    """Whether bytes read as floats are some: all finite, none absurdly large, and not all next to nothing."""
    most = float(np.abs(values).max()) if np.isfinite(values).all() else math.inf
    return most == 0 or _LEAST_FLOAT <= most <= _MOST_FLOAT


def _whole_shape(count: int, size: Size | None) -> tuple[int, int, int] | None:
    """The shape of an image of so many values; None where they do not fit the size."""
    if size is None:
        return None
    height, width, channels = size
    channels = count // (height * width) if channels is None else channels
    return (height, width, channels) if channels and height * width * channels == count else None


def _pixel_shape(num_bytes: int, size: Size | None) -> tuple[tuple[int, ...], int]:
    """The shape of pixels in one bytes value, and the bytes of each of them; 0 where they do not fit the size."""
    if size is None or num_bytes == 0:
        return (), 0
    height, width, channels = size
    if channels is None:
        # Of 2, 4 or 6 bytes a pixel nothing tells whether they are channels or parts of a number.
        channels = num_bytes // (height * width)
        return ((height, width, channels), 1) if channels in (1, 3) and num_bytes % (height * width) == 0 else ((), 0)
    count = height * width * channels
    return ((height, width, channels), num_bytes // count) if num_bytes % count == 0 else ((), 0)


def image_array(feature: Feature, sizes: SizeNames, features: ParsedRecord) -> np.ndarray:
    """The pixels of a record whose image is no file: [H, W, C] in the feature's dtype.

    Raises:
      ValueError: their number does not fit the size.
    """
    values = features.get(feature.stored_name, [])
    if isinstance(values, list):
        data = values[0] if len(values) == 1 else b""
        item = np.dtype(feature.dtype).itemsize
        if len(data) % item:
            raise UsageError(f"its {len(data):,} bytes are no whole number of {feature.dtype}")
        values = np.frombuffer(data, np.dtype(feature.dtype).newbyteorder("<"))
    known = feature.shape
    whole = None if len(known) != 3 or None in known else (int(known[0] or 0), int(known[1] or 0), known[2])
    size = whole or sizes.size_in(features)
    shape = _whole_shape(len(values), size)
    if shape is None:
        raise UsageError(
            f"its {len(values):,} values do not fit the size {size or 'of the image, which is not stored'}"
        )
    return values.reshape(shape)
