"""Reading on several hosts that train together.

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    train = strategy.distribute_datasets_from_function(
        lambda context: make_dataset("photos", batch_size=128, image_size=(224, 224), options=for_host(context))
    )
    model.fit(train, steps_per_epoch=..., epochs=10)

Every host seeks its own records: equally many batches for each, no record twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tfpipe.readoptions import ReadOptions

if TYPE_CHECKING:
    import tensorflow as tf


def for_host(context: tf.distribute.InputContext, options: ReadOptions | None = None) -> ReadOptions:
    """The options of one of several input pipelines: its number and how many there are.

    Args:
      context: what `Strategy.distribute_datasets_from_function` hands to its function.
      options: all other settings; None takes the defaults.
    """
    return replace(
        options or ReadOptions(),
        host_index=int(context.input_pipeline_id),
        host_count=int(context.num_input_pipelines),
    )
