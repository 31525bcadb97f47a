"""Images and masks cut into overlapping tiles, labels of the tiles, and tiles stitched back to images.

    cut = Tiles((256, 256), stride=(128, 128), label="majority")
    train = tfpipe.make_dataset("scenes", batch_size=4, labels=None, transforms=[cut])     # batches of 4 * n tiles

    grid = cut.grid(images.shape[1:3])                       # the same tiles at inference
    predicted = grid.stitch(model.predict(grid.cut(images)))  # [B, H, W, classes], means where tiles overlap

A small object in a large image is a few pixels of what a classifier sees; in a tile it is much of it, and a smaller
stride makes more tiles to train on. Counting objects is a regression on tiles: `density_tiles` gives windows and the
sum of the density in the middle of each, and the sum of the predictions is the count.

All functions take [B, H, W, C] with H, W and C known, work eagerly and inside a dataset, and keep the dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from tfpipe.images.sizes import as_size

LABELS = ("any", "majority", "sum")
Size = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The positions of an image's tiles: rows of tiles from its upper left corner on.

    Attributes:
      image: (height, width) of the images, or one number for squares; the other sizes likewise.
      tile: (height, width) of a tile.
      stride: (down, right), pixels from one tile to the next.
      whole: append a last tile at the lower or right edge where strides leave pixels over, so that every pixel is in
        a tile; otherwise those pixels are left out.
    """

    image: Size
    tile: Size
    stride: Size
    whole: bool = True

    def __post_init__(self) -> None:
        for name in ("image", "tile", "stride"):
            object.__setattr__(self, name, as_size(getattr(self, name), name))
        if self.tile[0] > self.image[0] or self.tile[1] > self.image[1]:
            raise ValueError(f"The tile {self.tile} is larger than the image {self.image}.")
        if self.whole and (self.stride[0] > self.tile[0] or self.stride[1] > self.tile[1]):
            raise ValueError(
                f"The stride {self.stride} is longer than the tile {self.tile}: pixels in between would be in no tile; "
                "whole=False allows that."
            )

    @property
    def rows(self) -> tuple[int, ...]:
        """The first image row of each row of tiles."""
        return _starts(self.image[0], self.tile[0], self.stride[0], self.whole)

    @property
    def columns(self) -> tuple[int, ...]:
        """The first image column of each column of tiles."""
        return _starts(self.image[1], self.tile[1], self.stride[1], self.whole)

    @property
    def num_tiles(self) -> int:
        """The number of tiles of one image."""
        return len(self.rows) * len(self.columns)

    def cut(self, images: tf.Tensor) -> tf.Tensor:
        """The tiles of images or masks, row by row.

        Args:
          images: [B, H, W, C] of any dtype, a tensor or an array, H and W as the grid's image.

        Returns:
          [B * num_tiles, h, w, C]: the tiles of the first image, then those of the second, ...
        """
        images = tf.convert_to_tensor(images)
        self._check(images)
        strips = tf.gather(images, _windows(self.rows, self.tile[0]), axis=1)  # [B, rows, h, W, C]
        tiles = tf.gather(strips, _windows(self.columns, self.tile[1]), axis=3)  # [B, rows, h, columns, w, C]
        return tf.reshape(tf.transpose(tiles, [0, 1, 3, 2, 4, 5]), [-1, *self.tile, images.shape[-1]])

    def stitch(self, tiles: tf.Tensor) -> tf.Tensor:
        """Images from tiles in the order of `cut`; where tiles overlap, their mean. It is the inverse of `cut`.

        Args:
          tiles: [B * num_tiles, h, w, C], integers or floats: a model's output for each pixel, or the tiles of `cut`.

        Returns:
          [B, H, W, C] of the same dtype: means of integers are rounded half up, and pixels in no tile are 0. Sums are
          taken in float64.
        """
        tiles = tf.convert_to_tensor(tiles)
        channels = tiles.shape[-1]
        shape = [-1, len(self.rows), len(self.columns), *self.tile, channels]
        parts = tf.transpose(tf.reshape(tf.cast(tiles, tf.float64), shape), [0, 1, 3, 2, 4, 5])
        # Each pixel of a tile belongs to one image pixel: both axes are summed by segment, sequentially.
        strips = _sum_along(parts, (3, 4), self.columns, self.tile[1], self.image[1])
        sums = _sum_along(strips, (1, 2), self.rows, self.tile[0], self.image[0])
        counts = tf.tensordot(
            tf.cast(_cover(self.rows, self.tile[0], self.image[0]), tf.float64),
            tf.cast(_cover(self.columns, self.tile[1], self.image[1]), tf.float64),
            axes=0,
        )
        means = tf.math.divide_no_nan(sums, counts[None, :, :, None])
        return tf.cast(tf.floor(means + 0.5) if tiles.dtype.is_integer else means, tiles.dtype)

    def label(self, masks: tf.Tensor, rule: str) -> tf.Tensor:
        """The label of each tile of the masks.

        Args:
          masks: [B, H, W, C]: a class or density in each pixel and channel.
          rule: "any": the largest value in the tile, so 1 where any pixel of a 0-1 mask is 1; "majority": the value of
            most pixels, the smallest of equally frequent ones (integers in [0, 255]); "sum": the sum of the values,
            such as the number of objects in a density.

        Returns:
          [B * num_tiles, C]; of the masks' dtype, but float32 for "sum".
        """
        if rule not in LABELS:
            raise ValueError(f"Unknown label {rule!r}; known: {list(LABELS)}.")
        masks = tf.convert_to_tensor(masks)
        tiles = self.cut(masks)
        if rule == "any":
            return tf.reduce_max(tiles, [1, 2])
        if rule == "sum":
            return tf.reduce_sum(tf.cast(tiles, tf.float32), [1, 2])
        if not masks.dtype.is_integer:
            raise ValueError(f"label='majority' counts integers; the mask has {masks.dtype.name}.")
        return _most_frequent(tiles)

    def _check(self, images: tf.Tensor) -> None:
        if images.shape.rank != 4 or tuple(images.shape[1:3]) != tuple(self.image):
            raise ValueError(f"The grid is for images [B, {self.image[0]}, {self.image[1]}, C], not {images.shape}.")


