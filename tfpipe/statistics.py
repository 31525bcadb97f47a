"""Mean and standard deviation of the pixels of a raw dataset, which conversion did not decode."""

from __future__ import annotations

import tensorflow as tf

from tfpipe.example import decode_record
from tfpipe.manifest import Manifest
from tfpipe.moments import Moments, image_moments
from tfpipe.schema import Schema


def dataset_moments(manifest: Manifest) -> Moments:
    """The moments of all images of all splits, decoded exactly, at their own size.

    Equal to what `tfpipe convert --verify decode` would have recorded.
    """
    features = [feature for feature in manifest.schema.features if feature.name in ("image", "orientation")]
    schema = Schema(manifest.schema.payload, tuple(features))
    paths = [str(manifest.shard_path(shard)) for split in manifest.splits.values() for shard in split.shards]
    images = tf.data.TFRecordDataset(paths).map(
        lambda serialized: decode_record(schema, serialized, exact=True)["image"], num_parallel_calls=tf.data.AUTOTUNE
    )
    total = Moments()
    for image in images.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        total = total.plus(image_moments(image))
    return total
