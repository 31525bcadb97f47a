"""Keras 3 layers over regions, for models on TensorFlow's backend; tfpipe.layers hands them out.

found = layers.NonMaxSuppression(iou_threshold=0.5, max_output=100)((boxes, class_scores))
pooled = layers.RoIAlign(7, spatial_scale=1 / 16)((features, found["boxes"]))                # [B, 100, 7, 7, C]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfpipe.images.sizes import as_size
from tfpipe.regions.boxes import box_iou
from tfpipe.regions.nms import batched_nms, soft_nms
from tfpipe.regions.roi_align import crop_and_resize, roi_align
from tfpipe.regions.warp import warp_affine, warp_perspective

_PACKAGE = "tfpipe"


class _Configured(keras.layers.Layer):
    """A layer without variables whose arguments are its config."""

    def __init__(self, name: str | None, dtype: Any, **arguments: Any) -> None:
        super().__init__(name=name, dtype=dtype, autocast=False)
        self.arguments = arguments
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The layer as plain values."""
        config = super().get_config()
        del config["trainable"]  # there is nothing to train
        return {**config, **self.arguments}


@keras.saving.register_keras_serializable(_PACKAGE)
class NonMaxSuppression(_Configured):
    """What a detector found: (boxes [B, N, 4 or 5], scores [B, N, classes]) to the best boxes of each image.

    Each box counts for its best class; boxes of one class suppress each other.

    Returns a dict: `boxes` [B, max_output, 4 or 5] and `scores` [B, max_output], padded with 0, `labels` int32
    [B, max_output], padded with -1, and `num_boxes` int32 [B].

    Args:
      iou_threshold, max_output, min_score, inclusive: as for regions.batched_nms.
      name, dtype: of the layer.
    """

    def __init__(
        self,
        *,
        iou_threshold: float = 0.5,
        max_output: int = 100,
        min_score: float | None = None,
        inclusive: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        options = {"iou_threshold": iou_threshold, "max_output": max_output}
        super().__init__(name, dtype, **options, min_score=min_score, inclusive=inclusive)

    def call(self, inputs: Any) -> dict[str, Any]:
        """The best boxes of each image."""
        boxes, best, labels = _best_classes(inputs)
        indices, count = batched_nms(boxes, best, labels, **self.arguments)
        scores = tf.gather(best, tf.maximum(indices, 0), batch_dims=1)
        return _detections(boxes, labels, indices, tf.where(indices >= 0, scores, tf.zeros([], best.dtype)), count)


@keras.saving.register_keras_serializable(_PACKAGE)
class SoftNonMaxSuppression(_Configured):
    """As NonMaxSuppression, by regions.soft_nms: boxes of one class lower each other's scores, which come out lowered.

    Args:
      iou_threshold, method, sigma, min_score, max_output: as for regions.soft_nms.
      name, dtype: of the layer.
    """

    def __init__(
        self,
        *,
        iou_threshold: float = 0.3,
        method: str = "linear",
        sigma: float = 0.5,
        min_score: float = 1e-3,
        max_output: int = 100,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        options = {"iou_threshold": iou_threshold, "method": method, "sigma": sigma}
        super().__init__(name, dtype, **options, min_score=min_score, max_output=max_output)

    def call(self, inputs: Any) -> dict[str, Any]:
        """The best boxes of each image."""
        boxes, best, labels = _best_classes(inputs)
        indices, scores, count = soft_nms(boxes, best, classes=labels, **self.arguments)
        return _detections(boxes, labels, indices, scores, count)


def _best_classes(inputs: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of (boxes, scores [B, N, classes]) the boxes, and the score and the number of each one's best class."""
    boxes, scores = inputs
    return boxes, tf.reduce_max(scores, axis=-1), tf.argmax(scores, axis=-1, output_type=tf.int32)


def _detections(
    boxes: tf.Tensor, labels: tf.Tensor, indices: tf.Tensor, scores: tf.Tensor, count: tf.Tensor
) -> dict[str, Any]:
    there, places = indices >= 0, tf.maximum(indices, 0)
    found = tf.gather(boxes, places, batch_dims=1)
    return {
        "boxes": tf.where(there[..., None], found, tf.zeros([], found.dtype)),
        "scores": scores,
        "labels": tf.where(there, tf.gather(labels, places, batch_dims=1), -1),
        "num_boxes": count,
    }


@keras.saving.register_keras_serializable(_PACKAGE)
class BoxIoU(_Configured):
    """The overlaps of (boxes [B, N, 4 or 5], others [B, M, 4 or 5]): [B, N, M].

    Args:
      kind: as for regions.box_iou.
      name, dtype: of the layer.
    """

    def __init__(self, *, kind: str = "iou", name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype, kind=kind)

    def call(self, inputs: Any) -> Any:
        """The overlaps."""
        return box_iou(*inputs, **self.arguments)


@keras.saving.register_keras_serializable(_PACKAGE)
class RoIAlign(_Configured):
    """The features inside of boxes: (features [B, H, W, C], boxes [B, N, 4]) to [B, N, height, width, C].

    Args:
      output_size, spatial_scale, sampling_ratio, aligned: as for regions.roi_align.
      name, dtype: of the layer.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        *,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        aligned: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        options = {"output_size": as_size(output_size, "output_size"), "spatial_scale": spatial_scale}
        super().__init__(name, dtype, **options, sampling_ratio=sampling_ratio, aligned=aligned)

    def call(self, inputs: Any) -> Any:
        """The pooled features."""
        return _of_each_box(roi_align, *inputs, **self.arguments)


@keras.saving.register_keras_serializable(_PACKAGE)
class CropAndResize(_Configured):
    """The pixels inside of boxes: (images [B, H, W, C], boxes [B, N, 4]) to [B, N, height, width, C].

    Args:
      output_size, sampling_ratio: as for regions.crop_and_resize.
      name, dtype: of the layer.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        *,
        sampling_ratio: int = 1,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        size = as_size(output_size, "output_size")
        super().__init__(name, dtype, output_size=size, sampling_ratio=sampling_ratio)

    def call(self, inputs: Any) -> Any:
        """The resized crops."""
        return _of_each_box(crop_and_resize, *inputs, **self.arguments)


def _of_each_box(pool: Callable[..., tf.Tensor], features: tf.Tensor, boxes: tf.Tensor, **arguments: Any) -> tf.Tensor:
    """What pool(features, boxes [N, 4], box_indices) gives of boxes [B, N, 4]: [B, N, height, width, C]."""
    shape = tf.shape(boxes)
    image = tf.repeat(tf.range(shape[0]), shape[1])
    pooled = pool(features, tf.reshape(boxes, [-1, 4]), image, **arguments)
    size = [*arguments["output_size"], features.shape[-1]]
    whole = tf.reshape(pooled, tf.concat([shape[:2], size], axis=0))
    return tf.ensure_shape(whole, [*boxes.shape[:2], *size])


@keras.saving.register_keras_serializable(_PACKAGE)
class Warp(_Configured):
    """Images under a map of their own each: (images [B, H, W, C], matrices [B, 2, 3] or [B, 3, 3]).

    Args:
      output_size, fill, interpolation, border, pixel_center: as for regions.warp_affine.
      name, dtype: of the layer.
    """

    def __init__(
        self,
        output_size: int | Sequence[int] | None = None,
        *,
        fill: float = 0,
        interpolation: str = "bilinear",
        border: str = "constant",
        pixel_center: float = 0.0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        size = None if output_size is None else as_size(output_size, "output_size")
        options = {"output_size": size, "fill": fill, "interpolation": interpolation}
        super().__init__(name, dtype, **options, border=border, pixel_center=pixel_center)

    def call(self, inputs: Any) -> Any:
        """The warped images."""
        images, matrices = inputs
        return (warp_affine if matrices.shape[-2] == 2 else warp_perspective)(images, matrices, **self.arguments)
