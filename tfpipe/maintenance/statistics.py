"""Mean and standard deviation of the pixels of a raw dataset, whose images conversion did not decode."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfpipe.format.example import decode_record
from tfpipe.format.manifest import Manifest
from tfpipe.images.moments import Moments, image_moments
from tfpipe.reader.damage import naming_damage
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.records import read_in_order


def dataset_moments(manifest: Manifest, *, on_image: Callable[[], object] = lambda: None) -> Moments:
    """The moments of all images of all splits, decoded exactly, at their stored size.

    `on_image` is called after each of them. They equal those that `tfpipe convert --verify decode` records.

    Raises:
      DataError: an image can't be read or decoded; its shard, record and key are named.
    """
    schema = manifest.schema.select(("image", "orientation", "shape"))

    def decode(serialized: tf.Tensor) -> tf.Tensor:
        return decode_record(schema, serialized, exact=True)["image"]

    total = Moments()
    for name, split in manifest.splits.items():
        if split.num_records:
            images = read_in_order(manifest, name, ReadOptions()).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            with naming_damage(manifest, name):
                for image in images.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
                    total = total.plus(image_moments(image))
                    on_image()
    return total
