"""tfpipe: the transform on whole batches inside ds.map, two batches at a time, as make_dataset runs it."""

from augment_tfdata import numbered, whole_batches
from augment_turns import serve

from tfpipe import augment

POLICIES = {
    "rand_augment": lambda: augment.rand_augment(2, 9),
    "trivial_augment": augment.trivial_augment_wide,
    "auto_augment": augment.auto_augment,
}


def stream(images, batch_size, task):
    transform = POLICIES[task]()

    def augmented(batch, seed):
        return transform({"image": batch}, seed)["image"]

    return iter(numbered(whole_batches(images, batch_size)).map(augmented, num_parallel_calls=2).prefetch(2))


if __name__ == "__main__":
    serve(stream, op_per="image")
