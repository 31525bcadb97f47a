"""Bad input, batches of any size, boxes and masks, custom ops, and where a form is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from cases import hard_images

from tfpipe.augment.forms import apply
from tfpipe.augment.forms.apply import apply_choices, apply_op, apply_to_batch, check_images
from tfpipe.augment.ops.custom import augmentation
from tfpipe.augment.ops.op import Choices, Op, no_choices
from tfpipe.augment.ops.table import OPS

IMAGES = hard_images(8, 12)
VALUES = [10.0] * 5

BAD_CALLS = {
    "Unknown op 'rotat'; known ops: ['add_brightness'": lambda: apply_op("rotat", IMAGES, VALUES),
    r"Images are [B, H, W, C]; got the shape (8, 12, 3).": lambda: apply_op("rotate", IMAGES[0], VALUES),
    "Images are of one of the dtypes ['uint8', 'float32', 'float16']; got int32.": lambda: apply_op(
        "rotate", IMAGES.astype(np.int32), VALUES
    ),
    "Images have a static height, width and number of channels; got the shape (5, 0, 12, 3).": lambda: apply_op(
        "rotate", IMAGES[:, :0], VALUES
    ),
    "Images of dtype float32 are in [0, 1]; got 0.0 to 255.0.": lambda: apply_op(
        "rotate", IMAGES.astype(np.float32), VALUES
    ),
    "Images of dtype float32 are in [0, 1]; got nan to nan.": lambda: apply_op(
        "rotate", np.full((1, 2, 2, 3), np.nan, np.float32), [1.0]
    ),
    "The values of 'rotate' have the shape [B] for images (5, 8, 12, 3); got (4,).": lambda: apply_op(
        "rotate", IMAGES, VALUES[:4]
    ),
    "The values of 'zoom' have the shape [B, 3] for images (5, 8, 12, 3); got (5,).": lambda: apply_op(
        "zoom", IMAGES, VALUES
    ),
    "The values of 'rotate' are finite; got [[inf]": lambda: apply_op("rotate", IMAGES, [np.inf] * 5),
    "The fill is None, one level in 0 to 255, or 3 of them; got (1, 2).": lambda: apply_op(
        "rotate", IMAGES, VALUES, fill=(1, 2)
    ),
    "The fill is None, one level in 0 to 255, or 3 of them; got 300.": lambda: apply_op(
        "rotate", IMAGES, VALUES, fill=300
    ),
    "Unknown interpolation 'cubic'; allowed: ['nearest', 'bilinear'].": lambda: apply_op(
        "rotate", IMAGES, VALUES, interpolation="cubic"
    ),
    "Unknown form 'fast'; allowed: ['auto', 'loop', 'dense'].": lambda: apply_op("rotate", IMAGES, VALUES, form="fast"),
    "Op 'hue' works on [1, 3] channels; the images have 2.": lambda: apply_op("hue", IMAGES[..., :2], VALUES),
    "The first op is the identity; got ['rotate'].": lambda: apply_choices(IMAGES, no_choices(5, 1), [OPS["rotate"]]),
    "The family of op 'x' is 'blur'; allowed: ['identity'": lambda: Op("x", "blur", len),
    "The unit of op 'x' is 'px'; allowed: ['', 'height'": lambda: Op("x", "warp", len, unit="px"),
    "The motion of op 'x' is 'spin'; allowed: ['affine'": lambda: Op("x", "warp", len, motion="spin"),
    "Boxes are [B, N, 4] or ragged; got the shape (5, 4).": lambda: moved(boxes=np.zeros([5, 4])),
    "The mask is [B, H, W] or [B, H, W, C] over images (5, 8, 12, 3); got (5, 8, 11).": lambda: moved(
        mask=np.zeros([5, 8, 11])
    ),
    "Choices for 5 images and stages of one number are wanted; got ops (4, 1)": lambda: apply_choices(
        IMAGES, no_choices(4, 1), [OPS["identity"], OPS["invert"]]
    ),
    "Op 'thinner' must keep shape and dtype of the images; it made": lambda: apply_op(
        augmentation(name="thinner")(lambda images, values: images[:, 1:]), IMAGES, VALUES
    ),
}


def moved(**extras):
    ops = OPS["identity"], OPS["rotate"]
    return apply_to_batch({"image": IMAGES, **extras}, no_choices(5, 1), ops)


@pytest.mark.parametrize("message", BAD_CALLS)
def test_bad_input_is_refused_in_a_sentence(message):
    with pytest.raises(ValueError) as caught:
        BAD_CALLS[message]()
    assert str(caught.value).startswith(message)


def test_rank_and_dtype_are_refused_while_tracing():
    for spec in (tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([4, 8, 8, 3], tf.int64)):
        with pytest.raises(ValueError, match="Images are"):
            tf.function(lambda images: apply_op("invert", images, tf.zeros([4]))).get_concrete_function(spec)
    spec = tf.TensorSpec([4, None, 8, 3], tf.uint8)
    with pytest.raises(ValueError, match="static height"):
        tf.function(lambda images: apply_op("invert", images, tf.zeros([4]))).get_concrete_function(spec)


def test_a_graph_looks_at_values_only_if_it_is_told_to():
    def looks(images, check_values):
        check_images(images, check_values=check_values)
        return tf.shape(images)

    graph = tf.function(looks)
    too_bright = tf.fill([1, 2, 2, 3], 1.5)
    graph(too_bright, False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are in"):
        graph(too_bright, True)


@pytest.mark.parametrize("form", ["loop", "dense"])
def test_an_op_index_out_of_range_is_no_crash(form):
    wild = no_choices(5, 1)._replace(ops=tf.constant([[-1], [7], [0], [1], [1]]))
    result = apply_choices(IMAGES, wild, [OPS["identity"], OPS["invert"]], form=form)
    assert np.array_equal(result[2:], np.concatenate([IMAGES[2:3], ~IMAGES[3:]]))


def test_an_empty_batch_stays_empty():
    for form in ("loop", "dense"):
        assert apply_op("rotate", IMAGES[:0], [], form=form).shape == (0, 8, 12, 3)


def test_no_stage_and_no_op_change_nothing():
    assert np.array_equal(apply_choices(IMAGES, no_choices(5, 0), [OPS["identity"], OPS["invert"]]), IMAGES)
    assert np.array_equal(apply_choices(IMAGES, no_choices(5, 2), [OPS["identity"]]), IMAGES)


def test_batches_of_many_sizes_share_a_few_programs(monkeypatch):
    traced = []
    monkeypatch.setattr(apply, "apply_loop", lambda images, *rest: traced.append(images.shape[0]) or images)
    apply._compiled_loop.cache_clear()
    for size in range(1, 17):
        images = np.zeros((size, 4, 4, 3), np.uint8)
        assert apply_op("invert", images, [0.0] * size, form="loop").shape == images.shape
    apply._compiled_loop.cache_clear()
    assert traced == [1, 2, 4, 8, 16]


def test_a_partial_last_batch_in_a_pipeline_is_as_any_other():
    images = np.concatenate([hard_images(8, 12)] * 2)
    data = tf.data.Dataset.from_tensor_slices(images).batch(4)
    done = data.map(lambda batch: apply_op("rotate", batch, tf.fill([tf.shape(batch)[0]], 30.0)))
    assert done.element_spec.shape == [None, 8, 12, 3]
    result = np.concatenate(list(done.as_numpy_iterator()))
    assert np.array_equal(result, apply_op("rotate", images, [30.0] * 10))


@pytest.mark.parametrize("form", ["loop", "dense"])
@pytest.mark.parametrize("batch_size", [5, None])
def test_it_runs_inside_a_compiled_function(form, batch_size):
    graph = tf.function(
        lambda images, values: apply_op("equalize", images, values, form=form),
        jit_compile=True,
        input_signature=[tf.TensorSpec([batch_size, 8, 12, 3], tf.uint8), tf.TensorSpec([batch_size])],
    )
    assert np.array_equal(graph(tf.constant(IMAGES), tf.zeros([5])), apply_op("equalize", IMAGES, [0.0] * 5))


def test_the_input_pipeline_is_no_place_for_the_dense_form(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a device"])
    forms = []

    def look(number):
        forms.append(apply._form("auto"))
        return number

    tf.data.Dataset.range(1).map(look)
    tf.data.Dataset.range(1).map(tf.function(look))
    tf.function(look)(1)
    look(1)
    assert forms == ["loop", "loop", "dense", "dense"]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    assert apply._form("auto") == "loop"


@augmentation(range=(0.0, 80.0), mirrored=True)
def redder(images, values):
    shift = values[:, None, None, None] * tf.constant([1.0, 0.0, 0.0])
    return tf.cast(tf.clip_by_value(tf.cast(images, tf.float32) + shift, 0, 255), tf.uint8)


@pytest.mark.parametrize("form", ["loop", "dense"])
def test_an_op_of_ones_own_works_in_both_forms(form):
    values = np.array([0, 10, -20, 300, 5], np.float32)
    expected = IMAGES.astype(int)
    expected[..., 0] = np.clip(expected[..., 0] + values[:, None, None].astype(int), 0, 255)
    assert np.array_equal(apply_op(redder, IMAGES, values, form=form), expected)
    assert (redder.name, redder.family, redder.low, redder.high, redder.mirrored) == ("redder", "custom", 0, 80, True)


def test_an_op_cannot_be_made_of_an_op():
    with pytest.raises(TypeError, match="'redder' is an op already"):
        augmentation()(redder)


def stages(*steps):
    """The same stages for two images, over (identity, *the ops)."""
    ops = (OPS["identity"], *(OPS[name] for name, _ in steps))
    values = np.zeros((2, len(steps), 4), np.float32)
    for place, (_, value) in enumerate(steps):
        values[:, place, : len(np.ravel(value))] = value
    places = tf.tile(tf.range(1, len(ops))[None], [2, 1])
    return Choices(places, tf.constant(values), tf.zeros([2, len(steps), 2], tf.int32)), ops


TURNS = {
    "flip_left_right": ([("flip_left_right", 0)], [8, 1, 11, 3]),
    "flip_up_down": ([("flip_up_down", 0)], [1, 5, 4, 7]),
    "translate_x": ([("translate_x", 2.0)], [0, 1, 2, 3]),
    "zoom": ([("zoom", (2.0, 0.0, 0.0))], [2, 2, 8, 6]),
    "half a turn": ([("rotate", 180.0)], [8, 5, 11, 7]),
    "a flip after a shift": ([("translate_x", 1.0), ("flip_left_right", 0)], [9, 1, 12, 3]),
    "no warp": ([("invert", 0)], [1, 1, 4, 3]),
    "out of the image": ([("translate_y", 5.0)], [1, 0, 4, 0]),
}


@pytest.mark.parametrize("turn", TURNS)
def test_boxes_move_with_the_pixels(turn):
    steps, expected = TURNS[turn]
    choices, ops = stages(*steps)
    boxes = np.array([[[1, 1, 4, 3]]] * 2, np.float32)
    images = np.zeros((2, 8, 12, 3), np.uint8)
    images[:, 1:3, 1:4] = 255
    batch = apply_to_batch({"image": images, "boxes": boxes, "label": 5}, choices, ops, fill=0)
    assert batch["label"] == 5
    assert np.allclose(batch["boxes"], [[expected]] * 2)
    assert batch["boxes"].dtype == tf.float32
    x0, y0, x1, y1 = expected
    if turn != "no warp":
        assert (batch["image"].numpy()[:, y0:y1, x0:x1] == 255).all()
        assert (batch["image"].numpy() == 255).sum() == 2 * 3 * (x1 - x0) * (y1 - y0)


def test_ragged_boxes_move_with_their_own_image():
    choices, ops = stages(("translate_x", 0.0))
    choices = choices._replace(values=tf.constant([[[1.0, 0, 0, 0]], [[-2.0, 0, 0, 0]]]))
    boxes = tf.ragged.constant([[[3, 1, 4, 2]], [[3, 1, 4, 2], [5, 5, 6, 6]]], ragged_rank=1, dtype=tf.float32)
    moved = apply_to_batch({"image": IMAGES[:2], "boxes": boxes}, choices, ops)["boxes"]
    assert moved.to_list() == [[[2, 1, 3, 2]], [[5, 1, 6, 2], [7, 5, 8, 6]]]


@pytest.mark.parametrize("form", ["loop", "dense"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float32])
def test_a_mask_moves_with_the_pixels(form, dtype):
    choices, ops = stages(("shear_x", 0.7), ("rotate", 20.0), ("invert", 0))
    images = hard_images(8, 12)[:2]
    mask = (images[..., 0] > 100).astype(dtype)
    batch = apply_to_batch({"image": images, "mask": mask}, choices, ops, fill=0, form=form)
    # The same moves of the mask as an image: black comes in, and the inversion is undone.
    as_image = apply_choices(mask[..., None].astype(np.uint8), choices, ops, fill=0, form="loop").numpy()
    assert batch["mask"].dtype == dtype
    assert np.array_equal(batch["mask"], (~as_image[..., 0]).astype(dtype))
