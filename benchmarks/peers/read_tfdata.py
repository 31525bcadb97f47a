"""Stock tf.data on the TFRecords that tfpipe wrote: plain, parallel, the book's structure; embeddings; decoded uint8.

python read_tfdata.py TASK FOLDER PASSES
"""

import glob

import reading
import tensorflow as tf

SIZE = (reading.SIDE, reading.SIDE)
AUTO = tf.data.AUTOTUNE
RAW = {"image": tf.io.FixedLenFeature([], tf.string), "label_int": tf.io.FixedLenFeature([], tf.int64)}


def files(folder, name):
    return sorted(glob.glob(f"{folder}/{name}/*.tfrecord")) * reading.copies


def parse(record, antialias=False):
    features = tf.io.parse_single_example(record, RAW)
    image = tf.image.resize(tf.io.decode_jpeg(features["image"], channels=3), SIZE, antialias=antialias)
    return tf.cast(tf.round(image), tf.uint8), tf.one_hot(features["label_int"], reading.CLASSES)


def sequential(dataset):
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def batched(dataset):
    return dataset.batch(reading.BATCH, drop_remainder=True)


def plain(folder):
    return sequential(batched(tf.data.TFRecordDataset(files(folder, "raw")).map(parse)))


def parallel(folder, decode=parse, name="raw"):
    records = tf.data.TFRecordDataset(files(folder, name), num_parallel_reads=AUTO).shuffle(1000)
    return batched(records.map(decode, AUTO)).prefetch(AUTO)


def free(folder):
    """The same with constants for images and labels."""
    constants = tf.zeros([*SIZE, 3], tf.uint8), tf.zeros([reading.CLASSES])

    def decode(record):
        with tf.control_dependencies([tf.strings.length(record)]):
            return tf.nest.map_structure(tf.identity, constants)

    return parallel(folder, decode)


def interleaved(names):
    halves = tf.constant(names[: len(names) // 2 * 2])
    halves = tf.reshape(halves, [2, -1])
    return tf.data.Dataset.range(2).interleave(
        lambda half: tf.data.TFRecordDataset(halves[half]), num_parallel_calls=AUTO
    )


def book(folder):
    """As flowers/ingest/tfrecords.py has it: halves interleaved, parse, preprocess, shuffle images, prefetch, batch."""

    def parse_only(record):
        features = tf.io.parse_single_example(
            record, {"image": tf.io.FixedLenFeature([], tf.string), "label_int": tf.io.FixedLenFeature([], tf.int64, 0)}
        )
        image = tf.image.convert_image_dtype(tf.io.decode_jpeg(features["image"], channels=3), tf.float32)
        return image, features["label_int"]

    def preprocess(image, label):
        image = tf.image.resize(image, SIZE)
        return tf.cast(tf.round(image * 255), tf.uint8), tf.one_hot(label, reading.CLASSES)

    images = interleaved(files(folder, "raw")).map(parse_only, AUTO).map(preprocess, AUTO)
    return batched(images.shuffle(200).prefetch(AUTO))


# ---- embeddings, decoded


def book_vector(record):
    """The book's parse: any length, sparse, made dense, reshaped."""
    features = tf.io.parse_single_example(
        record,
        {
            "embedding": tf.io.VarLenFeature(tf.float32),
            "label_int": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        },
    )
    vector = tf.reshape(tf.sparse.to_dense(features["embedding"]), [1280])
    return vector, tf.one_hot(features["label_int"], reading.CLASSES)


def book_vectors(folder, shuffle=0):
    vectors = interleaved(files(folder, "vectors")).map(book_vector, AUTO)
    return batched((vectors.shuffle(shuffle) if shuffle else vectors).prefetch(AUTO))


def plain_vectors(folder):
    return sequential(batched(tf.data.TFRecordDataset(files(folder, "vectors")).map(book_vector)))


def parse_pixels(record):
    features = tf.io.parse_single_example(record, RAW)
    image = tf.reshape(tf.io.decode_raw(features["image"], tf.uint8), [*SIZE, 3])
    return image, tf.one_hot(features["label_int"], reading.CLASSES)


def plain_uint8(folder):
    return sequential(batched(tf.data.TFRecordDataset(files(folder, "uint8")).map(parse_pixels)))


if __name__ == "__main__":
    reading.main(
        {
            "jpeg_plain": plain,
            "jpeg": parallel,
            "jpeg_book": book,
            "jpeg_free": free,
            "antialias": lambda folder: parallel(folder, lambda record: parse(record, True)),
            "vectors_plain": plain_vectors,
            "vectors": book_vectors,
            "vectors_shuffled": lambda folder: book_vectors(folder, 200),
            "uint8_plain": plain_uint8,
            "uint8": lambda folder: parallel(folder, parse_pixels, "uint8"),
        }
    )
