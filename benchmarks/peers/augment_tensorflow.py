"""TensorFlow image by image, as the Model Garden does it: tf.switch_case over the operations inside ds.map, then batch.

Written for speed within that form: arithmetic where a look-up is slower, a nearest warp as one gather of pixels (a
third of what ImageProjectiveTransformV3 takes). Intra-op threads 1: one image is too small to share among threads.
"""

import os

os.environ["TF_NUM_INTRAOP_THREADS"] = "1"

import augment_policies
import numpy as np
import tensorflow as tf
from augment_turns import serve


def warp(image, matrix):
    """Nearest, 128 outside; `matrix` maps output to input pixels, row after row of 2x3."""
    height, width, channels = image.shape
    a, b, c, d, e, f = (tf.convert_to_tensor(entry, tf.float32) for entry in matrix)
    x, y = tf.range(width, dtype=tf.float32)[None], tf.range(height, dtype=tf.float32)[:, None]
    source_x = tf.cast(tf.floor(a * x + (b * y + (c + 0.5))), tf.int32)
    source_y = tf.cast(tf.floor(d * x + (e * y + (f + 0.5))), tf.int32)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    pixels = tf.concat([tf.reshape(image, [-1, channels]), tf.fill([1, channels], tf.constant(128, tf.uint8))], 0)
    return tf.gather(pixels, tf.where(inside, source_y * width + source_x, height * width))


def rotate(image, degrees):
    angle = degrees * np.pi / 180
    cos, sin, centre = tf.cos(angle), tf.sin(angle), (image.shape[0] - 1) / 2
    shift_x, shift_y = centre - cos * centre + sin * centre, centre - sin * centre - cos * centre
    return warp(image, [cos, -sin, shift_x, sin, cos, shift_y])


def blend(degenerate, image, factor):
    """The image, drawn towards `degenerate` by a factor below 1 and away from it by one above."""
    pixels = tf.cast(image, tf.float32)
    return tf.cast(tf.clip_by_value(degenerate + factor * (pixels - degenerate), 0.0, 255.0), tf.uint8)


def look_up(table, image):
    return tf.gather(table, tf.cast(image, tf.int32))


def as_table(values):
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def brightness(image, factor):
    return tf.cast(tf.minimum(tf.cast(image, tf.float32) * factor, 255.0), tf.uint8)


def contrast(image, factor):
    mean = tf.reduce_mean(tf.cast(image, tf.float32), [0, 1])
    return blend(tf.tensordot(mean, tf.constant([0.299, 0.587, 0.114]), 1), image, factor)


def color(image, factor):
    """One product with a 3x3 matrix: several times faster than a blend with a grey image that is broadcast."""
    grey = tf.constant(np.tile(np.array([[0.299], [0.587], [0.114]], np.float32), (1, 3)))
    matrix = factor * tf.eye(3) + (1 - factor) * grey
    mixed = tf.matmul(tf.reshape(tf.cast(image, tf.float32), [-1, 3]), matrix)
    return tf.reshape(as_table(mixed), image.shape)


def sharpness(image, factor):
    """Sums of shifted rows: faster than a depthwise convolution. The border stays."""
    height, width, channels = image.shape
    pixels = tf.reshape(tf.cast(image, tf.float32), [height, width * channels])
    inner = pixels[1:-1, channels:-channels]
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, : -2 * channels] + rows[:, channels:-channels] + rows[:, 2 * channels :]
    change = tf.pad((sums + 4 * inner) / 13 - inner, [[1, 1], [channels, channels]])
    return tf.reshape(as_table(pixels + (1 - factor) * change), image.shape)


def auto_contrast(image, _):
    low, high = tf.reduce_min(image, [0, 1]), tf.reduce_max(image, [0, 1])
    low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1), 1.0)
    return tf.cast(tf.cast(image, tf.float32) * scale - tf.where(high > low, low * scale, 0.0), tf.uint8)


def equalize(image, _):
    def one(channel):
        histogram = tf.math.bincount(tf.reshape(tf.cast(channel, tf.int32), [-1]), minlength=256, maxlength=256)
        last = histogram[tf.cast(tf.reduce_max(channel), tf.int32)]
        step = (tf.size(channel) - last) // 255
        table = (tf.cumsum(histogram, exclusive=True) + step // 2) // tf.maximum(step, 1)
        return tf.cond(step == 0, lambda: channel, lambda: look_up(as_table(tf.cast(table, tf.float32)), channel))

    return tf.stack([one(image[..., number]) for number in range(3)], -1)


def posterize(image, bits):
    shift = tf.cast(8 - tf.maximum(bits, 1), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def solarize(image, threshold):
    """255 - image is image ^ 255; a mask of 0 or 255 is faster than tf.where."""
    kept = tf.cast(image, tf.int32) < tf.cast(threshold, tf.int32)
    return tf.bitwise.bitwise_xor(image, tf.cast(kept, tf.uint8) - tf.constant(1, tf.uint8))


def solarize_add(image, addend):
    addend = as_table(addend)
    return tf.where(image < 128, tf.minimum(image, 255 - addend) + addend, image)


OPERATIONS = {
    "identity": lambda image, _: image,
    "shear_x": lambda image, slope: warp(image, [1.0, slope, 0.0, 0.0, 1.0, 0.0]),
    "shear_y": lambda image, slope: warp(image, [1.0, 0.0, 0.0, slope, 1.0, 0.0]),
    "translate_x": lambda image, part: warp(image, [1.0, 0.0, part * image.shape[1], 0.0, 1.0, 0.0]),
    "translate_y": lambda image, part: warp(image, [1.0, 0.0, 0.0, 0.0, 1.0, part * image.shape[0]]),
    "rotate": rotate,
    "brightness": brightness,
    "contrast": contrast,
    "color": color,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "equalize": equalize,
    "auto_contrast": auto_contrast,
    "invert": lambda image, _: 255 - image,
}


def any_of(entries):
    """An operation of `entries`, each as likely, at any of its values: image -> image."""
    longest = max(len(values) for _, values in entries)
    padded = np.array([np.resize(values, longest) for _, values in entries], np.float32)

    def apply(image):
        index = tf.random.uniform([], 0, len(entries), tf.int32)
        value = tf.constant(padded)[index, tf.random.uniform([], 0, longest, tf.int32)]
        branches = [lambda name=name: OPERATIONS[name](image, value) for name, _ in entries]
        return tf.ensure_shape(tf.switch_case(index, branches), image.shape)

    return apply


def one_pair(image):
    """AutoAugment: a pair of operations, each applied with its probability."""

    def step(some, entry, probability):
        changed = any_of([entry])
        return tf.cond(tf.random.uniform([]) < probability, lambda: changed(some), lambda: some)

    def both(pair):
        return step(step(image, *pair[0]), *pair[1])

    pairs = augment_policies.auto_augment()
    index = tf.random.uniform([], 0, len(pairs), tf.int32)
    return tf.switch_case(index, [lambda pair=pair: both(pair) for pair in pairs])


def policy(task):
    if task == "auto_augment":
        return one_pair
    if task == "trivial_augment":
        return any_of(augment_policies.trivial_augment())
    once = any_of(augment_policies.rand_augment())
    return lambda image: once(once(image))


def stream(images, batch_size, task):
    photographs = tf.data.Dataset.from_tensor_slices(images).repeat()
    augmented = photographs.map(policy(task), num_parallel_calls=2, deterministic=True)
    return iter(augmented.batch(batch_size).prefetch(2))


if __name__ == "__main__":
    serve(stream, op_per="image")
