"""Searches for an augmentation, trains with what was found, and says whether it was worth it. Takes tfpipe[search].

python examples/search.py photos_tfrecord --image_size 64 --trials 60 --steps 400
"""

import argparse

import tfpipe
from tfpipe import augment, search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--image_size", type=int, default=16)
    parser.add_argument("--trials", type=int, default=6, help="trainings of the search")
    parser.add_argument("--steps", type=int, default=20, help="of each small training")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each row of the comparison")
    arguments = parser.parse_args()

    train, validation, test = ((arguments.dataset, split) for split in ("train", "validation", "test"))
    size, slots = arguments.image_size, search.space.Slots(ops=("rotate", "brightness"))
    training = search.Training(steps=arguments.steps, batch_size=16)
    result = search.bayesian(
        train, validation, trials=arguments.trials, space=slots, training=training, image_size=size
    )
    print(result)
    result.policy.save("policy.json")

    transforms = [augment.policy("policy.json")]
    batches = tfpipe.make_dataset(arguments.dataset, batch_size=16, image_size=size, transforms=transforms)
    images, labels = next(iter(batches))
    print("a batch under the policy:", images.shape, labels.shape)

    compared = search.compare(
        {"searched": result.policy},
        train,
        test,
        seeds=arguments.seeds,
        baselines=("none", "flip_crop"),
        training=training,
        image_size=size,
    )
    print(compared)


if __name__ == "__main__":
    main()
