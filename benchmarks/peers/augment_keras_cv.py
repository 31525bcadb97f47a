"""keras_cv.layers.RandAugment inside ds.map, as its guide has it: it walks the images of a batch one by one."""

import keras_cv
from augment_tfdata import whole_batches
from augment_turns import serve


def stream(images, batch_size, task):
    layers = {
        "rand_augment": lambda: keras_cv.layers.RandAugment(
            value_range=(0, 255), augmentations_per_image=2, magnitude=0.3, magnitude_stddev=0.0
        )
    }
    layer = layers[task]()
    augmented = whole_batches(images, batch_size).map(layer, num_parallel_calls=2)
    return iter(augmented.prefetch(2))


if __name__ == "__main__":
    serve(stream, op_per="image")
