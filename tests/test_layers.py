"""Keras layers: inside a model, in Dataset.map, saved and loaded, in mixed precision, and on the JAX backend."""

import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpipe import augment, layers
from tfpipe.policy import Policy, Schedule, Segment, Step

SHAPE = (8, 8, 3)


def pictures(count=12):
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(np.uint8)


def labels(count=12):
    return np.eye(3, dtype=np.float32)[np.arange(count) % 3]


@augment.augmentation(range=(0.0, 1.0))
def shaded(images, values):
    return images // tf.constant(2, tf.uint8)


LAYERS = {
    "Augment": lambda: layers.Augment(
        [augment.one_of(["invert", augment.cutout(3)], p=[0.3, 0.7]), augment.random_resized_crop((4, 4))], seed=5
    ),
    "RandAugment": lambda: layers.RandAugment(2, 9, table="torchvision", excluded=["rotate"], seed=5, name="mine"),
    "TrivialAugmentWide": lambda: layers.TrivialAugmentWide(fill=(1, 2, 3)),
    "AutoAugment": lambda: layers.AutoAugment("svhn"),
    "PolicyAugment": lambda: layers.PolicyAugment(Policy("p", ((Step("rotate", 0.5, 0.5),),)), dtype="float16"),
    "PBA": lambda: layers.PBA("rcifar10", num_epochs=20, steps_per_epoch=100),
    "MixUp": lambda: layers.MixUp(0.4, per="batch"),
    "CutMix": lambda: layers.CutMix(),
    "Mosaic": lambda: layers.Mosaic(scale=(0.6, 0.9)),
    "CopyPaste": lambda: layers.CopyPaste(p=0.3, background=(0, 255)),
}


@pytest.fixture(params=list(LAYERS))
def layer(request):
    return LAYERS[request.param]()


def test_a_layer_survives_the_way_through_its_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert type(again) is type(layer)
    assert again.transforms == layer.transforms
    assert again.get_config() == layer.get_config()
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).name == layer.name


# What model.keras holds of the layer; saved models depend on every name in it.
SAVED = {
    "module": "tfpipe.layers",
    "class_name": "RandAugment",
    "registered_name": "tfpipe>RandAugment",
    "config": {
        "name": "mine",
        "dtype": {
            "class_name": "DTypePolicy",
            "config": {"name": "float32"},
            "module": "keras",
            "registered_name": None,
        },
        "seed": 5,
        "steps_per_epoch": None,
        "transforms": [
            {
                "kind": "tfpipe transform 1",
                "factory": "rand_augment",
                "arguments": {
                    "n": 2,
                    "m": 9,
                    "num_magnitude_bins": 31,
                    "table": "torchvision",
                    "fill": 128,
                    "interpolation": "nearest",
                    "ops": None,
                    "excluded": ["rotate"],
                    "weights": None,
                    "magnitude_noise": 0.0,
                    "max_translate_abs": None,
                    "max_translate_rel": None,
                    "form": "auto",
                    "check_values": False,
                },
            }
        ],
    },
}


def test_the_saved_form_of_a_layer_stays_the_same():
    layer = LAYERS["RandAugment"]()
    written = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(written).transforms == layer.transforms
    # What was saved before there were versions means what it meant then.
    assert written["config"]["transforms"][0]["arguments"].pop("version") == 2
    assert written == SAVED
    old = keras.saving.deserialize_keras_object(SAVED)
    assert keras.saving.serialize_keras_object(old) == SAVED
    assert old.transforms != layer.transforms


def test_a_layer_shows_the_arguments_of_its_transform_and_its_own():
    shown = list(inspect.signature(layers.PBA).parameters)
    assert shown == [*inspect.signature(augment.pba).parameters, "steps_per_epoch", "seed", "name", "dtype"]
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'n' and 'm'"):
        layers.RandAugment()
    with pytest.raises(TypeError, match="unexpected keyword argument 'strength'"):
        layers.RandAugment(1, 2, strength=3)