@dataclass(frozen=True)
class Tiles:
    """A transform for make_dataset(labels=None, ...): batches of images become batches of tiles.

    Attributes:
      tile: (height, width), or one number for a square.
      stride: (down, right), or one number for both; None takes half a tile, so that an object that one tile cuts is
        whole in another.
      label: how a tile's `label` comes from its `mask`: "any", "majority" or "sum", see Grid.label; None repeats every
        other feature of the image for each of its tiles.
      whole: see Grid.
    """

    tile: Size
    stride: Size | None = None
    label: str | None = None
    whole: bool = True

    def __post_init__(self) -> None:
        if self.label not in (*LABELS, None):
            raise ValueError(f"Unknown label {self.label!r}; known: {list(LABELS)} or None.")
        object.__setattr__(self, "tile", as_size(self.tile, "tile"))
        if self.stride is not None:
            object.__setattr__(self, "stride", as_size(self.stride, "stride"))

    def grid(self, image: Size) -> Grid:
        """The tiles of images of one size, for cutting and stitching at inference."""
        stride = self.stride or (max(1, self.tile[0] // 2), max(1, self.tile[1] // 2))
        return Grid(as_size(image, "image"), self.tile, stride, self.whole)

    def __call__(self, batch: dict[str, tf.Tensor], seed: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The tiles of a batch, image by image.

        Args:
          batch: `image` [B, H, W, C], and `mask` [B, H, W, C'] where a label is asked for; other features [B, ...].
          seed: not used; every transform gets one.

        Returns:
          The same features with B * num_tiles in place of B; `label` [B * num_tiles, C'] where asked for.
        """
        grid = self.grid(batch["image"].shape[1:3])
        tiles = {
            name: grid.cut(value) if name in ("image", "mask") else tf.repeat(value, grid.num_tiles, axis=0)
            for name, value in batch.items()
        }
        if self.label is not None:
            if "mask" not in batch:
                raise ValueError(f"label={self.label!r} needs a mask; the batch has {sorted(batch)}.")
            tiles["label"] = grid.label(batch["mask"], self.label)
        return tiles


def density_tiles(images: tf.Tensor, density: tf.Tensor, *, window: int, patch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The windows that a model sees, and the sum of the density in the patch at the middle of each.

    Patches do not overlap and cover the image; a window is its patch with the surroundings that a model needs,
    black beyond the image (TensorFlow's SAME padding, stride `patch`). So the labels of an image sum to its density,
    and the predictions to its count.

    Args:
      images: [B, H, W, C].
      density: [B, H, W, 1]; its sum over an image is the count.
      window: side of a window, in pixels; at least the patch.
      patch: side of a patch; it must divide H and W.

    Returns:
      Windows [B * n, window, window, C] and labels float32 [B * n], n = (H / patch) * (W / patch), row by row.
    """
    height, width = images.shape[1:3]
    if not 1 <= patch <= window or height % patch or width % patch:
        raise ValueError(
            f"patch is {patch}, window {window}: a patch must divide the image's {height} x {width}, "
            "and the window hold it."
        )
    if tuple(density.shape[1:]) != (height, width, 1):
        raise ValueError(f"density is {density.shape}; for these images it must be [B, {height}, {width}, 1].")
    before = (window - patch) // 2
    after = window - patch - before
    padded = tf.pad(images, [[0, 0], [before, after], [before, after], [0, 0]])
    windows = Grid((height + window - patch, width + window - patch), (window, window), (patch, patch)).cut(padded)
    labels = Grid((height, width), (patch, patch), (patch, patch)).label(density, "sum")
    return windows, labels[:, 0]


# ---- along one axis


def _starts(length: int, tile: int, stride: int, whole: bool) -> tuple[int, ...]:
    starts = tuple(range(0, length - tile + 1, stride))
    return (*starts, length - tile) if whole and starts[-1] != length - tile else starts


def _windows(starts: tuple[int, ...], tile: int) -> tf.Tensor:
    """The indices in each window: int32 [number of windows, tile]."""
    return tf.constant(starts)[:, None] + tf.range(tile)


def _sum_along(values: tf.Tensor, axes: Size, starts: tuple[int, ...], tile: int, length: int) -> tf.Tensor:
    """Two neighbouring axes, (window, index in it), summed into one of the image's length."""
    first = axes[0]
    order = [*axes, *(axis for axis in range(len(values.shape)) if axis not in axes)]
    moved = tf.transpose(values, order)
    flat = tf.reshape(moved, tf.concat([[len(starts) * tile], tf.shape(moved)[2:]], 0))
    sums = tf.math.unsorted_segment_sum(flat, tf.reshape(_windows(starts, tile), [-1]), length)
    rest = list(range(1, len(values.shape) - 1))
    return tf.transpose(sums, [*rest[:first], 0, *rest[first:]])


def _cover(starts: tuple[int, ...], tile: int, length: int) -> tf.Tensor:
    """The number of windows that each index is in: int32 [length]."""
    return tf.math.bincount(tf.reshape(_windows(starts, tile), [-1]), minlength=length, maxlength=length)


def _most_frequent(tiles: tf.Tensor) -> tf.Tensor:
    """The most frequent value in [0, 255] of each tile and channel: [N, C]."""
    n, channels = tf.shape(tiles)[0], tiles.shape[-1]
    rows = tf.reshape(tf.transpose(tiles, [0, 3, 1, 2]), [n * channels, -1])
    counts = tf.math.bincount(tf.cast(rows, tf.int32), minlength=256, maxlength=256, axis=-1)
    return tf.cast(tf.reshape(tf.argmax(counts, 1), [n, channels]), tiles.dtype)
