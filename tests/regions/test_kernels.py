"""Regions are fit for a GPU, as far as a machine without one can tell."""

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from tfpipe import augment, regions
from tfpipe.regions.move import move_regions

BOXES, SCORES = tf.TensorSpec([None, 30, 4]), tf.TensorSpec([None, 30])
IMAGES = tf.TensorSpec([2, 8, 9, 3], tf.uint8)


def on_batches(transform, **more):
    """A transform as a function of images, masks, boxes and labels; and their specs."""
    specs = {"image": IMAGES, "boxes": tf.TensorSpec([2, 5, 4]), "box_labels": tf.TensorSpec([2, 5], tf.int32), **more}

    def change(seed, *parts):
        return transform(dict(zip(specs, parts, strict=True)), seed)

    return change, tf.TensorSpec([2], tf.int32), *specs.values()


def moved(boxes, keypoints, maps):
    return move_regions({"boxes": boxes, "keypoints": keypoints}, maps, (8, 9))


MASK, SOFT_MASK = tf.TensorSpec([2, 8, 9], tf.uint8), tf.TensorSpec([2, 8, 9, 4])
FUNCTIONS = {
    "nms": (lambda boxes, scores: regions.nms(boxes, scores, iou_threshold=0.5), BOXES, SCORES),
    "soft_nms": (lambda boxes, scores: regions.soft_nms(boxes, scores), BOXES, SCORES),
    "box_iou": (lambda boxes, others: regions.box_iou(boxes, others, kind="ciou"), BOXES, BOXES),
    "roi_align": (
        lambda features, boxes, indices: regions.roi_align(features, boxes, indices, output_size=3),
        tf.TensorSpec([2, 8, 9, 3]),
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([None], tf.int32),
    ),
    "crop_and_resize": (
        lambda images, boxes, indices: regions.crop_and_resize(images, boxes, indices, output_size=3),
        IMAGES,
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([None], tf.int32),
    ),
    "moved boxes": (moved, BOXES, tf.TensorSpec([None, 30, 2, 3]), tf.TensorSpec([None, 2, 3], tf.float64)),
    "mosaic": on_batches(augment.mosaic(), mask=MASK, keypoints=tf.TensorSpec([2, 5, 3, 3])),
    "copy_paste": on_batches(augment.copy_paste(), mask=MASK),
    "mixup": on_batches(augment.mixup(8.0), mask=SOFT_MASK),
    "drop_boxes": on_batches(
        augment.drop_boxes([augment.random_crop(6), augment.flip_left_right(), augment.op("rotate", (-9, 9))])
    ),
    "warp_affine": (regions.warp_affine, IMAGES, tf.TensorSpec([2, 2, 3])),
    "warp_perspective": (
        lambda images, src, dst: regions.warp_perspective(images, regions.perspective_from_points(src, dst)),
        IMAGES,
        *[tf.TensorSpec([2, 4, 2])] * 2,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_operation_has_a_gpu_kernel_or_is_compiled(name):
    function, *specs = FUNCTIONS[name]
    definition = tf.function(function, autograph=False).get_concrete_function(*specs).graph.as_graph_def()
    library = {one.signature.name: one for one in definition.library.function}
    nodes, compiled = list(definition.node), 0
    while nodes:
        node = nodes.pop()
        if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
            called = library[node.attr["f"].func.name]
            if called.attr["_XlaMustCompile"].b:
                compiled += 1
            else:
                nodes += called.node_def
        else:
            registered = kernels.get_registered_kernels_for_op(node.op).kernel
            assert node.op == "Placeholder" or any(kernel.device_type in ("GPU", "DEFAULT") for kernel in registered), (
                node
            )
    assert compiled or name == "moved boxes"  # which are few plain operations