def test_a_layer_can_be_extended():
    class Strong(layers.RandAugment):
        """RandAugment at one magnitude."""

        def __init__(self, n, **kwargs):
            super().__init__(n, 30, **kwargs)

    assert list(inspect.signature(Strong).parameters) == ["n", "kwargs"]
    np.testing.assert_array_equal(Strong(2, seed=1)(pictures()), layers.RandAugment(2, 30, seed=1)(pictures()))


def test_of_a_seed_the_low_32_bits_count():
    for seed, same in ((-1, 2**32 - 1), (2**40 + 5, 5)):
        ours, theirs = (layers.RandAugment(2, 9, seed=value)(pictures()) for value in (seed, same))
        np.testing.assert_array_equal(ours, theirs)


def test_boxes_may_be_ragged_and_images_may_not():
    layer = layers.Augment([augment.center_crop((4, 4))], seed=1)
    boxes = tf.ragged.constant([[[2.0, 2, 6, 6]], [[0.0, 0, 3, 4], [0, 0, 1, 1]]], ragged_rank=1)
    found = layer({"image": pictures(2), "boxes": boxes})["boxes"]
    assert found.to_list() == [[[0, 0, 4, 4]], [[0, 0, 1, 2], [0, 0, 0, 0]]]
    ragged = tf.ragged.stack([pictures()[0], pictures()[1][:5]])
    with pytest.raises(ValueError, match="this batch is ragged: resize or crop its images first"):
        layer(ragged)
    with pytest.raises(ValueError, match="this batch is ragged: resize or crop its images first"):
        tf.data.Dataset.from_tensors(ragged).map(layer)


def test_boxes_and_masks_go_through_a_layer_as_make_dataset_gives_them():
    targets = {
        "boxes": tf.constant([[[2.0, 2, 6, 6], [0, 0, 0, 0]]] * 12),
        "labels": tf.constant([[1, -1]] * 12),
        "num_boxes": tf.ones([12], tf.int32),
    }
    images, found = layers.Mosaic(scale=(1, 1), seed=1)((pictures(), targets))
    assert images.shape == (12, *SHAPE)
    assert {name: part.shape.as_list() for name, part in found.items()} == {
        "boxes": [12, 8, 4],
        "labels": [12, 8],
        "num_boxes": [12],
    }
    polygons = tf.tile(tf.constant([[[[2.0, 2], [6, 2], [6, 6]], [[0, 0]] * 3]]), [12, 1, 1, 1])
    flip = layers.Augment([augment.flip_left_right(1.0)], seed=1)
    _, flipped = flip((pictures(), {**targets, "polygons": polygons}))
    np.testing.assert_allclose(flipped["polygons"][3], [[[6, 2], [2, 2], [2, 6]], [[0, 0]] * 3])
    counts = found["num_boxes"].numpy()
    np.testing.assert_array_equal(found["labels"].numpy() == 1, np.arange(8) < counts[:, None])
    _, mixed = layers.MixUp(8.0, seed=1)((pictures(), targets))
    np.testing.assert_allclose(mixed["weights"].numpy().sum(axis=1), 1, atol=0.01)
    mask = tf.constant(np.random.default_rng(0).integers(0, 3, (12, 8, 8, 1)), tf.uint8)
    _, pasted = layers.CopyPaste(p=1.0, seed=1)((pictures(), mask))
    assert pasted.shape == mask.shape
    named = layers.MixUp(8.0, seed=1)(
        {"images": pictures(), "boxes": targets["boxes"], "box_labels": targets["labels"]}
    )
    assert set(named) == {"images", "boxes", "box_labels", "box_weights"}
    with pytest.raises(ValueError, match="a dict of boxes, labels and num_boxes; got \\['classes'\\]"):
        layers.Mosaic()((pictures(), {"classes": targets["labels"]}))


def small(seed=3):
    return layers.Augment([augment.flip_left_right(), augment.op("invert", p=0.5)], seed=seed)


