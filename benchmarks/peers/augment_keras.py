"""keras.layers.RandAugment on whole batches: it runs every operation and keeps one, drawn for the batch.

factor=0.3 is magnitude 9 of 30. Compiled by tf.function and called batch after batch, so that TensorFlow's threads
share each batch; inside ds.map, two batches at a time, it was not clearly faster or slower.
"""

import keras
import tensorflow as tf
from augment_tfdata import whole_batches
from augment_turns import serve


def stream(images, batch_size, task):
    layers = {
        "rand_augment": lambda: keras.layers.RandAugment(
            value_range=(0, 255), num_ops=2, factor=0.3, interpolation="nearest", data_format="channels_last"
        )
    }
    layer = layers[task]()
    call = tf.function(lambda batch: layer(batch, training=True))
    return map(call, whole_batches(images, batch_size))


if __name__ == "__main__":
    serve(stream, op_per="batch")
