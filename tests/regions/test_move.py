"""Points, boxes and polygons under maps, dense and ragged, and what is left of them."""

import numpy as np
import tensorflow as tf

from tfpipe.regions import move

RNG = np.random.default_rng(1)
AFFINE = np.array([[[0.8, -0.6, 4], [0.6, 0.8, -3]], [[-1, 0, 20], [0, 1, 0]], [[2, 0, 0], [0, 0.5, 1]]])
PERSPECTIVE = np.concatenate([AFFINE, [[[0.01, 0.002, 1]], [[0, 0.01, 1]], [[0, 0, 2]]]], axis=1)


def mapped(points, matrix):
    """Points [..., 2] of one image after one map, in NumPy."""
    whole = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1) @ matrix.T
    return whole[..., :2] / whole[..., 2:] if len(matrix) == 3 else whole


def test_points_go_where_the_map_of_their_image_takes_them():
    points = RNG.uniform(0, 20, (3, 4, 5, 3)).astype(np.float32)
    for maps in (AFFINE, PERSPECTIVE):
        found = move.move_points(points, tf.constant(maps)).numpy()
        for i in range(3):
            np.testing.assert_allclose(found[i, ..., :2], mapped(points[i, ..., :2], maps[i]), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found[..., 2], points[..., 2])


def test_ragged_polygons_go_with_their_own_image_however_deep():
    polygons = tf.ragged.constant([[[[0.0, 0], [4, 0], [4, 3]], [[1, 1], [2, 2]]], [], [[[5, 5]]]], inner_shape=(2,))
    found = move.move_points(polygons, tf.constant(AFFINE))
    assert found.row_splits.numpy().tolist() == [0, 2, 2, 3]
    flat = np.array([[0, 0], [4, 0], [4, 3], [1, 1], [2, 2]], float)
    np.testing.assert_allclose(found.flat_values[:5], mapped(flat, AFFINE[0]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.flat_values[5], mapped(np.array([5.0, 5]), AFFINE[2]))


def test_inverse_maps_undo_and_flat_ones_have_none():
    for maps in (AFFINE, PERSPECTIVE):
        points = RNG.uniform(0, 20, (3, 6, 2))
        there = move.move_points(points, tf.constant(maps))
        np.testing.assert_allclose(move.move_points(there, move.invert_maps(tf.constant(maps))), points, atol=1e-9)
    assert not move.invert_maps(tf.constant([[1.0, 0, 3], [2, 0, 4]])).numpy().any()


def test_boxes_become_the_hull_of_their_corners_and_are_cut_off():
    boxes = np.float32([[[2, 3, 9, 7]], [[2, 3, 25, 7]], [[2, 3, 9, 7]]])
    found = move.move_boxes(boxes, tf.constant(PERSPECTIVE)).numpy()
    for i, (x0, y0, x1, y1) in enumerate(boxes[:, 0]):
        corners = mapped(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], float), PERSPECTIVE[i])
        np.testing.assert_allclose(found[i, 0], [*corners.min(0), *corners.max(0)], rtol=1e-5)
    cut = move.clip_boxes(tf.constant([[[-3.0, 2, 8, 30], [40, 1, 50, 2]]]), (20, 24))
    assert cut.numpy().tolist() == [[[0, 2, 8, 20], [24, 1, 24, 2]]]
    assert move.box_areas(cut).numpy().tolist() == [[144, 0]]


def test_a_keypoint_outside_is_no_longer_visible_and_flags_follow():
    batch = {
        "keypoints": np.float32([[[1, 1, 2], [19, 1, 2]]] * 3),
        "boxes": np.float32([[[0, 0, 10, 10]]] * 3),
        "box_visible": tf.constant([[1.0], [1], [0.5]]),
        "mirrored": tf.constant([False, False, True]),
    }
    found = move.move_regions(batch, tf.constant(AFFINE), (20, 20))
    assert found["keypoints"].numpy()[..., 2].tolist() == [[0, 2], [2, 2], [2, 0]]
    assert found["mirrored"].numpy().tolist() == [False, True, True]
    both = move.move_regions(batch, tf.constant(PERSPECTIVE), (20, 20))
    assert both["mirrored"].numpy().tolist() == [False, True, True]
    # [0, 20] of x is inside whole; turned, what is cut off counts.
    whole = move.move_boxes(batch["boxes"], tf.constant(AFFINE)).numpy()[0, 0]
    x0, y0, x1, y1 = whole
    share = (min(x1, 20) - max(x0, 0)) * (min(y1, 20) - max(y0, 0)) / ((x1 - x0) * (y1 - y0))
    np.testing.assert_allclose(found["box_visible"], [[share], [1], [0.5]], rtol=1e-5)


def test_pairs_are_exchanged_where_an_image_is_mirrored():
    keypoints = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    found = move.swap_pairs(keypoints, [(1, 2)], tf.constant([True, False])).numpy()
    np.testing.assert_array_equal(found[0], keypoints[0][[0, 2, 1, 3]])
    np.testing.assert_array_equal(found[1], keypoints[1])


def test_boxes_that_are_not_kept_take_what_is_theirs_with_them():
    keep = np.array([[False, True]])
    batch = {
        "boxes": np.float32([[[1, 1, 2, 2], [3, 3, 4, 4]]]),
        "box_labels": np.array([[7, 8]]),
        "box_weights": np.float32([[0.25, 0.5]]),
        "keypoints": np.float32([[[[1, 1, 2]], [[3, 3, 1]]]]),
        "polygons": tf.ragged.constant([[[[1, 1], [2, 2]], [[3, 3]]]], inner_shape=(2,), dtype=tf.float32),
    }
    found = move.keep_boxes(batch, tf.constant(keep))
    assert {name: found[name].numpy().tolist() for name in found if name != "polygons"} == {
        "boxes": [[[0] * 4, [3, 3, 4, 4]]],
        "box_labels": [[-1, 8]],
        "box_weights": [[0, 0.5]],
        "keypoints": [[[[0, 0, 0]], [[3, 3, 1]]]],
    }
    assert found["polygons"].to_list() == [[[[0, 0], [0, 0]], [[3, 3]]]]
    ragged = {
        name: value if isinstance(value, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(value, ragged_rank=1)
        for name, value in batch.items()
    }
    kept = move.keep_boxes(ragged, tf.RaggedTensor.from_tensor(keep))
    assert {name: value.to_list() for name, value in kept.items()} == {
        "boxes": [[[3, 3, 4, 4]]],
        "box_labels": [[8]],
        "box_weights": [[0.5]],
        "keypoints": [[[[3, 3, 1]]]],
        "polygons": [[[[3, 3]]]],
    }
    # Points of the image, which have no axis of objects, are not those of its boxes.
    assert "keypoints" not in move.keep_boxes({**batch, "keypoints": np.zeros((1, 5, 2))}, tf.constant(keep))
