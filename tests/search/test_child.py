"""The child: what it is trained on, and that no policy costs a new program."""

import keras
import numpy as np
import pytest
import searched
import tensorflow as tf

from tfpipe import augment
from tfpipe.augment.deepaugment import DEEP_AUGMENT
from tfpipe.augment.ops.op import Choices
from tfpipe.augment.ops.table import OPS
from tfpipe.errors import UsageError
from tfpipe.policy import Policy, Schedule, Segment, load_schedule
from tfpipe.search import child as child_module
from tfpipe.search import space
from tfpipe.search.child import Child, deepaugment, ops_of, run_child, small
from tfpipe.search.settings import Training, open_data

DATA, VALIDATION = open_data(searched.TRAIN, searched.VALIDATION)


@pytest.fixture(scope="module")
def child():
    ops, stages = ops_of(searched.SPACE)
    return Child(searched.tiny, DATA, ops=ops, num_stages=stages, training=searched.TRAINING)


def run(child, policy, **changes):
    settings = {"seed": 1, "draws": (2,)} | changes
    return run_child(child, policy, VALIDATION, searched.TRAINING, **settings)


def test_policies_are_operands_of_one_program(child):
    for op in searched.SPACE.screened:
        run(child, searched.SPACE.policy(searched.SPACE.alone(op, 0.7)))
    run(child, None)
    assert child.num_traces == 1


def test_an_outcome_is_a_pure_function_of_policy_and_seeds(child):
    policy = searched.SPACE.policy(searched.SPACE.alone("invert", 0.7))
    first = run(child, policy).accuracies
    run(child, None, seed=5)
    assert run(child, policy).accuracies == first
    assert run(child, policy, seed=7).accuracies != first
    assert run(child, policy, draws=(3,)).accuracies != first


def test_the_child_is_trained_on_what_the_transform_gives_in_production(child):
    policy = Policy("mine", searched.SPACE.policy(searched.SPACE.alone("solarize", 1.0)).sub_policies, table="uniform")
    transform, seed = augment.policy(policy), np.array([5, 6], np.int32)
    ops, values, seeds = (part[0] for part in child.draw(transform, seed, 1))
    images = tf.constant(DATA.images[: searched.TRAINING.batch_size])
    ours = augment.apply_choices(images, Choices(ops, values, seeds), child.ops, fill=0)
    theirs = transform({"image": images}, seed)["image"]
    np.testing.assert_array_equal(ours, theirs)
    assert (ours.numpy() != images.numpy()).any()


