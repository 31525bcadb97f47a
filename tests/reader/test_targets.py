"""What make_dataset yields: boxes and masks as targets, and several views of an image."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from streams import make_boxes, make_photos, make_vectors

from tfpipe import augment
from tfpipe.reader.crops import RandomResizedCrop
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions

SIZE = (24, 32)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    return make_boxes(tmp_path_factory.mktemp("boxed"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"))


def read(manifest, labels, **changes):
    return make_dataset(manifest, **{"batch_size": 3, "image_size": SIZE, "labels": labels, "seed": 3, **changes})


# ---- boxes


@pytest.mark.parametrize("options", [{}, {"cache": "memory"}, {"shuffle": "buffer"}], ids=str)
def test_boxes_come_padded_with_the_images_that_dicts_have(boxed, options):
    options = ReadOptions(**options)
    dicts = list(read(boxed, None, options=options))
    targets = read(boxed, "boxes", max_boxes=4, options=options)
    assert targets.element_spec[1]["boxes"].shape == (3, 4, 4)
    assert targets.element_spec[1]["labels"].shape == (3, 4)
    assert len(dicts) == len(list(targets))
    for batch, (images, target) in zip(dicts, targets.skip(0), strict=False):
        assert {name: part.dtype for name, part in target.items()} == {
            "boxes": tf.float32,
            "labels": tf.int32,
            "num_boxes": tf.int32,
        }
        assert images.shape == batch["image"].shape


def test_each_box_stands_in_front_and_padding_behind_it(boxed):
    for batch, (images, target) in zip(read(boxed, None), read(boxed, "boxes"), strict=True):
        np.testing.assert_array_equal(images, batch["image"])
        for row, (boxes, labels) in enumerate(zip(batch["boxes"], batch["box_labels"], strict=True)):
            count = int(target["num_boxes"][row])
            assert count == len(boxes)
            np.testing.assert_array_equal(target["boxes"][row][:count], boxes)
            np.testing.assert_array_equal(target["labels"][row][:count], labels)
            assert not np.any(target["boxes"][row][count:])
            assert np.all(target["labels"][row][count:] == -1)


@pytest.mark.parametrize("labels", ["boxes", "mask"])
def test_images_of_several_classes_give_their_boxes_and_masks_too(tmp_path, labels):
    manifest = make_boxes(tmp_path, label_kind="multi")
    target = next(iter(read(manifest, labels, batch_size=2)))[1]
    expected = next(iter(read(manifest, None, batch_size=2)))
    if labels == "boxes":
        np.testing.assert_array_equal(target["num_boxes"], expected["boxes"].row_lengths())
    else:
        np.testing.assert_array_equal(target, expected["mask"])


def test_boxes_beyond_the_most_are_left_out_and_counted_aloud(boxed, caplog):
    most = max(len(boxes) for batch in read(boxed, None) for boxes in batch["boxes"])
    assert most > 1
    with caplog.at_level(logging.WARNING, "tfpipe"):
        counts = [int(n) for _, target in read(boxed, "boxes", max_boxes=1) for n in target["num_boxes"]]
    assert set(counts) <= {0, 1}
    assert "beyond max_boxes=1 and were left out" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "tfpipe"):
        list(read(boxed, "boxes", max_boxes=most))
    assert not caplog.text


def test_transforms_move_boxes_before_they_are_padded(boxed):
    def mirror(batch, seed):
        boxes = batch["boxes"].to_tensor()
        flipped = tf.stack([SIZE[1] - boxes[..., 2], boxes[..., 1], SIZE[1] - boxes[..., 0], boxes[..., 3]], -1)
        return {**batch, "boxes": tf.RaggedTensor.from_tensor(flipped, batch["boxes"].row_lengths(), ragged_rank=1)}

    for (_, plain), (_, moved) in zip(read(boxed, "boxes"), read(boxed, "boxes", transforms=[mirror]), strict=True):
        is_box = plain["labels"] >= 0
        np.testing.assert_allclose(moved["boxes"][..., 0][is_box], SIZE[1] - plain["boxes"][..., 2][is_box], atol=1e-4)
        assert not np.any(moved["boxes"][~is_box])


def test_mixed_boxes_come_with_weights(boxed):
    for images, target in read(boxed, "boxes", transforms=[augment.mixup(8.0)]):
        assert len(images) == len(target["weights"]) == 3
        is_box = target["labels"].numpy() >= 0
        assert (target["weights"].numpy()[is_box] > 0).all()
        assert not target["weights"].numpy()[~is_box].any()
        assert (is_box.sum(axis=1) == target["num_boxes"].numpy()).all()


def test_masks_are_targets(boxed):
    for batch, (images, masks) in zip(read(boxed, None), read(boxed, "mask"), strict=True):
        np.testing.assert_array_equal(images, batch["image"])
        np.testing.assert_array_equal(masks, batch["mask"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": "boxes"}, "labels is 'boxes', but the records of .* have none"),
        ({"labels": "mask"}, "labels is 'mask', but the records of .* have none"),
        ({"max_boxes": 7}, "max_boxes is 7, but labels is 'one_hot'"),
        ({"views": 0}, "views is 0; it must be at least 1"),
    ],
)
def test_what_records_do_not_have_is_refused(photos, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(photos, **{"labels": "one_hot", **changes})


# ---- views


def noise(batch, seed):
    drawn = tf.random.stateless_uniform(tf.shape(batch["image"]), seed, 0, 9, tf.int32)
    return {**batch, "image": tf.bitwise.bitwise_xor(batch["image"], tf.cast(drawn, tf.uint8))}


@pytest.mark.parametrize("changes", [{"transforms": [noise]}, {"resize": RandomResizedCrop()}], ids=["noise", "crop"])
def test_views_draw_for_themselves_and_the_first_is_that_of_no_views(photos, changes):
    single = list(read(photos, "int", **changes))
    seen = list(read(photos, "int", views=3, **changes))
    for (image, label), (views, labels) in zip(single, seen, strict=True):
        assert len(views) == 3
        np.testing.assert_array_equal(labels, label)
        np.testing.assert_array_equal(views[0], image)
        assert all(view.shape == image.shape for view in views)
        assert not any(np.array_equal(views[a], views[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    again = [views for views, _ in read(photos, "int", views=3, options=ReadOptions(parallel_calls=1), **changes)]
    for (views, _), others in zip(seen, again, strict=True):
        for one, other in zip(views, others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_views_show_the_same_image(photos):
    (views, _), (image, _) = next(iter(read(photos, "int", views=2))), next(iter(read(photos, "int")))
    np.testing.assert_array_equal(views[0], image)
    np.testing.assert_array_equal(views[1], image)


def test_dicts_have_views_too(photos):
    batch = next(iter(read(photos, None, views=2, transforms=[noise])))
    assert isinstance(batch["image"], tuple)
    assert batch["key"].shape == (3,)


def test_views_of_labels_that_a_transform_mixes_are_refused(photos):
    def mix(batch, seed):
        return {**batch, "label": batch["label"] * 0.5}

    with pytest.raises(ValueError, match=r"Transforms change \['label'\] in each of 2 views"):
        read(photos, "one_hot", views=2, transforms=[mix])


def test_vectors_have_no_views(tmp_path):
    with pytest.raises(ValueError, match="views is 2, but .* holds embeddings"):
        make_dataset(make_vectors(tmp_path), batch_size=3, views=2)
