"""What is stored on disk: schema, manifest, TFRecord framing, tf.train.Example. Only example.py loads TensorFlow."""
