"""The files of a dataset: schema, manifest, TFRecord framing, tf.train.Example. Only example.py loads TensorFlow."""