def model(layer):
    body = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    made = keras.Sequential([keras.Input(SHAPE, dtype="uint8"), layer, *body])
    made.compile("sgd", "categorical_crossentropy", jit_compile=True)
    return made


def test_a_model_trains_through_a_layer_and_goes_on_where_it_was_saved(tmp_path):
    trained = model(small())
    trained.fit(pictures(), labels(), epochs=2, batch_size=4, verbose=0)
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(pictures(), verbose=0), trained.predict(pictures(), verbose=0))
    # The seventh call, on both.
    np.testing.assert_array_equal(loaded.layers[0](pictures()), trained.layers[0](pictures()))


def test_only_training_augments():
    layer = small()
    np.testing.assert_array_equal(layer(pictures(), training=False), pictures())
    assert not np.array_equal(layer(pictures(), training=True), pictures())
    made = model(layer)
    np.testing.assert_array_equal(made.predict(pictures(), verbose=0), made.predict(pictures(), verbose=0))


def test_every_call_draws_anew_and_the_same_seed_draws_the_same():
    first, second = small(), small()
    rows = [[layer(pictures()).numpy() for _ in range(3)] for layer in (first, second)]
    for ours, theirs in zip(*rows, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len({images.tobytes() for images in rows[0]}) == 3
    assert not np.array_equal(small(seed=4)(pictures()), rows[0][0])


def test_a_layer_maps_a_dataset_and_each_batch_gets_its_own_draw():
    dataset = tf.data.Dataset.from_tensors((pictures(), labels())).repeat(16)
    batches = list(dataset.map(small(), num_parallel_calls=2))
    assert len({images.numpy().tobytes() for images, _ in batches}) == 16
    np.testing.assert_array_equal(batches[0][1], labels())
    assert batches[0][0].dtype == tf.uint8


def test_a_layer_takes_images_pairs_and_dicts_and_returns_the_same():
    layer = layers.MixUp(0.4, seed=1)
    pair = layer((pictures(), labels()))
    assert isinstance(pair, tuple)
    for names in (("image", "label"), ("images", "labels")):
        found = layer({names[0]: pictures(), names[1]: labels(), "key": np.arange(12)})
        assert set(found) == {*names, "key"}
        np.testing.assert_allclose(found[names[1]].numpy().sum(axis=1), 1, atol=1e-6)


def test_mixed_precision_leaves_dtypes_and_labels_alone():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        layer = layers.MixUp(0.4)
        assert layer.compute_dtype == "float16"
        images, mixed = layer(((pictures() / 255).astype(np.float32), labels()))
        assert (images.dtype, mixed.dtype) == (tf.float32, tf.float32)
        assert small()(pictures()).dtype == tf.uint8
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_a_functional_model_knows_the_size_behind_a_crop():
    inputs = keras.Input((8, 10, 3), dtype="uint8")
    outputs = layers.Augment([augment.center_crop((4, 6)), augment.normalize(0.5, 0.5)])(inputs)
    assert outputs.shape == (None, 4, 6, 3)
    assert outputs.dtype == "float32"


def test_a_schedule_goes_by_the_number_of_calls():
    steps = [Policy("p", ((Step(op),),), 11, "pba", (0, 1)) for op in ("invert", "identity")]
    layer = layers.PBA(Schedule("s", tuple(Segment(1, policy) for policy in steps)), steps_per_epoch=2)
    unchanged = [np.array_equal(layer(pictures()), pictures()) for _ in range(5)]
    assert unchanged == [False, False, True, True, True]


def test_a_users_op_is_found_among_keras_custom_objects():
    layer = layers.Augment([augment.op(shaded)], name="shading")
    with keras.saving.custom_object_scope({"shaded": shaded}):
        again = layers.Augment.from_config(layer.get_config())
    np.testing.assert_array_equal(again(pictures()), pictures() // 2)
    with pytest.raises(ValueError, match="Unknown op 'shaded'"):
        layers.Augment.from_config(layer.get_config())


REFUSED = {
    r"transforms is \[\]; it takes a list of at least one transform": lambda: layers.Augment([]),
    "steps_per_epoch is 0": lambda: layers.Augment([augment.flip_left_right()], steps_per_epoch=0),
    "PBA depends on the epoch: give steps_per_epoch, epoch or flatten=True": lambda: layers.PBA("rcifar10"),
    "Unknown policy 'imagenet'": lambda: layers.AutoAugment("imagenet"),
    "m is 40": lambda: layers.RandAugment(2, 40),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_bad_arguments_are_refused_at_construction(sentence):
    with pytest.raises(ValueError, match=sentence):
        REFUSED[sentence]()


JAX = """
import keras, numpy as np, tensorflow as tf
from tfpipe import augment, layers
assert keras.backend.backend() == "jax"
pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
labels = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
layer = layers.Augment([augment.flip_left_right(), augment.op("invert", p=0.5)], seed=3)
dataset = tf.data.Dataset.from_tensors((pictures, labels)).repeat(4)
mapped = list(dataset.map(layer).map(layers.MixUp(0.4)))
assert len({images.numpy().tobytes() for images, _ in mapped}) == 4
body = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
model = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), *body])
model.compile("sgd", "categorical_crossentropy")
model.fit(dataset.map(layer).map(layers.MixUp(0.4)), verbose=0)
inside = keras.Sequential([keras.Input((8, 8, 3), dtype="uint8"), layer])
np.testing.assert_array_equal(inside(pictures, training=False), pictures)
np.save("ours.npy", next(iter(dataset.map(layers.Augment(layer.transforms, seed=9))))[0].numpy())
"""


def test_on_the_jax_backend_layers_work_in_the_input_pipeline(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX], check=True, env=environment, cwd=tmp_path)
    transforms = [augment.flip_left_right(), augment.op("invert", p=0.5)]
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy"), layers.Augment(transforms, seed=9)(pictures()))


INSIDE = """
import keras, numpy as np, sys
from tfpipe import augment, layers
backend, file = keras.backend.backend(), sys.argv[1]
pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
own = layers.Augment([augment.rand_augment(2, 9, ops=["rotate", "equalize", "color"])], seed=3, steps_per_epoch=4)
inputs = keras.Input((8, 8, 3), dtype="uint8", batch_size=4)
augmenting = keras.Model(inputs, own(inputs))
if backend == "jax":  # compiled by JAX, as fit compiles it: the state goes in and comes out
    import jax
    step = jax.jit(lambda state, x: augmenting.stateless_call([], state, x, training=True))
    state, found = [one.value for one in augmenting.non_trainable_variables], []
    for _ in range(3):
        images, state = step(state, pictures[:4])
        found.append(np.asarray(images))
    for variable, value in zip(augmenting.non_trainable_variables, state, strict=True):
        variable.assign(value)
else:
    found = [augmenting(pictures[:4], training=True).numpy() for _ in range(3)]
head = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
model = keras.Sequential([inputs, own, *head])
model.compile("sgd", "categorical_crossentropy", jit_compile=True)
labels = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
model.fit(pictures, labels, batch_size=4, epochs=2, verbose=0)  # six steps
model.save(file + ".keras")
again = keras.saving.load_model(file + ".keras").layers[0]
found.append(keras.ops.convert_to_numpy(again(keras.ops.convert_to_tensor(pictures[:4]), training=True)))
np.save(file, np.stack(found))
"""


def test_a_model_of_jax_augments_as_one_of_tensorflow_does(tmp_path):
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend}
        subprocess.run([sys.executable, "-c", INSIDE, f"{backend}.npy"], check=True, env=environment, cwd=tmp_path)
    ours, theirs = (np.load(tmp_path / f"{backend}.npy") for backend in ("jax", "tensorflow"))
    assert len({images.tobytes() for images in ours}) == 4
    np.testing.assert_array_equal(ours, theirs)


def test_on_another_backend_a_model_is_refused(monkeypatch):
    layer = layers.RandAugment(2, 9)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="use it in the input pipeline"):
        layer.call([pictures().tolist()])