def test_a_state_goes_on_exactly_where_it_was_taken(child):
    child.reset(3)
    child.train(None, 4, np.random.default_rng(1))
    state = child.state()
    child.train(None, 4, np.random.default_rng(2))
    expected = child.state()
    child.restore(state)
    child.train(None, 4, np.random.default_rng(2))
    for one, other in zip(child.state(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_reward_is_the_mean_of_the_last_accuracies_and_hopeless_trainings_end(child):
    whole = run(child, None, on_epoch=lambda epoch, accuracy: False)
    assert len(whole.accuracies) == 4
    assert whole.reward == pytest.approx(np.mean(whole.accuracies[-2:]))
    assert (whole.steps, whole.pruned) == (12, False)
    cut = run(child, None, on_epoch=lambda epoch, accuracy: epoch == 1)
    assert (cut.steps, cut.pruned, len(cut.accuracies)) == (6, True, 2)


@pytest.mark.parametrize("name", ["three ops", "rcifar10", "rsvhn"])
def test_a_schedule_gives_each_part_of_the_training_its_policy(name):
    """The published ones are nightly: their fifteen ops take a minute to compile."""
    walk = searched.WALK
    vectors = (walk.idle, walk.alone("invert", 1.0))
    own = Schedule("own", tuple(Segment(2, walk.policy(v, name=f"own/{i}")) for i, v in enumerate(vectors)))
    schedule = own if name == "three ops" else load_schedule(name)
    training = Training(steps=4, batch_size=16, epochs=4, last=1, validation_images=8, fill=0)
    colours = open_data((np.repeat(searched.TRAIN[0], 3, axis=-1), searched.TRAIN[1]))[0]
    ops, stages = ops_of(schedule)
    assert {op.name for op in ops} == {"identity", *(walk.ops if name == "three ops" else space.PBA_OPS)}
    data = DATA if name == "three ops" else colours
    one = Child(searched.tiny, data, ops=ops, num_stages=stages, training=training)
    drawn = []
    original = one.draw
    one.draw = lambda *arguments: drawn.append(np.array(original(*arguments)[0])) or original(*arguments)
    assert run_child(one, schedule, data, training, seed=1, draws=(1,)).steps == 4
    assert one.num_traces == 1
    # Both published schedules begin with no augmentation, and end with much.
    assert not drawn[0].any()
    assert drawn[-1].any()


@pytest.mark.parametrize("name", ["rcifar10", "rsvhn"])
@pytest.mark.parametrize("parts", [1, 4, 10, 200, 320])
def test_a_part_has_the_policy_that_the_schedule_has_where_it_begins(name, parts):
    schedule = load_schedule(name)
    made = child_module._by_epoch(schedule, parts)
    names = [transform.arguments["source"].name for transform in made]
    assert names == [schedule.policy_at(part * schedule.num_epochs // parts).name for part in range(parts)]
    assert len(set(names)) >= min(parts, len(schedule.segments)) // 2


def test_the_global_generators_are_left_as_they_were(child):
    import random

    random.seed(4)
    np.random.seed(4)
    expected = random.random(), np.random.rand()
    random.seed(4)
    np.random.seed(4)
    child.reset(12345)
    assert (random.random(), np.random.rand()) == expected


def test_the_children_of_the_house():
    assert deepaugment((32, 32, 3), 10).count_params() == 1_250_858
    assert small((28, 28, 1), 10).output_shape == (None, 10)
    assert small((96, 64, 3), 4).output_shape == (None, 4)


def test_a_compiled_model_keeps_its_optimizer_and_loss():
    def build(shape, num_classes):
        model = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
        model.add(keras.layers.Dense(num_classes, activation="softmax"))
        model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy")
        return model

    one = Child(build, DATA, ops=(OPS["identity"],), num_stages=1, training=searched.TRAINING)
    one.reset(1)
    before = one.state()
    one.train(None, 3, np.random.default_rng(1))
    # A learning rate of 0: nothing but the count of steps has changed.
    changed = [i for i, (a, b) in enumerate(zip(before, one.state(), strict=True)) if not np.array_equal(a, b)]
    assert len(changed) == 1


def test_the_names_of_the_spaces_are_those_of_the_ops():
    assert set(space.DEEPAUGMENT_OPS) == set(DEEP_AUGMENT)
    assert set(space.UNIFORM_OPS) <= set(OPS)
    without = {name for name in space.UNIFORM_OPS if OPS[name].num_values == 0}
    assert without <= space._WITHOUT_STRENGTH
    assert not {op for op in space.GRAY_OPS if OPS[op].channels == ()} & {"color", "hue", "grayscale"}


WRONG = {
    "Unknown child 'large'; known: ": {"build": "large"},
    "child is 3; it takes a name or a function": {"build": 3},
    "The child has 7 outputs; there are 2 classes": {"build": lambda shape, _: searched.tiny(shape, 7)},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_child_is_refused(sentence):
    with pytest.raises(UsageError, match=sentence):
        Child(WRONG[sentence]["build"], DATA, ops=(OPS["identity"],), num_stages=1, training=searched.TRAINING)


def test_a_transform_of_other_ops_is_refused(child):
    with pytest.raises(UsageError, match=r"not the ops \['rotate'\], which a transform draws"):
        run(child, augment.op("rotate", (0, 9)))
